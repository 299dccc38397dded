//! The transfer profile of a host: proven values, what they depend on, and how engines take them.

mod assemble;
mod diff;
mod entries;
mod evidence;
pub mod export;
mod make;
mod measured;
mod read;
mod save;
mod seen;
mod stale;
mod trial;
mod validation;

pub use assemble::Material;
pub use diff::{Difference, ProfileDiff, diff};
pub use make::{make, now};
pub use measured::{Effort, Measured, Unmeasured, measure};
pub use rdmadoctor_types::profile::*;
pub use read::{ProfileError, load, parse};
pub use save::{DEFAULT_FILE, SaveError, save, to_yaml};
pub use seen::Seen;
pub use stale::{Changed, Now, ProfileCheck, Stale, check, connected, decisive};
pub use trial::Tried;
pub(crate) use validation::{ProfileValidation, ValidatedFile};
