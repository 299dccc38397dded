//! docs/checks.md is what the registry of checks says. `make docs` writes it anew.

use std::path::Path;

#[test]
fn checks() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/checks.md");
    let current = rdmadoctor::report::checks_markdown();
    if std::env::var_os("RDMADOCTOR_WRITE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, current).unwrap();
        return;
    }
    let published = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(published == current, "{} is not what the registry says; run `make docs`", path.display());
}
