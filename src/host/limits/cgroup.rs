//! Control groups: where a process is in them, and what they allow it.

use std::path::{Component, Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::process::{LimitValue, directory};
use crate::host::ReadError;
use crate::host::reader::{Reader, shorten};

/// Groups above a process that are looked at; systemd and container runtimes make some ten.
const DEEPEST: usize = 32;

/// Where a process is in the control groups, and what they allow.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CgroupFacts {
    /// The process's group in each hierarchy.
    pub memberships: Vec<Membership>,
    /// The systemd unit that the path names: `containerd.service`.
    pub unit: Option<String>,
    /// Limits on RDMA objects, of its group and those above.
    pub rdma_limits: Vec<RdmaLimit>,
    /// RDMA objects in use.
    pub rdma_usage: Vec<RdmaLimit>,
    /// Limits on memory, of its group and those above; unlimited groups are left out.
    pub memory_limits: Vec<GroupLimit>,
}

impl CgroupFacts {
    /// The least limit on memory.
    #[must_use]
    pub fn memory_bytes(&self) -> Option<u64> {
        self.memory_limits.iter().map(|limit| limit.value).min()
    }
}

/// A line of /proc/PID/cgroup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Membership {
    /// Controllers of the hierarchy; none for version 2.
    pub controllers: Vec<String>,
    /// The path, seen from the reader's own cgroup namespace.
    pub path: String,
    /// Its directory, where that hierarchy is mounted here.
    pub directory: Option<String>,
}

/// A limit in one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GroupLimit {
    pub file: String,
    /// The limit.
    pub value: u64,
}

/// A line of rdma.max or rdma.current.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RdmaLimit {
    pub file: String,
    /// RDMA device.
    pub device: String,
    /// Open contexts.
    pub handles: Option<LimitValue>,
    /// Queue pairs, memory regions and all other objects together.
    pub objects: Option<LimitValue>,
}

/// Reads the groups of a process.
pub(super) fn read(reader: &mut Reader<'_>, pid: Option<u32>) -> CgroupFacts {
    let path = directory(pid).join("cgroup");
    let text = reader.text(&path).unwrap_or_default();
    let mounts = mounts(reader);
    let mut facts = CgroupFacts::default();
    for (number, line) in text.lines().enumerate() {
        // Hierarchy, controllers, path; the path may have colons.
        let Some((controllers, group)) = line.split_once(':').and_then(|(_, rest)| rest.split_once(':')) else {
            reader.problems.push(ReadError::malformed(&path, &format!("line {}", number + 1), "not a hierarchy, controllers and a path"));
            continue;
        };
        let controllers: Vec<String> = controllers.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        let found = mounts.iter().find(|mount| mount.serves(&controllers)).and_then(|mount| Some((mount, mount.directory(group)?)));
        if let Some((mount, dir)) = &found {
            read_group(reader, &mount.mount_point, dir, &mut facts);
        }
        facts.unit = facts.unit.or_else(|| unit(group));
        let directory = found.map(|(_, dir)| dir.to_string_lossy().into_owned());
        facts.memberships.push(Membership { controllers, path: group.to_owned(), directory });
    }
    facts
}

/// The innermost part of a path that is a unit of services.
fn unit(group: &str) -> Option<String> {
    group.rsplit('/').find(|part| part.ends_with(".service")).map(str::to_owned)
}

/// A mounted hierarchy.
struct Mount {
    root: String,
    mount_point: PathBuf,
    /// Options of version 1, which name the controllers; `None` for version 2.
    options: Option<String>,
}

impl Mount {
    fn serves(&self, controllers: &[String]) -> bool {
        match &self.options {
            None => controllers.is_empty(),
            Some(options) => !controllers.is_empty() && controllers.iter().all(|wanted| options.split(',').any(|option| option == wanted)),
        }
    }

    /// The directory of a group. The mount shows the part of the hierarchy below its own root; a group outside is not visible.
    fn directory(&self, group: &str) -> Option<PathBuf> {
        let below = if self.root == "/" { group } else { group.strip_prefix(&self.root).unwrap_or(group) };
        let below = Path::new(below.trim_start_matches('/'));
        let is_plain = below.components().all(|component| matches!(component, Component::Normal(_)));
        // Joining nothing would leave a slash at the end.
        is_plain.then(|| self.mount_point.components().chain(below.components()).collect())
    }
}

/// Mounts of control groups, from proc_pid_mountinfo(5); the usual ones where that file is absent.
fn mounts(reader: &mut Reader<'_>) -> Vec<Mount> {
    let text = reader.text("/proc/self/mountinfo");
    let mounts: Vec<Mount> = text.as_deref().unwrap_or_default().lines().filter_map(mount).collect();
    if mounts.is_empty() && text.is_none() {
        return vec![Mount { root: "/".to_owned(), mount_point: "/sys/fs/cgroup".into(), options: None }];
    }
    mounts
}

fn mount(line: &str) -> Option<Mount> {
    let (place, kind) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let (root, mount_point) = (place.next()?, place.next()?);
    let mut kind = kind.split(' ');
    let options = match kind.next()? {
        "cgroup2" => None,
        "cgroup" => Some(kind.nth(1)?.to_owned()),
        _ => return None,
    };
    Some(Mount { root: root.to_owned(), mount_point: mount_point.into(), options })
}

/// Limits of a group and those above it, up to the mount.
fn read_group(reader: &mut Reader<'_>, mount_point: &Path, dir: &Path, facts: &mut CgroupFacts) {
    for (depth, dir) in dir.ancestors().take_while(|dir| dir.starts_with(mount_point)).take(DEEPEST).enumerate() {
        let limits = rdma(reader, &dir.join("rdma.max"));
        facts.rdma_limits.extend(limits);
        if depth == 0 {
            let usage = rdma(reader, &dir.join("rdma.current"));
            facts.rdma_usage.extend(usage);
        }
        for name in ["memory.max", "memory.limit_in_bytes"] {
            let path = dir.join(name);
            let limit = reader.parsed(&path, "a number of bytes or max", |text| {
                if text == "max" { Some(LimitValue::Unlimited) } else { text.parse().ok().map(LimitValue::Value) }
            });
            // Version 1 writes the largest number of pages in bytes for no limit (mm/page_counter.c).
            if let Some(value) = limit.and_then(LimitValue::value).filter(|value| *value < 1 << 62) {
                facts.memory_limits.push(GroupLimit { file: path.to_string_lossy().into_owned(), value });
            }
        }
    }
}

/// Lines such as `mlx5_0 hca_handle=2 hca_object=max` (kernel/cgroup/rdma.c).
fn rdma(reader: &mut Reader<'_>, path: &Path) -> Vec<RdmaLimit> {
    let text = reader.attribute(path).unwrap_or_default();
    let mut limits = Vec::new();
    for line in text.lines() {
        let mut fields = line.split_whitespace();
        let Some(device) = fields.next() else { continue };
        let mut limit = RdmaLimit { file: path.to_string_lossy().into_owned(), device: device.to_owned(), handles: None, objects: None };
        for field in fields {
            let (name, value) = field.split_once('=').unwrap_or((field, ""));
            let value = if value == "max" { Some(LimitValue::Unlimited) } else { value.parse().ok().map(LimitValue::Value) };
            match (name, value) {
                ("hca_handle", Some(_)) => limit.handles = value,
                ("hca_object", Some(_)) => limit.objects = value,
                (_, Some(_)) => {}
                (_, None) => reader.problems.push(ReadError::malformed(path, device, format!("{:?} is not a limit", shorten(field)))),
            }
        }
        limits.push(limit);
    }
    limits
}
