//! Finds out what is known of one host: live, below another root, modelled or captured. Nothing here prints or judges.

mod at_once;
mod gpus;
mod host;
mod measure;
mod memory;

pub use at_once::at_once;
pub use gpus::collect as gpus;
pub use host::{Host, Kind, Options, Reader, SurveyError};
pub use measure::{Onlooker, bandwidth, latency};
pub use memory::{gpu as try_gpu_memory, host as try_host_memory, most_bytes, spare_bytes};
