//! What bounds a process that registers memory and makes queue pairs: resource limits, capabilities, control groups, and the files that
//! give services and logins theirs.

pub(crate) mod cgroup;
pub(crate) mod container;
pub(crate) mod process;
pub(crate) mod service;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::cgroup::CgroupFacts;
use self::container::ContainerFacts;
use self::process::ProcessFacts;
use self::service::ServiceFacts;
use super::reader::Reader;
use super::{ReadError, Root};

#[cfg(test)]
#[cfg(test)]
pub(crate) use process::ResourceLimit;
pub(crate) use process::{Capabilities, LimitValue};

/// What bounds processes on a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LimitsFacts {
    /// This process.
    pub own: ProcessFacts,
    /// Its control groups.
    pub own_cgroup: CgroupFacts,
    /// The process that was asked for.
    pub process: Option<ProcessFacts>,
    /// Its control groups.
    pub process_cgroup: Option<CgroupFacts>,
    /// What services and logins will get.
    pub services: ServiceFacts,
    pub container: ContainerFacts,
    /// What could not be read or understood.
    pub problems: Vec<ReadError>,
}

/// Reads them: of this process, and of the one that is asked for.
#[must_use]
pub fn read(root: &Root, pid: Option<u32>) -> LimitsFacts {
    let mut reader = Reader::new(root);
    let own = process::read(&mut reader, None);
    let own_cgroup = cgroup::read(&mut reader, None);
    let process = pid.map(|pid| process::read(&mut reader, Some(pid)));
    let process_cgroup = pid.map(|pid| cgroup::read(&mut reader, Some(pid)));
    let asked = process_cgroup.as_ref().and_then(|cgroup| cgroup.unit.clone());
    let services = service::read(&mut reader, asked.as_deref());
    let container = container::read(&mut reader);
    LimitsFacts { own, own_cgroup, process, process_cgroup, services, container, problems: reader.problems }
}

/// Reads the limits of this process alone.
#[must_use]
pub fn read_own(root: &Root) -> ProcessFacts {
    process::read(&mut Reader::new(root), None)
}

/// Reads the control groups of this process alone.
#[must_use]
pub fn read_own_cgroup(root: &Root) -> CgroupFacts {
    cgroup::read(&mut Reader::new(root), None)
}

#[cfg(test)]
#[path = "../limits_tests.rs"]
mod tests;
