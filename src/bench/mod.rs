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

pub use address::common_pkey;
pub use causes::{Bears, Known, bears, explain};
pub use counters::{
    Carried, CountUnit, Counted, CounterEvidence, CounterKeeper, Direction, Flow, HostSide, PortOf, Reading, Snapshot, Watched, Way, Ways,
};
pub use document::{
    AtOnce, BandwidthResult, Bench, Buffer, ConnectionReport, CounterDelta, EndReport, FailureReport, LatencyResult, Listening, Notice,
    OrderingResult, Share, StagedReport, TogetherResult, Verification,
};
pub use end::Hosts;
pub use judge::judge_together;
pub use loopback::LoopbackHooks;
pub use measure::{Done, Measurement, measure};
pub use measured::{LoopbackReport, PathLimit};
pub use ordering::order;
pub use pair::{EndChoice, Pair};
pub use pairs::{PairCell, Pairs};
pub use plan::{Obstacle, Plan, plan};
pub use request::{PeerAddress, Request};
pub use settings::Settings;
pub use side::{BenchError, Side, Who};
pub(crate) use simulated::out_of_reach;
pub use statistics::{Latencies, Spread};
pub use together::{Lane, together};
