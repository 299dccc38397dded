//! Limits of this very process, as procfs shows them.

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

/// CAP_IPC_LOCK, capabilities(7).
const CAP_IPC_LOCK: u32 = 14;

/// Reads RLIMIT_MEMLOCK and CAP_IPC_LOCK of this process. What cannot be read counts as no limit: no blame without evidence.
#[must_use]
pub fn read() -> HostLimits {
    let file = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
    parse(&file("limits"), &file("status"))
}

fn parse(limits: &str, status: &str) -> HostLimits {
    let memlock_soft_bytes = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max locked memory"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|soft| soft.parse().ok());
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hexadecimal| u64::from_str_radix(hexadecimal.trim(), 16).ok());
    // Without evidence that the capability is missing, the limit is not blamed.
    HostLimits { memlock_soft_bytes, ipc_lock: effective.is_none_or(|bits| bits >> CAP_IPC_LOCK & 1 == 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_procfs_writes_them() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \nMax locked memory         65536                unlimited            bytes     \n";
        let root = parse(limits, "CapEff:\t000001ffffffffff\n");
        assert_eq!((root.memlock_soft_bytes, root.ipc_lock), (Some(65536), true));
        let user = parse(limits, "CapEff:\t0000000000000000\n");
        assert_eq!(user.memlock_bytes(), Some(65536));
        assert_eq!(parse(&limits.replace("65536", "unlimited"), "CapEff:\t0\n").memlock_bytes(), None);
        assert_eq!(parse("", "").memlock_bytes(), None);
    }
}
