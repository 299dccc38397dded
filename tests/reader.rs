//! What others make of what is written here: the reader for engines in Python by its own tests, exports by a shell and Python's YAML.

#[path = "../fuzz/bodies.rs"]
#[allow(dead_code, reason = "one of the bodies is of use here")]
mod bodies;

use std::process::Command;

#[test]
fn the_python_reader_passes_its_tests() {
    let python = "/usr/bin/python3";
    let has_yaml = Command::new(python).args(["-c", "import yaml"]).output().is_ok_and(|ran| ran.status.success());
    assert!(has_yaml, "python3-yaml is missing; `make setup` installs it");
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/readers/python");
    let ran =
        Command::new(python).args(["-B", "-m", "unittest", "discover", directory]).current_dir(directory).output().expect("python3 starts");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

/// What is exported of a profile that others may have written: a shell reads each environment file as the settings that it has, as systemd's rules do
/// (systemd.exec(5), EnvironmentFile=), and Python's YAML reads each ConfigMap as what was exported.
#[test]
fn exports_of_hostile_profiles_are_read_by_others_as_they_are() {
    use proptest::strategy::{Strategy as _, ValueTree as _};
    let directory = tempfile::tempdir().unwrap();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let texts = "([a-z0-9_:.,/@%+=-]{1,20}|.{0,30}|(\n|\"|'|#|: |\\$|\\\\|\\{|\\||\t|é|=|;|&|`){0,12})";
    let texts = proptest::string::string_regex(texts).unwrap();
    let mut expected = Vec::new();
    for _ in 0..120 {
        let said = texts.new_tree(&mut runner).unwrap().current();
        for made in bodies::exported(&said) {
            let map = rdmadoctor::profile::export::config_map(&made, "name", &said, "2026-12-01T00:00:00Z");
            std::fs::write(directory.path().join(format!("{}.yaml", expected.len())), map).unwrap();
            let mut data = serde_json::Map::new();
            let mut variables = serde_json::Map::new();
            let mut text = String::new();
            for part in &made.parts {
                if part.file.ends_with(".env") {
                    variables.extend(part.settings.iter().map(|line| (line.name.clone(), line.value.clone().into())));
                    text += &part.text;
                } else {
                    data.insert(part.file.clone(), part.text.clone().into());
                }
            }
            data.extend(variables.clone());
            std::fs::write(directory.path().join(format!("{}.env", expected.len())), text).unwrap();
            expected.push(serde_json::json!({"host": said, "data": data, "variables": variables}));
        }
    }
    assert!(expected.len() > 200, "{}", expected.len());
    assert!(expected.iter().any(|expected| expected["variables"].as_object().is_some_and(|all| !all.is_empty())));
    std::fs::write(directory.path().join("expected.json"), serde_json::to_vec(&expected).unwrap()).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/profile/read_exports.py");
    let ran = Command::new("/usr/bin/python3").args([script, directory.path().to_str().unwrap()]).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}
