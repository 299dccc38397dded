//! NVIDIA's driver: bound to the GPUs, its modules and nodes, its libraries.

use super::{answers, no_gpu};
use crate::checks::{Action, Finding, Status};
use crate::facts::Facts;
use crate::gpu::{GpuError, GpuErrorKind};
use crate::host::log::Event;
use crate::host::modules::NvidiaNode;

pub(super) fn gpus_are_bound(facts: &Facts) -> Vec<Finding> {
    let judge = |function: &crate::host::pcie::PcieFunction| {
        let address = function.address();
        match function.function.driver.as_deref() {
            Some("nvidia") => Finding::pass(address, "nvidia drives it"),
            Some("amdgpu") => Finding::pass(address, "amdgpu drives it"),
            Some(driver @ ("vfio-pci" | "pci-stub")) => Finding::skip(address, format!("{driver} has it, for a virtual machine")),
            other => Finding::fail(address, format!("no driver of CUDA or ROCm drives this GPU, but {}", other.unwrap_or("none")))
                .saw_not(format!("/sys/bus/pci/devices/{address}/driver"), other.unwrap_or("none"), "nvidia or amdgpu")
                .remedy(
                    Action::Replace,
                    "install or load the GPU's driver; keep nouveau out",
                    &["modprobe nvidia", "dmesg | grep -i nvrm"],
                ),
        }
    };
    facts.pci_gpus().map(judge).collect()
}

pub(super) fn unified_memory(facts: &Facts) -> Vec<Finding> {
    if facts.nvidia_gpus().next().is_none() {
        return no_gpu();
    }
    if facts.in_kernel("nvidia") != Some(true) {
        return vec![Finding::skip("host", "NVIDIA's driver is not loaded, as far as can be seen")];
    }
    vec![match facts.in_kernel("nvidia_uvm") {
        Some(true) => Finding::pass("host", "nvidia_uvm is loaded"),
        None => Finding::skip("host", "whether nvidia_uvm is loaded cannot be seen"),
        Some(false) => Finding::warn("host", "nvidia_uvm is not loaded; CUDA loads it only where nvidia-modprobe may")
            .saw_not("/proc/modules", "no nvidia_uvm", "nvidia_uvm")
            .remedy(Action::Reload, "load it with its nodes", &["nvidia-modprobe -u -c=0"]),
    }]
}

/// Whether a library said that it and the kernel's module are of different versions.
fn mismatch(facts: &Facts) -> Option<&GpuError> {
    let gpus = facts.gpus.as_ref()?;
    [&gpus.nvml.error, &gpus.cuda.error].into_iter().flatten().find(|error| error.kind() == GpuErrorKind::VersionMismatch)
}

/// Takes the driver's modules out, those first that need others, and puts them in again. `rmmod` fails for one that is not loaded; where none
/// is known to be, there is no such command.
fn load_anew(facts: &Facts) -> Option<String> {
    const DEPENDENT_FIRST: [&str; 5] = ["nvidia_peermem", "nvidia_uvm", "nvidia_drm", "nvidia_modeset", "nvidia"];
    let mut loaded: Vec<&str> = DEPENDENT_FIRST.into_iter().filter(|name| facts.in_kernel(name) == Some(true)).collect();
    let out = loaded.join(" ");
    loaded.reverse();
    (!loaded.is_empty()).then(|| format!("rmmod {out} && modprobe -a {}", loaded.join(" ")))
}

pub(super) fn one_version(facts: &Facts) -> Vec<Finding> {
    let log = &facts.host.log;
    if facts.nvidia_gpus().next().is_none() {
        return no_gpu();
    }
    let differs = || Finding::warn("host", "the GPU driver's library is of another version than its module");
    let in_kernel = facts.modules.nvidia.as_ref().and_then(|nvidia| nvidia.version.clone());
    let with_remedy = |finding: Finding| {
        let finding = match &in_kernel {
            Some(version) => finding.saw("/proc/driver/nvidia/version", version),
            None => finding,
        };
        finding.remedy(
            Action::Reboot,
            "load the modules anew, or start the host anew; in a container, use the libraries of the host's driver",
            &load_anew(facts).iter().map(String::as_str).collect::<Vec<_>>(),
        )
    };
    if let Some(error) = mismatch(facts) {
        return vec![with_remedy(Finding { status: Status::Fail, ..differs() }.saw_not("the library", error.to_string(), "one version"))];
    }
    // The libraries know better than the log, which may be of an earlier day.
    if facts.gpus.as_ref().is_some_and(|gpus| gpus.nvml.error.is_none() && gpus.nvml.driver_version.is_some()) {
        return vec![Finding::pass("host", "NVML and the kernel's module understand each other")];
    }
    let Some(source) = &log.source else {
        return vec![Finding::skip("host", "the kernel's log cannot be read here")];
    };
    vec![match log.events.iter().find(|logged| logged.event == Event::NvidiaVersionMismatch) {
        None => Finding::pass("host", "the log tells of no difference"),
        Some(logged) => with_remedy(differs().saw(source, &logged.line)),
    }]
}

pub(super) fn nodes(facts: &Facts) -> Vec<Finding> {
    let Some(nvidia) = &facts.modules.nvidia else {
        return if facts.nvidia_gpus().next().is_none() { no_gpu() } else { vec![Finding::skip("host", "NVIDIA's driver is not loaded")] };
    };
    let uid = facts.host.limits.own.effective_uid;
    let judge = |node: &NvidiaNode| {
        let subject = node.pci.clone().unwrap_or_else(|| "host".to_owned());
        let make: &[&str] = &["nvidia-modprobe -u -c=0"];
        let Some(found) = node.found else {
            let is_needed = node.path == "/dev/nvidiactl" || facts.in_kernel("nvidia_uvm") == Some(true);
            return match () {
                // CUDA's library makes nodes through nvidia-modprobe, and a container has those of its own GPUs only.
                () if facts.is_container() && node.pci.is_some() => {
                    Finding::skip(subject, format!("{} was not given to this container", node.path))
                }
                () if !is_needed => Finding::skip(subject, "nvidia_uvm is not loaded, so its node is made when it is"),
                () => Finding::warn(subject, format!("{} is missing; programs make it only where they may run nvidia-modprobe", node.path))
                    .saw_not(&node.path, "not there", "a node of the GPU driver")
                    .remedy(Action::Tune, "make it; in a container, start it with the GPUs", make),
            };
        };
        let mode = format!("mode {:04o}, owner {}, group {}", found.mode, found.uid, found.gid);
        if !node.is_right_device() {
            return Finding::fail(subject, format!("{} is no node of the GPU driver", node.path))
                .saw_not(
                    &node.path,
                    format!("{:?}", found.kind),
                    format!("a character device with major number {}", node.expected_major.unwrap_or(195)),
                )
                .remedy(Action::Tune, "remove it and have it made anew", &[&command!("rm {}", node.path), "nvidia-modprobe -u -c=0"]);
        }
        match uid {
            _ if found.mode & 0o006 == 0o006 => Finding::pass(subject, format!("everybody may open {}", node.path)).saw(&node.path, mode),
            Some(0) => Finding::pass(subject, format!("root may open {}", node.path)).saw(&node.path, mode),
            Some(uid) if uid == found.uid && found.mode & 0o600 == 0o600 => Finding::pass(subject, format!("{} is this user's", node.path)),
            Some(_) if found.mode & 0o060 != 0o060 => Finding::fail(subject, format!("this user may not open {}", node.path))
                .saw_not(&node.path, mode, "mode 0666, as the driver makes it")
                .remedy(
                    Action::Tune,
                    "give everybody access; NVreg_DeviceFileMode decides what the driver gives",
                    &[&command!("chmod 0666 {}", node.path)],
                ),
            _ => Finding::skip(subject, format!("{} is for a group, and this user's groups are not known", node.path)),
        }
    };
    nvidia.nodes.iter().map(judge).collect()
}

/// What mends an error of one of the libraries.
fn with_remedy(finding: Finding, error: &GpuError, facts: &Facts) -> Finding {
    match error.kind() {
        GpuErrorKind::Library if facts.is_container() => finding.remedy(
            Action::Replace,
            "start the container with the driver's libraries",
            &["docker run --gpus all -e NVIDIA_DRIVER_CAPABILITIES=compute,utility …"],
        ),
        GpuErrorKind::Library => finding.remedy(
            Action::Replace,
            "install the driver's libraries, of the module's version",
            &["cat /proc/driver/nvidia/version", "ldconfig -p | grep -E 'libcuda|libnvidia-ml'"],
        ),
        GpuErrorKind::VersionMismatch => {
            finding.remedy(Action::Reboot, "load the module anew, or start the host anew", &["cat /proc/driver/nvidia/version"])
        }
        GpuErrorKind::NotInitialised => finding.remedy(
            Action::Reload,
            "start the fabric manager, where the GPUs are joined by NVSwitch",
            &["systemctl restart nvidia-fabricmanager", "nvidia-smi -q | grep -A3 Fabric"],
        ),
        GpuErrorKind::NoPermission | GpuErrorKind::NoDriver => {
            finding.remedy(Action::Tune, "give this process the driver's nodes", &["ls -l /dev/nvidia*", "nvidia-modprobe -u -c=0"])
        }
        GpuErrorKind::NoAnswer => finding.remedy(
            Action::Reboot,
            "look for Xid lines in the kernel's log; reset the GPUs, or start the host anew",
            &["dmesg | grep -i nvrm", "ps -eo pid,stat,wchan:32,comm | awk '$2 ~ /D/'"],
        ),
        _ => finding.remedy(Action::Reset, "look at the kernel's log for the driver's own words", &["dmesg | grep -i nvrm", "nvidia-smi"]),
    }
}

pub(super) fn cuda(facts: &Facts) -> Vec<Finding> {
    let gpus = match answers(facts) {
        Ok(gpus) => gpus,
        Err(skipped) => return skipped,
    };
    let cuda = &gpus.cuda;
    let hidden = cuda.visible_devices.as_ref().map(|value| format!("CUDA_VISIBLE_DEVICES={value}"));
    match (&cuda.error, &hidden) {
        (None, _) => {}
        (Some(GpuError::NotAsked { why }), _) => return vec![Finding::skip("host", why)],
        (Some(error), Some(hidden)) if error.kind() == GpuErrorKind::NoDevice => {
            return vec![Finding::skip("host", format!("{hidden} hides the GPUs from CUDA here")).saw("cuInit", error.to_string())];
        }
        (Some(error), _) => {
            let finding = Finding::fail("host", "CUDA cannot be used").saw_not("libcuda.so.1", error.to_string(), "CUDA_SUCCESS");
            return vec![with_remedy(finding, error, facts)];
        }
    }
    let version = cuda.driver_version.as_deref().unwrap_or("of an unknown version");
    let took = format!("{} ms", cuda.answered_in_us.unwrap_or(0) / 1000);
    let well = Finding::pass("host", format!("CUDA {version} shows {} GPUs", cuda.gpus.len())).saw("cuInit", took);
    let mut findings = vec![well];
    // A container is given some of the host's GPUs.
    let hides = hidden.is_some() || facts.is_container();
    for gpu in gpus.gpus.iter().filter(|gpu| !hides && gpu.error.is_none() && gpu.cuda.is_none()) {
        findings.push(
            Finding::warn(&gpu.pci, "NVML knows it, and CUDA does not show it")
                .saw_not("cuDeviceGetCount", cuda.gpus.len().to_string(), gpus.gpus.len().to_string())
                .remedy(Action::Reset, "look at the kernel's log for what CUDA met there", &["dmesg | grep -i nvrm"]),
        );
    }
    findings
}

pub(super) fn nvml(facts: &Facts) -> Vec<Finding> {
    let gpus = match answers(facts) {
        Ok(gpus) => gpus,
        Err(skipped) => return skipped,
    };
    let nvml = &gpus.nvml;
    vec![match &nvml.error {
        None => Finding::pass(
            "host",
            format!("NVML {} knows {} GPUs", nvml.library_version.as_deref().unwrap_or(""), nvml.gpu_count.unwrap_or(0)),
        )
        .saw("nvmlSystemGetDriverVersion", nvml.driver_version.clone().unwrap_or_default())
        .saw("nvmlInit_v2", format!("{} ms", nvml.answered_in_us.unwrap_or(0) / 1000)),
        Some(GpuError::NotAsked { why }) => Finding::skip("host", why),
        Some(error) => {
            // Engines transfer without NVML; what it would have told is unknown then.
            let is_grave = error.kind() != GpuErrorKind::Library;
            let finding =
                Finding::graded(is_grave, "host", "NVML cannot be used").saw_not("libnvidia-ml.so.1", error.to_string(), "NVML_SUCCESS");
            with_remedy(finding, error, facts)
        }
    }]
}
