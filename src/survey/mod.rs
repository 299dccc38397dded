//! Finds out what is known of one host: live, below another root, modelled or captured. Nothing here prints or judges.

mod answers;
mod at_once;
mod attempts;
mod facts;
mod gpus;
mod host;
mod measure;
mod memory;
mod pairs;
mod queue_pairs;
mod serve;

use std::time::{Duration, Instant};

pub(crate) use at_once::at_once;
pub(crate) use attempts::{Attempts, Tried};
pub(crate) use facts::Look;
pub use gpus::collect as gpus;
pub(crate) use gpus::{GpuTried, GpusTried};
pub use host::Host;
pub(crate) use host::{Kind, Options, SurveyError};
pub(crate) use measure::{Onlooker, bandwidth, latency};
pub(crate) use memory::{on_devices as host_memory, spare_bytes};
pub(crate) use pairs::pairs;

/// Told what is under way.
pub(crate) type Say<'a> = &'a mut dyn FnMut(&str);

/// What is left until then for one of `count`: a slow one does not take the others' time.
pub(crate) fn share(deadline: Instant, count: usize) -> Duration {
    deadline.saturating_duration_since(Instant::now()) / u32::try_from(count).unwrap_or(1).max(1)
}
