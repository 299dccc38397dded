//! The texts of checks: `docs/checks/RD-XXXX.md`, which build.rs reads.

use super::{Category, Level};

include!(concat!(env!("OUT_DIR"), "/check_pages.rs"));

/// What `docs/checks` says of a check.
#[derive(Debug)]
pub struct Page {
    /// `RD-` and four digits, never used again for anything else.
    pub id: &'static str,
    /// What holds where all is well.
    pub title: &'static str,
    /// What the check is about.
    pub category: Category,
    /// How much effort it takes.
    pub level: Level,
    pub(super) why: &'static str,
    pub(super) confirm: &'static str,
    pub(super) remedy: &'static str,
    pub(super) sources: &'static [&'static str],
}

/// The page of a check, found while the program is compiled: a check without one is no program.
pub(super) const fn page(id: &str) -> &'static Page {
    let mut index = 0;
    while index < PAGES.len() {
        if is_same(PAGES[index].id.as_bytes(), id.as_bytes()) {
            return &PAGES[index];
        }
        index += 1;
    }
    panic!("a check has no page in docs/checks")
}

/// `==` of text is not for constants yet.
const fn is_same(one: &[u8], other: &[u8]) -> bool {
    let mut index = 0;
    while index < one.len() && index < other.len() && one[index] == other[index] {
        index += 1;
    }
    index == one.len() && index == other.len()
}
