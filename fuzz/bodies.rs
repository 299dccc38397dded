//! What the fuzz targets do with their input. `tests/fuzz.rs` runs the same for a moment in every test run.

use std::path::Path;

use rdmadoctor::catalog::{Catalog, DeviceModel, Engine, HostModel};
use rdmadoctor::facts::Devices;
use rdmadoctor::profile::export::{Wanted, export, names};
use rdmadoctor::profile::{Profile, diff};

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
    if let Ok(fault) = text.parse::<rdmadoctor::sim::Fault>() {
        assert_eq!(fault.to_string().parse(), Ok(fault));
    }
}

/// A profile: whatever the text, an answer; what is accepted reads back as it is written and can be shown, compared and exported.
pub fn profile_file(text: &str) {
    let file = Path::new("fuzz.yaml");
    if let Ok(profile) = Profile::parse(file, text) {
        if let Ok(written) = profile.to_yaml() {
            // What is not a number is not equal to itself.
            let again = Profile::parse(file, &written).expect("what is written can be read");
            assert_eq!(again.to_yaml().ok().as_deref(), Some(written.as_str()));
        }
        assert!(diff(("a", &profile), ("b", &profile)).differences.is_empty());
        let _ = profile.decisive();
        let catalog = Catalog::load(None).expect("the embedded catalog is valid");
        let devices = Devices { schema: String::new(), devices: Vec::new(), problems: Vec::new() };
        for name in names() {
            let _ = export(&profile, &devices, &catalog, &Wanted { name, ..Wanted::default() });
        }
    }
}
