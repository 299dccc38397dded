//! Stops a build without the set-up at once, with the command that mends it. It has no dependencies, so it runs long
//! before the build script of rdma-sys would panic for want of libclang or of the verbs headers.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

fn main() {
    if std::env::var_os("CARGO_FEATURE_DOCTOR").is_none() {
        // The types of a profile need neither libraries nor data.
        return;
    }
    check_set_up();
    embed_profiles();
}

/// Lists the files of `profiles/` in constants of (name, text), so that a new file needs no line of code.
fn embed_profiles() {
    let mut constants = String::new();
    for (constant, directory) in [("ENGINES", "profiles/engines"), ("HOSTS", "profiles/hosts")] {
        println!("cargo::rerun-if-changed={directory}");
        let root = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
        let mut files: Vec<_> = std::fs::read_dir(Path::new(&root).join(directory))
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
            .collect();
        files.sort();
        writeln!(constants, "/// Embedded files of `{directory}`: name and text.\npub(crate) const {constant}: &[(&str, &str)] = &[")
            .unwrap();
        for file in files {
            let name = format!("{directory}/{}", file.file_name().unwrap_or_default().to_string_lossy());
            writeln!(constants, "    ({name:?}, include_str!({file:?})),").unwrap();
        }
        constants.push_str("];\n");
    }
    let out = std::env::var("OUT_DIR").expect("cargo sets it");
    std::fs::write(Path::new(&out).join("embedded.rs"), constants).expect("OUT_DIR is writable");
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
