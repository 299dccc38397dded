//! Limits of this very process, as procfs shows them.

use crate::host::limits::process::ProcessFacts;
use crate::host::{self, Root};

/// Limits of this process on locked memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HostLimits {
    /// RLIMIT_MEMLOCK, soft, in bytes; `None` where it is unlimited or not known.
    pub memlock_soft_bytes: Option<u64>,
    /// Whether CAP_IPC_LOCK is effective, which lifts that limit.
    pub ipc_lock: bool,
}

impl HostLimits {
    /// The limit in force on locked memory, in bytes.
    #[must_use]
    pub fn memlock_bytes(self) -> Option<u64> {
        if self.ipc_lock { None } else { self.memlock_soft_bytes }
    }
}

/// Reads RLIMIT_MEMLOCK and CAP_IPC_LOCK of this process, of a modelled host as well. What cannot be read counts as no limit: no blame
/// without evidence.
#[must_use]
pub fn read(root: &Root) -> HostLimits {
    HostLimits::from_process(&host::limits::read_own(root))
}

impl HostLimits {
    /// The limits among what is known of a process.
    #[must_use]
    pub fn from_process(process: &ProcessFacts) -> Self {
        Self {
            memlock_soft_bytes: process.memlock().and_then(|limit| limit.soft.value()),
            // Without evidence that the capability is missing, the limit is not blamed.
            ipc_lock: process.has_ipc_lock().unwrap_or(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::host::Node;

    fn limits(soft: &str, effective: Option<&str>) -> HostLimits {
        let limits = format!(
            "Limit  Soft Limit  Hard Limit  Units\nMax locked memory         {soft}                unlimited            bytes     \n"
        );
        let mut nodes = BTreeMap::from([("/proc/self/limits".into(), Node::text(&limits))]);
        if let Some(effective) = effective {
            let status: String = ["Eff", "Prm", "Inh", "Bnd"].map(|set| format!("Cap{set}:\t{effective}\n")).concat();
            nodes.insert("/proc/self/status".into(), Node::text(&status));
        }
        HostLimits::from_process(&host::limits::read_own(&Root::tree(nodes)))
    }

    #[test]
    fn the_limit_in_force_is_told() {
        let root = limits("65536", Some("000001ffffffffff"));
        assert_eq!((root.memlock_soft_bytes, root.ipc_lock, root.memlock_bytes()), (Some(65536), true, None));
        assert_eq!(limits("65536", Some("0000000000000000")).memlock_bytes(), Some(65536));
        assert_eq!(limits("unlimited", Some("0")).memlock_bytes(), None);
        assert_eq!(limits("65536", None).memlock_bytes(), None);
    }
}
