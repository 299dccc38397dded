//! Modelled hosts that meet in a directory: two of them, of one model and of two, and eight in a ring.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

const TOKEN: &str = "correct horse battery staple";
const H100: &str = "h100x8-cx7";

/// The program as a modelled host of a network. It waits long: tests run on machines that are busy with other tests.
fn host(model: &str, network: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rdmadoctor"));
    command.args(["-q", "--format", "json", "--answer-within", "60s", "--host-model", model, "--sim-network"]).arg(network);
    command.env("RDMADOCTOR_TOKEN", TOKEN).stdin(Stdio::null());
    command
}

/// A short run, which is started but not waited for.
fn client(mut host: Command, what: &str, peer: &Peer) -> Command {
    let buffer: &[&str] = if what == "bw" { &["--buffer", "hot"] } else { &[] };
    host.args([what, "--sizes", "64,8k", "--iterations", "40", "--repeats", "2", "--peer", &peer.address()]).args(buffer);
    host
}

fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// A server on one of the hosts.
struct Peer {
    child: Child,
    port: u64,
}

impl Peer {
    fn start(mut host: Command) -> Self {
        let mut child = host.args(["peer", "--listen", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut text = String::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            text += &line;
            if line == "}" {
                break;
            }
        }
        let listening: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        Self { child, port: listening["port"].as_u64().unwrap() }
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Without a word, as a host dies.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All results have figures of data that was compared, and nothing is said of their being fast or slow.
fn moved(what: &str, document: &Value) {
    assert_eq!(document["connection"]["is_simulated"], true, "{document:#}");
    assert_eq!(document["notices"], serde_json::json!([]), "{document:#}");
    let results = document["results"].as_array().unwrap();
    assert!(!results.is_empty() && document["problems"] == serde_json::json!([]), "{document:#}");
    let figure = if what == "bw" { "bytes_per_second" } else { "latencies" };
    for result in results {
        let verification = &result["verification"];
        assert!(verification["messages"].as_u64() > Some(0) && verification["mismatch"].is_null(), "{result:#}");
        assert!(result["failure"].is_null() && !result[figure].is_null(), "{result:#}");
    }
}

/// Both commands from one model to the other; gives what `bw` says of the connection.
fn both_move(here: &str, there: &str) -> Value {
    let network = tempfile::tempdir_in("/tmp").unwrap();
    let peer = Peer::start(host(there, network.path()));
    let run = |what| document(&client(host(here, network.path()), what, &peer).output().unwrap());
    moved("ping", &run("ping"));
    let bw = run("bw");
    moved("bw", &bw);
    bw["connection"].clone()
}

fn refusal(mut command: Command) -> String {
    let output = command.arg("devices").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    said
}

#[test]
fn two_hosts_of_one_model_move_verified_data() {
    let connection = both_move(H100, H100);
    let gid = |end: &str| connection[end]["gid"].as_str().unwrap().to_owned();
    // 10.1.0.11 is the model's own, the other one its neighbour.
    assert!(gid("remote").ends_with(":ffff:0a01:000b") && gid("local").ends_with(":ffff:0a01:000c"), "{connection:#}");
}

#[test]
fn two_hosts_of_two_models_move_verified_data() {
    let connection = both_move("e810", H100);
    assert_eq!((&connection["local"]["device"], &connection["remote"]["device"]), (&"irdma0".into(), &"mlx5_0".into()));
}

#[test]
fn iwarp_adapters_find_each_other_by_rdma_cm() {
    assert_eq!(both_move("erdma-a10x8", "erdma-a10x8")["connect"], "cm");
}

#[test]
fn eight_hosts_in_a_ring_move_verified_data() {
    let network = tempfile::tempdir_in("/tmp").unwrap();
    let ring: Vec<Peer> = (0..8)
        .map(|number| {
            let mut host = host(if number % 2 == 0 { H100 } else { "e810" }, network.path());
            host.args(["--sim-host", &number.to_string()]);
            Peer::start(host)
        })
        .collect();
    let start = |number: usize| {
        let model = if number.is_multiple_of(2) { H100 } else { "e810" };
        let next = &ring[(number + 1) % ring.len()];
        client(host(model, network.path()), "bw", next).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let clients: Vec<Child> = (0..ring.len()).map(start).collect();
    for client in clients {
        moved("bw", &document(&client.wait_with_output().unwrap()));
    }
}

#[test]
fn a_number_is_one_process_and_free_when_that_is_gone() {
    let network = tempfile::tempdir_in("/tmp").unwrap();
    let numbered = |number: &str| {
        let mut host = host(H100, network.path());
        host.args(["--sim-host", number]);
        host
    };
    let peer = Peer::start(numbered("3"));
    let said = refusal(numbered("3"));
    let place = network.path().display();
    assert!(said.contains(&format!("host 3 of the modelled network {place} is in use: process {}", peer.child.id())), "{said}");
    assert!(refusal(numbered("300")).contains("h100x8-cx7 has no host 300: the subnet of 10.1.0.11/24"));
    // The second free number, and so the second address.
    let first = Peer::start(host(H100, network.path()));
    let devices = String::from_utf8(host(H100, network.path()).arg("devices").output().unwrap().stdout).unwrap();
    assert!(devices.contains("10.1.0.12") && !devices.contains("10.1.0.11\""), "{devices}");
    drop((peer, first));
    let again = Peer::start(numbered("3"));
    moved("bw", &document(&client(host(H100, network.path()), "bw", &again).output().unwrap()));
}

#[test]
fn another_hosts_address_is_not_given_twice() {
    let network = tempfile::tempdir_in("/tmp").unwrap();
    let other = network.path().join("other.yaml");
    std::fs::write(
        &other,
        "schema: rdmadoctor/host/1\nname: other\ntitle: t\nextends: h100x8-cx7\nnics:\n  - {name: mlx5_0, addresses: [10.1.0.12/24]}\n",
    )
    .unwrap();
    let _peer = Peer::start(host(other.to_str().unwrap(), network.path()));
    let mut taken = host(H100, network.path());
    taken.args(["--sim-host", "1"]);
    let said = refusal(taken);
    assert!(said.contains("which host 0 has; state another number"), "{said}");
    // The next number that has no such address.
    let devices = String::from_utf8(host(H100, network.path()).arg("devices").output().unwrap().stdout).unwrap();
    assert!(devices.contains("10.1.0.13"), "{devices}");
}

#[test]
fn a_directory_that_cannot_be_used_is_named() {
    let directory = tempfile::tempdir_in("/tmp").unwrap();
    let (file, long) = (directory.path().join("file"), directory.path().join("x".repeat(90)));
    std::fs::write(&file, "").unwrap();
    std::fs::create_dir(&long).unwrap();
    for (place, why) in [
        (directory.path().join("nowhere").as_path(), "there is no such directory; make it first: mkdir"),
        (&file, "it is no directory"),
        (&long, "its path is too long for sockets in it"),
        // Nobody makes files there.
        (Path::new("/proc"), "cannot use a file in it"),
    ] {
        let said = refusal(host(H100, place));
        assert!(said.contains(&format!("the modelled network {}: {why}", place.display())), "{said}");
    }
}

/// What somebody else put in the place of the network's own files stays as it is, and is not waited for.
#[test]
fn what_is_not_its_own_is_left_alone() {
    use std::os::unix::net::UnixListener;
    let elsewhere = tempfile::tempdir_in("/tmp").unwrap();
    let decoy = elsewhere.path().join("decoy");
    std::fs::write(&decoy, "precious").unwrap();
    type Put<'a> = &'a dyn Fn(&Path);
    let link: Put<'_> = &|path| std::os::unix::fs::symlink(&decoy, path).unwrap();
    let second_name: Put<'_> = &|path| std::fs::hard_link(&decoy, path).unwrap();
    let fifo: Put<'_> = &|path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let foreign: Put<'_> = &|path| std::fs::write(path, "precious").unwrap();
    let directory: Put<'_> = &|path| std::fs::create_dir(path).unwrap();
    let socket: Put<'_> = &|path| drop(UnixListener::bind(path).unwrap());
    for (name, put, why) in [
        ("host-0.json", link, "is a link"),
        ("lock", link, "is a link"),
        ("host-0.json", second_name, "has a second name"),
        ("host-0.json", fifo, "is no regular file"),
        ("host-7.json", fifo, "is no regular file"),
        ("lock", fifo, "is no regular file"),
        ("host-0.json", socket, "No such device or address"),
        ("host-0.json", directory, "Is a directory"),
        ("host-0.json", foreign, "has something else in it"),
    ] {
        let network = tempfile::tempdir_in("/tmp").unwrap();
        let path = network.path().join(name);
        put(&path);
        let said = refusal(host(H100, network.path()));
        assert!(said.contains(why) && said.contains(path.to_str().unwrap()), "{name}: {said}");
        assert_eq!(std::fs::read_to_string(&decoy).unwrap(), "precious", "{name} {why}");
        assert!(!path.is_file() || !std::fs::read(&path).unwrap().is_empty(), "{name} {why}");
    }
    let network = tempfile::tempdir_in("/tmp").unwrap();
    let place = network.path().join("0.sock");
    foreign(&place);
    let output = host(H100, network.path()).args(["bw", "mlx5_0", "--sizes", "64", "--iterations", "4"]).output().unwrap();
    assert_ne!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(std::fs::read_to_string(&place).unwrap(), "precious");
}

#[test]
fn only_modelled_hosts_have_a_network() {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_rdmadoctor")).args(arguments).arg("devices").output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(run(&["--sim-network", "/tmp"]).contains("give --host-model NAME with it"));
    assert!(run(&["--host-model", H100, "--sim-host", "1"]).contains("give --sim-network DIR with it"));
}

/// Such runs end before any request makes a completion, and used to fill the queue together.
#[test]
fn many_short_runs_of_ping_do_not_fill_the_queue() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rdmadoctor"));
    command.args(["-q", "--format", "json", "--host-model", H100, "ping", "--op", "write", "--sizes", "64", "--iterations", "3"]);
    moved("ping", &document(&command.args(["--repeats", "40"]).output().unwrap()));
}
/// What a client hears that is no host of the peer's network.
#[test]
fn a_host_of_no_network_is_told_so() {
    let network = tempfile::tempdir_in("/tmp").unwrap();
    let peer = Peer::start(host(H100, network.path()));
    let mut alone = Command::new(env!("CARGO_BIN_EXE_rdmadoctor"));
    alone.args(["-q", "--format", "json", "--answer-within", "60s", "--host-model", "e810"]).env("RDMADOCTOR_TOKEN", TOKEN);
    let document = document(&client(alone, "bw", &peer).output().unwrap());
    assert_eq!(document["results"], serde_json::json!([]), "{document:#}");
    let problem = document["problems"][0].to_string();
    assert!(problem.contains("no modelled network") && problem.contains("--sim-network"), "{document:#}");
}

/// What a command on a modelled host prints.
fn printed(format: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rdmadoctor"));
    let output = command.args(["-q", "--answer-within", "60s", "--format", format]).args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What is said of figures of a device, and never of those of a simulation.
const JUDGED: [&str; 7] =
    ["slower than", "too noisy", "% of its path", "its path carries", "of what the devices reach", "of what it was", "may be under way"];

fn is_not_judged(text: &str) {
    let said: Vec<&&str> = JUDGED.iter().filter(|words| text.contains(**words)).collect();
    assert!(said.is_empty(), "{said:?}: {text}");
}

#[test]
fn figures_of_a_simulated_device_are_marked_in_every_format_and_not_judged() {
    let directory = tempfile::tempdir().unwrap();
    let plot = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (bw_plot, ping_plot) = (plot("bw.svg"), plot("ping.svg"));
    let short = ["--sizes", "64k", "--iterations", "16", "--repeats", "2"];
    let one = |command: &'static [&'static str]| ["--host-model", H100].iter().chain(command).chain(&short).copied().collect::<Vec<_>>();
    let commands = [
        [one(&["ping"]), vec!["--plot", &ping_plot]].concat(),
        [one(&["bw"]), vec!["--plot", &bw_plot]].concat(),
        one(&["bw", "--devices", "mlx5_0,mlx5_1"]),
    ];
    for (command, format) in commands.iter().flat_map(|command| ["table", "json", "csv"].map(|format| (command, format))) {
        let text = printed(format, command);
        assert!(text.contains("simulated"), "{command:?}, {format}: {text}");
        is_not_judged(&text);
        if format == "json" {
            let document: Value = serde_json::from_str(&text).unwrap();
            assert_eq!((&document["host_model"]["name"], &document["notices"]), (&H100.into(), &serde_json::json!([])), "{document:#}");
        }
    }
    for plot in [bw_plot, ping_plot] {
        let drawing = std::fs::read_to_string(&plot).unwrap();
        assert!(drawing.contains(", simulated</title>") && drawing.contains(", simulated</text>"), "{drawing}");
    }
}

#[test]
fn a_gate_on_a_modelled_host_marks_figures_in_every_format_and_judges_none() {
    let directory = tempfile::tempdir().unwrap();
    let (policy, last) = (directory.path().join("policy.yaml"), directory.path().join("last.json"));
    let small = directory.path().join("small.yaml");
    std::fs::write(&small, "schema: rdmadoctor/host/1\nname: small\ntitle: One NIC\nextends: e810\nwithout: [irdma1]\n").unwrap();
    std::fs::write(
        &policy,
        "schema: rdmadoctor/policy/1\nthresholds: {bandwidth_percent_of_path: 100, bandwidth_percent_of_baseline: 100}\n",
    )
    .unwrap();
    let (small, policy, last) = (small.to_str().unwrap(), policy.to_str().unwrap(), last.to_str().unwrap());
    let gate = ["--host-model", small, "preflight", "--time-budget", "120s", "--duration", "1ms", "--policy", policy];
    let kept = [&gate[..], &["--baseline", last]].concat();
    printed("json", &kept);
    // The earlier run had a thousand times the speed.
    let mut earlier: Value = serde_json::from_str(&std::fs::read_to_string(last).unwrap()).unwrap();
    for result in
        earlier["measured"].as_array_mut().unwrap().iter_mut().filter_map(|measured| measured["bw"]["results"].as_array_mut()).flatten()
    {
        result["bytes_per_second"] =
            serde_json::json!({"median": 1e14, "min": 1e14, "max": 1e14, "spread_percent": 0.0, "is_noisy": false});
    }
    std::fs::write(last, earlier.to_string()).unwrap();
    for format in ["json", "table", "junit", "markdown", "html", "github"] {
        let text = printed(format, &[&gate[..], &["--compare", last]].concat());
        // Annotations tell of what is wrong only, so there are no figures.
        let mark = if format == "github" { "modelled host" } else { "simulated: write" };
        assert!(text.contains(mark) && text.contains("modelled host small"), "{format}: {text}");
        is_not_judged(&text);
        assert!(!text.contains(", Gbit/s") && !text.contains("memory, us"), "{format}: {text}");
        if format == "json" {
            let document: Value = serde_json::from_str(&text).unwrap();
            assert!(document["measured"].as_array().unwrap().iter().all(|measured| measured["path"].is_null()), "{document:#}");
        }
    }
}
