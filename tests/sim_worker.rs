//! The program's own child process over simulated devices: granted, refused, crashed, hung, and nothing left behind.

mod plain;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use rdmadoctor::sim::{ModelSource, SimConfig, SimDevice};
use rdmadoctor::verbs::QueuePairCaps;
use rdmadoctor::worker::{Connect, Count, Outcome, QpRequest, QpType, Target, Worker, WorkerOptions};
use rdmadoctor_types::{LinkLayer, QpState};

/// Six to send and one to receive, as eRDMA.
fn narrow(faults: &[&str]) -> SimConfig {
    let limits = QueuePairCaps { max_send_wr: 8192, max_recv_wr: 8192, max_send_sge: 6, max_recv_sge: 1, max_inline_data: 96 };
    let model = ModelSource::Given(Box::new(plain::plain("narrow", limits)));
    SimConfig {
        devices: vec![SimDevice { model, ..SimDevice::new("narrow_0", "") }],
        faults: faults.iter().map(|text| text.parse().unwrap()).collect(),
        ..SimConfig::default()
    }
}

fn worker(config: SimConfig) -> Worker {
    Worker::new(WorkerOptions {
        program: env!("CARGO_BIN_EXE_rdmadoctor").into(),
        target: Target::Devices(config),
        deadline: Duration::from_secs(3),
        interrupted: Arc::new(AtomicBool::new(false)),
    })
}

fn request(max_recv_sge: u32) -> QpRequest {
    QpRequest { max_recv_sge, ..QpRequest::base(QpType::RC) }
}

fn attempts(config: SimConfig, requests: &[QpRequest]) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    worker(config).attempts("narrow_0", requests, &mut |index, outcome| {
        assert_eq!(index, outcomes.len());
        outcomes.push(outcome);
        true
    });
    outcomes
}

fn verdicts(outcomes: &[Outcome]) -> Vec<&'static str> {
    outcomes.iter().map(|outcome| outcome.kind().name()).collect()
}

/// No child of this process is left that has ended and was not waited for.
fn assert_no_zombies() {
    let own = std::process::id().to_string();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        // State and parent follow the name, which stands in parentheses.
        let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
        let mut fields = rest.split(' ');
        let (state, parent) = (fields.next(), fields.next());
        assert!(!(state == Some("Z") && parent == Some(own.as_str())), "{stat}");
    }
}

// One test, because the look for zombies must not see those of another between death and reaping.
#[test]
fn granted_refused_crashed_and_hung() {
    let outcomes = attempts(narrow(&[]), &[request(1), request(4), request(1)]);
    assert_eq!(verdicts(&outcomes), ["granted", "refused", "granted"]);
    assert_eq!(outcomes[1].errno().unwrap().name(), "EINVAL");
    assert!(matches!(&outcomes[0], Outcome::Granted { caps, cq_depth: 64 } if *caps == request(1).caps()));

    // The incident: the refusal is followed by a null pointer.
    let outcomes = attempts(narrow(&["crash:ibv_create_qp,max_recv_sge=4"]), &[request(1), request(4), request(1)]);
    assert_eq!(verdicts(&outcomes), ["granted", "crashed", "granted"]);
    assert!(matches!(&outcomes[1], Outcome::Crashed { signal, .. } if signal == "SIGSEGV"));

    let started = Instant::now();
    let outcomes = attempts(narrow(&["hang:ibv_create_qp,max_recv_sge=4"]), &[request(4), request(1)]);
    assert_eq!(verdicts(&outcomes), ["hung", "granted"]);
    assert!(started.elapsed() < Duration::from_secs(60));

    // Counts go on in the next child, where there is a directory to keep them in.
    let directory = tempfile::tempdir().unwrap();
    let config = SimConfig { directory: Some(directory.path().to_owned()), ..narrow(&["crash:ibv_create_qp@2"]) };
    let outcomes = attempts(config, &[request(1), request(1), request(1), request(1), request(1)]);
    assert_eq!(verdicts(&outcomes), ["granted", "crashed", "granted", "granted", "granted"]);

    let mut counting = worker(narrow(&["exhaust:qp=5"]));
    let counted = counting.ask(Count { device: "narrow_0".to_owned(), request: request(1), ceiling: 100 }).unwrap();
    assert_eq!((counted.granted, counted.refused.map(|error| error.errno.name())), (5, Some("ENOMEM".to_owned())));
    let connected = counting.ask(Connect { device: "narrow_0".to_owned(), port: 1, gid_index: Some(1), request: request(1) }).unwrap();
    assert_eq!((connected.reached, connected.gid_index, connected.refused), (QpState::Rts, Some(1), None));

    let mut listing = worker(narrow(&[]));
    let inventory = listing.inventory(None).unwrap();
    assert_eq!(inventory.devices.len(), 1);
    let device = &inventory.devices[0];
    assert_eq!((device.name.as_str(), device.attributes.as_ref().unwrap().max_sge), ("narrow_0", 1));
    assert_eq!(device.ports[0].link_layer, LinkLayer::Ethernet);
    assert_eq!(inventory.connection_manager_error, None, "the real connection manager is not asked");
    let inventory = worker(SimConfig::of_models(["nothing"])).inventory(None).unwrap();
    assert!(inventory.library_error.unwrap().to_string().contains("nothing"));

    // One sick device of three: it is named, and the others are shown.
    let names = ["well_0", "sick_0", "well_1"];
    let several = |fault: &str| SimConfig { devices: names.map(|name| SimDevice::new(name, "erdma")).to_vec(), ..narrow(&[fault]) };
    for (fault, word) in [
        ("crash:ibv_open_device,device=sick_0", "SIGSEGV"),
        ("crash:ibv_query_device,device=sick_0", "SIGSEGV"),
        ("hang:ibv_open_device,device=sick_0", "no answer in 3000 ms"),
        ("hang:ibv_query_device,device=sick_0", "no answer in 3000 ms"),
    ] {
        let mut asking = worker(several(fault));
        let devices = asking.inventory(None).unwrap().devices;
        assert_eq!(devices.iter().map(|device| device.name.as_str()).collect::<Vec<_>>(), names, "{fault}");
        assert_eq!(devices.iter().map(|device| device.attributes.is_some()).collect::<Vec<_>>(), [true, false, true], "{fault}");
        assert!(devices[1].loss.as_ref().unwrap().to_string().contains(word), "{fault}: {:?}", devices[1].loss);
        // Who asks for another one does not wait for the sick one.
        let devices = asking.inventory(Some("well_1")).unwrap().devices;
        assert_eq!(devices.iter().map(|device| device.attributes.is_some()).collect::<Vec<_>>(), [false, false, true], "{fault}");
        assert!(devices.iter().all(|device| device.loss.is_none()), "{fault}");
    }
    let devices = worker(several("hang:ibv_open_device")).inventory(None).unwrap().devices;
    assert!(matches!(devices[2].loss, Some(rdmadoctor::worker::Lost::NotAsked)), "{devices:?}");

    // A program that is no child of ours.
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("babbler");
    std::fs::write(&program, "#!/bin/sh\necho hello >&0\nexec sleep 5\n").unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut babbling = Worker::new(WorkerOptions {
        program,
        target: Target::Devices(narrow(&[])),
        deadline: Duration::from_secs(5),
        interrupted: Arc::new(AtomicBool::new(false)),
    });
    assert!(matches!(babbling.inventory(None), Err(rdmadoctor::worker::Failure::Broken(_))));
    drop((listing, counting, babbling));
    assert_no_zombies();
}
