//! A modelled host's verbs: the devices that libibverbs would list there.

use super::{HostModel, Nic};
use crate::catalog::device::{GidShape, LinkLayer};
use crate::catalog::{DeviceModel, Doubts, host_tree};
use crate::host::Root;
use crate::sim::{Fault, FaultKind, ModelSource, SimConfig, SimDevice, SimPort, When};
use crate::verbs::MTU_BYTES;

impl HostModel {
    /// Figures of its devices that are not from source, a model at a time.
    #[must_use]
    pub fn doubts(&self) -> Vec<Doubts> {
        let mut names: Vec<&str> = self.nics.iter().map(|nic| nic.model.as_str()).collect();
        names.dedup();
        names.into_iter().filter_map(DeviceModel::find).map(DeviceModel::doubts).collect()
    }

    /// The host's verbs: the devices that have all that libibverbs needs to list them, with their addresses and states.
    ///
    /// A host without libibverbs has none: that the library itself is missing, a simulation cannot say.
    #[must_use]
    pub fn simulation(&self) -> SimConfig {
        let root = self.root();
        let mut faults = self.faults.clone();
        let mut devices = Vec::new();
        for (index, nic) in self.nics.iter().enumerate() {
            let Some(model) = DeviceModel::find(&nic.model).filter(|model| self.is_listed(&root, index, nic, model)) else { continue };
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
            });
        }
        let has_capability = self.limits.ipc_lock && !self.limits.own_user_namespace;
        SimConfig {
            devices,
            faults,
            kernel: Some(self.kernel.clone()),
            memlock_bytes: self.limits.memlock_bytes.filter(|_| !has_capability),
            ..SimConfig::default()
        }
    }

    /// Whether libibverbs lists a device: the library, its entry in sysfs, its node, and a provider of the right generation that takes the
    /// driver's ABI (libibverbs/init.c). The files are asked, so that what a host removes counts.
    fn is_listed(&self, root: &Root, index: usize, nic: &Nic, model: &DeviceModel) -> bool {
        let (family, generation) = (&model.family, self.verbs.generation);
        let [least, most] = model.software.abi.value;
        root.exists(format!("{}/libibverbs.so.1", host_tree::LIBRARIES))
            && root.exists(format!("/sys/class/infiniband/{}", nic.name))
            && root.exists(format!("/sys/class/infiniband_verbs/uverbs{index}"))
            && root.exists(format!("/dev/infiniband/uverbs{index}"))
            && root.exists(format!("/etc/libibverbs.d/{family}.driver"))
            && root.exists(format!("{}/libibverbs/lib{family}-rdmav{generation}.so", host_tree::LIBRARIES))
            && nic.abi.is_none_or(|abi| (least..=most).contains(&abi))
    }
}

fn port(nic: &Nic, model: &DeviceModel) -> SimPort {
    SimPort {
        state: nic.state,
        link_layer: nic.link_layer,
        active_mtu_bytes: active_mtu(nic, model),
        lid: nic.lid,
        gids: Some(host_tree::gids(nic)),
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
