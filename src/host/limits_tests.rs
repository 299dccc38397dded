//! Tests of limits on modelled hosts.

use std::collections::BTreeMap;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::host::Node;

type Tree = BTreeMap<PathBuf, Node>;

const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units     \n\
Max cpu time              unlimited            unlimited            seconds   \n\
Max locked memory         65536                unlimited            bytes     \n\
Max open files            1024                 1048576              files     \n\
Max nice priority         0                    0                    \n";

fn status(effective: &str) -> String {
    format!(
        "Name:\tpython\nUid:\t1000\t1000\t1000\t1000\nGid:\t1000\t1001\t1000\t1000\nGroups:\t44 110 \nVmLck:\t      64 kB\nVmPin:\t    2048 kB\nCapInh:\t0000000000000000\nCapPrm:\t{effective}\nCapEff:\t{effective}\n\
         CapBnd:\t000001ffffffffff\nCapAmb:\t0000000000000000\nNoNewPrivs:\t0\nSeccomp:\t2\nCpus_allowed_list:\t0-127\nMems_allowed_list:\t0-1\n"
    )
}

/// A GPU host with containerd, a pod's process and the doctor in a shell.
fn host() -> Tree {
    let pod = "/kubepods.slice/kubepods-pod1.slice/cri-containerd-abc.scope";
    let mut nodes: Tree = [
        ("/proc/self/limits", LIMITS.to_owned()),
        ("/proc/self/status", status("0000000000000000")),
        ("/proc/self/cgroup", "0::/user.slice/session-1.scope\n".to_owned()),
        (
            "/proc/self/mountinfo",
            "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n31 23 0:27 / /dev/shm rw - tmpfs shm rw,size=65536k\n".to_owned(),
        ),
        ("/proc/1/cgroup", "0::/init.scope\n".to_owned()),
        ("/proc/4242/limits", LIMITS.replace("65536 ", "8388608 ")),
        ("/proc/4242/status", status("00000000a80465fb")),
        ("/proc/4242/cgroup", format!("0::{pod}\n")),
        ("/proc/77/status", status("0000000000004000")),
        ("/proc/77/cgroup", "0::/system.slice/vllm.service\n".to_owned()),
        (
            "/sys/fs/cgroup/kubepods.slice/rdma.max",
            "mlx5_0 hca_handle=2 hca_object=2000\nmlx5_1 hca_handle=max hca_object=max\n".to_owned(),
        ),
        ("/sys/fs/cgroup/kubepods.slice/memory.max", "max\n".to_owned()),
        ("/usr/lib/systemd/system/containerd.service", "[Unit]\nLimitMEMLOCK=1\n[Service]\nLimitNOFILE=infinity\n".to_owned()),
        ("/usr/lib/systemd/system/slurmd.service", "[Service]\nLimitMEMLOCK=infinity\n".to_owned()),
        ("/etc/systemd/system/slurmd.service.d/10-less.conf", "[Service]\n# LimitMEMLOCK=infinity\nLimitMEMLOCK=8M:64M\n".to_owned()),
        ("/usr/lib/systemd/system/slurmd.service.d/10-less.conf", "[Service]\nLimitMEMLOCK=1K\n".to_owned()),
        ("/usr/lib/systemd/system/vllm.service", "[Service]\nExecStart=/usr/bin/vllm\n".to_owned()),
        ("/usr/lib/systemd/system/cron.service", "[Service]\nLimitNOFILE=10\n".to_owned()),
        ("/etc/systemd/system.conf.d/memlock.conf", "[Manager]\nDefaultLimitMEMLOCK=64K\n".to_owned()),
        ("/etc/security/limits.d/rdma.conf", "# all\n* soft memlock unlimited\n@gpu - memlock 64 # KiB\nroot hard nofile 9\n".to_owned()),
    ]
    .into_iter()
    .map(|(path, text)| (PathBuf::from(path), Node::text(&text)))
    .collect();
    nodes.insert(format!("/sys/fs/cgroup{pod}/memory.max").into(), Node::text("1073741824\n"));
    nodes.insert(format!("/sys/fs/cgroup{pod}/rdma.current").into(), Node::text("mlx5_0 hca_handle=1 hca_object=20\n"));
    for (path, target) in [
        ("/proc/self/ns/user", "user:[4026531837]"),
        ("/proc/self/ns/pid", "pid:[4026531836]"),
        ("/proc/self/ns/net", "net:[4026531840]"),
        ("/proc/1/ns/net", "net:[4026531840]"),
        ("/proc/4242/ns/user", "user:[4026532999]"),
        ("/etc/systemd/system/masked.service", "/dev/null"),
    ] {
        nodes.insert(path.into(), Node::Link(target.into()));
    }
    nodes
}

#[test]
fn this_process_and_another_are_read() {
    let facts = read(&Root::tree(host()), Some(4242));
    assert_eq!(facts.problems, []);
    let memlock = facts.own.memlock().unwrap();
    assert_eq!((memlock.soft, memlock.hard, memlock.unit.as_deref()), (LimitValue::Value(65536), LimitValue::Unlimited, Some("bytes")));
    assert_eq!(facts.own.limits.len(), 4);
    assert_eq!((facts.own.has_ipc_lock(), facts.own.effective_uid), (Some(false), Some(1000)));
    assert_eq!(facts.own.groups, Some(vec![1001, 44, 110]));
    assert_eq!((facts.own.locked_bytes, facts.own.pinned_bytes), (Some(65536), Some(2 << 20)));
    // In the bounding set only: it gives nothing.
    assert!(Capabilities::has_ipc_lock(facts.own.capabilities.unwrap().bounding));
    let process = facts.process.unwrap();
    assert!(process.exists);
    assert_eq!(process.memlock().unwrap().soft, LimitValue::Value(8 << 20));
    let cgroup = facts.process_cgroup.unwrap();
    assert_eq!(cgroup.memory_bytes(), Some(1 << 30));
    assert_eq!(cgroup.rdma_limits[0].objects, Some(LimitValue::Value(2000)));
    assert_eq!(cgroup.rdma_limits[1].handles, Some(LimitValue::Unlimited));
    assert_eq!(cgroup.rdma_usage[0].objects, Some(LimitValue::Value(20)));
    assert!(!facts.container.is_container, "{:?}", facts.container);
    assert_eq!((facts.container.shares_network_with_init, facts.container.dev_shm_bytes), (Some(true), Some(64 << 20)));
}

/// Every number of its own, so that no column or line can stand for its neighbour (proc_pid_status(5)).
const STATUS: &str = "Name:\tpython\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t4301\nNgid:\t4302\nPid:\t4303\nPPid:\t4304\nTracerPid:\t0\n\
Uid:\t1001\t1002\t1003\t1004\nGid:\t2001\t2002\t2003\t2004\nFDSize:\t64\nGroups:\t3001 3002 3003 \n\
NStgid:\t1\nVmPeak:\t   11 kB\nVmSize:\t   12 kB\nVmLck:\t   13 kB\nVmPin:\t   14 kB\nVmHWM:\t   15 kB\nVmRSS:\t   16 kB\n\
CapInh:\t0000000000000001\nCapPrm:\t0000000000000002\nCapEff:\t0000000000000004\nCapBnd:\t0000000000000008\nCapAmb:\t0000000000000010\n\
NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t5\nSpeculation_Store_Bypass:\tvulnerable\n\
Cpus_allowed:\tff\nCpus_allowed_list:\t0-7\nMems_allowed:\t00000000,00000003\nMems_allowed_list:\t0-1\n";

#[test]
fn each_line_and_column_of_a_process_goes_into_its_field() {
    let read_one = |text: &str| {
        let nodes: Tree = [("/proc/4242/status".into(), Node::text(text)), ("/proc/4242/limits".into(), Node::text(LIMITS))].into();
        read(&Root::tree(nodes), Some(4242)).process.unwrap()
    };
    let process = read_one(STATUS);
    assert_eq!(process.name.as_deref(), Some("python"));
    // Real, effective, saved, of files.
    assert_eq!((process.effective_uid, process.groups.clone()), (Some(1002), Some(vec![2002, 3001, 3002, 3003])));
    let expected = Capabilities { inheritable: 1, permitted: 2, effective: 4, bounding: 8, ambient: Some(16) };
    assert_eq!(process.capabilities, Some(expected));
    assert_eq!((process.no_new_privileges, process.seccomp), (Some(true), Some(2)));
    assert_eq!((process.locked_bytes, process.pinned_bytes), (Some(13 << 10), Some(14 << 10)));
    assert_eq!((process.allowed_cpus.as_deref(), process.allowed_memory_nodes.as_deref()), (Some("0-7"), Some("0-1")));
    // Soft, then hard, then the unit, which plain numbers have not.
    let (is, no) = (LimitValue::Value, LimitValue::Unlimited);
    let limits: Vec<_> = process.limits.iter().map(|limit| (limit.name.as_str(), limit.soft, limit.hard, limit.unit.as_deref())).collect();
    assert_eq!(
        limits,
        [
            ("Max cpu time", no, no, Some("seconds")),
            ("Max locked memory", is(65536), no, Some("bytes")),
            ("Max open files", is(1024), is(1_048_576), Some("files")),
            ("Max nice priority", is(0), is(0), None),
        ]
    );
    // An older kernel lacks lines, and no other one stands for them.
    let lacks =
        |line: &str| read_one(&STATUS.lines().filter(|text| !text.starts_with(line)).map(|text| format!("{text}\n")).collect::<String>());
    assert_eq!(lacks("Seccomp:").seccomp, None);
    assert_eq!(lacks("VmPin:").pinned_bytes, None);
    assert_eq!(lacks("VmLck:").locked_bytes, None);
    assert_eq!(lacks("Cpus_allowed_list:").allowed_cpus, None);
    assert_eq!(lacks("Mems_allowed_list:").allowed_memory_nodes, None);
    assert_eq!(lacks("Gid:").groups, None);
    assert_eq!(lacks("Groups:").groups, Some(vec![2002]));
    assert_eq!(lacks("CapAmb:").capabilities, Some(Capabilities { ambient: None, ..expected }));
    for line in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:"] {
        assert_eq!(lacks(line).capabilities, None, "{line}");
    }
    assert_eq!(read_one(&STATUS.replace("NoNewPrivs:\t1", "NoNewPrivs:\t0")).no_new_privileges, Some(false));
}

#[test]
fn the_capability_is_the_one_of_its_bit_in_the_set_that_is_in_force() {
    // CAP_IPC_LOCK is 14, CAP_IPC_OWNER 15, CAP_NET_RAW 13 (capabilities(7)).
    assert!([1_u64 << 14, 0x3fff_ffff_ffff, 0xc000].into_iter().all(Capabilities::has_ipc_lock));
    assert!([0, 1 << 13, 1 << 15, !(1 << 14), 0x3fff].into_iter().all(|set| !Capabilities::has_ipc_lock(set)));
    let with = |line: &str| {
        let text =
            STATUS.lines().map(|text| if text.starts_with(line) { format!("{line}\t0000000000004000\n") } else { format!("{text}\n") });
        let nodes: Tree = [("/proc/4242/status".into(), Node::text(&text.collect::<String>()))].into();
        read(&Root::tree(nodes), Some(4242)).process.unwrap().has_ipc_lock()
    };
    assert_eq!(with("CapEff:"), Some(true));
    for line in ["CapInh:", "CapPrm:", "CapBnd:", "CapAmb:"] {
        assert_eq!(with(line), Some(false), "{line}");
    }
}

#[test]
fn a_capability_of_another_user_namespace_is_inert() {
    let mut nodes = host();
    nodes.insert("/proc/4242/status".into(), Node::text(&status("000001ffffffffff")));
    let process = read(&Root::tree(nodes.clone()), Some(4242)).process.unwrap();
    assert_eq!((process.in_first_user_namespace, process.has_ipc_lock()), (Some(false), Some(false)));
    nodes.remove(std::path::Path::new("/proc/4242/ns/user"));
    for (map, first) in [("         0          0 4294967295\n", true), ("0 1000 1\n1 100000 65536\n", false)] {
        nodes.insert("/proc/4242/uid_map".into(), Node::text(map));
        assert_eq!(read(&Root::tree(nodes.clone()), Some(4242)).process.unwrap().in_first_user_namespace, Some(first));
    }
}

#[test]
fn services_get_what_their_files_say() {
    let services = read(&Root::tree(host()), Some(77)).services;
    let names: Vec<_> = services.units.iter().map(|unit| unit.name.as_str()).collect();
    assert_eq!(names, ["containerd.service", "slurmd.service", "vllm.service"]);
    assert_eq!(services.units[0].limit("LimitMEMLOCK"), None);
    assert_eq!(services.units[0].limit("LimitNOFILE").unwrap().soft, LimitValue::Unlimited);
    let slurmd = services.units[1].limit("LimitMEMLOCK").unwrap();
    assert_eq!((slurmd.soft, slurmd.hard), (LimitValue::Value(8 << 20), LimitValue::Value(64 << 20)));
    assert_eq!((slurmd.file.as_str(), slurmd.line), ("/etc/systemd/system/slurmd.service.d/10-less.conf", 3));
    assert_eq!(services.defaults[0].soft, LimitValue::Value(64 << 10));
    let logins: Vec<_> = services.logins.iter().map(|login| (login.domain.as_str(), login.limit, login.line)).collect();
    assert_eq!(logins, [("*", LimitValue::Unlimited, 2), ("@gpu", LimitValue::Value(64 << 10), 3)]);
}

#[test]
fn containers_show_themselves() {
    let found = |files: &[(&str, &str)]| {
        let nodes = files.iter().map(|(path, text)| (PathBuf::from(path), Node::text(text))).collect();
        let container = read(&Root::tree(nodes), None).container;
        (container.is_container, container.runtime)
    };
    let runtime = |name: &str| (true, Some(name.to_owned()));
    assert_eq!(found(&[]), (false, None));
    assert_eq!(found(&[("/.dockerenv", "")]), runtime("docker"));
    assert_eq!(found(&[("/run/.containerenv", "engine=\"podman\"")]), runtime("podman"));
    assert_eq!(found(&[("/proc/1/environ", "PATH=/bin\0container=lxc\0")]), runtime("lxc"));
    assert_eq!(found(&[("/proc/1/cgroup", "0::/kubepods/burstable/pod1/abc")]), runtime("kubernetes"));
    // A machine whose disk was made from an image of Docker's.
    let with_namespace = |init: &str| {
        let mut nodes: Tree =
            [("/.dockerenv", ""), ("/proc/self/mountinfo", "29 1 0:24 / / rw - ext4 /dev/vda rw"), ("/proc/1/mountinfo", init)]
                .into_iter()
                .map(|(path, text)| (PathBuf::from(path), Node::text(text)))
                .collect();
        nodes.insert("/proc/self/ns/pid".into(), Node::Link("pid:[4026531836]".into()));
        read(&Root::tree(nodes), None).container.is_container
    };
    assert!(!with_namespace("29 1 0:24 / / rw - ext4 /dev/vda rw"));
    assert!(!with_namespace("44 30 0:24 / / rw - ext4 /dev/vda rw"));
    // A container that sees the host's processes has a root of its own.
    assert!(with_namespace("21 1 0:20 / / rw - ext4 /dev/vda rw"));
    let overlay = "1 0 0:1 / / rw - overlay overlay rw,lowerdir=/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/1";
    assert_eq!(found(&[("/proc/self/mountinfo", overlay)]), runtime("containerd"));
}

#[test]
fn version_1_groups_are_read() {
    let nodes: Tree = [
        ("/proc/self/cgroup", "5:rdma:/a\n4:memory:/a/b\n1:name=systemd:/\n"),
        ("/proc/self/mountinfo", "1 0 0:1 / /cg/memory rw - cgroup cgroup rw,memory\n2 0 0:2 /a /cg/rdma rw - cgroup cgroup rw,rdma\n"),
        ("/cg/memory/a/b/memory.limit_in_bytes", "9223372036854771712\n"),
        ("/cg/memory/a/memory.limit_in_bytes", "4096\n"),
        ("/cg/rdma/rdma.max", "erdma_0 hca_object=7\n"),
    ]
    .into_iter()
    .map(|(path, text)| (PathBuf::from(path), Node::text(text)))
    .collect();
    let facts = read(&Root::tree(nodes), None);
    assert_eq!(facts.own_cgroup.memory_bytes(), Some(4096));
    assert_eq!(facts.own_cgroup.rdma_limits[0].objects, Some(LimitValue::Value(7)));
    let directories: Vec<_> = facts.own_cgroup.memberships.iter().map(|membership| membership.directory.as_deref()).collect();
    assert_eq!(directories, [Some("/cg/rdma"), Some("/cg/memory/a/b"), None]);
}

#[test]
fn a_process_that_is_gone_is_told() {
    assert!(!read(&Root::tree(host()), Some(1)).process.unwrap().limits.iter().any(|_| true));
    assert!(!read(&Root::tree(host()), Some(99999)).process.unwrap().exists);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn garbage_is_a_problem_and_not_a_panic(garbage in proptest::collection::vec((any::<prop::sample::Index>(), "\\PC{0,40}(\n[A-Za-z]{1,9}[:= ]\\PC{0,20}){0,4}"), 1..12)) {
        let mut nodes = host();
        let paths: Vec<PathBuf> = nodes.keys().cloned().collect();
        for (index, text) in garbage {
            nodes.insert(index.get(&paths).clone(), Node::text(&text));
        }
        prop_assert!(serde_json::to_string(&read(&Root::tree(nodes), Some(4242))).is_ok());
    }
}
