//! Known answers, and what must hold for every model.

use std::path::Path;

use super::*;

fn model(name: &str) -> &'static DeviceModel {
    DeviceModel::find(name).unwrap_or_else(|| panic!("no model {name}"))
}

#[test]
fn every_embedded_file_parses_and_is_named_after_its_model() {
    for (path, text) in embedded::FILES {
        let model = DeviceModel::parse(Path::new(path), text).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(*path, format!("profiles/devices/{}.yaml", model.name));
    }
    assert_eq!(DeviceModel::embedded().len(), embedded::FILES.len());
    assert_eq!(model("rxe").name, "rxe-6.12");
}
