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
pub use diff::{Difference, ProfileDiff, diff};
pub(crate) use examine::{Examination, engines};
use make::make;
pub(crate) use make::now;
use measured::{Effort, measure};
pub use measured::{Measured, Unmeasured};
pub use rdmadoctor_types::profile::*;
pub use read::{ProfileError, load, parse};
pub(crate) use save::place;
pub use save::{DEFAULT_FILE, SaveError, save, to_yaml};
pub use seen::Seen;
pub use stale::{Changed, ProfileCheck, Stale, decisive};
use stale::{Now, check, connected};
pub(crate) use validation::{ProfileValidation, ValidatedFile};
