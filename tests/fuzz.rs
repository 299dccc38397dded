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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn engine_files(text in damaged(files("engines"))) { bodies::engine_file(&text); }

    #[test]
    fn device_files(text in damaged(files("devices"))) { bodies::device_file(&text); }

    #[test]
    fn host_files(text in damaged(files("hosts"))) { bodies::host_file(&text); }

    /// What other commands read, `catalog check` finds nothing wrong with, but for text that is empty.
    #[test]
    fn what_is_read_has_no_problem(text in damaged([files("engines"), files("devices"), files("hosts")].concat())) {
        use rdmadoctor::catalog::{DeviceModel, Engine, HostModel, check};
        let path = Path::new("x.yaml");
        let is_read = Engine::parse(path, &text).is_ok() || DeviceModel::parse(path, &text).is_ok() || HostModel::parse(path, &text).is_ok();
        let problems: Vec<String> = check::check(path, &text).problems.iter().map(|problem| problem.summary.clone()).collect();
        let is_empty_text = |problem: &String| problem.ends_with("source: it is empty") || problem.ends_with("nothing is not text");
        prop_assert_eq!(is_read, problems.iter().all(is_empty_text), "{:?}", problems);
    }

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
    fn arbitrary_text(text in ".{0,200}") {
        bodies::engine_file(&text);
        bodies::device_file(&text);
        bodies::host_file(&text);
        bodies::fault(&text);
    }
}
