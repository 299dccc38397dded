//! The kernel and the machine: version, command line, configuration, IOMMU, NUMA, huge pages, distribution.

pub(crate) mod iommu;
pub(crate) mod kernel_config;
pub(crate) mod memory;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::iommu::IommuFacts;
use self::kernel_config::KernelConfig;
use self::memory::MemoryFacts;
use super::reader::Reader;
use super::{ReadError, Root, modules};

/// What a host says of its kernel and machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SystemFacts {
    /// The running kernel's release: `6.8.0-45-generic`.
    pub kernel_release: Option<String>,
    /// When and with what it was built.
    pub kernel_build: Option<String>,
    /// Bits of what it was tainted with (Documentation/admin-guide/tainted-kernels.rst).
    pub kernel_taint: Option<u64>,
    /// Parameters of its command line, in their order, secrets left out: only those that this program knows.
    pub parameters: Vec<KernelParameter>,
    /// How it was configured, where that can be read.
    pub config: Option<KernelConfig>,
    /// `none`, `integrity` or `confidentiality`: what lockdown forbids even root.
    pub lockdown: Option<String>,
    pub iommu: IommuFacts,
    pub memory: MemoryFacts,
    /// The distribution.
    pub os: Option<OsRelease>,
    pub machine: Machine,
    /// What sets the clock speed of the first processor: `performance`, `powersave` and others.
    pub cpu_governor: Option<String>,
    /// What could not be read or understood.
    pub problems: Vec<ReadError>,
}

impl SystemFacts {
    /// A parameter of the command line; of several the last, which counts for most.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&KernelParameter> {
        self.parameters.iter().rfind(|parameter| parameter.name == name)
    }

    /// Major and minor version of the kernel.
    #[must_use]
    pub fn kernel_version(&self) -> Option<(u32, u32)> {
        let mut numbers = self.kernel_release.as_deref()?.split(|c: char| !c.is_ascii_digit());
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }
}

/// A parameter of the kernel's command line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KernelParameter {
    pub name: String,
    /// What follows the `=`.
    pub value: Option<String>,
}

/// The distribution, os-release(5).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OsRelease {
    /// Such as `ubuntu`.
    pub id: Option<String>,
    /// What it is derived from.
    pub id_like: Option<String>,
    /// Such as `24.04`.
    pub version_id: Option<String>,
    /// For people.
    pub pretty_name: Option<String>,
}

/// The machine. Serial numbers are not read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Machine {
    /// Its maker, or the cloud.
    pub vendor: Option<String>,
    /// Its model.
    pub product: Option<String>,
    pub board: Option<String>,
    /// Version of its firmware.
    pub firmware: Option<String>,
    /// Kind of hypervisor, where the kernel names one.
    pub hypervisor: Option<String>,
    /// Whether the processor says that it is in a virtual machine; absent where it cannot say.
    pub is_virtual: Option<bool>,
    /// The processor's name.
    pub processor: Option<String>,
}

impl Machine {
    /// Why this is known to be a virtual machine, if it is.
    #[must_use]
    pub fn virtual_machine(&self) -> Option<String> {
        let named = || self.hypervisor.clone().or_else(|| self.product.clone()).or_else(|| self.vendor.clone());
        (self.is_virtual == Some(true) || self.hypervisor.is_some()).then(|| named().unwrap_or_else(|| "the processor says so".to_owned()))
    }
}

/// Parameters that bear on RDMA, GPUs and PCI Express. Others may hold secrets of the host.
const PARAMETERS: &[&str] = &[
    "amd_iommu",
    "arm-smmu.disable_bypass",
    "default_hugepagesz",
    "hugepages",
    "hugepagesz",
    "initcall_blacklist",
    "intel_iommu",
    "iommu",
    "iommu.passthrough",
    "iommu.strict",
    "isolcpus",
    "lockdown",
    "module.sig_enforce",
    "module_blacklist",
    "modprobe.blacklist",
    "nohz_full",
    "nomodule",
    "noiommu",
    "numa",
    "numa_balancing",
    "pci",
    "pcie_acs_override",
    "pcie_aspm",
    "pcie_ports",
    "processor.max_cstate",
    "intel_idle.max_cstate",
    "rdma_rxe",
    "swiotlb",
    "transparent_hugepage",
];

/// Reads it. What fails is among the problems.
#[must_use]
pub fn read(root: &Root) -> SystemFacts {
    let mut reader = Reader::new(root);
    let kernel_release = reader.attribute("/proc/sys/kernel/osrelease").filter(|release| !release.is_empty());
    let command_line = reader.text("/proc/cmdline").unwrap_or_default();
    let config = kernel_config::read(&mut reader, kernel_release.as_deref());
    SystemFacts {
        kernel_build: reader.attribute("/proc/sys/kernel/version"),
        kernel_taint: reader.parsed("/proc/sys/kernel/tainted", "a number", |text| text.parse().ok()),
        parameters: parameters(&command_line),
        config,
        lockdown: reader.attribute("/sys/kernel/security/lockdown").and_then(|text| chosen(&text)),
        iommu: iommu::read(&mut reader),
        memory: memory::read(&mut reader),
        os: os_release(&mut reader),
        machine: machine(&mut reader),
        cpu_governor: reader.attribute("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        kernel_release,
        problems: reader.problems,
    }
}

/// Words of the command line up to `--`, which are init's from there on. Values may be quoted.
fn parameters(line: &str) -> Vec<KernelParameter> {
    let mut words: Vec<String> = vec![String::new()];
    let mut quoted = false;
    for c in line.trim().chars() {
        match c {
            '"' => quoted = !quoted,
            c if c.is_whitespace() && !quoted => words.push(String::new()),
            c => words.last_mut().into_iter().for_each(|word| word.push(c)),
        }
    }
    let words = words.iter().filter(|word| !word.is_empty()).take_while(|word| *word != "--");
    words
        .map(|word| word.split_once('=').map_or((word.as_str(), None), |(name, value)| (name, Some(value.to_owned()))))
        .filter(|(name, _)| PARAMETERS.contains(name) || name.split_once('.').is_some_and(|(module, _)| modules::is_known(module)))
        .map(|(name, value)| KernelParameter { name: name.to_owned(), value })
        .collect()
}

/// The choice in brackets, as sysfs shows a list of choices: `none [integrity] confidentiality`.
fn chosen(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    rest.split_once(']').map(|(choice, _)| choice.to_owned())
}

fn os_release(reader: &mut Reader<'_>) -> Option<OsRelease> {
    let text = reader.text("/etc/os-release").or_else(|| reader.text("/usr/lib/os-release"))?;
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
        Some(value.trim().trim_matches(['"', '\'']).to_owned())
    };
    Some(OsRelease { id: field("ID"), id_like: field("ID_LIKE"), version_id: field("VERSION_ID"), pretty_name: field("PRETTY_NAME") })
}

fn machine(reader: &mut Reader<'_>) -> Machine {
    let mut dmi = |name: &str| reader.attribute(format!("/sys/class/dmi/id/{name}")).filter(|text| !text.is_empty());
    let (vendor, board, firmware) = (dmi("sys_vendor"), dmi("board_name"), dmi("bios_version"));
    let product = dmi("product_name").or_else(|| {
        // Machines without DMI have a device tree; its strings end with a zero.
        reader.text("/sys/firmware/devicetree/base/model").map(|model| model.trim_end_matches('\0').to_owned())
    });
    // The whole is long on a host with many processors; the first tells enough.
    let first = reader.head("/proc/cpuinfo", 16 << 10).unwrap_or_default();
    let field = |name: &str| {
        let line = first.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.trim_start().starts_with(':')))?;
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    // X86_FEATURE_HYPERVISOR; other architectures have no such flag.
    let is_virtual = field("flags").map(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor"));
    Machine {
        vendor,
        product,
        board,
        firmware,
        hypervisor: reader.attribute("/sys/hypervisor/type"),
        is_virtual,
        processor: field("model name"),
    }
}

#[cfg(test)]
#[path = "../system_tests.rs"]
mod tests;
