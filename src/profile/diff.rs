//! Two profiles, entry by entry.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Profile;
use super::entries::entries;

/// The document of `profile diff`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProfileDiff {
    /// `rdmadoctor/profile-diff/1`.
    pub schema: String,
    /// The first file.
    pub a: String,
    /// The second file.
    pub b: String,
    /// What differs, in the order of the first file.
    pub differences: Vec<Difference>,
}

/// An entry that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    /// Which.
    pub entry: String,
    /// In the first file; absent where it is not there.
    pub a: Option<String>,
    /// In the second file.
    pub b: Option<String>,
}

/// Compares values; evidence and times do not count.
#[must_use]
pub fn diff((a_name, a): (&str, &Profile), (b_name, b): (&str, &Profile)) -> ProfileDiff {
    let (left, right) = (entries(a), entries(b));
    let value = |list: &[super::entries::Entry], path: &str| list.iter().find(|entry| entry.path == path).map(|entry| entry.value.clone());
    let mut paths: Vec<&str> = left.iter().map(|entry| entry.path.as_str()).collect();
    paths.extend(right.iter().map(|entry| entry.path.as_str()).filter(|path| left.iter().all(|entry| entry.path != *path)));
    let differences = paths
        .into_iter()
        .map(|path| Difference { entry: path.to_owned(), a: value(&left, path), b: value(&right, path) })
        .filter(|difference| difference.a != difference.b)
        .collect();
    ProfileDiff { schema: "rdmadoctor/profile-diff/1".to_owned(), a: a_name.to_owned(), b: b_name.to_owned(), differences }
}
