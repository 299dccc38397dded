//! What a line of the kernel's log says. A pure function; each pattern names where the line is written.
//!
//! Paths are those of the Linux kernel where nothing else is said. `ibdev_err` writes `driver pci-address device: message`
//! (drivers/infiniband/core/device.c), `dev_err` writes `driver pci-address: message`, `netdev_info` `driver pci-address interface: message`.

use std::sync::LazyLock;

use aho_corasick::packed::Searcher;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::host::families;
use crate::host::pci::is_address;

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// NVIDIA's driver reports an error of a GPU by number.
    NvidiaXid {
        /// The number; docs.nvidia.com/deploy/xid-errors lists them.
        xid: u32,
        /// The GPU, as the line writes it, without a function: `0000:03:00`.
        pci: Option<String>,
    },
    /// NVIDIA's driver reports an error of an NVSwitch by number.
    NvidiaSxid {
        /// The number.
        sxid: u32,
        /// The switch.
        pci: Option<String>,
    },
    /// NVIDIA's driver could not bring up a GPU, or lost it.
    NvidiaDeviceLost {
        /// The GPU.
        pci: Option<String>,
    },
    /// NVIDIA's user-space library is of another version than its module.
    NvidiaVersionMismatch,
    /// nvidia_peermem, or nv_peer_mem, could not do its work.
    PeerMemoryFailed,
    /// A module needs a symbol that the kernel and its modules lack: a module for another kernel or another RDMA package.
    UnknownSymbol {
        /// The module.
        module: String,
        /// The symbol.
        symbol: String,
        /// -2: there is none; -22: it is of another version.
        errno: Option<i32>,
    },
    /// A module was refused for its signature.
    ModuleRefused {
        /// The module, where the line names it.
        module: Option<String>,
    },
    /// A PCI Express error.
    AerError {
        /// How bad.
        severity: AerSeverity,
        /// The function that reports it.
        pci: Option<String>,
    },
    /// A link that is slower than its function could use.
    PcieLimited {
        /// The function.
        pci: Option<String>,
        /// Where the link is.
        limited_at: Option<String>,
    },
    /// No address was found for a range of a function.
    BarUnassigned {
        /// The function.
        pci: Option<String>,
    },
    /// The IOMMU stopped an access.
    IommuFault {
        /// The function that tried.
        pci: Option<String>,
    },
    /// The link of a NIC went down.
    LinkDown {
        /// The driver.
        driver: String,
        /// The interface.
        netdev: String,
    },
    /// The link of a NIC came up.
    LinkUp {
        /// The driver.
        driver: String,
        /// The interface.
        netdev: String,
    },
    /// A cable or module of an mlx5 port.
    PortModule {
        /// The function.
        pci: Option<String>,
        /// What it says: `Cable unplugged`.
        status: String,
    },
    /// The firmware of an mlx5 device refused a command.
    Mlx5CommandFailed {
        /// The function.
        pci: Option<String>,
        /// Such as `CREATE_MKEY`.
        command: String,
        /// Such as `no resources`, `limits exceeded`.
        status: String,
    },
    /// An mlx5 device is ill.
    Mlx5Health {
        /// The function.
        pci: Option<String>,
    },
    /// A memory region was larger than an eRDMA device takes.
    ErdmaMemoryRegionTooLarge {
        /// What was asked for.
        asked_bytes: u64,
        /// The most that it takes.
        limit_bytes: u64,
    },
    /// A queue pair asked a bnxt_re device for more than it has.
    BnxtQueuePairRefused {
        /// The device.
        device: Option<String>,
        /// Every figure of the request.
        limits: Vec<QueueLimit>,
    },
    /// Another error of an RDMA driver.
    RdmaDriverError {
        /// The driver, or `infiniband`.
        driver: String,
        /// The device, where the line names it.
        device: Option<String>,
    },
    /// The kernel killed a process for memory.
    OutOfMemory {
        /// The process's name.
        process: Option<String>,
        /// Whether a control group's limit was the cause.
        in_cgroup: bool,
    },
    /// A process waits in the kernel for minutes, as nvidia-smi does on a lost GPU.
    HungTask {
        /// The process's name.
        process: String,
    },
}

/// How bad a PCI Express error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AerSeverity {
    /// The link mended it.
    Corrected,
    /// A request was lost.
    NonFatal,
    /// The link cannot be relied on.
    Fatal,
    /// The line says neither.
    Unknown,
}

/// What a queue pair asked for and the most that there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QueueLimit {
    /// Such as `max_send_sge`.
    pub parameter: String,
    pub asked: u64,
    pub limit: u64,
}

/// What each line of interest has at least one of, unless it begins with the name of a driver.
const SIGNS: &[&str] = &[
    "NVRM: ",
    "SXid (",
    "nvidia-peermem ",
    "nv_peer_mem ",
    "Unknown symbol ",
    "rejected",
    "module loading is restricted",
    "PCIe Bus Error",
    "available PCIe bandwidth",
    "failed to assign",
    "no space for",
    "can't assign; no space",
    "fault addr",
    "[IO_PAGE_FAULT",
    "arm-smmu-v3",
    "Out of mr size",
    "Create QP failed",
    "ut of memory: ",
    "INFO: task ",
];

/// Finds any sign in one pass: a log has thousands of lines, and few are of interest.
static WORTH_READING: LazyLock<Option<Searcher>> = LazyLock::new(|| Searcher::new(SIGNS));

/// The driver that a line begins with.
fn driver_of(message: &str) -> Option<&str> {
    let end = message.bytes().position(|byte| matches!(byte, b' ' | b':'))?;
    let word = &message[..end];
    [&DRIVERS.link, &DRIVERS.error].iter().any(|drivers| drivers.contains(&word)).then_some(word)
}

/// Words of drivers, which lines begin with.
struct Drivers {
    /// NICs that can do RDMA, whose links matter here.
    link: Vec<&'static str>,
    /// What `ibdev_err` and `dev_err` of RDMA drivers begin with.
    error: Vec<&'static str>,
}

/// Those of the families; `ib_core` writes its own name for a device without a parent.
static DRIVERS: LazyLock<Drivers> = LazyLock::new(|| Drivers {
    link: families::all().flat_map(|family| family.log.link_drivers.iter()).map(|word| &**word).collect(),
    error: families::all().flat_map(|family| family.log.error_drivers.iter()).map(|word| &**word).chain(["infiniband"]).collect(),
});

/// What a line says, its time taken off. `None` for a line of no interest.
#[must_use]
pub fn classify(message: &str) -> Option<Event> {
    // `mlx5_core.sf mlx5_core.sf.4: …` is of a scalable function, whose driver has a name of its own.
    let begins_with_driver = driver_of(message).is_some() || message.starts_with("mlx5_core");
    if !begins_with_driver && WORTH_READING.as_ref().is_some_and(|signs| signs.find(message).is_none()) {
        return None;
    }
    nvidia(message).or_else(|| module(message)).or_else(|| pcie(message)).or_else(|| driver(message)).or_else(|| process(message))
}

fn nvidia(message: &str) -> Option<Event> {
    // NVIDIA open-gpu-kernel-modules, src/nvidia/arch/nvalloc/unix/src/osapi.c: `NVRM: Xid (PCI:0000:03:00): 79, pid=…`; `(0000:03:00)` in
    // old drivers.
    if let Some(rest) = after(message, "NVRM: Xid (") {
        let (pci, xid) = numbered(rest)?;
        return Some(Event::NvidiaXid { xid, pci });
    }
    // Same, src/common/nvswitch: `nvidia-nvswitch0: SXid (PCI:0000:c1:00.0): 20034, Fatal, …`.
    if let Some(rest) = after(message, ": SXid (") {
        let (pci, sxid) = numbered(rest)?;
        return Some(Event::NvidiaSxid { sxid, pci });
    }
    if let Some(rest) = after(message, "NVRM: ") {
        // kernel-open/nvidia/nv.c and src/nvidia/arch/nvalloc/unix/src/osinit.c.
        if rest.contains("has fallen off the bus") || rest.contains("RmInitAdapter failed") || rest.contains("rm_init_adapter failed") {
            return Some(Event::NvidiaDeviceLost { pci: address_in(rest) });
        }
        // kernel-open/nvidia/nv.c, `NV_ESC_CHECK_VERSION_STR`.
        if rest.contains("API mismatch") {
            return Some(Event::NvidiaVersionMismatch);
        }
    }
    // kernel-open/nvidia-peermem/nvidia-peermem.c, `peer_err`: `nvidia-peermem function:line …`; Mellanox nv_peer_memory, nv_peer_mem.c:
    // `nv_peer_mem function:line ERROR …`. The loader's lines, `nvidia_peermem: …`, are below.
    let is_peer = message.starts_with("nvidia-peermem ") || (message.starts_with("nv_peer_mem ") && message.contains("ERROR"));
    is_peer.then_some(Event::PeerMemoryFailed)
}

fn module(message: &str) -> Option<Event> {
    // kernel/module/main.c, `simplify_symbols`: `name: Unknown symbol symbol (err -2)`.
    if let Some((module, rest)) = message.split_once(": Unknown symbol ") {
        let (symbol, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let errno = rest.strip_prefix("(err ").and_then(|rest| rest.split(')').next()?.parse().ok());
        return Some(Event::UnknownSymbol { module: word(module)?, symbol: word(symbol)?, errno });
    }
    // kernel/module/signing.c: `Loading of unsigned module is rejected`; security/lockdown/lockdown.c: `Lockdown: modprobe: unsigned
    // module loading is restricted`.
    let is_refused = message.contains("Loading of unsigned module is rejected")
        || message.contains("Loading of module with unavailable key is rejected")
        || message.contains("unsigned module loading is restricted");
    is_refused.then_some(Event::ModuleRefused { module: None })
}

fn pcie(message: &str) -> Option<Event> {
    // drivers/pci/pcie/aer.c, `aer_print_error`: `driver address: PCIe Bus Error: severity=Corrected, …`; later kernels say Correctable,
    // and `Uncorrectable (Fatal)` or `(Non-Fatal)`.
    if let Some(rest) = after(message, "PCIe Bus Error: severity=") {
        let severity = rest.split(',').next().unwrap_or_default();
        let severity = match severity {
            severity if severity.starts_with("Correct") => AerSeverity::Corrected,
            severity if severity.contains("Non-Fatal") || severity.contains("Nonfatal") => AerSeverity::NonFatal,
            severity if severity.contains("Fatal") => AerSeverity::Fatal,
            _ => AerSeverity::Unknown,
        };
        return Some(Event::AerError { severity, pci: address_in(message) });
    }
    // drivers/pci/pci.c, `__pcie_print_link_status`: `… Gb/s available PCIe bandwidth, limited by 8.0 GT/s PCIe x8 link at 0000:00:01.0 (…`.
    if let Some(rest) = after(message, "available PCIe bandwidth, limited by ") {
        return Some(Event::PcieLimited { pci: address_in(message), limited_at: address_in(rest) });
    }
    // drivers/pci/setup-res.c, `pci_assign_resource`: `BAR 1 [mem …]: failed to assign`, `can't assign; no space`, in older kernels
    // `BAR 1: no space for [mem …]`. Ranges of ports matter to nobody here.
    let is_unassigned =
        message.contains("failed to assign") || message.contains("no space for") || message.contains("can't assign; no space");
    if message.contains("BAR ") && is_unassigned && !message.contains("[io ") && !message.contains("ROM") {
        return Some(Event::BarUnassigned { pci: address_in(message) });
    }
    // drivers/iommu/intel/dmar.c: `DMAR: [DMA Write] Request device [03:00.0] fault addr …`; drivers/iommu/amd/iommu.c: `AMD-Vi: Event logged
    // [IO_PAGE_FAULT device=0000:03:00.0 …`; drivers/iommu/arm/arm-smmu-v3: `event 0x10 received`.
    let is_intel = message.contains("DMAR: ") && message.contains("fault addr");
    let is_amd = message.contains("[IO_PAGE_FAULT");
    let is_arm = message.contains("arm-smmu-v3") && message.contains("event 0x10");
    (is_intel || is_amd || is_arm).then(|| Event::IommuFault { pci: if is_intel { intel_device(message) } else { address_in(message) } })
}

/// Intel's line names bus, device and function only.
fn intel_device(message: &str) -> Option<String> {
    let device = after(message, "device [").and_then(|rest| rest.split(']').next())?;
    [device.to_owned(), format!("0000:{device}")].into_iter().find(|address| is_address(address))
}

fn driver(message: &str) -> Option<Event> {
    specific(message).or_else(|| link(message)).or_else(|| generic(message))
}

fn specific(message: &str) -> Option<Event> {
    // drivers/net/ethernet/mellanox/mlx5/core/cmd.c, `mlx5_cmd_out_err`: `… CREATE_MKEY(0x200) op_mod(0x0) failed, status no
    // resources(0xf), syndrome (0x…), err(-11)`.
    if message.starts_with("mlx5_core") {
        if let Some((before, rest)) = message.split_once(" failed, status ") {
            let command = before.split(' ').rfind(|word| word.contains("(0x") && !word.starts_with("op_mod"))?.split('(').next()?;
            let status = rest.split('(').next()?;
            return Some(Event::Mlx5CommandFailed { pci: address_in(message), command: word(command)?, status: short(status) });
        }
        // drivers/net/ethernet/mellanox/mlx5/core/events.c, `port_module`.
        if let Some(rest) = after(message, "Port module event") {
            let status = rest.split(", ").nth(1)?;
            return Some(Event::PortModule { pci: address_in(message), status: short(status) });
        }
        // drivers/net/ethernet/mellanox/mlx5/core/health.c.
        let ill = [
            "Health issue observed",
            "health compromised",
            "Fatal error",
            "health recovery failed",
            "Driver is in error state",
            "assert_var[",
        ];
        if ill.iter().any(|sign| message.contains(sign)) {
            return Some(Event::Mlx5Health { pci: address_in(message) });
        }
    }
    // The vendor's own eRDMA driver; seen in kvcache-ai/Mooncake issue 304: `Out of mr size: 80530636800, max 68719476736`.
    if let Some(rest) = after(message, "Out of mr size: ") {
        let (asked, limit) = rest.split_once(", max ")?;
        return Some(Event::ErdmaMemoryRegionTooLarge { asked_bytes: leading(asked)?, limit_bytes: leading(limit)? });
    }
    // drivers/infiniband/hw/bnxt_re/ib_verbs.c, `bnxt_re_test_qp_limits`: five pairs of asked and limit.
    if let Some(rest) = after(message, "Create QP failed - max exceeded!") {
        let names = ["max_send_wr", "max_recv_wr", "max_send_sge", "max_recv_sge", "max_inline_data"];
        let hexadecimal = |text: &str| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok();
        let pairs = names.iter().zip(rest.split_whitespace());
        let limits = pairs.map_while(|(name, pair)| {
            let (asked, limit) = pair.split_once('/')?;
            Some(QueueLimit { parameter: (*name).to_owned(), asked: hexadecimal(asked)?, limit: hexadecimal(limit)? })
        });
        return Some(Event::BnxtQueuePairRefused { device: device_of(message), limits: limits.collect() });
    }
    None
}

/// `mlx5_core 0000:03:00.0 ens3np0: Link down` (mlx5 en_main.c), `… NIC Link is Down` (bnxt.c, ice_main.c), `mlx4_en: eth0: Link Up`
/// (mlx4 en_netdev.c), `… link down` (hns3_enet.c), `… Link is down` (qede_main.c).
fn link(message: &str) -> Option<Event> {
    let driver = driver_of(message).filter(|driver| DRIVERS.link.contains(driver))?;
    let (before, said) = message.rsplit_once(": ")?;
    let said = said.trim().to_ascii_lowercase();
    let said = said.strip_prefix("nic ").unwrap_or(&said);
    let said = said.strip_prefix("link is ").or_else(|| said.strip_prefix("link ")).unwrap_or_default();
    // What follows `up` is the speed, which may have colons of its own.
    let (before, is_up) = if said.starts_with("down") {
        (before, false)
    } else if said.starts_with("up") {
        (before, true)
    } else {
        let lower = message.to_ascii_lowercase();
        let at = lower.find(": nic link is up").or_else(|| lower.find(": link is up"))?;
        // The same length in bytes: only ASCII letters were changed.
        (message.get(..at)?, true)
    };
    // A line that names the function only is not about a port.
    let netdev = before.rsplit(' ').next().filter(|netdev| !is_address(netdev))?;
    let (driver, netdev) = (driver.to_owned(), word(netdev)?);
    Some(if is_up { Event::LinkUp { driver, netdev } } else { Event::LinkDown { driver, netdev } })
}

/// Any line of an RDMA driver that speaks of failure.
fn generic(message: &str) -> Option<Event> {
    let driver = driver_of(message).filter(|driver| DRIVERS.error.contains(driver))?;
    // kernel/module/main.c, `load_module`, says this of every module from elsewhere, and loads it all the same.
    if message.contains("module verification failed") {
        return None;
    }
    let lower = message.to_ascii_lowercase();
    let is_bad = ["fail", "error", "timeout", "timed out", "exceed", "invalid", "not support", "unable", "fatal"]
        .iter()
        .any(|sign| lower.contains(sign));
    is_bad.then(|| Event::RdmaDriverError { driver: driver.to_owned(), device: device_of(message) })
}

fn process(message: &str) -> Option<Event> {
    // mm/oom_kill.c, `__oom_kill_process`: `Out of memory: Killed process 12 (name) …`, `Memory cgroup out of memory: Killed process …`.
    if let Some(rest) = after(message, "ut of memory: Killed process ") {
        let process = rest.split_once('(').and_then(|(_, rest)| rest.split_once(')')).and_then(|(name, _)| word(name));
        return Some(Event::OutOfMemory { process, in_cgroup: message.starts_with("Memory cgroup") });
    }
    // kernel/hung_task.c, `check_hung_task`: `INFO: task nvidia-smi:123 blocked for more than 122 seconds.`
    let rest = after(message, "INFO: task ")?;
    let (task, _) = rest.split_once(" blocked for more than ")?;
    Some(Event::HungTask { process: word(task.rsplit_once(':').map_or(task, |(name, _)| name))? })
}

/// What stands after a text.
fn after<'a>(message: &'a str, text: &str) -> Option<&'a str> {
    message.split_once(text).map(|(_, rest)| rest)
}

/// `PCI:0000:03:00): 79, …`: the address and the number.
fn numbered(rest: &str) -> Option<(Option<String>, u32)> {
    let (address, rest) = rest.split_once("): ")?;
    let address = address.strip_prefix("PCI:").unwrap_or(address);
    let number = rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
    Some((word(address), number))
}

/// The first PCI address of a text.
fn address_in(text: &str) -> Option<String> {
    let mut words = text.split(|c: char| !(c.is_ascii_hexdigit() || matches!(c, ':' | '.')));
    // A colon or full stop after the address belongs to the sentence.
    words.find_map(|word| Some(word.trim_end_matches([':', '.'])).filter(|word| is_address(word))).map(str::to_owned)
}

/// The RDMA device of a line of `ibdev_err`: the third word, or the second of a device without a parent.
fn device_of(message: &str) -> Option<String> {
    let (head, _) = message.split_once(": ")?;
    let words: Vec<&str> = head.split(' ').collect();
    match words[..] {
        [_, address, device] if is_address(address) => word(device),
        [_, device] if !is_address(device) => word(device),
        _ => None,
    }
}

/// The number that a text begins with.
fn leading(text: &str) -> Option<u64> {
    text.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// A name; what is longer than any name of the kernel is none.
fn word(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty() && text.len() <= 128).then(|| text.to_owned())
}

/// The start of a phrase.
fn short(text: &str) -> String {
    text.trim().chars().take(60).collect()
}
