//! What bounds the process that looks at the host: limits, capabilities, namespaces, control groups, and the container that it is in.

use super::Tree;
use crate::host::Node;
use crate::sim::host::{HostModel, Runtime};

/// CAP_IPC_LOCK, capabilities(7).
const IPC_LOCK: u64 = 1 << 14;
/// All capabilities of Linux 5.9 and later.
const ALL: u64 = 0x1ff_ffff_ffff;
/// What Docker leaves to root (github.com/moby/profiles, seccomp and capabilities by default).
const OF_CONTAINERS: u64 = 0xa804_25fb;

pub(super) fn build(tree: &mut Tree, host: &HostModel) {
    limits(tree, host);
    let container = host.container.as_ref();
    // Numbers of the first namespaces (include/linux/proc_ns.h); any others are of a container.
    let user = if host.limits.own_user_namespace { "user:[4026533000]" } else { "user:[4026531837]" };
    let pid = if container.is_some() { "pid:[4026533001]" } else { "pid:[4026531836]" };
    for (path, target) in
        [("self/ns/user", user), ("self/ns/pid", pid), ("self/ns/net", "net:[4026531840]"), ("1/ns/net", "net:[4026531840]")]
    {
        tree.file(format!("/proc/{path}"), Node::Link(target.into()));
    }
    let group = if container.is_some() { "0::/" } else { "0::/user.slice/user-0.slice/session-1.scope" };
    tree.text("/proc/self/cgroup", group);
    tree.text("/proc/1/cgroup", if container.is_some() { "0::/" } else { "0::/init.scope" });
    tree.dir("/sys/fs/cgroup/user.slice/user-0.slice/session-1.scope");
    let mut mounts = "24 1 0:22 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw".to_owned();
    let Some(container) = container else {
        tree.dir("/usr/lib/systemd/system");
        tree.text("/proc/self/mountinfo", &format!("{mounts}\n1 0 259:2 / / rw,relatime - ext4 /dev/root rw"));
        return;
    };
    let store = match container.runtime {
        Runtime::Docker => {
            tree.file("/.dockerenv", Node::text(""));
            "/var/lib/docker/overlay2"
        }
        Runtime::Podman => {
            tree.file("/run/.containerenv", Node::text(""));
            "/var/lib/containers/storage/overlay"
        }
        Runtime::Kubernetes => {
            tree.dir("/var/run/secrets/kubernetes.io/serviceaccount");
            "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs"
        }
    };
    mounts += &format!("\n600 500 0:50 / / rw,relatime - overlay overlay rw,lowerdir={store}/1,upperdir={store}/2,workdir={store}/3");
    if let Some(kib) = container.shm_kib {
        mounts += &format!("\n601 600 0:51 / /dev/shm rw,nosuid - tmpfs shm rw,size={kib}k");
    }
    tree.text("/proc/self/mountinfo", &mounts);
}

fn limits(tree: &mut Tree, host: &HostModel) {
    let limits = &host.limits;
    let word = |bytes: Option<u64>| bytes.map_or("unlimited".to_owned(), |bytes| bytes.to_string());
    let (soft, hard) = (word(limits.memlock_bytes), word(limits.memlock_hard_bytes.or(limits.memlock_bytes)));
    let text = format!(
        "Limit                     Soft Limit           Hard Limit           Units     \n\
         Max processes             1048576              1048576              processes \n\
         Max open files            1048576              1048576              files     \n\
         Max locked memory         {soft:<20} {hard:<20} bytes     \n"
    );
    tree.file("/proc/self/limits", Node::text(&text));
    let with = |set: u64, has: bool| if has { set | IPC_LOCK } else { set & !IPC_LOCK };
    let of_place = if host.container.is_some() { OF_CONTAINERS } else { ALL };
    let held = with(if limits.uid == 0 { of_place } else { 0 }, limits.ipc_lock);
    let bounding = with(of_place, limits.ipc_lock_in_bounding_set.unwrap_or(limits.ipc_lock || host.container.is_none()));
    let sets: String = [("CapInh", 0), ("CapPrm", held), ("CapEff", held), ("CapBnd", bounding), ("CapAmb", 0)]
        .map(|(name, set)| format!("{name}:\t{set:016x}\n"))
        .concat();
    let uid = limits.uid;
    tree.file(
        "/proc/self/status",
        Node::text(&format!(
            "Name:\trdmadoctor\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nVmLck:\t0 kB\nVmPin:\t0 kB\n{sets}NoNewPrivs:\t0\nSeccomp:\t0\n"
        )),
    );
}
