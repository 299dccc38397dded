//! The names of a host, and of those that it knows by name.

use std::collections::BTreeSet;

use crate::host::Root;

/// Names that say nothing of a host, or that are words of something else: of distributions, and what this program writes itself.
const PLAIN: &[&str] = &[
    "localhost",
    "localdomain",
    "localhost.localdomain",
    "broadcasthost",
    "ubuntu",
    "debian",
    "linux",
    "fedora",
    "centos",
    "rocky",
    "almalinux",
    "rhel",
    "sles",
    "suse",
    "kernel",
    "host",
    "gpu",
    "none",
    "unknown",
    "(none)",
    "docker",
    "container",
    "root",
];

/// This host's name first, then its others. Searches the files that name hosts; `running` is the name that the kernel has of the
/// running one.
#[must_use]
pub fn host_names(root: &Root, running: Option<String>) -> Vec<String> {
    let text = |path: &str| root.text(path).ok().flatten().unwrap_or_default();
    let own = running.into_iter().chain(["/proc/sys/kernel/hostname", "/etc/hostname"].map(|path| text(path).trim().to_owned()));
    let mut names: Vec<String> = own.collect();
    // hosts(5): an address, then its names.
    for line in text("/etc/hosts").lines() {
        let line = line.split('#').next().unwrap_or_default();
        names.extend(line.split_whitespace().skip(1).filter(|name| !name.starts_with("ip6-")).map(str::to_owned));
    }
    let mut seen = BTreeSet::new();
    names.retain(|name| name.len() > 1 && !PLAIN.contains(&name.to_ascii_lowercase().as_str()) && seen.insert(name.clone()));
    names
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::host::Node;

    #[test]
    fn names_are_found_in_their_files() {
        let nodes = [
            ("/proc/sys/kernel/hostname", "gpu01"),
            ("/etc/hostname", "gpu01.example.com\n"),
            ("/etc/hosts", "127.0.0.1 localhost\n# old: x\n10.0.0.9 store store.example.com # the store\n::1 ip6-localhost"),
        ];
        let root = Root::tree(BTreeMap::from(nodes.map(|(path, text)| (path.into(), Node::text(text)))));
        assert_eq!(host_names(&root, None), ["gpu01", "gpu01.example.com", "store", "store.example.com"]);
        assert_eq!(host_names(&root, Some("other".to_owned()))[0], "other");
        assert!(host_names(&Root::tree(BTreeMap::new()), None).is_empty());
    }
}
