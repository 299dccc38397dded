//! The transfer profile of a host: proven values, what they depend on, and how engines take them.

mod again;
mod assemble;
mod diff;
mod entries;
mod evidence;
mod examine;
pub mod export;
mod make;
mod measured;
mod read;
mod save;
mod seen;
mod stale;
mod trial;
mod validation;

pub(crate) use again::{compare, of_this_host};
use assemble::Material;
pub(crate) use diff::ProfileDiff;
pub use diff::diff;
pub(crate) use examine::{Examination, engines};
use make::make;
pub(crate) use make::now;
use measured::{Effort, measure};
pub(crate) use measured::{Measured, Unmeasured};
pub use rdmadoctor_types::profile::*;
pub(crate) use read::ProfileError;
pub use read::{load, parse};
pub(crate) use save::DEFAULT_FILE;
pub(crate) use save::place;
pub use save::{save, to_yaml};
pub use seen::HostSnapshot;
pub use stale::decisive;
use stale::{Now, check, connected};
pub(crate) use stale::{ProfileCheck, Stale};
pub(crate) use validation::{ProfileValidation, ValidatedFile};
