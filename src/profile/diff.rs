//! Two profiles, entry by entry.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Profile;
use super::entries::{Entry, entries};
use crate::schema;

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
    pub entry: String,
    /// In the first file; absent where it is not there.
    pub a: Option<String>,
    /// In the second file.
    pub b: Option<String>,
}

/// From which part of the larger one on two figures differ: repeats on an idle host come closer.
const APART: f64 = 0.2;

/// Compares values; evidence and times do not count, nor do figures that are about the same.
#[must_use]
pub fn diff((a_name, a): (&str, &Profile), (b_name, b): (&str, &Profile)) -> ProfileDiff {
    let (left, right) = (entries(a), entries(b));
    let find = |list: &[Entry], path: &str| list.iter().find(|entry| entry.path == path).cloned();
    let mut paths: Vec<&str> = left.iter().map(|entry| entry.path.as_str()).collect();
    paths.extend(right.iter().map(|entry| entry.path.as_str()).filter(|path| left.iter().all(|entry| entry.path != *path)));
    let differences = paths
        .into_iter()
        .map(|path| (path, find(&left, path), find(&right, path)))
        .filter(|(_, a, b)| differ(a.as_ref(), b.as_ref()))
        .map(|(path, a, b)| Difference { entry: path.to_owned(), a: a.map(|entry| entry.value), b: b.map(|entry| entry.value) })
        .collect();
    ProfileDiff { schema: schema::PROFILE_DIFF.to_owned(), a: a_name.to_owned(), b: b_name.to_owned(), differences }
}

fn differ(a: Option<&Entry>, b: Option<&Entry>) -> bool {
    match (a, b) {
        (Some(Entry { figure: Some(a), .. }), Some(Entry { figure: Some(b), .. })) => (a - b).abs() > APART * a.abs().max(b.abs()),
        (a, b) => a.map(|entry| &entry.value) != b.map(|entry| &entry.value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Measurement;

    #[test]
    fn figures_that_are_about_the_same_are_no_difference() {
        let profile = |rate: f64| {
            let mut profile = crate::profile::read::tests::sound();
            profile.devices[0].measurements = vec![Measurement {
                op: "write".to_owned(),
                memory: "host".to_owned(),
                size_bytes: 65536,
                queue_pairs: 1,
                bytes_per_second: Some(rate),
                p50_us: None,
                p99_us: None,
                verified: true,
                evidence: "e1".to_owned(),
            }];
            profile
        };
        let differences = |a: f64, b: f64| diff(("a", &profile(a)), ("b", &profile(b))).differences;
        assert_eq!(differences(10e9, 9e9), []);
        // A fifth of the larger one, whichever it is, is still the same.
        assert_eq!((differences(10e9, 8e9).len(), differences(8e9, 10e9).len()), (0, 0));
        assert_eq!((differences(10e9, 7.99e9).len(), differences(7.99e9, 10e9).len()), (1, 1));
        let found = differences(10e9, 5e9);
        assert_eq!(found[0].entry, "devices/mlx5_0/1/measurements/throughput/write/host/65536x1");
        assert_eq!(found[0].b.as_deref(), Some("5000000000 bytes/s"));
    }
}
