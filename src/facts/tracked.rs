//! Facts that remember who looked at them: a check that looked at a part which could not be read has no verdict.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::devices::Devices;
use crate::host::part::{OfPart, Part};
use crate::host::topo::Topology;

thread_local! {
    static SEEN: Cell<u32> = const { Cell::new(0) };
}

/// Facts that are made of some parts of the host's files.
pub trait MadeOf {
    /// The parts.
    const PARTS: &'static [Part];
}

impl<T: OfPart> MadeOf for T {
    const PARTS: &'static [Part] = &[T::PART];
}

impl MadeOf for Topology {
    const PARTS: &'static [Part] = &[Part::Pcie, Part::Rdma, Part::System];
}

impl MadeOf for Devices {
    const PARTS: &'static [Part] = &[Part::Rdma];
}

/// Facts behind a note of who looks at them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(transparent)]
pub struct Tracked<T>(T);

impl<T> From<T> for Tracked<T> {
    fn from(facts: T) -> Self {
        Self(facts)
    }
}

impl<T: MadeOf> Deref for Tracked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        let bits = T::PARTS.iter().fold(0, |bits, part| bits | 1 << *part as u32);
        SEEN.set(SEEN.get() | bits);
        &self.0
    }
}

impl<T: MadeOf> DerefMut for Tracked<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// What `look` gives, and a test for the parts that it looked at.
pub fn watched<R>(look: impl FnOnce() -> R) -> (R, impl Fn(Part) -> bool) {
    let before = SEEN.replace(0);
    let result = look();
    let seen = SEEN.replace(before);
    (result, move |part| seen & 1 << part as u32 != 0)
}
