//! Every string that others say, poisoned: of a capture and of a host's files, in each command and format. Nothing of it moves a cursor, turns
//! text around, begins a line, leaves its cell, attribute or comment, or becomes a word of a command by itself.

#[path = "peer/liar.rs"]
mod liar;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rdmadoctor::host::Root;
use rdmadoctor::sim::HostModel;
use serde_json::Value;

/// What each string is followed by: sequences for terminals (7 and 8 bit), text turned around, a line for GitHub, ends of attributes,
/// elements, comments, cells and code, a link, and what a shell would run.
const POISON: &str = "\u{1b}[2J\u{9b}31m\u{202e}\u{2028}\n::error::FORGED\n\r\u{7}\"'</testcase>--><b>`|[x](y)*$(touch PWNED);Z";

const FORMATS: [&str; 6] = ["table", "json", "junit", "github", "prometheus", "markdown"];

fn doctor(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rdmadoctor")).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn is_hidden(letter: char) -> bool {
    letter.is_control() && !matches!(letter, '\n' | '\t') || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2028}' | '\u{2029}')
}

/// Text without what `--color always` adds.
fn without_paint(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("\u{1b}[") {
        let end = rest[at..].find('m').map_or(rest.len(), |end| at + end + 1);
        let is_ours = matches!(&rest[at + 2..end], "0m" | "1m" | "2m" | "32m" | "33m" | "1;31m");
        assert!(is_ours, "{:?}", &rest[at..end]);
        out += &rest[..at];
        rest = &rest[end..];
    }
    out + rest
}

/// Each string of a document.
fn strings(value: &Value, each: &mut dyn FnMut(&str)) {
    match value {
        Value::String(text) => each(text),
        Value::Array(all) => all.iter().for_each(|value| strings(value, each)),
        Value::Object(all) => all.iter().for_each(|(key, value)| {
            each(key);
            strings(value, each);
        }),
        _ => {}
    }
}

/// What an output may hold in its format.
fn is_clean(output: &Output, format: &str, what: &str) {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    for text in [&text, &told] {
        let plain = without_paint(text);
        assert!(!plain.chars().any(is_hidden), "{what}: {:?}", plain.lines().find(|line| line.chars().any(is_hidden)));
        assert!(!plain.lines().any(|line| line.trim_start().starts_with("::error::FORGED")), "{what}: {plain}");
    }
    if text.is_empty() {
        return;
    }
    match format {
        "json" => {
            let document: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{what}: {error}: {text}"));
            strings(&document, &mut |text| assert!(!text.chars().any(is_hidden), "{what}: {text:?}"));
            commands_are_words(&document, what);
        }
        "junit" => {
            let document = roxmltree::Document::parse(&text).unwrap_or_else(|error| panic!("{what}: {error}: {text}"));
            assert!(document.descendants().all(|node| !node.has_tag_name("b")), "{what}");
        }
        "github" => {
            let is_told = |line: &str| line.starts_with("rdmadoctor ") || line.starts_with("::notice::This is a capture");
            let is_annotation =
                |line: &str| ["error", "warning", "notice"].iter().any(|kind| line.starts_with(&format!("::{kind} title=")));
            for line in text.lines() {
                assert!(is_told(line) || is_annotation(line), "{what}: {line}");
            }
        }
        "prometheus" => {
            for line in text.lines().filter(|line| !line.starts_with("# ")) {
                let (name, rest) = line.split_once(['{', ' ']).unwrap();
                assert!(name.starts_with("rdmadoctor_"), "{what}: {line}");
                assert!(rest.rsplit(' ').next().is_some_and(|value| value.parse::<f64>().is_ok()), "{what}: {line}");
                let quotes = line.replace("\\\\", "").replace("\\\"", "").matches('"').count();
                assert_eq!(quotes % 2, 0, "{what}: {line}");
            }
        }
        "markdown" => {
            use pulldown_cmark::{Event, Options, Parser, Tag};
            for event in Parser::new_ext(&text, Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH) {
                let is_made = matches!(
                    event,
                    Event::Html(_) | Event::InlineHtml(_) | Event::Start(Tag::Link { .. } | Tag::Image { .. } | Tag::Emphasis)
                );
                assert!(!is_made, "{what}: {event:?}");
            }
        }
        "html" => {
            assert!(!text.contains("<b>`") && !text.contains("</testcase>"), "{what}");
        }
        _ => {}
    }
}

/// What a shell would make of each command: what is the host's is within a word.
fn commands_are_words(document: &Value, what: &str) {
    for finding in document["findings"].as_array().into_iter().flatten() {
        for command in finding["remedy"]["commands"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let words = shlex::split(command).unwrap_or_else(|| panic!("{what}: no words: {command}"));
            for word in words.iter().filter(|word| word.contains("touch") || word.contains("PWNED")) {
                assert!(word.contains("$(touch PWNED);Z"), "{what}: {}: {command}", finding["id"]);
            }
        }
    }
}

/// The paths of all strings of a document, with `*` for places in lists.
fn places(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::String(_) => drop(found.insert(path.to_owned())),
        Value::Array(all) => all.iter().for_each(|value| places(value, &format!("{path}/*"), found)),
        Value::Object(all) => all.iter().for_each(|(key, value)| places(value, &format!("{path}/{key}"), found)),
        _ => {}
    }
}

/// The document with each string at these places poisoned.
fn poisoned(value: &Value, path: &str, where_: &BTreeSet<String>) -> Value {
    match value {
        Value::String(text) if where_.contains(path) => Value::String(text.clone() + POISON),
        Value::Array(all) => all.iter().map(|value| poisoned(value, &format!("{path}/*"), where_)).collect(),
        Value::Object(all) => {
            Value::Object(all.iter().map(|(key, value)| (key.clone(), poisoned(value, &format!("{path}/{key}"), where_))).collect())
        }
        other => other.clone(),
    }
}

fn is_capture(value: &Value) -> bool {
    rdmadoctor::capture::parse_document(&serde_json::to_vec(value).unwrap()).is_ok()
}

/// The document with what is new in each list alone.
fn thinned(value: &Value, path: &str, seen: &mut BTreeSet<String>) -> Value {
    match value {
        Value::Array(all) if all.iter().all(Value::is_object) => {
            let path = format!("{path}/*");
            let is_new = |value: &&Value| {
                let before = seen.len();
                places(value, &path, seen);
                seen.len() > before
            };
            let kept: Vec<&Value> = all.iter().filter(is_new).collect();
            // What is in a list of it was seen with it; within each, lists are thinned by themselves.
            kept.into_iter().map(|value| thinned(value, &path, &mut BTreeSet::new())).collect()
        }
        Value::Object(all) => all.iter().map(|(key, value)| (key.clone(), thinned(value, &format!("{path}/{key}"), seen))).collect(),
        other => other.clone(),
    }
}

/// Places whose strings may be anything: a capture with them poisoned is still one.
fn free(document: &Value) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    places(document, "", &mut all);
    let document = thinned(document, "", &mut BTreeSet::new());
    all.into_iter().filter(|place| is_capture(&poisoned(&document, "", &BTreeSet::from([place.clone()])))).collect()
}

fn unpacked(file: &Path) -> Value {
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(std::fs::File::open(file).unwrap()), &mut text).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn packed(document: &Value, file: &Path) {
    let mut writer = flate2::write::GzEncoder::new(std::fs::File::create(file).unwrap(), flate2::Compression::fast());
    writer.write_all(&serde_json::to_vec(document).unwrap()).unwrap();
    writer.finish().unwrap();
}

#[test]
fn a_capture_that_is_poisoned_shows_nothing_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("capture.json.gz");
    let path = file.to_str().unwrap();
    for (model, fault) in
        [("erdma-a10x8", None), ("h100x8-cx7", Some("errno:ibv_reg_mr:ENOMEM@1")), ("container-gaps", None), ("aws-efa", None)]
    {
        let fault = fault.map(|fault| vec!["--fault", fault]).unwrap_or_default();
        let made = doctor(
            &[
                &["--host-model", model, "-q"][..],
                &fault,
                &["capture", "--level", "deep", "--no-redact", "--engine", "all", "--force", "-o", path],
            ]
            .concat(),
        );
        assert!(made.status.success(), "{model}: {}", String::from_utf8_lossy(&made.stderr));
        let document = unpacked(&file);
        let free = free(&document);
        assert!(free.len() > 50, "{model}: {free:?}");
        // All at once; and of one host each room by itself, as names that no longer fit hide what depends on them.
        let mut portions = vec![free.clone()];
        let room = |place: &str| place.rsplit_once('/').map(|(room, _)| room.to_owned());
        let rooms: BTreeSet<_> = free.iter().filter(|_| model == "erdma-a10x8").map(|place| room(place)).collect();
        portions.extend(rooms.into_iter().map(|own| free.iter().filter(|place| room(place) == own).cloned().collect()));
        for (index, portion) in portions.iter().enumerate() {
            packed(&poisoned(&document, "", portion), &file);
            let what = |command: &str, format: &str| {
                format!("{model}: {command} as {format}, {:?} and {} more poisoned", portion.first(), portion.len() - 1)
            };
            let formats = if index == 0 { &FORMATS[..] } else { &["json"] };
            for format in formats {
                let output = doctor(&["--from", path, "--format", format, "--color", "always", "probe", "-v"]);
                assert!(matches!(output.status.code(), Some(0 | 1)), "{}: {output:?}", what("probe", format));
                is_clean(&output, format, &what("probe", format));
            }
            if index == 0 {
                for command in
                    [&["devices", "-v"][..], &["caps", "-v"], &["modules", "-v"], &["topo", "-v"], &["gpu", "-v"], &["qp-matrix", "-v"]]
                {
                    for format in ["table", "json"] {
                        let output = doctor(&[&["--from", path, "--format", format, "--color", "always"], command].concat());
                        is_clean(&output, format, &what(command[0], format));
                    }
                }
                for command in ["probe", "qp-matrix"] {
                    is_clean(&doctor(&["--from", path, "--format", "html", command]), "html", &what(command, "html"));
                }
            }
        }
    }
}

/// Writes a model's files below a directory, with `change` for the content of each.
fn lay(root: &Root, path: &Path, below: &Path, change: &dyn Fn(&Path, Vec<u8>) -> Vec<u8>) {
    for name in root.names(path).unwrap().unwrap_or_default() {
        let inside = path.join(&name);
        let outside = below.join(inside.strip_prefix("/").unwrap());
        if let Some(target) = root.link(&inside).unwrap() {
            symlink(target, outside).unwrap();
            continue;
        }
        if let Ok(Some(_)) = root.names(&inside) {
            std::fs::create_dir(&outside).unwrap();
            lay(root, &inside, below, change);
        } else if let Ok(Some(bytes)) = root.bytes(&inside) {
            std::fs::write(&outside, change(&inside, bytes)).unwrap();
        }
    }
}

/// Each line of a text with the poison behind it, but for the line that the poison itself would begin.
fn poisoned_lines(bytes: Vec<u8>) -> Vec<u8> {
    let Ok(text) = String::from_utf8(bytes.clone()) else { return bytes };
    let poison = POISON.replace('\n', "");
    text.lines().map(|line| format!("{line}{poison}\n")).collect::<String>().into_bytes()
}

#[test]
fn files_of_a_host_that_are_poisoned_show_nothing_of_it() {
    let model = HostModel::find("h100x8-cx7").unwrap();
    let root = model.root();
    // Rooms of a host's files, poisoned one by one, and all of them.
    let rooms = ["/etc", "/proc", "/sys/class", "/sys/devices", "/sys/module", "/sys/bus", "/lib", "/usr", "/run", "/var", "/"];
    for room in rooms {
        let directory = tempfile::tempdir().unwrap();
        lay(&root, Path::new("/"), directory.path(), &|path, bytes| if path.starts_with(room) { poisoned_lines(bytes) } else { bytes });
        let path = directory.path().to_str().unwrap();
        for (command, format) in [
            ("probe", "table"),
            ("probe", "json"),
            ("probe", "junit"),
            ("probe", "github"),
            ("probe", "markdown"),
            ("devices", "json"),
            ("modules", "table"),
            ("topo", "table"),
        ] {
            let output = doctor(&["--root", path, "--format", format, "--color", "always", command, "-v"]);
            assert!(matches!(output.status.code(), Some(0 | 1)), "{room}: {command} as {format}: {output:?}");
            is_clean(&output, format, &format!("{room}: {command} as {format}"));
        }
    }
}

/// A server that answers each request with the next of these, the last one again and again.
fn liar(token: &'static str, replies: Vec<String>) -> std::net::SocketAddr {
    liar::serve(token, move |mut session| {
        for reply in replies.iter().chain(std::iter::repeat(replies.last().unwrap())) {
            if !(session.is_asked() && session.say(reply)) {
                return;
            }
        }
    })
}

#[test]
fn what_a_server_says_that_is_poisoned_is_not_shown() {
    use rdmadoctor::bench::peer::Reply;
    const TOKEN: &str = "0123456789abcdef";
    let said = |reply: &Reply| serde_json::to_string(reply).unwrap();
    let failed = serde_json::json!({"answer": {"failed": {"trouble": {"kind": "unusable", "why": POISON}, "evidence": []}}});
    assert!(serde_json::from_value::<Reply>(failed.clone()).is_ok());
    let refused = said(&Reply::Refused(POISON.to_owned()));
    // The devices of a host of the same model, each kind of text of theirs that may be any poisoned by itself, and all of them.
    let shown: Value = serde_json::from_slice(&doctor(&["--host-model", "h100x8-cx7", "--format", "json", "devices"]).stdout).unwrap();
    let reply = |devices: &Value| serde_json::json!({"devices": [devices, [{"netdev": "eth0", "address": "10.0.0.9", "prefix_length": 24, "source": "rtnetlink", "is_duplicate": false, "is_tentative": false}]]});
    let devices = Value::Array(shown["devices"].as_array().unwrap()[..1].to_vec());
    let is_reply = |devices: &Value| serde_json::from_value::<Reply>(reply(devices)).is_ok();
    assert!(is_reply(&devices), "{:?}", serde_json::from_value::<Reply>(reply(&devices)).err());
    let mut all = BTreeSet::new();
    places(&devices, "", &mut all);
    let free: BTreeSet<String> =
        all.into_iter().filter(|place| is_reply(&poisoned(&devices, "", &BTreeSet::from([place.clone()])))).collect();
    assert!(free.len() > 10, "{free:?}");
    let mut described: Vec<String> = free
        .iter()
        .map(|place| poisoned(&devices, "", &BTreeSet::from([place.clone()])))
        .map(|devices| reply(&devices).to_string())
        .collect();
    described.push(reply(&poisoned(&devices, "", &free)).to_string());
    let clean = reply(&devices).to_string();
    let mut cases = vec![
        vec![refused.clone()],
        vec![POISON.to_owned()],
        vec![serde_json::json!({POISON: POISON}).to_string()],
        vec![clean.clone(), refused.clone()],
        vec![clean.clone(), failed.to_string()],
        vec![clean, POISON.to_owned()],
    ];
    cases.extend(described.into_iter().map(|described| vec![described, refused.clone()]));
    for replies in cases {
        let directory = tempfile::tempdir().unwrap();
        for format in ["table", "json"] {
            let address = liar(TOKEN, replies.clone()).to_string();
            let output = Command::new(env!("CARGO_BIN_EXE_rdmadoctor"))
                .args([
                    "--host-model",
                    "h100x8-cx7",
                    "--sim-network",
                    directory.path().to_str().unwrap(),
                    "--format",
                    format,
                    "--color",
                    "always",
                ])
                .args(["bw", "--peer", &address, "--op", "write", "--sizes", "64", "--iterations", "2", "--repeats", "1"])
                .env("RDMADOCTOR_TOKEN", TOKEN)
                .stdin(Stdio::null())
                .output()
                .unwrap();
            let what = format!(
                "{format}: {}",
                replies.iter().map(|reply| reply.chars().take(300).collect::<String>()).collect::<Vec<_>>().join("; ")
            );
            assert!(output.status.code().is_some_and(|code| code != 0), "{what}: {output:?}");
            assert!(!(output.stderr.is_empty() && output.stdout.is_empty()), "{what}");
            is_clean(&output, format, &what);
        }
    }
}
