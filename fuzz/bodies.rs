//! What the fuzz targets do with their input. `tests/fuzz.rs` runs the same for a moment in every test run.

use std::path::Path;
use std::sync::OnceLock;

use rdmadoctor::bench::peer::{ClientHandshake, Decoder, Limits, Request, ServerHandshake, Session, Step, Turn};
use rdmadoctor::capture;
use rdmadoctor::catalog::{Catalog, DeviceModel, Engine};
use rdmadoctor::devices::Devices;
use rdmadoctor::profile::export::{Export, Wanted, config_map, export, names};
use rdmadoctor::profile::{self, Profile, diff};
use rdmadoctor::sim::HostModel;

/// The display filter itself, which no other crate uses.
#[path = "../src/text.rs"]
#[allow(dead_code, reason = "the program uses all of it, the body below most")]
mod text;
/// What weighs YAML, which no other crate uses.
#[path = "../src/files/weigh.rs"]
#[allow(dead_code, reason = "the program uses all of it, the body below most")]
mod weigh;

/// An engine file: whatever the text, an answer; and what is accepted makes asks.
pub fn engine_file(text: &str) {
    if let Ok(engine) = Engine::parse(Path::new("fuzz.yaml"), text) {
        for queue in engine.releases.iter().flat_map(|release| &release.queues) {
            let _ = queue.ask(rdmadoctor::request::AskOrigin::User, None).request.memory_bytes();
        }
        let _ = engine.release(Some("1.2.3"));
    }
}

/// A device file: whatever the text, an answer; and what is accepted answers requests.
pub fn device_file(text: &str) {
    if let Ok(model) = DeviceModel::parse(Path::new("fuzz.yaml"), text) {
        let _ = model.attributes();
        for kind in rdmadoctor::request::QpType::ALL {
            let mut request = rdmadoctor::request::QpRequest::base(kind);
            let _ = model.answer(&request);
            (request.max_send_wr, request.max_recv_sge, request.max_inline_data) = (u32::MAX, u32::MAX, u32::MAX);
            let _ = model.answer(&request);
        }
    }
}

/// A host file: whatever the text, an answer; and what is accepted can be read like a host.
pub fn host_file(text: &str) {
    if let Ok(host) = HostModel::parse(Path::new("fuzz.yaml"), text) {
        let root = host.root();
        let _ = rdmadoctor::host::rdma::read(&root);
        let _ = rdmadoctor::host::modules::read(&root);
        let _ = rdmadoctor::facts::host::collect(&root, None);
        let _ = host.simulation();
    }
}

/// A fault as `--fault` takes it: what is accepted reads back as it is written.
pub fn fault(text: &str) {
    if let Ok(fault) = text.parse::<rdmadoctor::catalog::Fault>() {
        assert_eq!(fault.to_string().parse(), Ok(fault));
    }
}

/// A profile: whatever the text, an answer; what is accepted reads back as it is written and can be shown, compared and exported.
pub fn profile_file(text: &str) {
    let file = Path::new("fuzz.yaml");
    if let Ok(profile) = profile::parse(file, text) {
        if let Ok(written) = profile::to_yaml(&profile) {
            // What is not a number is not equal to itself.
            let again = profile::parse(file, &written).expect("what is written can be read");
            assert_eq!(profile::to_yaml(&again).ok().as_deref(), Some(written.as_str()));
        }
        assert!(diff(("a", &profile), ("b", &profile)).differences.is_empty());
        let _ = profile::decisive(&profile);
        let catalog = Catalog::load().expect("the embedded catalog is valid");
        let devices = Devices { schema: String::new(), devices: Vec::new(), problems: Vec::new() };
        for name in names() {
            let _ = export(&profile, &devices, &catalog, &Wanted { name, ..Wanted::default() });
        }
    }
}

/// Whatever a stranger sends to a peer's server: frames or an error, and never a session without the token.
pub fn peer_frames(bytes: &[u8]) {
    let Ok((mut handshake, _)) = ServerHandshake::begin("a token that nobody knows") else { return };
    let mut decoder = Decoder::default();
    for chunk in bytes.chunks(7) {
        decoder.push(chunk);
        loop {
            match decoder.next(1024) {
                Ok(Some(frame)) => match handshake.step(&frame) {
                    Ok(Step::Wait) => {}
                    Ok(Step::Done(..)) => panic!("a session without the token"),
                    Err(_) => return,
                },
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

/// Whatever a client that knows the token does after the handshake, in steps of a byte, a length and as many bytes: says something, says
/// what it said before, says something that is not sealed, or waits for its answer. The server only ever does what is within its bounds,
/// one thing at a time, and takes no frame that was not sealed for this moment.
pub fn peer_session(mut bytes: &[u8]) {
    const TOKEN: &str = "a token that both know";
    let Ok((mut server, hello)) = ServerHandshake::begin(TOKEN) else { return };
    let mut client = ClientHandshake::begin(TOKEN);
    let Ok([said, proven]) = client.answer(&hello) else { return };
    assert!(matches!(server.step(&said), Ok(Step::Wait)));
    let Ok(Step::Done(proof, mut theirs, _)) = server.step(&proven) else { panic!("the token is right") };
    let Ok((mut ours, _)) = client.finish(&proof) else { panic!("the token is right") };
    let limits = Limits::default();
    let mut session = Session::new(limits);
    let (mut is_busy, mut last) = (false, Vec::new());
    while let [what, length, rest @ ..] = bytes {
        let (payload, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        bytes = rest;
        let frame = match what % 4 {
            0 => ours.seal(payload),
            1 => std::mem::take(&mut last),
            2 => payload.to_vec(),
            _ => {
                session.opened(1 << 20);
                session.answered();
                is_busy = false;
                continue;
            }
        };
        let opened = theirs.open(&frame);
        // Said again, or not sealed: the session is over, whatever it says.
        assert_eq!(opened.is_some(), what % 4 == 0);
        let Some(payload) = opened else { return };
        last = frame;
        match session.take(&payload) {
            Ok(Turn::Tell(command)) => {
                assert!(!is_busy && limits.refusal(&command).is_none());
                is_busy = true;
            }
            Ok(Turn::Finish) => assert!(is_busy),
            Ok(Turn::Describe | Turn::Counters(_) | Turn::Refuse(_) | Turn::Nothing) => assert!(!is_busy),
            Err(_) => return,
        }
    }
}

/// A capture: whatever the bytes, an answer; and what is accepted can be written and read again.
pub fn capture_file(bytes: &[u8]) {
    // Both as it is and as what a file would hold, or hardly any input would get beyond the compression.
    let _ = capture::parse_file(bytes);
    if let Ok(capture) = capture::parse_document(bytes) {
        let again = capture::compress(&capture).ok().map(|file| capture::parse_file(&file));
        assert!(again.is_some_and(|again| again.is_ok()));
        if let Ok(redactor) = capture::Redactor::new(&["fuzz-host.example.com".to_owned()]) {
            assert!(capture.redacted(redactor).is_ok());
        }
    }
}

/// Whatever a client that knows the token asks: understood or not; and what is understood is within the bounds or refused.
pub fn peer_request(bytes: &[u8]) {
    if let Ok(Request::Tell(command)) = serde_json::from_slice(bytes) {
        let _ = Limits::default().refusal(&command);
        let _ = command.step();
    }
}

/// A policy: whatever the text, an answer.
pub fn policy(text: &str) {
    let _ = rdmadoctor::checks::Policy::parse(Path::new("fuzz.yaml"), text);
}

/// A line of the kernel's log: whatever it says, an answer, which can be written and read.
pub fn log_line(text: &str) {
    if let Some(event) = rdmadoctor::host::log::classify(text) {
        let json = serde_json::to_string(&event).expect("it is plain data");
        assert_eq!(serde_json::from_str::<rdmadoctor::host::log::Event>(&json).ok(), Some(event));
    }
}

/// The configuration space of a PCI function: whatever the bytes, an answer.
pub fn config_space(bytes: &[u8]) {
    let _ = rdmadoctor::host::pcie::config::parse(&mut std::io::Cursor::new(bytes));
}

/// Vital product data: whatever the bytes, an answer.
pub fn vital_product_data(bytes: &[u8]) {
    let _ = rdmadoctor::host::vpd::parse(bytes);
}

/// Whatever a text is: what is shown of it moves no cursor and turns nothing around, a document with it is read without what is hidden and
/// written as it is, and a shell takes it for one word.
pub fn shown(said: &str) {
    let is_hidden = |letter: char| {
        (letter.is_control() && letter != '\t')
            || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    let line = text::line(said).into_owned();
    assert!(!line.chars().any(is_hidden));
    assert!(!text::lines(said).chars().any(|letter| is_hidden(letter) && letter != '\n'));
    let painted = text::painted(said);
    for (at, _) in painted.match_indices('\u{1b}') {
        let end = painted[at..].find('m').expect("a colour ends");
        assert!(painted[at + 2..at + end].chars().all(|letter| letter.is_ascii_digit() || letter == ';'));
    }
    let document = serde_json::to_string(said).expect("text can be written");
    assert_eq!(text::from_json::<String>(document.as_bytes()).ok(), Some(line));
    let written = text::in_json(document);
    assert!(!written.chars().any(is_hidden));
    assert_eq!(serde_json::from_str::<String>(&written).ok().as_deref(), Some(said));
    let word = said.replace('\0', "");
    assert_eq!(shlex::split(&text::word(said)), Some(vec![text::line(&word).into_owned()]));
    let _ = text::from_json::<serde_json::Value>(said.as_bytes());
}

/// Whatever YAML stands for: what is not too heavy holds no more than was allowed when its aliases are followed.
pub fn yaml_weight(said: &str) {
    fn size(value: &serde_yaml::Value) -> usize {
        use serde_yaml::Value::{Mapping, Sequence, String, Tagged};
        16 + match value {
            String(text) => text.len(),
            Sequence(all) => all.iter().map(size).sum(),
            Mapping(all) => all.iter().map(|(key, value)| size(key) + size(value)).sum(),
            Tagged(tagged) => size(&tagged.value),
            _ => 0,
        }
    }
    if weigh::weigh(said).is_ok()
        && let Ok(value) = serde_yaml::from_str::<serde_yaml::Value>(said)
    {
        assert!(size(&value) <= (8 << 20) + 16);
    }
    let _ = rdmadoctor::checks::Policy::parse(Path::new("fuzz.yaml"), said);
}

/// What a profile with this text for the name of a device, of its host and of a piece of evidence exports, by each exporter.
pub fn exported(said: &str) -> Vec<Export> {
    static SAMPLE: OnceLock<(String, String, Catalog)> = OnceLock::new();
    let (profile, devices, catalog) = SAMPLE.get_or_init(|| {
        let text = include_str!("../tests/profile/every-engine.yaml");
        let profile = profile::parse(Path::new("every-engine.yaml"), text).expect("the sample is one");
        let profile = serde_json::to_string(&profile).expect("it is plain data");
        (
            profile,
            include_str!("../tests/profile/every-engine.devices.json").to_owned(),
            Catalog::load().expect("the embedded catalog is valid"),
        )
    });
    let said_in_json = serde_json::Value::from(said).to_string();
    let renamed = |text: &str| text.replace("\"irdma0\"", &said_in_json);
    let Ok(mut profile) = serde_json::from_str::<Profile>(&renamed(profile)) else { return Vec::new() };
    let Ok(devices) = serde_json::from_str::<Devices>(&renamed(devices)) else { return Vec::new() };
    said.clone_into(&mut profile.host.name);
    for evidence in &mut profile.evidence {
        evidence.summary += said;
    }
    let wanted = |name| Wanted { name, force: true, ..Wanted::default() };
    names().filter_map(|name| export(&profile, &devices, catalog, &wanted(name)).ok()).collect()
}

/// Exports of a hostile profile: an environment file is lines of names and of values that need no quotes, and a ConfigMap says what was exported.
pub fn exports(said: &str) {
    for made in exported(said) {
        for part in made.parts.iter().filter(|part| part.file.ends_with(".env")) {
            let lines: Vec<&str> = part.text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
            assert_eq!(lines.len(), part.settings.len(), "{}", part.text);
            for (line, setting) in lines.iter().zip(&part.settings) {
                assert_eq!(*line, format!("{}={}", setting.name, setting.value));
                assert!(setting.value.chars().all(|letter| letter.is_ascii_alphanumeric() || "._:,/=+@%^-".contains(letter)));
            }
        }
        let map = config_map(&made, "name", said, said);
        let read: serde_yaml::Value = serde_yaml::from_str(&map).expect("it is YAML");
        assert_eq!(read["metadata"]["annotations"]["rdmadoctor/host"].as_str(), Some(said), "{map}");
        for part in &made.parts {
            if part.file.ends_with(".env") {
                part.settings.iter().for_each(|setting| assert_eq!(read["data"][&setting.name].as_str(), Some(setting.value.as_str())));
            } else {
                assert_eq!(read["data"][&part.file].as_str(), Some(part.text.as_str()));
            }
        }
    }
}
