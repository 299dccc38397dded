//! The transfer profile of a host: proven values, what they depend on, and how engines take them.

mod document;

#[cfg(feature = "doctor")]
mod assemble;
#[cfg(feature = "doctor")]
mod diff;
#[cfg(feature = "doctor")]
mod entries;
#[cfg(feature = "doctor")]
mod evidence;
#[cfg(feature = "doctor")]
pub mod export;
#[cfg(feature = "doctor")]
mod make;
#[cfg(feature = "doctor")]
mod measured;
#[cfg(feature = "doctor")]
mod read;
#[cfg(feature = "doctor")]
mod save;
#[cfg(feature = "doctor")]
mod seen;
#[cfg(feature = "doctor")]
mod stale;
#[cfg(feature = "doctor")]
mod trial;

#[cfg(feature = "doctor")]
pub use assemble::Material;
#[cfg(feature = "doctor")]
pub use diff::{Difference, ProfileDiff, diff};
pub use document::*;
#[cfg(feature = "doctor")]
pub use make::{make, now};
#[cfg(feature = "doctor")]
pub use measured::{Effort, Measured, Unmeasured, measure};
#[cfg(feature = "doctor")]
pub use read::ProfileError;
#[cfg(feature = "doctor")]
pub use save::{DEFAULT_FILE, SaveError, save};
#[cfg(feature = "doctor")]
pub use seen::Seen;
#[cfg(feature = "doctor")]
pub use stale::{Changed, Now, ProfileCheck, Stale, check};
#[cfg(feature = "doctor")]
pub use trial::Tried;
