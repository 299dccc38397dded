//! Kernel modules: loaded, built in, on disk, and what modprobe is told about them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::Tree;
use crate::host::Node;
use crate::host::modules::symbol_of;
use crate::sim::host::HostModel;

pub(super) fn build(tree: &mut Tree, host: &HostModel) {
    let kernel = host.kernel.as_str();
    let directory = PathBuf::from(format!("/lib/modules/{kernel}"));
    let mut listed = String::new();
    let mut index = String::new();
    // A function of the kernel's own and one of each module tell what is loaded and what is built in.
    let mut symbols = "ffffffff81000000 T _text\n".to_owned();
    for module in &host.modules.loaded {
        let name = &module.name;
        let _ = writeln!(listed, "{name} 16384 0 - Live 0x0000000000000000");
        let _ = writeln!(symbols, "ffffffffc0000000 T {}\t[{name}]", symbol_of(name).unwrap_or("init_module"));
        let place = PathBuf::from(format!("/sys/module/{name}"));
        let version = module.version.as_deref();
        tree.text(place.join("initstate"), "live");
        tree.text(place.join("coresize"), "16384");
        tree.text(place.join("srcversion"), &srcversion(name, version));
        if let Some(version) = version {
            tree.text(place.join("version"), version);
        }
        for (parameter, value) in &module.parameters {
            tree.text(place.join("parameters").join(parameter), value);
        }
        let on_disk = module.disk_version.as_deref().or(version);
        let file = add(&mut index, &directory, name);
        tree.file(file, Node::File(object_file(name, on_disk, module.built_for.as_deref().unwrap_or(kernel))));
    }
    for name in &host.modules.on_disk {
        let file = add(&mut index, &directory, name);
        tree.file(file, Node::File(object_file(name, None, kernel)));
    }
    let mut built_in = String::new();
    for name in &host.modules.built_in {
        let _ = writeln!(built_in, "kernel/drivers/{name}.ko");
        if let Some(symbol) = symbol_of(name) {
            let _ = writeln!(symbols, "ffffffff81000010 T {symbol}");
        }
    }
    if host.modules.peer_memory_api && host.has_module("ib_core") {
        let owner = if host.modules.built_in.iter().any(|name| name == "ib_core") { "" } else { "\t[ib_core]" };
        let _ = writeln!(symbols, "ffffffffc0000010 T ib_register_peer_memory_client{owner}");
    }
    tree.file("/proc/modules", Node::text(&listed));
    tree.file("/proc/kallsyms", Node::text(&symbols));
    tree.text("/proc/sys/kernel/modules_disabled", "0");
    tree.file(directory.join("modules.dep"), Node::text(&index));
    tree.file(directory.join("modules.builtin"), Node::text(&built_in));
    tree.dir("/etc/modprobe.d");
    for (name, text) in &host.modprobe {
        tree.file(format!("/etc/modprobe.d/{name}"), Node::text(text));
    }
    if host.container.as_ref().is_some_and(|container| !container.has_lib_modules) {
        tree.nodes.retain(|path, _| !path.starts_with("/lib/modules"));
    }
}

/// Enters a module in the index, and gives the place of its file.
fn add(index: &mut String, directory: &Path, name: &str) -> PathBuf {
    let _ = writeln!(index, "extra/{name}.ko:");
    directory.join(format!("extra/{name}.ko"))
}

/// A checksum of the sources: the same for the same version.
fn srcversion(name: &str, version: Option<&str>) -> String {
    let number = super::number_of(&format!("{name} {}", version.unwrap_or_default()));
    format!("{number:016X}{:08X}", number >> 32)[..23].to_owned()
}

/// A module's file, with what modinfo(8) shows of it.
fn object_file(name: &str, version: Option<&str>, kernel: &str) -> Vec<u8> {
    let stated = version.map_or(String::new(), |version| format!("version={version}\0"));
    let source = srcversion(name, version);
    module_file(format!("{stated}srcversion={source}\0name={name}\0vermagic={kernel} SMP mod_unload modversions \0").as_bytes())
}

/// The smallest ELF file that has a `.modinfo`.
pub(crate) fn module_file(info: &[u8]) -> Vec<u8> {
    let names = b"\0.modinfo\0.shstrtab\0";
    let names_at = 64 + info.len();
    let sections_at = (names_at + names.len()).next_multiple_of(8);
    // Class 64, least significant byte first, version 1.
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    // Relocatable, x86-64, version; entry, program headers, section headers; flags, sizes and numbers of headers; the section of names.
    let header = [(1, 2), (62, 2), (1, 4), (0, 8), (0, 8), (sections_at, 8), (0, 4), (64, 2), (0, 2), (0, 2), (64, 2), (3, 2), (2, 2)];
    for (value, size) in header {
        file.extend(&value.to_le_bytes()[..size]);
    }
    file.extend(info);
    file.extend(names);
    file.resize(sections_at, 0);
    // Name, kind, place and length of the empty section, of .modinfo (SHT_PROGBITS) and of .shstrtab (SHT_STRTAB).
    for (name, kind, at, length) in [(0, 0, 0, 0), (1, 1, 64, info.len()), (10, 3, names_at, names.len())] {
        for (value, size) in [(name, 4), (kind, 4), (0, 8), (0, 8), (at, 8), (length, 8), (0, 8), (1, 8), (0, 8)] {
            file.extend(&value.to_le_bytes()[..size]);
        }
    }
    file
}
