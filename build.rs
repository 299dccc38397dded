//! Stops a build without the set-up at once, with the command that mends it: it needs little, so it runs long before the build script of
//! rdma-sys would panic for want of libclang or of the verbs headers. Then makes constants of the files in `profiles/`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "build/families.rs"]
mod families;

fn main() {
    check_set_up();
    embed_profiles();
    embed_pages();
    write("families.rs", &families::constants(&yaml_files("profiles/families")));
}

/// The files of a directory, in the order of their names without the ending.
fn yaml_files(directory: &str) -> Vec<PathBuf> {
    println!("cargo::rerun-if-changed={directory}");
    let root = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let mut files: Vec<_> = std::fs::read_dir(Path::new(&root).join(directory))
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort_by(|left, right| left.file_stem().cmp(&right.file_stem()));
    files
}

fn write(name: &str, text: &str) {
    let out = std::env::var("OUT_DIR").expect("cargo sets it");
    std::fs::write(Path::new(&out).join(name), text).expect("OUT_DIR is writable");
}

/// Lists the files of `profiles/` in constants of (name, text), so that a new file needs no line of code.
fn embed_profiles() {
    let mut constants = String::new();
    for (constant, kind) in
        [("FAMILY_FILES", "families"), ("DEVICES", "devices"), ("ENGINES", "engines"), ("HOSTS", "hosts"), ("TEMPLATES", "templates")]
    {
        let directory = format!("profiles/{kind}");
        writeln!(constants, "/// Embedded files of `{directory}`: name and text.\npub(crate) const {constant}: &[(&str, &str)] = &[")
            .unwrap();
        for file in yaml_files(&directory) {
            let name = format!("{directory}/{}", file.file_name().unwrap_or_default().to_string_lossy());
            writeln!(constants, "    ({name:?}, include_str!({file:?})),").unwrap();
        }
        constants.push_str("];\n");
    }
    write("embedded.rs", &constants);
}

/// Writes the pages of `docs/checks` as a constant, so that nothing is parsed when the program runs.
fn embed_pages() {
    const DIRECTORY: &str = "docs/checks";
    println!("cargo::rerun-if-changed={DIRECTORY}");
    let mut pages: Vec<(String, String)> = std::fs::read_dir(DIRECTORY)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let id = path.file_name()?.to_str()?.strip_suffix(".md")?.to_owned();
            Some((id, std::fs::read_to_string(&path).ok()?)).filter(|(id, _)| id.starts_with("RD-"))
        })
        .collect();
    pages.sort();
    let mut constant = "/// Every page, by id.\npub(super) const PAGES: &[Page] = &[\n".to_owned();
    for (id, text) in pages {
        match page(&id, &text) {
            Ok(page) => constant += &page,
            Err(problem) => println!("cargo::error={DIRECTORY}/{id}.md: {problem}"),
        }
    }
    constant += "];\n";
    write("check_pages.rs", &constant);
}

/// One page as Rust. The front matter is a small part of YAML, and a test reads the pages with a parser of all of it.
fn page(id: &str, text: &str) -> Result<String, String> {
    let parts = text.strip_prefix("---\n").and_then(|text| text.split_once("\n---\n"));
    let (front, body) = parts.ok_or("it does not begin with front matter between lines of `---`")?;
    let (mut title, mut level, mut sources) = (None, None, Vec::new());
    for line in front.lines() {
        match (line.strip_prefix("  - "), line.split_once(": ")) {
            (Some(source), _) => sources.push(scalar(source)),
            (None, Some(("title", text))) => title = Some(scalar(text)),
            (None, Some(("level", "quick"))) => level = Some("Quick"),
            (None, Some(("level", "standard"))) => level = Some("Standard"),
            (None, Some(("level", "deep"))) => level = Some("Deep"),
            (None, _) if line == "sources:" => {}
            _ => return Err(format!("`{line}` is none of title, level (quick, standard, deep) and sources")),
        }
    }
    let title = title.ok_or("it has no title")?;
    let level = level.ok_or("it has no level")?;
    let number: usize =
        id.get(3..5).and_then(|digits| digits.parse().ok()).filter(|number| *number > 0).ok_or("its name is not RD-XXXX.md")?;
    let sections: Vec<(&str, &str)> = body.split("\n## ").skip(1).filter_map(|section| section.split_once('\n')).collect();
    let [("Why", why), ("Confirm", confirm), ("Remedy", remedy)] = sections[..] else {
        return Err("its sections are not Why, Confirm and Remedy".to_owned());
    };
    let prose = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let command = confirm.trim().strip_prefix("```sh\n").and_then(|text| text.strip_suffix("\n```"));
    let confirm = command.ok_or("what confirms it is not one block between ```sh and ```")?;
    let (category, why, remedy) = (number - 1, prose(why), prose(remedy));
    Ok(format!(
        "    Page {{ id: {id:?}, title: {title:?}, category: Category::ALL[{category}], level: Level::{level}, \
         why: {why:?}, confirm: {confirm:?}, remedy: {remedy:?}, sources: &{sources:?} }},\n"
    ))
}

/// A text of YAML, plain or in double quotes.
fn scalar(text: &str) -> String {
    match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\\\"", "\"").replace("\\\\", "\\"),
        None => text.to_owned(),
    }
}

fn check_set_up() {
    println!("cargo::rerun-if-changed=.libclang");
    println!("cargo::rerun-if-changed=build.rs");
    let mut missing = Vec::new();
    let elsewhere = std::env::var("LIBCLANG_PATH").is_ok_and(|path| Path::new(&path).join("libclang.so").exists());
    if !elsewhere && !Path::new(".libclang/libclang.so").exists() {
        missing.push("libclang 14 or 15 in .libclang");
    }
    for library in ["libibverbs", "librdmacm"] {
        let found = Command::new("pkg-config").args(["--exists", library]).status();
        if !found.is_ok_and(|status| status.success()) {
            missing.push(if library == "libibverbs" { "headers of libibverbs" } else { "headers of librdmacm" });
        }
    }
    if !missing.is_empty() {
        println!("cargo::error=not set up, missing: {}. Run `make setup` once, then build again.", missing.join(", "));
    }
}
