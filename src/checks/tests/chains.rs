//! What can follow from what.

use super::*;

/// Each check that can be a consequence, and the checks whose findings it can follow from, the nearest first.
#[rustfmt::skip]
const CAUSES: &[(&str, &str)] = &[
    ("RD-0103", "RD-0101"),
    ("RD-0104", "RD-0103"),
    ("RD-0105", "RD-0103 RD-0107"),
    ("RD-0106", "RD-0101"),
    ("RD-0108", "RD-0101 RD-1110"),
    ("RD-0109", "RD-0202"),
    ("RD-0201", "RD-0205 RD-0211 RD-0209"),
    ("RD-0202", "RD-0201 RD-0205 RD-0211 RD-0209"),
    ("RD-0203", "RD-0205 RD-0211"),
    ("RD-0204", "RD-0201 RD-0205 RD-0211 RD-0209"),
    ("RD-0208", "RD-0201 RD-0209"),
    ("RD-0214", "RD-0201 RD-0202 RD-0204 RD-0205 RD-0211"),
    ("RD-0215", "RD-1110"),
    ("RD-0301", "RD-0201 RD-0204 RD-0205 RD-0209 RD-0211 RD-0213 RD-0903"),
    ("RD-0302", "RD-0204 RD-0201 RD-0211 RD-0213 RD-0809 RD-1110"),
    ("RD-0303", "RD-0202"),
    ("RD-0304", "RD-0901 RD-0303"),
    ("RD-0305", "RD-0304"),
    ("RD-0306", "RD-0101 RD-0103 RD-0104 RD-0105 RD-0106 RD-0108 RD-0109 RD-0303 RD-0304 RD-0305 RD-0213"),
    ("RD-0307", "RD-0308 RD-0309 RD-0410 RD-0302"),
    ("RD-0309", "RD-0308 RD-1113"),
    ("RD-0310", "RD-0203 RD-0901"),
    ("RD-0313", "RD-0301 RD-0302 RD-0307 RD-0204"),
    ("RD-0314", "RD-1101 RD-1113"),
    ("RD-0401", "RD-0307 RD-0308 RD-0905"),
    ("RD-0402", "RD-0401"),
    ("RD-0403", "RD-0401 RD-0402 RD-0307"),
    ("RD-0404", "RD-0403 RD-0402 RD-0401"),
    ("RD-0405", "RD-0403"),
    ("RD-0407", "RD-0307"),
    ("RD-0409", "RD-0307"),
    ("RD-0411", "RD-0308 RD-0403"),
    ("RD-0412", "RD-0905"),
    ("RD-0501", "RD-0505 RD-0902"),
    ("RD-0502", "RD-0503"),
    ("RD-0508", "RD-0502"),
    ("RD-0509", "RD-0501 RD-0505 RD-0506 RD-0306 RD-1110 RD-1111"),
    ("RD-0601", "RD-0306 RD-0501 RD-0506 RD-0604 RD-1110 RD-1111"),
    ("RD-0602", "RD-0601 RD-0501 RD-0506 RD-0604"),
    ("RD-0603", "RD-0210 RD-0307 RD-0401 RD-0403 RD-0601"),
    ("RD-0604", "RD-1110"),
    ("RD-0701", "RD-0209 RD-0211 RD-1106"),
    ("RD-0702", "RD-0209 RD-0211"),
    ("RD-0703", "RD-0208 RD-0704 RD-0705 RD-0706 RD-0707 RD-0708"),
    ("RD-0704", "RD-0208"),
    ("RD-0705", "RD-0208"),
    ("RD-0706", "RD-0208"),
    ("RD-0707", "RD-0208"),
    ("RD-0708", "RD-0208 RD-0209 RD-0211"),
    ("RD-0710", "RD-0704 RD-0705"),
    ("RD-0712", "RD-0206"),
    ("RD-0713", "RD-0702"),
    ("RD-0714", "RD-0701 RD-0702 RD-0712 RD-0713 RD-1105 RD-1106 RD-1116"),
    ("RD-0715", "RD-0701 RD-0712 RD-0713 RD-1105 RD-1106"),
    ("RD-0716", "RD-0704 RD-0705 RD-0706 RD-0714"),
    ("RD-0717", "RD-0714"),
    ("RD-0718", "RD-0709"),
    ("RD-0719", "RD-0704 RD-0705 RD-0706 RD-0714 RD-0716 RD-1116"),
    ("RD-0720", "RD-0208 RD-0703 RD-0707 RD-0708 RD-0718 RD-0719 RD-0306 RD-0501"),
    ("RD-0803", "RD-0801"),
    ("RD-0806", "RD-0302"),
    ("RD-0901", "RD-0202"),
    ("RD-0903", "RD-0213"),
    ("RD-1003", "RD-1002"),
    ("RD-1101", "RD-1113"),
    ("RD-1102", "RD-1101"),
    ("RD-1103", "RD-1001 RD-1101"),
    ("RD-1105", "RD-1104"),
    ("RD-1106", "RD-0809"),
    ("RD-1107", "RD-1105 RD-1106 RD-1110"),
    ("RD-1108", "RD-1107 RD-1110"),
    ("RD-1110", "RD-0809 RD-1104"),
    ("RD-1111", "RD-1110"),
    ("RD-1112", "RD-0805"),
    ("RD-1114", "RD-1110 RD-0209"),
    ("RD-1116", "RD-0701 RD-0715 RD-1105 RD-1106"),
    ("RD-1117", "RD-1107 RD-1110 RD-1104"),
    ("RD-1118", "RD-1105 RD-1106 RD-1116"),
    ("RD-1119", "RD-1107"),
    ("RD-1201", "RD-0306 RD-0401 RD-0403 RD-0501 RD-0601 RD-0604"),
    ("RD-1203", "RD-0801 RD-0803 RD-0805 RD-0807 RD-1201"),
    ("RD-1204", "RD-1201"),
    ("RD-1205", "RD-0801 RD-1201"),
    ("RD-1206", "RD-0703 RD-0704 RD-0705 RD-0706 RD-0707 RD-0708 RD-0710 RD-0716"),
];

/// A link that is lost makes a consequence a failure of its own, and one too many hides a failure.
#[test]
fn causes_are_these() {
    let written: BTreeSet<String> = CAUSES.iter().map(|(id, causes)| format!("{id} < {causes}")).collect();
    let linked = registry().filter(|check| !check.depends_on.is_empty());
    let linked: BTreeSet<String> = linked.map(|check| format!("{} < {}", check.page.id, check.depends_on.join(" "))).collect();
    let lost: Vec<&String> = written.difference(&linked).collect();
    let new: Vec<&String> = linked.difference(&written).collect();
    assert!(lost.is_empty() && new.is_empty(), "written and not there: {lost:#?}\nthere and not written: {new:#?}");
}

/// What makes a healthy host sick in two ways, the consequence, and its root.
type Chain = (fn(&mut Facts), &'static str, &'static str);

fn down(facts: &mut Facts) {
    device(facts).ports[0].state = Some(NamedCode { code: 1, name: "DOWN".to_owned() });
}

#[rustfmt::skip]
const CHAINS: &[Chain] = &[
    (|f| { f.wanted.devices.push("mlx5_0".to_owned()); down(f); }, "RD-0313/mlx5_0", "RD-0307/mlx5_0/1"),
    (|f| { interface(f).is_up = Some(false); down(f); }, "RD-0307/mlx5_0/1", "RD-0308/mlx5_0/1"),
    (|f| { asked_verbs(f).printed.push("Driver mlx5 does not support the kernel ABI of 6 (supports 1 to 1) for device uverbs0".to_owned());
        f.devices.devices[0].problem = Some(Problem { summary: "not listed".to_owned(), next_step: None }); }, "RD-0306/mlx5_0", "RD-0106/mlx5_0"),
    (|f| { f.host.limits.own = unprivileged(65536); registered(f, 12); }, "RD-0509/mlx5_0", "RD-0501/host"),
    (|f| { container(f); f.host.limits.own = unprivileged(65536); }, "RD-0501/host", "RD-0902/host"),
    (|f| { log(f, Event::Mlx5Health { pci: Some("0000:1a:00.0".to_owned()) }, 1); registered(f, 5); }, "RD-0509/mlx5_0", "RD-1110/0000:1a:00.0"),
    (|f| { log(f, Event::NvidiaXid { xid: 79, pci: Some("0000:1b:00".to_owned()) }, 1);
        answer(f).error = refused("NVML_ERROR_GPU_IS_LOST"); }, "RD-1116/0000:1b:00.0", "RD-1105/0000:1b:00.0"),
    // A GPU that is sick takes CUDA with it.
    (|f| { answer(f).error = refused("NVML_ERROR_UNKNOWN"); f.gpus.as_mut().unwrap().cuda.error = refused("CUDA_ERROR_UNKNOWN"); },
        "RD-0714/host", "RD-1116/0000:1b:00.0"),
    (|f| { gpu(f).config.as_mut().unwrap().is_answering = false; log(f, Event::NvidiaDeviceLost { pci: Some("0000:1b:00.0".to_owned()) }, 1); },
        "RD-1106/0000:1b:00.0", "RD-0809/0000:1b:00.0"),
    (|f| { f.host.topology.nics[0].path.segments[0].is_narrowed = true; f.host.topology.nics[0].path.bits_per_second = Some(1_000_000_000); },
        "RD-0803/mlx5_0", "RD-0801/mlx5_0"),
    (|f| { log(f, Event::PortModule { pci: Some("0000:1a:00.0".to_owned()), status: "Cable unplugged".to_owned() }, 1);
        interface(f).has_carrier = Some(false); }, "RD-0309/mlx5_0/1", "RD-1113/0000:1a:00.0"),
];

#[test]
fn consequences_are_under_their_roots() {
    let mut wrong = Vec::new();
    for (wound, consequence, root) in CHAINS {
        let mut facts = healthy();
        wound(&mut facts);
        let findings = run(&facts, registry());
        let bad = |key: &str| findings.iter().find(|finding| finding.status.is_bad() && finding.key() == key);
        match (bad(consequence), bad(root)) {
            (Some(found), Some(_)) if found.because.as_deref() == Some(*root) => {}
            (Some(found), Some(_)) => wrong.push(format!("{consequence} follows from {:?}, not {root}", found.because)),
            (found, there) => wrong.push(format!("{consequence}: {}, {root}: {}", found.is_some(), there.is_some())),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
