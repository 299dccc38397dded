//! The reader for engines in Python, by its own tests.

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
