//! 07: GPUs and their memory.

use super::facts::family_of;
use super::modules::peer_memory_module;
use super::{Action, Category, Check, Facts, Finding, Level};
use crate::host::log::Event;
use crate::host::modules::{NvidiaFlavour, SymbolPresence};
use crate::host::rdma::SysfsDevice;

/// The smallest window that NVIDIA's cards come with, which holds a small part of their memory.
const SMALL_WINDOW_BYTES: u64 = 256 << 20;

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "RD-0701",
        title: "GPUs are bound to their driver",
        category: Category::Gpus,
        level: Level::Quick,
        why: "A GPU without its driver, or with nouveau, cannot be used by CUDA.",
        confirm: "lspci -nnk -d 10de:",
        mend: "Install the GPU driver; keep nouveau out (blacklist nouveau); the kernel's log says why a driver gave up on a GPU.",
        sources: &["NVIDIA driver installation guide"],
        depends_on: &["RD-0209", "RD-0211", "RD-1106"],
        run: gpus_are_bound,
    },
    Check {
        id: "RD-0702",
        title: "nvidia_uvm is loaded",
        category: Category::Gpus,
        level: Level::Quick,
        why: "CUDA does not start without nvidia_uvm and its nodes.",
        confirm: "lsmod | grep nvidia_uvm; ls -l /dev/nvidia-uvm",
        mend: "modprobe nvidia_uvm, or start nvidia-persistenced, or run nvidia-modprobe -u.",
        sources: &["NVIDIA/open-gpu-kernel-modules, kernel-open/nvidia-uvm"],
        depends_on: &["RD-0209", "RD-0211"],
        run: unified_memory,
    },
    Check {
        id: "RD-0703",
        title: "there is a way to register GPU memory",
        category: Category::Gpus,
        level: Level::Quick,
        why: "ibv_reg_mr takes GPU memory only through a peer-memory client (nvidia_peermem with an ib_core that has the interface), \
              ibv_reg_dmabuf_mr only as a dma-buf. Without either, registration ends with `Bad address [14]`, or the engine copies through host memory.",
        confirm: "lsmod | grep peermem; grep ib_register_peer_memory_client /proc/kallsyms; cat /proc/driver/nvidia/version",
        mend: "Either load nvidia_peermem with DOCA-OFED's ib_core, or use the open GPU kernel modules with a kernel from 5.12 on and a NIC driver with dma-buf.",
        sources: &[
            "linux-rdma/perftest issues 126, 269",
            "Mellanox/nv_peer_memory issue 121",
            "NVIDIA/nccl issue 778",
            "openucx/ucx pull request 11002",
        ],
        depends_on: &["RD-0208", "RD-0704", "RD-0705", "RD-0706", "RD-0707", "RD-0708"],
        run: a_way_to_register,
    },
    Check {
        id: "RD-0704",
        title: "dma-buf: the GPU driver is the open one",
        category: Category::Gpus,
        level: Level::Quick,
        why: "Only NVIDIA's open kernel modules export GPU memory as a dma-buf.",
        confirm: "cat /proc/driver/nvidia/version; modinfo -F license nvidia",
        mend: "Install the open kernel modules (nvidia-open), where the GPU is of the Turing generation or later.",
        sources: &["NVIDIA driver README, GPUDirect RDMA", "microsoft/mscclpp issue 657"],
        depends_on: &["RD-0208"],
        run: open_driver,
    },
    Check {
        id: "RD-0705",
        title: "dma-buf: the kernel is 5.12 or later",
        category: Category::Gpus,
        level: Level::Quick,
        why: "Registration of dma-bufs came to the kernel's verbs with 5.12; distributions' older kernels may have it all the same.",
        confirm: "uname -r",
        mend: "Use a newer kernel, or nvidia_peermem.",
        sources: &["Linux, drivers/infiniband/core/uverbs_std_types_mr.c, UVERBS_METHOD_REG_DMABUF_MR"],
        depends_on: &["RD-0208"],
        run: kernel_version,
    },
    Check {
        id: "RD-0706",
        title: "dma-buf: the kernel was built with what it needs",
        category: Category::Gpus,
        level: Level::Quick,
        why: "CONFIG_DMA_SHARED_BUFFER carries dma-bufs; CONFIG_PCI_P2PDMA and CONFIG_DMABUF_MOVE_NOTIFY are named as prerequisites of GPUDirect by dma-buf in several guides.",
        confirm: "grep -E 'CONFIG_(PCI_P2PDMA|DMA_SHARED_BUFFER|DMABUF_MOVE_NOTIFY)=' /boot/config-$(uname -r)",
        mend: "Use a kernel that was built with them, or nvidia_peermem.",
        sources: &["Linux, drivers/dma-buf/Kconfig", "ROCm/mori, tools/env_check.sh"],
        depends_on: &["RD-0208"],
        run: kernel_options,
    },
    Check {
        id: "RD-0707",
        title: "dma-buf: the NIC's driver takes dma-bufs",
        category: Category::Gpus,
        level: Level::Quick,
        why: "A driver without the operation answers EOPNOTSUPP. In the kernel's own sources mlx5 and efa have it in 6.1; irdma and bnxt_re too in 6.12.",
        confirm: "call ibv_reg_dmabuf_mr with file descriptor -1: EBADF says that the path exists, EOPNOTSUPP that it does not",
        mend: "Use a newer kernel or the vendor's driver, or nvidia_peermem.",
        sources: &["Linux 6.1 and 6.12, drivers/infiniband/hw, .reg_user_mr_dmabuf", "openucx/ucx pull request 11002"],
        depends_on: &["RD-0208"],
        run: nic_driver,
    },
    Check {
        id: "RD-0708",
        title: "peer memory: nvidia_peermem is loaded",
        category: Category::Gpus,
        level: Level::Quick,
        why: "Engines that know no dma-buf (DLSlime among them) and libraries that look for the module leave GPU memory out without it.",
        confirm: "lsmod | grep -E 'nvidia_peermem|nv_peer_mem'",
        mend: "modprobe nvidia_peermem, and name it in /etc/modules-load.d.",
        sources: &["deepseek-ai/DeepEP issue 55", "Mellanox/nv_peer_memory issues 36, 121"],
        depends_on: &["RD-0208", "RD-0209", "RD-0211"],
        run: peer_memory_is_loaded,
    },
    Check {
        id: "RD-0709",
        title: "the window onto each GPU's memory is there and large",
        category: Category::Gpus,
        level: Level::Quick,
        why: "NICs reach GPU memory through the GPU's BAR1. More than its size cannot be registered at once, and one without an address cannot be reached at all.",
        confirm: "nvidia-smi -q -d MEMORY | grep -A3 BAR1; lspci -vv -s GPU | grep prefetchable",
        mend: "Turn on `Above 4G decoding` and resizable BAR in the firmware's set-up; on a virtual machine ask for a larger window.",
        sources: &["Mellanox/nv_peer_memory issues 27, 101", "NVIDIA/gdrcopy issue 301"],
        depends_on: &[],
        run: windows,
    },
    Check {
        id: "RD-0710",
        title: "the GPU driver says that GPUDirect works",
        category: Category::Gpus,
        level: Level::Standard,
        why: "CUDA tells for each GPU whether its memory can be registered, and whether as a dma-buf.",
        confirm: "cuDeviceGetAttribute: CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_SUPPORTED, CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED",
        mend: "Install the open kernel modules; on consumer products and integrated GPUs it may not be offered at all.",
        sources: &["CUDA driver API, CUdevice_attribute", "ofiwg/libfabric pull request 12409: the attribute alone must not be trusted"],
        depends_on: &["RD-0704", "RD-0705"],
        run: attributes,
    },
    Check {
        id: "RD-0711",
        title: "GPUs are not divided",
        category: Category::Gpus,
        level: Level::Standard,
        why: "An instance of a divided GPU (MIG) has its own part of the memory; GPUDirect between instances is restricted.",
        confirm: "nvidia-smi -L",
        mend: "nvidia-smi -mig 0, where the whole GPU is meant.",
        sources: &["NVIDIA MIG user guide"],
        depends_on: &[],
        run: not_divided,
    },
    Check {
        id: "RD-0712",
        title: "the GPU driver's library and module are of one version",
        category: Category::Gpus,
        level: Level::Quick,
        why: "After an upgrade without a new start, the old module runs beside the new library: CUDA and nvidia-smi refuse to work.",
        confirm: "nvidia-smi; cat /proc/driver/nvidia/version",
        mend: "Load the module anew, or start the host anew.",
        sources: &["NVIDIA/open-gpu-kernel-modules: NVRM: API mismatch"],
        depends_on: &["RD-0206"],
        run: one_version,
    },
];

fn no_gpu() -> Vec<Finding> {
    vec![Finding::skip("host", "there is no NVIDIA GPU here")]
}

/// Whether something may still be true.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Open,
    Closed,
    Unknown,
}

fn peer_memory_way(facts: &Facts) -> Way {
    let is_loaded = peer_memory_module(facts).is_some();
    let is_unknown = ["nvidia_peermem", "nv_peer_mem"].iter().any(|name| facts.module(name).is_some() && facts.in_kernel(name).is_none());
    match &facts.modules.peer_memory_api {
        SymbolPresence::Absent => Way::Closed,
        SymbolPresence::Present { .. } if is_loaded => Way::Open,
        _ if !is_loaded && !is_unknown => Way::Closed,
        _ => Way::Unknown,
    }
}

/// What says something about the way by dma-buf: part by part.
fn dma_buf_ways(facts: &Facts) -> [Way; 4] {
    let worst = |ways: Vec<Way>| match ways {
        ways if ways.is_empty() => Way::Unknown,
        ways if ways.contains(&Way::Open) => Way::Open,
        ways if ways.contains(&Way::Unknown) => Way::Unknown,
        _ => Way::Closed,
    };
    [
        match facts.modules.nvidia.as_ref().and_then(|nvidia| nvidia.flavour) {
            Some(NvidiaFlavour::Open) => Way::Open,
            Some(NvidiaFlavour::Proprietary) => Way::Closed,
            None => Way::Unknown,
        },
        kernel_way(facts),
        match &facts.host.system.config {
            Some(config) if config.value("CONFIG_DMA_SHARED_BUFFER") == "n" => Way::Closed,
            Some(_) => Way::Open,
            None => Way::Unknown,
        },
        // One NIC that takes dma-bufs is a way.
        worst(facts.rdma_devices().iter().map(|device| nic_way(facts, device)).collect()),
    ]
}

fn kernel_way(facts: &Facts) -> Way {
    match facts.host.system.kernel_version() {
        Some(version) if version >= (5, 12) => Way::Open,
        // Enterprise kernels carry much of later ones.
        Some(_) if facts.host.system.kernel_release.as_deref().is_some_and(|release| release.contains(".el")) => Way::Unknown,
        Some(_) => Way::Closed,
        None => Way::Unknown,
    }
}

fn nic_way(facts: &Facts, device: &SysfsDevice) -> Way {
    let Some((family, version)) = family_of(device).zip(facts.host.system.kernel_version()) else { return Way::Unknown };
    match family {
        "mlx5" | "efa" if version >= (6, 1) => Way::Open,
        "irdma" | "bnxt_re" if version >= (6, 12) => Way::Open,
        // Read in 6.1 and 6.12; vendors' drivers and later kernels are not known.
        "rxe" | "siw" if version <= (6, 12) => Way::Closed,
        _ => Way::Unknown,
    }
}

fn dma_buf_way(facts: &Facts) -> Way {
    let ways = dma_buf_ways(facts);
    match () {
        () if ways.contains(&Way::Closed) => Way::Closed,
        // The kernel's configuration is rarely readable, and mostly has it.
        () if ways[0] == Way::Open && ways[1] == Way::Open && ways[3] == Way::Open => Way::Open,
        () => Way::Unknown,
    }
}

/// Whether the way by dma-buf has to be looked at: the other one is not open, and there are GPUs and NICs.
fn dma_buf_matters(facts: &Facts) -> Option<Vec<Finding>> {
    if facts.nvidia_gpus().next().is_none() {
        return Some(no_gpu());
    }
    if facts.modules.nvidia.is_none() {
        return Some(vec![Finding::skip("host", "NVIDIA's driver is not loaded")]);
    }
    if peer_memory_way(facts) == Way::Open {
        return Some(vec![Finding::skip("host", "peer memory works here, so dma-buf is not needed")]);
    }
    if matches!(facts.modules.peer_memory_api, SymbolPresence::Present { .. }) {
        return Some(vec![Finding::skip("host", "ib_core takes peer-memory clients, which is the nearer way here")]);
    }
    None
}

fn gpus_are_bound(facts: &Facts) -> Vec<Finding> {
    let judge = |function: &crate::host::pcie::PcieFunction| {
        let address = function.address();
        match function.function.driver.as_deref() {
            Some("nvidia") => Finding::pass(address, "nvidia drives it"),
            Some("amdgpu") => Finding::pass(address, "amdgpu drives it"),
            Some(driver @ ("vfio-pci" | "pci-stub")) => Finding::skip(address, format!("{driver} has it, for a virtual machine")),
            other => Finding::fail(address, format!("no driver of CUDA or ROCm drives this GPU, but {}", other.unwrap_or("none")))
                .saw_not(format!("/sys/bus/pci/devices/{address}/driver"), other.unwrap_or("none"), "nvidia or amdgpu")
                .mend(Action::Replace, "install or load the GPU's driver; keep nouveau out", &["modprobe nvidia", "dmesg | grep -i nvrm"]),
        }
    };
    facts.pci_gpus().map(judge).collect()
}

fn unified_memory(facts: &Facts) -> Vec<Finding> {
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
            .mend(Action::Reload, "load it with its nodes", &["nvidia-modprobe -u -c=0"]),
    }]
}

fn a_way_to_register(facts: &Facts) -> Vec<Finding> {
    if facts.nvidia_gpus().next().is_none() {
        return no_gpu();
    }
    if facts.rdma_devices().is_empty() {
        return vec![Finding::skip("host", "there is no RDMA device that could reach GPU memory")];
    }
    let (peer, dma_buf) = (peer_memory_way(facts), dma_buf_way(facts));
    let shown = |way| match way {
        Way::Open => "open",
        Way::Closed => "closed",
        Way::Unknown => "not known",
    };
    let finding = match (peer, dma_buf) {
        (Way::Open, _) => Finding::pass("host", "GPU memory can be registered through a peer-memory client, as far as files tell"),
        (_, Way::Open) => Finding::pass("host", "GPU memory can be registered as a dma-buf, as far as files tell"),
        (Way::Closed, Way::Closed) => Finding::fail("host", "GPU memory can be registered in no way").mend(
            Action::Reload,
            "load nvidia_peermem beside DOCA-OFED's ib_core, or use the open GPU kernel modules with dma-buf",
            &["modprobe nvidia_peermem", "rdmadoctor modules nvidia_peermem"],
        ),
        _ => Finding::skip("host", "whether GPU memory can be registered cannot be told from files"),
    };
    vec![finding.saw("by peer memory", shown(peer)).saw("by dma-buf", shown(dma_buf))]
}

fn open_driver(facts: &Facts) -> Vec<Finding> {
    if let Some(findings) = dma_buf_matters(facts) {
        return findings;
    }
    let banner = facts.modules.nvidia.as_ref().map(|nvidia| nvidia.banner.clone()).unwrap_or_default();
    vec![match dma_buf_ways(facts)[0] {
        Way::Open => Finding::pass("host", "the GPU driver is the open one").saw("/proc/driver/nvidia/version", banner),
        Way::Unknown => Finding::skip("host", "which kind of GPU driver is loaded cannot be seen"),
        Way::Closed => Finding::fail("host", "the GPU driver is the proprietary one, which exports no dma-buf")
            .saw_not("/proc/driver/nvidia/version", banner, "Open Kernel Module")
            .mend(Action::Replace, "install the open kernel modules, or make peer memory work", &["apt-get install nvidia-open"]),
    }]
}

fn kernel_version(facts: &Facts) -> Vec<Finding> {
    if let Some(findings) = dma_buf_matters(facts) {
        return findings;
    }
    let release = facts.host.system.kernel_release.clone().unwrap_or_default();
    vec![match kernel_way(facts) {
        Way::Open => Finding::pass("host", format!("the kernel is {release}")),
        Way::Unknown => Finding::skip("host", format!("whether the kernel {release} registers dma-bufs cannot be told from its number")),
        Way::Closed => Finding::fail("host", "the kernel is too old to register dma-bufs")
            .saw_not("/proc/sys/kernel/osrelease", release, "5.12 or later")
            .mend(Action::Replace, "use a newer kernel, or make peer memory work", &[]),
    }]
}

fn kernel_options(facts: &Facts) -> Vec<Finding> {
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
                Finding::graded(is_required, option, format!("the kernel was built without {option}"))
                    .about("host")
                    .saw_not(&config.source, "not set", "y")
                    .mend(Action::Replace, "use a kernel that was built with it, or make peer memory work", &[])
            } else {
                Finding::pass(option, format!("the kernel was built with {option}"))
            }
        })
        .collect()
}

fn nic_driver(facts: &Facts) -> Vec<Finding> {
    if let Some(findings) = dma_buf_matters(facts) {
        return findings;
    }
    let judge = |device: &SysfsDevice| match nic_way(facts, device) {
        Way::Open => Finding::pass(&device.name, "its driver takes dma-bufs in this kernel's own sources"),
        Way::Unknown => Finding::skip(&device.name, "whether its driver takes dma-bufs is not known for this kernel"),
        Way::Closed => Finding::fail(&device.name, "its driver takes no dma-bufs")
            .saw_not(
                "driver",
                device.driver.clone().or_else(|| family_of(device).map(str::to_owned)).unwrap_or_default(),
                "mlx5, efa, irdma or bnxt_re",
            )
            .mend(Action::Replace, "use another NIC for GPU memory, or make peer memory work", &[]),
    };
    facts.rdma_devices().iter().map(judge).collect()
}

fn peer_memory_is_loaded(facts: &Facts) -> Vec<Finding> {
    if facts.nvidia_gpus().next().is_none() {
        return no_gpu();
    }
    if let Some(name) = peer_memory_module(facts) {
        return vec![Finding::pass("host", format!("{name} is loaded"))];
    }
    if dma_buf_way(facts) == Way::Unknown {
        return vec![Finding::skip("host", "nvidia_peermem is not loaded, and whether dma-buf works here cannot be told from files")];
    }
    if dma_buf_way(facts) == Way::Open {
        return vec![Finding::skip(
            "host",
            "dma-buf works here as far as files tell; only engines that know no dma-buf need nvidia_peermem",
        )];
    }
    if facts.modules.peer_memory_api == SymbolPresence::Absent {
        let why = "ib_core takes no peer-memory clients, so nvidia_peermem would be of no use; dma-buf is the way here";
        return vec![Finding::skip("host", why)];
    }
    vec![match facts.in_kernel("nvidia_peermem") {
        None => Finding::skip("host", "whether nvidia_peermem is loaded cannot be seen"),
        Some(_) => Finding::fail("host", "nvidia_peermem is not loaded")
            .saw_not("/proc/modules", "no nvidia_peermem", "nvidia_peermem")
            .mend(Action::Reload, "load it, and name it in /etc/modules-load.d", &["modprobe nvidia_peermem"]),
    }]
}

fn windows(facts: &Facts) -> Vec<Finding> {
    let judge =
        |function: &crate::host::pcie::PcieFunction| {
            let address = function.address();
            let source = format!("/sys/bus/pci/devices/{address}/resource");
            let firmware = "turn on `Above 4G decoding` and resizable BAR in the firmware's set-up";
            let Some(window) = function.window() else {
                return Finding::skip(address, "the window onto its memory cannot be seen");
            };
            if !window.is_assigned {
                return Finding::fail(address, "the window onto its memory has no address")
                    .saw_not(source, "not assigned", "an address")
                    .mend(Action::Reboot, firmware, &[]);
            }
            if window.size_bytes <= SMALL_WINDOW_BYTES {
                return Finding::warn(
                    address,
                    format!("only {} of its memory can be reached at once", super::limits::shown(window.size_bytes)),
                )
                .saw_not(source, super::limits::shown(window.size_bytes), "as much as will be registered")
                .mend(Action::Reboot, firmware, &[]);
            }
            Finding::pass(address, format!("{} of its memory can be reached", super::limits::shown(window.size_bytes)))
        };
    facts.nvidia_gpus().map(judge).collect()
}

fn attributes(facts: &Facts) -> Vec<Finding> {
    let Some(gpus) = &facts.gpus else {
        return vec![Finding::skip("host", "the GPU driver was not asked")];
    };
    gpus.iter()
        .map(|gpu| match (gpu.gpu_direct_rdma_supported, gpu.dma_buf_supported) {
            (Some(false), Some(false)) => Finding::fail(&gpu.pci, "CUDA says that its memory can be registered in no way")
                .saw_not("CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_SUPPORTED", "0", "1")
                .saw_not("CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED", "0", "1")
                .mend(Action::Replace, "install the open kernel modules, or use another GPU", &[]),
            (None, None) => Finding::skip(&gpu.pci, "CUDA does not say whether its memory can be registered"),
            _ => Finding::pass(&gpu.pci, "CUDA says that its memory can be registered"),
        })
        .collect()
}

fn not_divided(facts: &Facts) -> Vec<Finding> {
    let Some(gpus) = &facts.gpus else {
        return vec![Finding::skip("host", "the GPU driver was not asked")];
    };
    gpus.iter()
        .map(|gpu| match gpu.is_divided {
            Some(true) => Finding::warn(&gpu.pci, "it is divided (MIG)").saw_not("NVML, MIG mode", "on", "off").mend(
                Action::Reset,
                "turn it off where the whole GPU is meant",
                &["nvidia-smi -mig 0"],
            ),
            Some(false) => Finding::pass(&gpu.pci, "it is not divided"),
            None => Finding::skip(&gpu.pci, "whether it is divided is not known"),
        })
        .collect()
}

fn one_version(facts: &Facts) -> Vec<Finding> {
    let log = &facts.host.log;
    if facts.nvidia_gpus().next().is_none() {
        return no_gpu();
    }
    let Some(source) = &log.source else {
        return vec![Finding::skip("host", "the kernel's log cannot be read here")];
    };
    vec![match log.events.iter().find(|logged| logged.event == Event::NvidiaVersionMismatch) {
        None => Finding::pass("host", "the log tells of no difference"),
        Some(logged) => {
            Finding::warn("host", "the GPU driver's library is of another version than its module").saw(source, &logged.line).mend(
                Action::Reboot,
                "load the module anew, or start the host anew",
                &["rmmod nvidia_uvm nvidia_drm nvidia_modeset nvidia && modprobe nvidia"],
            )
        }
    }]
}
