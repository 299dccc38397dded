//! States and kinds that several documents name.

use serde::{Deserialize, Serialize};

crate::words! {
    /// State of a port.
    #[derive(Default, Serialize, Deserialize)]
    #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
    #[serde(rename_all = "snake_case")]
    pub enum PortState {
        /// No link.
        Down = "down",
        /// Link, but no subnet manager has configured it.
        Init = "init",
        /// Configured, not yet active.
        Armed = "armed",
        /// In use.
        #[default]
        Active = "active",
    }
}

impl PortState {
    /// The code of `enum ibv_port_state`.
    #[must_use]
    pub fn code(self) -> u32 {
        self as u32 + 1
    }
}

crate::words! {
    /// `enum ibv_node_type`.
    #[derive(Serialize, Deserialize)]
    #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
    #[serde(rename_all = "snake_case")]
    pub enum NodeType {
        /// A channel adapter: InfiniBand and RoCE.
        ChannelAdapter = "CA",
        /// An iWARP adapter.
        Rnic = "RNIC",
        /// Neither, as EFA.
        Unspecified = "unspecified",
    }
}

impl NodeType {
    /// The code of `enum ibv_node_type`.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Self::ChannelAdapter => 1,
            Self::Rnic => 4,
            Self::Unspecified => 7,
        }
    }

    /// The one of a code.
    #[must_use]
    pub fn of(code: impl TryInto<i32>) -> Option<Self> {
        let code = code.try_into().ok()?;
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

crate::words! {
    /// Link layer of a port.
    #[derive(Serialize, Deserialize)]
    #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
    #[serde(rename_all = "snake_case")]
    pub enum LinkLayer {
        /// InfiniBand.
        Infiniband = "InfiniBand",
        /// Ethernet.
        Ethernet = "Ethernet",
        /// Not told.
        Unspecified = "Unspecified",
    }
}

impl LinkLayer {
    /// The code of `IBV_LINK_LAYER_*`.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Unspecified => 0,
            Self::Infiniband => 1,
            Self::Ethernet => 2,
        }
    }
}

crate::words! {
    /// What a device speaks.
    pub enum Transport {
        /// RDMA over Converged Ethernet.
        Roce = "RoCE",
        /// InfiniBand.
        Infiniband = "InfiniBand",
        /// iWARP, whose connections rdma_cm makes.
        Iwarp = "iWARP",
        /// None of these, as EFA.
        Unspecified = "unspecified",
    }
}

crate::words! {
    /// State of a queue pair, as `enum ibv_qp_state`.
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "UPPERCASE")]
    #[allow(missing_docs, reason = "the names are those of ibv_modify_qp(3)")]
    pub enum QpState {
        Reset = "RESET",
        Init = "INIT",
        Rtr = "RTR",
        Rts = "RTS",
        Sqd = "SQD",
        Sqe = "SQE",
        #[serde(rename = "ERR")]
        Error = "ERR",
    }
}

impl QpState {
    /// The code of `enum ibv_qp_state`.
    #[must_use]
    pub fn code(self) -> u32 {
        self as u32
    }

    /// The state of a code, if it is one.
    #[must_use]
    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.code() == code)
    }
}

crate::words! {
    /// What came of a request, in a word.
    pub enum OutcomeKind {
        /// The queue pair was made.
        Granted = "granted",
        /// A call refused it.
        Refused = "refused",
        /// The process died in it.
        Crashed = "crashed",
        /// It did not come back in time.
        Hung = "hung",
        /// It was not tried.
        NotRun = "not_run",
    }
}
