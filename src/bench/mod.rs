//! `ping` and `bw`: two ends of connections, what is chosen for them, what is measured, and what it means.

mod address;
mod causes;
mod counters;
mod document;
mod end;
mod judge;
mod loopback;
mod measure;
mod measured;
mod ordering;
mod pair;
mod pairs;
pub mod peer;
mod plan;
mod ramp;
mod request;
mod runs;
mod settings;
mod side;
mod simulated;
mod staged;
mod statistics;
mod together;
mod verify;

pub(crate) use address::common_pkey;
pub(crate) use causes::{Hints, Relevance, bears, explain};
pub(crate) use counters::Carried;
#[cfg(test)]
pub(crate) use counters::{CountUnit, Direction};
pub use counters::{CounterKeeper, Flow, HostSide, PortOf, Route, Routes, Snapshot, Watched};
pub use document::BenchReport;
pub(crate) use document::{
    AtOnce, BandwidthResult, Buffer, ConnectionReport, CounterDelta, EndReport, FailureReport, LatencyResult, Listening, Notice,
    OrderingResult, StagedReport, Verification,
};
pub(crate) use end::Hosts;
pub(crate) use judge::judge_together;
pub(crate) use loopback::LoopbackHooks;
pub(crate) use measure::{Done, Measurement, measure};
pub(crate) use measured::{LoopbackReport, PathLimit};
pub(crate) use ordering::order;
pub use pair::{EndChoice, Pair};
pub(crate) use pairs::{PairCell, Pairs};
pub use plan::plan;
pub(crate) use plan::{Obstacle, Plan};
pub(crate) use request::PeerAddress;
pub use request::Request;
pub(crate) use settings::Settings;
pub use side::{BenchError, Endpoint, Who};
pub(crate) use simulated::out_of_reach;
pub(crate) use statistics::{Latencies, Spread};
pub(crate) use together::{Lane, together};
