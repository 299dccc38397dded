//! Files that a user or a stranger names: read within bounds, written whole.

mod read;
mod weigh;
mod write;

pub(crate) use read::{Input, bytes, give_up_when};
pub(crate) use weigh::{is_too_heavy, weigh};
pub(crate) use write::{Existing, WriteError, is_descriptor, write};
