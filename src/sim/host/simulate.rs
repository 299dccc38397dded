//! A modelled host's verbs: the devices that libibverbs would list there.

use std::collections::BTreeSet;

use rdmadoctor_types::LinkLayer;

use super::{HostModel, Nic, with_prefix_length};
use crate::catalog::device::GidShape;
use crate::catalog::{DeviceModel, UncertainFigures};
use crate::catalog::{Fault, FaultKind, When};
use crate::host::Root;
use crate::sim::host_tree;
use crate::sim::{ModelSource, SimConfig, SimDevice, SimPort};
use crate::verbs::{LIBIBVERBS, MTU_BYTES};

impl HostModel {
    /// Figures of its devices that are not from source, a model at a time.
    #[must_use]
    pub fn doubts(&self) -> Vec<UncertainFigures> {
        let mut names: Vec<&str> = self.nics.iter().map(|nic| nic.model.as_str()).collect();
        names.dedup();
        names.into_iter().filter_map(DeviceModel::find).map(DeviceModel::doubts).collect()
    }

    /// The host's verbs: the devices that have all that libibverbs needs to list them, with their addresses and states, and what it
    /// prints of the others.
    #[must_use]
    pub fn simulation(&self) -> SimConfig {
        let root = self.root();
        let mut faults = self.faults.clone();
        let mut devices = Vec::new();
        let mut warnings = Vec::new();
        for (index, nic) in self.nics.iter().enumerate() {
            let Some(model) = DeviceModel::find(&nic.model).filter(|_| self.is_in_sysfs(&root, index, nic)) else { continue };
            let complaints = self.complaints(&root, index, nic, model);
            if !complaints.is_empty() {
                warnings.extend(complaints);
                continue;
            }
            // libibverbs lists a device whose node it may not open.
            if self.limits.uid != 0 && nic.node_mode.is_some_and(|mode| mode & 0o006 != 0o006) {
                faults.push(Fault {
                    kind: FaultKind::Errno { call: "ibv_open_device", errno: libc::EACCES },
                    when: When::From(1),
                    device: Some(nic.name.clone()),
                    conditions: Vec::new(),
                });
            }
            devices.push(SimDevice {
                name: nic.name.clone(),
                model: ModelSource::Named(nic.model.clone()),
                ports: vec![port(nic, model)],
                node_guid: host_tree::guid(nic),
                firmware: nic.firmware.clone(),
                data_direct: nic.data_direct,
            });
        }
        // Each driver is loaded once, however many devices it has.
        let mut seen = BTreeSet::new();
        warnings.retain(|line| seen.insert(line.clone()));
        let has_capability = self.limits.ipc_lock && !self.limits.own_user_namespace;
        SimConfig {
            devices,
            faults,
            kernel: Some(self.kernel.clone()),
            memlock_bytes: self.limits.memlock_bytes.filter(|_| !has_capability),
            takes_gpu_addresses: self.modules.peer_memory_api && self.has_module("nvidia_peermem"),
            is_library_missing: !root.exists(format!("{}/{LIBIBVERBS}", host_tree::LIBRARIES)),
            warnings,
            ..SimConfig::default()
        }
    }

    /// Whether libibverbs considers a device: its entries in sysfs and its node. The files are asked, so that what a host removes counts.
    fn is_in_sysfs(&self, root: &Root, index: usize, nic: &Nic) -> bool {
        root.exists(format!("/sys/class/infiniband/{}", nic.name))
            && root.exists(format!("/sys/class/infiniband_verbs/uverbs{index}"))
            && root.exists(format!("/dev/infiniband/uverbs{index}"))
    }

    /// What libibverbs prints of a device that it leaves out: it needs a provider of its own generation that takes the driver's ABI
    /// (libibverbs/init.c: load_driver, match_device, ibverbs_get_device_list; the last with IBV_SHOW_WARNINGS only).
    fn complaints(&self, root: &Root, index: usize, nic: &Nic, model: &DeviceModel) -> Vec<String> {
        let (family, generation) = (&model.family, self.verbs.generation);
        let [least, most] = model.software.abi.value;
        let abi = nic.abi.unwrap_or(model.software.kernel_abi.value);
        let library = format!("lib{family}-rdmav{generation}.so");
        let mut lines = Vec::new();
        if !root.exists(format!("/etc/libibverbs.d/{family}.driver")) {
            // It does not know of the provider, so there is nothing to say of it.
        } else if !root.exists(format!("{}/libibverbs/{library}", host_tree::LIBRARIES)) {
            let why = format!("{library}: cannot open shared object file: No such file or directory");
            lines.push(format!("libibverbs: Warning: couldn't load driver '{library}': {why}"));
        } else if (least..=most).contains(&abi) {
            return lines;
        } else {
            let supported = format!("{abi} (supports {least} to {most})");
            let device = format!("/sys/class/infiniband/{}", nic.name);
            lines.push(format!("libibverbs: Warning: Driver {family} does not support the kernel ABI of {supported} for device {device}"));
        }
        let uverbs = format!("/sys/class/infiniband_verbs/uverbs{index}");
        lines.push(format!("libibverbs: Warning: no userspace device-specific driver found for {uverbs}"));
        lines
    }
}

fn port(nic: &Nic, model: &DeviceModel) -> SimPort {
    SimPort {
        state: nic.state,
        link_layer: nic.link_layer,
        active_mtu_bytes: active_mtu(nic, model),
        lid: nic.lid,
        gids: Some(host_tree::gids(nic)),
        addresses: Some(nic.addresses.iter().filter_map(|address| Some(with_prefix_length(address)?.0)).collect()),
        pkeys: nic.pkeys.clone().unwrap_or_default(),
    }
}

/// The path MTU that an interface's leaves room for; the model's largest where there is no interface.
fn active_mtu(nic: &Nic, model: &DeviceModel) -> Option<u32> {
    nic.netdev.as_ref()?;
    let overhead = match (nic.link_layer, model.port.gids.value) {
        (Some(LinkLayer::Infiniband), _) | (_, GidShape::Guid | GidShape::Device) => return None,
        (_, GidShape::HardwareAddress) => 0,
        // include/rdma/ib_addr.h, iboe_get_mtu: GRH 40, UDP 8, BTH 12, extended headers 28, CRC 4.
        (_, GidShape::RoceBoth | GidShape::RoceV2) => 92,
    };
    let room = nic.mtu.saturating_sub(overhead).min(model.port.max_mtu_bytes.value);
    MTU_BYTES.iter().copied().filter(|mtu| *mtu > 0 && *mtu <= room).max()
}
