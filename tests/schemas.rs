//! The published JSON Schemas are those of the program. `make schemas` writes them anew.

use std::path::Path;

use schemars::{JsonSchema, schema_for};

fn check<T: JsonSchema>(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("profiles/schema/{name}.json"));
    let current = serde_json::to_string_pretty(&schema_for!(T)).unwrap() + "\n";
    if std::env::var_os("RDMADOCTOR_WRITE_SCHEMAS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, current).unwrap();
        return;
    }
    let published = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(published == current, "{} is not the program's schema; run `make schemas`", path.display());
}

#[test]
fn documents() {
    check::<rdmadoctor::facts::Devices>("devices-1");
    check::<rdmadoctor::facts::Caps>("caps-1");
    check::<rdmadoctor::facts::Modules>("modules-1");
    check::<rdmadoctor::qp::QpMatrix>("qp-matrix-1");
    check::<rdmadoctor::checks::Probe>("probe-1");
    check::<rdmadoctor::checks::Explanation>("explanation-1");
    check::<rdmadoctor::compat::Compat>("compat-1");
    check::<rdmadoctor::facts::Topo>("topo-1");
    check::<rdmadoctor::cli::CatalogCheck>("catalog-check-1");
}

#[test]
fn policies() {
    check::<rdmadoctor::checks::Policy>("policy-1");
}

#[test]
fn catalog_files() {
    check::<rdmadoctor::catalog::Engine>("engine-1");
    check::<rdmadoctor::catalog::DeviceModel>("device-1");
    check::<rdmadoctor::catalog::HostModel>("host-1");
}

#[test]
fn profiles() {
    check::<rdmadoctor::profile::Profile>("profile-1");
    check::<rdmadoctor::profile::ProfileCheck>("profile-check-1");
    check::<rdmadoctor::profile::ProfileDiff>("profile-diff-1");
    check::<rdmadoctor::profile::export::Export>("profile-export-1");
    check::<rdmadoctor::cli::ProfileValidation>("profile-validation-1");
}
