use std::io::Write;

use rdmadoctor_types::Word;

use super::*;
use crate::profile::evidence::to_request;
use crate::profile::to_yaml;
use crate::profile::{Evidence, EvidenceKind, ProfiledHost, Proven, QueuePairRequest};

/// A small profile that is sound.
pub fn sound() -> Profile {
    let evidence = |id: &str| Evidence {
        id: id.to_owned(),
        kind: EvidenceKind::Attempt,
        at: "2026-01-31T12:00:00Z".to_owned(),
        summary: "seen".to_owned(),
        device: Some("mlx5_0".to_owned()),
        request: Some(QueuePairRequest::from(&crate::request::QpRequest::base(crate::request::QpType::RC))),
        outcome: Some(Word::Known(rdmadoctor_types::OutcomeKind::Granted)),
    };
    let port = serde_yaml::from_str("{name: mlx5_0, port: 1, transport: RoCE, qp: {}, mtu_bytes: {value: 1024, evidence: e1}}").unwrap();
    Profile {
        schema: PROFILE_SCHEMA.to_owned(),
        created: "2026-01-31T12:00:00Z".to_owned(),
        tool_version: "0.1.0".to_owned(),
        validated: true,
        host: ProfiledHost { name: "here".to_owned(), model: None, fingerprint: Vec::new() },
        devices: vec![port],
        gpus: Vec::new(),
        engines: Vec::new(),
        unvalidated: Vec::new(),
        evidence: vec![evidence("e1"), evidence("e2")],
    }
}

fn parse(text: &str) -> Result<Profile, String> {
    super::parse(Path::new("p.yaml"), text).map_err(|error| error.to_string())
}

#[test]
fn a_profile_reads_back_as_it_was_written() {
    let profile = sound();
    assert_eq!(parse(&to_yaml(&profile).unwrap()).unwrap(), profile);
    // JSON is YAML too.
    assert_eq!(parse(&serde_json::to_string(&profile).unwrap()).unwrap(), profile);
}

#[test]
fn damage_is_told_with_line_and_column() {
    let text = to_yaml(&sound()).unwrap();
    for (from, to, expected) in [
        ("transport: RoCE", "transprot: RoCE", "p.yaml:12:3: devices[0]: unknown field `transprot`"),
        ("value: 1024", "value: many", ": devices[0].mtu_bytes.value: invalid type"),
        ("evidence: e1", "evidence: e9", "devices/mlx5_0/1/mtu_bytes names the evidence `e9`"),
        ("id: e2", "id: e1", "evidence e1 is there twice"),
        ("profile/1", "profile/0", "p.yaml:2:1: it is a profile of version 0"),
        ("rdmadoctor/profile/1", "rdmadoctor/host/1", "its schema is `rdmadoctor/host/1`"),
        ("2026-01-31T12:00:00Z\ntool", "yesterday\ntool", "p.yaml:3:1: `yesterday` is no time"),
        ("unvalidated: []", "unvalidated: [{entry: a, why: b}]", "validated is true although"),
    ] {
        let damaged = text.replacen(from, to, 1);
        assert_ne!(damaged, text, "{from}");
        let error = parse(&damaged).unwrap_err();
        assert!(error.contains(expected), "{expected}: {error}");
        assert!(error.starts_with("p.yaml:"), "{error}");
    }
    assert!(parse("").unwrap_err().contains("profile"));
    assert!(parse("just words").unwrap_err().contains("not a profile"));
    assert!(parse("a: 1").unwrap_err().contains("names no schema"));
    assert!(parse("[1, 2]").unwrap_err().contains("p.yaml:"));
}

#[test]
fn aliases_that_grow_are_stopped() {
    // A thousand times a text of 64 KiB, in a file of 80 KiB.
    let text = format!("schema: {PROFILE_SCHEMA}\nbig: &b \"{}\"\nmany: [{}]\n", "x".repeat(65536), vec!["*b"; 1000].join(", "));
    assert!(parse(&text).unwrap_err().contains("aliases"), "{:?}", parse(&text));
    // Lists of lists of lists.
    let mut text = format!("schema: {PROFILE_SCHEMA}\na0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let items = vec![format!("*a{}", level - 1); 9].join(", ");
        text += &format!("a{level}: &a{level} [{items}]\n");
    }
    assert!(parse(&text).is_err());
    assert!(parse(&"[".repeat(100_000)).is_err());
}

#[test]
fn files_that_are_no_profiles_are_refused_without_reading_them_whole() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("large.yaml");
    std::fs::File::create(&file).unwrap().set_len(1 << 40).unwrap();
    assert!(load(&file).unwrap_err().to_string().contains("larger than 2 MiB"));
    let file = directory.path().join("bytes.yaml");
    std::fs::File::create(&file).unwrap().write_all(b"schema: x\n\xff").unwrap();
    assert!(load(&file).unwrap_err().to_string().contains("bytes.yaml:2:1"));
    assert!(load(directory.path()).unwrap_err().to_string().contains("it is a directory"));
    assert!(load(Path::new("/nowhere")).unwrap_err().to_string().contains("No such file"));
}

#[test]
fn recommended_requests_keep_their_shape() {
    let mut profile = sound();
    let request = profile.evidence[0].request.clone().unwrap();
    assert_eq!(QueuePairRequest::from(&to_request(&request).unwrap()), request);
    profile.devices[0].qp.recommended = Some(Proven { value: request, evidence: "e2".to_owned() });
    assert_eq!(parse(&to_yaml(&profile).unwrap()).unwrap(), profile);
}
