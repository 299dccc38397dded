//! What is known of device families: data, of `profiles/families/*.yaml`, which the build compiles to constants so that a start reads no
//! file of them. A directory of the user's adds to them when the program starts.

use std::borrow::Cow;
use std::sync::OnceLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::modules::Known;

// `FAMILIES`, in the order of their names.
include!(concat!(env!("OUT_DIR"), "/families.rs"));

/// A text of the program or of a file.
type Text = Cow<'static, str>;
/// Several, of the program or of a file.
type List<T> = Cow<'static, [T]>;

/// A family of RDMA devices: what its driver is called, and what is known of it whichever device it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Family {
    /// `rdmadoctor/family/1`.
    pub schema: Text,
    /// Such as `mlx5`, `erdma`, `rxe`.
    pub name: Text,
    /// One line for people.
    pub title: Text,
    /// The device model that the family's name stands for.
    pub model: Option<Text>,
    /// Where the drivers, modules, symbols and words of the log are known from.
    #[schemars(length(min = 1))]
    pub sources: List<Text>,
    /// Drivers of its PCI functions.
    #[serde(default)]
    pub drivers: List<Driver>,
    /// PCI numbers that tell a part that carries RDMA from one that does not. Where they do not, only a bound driver makes the family known.
    #[serde(default)]
    pub pci: List<PciRange>,
    /// What names of its devices begin with where udev does not rename them.
    #[serde(default)]
    pub device_prefixes: List<Text>,
    /// What shows a device of a family that has no PCI function.
    pub software: Option<SoftwareSign>,
    /// Kernel modules that make it an RDMA device, the one of the PCI function first.
    #[schemars(length(min = 1))]
    pub modules: List<Known>,
    /// How lines of the kernel's log begin.
    #[serde(default)]
    pub log: LogWords,
    /// Whether the kernel's own driver registers dma-bufs: the entry of the newest kernel that is not newer than the host's counts.
    #[serde(default)]
    pub dma_buf: List<DmaBuf>,
    /// Given where a queue is of fixed size, so that depth falls as entries and inline bytes grow.
    pub packed_queues: Option<Sourced>,
    /// The type of queue pair that its driver makes by a call of its own, and engines use there.
    pub own_queue_pairs: Option<OwnQueuePairs>,
    /// How it treats a bond of its network interfaces.
    pub bonds: Option<Bonds>,
    /// What makes queue pairs of an iWARP device connect without rdma_cm.
    pub without_rdma_cm: Option<Advice>,
    /// What its reported capabilities do not say.
    #[serde(default)]
    pub remarks: List<CapabilityRemark>,
}

/// A driver of PCI functions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Driver {
    /// As sysfs names it.
    pub name: Text,
    /// Whether only some of its parts are RDMA devices, so that the driver alone does not make a host want the modules.
    #[serde(default)]
    pub mostly_without_rdma: bool,
}

/// PCI numbers of a vendor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PciRange {
    /// The vendor.
    pub vendor: u16,
    /// The first part; the only one where no last is given.
    pub first: u16,
    /// The last part.
    pub last: Option<u16>,
    /// Whether it is one whatever the function's class; the vendors of most make bridges and storage controllers too.
    #[serde(default)]
    pub any_class: bool,
    /// Where this is known from.
    pub source: Text,
}

/// What shows a software device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SoftwareSign {
    /// The attribute `parent` in sysfs, which rxe alone writes (drivers/infiniband/sw/rxe/rxe_verbs.c).
    ParentAttribute,
    /// The node type of an iWARP adapter.
    IwarpNodeType,
}

/// Words that lines of the kernel's log begin with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogWords {
    /// Drivers that report the links of its network interfaces.
    pub link_drivers: List<Text>,
    /// What `ibdev_err` and `dev_err` of its RDMA driver begin with.
    pub error_drivers: List<Text>,
}

/// Whether the driver registers dma-bufs, from a kernel on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DmaBuf {
    /// From this kernel on, such as `6.12`; `0` for any.
    pub kernel: Text,
    /// Whether it does.
    pub supported: bool,
    /// Whether this was reasoned, not read.
    #[serde(default)]
    pub inferred: bool,
    /// The newest kernel that was read, where no driver from elsewhere takes the place of the kernel's. Only up to there is it certain that it
    /// does not.
    pub certain_until: Option<Text>,
    /// Where this is known from.
    pub source: Text,
}

/// Queue pairs of a driver's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OwnQueuePairs {
    /// Their type, such as `SRD`.
    #[serde(rename = "type")]
    pub qp_type: Text,
    /// Where this is known from.
    pub source: Text,
}

/// Bonds whose fail-over RoCE follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bonds {
    /// Numbers of their modes, as bonding.rst has them.
    pub modes: List<u8>,
    /// Where this is known from.
    pub source: Text,
}

/// A property, with its source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sourced {
    /// Where this is known from.
    pub source: Text,
}

/// What to do, with its source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Advice {
    /// What to do.
    #[serde(rename = "do")]
    pub action: Text,
    /// Where this is known from.
    pub source: Text,
}

/// What a reported capability does not say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CapabilityRemark {
    /// The capability.
    pub capability: Text,
    /// What to know about it.
    pub text: Text,
    /// Where this is known from.
    pub source: Text,
}

/// What a file's name told, and what the user's own add; set once, when the program starts.
static ADDED: OnceLock<Vec<Family>> = OnceLock::new();

/// Adds families for the rest of the program's life. One that has the name of another takes its place. Only the first call counts.
pub(crate) fn add(families: Vec<Family>) {
    let _ = ADDED.set(families);
}

/// Every family that is known: the added ones, then those of the program.
pub(crate) fn all() -> impl Iterator<Item = &'static Family> {
    let added = ADDED.get().map(Vec::as_slice).unwrap_or_default();
    added.iter().chain(FAMILIES.iter().filter(move |family| added.iter().all(|other| other.name != family.name)))
}

/// The family of a name.
pub(crate) fn find(name: &str) -> Option<&'static Family> {
    all().find(|family| family.name == name)
}

/// The kernel modules that a family needs; none for a name that is no family.
pub(crate) fn modules_of(family: &str) -> Vec<&'static str> {
    find(family).map(|known| known.modules.iter().map(|module| &*module.name).collect()).unwrap_or_default()
}

/// The names of all families.
pub(crate) fn names() -> Vec<&'static str> {
    all().map(|family| &*family.name).collect()
}

impl Family {
    /// What is known of dma-bufs with a kernel of this release.
    pub(crate) fn dma_buf(&self, kernel: (u32, u32)) -> Option<&DmaBuf> {
        let is_not_newer = |entry: &&DmaBuf| release(&entry.kernel) <= kernel;
        self.dma_buf.iter().filter(is_not_newer).max_by_key(|entry| release(&entry.kernel))
    }
}

impl DmaBuf {
    /// Whether a host with a kernel of this release certainly has it or certainly has not.
    pub(crate) fn certain(&self, kernel: (u32, u32)) -> Option<bool> {
        let until = self.certain_until.as_deref().map(release);
        match self.supported {
            true if !self.inferred => Some(true),
            // A vendor's driver may well have it.
            false if !self.inferred && until.is_some_and(|until| kernel <= until) => Some(false),
            _ => None,
        }
    }
}

impl PciRange {
    pub(super) fn has(&self, vendor: u16, device: u16) -> bool {
        self.vendor == vendor && (self.first..=self.last.unwrap_or(self.first)).contains(&device)
    }
}

/// Numbers of a kernel release that order it: `6.12.0-rc1` is 6 and 12.
pub(crate) fn release(text: &str) -> (u32, u32) {
    let mut numbers = text.split(['.', '-', '+']).map_while(|part| part.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_constants_are_what_the_files_say() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles/families");
        let mut parsed: Vec<Family> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| {
                let family: Family = serde_yaml::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
                assert_eq!(path.file_stem().unwrap().to_str().unwrap(), family.name);
                family
            })
            .collect();
        parsed.sort_by(|left, right| left.name.cmp(&right.name));
        assert_eq!(FAMILIES, parsed);
    }

    #[test]
    fn every_family_has_modules() {
        assert!(names().into_iter().all(|family| !modules_of(family).is_empty()));
        assert!(modules_of("nothing").is_empty());
    }

    #[test]
    fn dma_bufs_are_certain_where_the_kernel_was_read() {
        let certain = |family: &str, kernel| find(family).unwrap().dma_buf(kernel).and_then(|entry| entry.certain(kernel));
        assert_eq!(certain("mlx5", (6, 1)), Some(true));
        assert_eq!(certain("irdma", (6, 1)), None);
        assert_eq!(certain("irdma", (6, 12)), Some(true));
        assert_eq!(certain("rxe", (6, 12)), Some(false));
        assert_eq!(certain("rxe", (6, 18)), None);
        assert_eq!(certain("erdma", (6, 1)), None);
    }
}
