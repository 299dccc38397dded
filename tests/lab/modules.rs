//! `modules`, `devices` and `caps` on a real kernel, with and without devices.

use super::Test;
use super::guest::Guest;

pub const LOADED: &[Test] = &[
    ("modules_tells_the_five_states", states),
    ("devices_says_why_libibverbs_lacks_one", reasons),
    ("devices_shows_ports_and_addresses", addresses),
    ("caps_agrees_with_ibv_devinfo", caps),
];

pub const NONE: &[Test] = &[("every_command_answers_without_devices", nothing)];

fn state(guest: &mut Guest, module: &str) -> serde_json::Value {
    let (document, code) = guest.json(&format!("modules {module}"));
    assert_eq!(code, 0);
    let modules = document["facts"]["modules"].as_array().unwrap();
    modules.iter().find(|entry| entry["name"] == module).unwrap_or_else(|| panic!("no {module} in {document:#}")).clone()
}

fn states(guest: &mut Guest) {
    assert_eq!(state(guest, "rdma_rxe")["state"], "loaded");
    assert_eq!(state(guest, "ib_core")["state"], "loaded");
    assert_eq!(state(guest, "mlx5_ib")["state"], "on_disk");
    assert_eq!(state(guest, "nvidia_peermem")["state"], "absent");
    let blocked = guest.sh("echo 'blacklist mlx5_ib' > /etc/modprobe.d/lab-test.conf");
    assert_eq!(blocked.code, 0, "{blocked:?}");
    let entry = state(guest, "mlx5_ib");
    assert_eq!(entry["blocked_by"][0]["file"], "/etc/modprobe.d/lab-test.conf", "{entry:#}");
    guest.sh("rm /etc/modprobe.d/lab-test.conf");
    assert_eq!(state(guest, "mlx5_ib")["blocked_by"].as_array().map(Vec::len), Some(0));
    // What the kernel says of itself is the judge: every module that it lists must be loaded in our eyes.
    for module in ["ib_uverbs", "rdma_cm", "rdma_ucm", "iw_cm", "siw"] {
        let listed = guest.sh(&format!("grep -c '^{module} ' /proc/modules")).out.trim() == "1";
        assert_eq!(state(guest, module)["state"] == "loaded", listed, "{module}");
    }
}

fn device<'a>(document: &'a serde_json::Value, name: &str) -> &'a serde_json::Value {
    document["devices"]
        .as_array()
        .unwrap()
        .iter()
        .find(|device| device["name"] == name)
        .unwrap_or_else(|| panic!("no {name} in {document:#}"))
}

fn reasons(guest: &mut Guest) {
    let problem = |guest: &mut Guest, name: &str| {
        let (document, code) = guest.json("devices");
        let device = device(&document, name);
        (device["problem"]["summary"].as_str().unwrap_or_default().to_owned(), code)
    };
    assert_eq!(problem(guest, "rxe0"), (String::new(), 0));
    // The node that libibverbs opens is gone, as in a container without it.
    let node = guest.sh("n=$(basename $(grep -l rxe0 /sys/class/infiniband_verbs/uverbs*/ibdev | xargs dirname)); mv /dev/infiniband/$n /dev/lab-node; echo $n").out;
    let node = node.trim();
    let (summary, code) = problem(guest, "rxe0");
    assert!(summary.contains(&format!("/dev/infiniband/{node}")), "{summary}");
    assert_eq!(code, 1);
    guest.sh(&format!("mv /dev/lab-node /dev/infiniband/{node}"));
    // The provider's library is gone.
    guest.sh("f=$(ls /usr/lib/*/libibverbs/librxe-rdmav*.so); echo $f > /tmp/provider; mv $f /tmp/provider.so");
    let (summary, _) = problem(guest, "rxe0");
    assert!(summary.contains("provider") && summary.contains("librxe"), "{summary}");
    assert_eq!(problem(guest, "siw0").0, "");
    guest.sh("mv /tmp/provider.so $(cat /tmp/provider)");
    assert_eq!(problem(guest, "rxe0"), (String::new(), 0));
}

fn addresses(guest: &mut Guest) {
    let (document, _) = guest.json("devices");
    let rxe = device(&document, "rxe0");
    assert_eq!((rxe["family"].as_str(), rxe["transport"].as_str()), (Some("rxe"), Some("RoCE")));
    let port = &rxe["ports"][0];
    assert_eq!((port["state"].as_str(), port["active_mtu_bytes"].as_u64()), (Some("active"), Some(1024)));
    let gids = port["gids"].as_array().unwrap();
    let ipv4 = gids.iter().find(|gid| gid["ipv4"] == "10.77.0.1").unwrap();
    assert_eq!((ipv4["scope"].as_str(), ipv4["type"].as_str()), (Some("ipv4"), Some("RoCE v2")));
    assert!(gids.iter().any(|gid| gid["scope"] == "link_local"));
    assert_eq!(device(&document, "siw0")["transport"], "iWARP");
}

fn caps(guest: &mut Guest) {
    let (document, _) = guest.json("caps");
    for name in ["rxe0", "siw0"] {
        let listed = guest.sh(&format!("ibv_devinfo -v -d {name}")).out;
        let caps = document["devices"].as_array().unwrap().iter().find(|caps| caps["device"] == name).unwrap();
        for field in ["max_qp", "max_qp_wr", "max_sge", "max_cqe", "max_mr", "max_pd", "max_srq", "max_srq_wr", "max_srq_sge", "max_ah"] {
            let line =
                listed.lines().find(|line| line.trim().starts_with(&format!("{field}:"))).unwrap_or_else(|| panic!("{field}: {listed}"));
            let theirs: i64 = line.split(':').nth(1).unwrap().trim().parse().unwrap();
            assert_eq!(caps["attributes"][field].as_i64(), Some(theirs), "{name} {field}");
        }
    }
}

fn nothing(guest: &mut Guest) {
    for command in ["devices", "caps", "qp-matrix", "qp-matrix --engine dlslime"] {
        let ran = guest.doctor(command);
        assert_eq!(ran.code, 1, "{command}: {ran:?}");
        assert!(ran.out.contains("no RDMA devices") && ran.out.contains("next"), "{command}: {ran:?}");
        let ran = guest.doctor(&format!("--libibverbs /nowhere/libibverbs.so.1 {command}"));
        assert_eq!(ran.code, 1, "{command}: {ran:?}");
        assert!(ran.out.contains("/nowhere/libibverbs.so.1 was not found"), "{command}: {ran:?}");
    }
    assert_eq!(guest.doctor("modules").code, 0);
}
