//! The two ways by which a NIC gets at GPU memory, peer memory and dma-buf, and what each needs, one by one.

use super::no_gpu;
use crate::checks::modules::peer_memory_module;
use crate::checks::{Action, Finding};
use crate::facts::{Facts, family_of, packages};
use crate::host::families::{self, Family};
use crate::host::modules::{ModuleState, NvidiaFlavour, SymbolPresence};
use crate::host::rdma::SysfsDevice;

/// Whether something may still be true.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Feasibility {
    Open,
    Closed,
    Unknown,
}

pub(super) fn peer_memory_way(facts: &Facts) -> Feasibility {
    let is_loaded = peer_memory_module(facts).is_some();
    let is_unknown = ["nvidia_peermem", "nv_peer_mem"].iter().any(|name| facts.module(name).is_some() && facts.in_kernel(name).is_none());
    match &facts.modules.peer_memory_api {
        SymbolPresence::Absent => Feasibility::Closed,
        SymbolPresence::Present { .. } if is_loaded => Feasibility::Open,
        _ if !is_loaded && !is_unknown => Feasibility::Closed,
        _ => Feasibility::Unknown,
    }
}

/// What says something about the way by dma-buf: part by part.
fn dma_buf_ways(facts: &Facts) -> [Feasibility; 4] {
    let worst = |ways: Vec<Feasibility>| match ways {
        ways if ways.is_empty() => Feasibility::Unknown,
        ways if ways.contains(&Feasibility::Open) => Feasibility::Open,
        ways if ways.contains(&Feasibility::Unknown) => Feasibility::Unknown,
        _ => Feasibility::Closed,
    };
    [
        gpu_way(facts),
        kernel_way(facts),
        match &facts.host.system.config {
            Some(config) if config.value("CONFIG_DMA_SHARED_BUFFER") == "n" => Feasibility::Closed,
            Some(_) => Feasibility::Open,
            None => Feasibility::Unknown,
        },
        // One NIC that takes dma-bufs is a way.
        worst(facts.rdma_devices().iter().map(|device| nic_way(facts, device)).collect()),
    ]
}

/// Whether the GPUs' driver makes dma-bufs: CUDA's word where it was asked, else its kind.
fn gpu_way(facts: &Facts) -> Feasibility {
    let said: Vec<bool> = facts.gpus.iter().flat_map(|gpus| &gpus.gpus).filter_map(|gpu| gpu.cuda?.dma_buf_supported).collect();
    match said.as_slice() {
        [] => flavour_way(facts),
        said if said.contains(&true) => Feasibility::Open,
        _ => Feasibility::Closed,
    }
}

pub(super) fn flavour_way(facts: &Facts) -> Feasibility {
    match facts.modules.nvidia.as_ref().and_then(|nvidia| nvidia.flavour) {
        Some(NvidiaFlavour::Open) => Feasibility::Open,
        Some(NvidiaFlavour::Proprietary) => Feasibility::Closed,
        None => Feasibility::Unknown,
    }
}

pub(super) fn kernel_way(facts: &Facts) -> Feasibility {
    match facts.host.system.kernel_version() {
        Some(version) if version >= (5, 12) => Feasibility::Open,
        // Enterprise kernels carry much of later ones.
        Some(_) if facts.host.system.kernel_release.as_deref().is_some_and(|release| release.contains(".el")) => Feasibility::Unknown,
        Some(_) => Feasibility::Closed,
        None => Feasibility::Unknown,
    }
}

pub(super) fn nic_way(facts: &Facts, device: &SysfsDevice) -> Feasibility {
    let Some((family, version)) = family_of(device).zip(facts.host.system.kernel_version()) else { return Feasibility::Unknown };
    match families::find(family).and_then(|family| family.dma_buf(version)?.certain(version)) {
        Some(true) => Feasibility::Open,
        Some(false) => Feasibility::Closed,
        None => Feasibility::Unknown,
    }
}

/// The RDMA drivers whose sources of this kernel register dma-bufs.
fn dma_buf_drivers(facts: &Facts) -> String {
    let version = facts.host.system.kernel_version();
    let takes = |family: &&Family| version.and_then(|version| family.dma_buf(version)?.certain(version)) == Some(true);
    families::all().filter(takes).map(|family| family.name.to_string()).collect::<Vec<_>>().join(", ")
}

fn dma_buf_way(facts: &Facts) -> Feasibility {
    let ways = dma_buf_ways(facts);
    match () {
        () if ways.contains(&Feasibility::Closed) => Feasibility::Closed,
        // The kernel's configuration is rarely readable, and mostly has it.
        () if ways[0] == Feasibility::Open && ways[1] == Feasibility::Open && ways[3] == Feasibility::Open => Feasibility::Open,
        () => Feasibility::Unknown,
    }
}

/// Whether the way by dma-buf has to be looked at: the other one is not open, and there are GPUs and NICs.
pub(super) fn dma_buf_matters(facts: &Facts) -> Option<Vec<Finding>> {
    if facts.nvidia_gpus().next().is_none() {
        return Some(no_gpu());
    }
    if facts.modules.nvidia.is_none() {
        return Some(vec![Finding::skip("host", "NVIDIA's driver is not loaded")]);
    }
    if peer_memory_way(facts) == Feasibility::Open {
        return Some(vec![Finding::skip("host", "peer memory works here, so dma-buf is not needed")]);
    }
    if matches!(facts.modules.peer_memory_api, SymbolPresence::Present { .. }) {
        return Some(vec![Finding::skip("host", "ib_core takes peer-memory clients, which is the nearer way here")]);
    }
    None
}

/// What makes GPU memory registrable: the module where it would be of use, else other modules.
pub(super) fn make_a_way(facts: &Facts, finding: Finding) -> Finding {
    let is_on_disk = facts.module("nvidia_peermem").is_some_and(|module| module.state == ModuleState::OnDisk);
    if is_on_disk && facts.modules.peer_memory_api != SymbolPresence::Absent {
        return finding.remedy(
            Action::Reload,
            "load nvidia_peermem, or use the open GPU kernel modules and a NIC driver with dma-buf",
            &["modprobe nvidia_peermem", "rdmadoctor modules nvidia_peermem"],
        );
    }
    finding.remedy(
        Action::Replace,
        "have nvidia_peermem beside DOCA-OFED's ib_core, or use the open GPU kernel modules and a NIC driver with dma-buf",
        &["rdmadoctor modules nvidia_peermem"],
    )
}

pub(super) fn a_way_to_register(facts: &Facts) -> Vec<Finding> {
    if facts.nvidia_gpus().next().is_none() {
        return no_gpu();
    }
    if facts.rdma_devices().is_empty() {
        return vec![Finding::skip("host", "there is no RDMA device that could reach GPU memory")];
    }
    let (peer, dma_buf) = (peer_memory_way(facts), dma_buf_way(facts));
    let shown = |way| match way {
        Feasibility::Open => "open",
        Feasibility::Closed => "closed",
        Feasibility::Unknown => "not known",
    };
    let finding = match (peer, dma_buf) {
        (Feasibility::Open, _) => Finding::pass("host", "GPU memory can be registered through a peer-memory client, as far as files tell"),
        (_, Feasibility::Open) => Finding::pass("host", "GPU memory can be registered as a dma-buf, as far as files tell"),
        (Feasibility::Closed, Feasibility::Closed) => make_a_way(facts, Finding::fail("host", "GPU memory can be registered in no way")),
        _ => Finding::skip("host", "whether GPU memory can be registered cannot be told from files"),
    };
    vec![finding.saw("by peer memory", shown(peer)).saw("by dma-buf", shown(dma_buf))]
}

pub(super) fn open_driver(facts: &Facts) -> Vec<Finding> {
    if let Some(findings) = dma_buf_matters(facts) {
        return findings;
    }
    let banner = facts.modules.nvidia.as_ref().map(|nvidia| nvidia.banner.clone()).unwrap_or_default();
    vec![match flavour_way(facts) {
        Feasibility::Open => Finding::pass("host", "the GPU driver is the open one").saw("/proc/driver/nvidia/version", banner),
        Feasibility::Unknown => Finding::skip("host", "which kind of GPU driver is loaded cannot be seen"),
        Feasibility::Closed => Finding::fail("host", "the GPU driver is the proprietary one, which exports no dma-buf")
            .saw_not("/proc/driver/nvidia/version", banner, "Open Kernel Module")
            .remedy(
                Action::Replace,
                "install the open kernel modules, or make peer memory work",
                &packages(facts, "apt-get install -y nvidia-open", "dnf install -y nvidia-open"),
            ),
    }]
}

pub(super) fn kernel_version(facts: &Facts) -> Vec<Finding> {
    if let Some(findings) = dma_buf_matters(facts) {
        return findings;
    }
    let release = facts.host.system.kernel_release.clone().unwrap_or_default();
    vec![match kernel_way(facts) {
        Feasibility::Open => Finding::pass("host", format!("the kernel is {release}")),
        Feasibility::Unknown => {
            Finding::skip("host", format!("whether the kernel {release} registers dma-bufs cannot be told from its number"))
        }
        Feasibility::Closed => Finding::fail("host", "the kernel is too old to register dma-bufs")
            .saw_not("/proc/sys/kernel/osrelease", release, "5.12 or later")
            .remedy(Action::Replace, "use a newer kernel, or make peer memory work", &[]),
    }]
}

pub(super) fn kernel_options(facts: &Facts) -> Vec<Finding> {
    if let Some(findings) = dma_buf_matters(facts) {
        return findings;
    }
    let Some(config) = &facts.host.system.config else {
        return vec![Finding::skip("host", "the kernel's configuration cannot be read")];
    };
    let needed = [("CONFIG_DMA_SHARED_BUFFER", true), ("CONFIG_PCI_P2PDMA", false), ("CONFIG_DMABUF_MOVE_NOTIFY", false)];
    needed
        .into_iter()
        .map(|(option, is_required)| {
            if config.value(option) == "n" {
                let without = format!("the kernel was built without {option}");
                if !is_required {
                    // A descriptor was had without either on an H200 (docs/gpu-validation.md).
                    return Finding::skip(option, format!("{without}, which guides name; dma-bufs are made without it"));
                }
                Finding::fail(option, without).about("host").saw_not(&config.source, "not set", "y").remedy(
                    Action::Replace,
                    "use a kernel that was built with it, or make peer memory work",
                    &[],
                )
            } else {
                Finding::pass(option, format!("the kernel was built with {option}"))
            }
        })
        .collect()
}

pub(super) fn nic_driver(facts: &Facts) -> Vec<Finding> {
    if let Some(findings) = dma_buf_matters(facts) {
        return findings;
    }
    let judge = |device: &SysfsDevice| match nic_way(facts, device) {
        Feasibility::Open => Finding::pass(&device.name, "its driver takes dma-bufs in this kernel's own sources"),
        Feasibility::Unknown => Finding::skip(&device.name, "whether its driver takes dma-bufs is not known for this kernel"),
        Feasibility::Closed => Finding::fail(&device.name, "its driver takes no dma-bufs")
            .saw_not(
                "driver",
                device.driver.clone().or_else(|| family_of(device).map(str::to_owned)).unwrap_or_default(),
                dma_buf_drivers(facts),
            )
            .remedy(Action::Replace, "use another NIC for GPU memory, or make peer memory work", &[]),
    };
    facts.rdma_devices().iter().map(judge).collect()
}

pub(super) fn peer_memory_is_loaded(facts: &Facts) -> Vec<Finding> {
    if facts.nvidia_gpus().next().is_none() {
        return no_gpu();
    }
    if let Some(name) = peer_memory_module(facts) {
        return vec![Finding::pass("host", format!("{name} is loaded"))];
    }
    if facts.modules.peer_memory_api == SymbolPresence::Absent {
        let why = "ib_core takes no peer-memory clients, so nvidia_peermem would be of no use; dma-buf is the way here";
        return vec![Finding::skip("host", why)];
    }
    if dma_buf_way(facts) == Feasibility::Unknown {
        return vec![Finding::skip("host", "nvidia_peermem is not loaded, and whether dma-buf works here cannot be told from files")];
    }
    if dma_buf_way(facts) == Feasibility::Open {
        return vec![Finding::skip(
            "host",
            "dma-buf works here as far as files tell; only engines that know no dma-buf need nvidia_peermem",
        )];
    }
    vec![match facts.in_kernel("nvidia_peermem") {
        None => Finding::skip("host", "whether nvidia_peermem is loaded cannot be seen"),
        Some(_) => {
            let finding =
                Finding::fail("host", "nvidia_peermem is not loaded").saw_not("/proc/modules", "no nvidia_peermem", "nvidia_peermem");
            match facts.module("nvidia_peermem").map(|module| module.state) {
                Some(ModuleState::Absent) => finding.remedy(
                    Action::Replace,
                    "it is not on disk: install the GPU driver anew, which builds it for the ib_core that is there",
                    &[],
                ),
                _ => finding.remedy(
                    Action::Reload,
                    "load it, and name it in /etc/modules-load.d",
                    &[
                        "modprobe nvidia_peermem",
                        "mkdir -p /etc/modules-load.d && echo nvidia_peermem > /etc/modules-load.d/nvidia_peermem.conf",
                    ],
                ),
            }
        }
    }]
}
