use super::*;
use crate::facts;
use crate::host;
use crate::worker::Inventory;

fn each() -> Vec<HostModel> {
    HostModel::names().map(|name| HostModel::find(name).unwrap_or_else(|error| panic!("{name}: {error}"))).collect()
}

#[test]
fn readers_see_what_the_model_says() {
    for model in each() {
        let root = model.root();
        let rdma = host::rdma::read(&root);
        assert_eq!(rdma.problems, [], "{}", model.name);
        let devices = rdma.devices.unwrap_or_default();
        assert_eq!(devices.len(), model.nics.len(), "{}", model.name);
        for (device, nic) in devices.iter().zip(&model.nics) {
            let family = DeviceModel::find(&nic.model).unwrap().family.clone();
            assert_eq!((device.name.as_str(), device.family.as_ref().map(|guess| &guess.family)), (nic.name.as_str(), Some(&family)));
            assert_eq!(device.pci.as_ref().and_then(|pci| pci.numa_node), nic.numa_node);
            assert_eq!(device.netdevs, nic.netdev.iter().cloned().collect::<Vec<_>>());
            assert_eq!(device.ports[0].gids.len(), super::super::host_tree::gids(nic).len());
        }
        let modules = host::modules::read(&root);
        assert_eq!(modules.kernel_release.as_deref(), Some(model.kernel.as_str()));
        for module in &model.modules.loaded {
            let found = modules.modules.iter().find(|found| found.name == module.name);
            assert_eq!(found.map(|found| found.state), Some(host::modules::ModuleState::Loaded), "{} {}", model.name, module.name);
        }
        let facts = facts::host::collect(&root, None);
        assert_eq!(facts.problems().collect::<Vec<_>>(), [], "{}", model.name);
        assert_eq!(facts.topology.gpus.len(), model.gpus.len());
        assert_eq!(facts.topology.nics.len(), model.nics.len());
    }
}

#[test]
fn each_gpu_of_the_healthy_host_has_its_own_nic() {
    let facts = facts::host::collect(&HostModel::find("h100x8-cx7").unwrap().root(), None);
    let best: Vec<_> = facts.topology.gpus.iter().map(|gpu| gpu.nics[0].clone()).collect();
    let expected: Vec<_> = (0..8).map(|index| format!("mlx5_{index}")).collect();
    assert_eq!(best, expected);
}

#[test]
fn a_node_that_is_removed_is_missing_for_files_and_verbs() {
    let model = HostModel::find("container-gaps").unwrap();
    let simulation = model.simulation();
    assert_eq!(simulation.devices.len(), 7);
    let sysfs = host::rdma::read(&model.root());
    let devices = facts::collect(&sysfs, Some(&Ok(Inventory::default())));
    let problem = devices.devices.iter().find(|device| device.name == "mlx5_3").unwrap().problem.as_ref().unwrap();
    assert!(problem.summary.contains("/dev/infiniband/uverbs3"), "{problem:?}");
}

#[test]
fn damage_is_placed() {
    let (path, text) = HOSTS.iter().find(|(path, _)| path.ends_with("bare.yaml")).unwrap();
    for (from, to, expected) in [
        ("kernel:", "kernal:", "line 5"),
        ("host/1", "host/7", "expected `rdmadoctor/host/1`"),
        ("sources: [\"invented\"]", "sources: []", "names no source"),
        ("modules:", "nics: [{name: a, model: b, pci: \"0000:01:00.0\"}]\nmodules:", "unknown device model `b`"),
        ("modules:", "nics: [{name: a, model: siw, pci: \"01:00.0\"}]\nmodules:", "no PCI address"),
        ("modules:", "nics: [{name: a, model: siw, pci: \"0000:01:00.0\", parent: \"0000:00:01.0\"}]\nmodules:", "no bridge listed before"),
    ] {
        let error = HostModel::parse(Path::new(path), &text.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("bare.yaml"), "{error}");
    }
    assert!(HostModel::find("nowhere").unwrap_err().to_string().contains("erdma-a10x8"));
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in ".{0,200}") {
        let _ = HostModel::parse(Path::new("any"), &text);
    }
}
