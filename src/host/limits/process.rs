//! What the kernel allows one process: resource limits, capabilities, namespaces.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::host::ReadError;
use crate::host::reader::{Reader, shorten};

/// CAP_IPC_LOCK, capabilities(7).
const CAP_IPC_LOCK: u32 = 14;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LimitValue {
    /// At most so much.
    Value(u64),
    /// No limit.
    Unlimited,
}

impl LimitValue {
    /// The bound, if there is one.
    #[must_use]
    pub fn value(self) -> Option<u64> {
        match self {
            Self::Value(value) => Some(value),
            Self::Unlimited => None,
        }
    }
}

/// A line of /proc/PID/limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResourceLimit {
    /// The kernel's name: `Max locked memory`.
    pub name: String,
    /// The limit in force.
    pub soft: LimitValue,
    /// How far it may be raised without privileges.
    pub hard: LimitValue,
    /// `bytes`, `files`, `processes` and others; absent for plain numbers.
    pub unit: Option<String>,
}

/// The capability sets of a process, one bit a capability (capabilities(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Capabilities {
    /// In force.
    pub effective: u64,
    /// Could be put in force.
    pub permitted: u64,
    /// Kept by programs that ask for them.
    pub inheritable: u64,
    /// The most that any program started from here can get. Alone it gives nothing.
    pub bounding: u64,
    /// Kept by every program; absent before Linux 4.3.
    pub ambient: Option<u64>,
}

impl Capabilities {
    /// Whether a set has CAP_IPC_LOCK.
    #[must_use]
    pub fn has_ipc_lock(set: u64) -> bool {
        set >> CAP_IPC_LOCK & 1 == 1
    }
}

/// What the kernel allows one process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProcessFacts {
    /// Its directory: `/proc/self` or `/proc/PID`.
    pub source: String,
    /// Whether there is such a process.
    pub exists: bool,
    /// Name of its program, cut to 15 bytes.
    pub name: Option<String>,
    /// Effective user.
    pub effective_uid: Option<u32>,
    /// Effective group and the further ones; absent where the process does not tell.
    #[serde(default)]
    pub groups: Option<Vec<u32>>,
    pub limits: Vec<ResourceLimit>,
    pub capabilities: Option<Capabilities>,
    /// Whether it is in the first user namespace. In any other, as in rootless containers, CAP_IPC_LOCK is inert: the kernel asks for it in
    /// the first (kernel/capability.c, `capable`).
    pub in_first_user_namespace: Option<bool>,
    /// Whether it can gain no privileges.
    pub no_new_privileges: Option<bool>,
    /// Mode of its filter of system calls: 0 none, 2 filtered.
    pub seccomp: Option<u32>,
    /// Memory that it locked.
    pub locked_bytes: Option<u64>,
    /// Memory that was pinned for it, as registered memory is.
    pub pinned_bytes: Option<u64>,
    /// Processors that it may run on, as the kernel lists them.
    pub allowed_cpus: Option<String>,
    /// NUMA nodes that it may take memory from.
    pub allowed_memory_nodes: Option<String>,
}

impl ProcessFacts {
    /// A limit by the kernel's name.
    #[must_use]
    pub fn limit(&self, name: &str) -> Option<&ResourceLimit> {
        self.limits.iter().find(|limit| limit.name == name)
    }

    /// RLIMIT_MEMLOCK.
    #[must_use]
    pub fn memlock(&self) -> Option<&ResourceLimit> {
        self.limit("Max locked memory")
    }

    /// Whether CAP_IPC_LOCK is in force and counts. `None` where the capabilities are not known.
    #[must_use]
    pub fn has_ipc_lock(&self) -> Option<bool> {
        let held = Capabilities::has_ipc_lock(self.capabilities?.effective);
        Some(held && self.in_first_user_namespace != Some(false))
    }
}

/// Reads a process; this one without a number.
pub(super) fn read(reader: &mut Reader<'_>, pid: Option<u32>) -> ProcessFacts {
    let dir = directory(pid);
    let status = reader.text(dir.join("status"));
    let mut facts = ProcessFacts {
        source: dir.to_string_lossy().into_owned(),
        exists: status.is_some() || reader.root.exists(&dir),
        limits: limits(reader, &dir.join("limits")),
        in_first_user_namespace: first_user_namespace(reader, &dir),
        ..ProcessFacts::default()
    };
    read_status(reader, &dir.join("status"), &status.unwrap_or_default(), &mut facts);
    facts
}

/// The directory of a process.
pub(super) fn directory(pid: Option<u32>) -> PathBuf {
    pid.map_or_else(|| "/proc/self".into(), |pid| format!("/proc/{pid}").into())
}

/// Fields of /proc/PID/status, proc_pid_status(5).
fn read_status(reader: &mut Reader<'_>, path: &Path, text: &str, facts: &mut ProcessFacts) {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim));
    let mut problems = Vec::new();
    let mut set = |name: &str| {
        let text = field(name)?;
        let set = u64::from_str_radix(text, 16).ok();
        if set.is_none() {
            problems.push(ReadError::malformed(path, name, format!("{:?} is not a set of capabilities", shorten(text))));
        }
        set
    };
    let sets = (set("CapEff"), set("CapPrm"), set("CapInh"), set("CapBnd"), set("CapAmb"));
    reader.problems.append(&mut problems);
    if let (Some(effective), Some(permitted), Some(inheritable), Some(bounding), ambient) = sets {
        facts.capabilities = Some(Capabilities { effective, permitted, inheritable, bounding, ambient });
    }
    let kibibytes = |name: &str| field(name)?.strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024);
    facts.name = field("Name").map(str::to_owned);
    // Real, effective, saved, file system.
    facts.effective_uid = field("Uid").and_then(|ids| ids.split_whitespace().nth(1)?.parse().ok());
    let effective_gid = field("Gid").and_then(|ids| ids.split_whitespace().nth(1)?.parse().ok());
    let further = field("Groups").unwrap_or_default().split_whitespace().filter_map(|group| group.parse().ok());
    facts.groups = effective_gid.map(|group| std::iter::once(group).chain(further).collect());
    facts.no_new_privileges = field("NoNewPrivs").map(|value| value == "1");
    facts.seccomp = field("Seccomp").and_then(|mode| mode.parse().ok());
    facts.locked_bytes = kibibytes("VmLck");
    facts.pinned_bytes = kibibytes("VmPin");
    facts.allowed_cpus = field("Cpus_allowed_list").map(str::to_owned);
    facts.allowed_memory_nodes = field("Mems_allowed_list").map(str::to_owned);
}

/// A table with columns at fixed places: name, soft limit, hard limit, unit (fs/proc/base.c, `proc_pid_limits`).
fn limits(reader: &mut Reader<'_>, path: &Path) -> Vec<ResourceLimit> {
    let text = reader.text(path).unwrap_or_default();
    let mut limits = Vec::new();
    for (number, line) in text.lines().enumerate().skip(1) {
        match limit(line) {
            Some(limit) => limits.push(limit),
            None => reader.problems.push(ReadError::malformed(path, &format!("line {}", number + 1), "not a name and two limits")),
        }
    }
    limits
}

fn limit(line: &str) -> Option<ResourceLimit> {
    // Columns are at least two spaces apart, as no name, limit or unit has two spaces in it.
    let mut columns = line.split("  ").map(str::trim).filter(|column| !column.is_empty());
    let (name, soft, hard) = (columns.next()?, columns.next()?, columns.next()?);
    Some(ResourceLimit { name: name.to_owned(), soft: value(soft)?, hard: value(hard)?, unit: columns.next().map(str::to_owned) })
}

fn value(text: &str) -> Option<LimitValue> {
    if text == "unlimited" { Some(LimitValue::Unlimited) } else { text.parse().ok().map(LimitValue::Value) }
}

/// The first user namespace has a number of its own (include/linux/proc_ns.h, `PROC_USER_INIT_INO`); where it cannot be read, it is the one
/// that maps every number to itself.
fn first_user_namespace(reader: &mut Reader<'_>, dir: &Path) -> Option<bool> {
    if let Some(name) = namespace(reader, dir, "user") {
        return Some(name == "user:[4026531837]");
    }
    let map = reader.attribute(dir.join("uid_map"))?;
    Some(map.split_whitespace().eq(["0", "0", "4294967295"]))
}

/// The name of a namespace: `user:[4026531837]`. Only its owner may look, so a refusal is no problem.
pub(super) fn namespace(reader: &Reader<'_>, dir: &Path, kind: &str) -> Option<String> {
    let target = reader.root.link(dir.join("ns").join(kind)).ok()??;
    Some(target.to_string_lossy().into_owned()).filter(|name| name.starts_with(kind))
}
