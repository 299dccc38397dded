use super::*;
use crate::facts::{Facts, VerbsFacts, Wanted};
use crate::schema;
use crate::sim::HostModel;
use crate::worker::{Inventory, VerbsDevice};

/// A capture of a modelled host, as a worker that answers would fill it.
pub(super) fn of_model(model: &HostModel) -> Capture {
    let root = model.root();
    let host = crate::facts::host::collect(&root, None);
    let seen = |name: &str| VerbsDevice {
        name: name.to_owned(),
        node_type: 1,
        transport_type: 0,
        error: None,
        loss: None,
        attributes: Some(crate::verbs::DeviceAttributes::default()),
        ports: Vec::new(),
    };
    let inventory = Inventory {
        devices: host.rdma.devices.iter().flatten().map(|device| seen(&device.name)).collect(),
        printed: vec!["libibverbs: Warning: nothing".to_owned()],
        ..Inventory::default()
    };
    let devices = crate::devices::collect(&host.rdma, Some(&Ok(inventory.clone())));
    let facts = Facts {
        verbs: Some(VerbsFacts { inventory: Some(inventory), failure: None }),
        gpus: model.gpus(),
        objects: Some(model.objects()),
        ..Facts::of_files(host, crate::host::modules::read(&root), devices, Wanted::default())
    };
    Capture {
        schema: schema::CAPTURE.to_owned(),
        tool_version: "0.1.0".to_owned(),
        created: "2026-11-24T12:00:00Z".to_owned(),
        level: Level::Standard,
        is_redacted: false,
        host_name: None,
        host_model: Some(model.name.clone()),
        is_files_only: false,
        facts,
    }
}

fn json(capture: &Capture) -> serde_json::Value {
    serde_json::to_value(capture).unwrap()
}

#[test]
fn what_is_written_is_read() {
    for name in HostModel::names() {
        let capture = of_model(&HostModel::find(name).unwrap());
        let bytes = compress(&capture).unwrap();
        assert_eq!(json(&parse_file(&bytes).unwrap()), json(&capture), "{name}");
        let redacted = capture.redacted(Redactor::new(&["some-host".to_owned()]).unwrap()).unwrap();
        assert_eq!(json(&parse_file(&compress(&redacted).unwrap()).unwrap()), json(&redacted), "{name}");
    }
}

/// A host may have any name, also one that is a word of the document.
#[test]
fn a_host_may_be_called_anything() {
    let capture = of_model(&HostModel::find("h100x8-cx7").unwrap());
    for name in ["quick", "standard", "loaded", "file", "active", "char_device", "value", "pix", "io", "passthrough"] {
        let redacted = capture.redacted(Redactor::new(&[name.to_owned()]).unwrap());
        assert!(redacted.is_ok(), "{name}: {:?}", redacted.err());
    }
}

fn changed(change: impl FnOnce(&mut serde_json::Value)) -> Result<Capture, String> {
    let mut value = json(&of_model(&HostModel::find("bare").unwrap()));
    change(&mut value);
    parse_file(&packed(value.to_string().as_bytes()))
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn what_a_later_release_added_is_ignored() {
    let capture = changed(|value| {
        value["later"] = 1.into();
        value["facts"]["later"] = serde_json::json!({"a": [1, 2]});
        value["facts"]["host"]["net"]["later"] = "x".into();
        value["tool_version"] = "9.0.0".into();
    });
    assert_eq!(capture.unwrap().tool_version, "9.0.0");
}

#[test]
fn damage_is_told() {
    let good = compress(&of_model(&HostModel::find("bare").unwrap())).unwrap();
    let long = vec![b' '; usize::try_from(DOCUMENT_LIMIT_BYTES).unwrap() + 1];
    let deep = [b"{\"schema\": \"rdmadoctor/capture/1\", \"x\": ".to_vec(), vec![b'['; 100_000]].concat();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", Vec::new(), "it is empty"),
        ("text", b"hello".to_vec(), "not gzip-compressed"),
        ("plain", b"{}".to_vec(), "`gzip FILE`"),
        ("cut", good[..good.len() / 2].to_vec(), "ends too early"),
        ("cut in the trailer", good[..good.len() - 3].to_vec(), "ends too early"),
        ("followed", [&good[..], b"more"].concat(), "something follows"),
        ("two", [&good[..], &good].concat(), "something follows"),
        ("bomb", packed(&long), "longer than 64 MiB"),
        ("deep", packed(&deep), "damaged"),
        ("no document", packed(b"{"), "damaged"),
        ("not a number", packed(b"{\"schema\": NaN}"), "damaged"),
        ("a list", packed(b"[]"), "damaged"),
        ("no schema", packed(b"{}"), "does not say what it is"),
        ("of another kind", packed(b"{\"schema\": \"rdmadoctor/probe/1\"}"), "\"rdmadoctor/probe/1\", not"),
        (
            "newer",
            packed(b"{\"schema\": \"rdmadoctor/capture/2\", \"tool_version\": \"3.0.0\"}"),
            "rdmadoctor 3.0.0 wrote it); take a newer",
        ),
        ("facts are missing", packed(b"{\"schema\": \"rdmadoctor/capture/1\"}"), "missing field"),
    ];
    for (name, bytes, expected) in cases {
        let error = parse_file(&bytes).unwrap_err();
        assert!(error.contains(expected), "{name}: {error}");
    }
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 0x55;
    assert!(parse_file(&flipped).is_err());
    for (field, value) in [("level", serde_json::json!("utmost")), ("facts", serde_json::json!([])), ("created", serde_json::json!(7))] {
        let error = changed(|document| document[field] = value).unwrap_err();
        assert!(error.contains("rdmadoctor 0.1.0 wrote it"), "{error}");
    }
}
