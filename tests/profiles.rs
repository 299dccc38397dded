//! Profiles of all modelled hosts: written, valid, fresh, and exported for every engine as the files in tests/snapshots have it.
#![allow(clippy::print_stderr, reason = "a test that cannot run says so")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rdmadoctor::profile::{self, HostSnapshot, Profile, save};
use rdmadoctor::sim::HostModel;
use rdmadoctor::worker::{Connect, QpRequest, QpType, Target, Worker, WorkerOptions};
use rdmadoctor_types::Transport;

const DOCTOR: &str = env!("CARGO_BIN_EXE_rdmadoctor");

fn doctor(arguments: &[&str]) -> Output {
    Command::new(DOCTOR).args(arguments).output().unwrap()
}

/// Writes a model's profile.
fn write(host: &str, directory: &Path) -> PathBuf {
    let file = directory.join(format!("{host}.yaml"));
    let ran = doctor(&["--host-model", host, "profile", "write", "-o", file.to_str().unwrap()]);
    assert!(file.is_file(), "{host}: {ran:?}");
    file
}

/// A child that serves a model's verbs.
fn worker(model: &HostModel) -> Worker {
    Worker::new(WorkerOptions {
        program: DOCTOR.into(),
        target: Target::Devices(model.simulation()),
        deadline: Duration::from_secs(10),
        interrupted: Arc::new(AtomicBool::new(false)),
    })
}

#[test]
fn the_gid_that_a_profile_names_is_the_one_that_is_connected_and_measured() {
    let directory = tempfile::tempdir().unwrap();
    let mut compared = 0;
    for host in HostModel::names() {
        let profile = profile::load(&write(host, directory.path())).unwrap();
        let model = HostModel::find(host).unwrap();
        let mut worker = worker(&model);
        let inventory = worker.inventory(None);
        let seen = HostSnapshot::look(host.to_owned(), &model.root(), &inventory);
        for port in profile.devices.iter().filter(|port| port.port == 1 && port.is_active()) {
            let Some(gid) = &port.gid else { continue };
            if seen.verbs(&port.name).is_none() {
                // Nobody can connect what libibverbs does not list.
                continue;
            }
            let (_, found) = seen.port(&port.name, port.port).unwrap();
            if port.transport != Transport::Unspecified {
                let connected = worker
                    .ask(Connect {
                        device: port.name.clone(),
                        port: 1,
                        gid_index: found.best_gid_index(),
                        request: QpRequest::base(QpType::RC),
                    })
                    .unwrap();
                let used = found.gids.iter().find(|known| Some(known.index) == connected.gid_index);
                assert_eq!(used.map(|known| &known.gid), Some(&gid.value), "{host} {}: {connected:?}", port.name);
            }
            let brief = ["--sizes", "64", "--iterations", "1", "--repeats", "1", "--depth", "1", "--batch", "1", "--buffer", "hot"];
            let ran = doctor(&[&["--host-model", host, "--format", "json", "bw", &port.name][..], &brief].concat());
            let measured: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
            assert_eq!(measured["connection"]["local"]["gid"], gid.value, "{host} {}", port.name);
            compared += 1;
        }
    }
    assert!(compared > 5, "{compared}");
}

#[test]
fn every_model_is_exported_for_every_engine() {
    let directory = tempfile::tempdir().unwrap();
    let hosts: Vec<&str> = HostModel::names().collect();
    let files: Vec<PathBuf> = hosts.iter().map(|host| write(host, directory.path())).collect();
    for (host, file) in hosts.iter().zip(&files) {
        let file = file.to_str().unwrap();
        let valid = doctor(&["profile", "validate", file]);
        assert!(valid.status.success(), "{valid:?}");
        let checked = doctor(&["--host-model", host, "profile", "check", "--profile", file, "--within", "30s"]);
        assert!(checked.status.success(), "{checked:?}");
        let profile = profile::load(Path::new(file)).unwrap();
        assert!(!profile.validated && profile.host.model.as_deref() == Some(host));
    }
    for engine in rdmadoctor::profile::export::names() {
        let mut golden = String::new();
        for (host, file) in hosts.iter().zip(&files) {
            let created = profile::load(file).unwrap().created;
            let file = file.to_str().unwrap();
            let ran = doctor(&["--host-model", host, "--format", "json", "profile", "export", "--profile", file, "--for", engine]);
            golden += &format!("==== {host}\n");
            if !ran.status.success() {
                assert_eq!(ran.status.code(), Some(1), "{engine} on {host}: {ran:?}");
                golden += &String::from_utf8(ran.stderr).unwrap();
                continue;
            }
            let document: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
            for part in document["parts"].as_array().unwrap() {
                golden += &format!("---- {} ({})\n", part["name"].as_str().unwrap(), part["file"].as_str().unwrap());
                golden += &part["text"].as_str().unwrap().replace(&created, "[CREATED]");
            }
        }
        insta::assert_snapshot!(format!("export-{engine}"), golden);
    }
}

/// What each engine reads of a port that is not the first and of a traffic class, by the names of its own documentation.
const OF_SECOND_PORTS: &[(&str, &str, &[&str])] = &[
    // docs.nvidia.com NCCL: NCCL_IB_HCA (`=` for exact names, `:port`), NCCL_IB_GID_INDEX, NCCL_IB_TC.
    ("nccl", "conf", &["NCCL_IB_HCA==mlx5_0:2,mlx5_1:2", "NCCL_IB_GID_INDEX=5", "NCCL_IB_TC=106"]),
    ("nccl", "env", &["NCCL_IB_HCA==mlx5_0:2,mlx5_1:2", "NCCL_IB_GID_INDEX=5", "NCCL_IB_TC=106"]),
    // `ucx_info -c -f`.
    ("ucx", "conf", &["UCX_NET_DEVICES=mlx5_0:2,mlx5_1:2", "UCX_IB_GID_INDEX=5", "UCX_IB_TRAFFIC_CLASS=106"]),
    ("ucx", "env", &["UCX_NET_DEVICES=mlx5_0:2,mlx5_1:2", "UCX_IB_GID_INDEX=5", "UCX_IB_TRAFFIC_CLASS=106"]),
    // Mooncake's documentation of the Transfer Engine, advanced runtime settings.
    ("mooncake", "env", &["MC_GID_INDEX=5", "MC_IB_PORT=2", "MC_IB_TC=106"]),
    ("vllm", "env", &["MC_GID_INDEX=5", "MC_IB_PORT=2", "MC_IB_TC=106"]),
    ("sglang", "env", &["MC_GID_INDEX=5", "MC_IB_PORT=2", "MC_IB_TC=106"]),
    // NVSHMEM's environment variables: `NVSHMEM_HCA_LIST` takes `name:port`.
    ("nvshmem", "env", &["NVSHMEM_HCA_LIST=mlx5_0:2,mlx5_1:2", "NVSHMEM_IB_GID_INDEX=5", "NVSHMEM_IB_TRAFFIC_CLASS=106"]),
    ("dlslime", "env", &["SLIME_VISIBLE_DEVICES=mlx5_0,mlx5_1", "SLIME_GID_INDEX=5"]),
    ("env", "env", &["RDMADOCTOR_DEVICES=mlx5_0:2,mlx5_1:2", "RDMADOCTOR_MLX5_0_2_GID_INDEX=5", "RDMADOCTOR_MLX5_1_2_GID_INDEX=5"]),
];

#[test]
fn second_ports_and_traffic_classes_are_exported_by_the_engines_own_names() {
    const HOST: &str = "tests/hosts/second-port.yaml";
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("profile.yaml");
    let file = file.to_str().unwrap();
    assert!(doctor(&["--host-model", HOST, "profile", "write", "-o", file]).status.success());
    let export = |arguments: &[&str]| {
        let ran = doctor(&[&["--host-model", HOST, "-q", "profile", "export", "--profile", file], arguments].concat());
        (ran.status.code(), String::from_utf8(ran.stdout).unwrap() + &String::from_utf8(ran.stderr).unwrap())
    };
    for (engine, part, expected) in OF_SECOND_PORTS {
        let (code, text) = export(&["--for", engine, "--part", part]);
        assert_eq!(code, Some(0), "{engine}: {text}");
        for line in *expected {
            assert!(text.lines().any(|found| found == *line), "{engine} {part} has no {line}:\n{text}");
        }
    }
    // Mooncake's keys of TENT (tent/config/transfer-engine.json).
    let tent: serde_json::Value = serde_json::from_str(&export(&["--for", "mooncake-tent"]).1).unwrap();
    let rdma = &tent["transports"]["rdma"];
    assert_eq!((rdma["device"]["port"].as_u64(), rdma["device"]["gid_index"].as_u64()), (Some(2), Some(5)));
    assert_eq!(rdma["endpoint"]["traffic_class"].as_u64(), Some(106));
    // Both use the first port whatever they are told.
    for engine in ["nixl", "lmdeploy"] {
        let (code, text) = export(&["--for", engine]);
        assert!(code == Some(1) && text.contains("mlx5_0: its active port is 2"), "{engine}: {text}");
    }
    let created = profile::load(Path::new(file)).unwrap().created;
    let mut golden = String::new();
    for engine in rdmadoctor::profile::export::names() {
        golden += &format!("==== {engine}\n{}", export(&["--for", engine]).1.replace(&created, "[CREATED]"));
    }
    insta::assert_snapshot!("export-of-second-ports", golden);

    // Ports that differ in the class have none in common, and one that has none has none.
    let written = profile::load(Path::new(file)).unwrap();
    let second = written.devices.iter().rposition(|port| port.port == 2).unwrap();
    for class in [Some(104), None] {
        let mut other = written.clone();
        let own = other.devices[second].traffic_class.take();
        other.devices[second].traffic_class = own.filter(|_| class.is_some()).map(|own| profile::Proven { value: 104, ..own });
        save(Path::new(file), &profile::to_yaml(&other).unwrap()).unwrap();
        for engine in ["nccl", "ucx", "mooncake", "nvshmem", "mooncake-tent"] {
            let (code, text) = export(&["--for", engine]);
            let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
            let names_it = |line: &&str| line.contains("_TC") || line.contains("TRAFFIC_CLASS") || line.contains("traffic_class");
            assert!(code == Some(0) && !lines.iter().any(names_it), "{engine}: {text}");
        }
        assert!(export(&["--for", "nccl", "--gpu", "0"]).1.contains("\nNCCL_IB_TC=106\n"));
    }
}

#[test]
fn a_config_map_holds_an_export() {
    let directory = tempfile::tempdir().unwrap();
    let file = write("h100x8-cx7", directory.path());
    let file = file.to_str().unwrap();
    let arguments =
        ["--host-model", "h100x8-cx7", "profile", "export", "--profile", file, "--for", "mooncake", "--config-map", "mooncake-node-1"];
    let text = String::from_utf8(doctor(&arguments).stdout).unwrap();
    let map: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
    assert_eq!((map["kind"].as_str(), map["metadata"]["name"].as_str()), (Some("ConfigMap"), Some("mooncake-node-1")));
    assert_eq!(map["data"]["MC_GID_INDEX"].as_str(), Some("3"));
    let topology: serde_json::Value = serde_json::from_str(map["data"]["mooncake-topology.json"].as_str().unwrap()).unwrap();
    assert_eq!(topology["cuda:7"][0][0], "mlx5_7");
}

#[test]
fn ranks_and_gpus_get_their_own_nic() {
    let directory = tempfile::tempdir().unwrap();
    let file = write("h100x8-cx7", directory.path());
    let file = file.to_str().unwrap();
    let export = |arguments: &[&str]| {
        let ran = doctor(&[&["--host-model", "h100x8-cx7", "-q", "profile", "export", "--profile", file], arguments].concat());
        (ran.status.code(), String::from_utf8(ran.stdout).unwrap(), String::from_utf8(ran.stderr).unwrap())
    };
    assert!(export(&["--for", "dlslime", "--rank", "5", "--world", "8"]).1.contains("\nSLIME_VISIBLE_DEVICES=mlx5_5\n"));
    assert!(export(&["--for", "nccl", "--gpu", "2"]).1.contains("\nNCCL_IB_HCA==mlx5_2:1\n"));
    let (code, _, error) = export(&["--for", "nccl", "--gpu", "8"]);
    assert!(code == Some(2) && error.contains("it has 8 of them"), "{error}");
    let (code, _, error) = export(&["--for", "dlslime", "--rank", "8", "--world", "8"]);
    assert!(code == Some(2) && error.contains("not below"), "{error}");
    let (code, _, error) = export(&["--for", "nonsense"]);
    assert!(code == Some(2) && error.contains("known are dlslime"), "{error}");
    let (code, _, error) = export(&["--for", "dlslime", "--version", "0.0.0"]);
    assert!(code == Some(0), "{error}");
    let (code, _, error) = export(&["--for", "env", "--part", "conf"]);
    assert!(code == Some(2) && error.contains("it has env"), "{error}");
}

#[test]
fn of_nics_that_are_equally_near_a_gpu_takes_all_and_a_rank_the_first() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("profile.yaml");
    let (host, file) = ("tests/hosts/near.yaml", file.to_str().unwrap());
    assert!(doctor(&["--host-model", host, "profile", "write", "--engine", "nccl", "-o", file]).status.success());
    let exported = |which: &[&str]| {
        let ran = doctor(&[&["--host-model", host, "-q", "profile", "export", "--profile", file, "--for", "nccl"], which].concat());
        let text = String::from_utf8(ran.stdout).unwrap();
        text.lines().find_map(|line| line.strip_prefix("NCCL_IB_HCA==")).unwrap().to_owned()
    };
    assert_eq!([exported(&[]), exported(&["--gpu", "0"])], ["mlx5_0:1,mlx5_1:1"; 2]);
    // The third rank has the first GPU again.
    assert_eq!([exported(&["--rank", "0"]), exported(&["--rank", "2", "--world", "4"])], ["mlx5_0:1"; 2]);
}

#[test]
fn an_engine_works_where_one_device_takes_it_and_the_others_are_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("profile.yaml");
    let (host, file) = ("tests/hosts/mixed.yaml", file.to_str().unwrap());
    assert!(doctor(&["--host-model", host, "profile", "write", "--engine", "nccl", "-o", file]).status.success());
    let written = profile::load(Path::new(file)).unwrap();
    let [engine] = &written.engines[..] else { panic!("{:?}", written.engines) };
    let verdicts: Vec<_> = engine.devices.iter().map(|device| (device.name.as_str(), device.verdict)).collect();
    assert_eq!(engine.verdict, profile::EngineVerdict::Works);
    assert_eq!(verdicts, [("mlx5_0", profile::EngineVerdict::Works), ("mlx5_1", profile::EngineVerdict::Fails)]);
    assert!(engine.devices[1].obstacles.iter().all(|obstacle| obstacle.summary.contains("no RC queue pairs")), "{engine:?}");
    let ran = doctor(&["--host-model", host, "profile", "export", "--profile", file, "--for", "nccl"]);
    assert!(String::from_utf8(ran.stdout).unwrap().contains("\nNCCL_IB_HCA==mlx5_0:1\n"));
    assert!(String::from_utf8(ran.stderr).unwrap().contains("mlx5_1 is left out"));
}

#[test]
fn the_named_files_are_written_where_settings_name_them() {
    let directory = tempfile::tempdir().unwrap();
    let file = write("e810", directory.path());
    let files = directory.path().join("files");
    let ran = doctor(&[
        "--host-model",
        "e810",
        "profile",
        "export",
        "--profile",
        file.to_str().unwrap(),
        "--for",
        "mooncake",
        "--files",
        files.to_str().unwrap(),
    ]);
    let text = String::from_utf8(ran.stdout).unwrap();
    let named = text.lines().find_map(|line| line.strip_prefix("MC_CUSTOM_TOPO_JSON=")).unwrap();
    let matrix: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(named).unwrap()).unwrap();
    assert_eq!(matrix["cuda:0"][0][0], "irdma0");
}

#[test]
fn a_profile_belongs_to_its_host() {
    let directory = tempfile::tempdir().unwrap();
    let (e810, efa) = (write("e810", directory.path()), write("aws-efa", directory.path()));
    let (e810, efa) = (e810.to_str().unwrap(), efa.to_str().unwrap());
    for command in [&["check"][..], &["export", "--for", "env"], &["exec", "--for", "env"]] {
        let mut arguments = [&["profile"], command, &["--profile", e810]].concat();
        if command[0] == "exec" {
            arguments.extend(["--", "true"]);
        }
        let ran = doctor(&arguments);
        let error = String::from_utf8(ran.stderr).unwrap();
        assert!(ran.status.code() == Some(2) && error.contains("--host-model e810"), "{command:?}: {error}");
    }
    let ran = doctor(&["profile", "diff", e810, efa]);
    assert_eq!(ran.status.code(), Some(1));
    assert!(String::from_utf8(ran.stdout).unwrap().contains("devices/irdma0/1/gid"));
    assert_eq!(doctor(&["profile", "diff", e810, e810]).status.code(), Some(0));
    let ran = doctor(&["--host-model", "e810", "profile", "write"]);
    assert!(ran.status.code() == Some(2) && String::from_utf8(ran.stderr).unwrap().contains("-o FILE"));
}

#[test]
fn what_cannot_be_written_is_still_printed_where_that_is_asked() {
    let ran = doctor(&["--host-model", "bare", "profile", "write", "-o", "/proc/nowhere/profile.yaml", "--stdout"]);
    assert_eq!(ran.status.code(), Some(3), "{ran:?}");
    assert!(String::from_utf8(ran.stderr).unwrap().contains("cannot write /proc/nowhere/profile.yaml: making /proc/nowhere"));
    let text = String::from_utf8(ran.stdout).unwrap();
    profile::parse(Path::new("stdout"), &text).unwrap();
}

/// A crash after the rename must find the new contents: they are on the disk before, and the new name is after.
#[test]
fn a_file_is_on_the_disk_before_it_takes_the_place_of_the_old_one() {
    let directory = tempfile::tempdir().unwrap();
    // strace tells where its descriptors lead by the names that the kernel has.
    let place = directory.path().canonicalize().unwrap().join("profiles");
    let (file, trace) = (place.join("profile.yaml"), directory.path().join("trace"));
    let strace = |output: &Path, program: &[&str]| {
        let calls = "trace=write,writev,fsync,fdatasync,rename,renameat,renameat2,link,linkat";
        Command::new("strace").args(["-f", "-y", "-e", calls, "-o"]).arg(output).args(program).output()
    };
    match strace(Path::new("/dev/null"), &["true"]) {
        Ok(ran) if ran.status.success() => {}
        tried => {
            eprintln!("skipped: strace is not here, or may not trace: {tried:?}");
            return;
        }
    }
    let arguments = [DOCTOR, "--host-model", "bare", "-q", "profile", "write", "-o", file.to_str().unwrap()];
    // Twice: a new file, and one in the place of another.
    for _ in 0..2 {
        let ran = strace(&trace, &arguments).unwrap();
        assert!(file.is_file(), "{ran:?}");
        let text = std::fs::read_to_string(&trace).unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| line.contains(place.to_str().unwrap())).collect();
        let is_of = |line: &str, calls: &[&str]| {
            let call = line.split_once(' ').map_or("", |(_, call)| call.trim_start());
            calls.iter().any(|name| call.starts_with(&format!("{name}(")))
        };
        let only = |calls: &[&str], end: &str| {
            let places: Vec<usize> = (0..lines.len()).filter(|at| is_of(lines[*at], calls) && lines[*at].contains(end)).collect();
            assert!(!places.is_empty(), "no {calls:?} of {end}:\n{text}");
            places
        };
        let written = only(&["write", "writev"], ".tmp>");
        let synced = only(&["fsync", "fdatasync"], ".tmp>");
        let renamed = only(&["rename", "renameat", "renameat2"], "profile.yaml\"");
        let kept = only(&["fsync"], "/profiles>");
        assert!(lines[renamed[0]].contains(".tmp\""), "{text}");
        let order = [*written.last().unwrap(), synced[0], renamed[0], kept[0]];
        assert!(order.is_sorted_by(|before, after| before < after), "write, fsync, rename, fsync of the directory: {order:?}\n{text}");
        let went_well = |at: &usize| lines[*at].ends_with("= 0") || lines[*at].contains("<unfinished");
        assert!([synced[0], renamed[0], kept[0]].iter().all(went_well), "{text}");
    }
}

#[test]
fn a_killed_writer_leaves_a_whole_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = write("e810", directory.path());
    // A thousand times takes minutes; RDMADOCTOR_KILLS asks for them.
    let kills: u64 = std::env::var("RDMADOCTOR_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(20);
    let mut replaced = 0;
    for kill in 0..kills {
        let before = std::fs::read_to_string(&file).unwrap();
        let mut child = Command::new(DOCTOR)
            .args(["--host-model", "bare", "-q", "profile", "write", "-o", file.to_str().unwrap()])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // Moments spread over the time that it takes.
        std::thread::sleep(std::time::Duration::from_micros(kill * 7919 % 90_000));
        let _ = child.kill();
        child.wait().unwrap();
        let after = std::fs::read_to_string(&file).unwrap();
        profile::parse(&file, &after).unwrap_or_else(|error| panic!("kill {kill}: {error}"));
        replaced += u64::from(after != before);
    }
    assert!(kills < 100 || (replaced > 0 && replaced < kills), "{replaced} of {kills}: the moments do not straddle the writing");
}

/// The body of [`a_thousand_killed_writers_leave_whole_files`]'s helpers: saves one of two texts after another until it is killed.
#[test]
fn saves_until_it_is_killed() {
    let Ok(file) = std::env::var("RDMADOCTOR_SAVE_FOR_EVER") else { return };
    let texts = ["a", "b"].map(whole);
    // The parent waits for it.
    std::io::stdout().write_all(format!("{BEGUN}\n").as_bytes()).unwrap();
    for text in texts.iter().cycle() {
        save(Path::new(&file), text).unwrap();
    }
}

const BEGUN: &str = "the helper saves from now on";

/// A text of which a part, or a mixture with another one, can be told.
fn whole(letter: &str) -> String {
    format!("begin {}\n{}end {letter}\n", letter, format!("{letter}\n").repeat(50_000))
}

/// Four processes that save to one file at the same time, killed at random moments of it and started again: what `profile write` does last.
#[test]
fn a_thousand_killed_writers_leave_whole_files() {
    const WRITERS: u64 = 4;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("profile.yaml");
    let texts = ["a", "b"].map(whole);
    save(&file, &texts[0]).unwrap();
    let is_whole = |kill: u64| {
        let seen = std::fs::read_to_string(&file).unwrap();
        assert!(texts.contains(&seen), "kill {kill}: {} bytes, not one of the texts", seen.len());
        seen
    };
    let start = || {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "saves_until_it_is_killed", "--nocapture", "--test-threads=1"])
            .env("RDMADOCTOR_SAVE_FOR_EVER", &file)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains(BEGUN)));
        child
    };
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            scope.spawn(move || {
                for kill in (0..1000).filter(|kill| kill % WRITERS == writer) {
                    let mut child = start();
                    // Moments spread over some savings.
                    std::thread::sleep(std::time::Duration::from_micros(kill * 7919 % 4_000));
                    child.kill().unwrap();
                    child.wait().unwrap();
                    is_whole(kill);
                }
            });
        }
    });
    // Killed in the middle: what they were writing is left behind under other names, and the next writer is not in its way.
    let left = std::fs::read_dir(directory.path()).unwrap().count() - 1;
    assert!(left > 0, "no writer was killed while it wrote");
    save(&file, &texts[1]).unwrap();
    assert_eq!(is_whole(1000), texts[1]);
}

/// Writes a model's profile for one engine, with more options.
fn small(host: &str, options: &[&str]) -> Profile {
    let arguments = [&["--host-model", host, "profile", "write", "--engine", "nccl", "-o", "-"], options].concat();
    let ran = doctor(&arguments);
    assert!(ran.status.success(), "{ran:?}");
    profile::parse(Path::new("stdout"), &String::from_utf8(ran.stdout).unwrap()).unwrap()
}

#[test]
fn the_way_of_gpu_memory_is_what_was_tried() {
    let profile = small("h100x8-cx7", &[]);
    assert_eq!(profile.gpus.len(), 8);
    for gpu in &profile.gpus {
        let path = gpu.path.as_ref().unwrap();
        assert_eq!((path.kind.as_str(), path.nic.as_ref()), ("dmabuf", Some(&gpu.nics[0].name)), "{gpu:?}");
        assert!(profile.evidence(&path.evidence).unwrap().summary.contains("ibv_reg_dmabuf_mr"), "{gpu:?}");
        // This model has nvidia_peermem and an ib_core that takes it as well.
        assert!(path.failed.is_empty() && path.also.iter().any(|way| way.kind == "peermem"), "{path:?}");
        assert!(gpu.uuid.is_some() && gpu.nics.iter().all(|nic| nic.path.is_some()), "{gpu:?}");
    }
    assert!(profile.unvalidated.iter().all(|one| !one.entry.starts_with("gpus/")), "{:?}", profile.unvalidated);

    // Where neither way works copies are left, which nobody has tried.
    let profile = small("e810", &[]);
    for gpu in &profile.gpus {
        assert_eq!(gpu.path.as_ref().unwrap().kind, "staged");
        let failed = &gpu.path.as_ref().unwrap().failed;
        assert!(failed.len() == 2 && failed[0].why.contains("EOPNOTSUPP") && failed[1].why.contains("EFAULT"), "{failed:?}");
        assert!(profile.unvalidated.iter().any(|one| one.entry == format!("gpus/{}/path", gpu.pci)), "{:?}", profile.unvalidated);
    }
}

#[test]
fn memory_that_is_asked_for_is_registered() {
    let profile = small("e810", &["--kv-bytes", "24M", "--no-transfers"]);
    for port in &profile.devices {
        let memory = port.memory.as_ref().unwrap();
        assert_eq!((memory.asked_bytes, memory.registered_bytes, memory.regions), (Some(24 << 20), Some(24 << 20), Some(1)), "{memory:?}");
        let evidence = profile.evidence(memory.registered_evidence.as_deref().unwrap()).unwrap();
        assert!(evidence.summary.contains("25165824 bytes of host memory"), "{evidence:?}");
        assert!(port.measurements.is_empty());
    }
    assert!(profile.unvalidated.iter().any(|one| one.why.contains("--no-transfers")), "{:?}", profile.unvalidated);
    assert!(profile.unvalidated.iter().all(|one| !one.entry.ends_with("/memory")), "{:?}", profile.unvalidated);
}

#[test]
fn a_profile_of_before_measurements_is_still_read() {
    let file = "tests/profile/first.yaml";
    assert!(doctor(&["profile", "validate", file]).status.success());
    let ran = doctor(&["--host-model", "e810", "profile", "check", "--profile", file, "--within", "30s"]);
    assert!(ran.status.success(), "{ran:?}");
    let ran = doctor(&["--host-model", "e810", "-q", "profile", "export", "--profile", file, "--for", "nccl"]);
    assert!(String::from_utf8(ran.stdout).unwrap().contains("\nNCCL_IB_HCA==irdma0:1,irdma1:1\n"));
}

#[test]
fn the_depth_of_a_shared_receive_queue_is_no_way_to_do_without_one() {
    // irdma has none; UCX_RC_VERBS_RX_QUEUE_LEN and NVSHMEM_SRQ_DEPTH set depths.
    let ran = doctor(&["--host-model", "e810", "--format", "json", "qp-matrix", "--engine", "ucx", "--engine", "nvshmem"]);
    let document: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    let culprits: Vec<&serde_json::Value> = document["devices"][0]["asks"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|ask| ask["culprits"].as_array().unwrap())
        .filter(|culprit| culprit["parameter"] == "srq")
        .collect();
    assert_eq!(culprits.len(), 2, "{document:#}");
    assert!(culprits.iter().all(|culprit| culprit["setting"].is_null()), "{culprits:#?}");
}
