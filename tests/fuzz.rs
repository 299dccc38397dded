//! The bodies of the fuzz targets, for a moment: on arbitrary text, and on shipped files with random damage.

#[path = "../fuzz/bodies.rs"]
mod bodies;

use std::path::Path;

use proptest::prelude::*;

/// The files of a directory of `profiles/`.
fn files(directory: &str) -> Vec<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles").join(directory);
    let mut paths: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

/// One of `files` with a line taken out, doubled, or overwritten from some column on.
fn damaged(files: Vec<String>) -> impl Strategy<Value = String> {
    (prop::sample::select(files), any::<prop::sample::Index>(), 0..3, any::<prop::sample::Index>(), "[ -~]{0,12}").prop_map(
        |(text, at, what, column, noise)| {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            let at = at.index(lines.len());
            match what {
                0 => drop(lines.remove(at)),
                1 => lines.insert(at, lines[at].clone()),
                _ => {
                    let places: Vec<usize> = lines[at].char_indices().map(|(place, _)| place).chain([lines[at].len()]).collect();
                    let place = places[column.index(places.len())];
                    lines[at].truncate(place);
                    lines[at].push_str(&noise);
                }
            }
            lines.join("\n")
        },
    )
}

/// The document of a capture, each value on a line of its own.
fn documents() -> Vec<String> {
    let file = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures/bare-quick.json.gz")).unwrap();
    vec![serde_json::to_string_pretty(&rdmadoctor::capture::parse_file(&file).unwrap()).unwrap()]
}

const POLICY: &str = "schema: rdmadoctor/policy/1
require:
  devices: [mlx5_0]
  engines: [nccl]
thresholds:
  memlock_bytes: 1073741824
suppress:
  - {check: RD-0403, subject: mlx5_0/1, reason: known, until: 2027-01-01}
";

const LOG: &str = "NVRM: Xid (PCI:0000:3b:00): 79, pid=1234, GPU has fallen off the bus.
mlx5_core 0000:17:00.0: mlx5_cmd_out_err:838:(pid 1): CREATE_MKEY(0x200) op_mod(0x0) failed, status no resources(0xf), syndrome (0x1), err(-12)
pcieport 0000:00:01.0: AER: Corrected error received: 0000:01:00.0
erdma 0000:30:00.0: Out of mr size: 10, max 20
Out of memory: Killed process 12 (python3) total-vm:1kB
INFO: task nvidia-smi:9 blocked for more than 120 seconds.
DMAR: [DMA Read NO_PASID] Request device [17:00.0] fault addr 0x0 [fault reason 0x06] PTE Read access is not set
";

/// What a client may ask, and what it may not.
const REQUESTS: &[&str] = &[
    "\"describe\"",
    "{\"tell\":\"finish\"}",
    "{\"tell\":\"close\"}",
    "{\"tell\":{\"unlink\":1}}",
    "{\"tell\":{\"unlink\":0}}",
    "{\"tell\":{\"run\":[]}}",
    "{\"tell\":{\"check\":[1,{\"receiving\":true,\"iteration\":1,\"shift_bytes\":0,\"length_bytes\":64}]}}",
    "{\"tell\":{\"fill\":[1,{\"receiving\":true,\"iteration\":1,\"shift_bytes\":0,\"length_bytes\":4294967295}]}}",
];

/// How a capture, vital product data and a configuration space begin.
const STARTS: &[&[u8]] = &[
    &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3],
    &[0x82, 4, 0, b'n', b'a', b'm', b'e', 0x90, 20, 0, b'P', b'N'],
    &[0xb3, 0x15, 0x21, 0x10, 0x06, 0x04, 0x10, 0],
];

/// As `what_is_read_has_no_problem`, of one text.
fn what_is_read_has_no_problem_in(text: &str) -> Result<(), TestCaseError> {
    use rdmadoctor::catalog::{DeviceModel, Engine, check};
    use rdmadoctor::sim::HostModel;
    let path = Path::new("x.yaml");
    let is_read = Engine::parse(path, text).is_ok() || DeviceModel::parse(path, text).is_ok() || HostModel::parse(path, text).is_ok();
    let problems: Vec<String> = check::check(path, text, &[("rdmadoctor/host/1", HostModel::problems)])
        .problems
        .iter()
        .map(|problem| problem.summary.clone())
        .collect();
    // A number where text is due is read as the text that it is written as, nothing as empty text; and YAML less strictly.
    let is_lenient = |problem: &String| {
        problem.ends_with("source: it is empty") || problem.contains(" is not text") || problem.starts_with("strict readers")
    };
    if is_read {
        prop_assert!(problems.iter().all(is_lenient), "read, with {:?}", problems);
    } else {
        prop_assert!(!problems.is_empty(), "not read, and nothing is wrong");
    }
    Ok(())
}

/// A host is refused for a key without a text, which other files may have: found by the test below, one run in some hundreds.
#[test]
fn a_host_without_a_name_is_refused_with_a_problem() {
    let text = files("hosts").into_iter().find(|text| text.contains("\nname: ")).unwrap();
    let (before, after) = text.split_once("\nname: ").unwrap();
    what_is_read_has_no_problem_in(&format!("{before}\nname:\n{}", after.split_once('\n').unwrap().1)).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn engine_files(text in damaged(files("engines"))) { bodies::engine_file(&text); }

    #[test]
    fn device_files(text in damaged(files("devices"))) { bodies::device_file(&text); }

    #[test]
    fn host_files(text in damaged(files("hosts"))) { bodies::host_file(&text); }

    /// What other commands read, `catalog check` finds nothing wrong with, but for text that is empty or a number; with what they do not read, it does.
    #[test]
    fn what_is_read_has_no_problem(text in damaged([files("engines"), files("devices"), files("hosts")].concat())) {
        what_is_read_has_no_problem_in(&text)?;
    }

    #[test]
    fn profile_files(text in damaged(vec![include_str!("profile/sample.yaml").to_owned()])) { bodies::profile_file(&text); }

    #[test]
    fn faults(text in "(errno|crash|hang|port_down|exhaust|corrupt_payload|[a-z_]{1,9})[:=@,+0-9a-zA-Z_]{0,30}") { bodies::fault(&text); }

    #[test]
    fn strangers_of_a_peer(bytes in prop::collection::vec(any::<u8>(), 0..300)) { bodies::peer_frames(&bytes); }

    #[test]
    fn strangers_that_frame_well(frames in prop::collection::vec("(\\{\"protocol\":\"rdmadoctor-peer\",\"version\":[0-9],\"tool\":\".{0,9}\",\"nonce\":\"[0-9a-f]{0,9}\"\\}|.{0,40})", 0..5)) {
        let bytes: Vec<u8> = frames.iter().flat_map(|frame| [&(frame.len() as u32).to_be_bytes()[..], frame.as_bytes()].concat()).collect();
        bodies::peer_frames(&bytes);
    }

    #[test]
    fn requests_of_a_client(text in "\\{\"tell\":(\"finish\"|\\{\"(unlink|fill|open|run)\":[0-9a-z:,\\[\\]\"{}]{0,40}\\})\\}") { bodies::peer_request(text.as_bytes()); }

    #[test]
    fn sessions_of_a_client(steps in prop::collection::vec((0_u8..5, prop::sample::select(REQUESTS), any::<prop::sample::Index>(), any::<u8>()), 0..8)) {
        let mut bytes = Vec::new();
        for (what, request, at, noise) in steps {
            let mut request = request.as_bytes().to_vec();
            // One in five is damaged.
            if what == 4 {
                let at = at.index(request.len());
                request[at] = noise;
            }
            bytes.extend([what % 4, request.len() as u8]);
            bytes.extend(request);
        }
        bodies::peer_session(&bytes);
    }

    #[test]
    fn captures(text in damaged(documents())) { bodies::capture_file(text.as_bytes()); }

    #[test]
    fn texts_of_others(text in "(.|\\x1b|\\\\|\"|\\[|\\u{202e}|\\u{9b}|\n){0,30}") { bodies::shown(&text); }

    #[test]
    fn weights_of_yaml(parts in prop::collection::vec(("[a-c]", prop::collection::vec("[a-d*&\\[\\]{},:! x-]{0,9}", 0..9)), 0..12)) {
        let text: String = parts.iter().map(|(name, items)| format!("{name}{}: &{name} [{}]\n", items.len(), items.join(", "))).collect();
        bodies::yaml_weight(&text);
    }

    #[test]
    fn exports(text in "([a-z0-9_:.,/-]{1,20}|.{0,40}|(\n|\"|'|#|: |\\$|\\\\|\\{|\\||\\x00|é){0,12})") { bodies::exports(&text); }

    #[test]
    fn policies(text in damaged(vec![POLICY.to_owned()])) { bodies::policy(&text); }

    #[test]
    fn log_lines(text in damaged(vec![LOG.to_owned()])) { text.lines().for_each(bodies::log_line); }

    #[test]
    fn arbitrary_bytes(mut bytes in prop::collection::vec(any::<u8>(), 0..600), start in prop::sample::select(STARTS)) {
        for _ in 0..2 {
            bodies::config_space(&bytes);
            bodies::vital_product_data(&bytes);
            bodies::capture_file(&bytes);
            let length = start.len().min(bytes.len());
            bytes[..length].copy_from_slice(&start[..length]);
        }
    }

    #[test]
    fn arbitrary_text(text in ".{0,200}") {
        bodies::engine_file(&text);
        bodies::device_file(&text);
        bodies::host_file(&text);
        bodies::fault(&text);
        bodies::profile_file(&text);
        bodies::policy(&text);
        bodies::log_line(&text);
    }
}
