//! Stops a build without the set-up at once, with the command that mends it. It has no dependencies, so it runs long
//! before the build script of rdma-sys would panic for want of libclang or of the verbs headers.

use std::path::Path;
use std::process::Command;

fn main() {
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
