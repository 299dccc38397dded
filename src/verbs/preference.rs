//! Which entry of a GID table to use. Profiles, measurements, checks and the connection of a queue pair with itself all take this order.

/// How good an entry is: the smaller the better. RoCE v2 comes before entries without a type, and those before v1, because v1 is not
/// routed; then IPv4-mapped, global and link-local addresses, as engines choose (DLSlime and NCCL take the first IPv4-mapped RoCE v2
/// entry); then entries with a network interface, because the kernel keeps those of interfaces that have gone for a while; then the
/// lowest index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct GidPreference {
    /// What two ends have to agree in before anything else counts: type, and scope.
    pub grade: (u8, u8),
    /// Whether no network interface has it.
    pub lacks_netdev: bool,
    /// Its place in the table.
    pub index: u32,
}

impl GidPreference {
    /// Of an entry: its type, scope and network interface as far as they are known, and its index.
    #[must_use]
    pub fn of(kind: Option<&str>, scope: &str, netdev: Option<&str>, index: u32) -> Self {
        let kind = match kind {
            Some("RoCE v2") => 0,
            None => 1,
            Some(_) => 2,
        };
        let scope = match scope {
            "ipv4" => 0,
            "global" => 1,
            "link_local" => 2,
            _ => 3,
        };
        Self { grade: (kind, scope), lacks_netdev: netdev.is_none(), index }
    }

    /// Whether it is a RoCE v2 address that routers pass on.
    #[must_use]
    pub fn is_routable(self) -> bool {
        self.grade.0 == 0 && self.grade.1 <= 1
    }
}
