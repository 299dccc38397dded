//! What has to be touched to add a thing, counted on the things that are there: docs/architecture.md says the same in words.
//!
//! That a family, an engine, a device model and a host need one file and no build is shown by tests/catalog.rs, which adds one of each.

use std::fs;
use std::path::Path;

/// Source files without their tests: path below the root, and text.
fn sources() -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut directories = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().to_str().unwrap().to_owned();
            let is_test = name.ends_with("tests.rs") || name.ends_with("/tests");
            if path.is_dir() && !is_test {
                directories.push(path);
            } else if name.ends_with(".rs") && !is_test {
                let text = fs::read_to_string(path).unwrap();
                let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
                let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
                files.push((name, lines.collect::<Vec<_>>().join("\n")));
            }
        }
    }
    files.sort();
    files
}

/// The files that have a text.
fn with<'a>(sources: &'a [(String, String)], text: &str) -> Vec<&'a str> {
    sources.iter().filter(|(_, code)| code.contains(text)).map(|(name, _)| name.as_str()).collect()
}

/// Names of the files of a directory, without the ending.
fn names(directory: &str, ending: &str) -> Vec<String> {
    let files = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(directory)).unwrap();
    let mut names: Vec<String> =
        files.filter_map(|file| Some(file.unwrap().file_name().to_str()?.strip_suffix(ending)?.to_owned())).collect();
    names.sort();
    names
}

#[test]
fn a_check_is_a_page_a_row_in_one_file_and_a_test() {
    let sources = sources();
    let text = |file: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let tests = ["tests.rs", "tests/wounds.rs", "measured_tests.rs"].map(|file| text(&format!("src/checks/{file}"))).concat();
    let ids: Vec<String> = names("docs/checks", ".md").into_iter().filter(|name| name.starts_with("RD-")).collect();
    assert!(ids.len() > 100, "{ids:?}");
    for id in ids {
        assert_eq!(with(&sources, &format!("page(\"{id}\")")).len(), 1, "{id}");
        assert!(tests.contains(&id), "{id} has no sick host");
    }
}

#[test]
fn an_exporter_is_a_file_a_row_and_a_line_of_the_manual() {
    let sources = sources();
    let manual = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/profile.md")).unwrap();
    let exporters: Vec<&str> = with(&sources, "fn export(context: &Context<'_>");
    assert!(exporters.len() > 10, "{exporters:?}");
    for file in exporters {
        let name = Path::new(file).file_stem().unwrap().to_str().unwrap();
        assert_eq!(with(&sources, &format!("{name}::export")), ["src/profile/export/mod.rs"], "{name}");
        assert!(manual.contains(name), "docs/profile.md has no {name}");
    }
}

#[test]
fn a_format_is_a_file_and_its_name() {
    let sources = sources();
    for name in ["csv", "github", "junit", "markdown", "prometheus"] {
        let variant = format!("{}{}", name[..1].to_uppercase(), &name[1..]);
        let named = sources.iter().filter(|(_, code)| code.split(|letter: char| !letter.is_alphanumeric()).any(|word| word == variant));
        let own = format!("src/report/{name}.rs");
        let others: Vec<&str> = named.map(|(file, _)| file.as_str()).filter(|file| *file != own).collect();
        assert_eq!(others, ["src/report/mod.rs"], "{name}");
    }
}

#[test]
fn an_engine_is_named_by_its_file_and_its_exporter_alone() {
    let sources = sources();
    for engine in names("profiles/engines", ".yaml") {
        let named = with(&sources, &format!("\"{engine}\""));
        let others: Vec<&str> = named.into_iter().filter(|file| !file.starts_with("src/profile/export/")).collect();
        assert!(others.is_empty(), "{engine}: {others:?}");
    }
}

/// Where a rule is about one family, and none other has the like: nothing to be touched for a new family.
const OF_ONE_FAMILY: [(&str, &str); 5] = [
    // The parameter compat_mode of its module (RD-0210).
    ("src/checks/modules/condition.rs", "erdma"),
    // libefa's own call to make a queue pair.
    ("src/sim/queues.rs", "efa"),
    // libmlx5's own call to register memory of a GPU, and what it needs.
    ("src/sim/memory.rs", "mlx5"),
    ("src/checks/gpus/prerequisites.rs", "mlx5"),
    // UCX drops datagrams of Soft-RoCE unless told otherwise (unchecked_addresses).
    ("src/profile/export/ucx.rs", "rxe"),
];

#[test]
fn a_family_is_named_by_its_file_alone() {
    let sources = sources();
    for family in names("profiles/families", ".yaml") {
        let named = with(&sources, &format!("\"{family}\""));
        let others: Vec<&&str> = named.iter().filter(|file| !OF_ONE_FAMILY.contains(&(**file, family.as_str()))).collect();
        assert!(others.is_empty(), "{family}: {others:?}");
    }
}
