//! `ping` and `bw`: two ends of connections, what is chosen for them, what is measured, and what it means.

mod address;
mod causes;
mod counters;
mod document;
mod measure;
mod pair;
pub mod peer;
mod settings;
mod side;
mod statistics;
mod together;
mod verify;

pub use address::{Choice, choose, common_pkey};
pub use causes::{Bears, Known, bears, explain};
pub use counters::Watched;
pub use document::{
    AtOnce, BandwidthResult, Bench, Buffer, ConnectionReport, CounterDelta, EndReport, FailureReport, LatencyResult, Listening, Notice,
    Share, TogetherResult, Verification,
};
pub use measure::{Done, Measurement, measure};
pub use pair::{EndChoice, Pair};
pub use settings::Settings;
pub use side::{BenchError, Side, Who};
pub use statistics::{Latencies, Spread};
pub use together::{Lane, together};
