//! The shipped packages: their licences, how many there are, and which are there twice. What cargo knows is enough; no network is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Licences that may be in the program. An expression passes where one of its alternatives does.
const ALLOWED: [&str; 5] = ["MIT", "Apache-2.0", "ISC", "BSD-3-Clause", "Unicode-3.0"];

/// Packages that the program may be made of at most, its own included.
const MOST: usize = 150;

/// `NAME VERSION` and licence of each package that is built into the program on Linux.
fn packages() -> BTreeMap<String, String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--edges", "normal", "--prefix", "none", "--format", "{p}|{l}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().filter(|line| !line.ends_with("(*)"));
    lines
        .filter_map(|line| line.split_once('|'))
        .map(|(package, licence)| (package.split(' ').take(2).collect::<Vec<_>>().join(" "), licence.to_owned()))
        .collect()
}

fn is_allowed(expression: &str) -> bool {
    // `/` is how old manifests write OR. Each part that is joined by AND needs an alternative that is allowed; the tree has no deeper ones.
    let parts = expression.replace('/', " OR ");
    parts.split(" AND ").all(|part| part.trim_matches(['(', ')']).split(" OR ").any(|licence| ALLOWED.contains(&licence.trim())))
}

#[test]
fn licences_are_allowed() {
    // rdma-sys names none in its manifest; its LICENSE file is the MIT licence.
    let is_wrong = |package: &str, licence: &str| !is_allowed(licence) && !package.starts_with("rdma-sys ");
    let wrong: Vec<_> = packages().into_iter().filter(|(package, licence)| is_wrong(package, licence)).collect();
    assert!(wrong.is_empty(), "licences that nobody has looked at: {wrong:?}");
}

#[test]
fn the_tree_stays_small() {
    let packages = packages();
    assert!(packages.len() <= MOST, "{} packages", packages.len());
}

#[test]
fn what_is_there_twice_is_known() {
    let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in packages().into_keys() {
        let (name, version) = package.split_once(' ').unwrap();
        names.entry(name.to_owned()).or_default().insert(version.to_owned());
    }
    let twice: Vec<&String> = names.iter().filter(|(_, versions)| versions.len() > 1).map(|(name, _)| name).collect();
    // syn of two generations is in macros only; rdma-sys still wants an old memoffset, nvml-wrapper old ones of libloading and thiserror; spake2
    // wants a sha2, and what that is made of, of one generation before lzma-rust2's.
    let of_sha2 = ["block-buffer", "cpufeatures", "crypto-common", "digest", "sha2"];
    let others = ["libloading", "memoffset", "syn", "thiserror", "thiserror-impl"];
    assert_eq!(twice, of_sha2[..4].iter().chain(&others[..2]).chain(&of_sha2[4..]).chain(&others[2..]).collect::<Vec<_>>());
}
