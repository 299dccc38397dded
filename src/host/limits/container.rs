//! Signs that this is a container, and of which kind.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::process::namespace;
use crate::host::reader::{Reader, shorten};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ContainerFacts {
    /// Whether any sign was found.
    pub is_container: bool,
    /// `kubernetes`, `docker`, `podman`, `containerd`, `cri-o`, `lxc`, `systemd-nspawn` or the word that the runtime itself uses.
    pub runtime: Option<String>,
    /// What tells so.
    pub signs: Vec<Sign>,
    /// Whether this is the first process namespace, so whether the host's processes are visible.
    pub in_first_process_namespace: Option<bool>,
    /// Whether the network namespace is the one of process 1; absent where that may not be looked at.
    pub shares_network_with_init: Option<bool>,
    /// Size of /dev/shm, where a limit was given for it.
    pub dev_shm_bytes: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sign {
    /// Where it was found.
    pub source: String,
    /// What was found there.
    pub value: String,
    /// The runtime that it speaks of.
    pub runtime: Option<String>,
}

/// What paths of control groups and of mounts contain, the more telling first.
const RUNTIMES: &[(&str, &str)] = &[
    ("kubepods", "kubernetes"),
    ("libpod", "podman"),
    ("crio", "cri-o"),
    ("docker", "docker"),
    ("cri-containerd", "containerd"),
    ("containerd", "containerd"),
    ("lxc", "lxc"),
    ("machine.slice/systemd-nspawn", "systemd-nspawn"),
];

/// Looks for the signs. Most of these files may not be readable, which says nothing.
pub(super) fn read(reader: &mut Reader<'_>) -> ContainerFacts {
    let mut signs = Vec::new();
    let mut add = |source: &str, value: &str, runtime: Option<&str>| {
        signs.push(Sign { source: source.to_owned(), value: shorten(value), runtime: runtime.map(str::to_owned) });
    };
    let quiet = |path: &str| reader.root.text(path).ok().flatten();
    let in_first_process_namespace = namespace(reader, Path::new("/proc/self"), "pid").map(|name| name == "pid:[4026531836]");
    let mounts = quiet("/proc/self/mountinfo").unwrap_or_default();
    // Machines whose disk was made from a container's image keep its files. Where the root is the one that process 1 of the machine has,
    // they say nothing.
    let is_machines_root = in_first_process_namespace == Some(true)
        && mount(&mounts, "/")
            .is_some_and(|own| mount(&quiet("/proc/1/mountinfo").unwrap_or_default(), "/").is_some_and(|init| place(own) == place(init)));
    let left_behind = |path: &str| is_machines_root || !reader.root.exists(path);
    if !left_behind("/var/run/secrets/kubernetes.io/serviceaccount") {
        add("/var/run/secrets/kubernetes.io/serviceaccount", "present", Some("kubernetes"));
    }
    // Made by Docker, and by Podman; the second has lines such as `engine="podman-4.3.1"`.
    if !left_behind("/.dockerenv") {
        add("/.dockerenv", "present", Some("docker"));
    }
    if !left_behind("/run/.containerenv") {
        add("/run/.containerenv", "present", Some("podman"));
    }
    // Written by systemd from the variable below (systemd.io/CONTAINER_INTERFACE).
    if let Some(name) = quiet("/run/systemd/container").filter(|name| !name.is_empty()) {
        add("/run/systemd/container", &name, Some(&name));
    }
    let environment = quiet("/proc/1/environ").unwrap_or_default();
    if let Some(name) = environment.split('\0').find_map(|variable| variable.strip_prefix("container=")).filter(|name| !name.is_empty()) {
        add("/proc/1/environ", &format!("container={name}"), (name != "oci").then_some(name));
    }
    // Process 1 of a host is in no container's group, while a program in a container of the host can be: both files count only in a
    // process namespace of one's own or where it is not known.
    if in_first_process_namespace != Some(true) {
        for source in ["/proc/1/cgroup", "/proc/self/cgroup"] {
            let text = quiet(source).unwrap_or_default();
            let sign = text.lines().find_map(|line| RUNTIMES.iter().find(|(part, _)| line.contains(part)).map(|(_, name)| (line, *name)));
            if let Some((line, runtime)) = sign {
                add(source, line, Some(runtime));
                break;
            }
        }
    }
    if let Some(line) = mount(&mounts, "/").filter(|line| line.contains(" - overlay ")) {
        let runtime = RUNTIMES.iter().find(|(part, _)| line.contains(part)).map(|(_, name)| *name);
        if runtime.is_some() {
            add("/proc/self/mountinfo", "the root is an overlay of a container runtime", runtime);
        }
    }
    let dev_shm_bytes = mount(&mounts, "/dev/shm")
        .and_then(|line| line.rsplit(' ').next()?.split(',').find_map(|option| size(option.strip_prefix("size=")?)));
    let own = namespace(reader, Path::new("/proc/self"), "net");
    let shares_network_with_init = own.zip(namespace(reader, Path::new("/proc/1"), "net")).map(|(own, init)| own == init);
    let runtime = signs.iter().find_map(|sign| sign.runtime.clone());
    ContainerFacts { is_container: !signs.is_empty(), runtime, signs, in_first_process_namespace, shares_network_with_init, dev_shm_bytes }
}

/// The line of mountinfo (proc_pid_mountinfo(5)) of what is mounted at a place.
fn mount<'a>(mounts: &'a str, place: &str) -> Option<&'a str> {
    mounts.lines().find(|line| line.split(' ').nth(4) == Some(place))
}

/// Which file system it is and which directory of that, the same in every mount namespace.
fn place(line: &str) -> Vec<&str> {
    line.split(' ').skip(2).take(2).collect()
}

/// A size as tmpfs shows it: `65536k`.
fn size(text: &str) -> Option<u64> {
    let (digits, factor) = text.strip_suffix('k').map_or((text, 1), |digits| (digits, 1024));
    digits.parse::<u64>().ok()?.checked_mul(factor)
}
