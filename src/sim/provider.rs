//! An installed simulation: its devices, its lock, its clock, and the way into every call.
#![allow(unsafe_code, reason = "lays out the C structures of devices")]

use std::cmp::Reverse;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use rdma_sys::*;
use rdmadoctor_types::{LinkLayer, PortState};

use super::InstallError;
use super::config::{GidType, ModelSource, SimConfig, SimDevice, SimGid, SimPort};
use super::inject::Faults;
use super::link::Network;
use super::tally::Counting;
use super::world::{DeviceState, Timer, World};
use crate::catalog::DeviceModel;
use crate::catalog::device::{GidShape, PostReturns};
use crate::catalog::{Fault, ObjectKind};
use crate::verbs::Gid;

/// An installed simulation. It lives as long as the process, because C objects point into it.
pub struct Provider {
    pub devices: Vec<Device>,
    /// The kernel's release, where a model tells kernels apart.
    pub kernel: String,
    pub memlock_bytes: Option<u64>,
    pub takes_gpu_addresses: bool,
    pub faults: Faults,
    /// What is printed when devices are first listed.
    warnings: Mutex<Vec<String>>,
    peers: Vec<Gid>,
    pub network: Option<Network>,
    pub counting: Counting,
    world: Mutex<World>,
    /// Wakes the clock when an earlier timer is set.
    clock: Condvar,
    /// Wakes whoever waits for events to be acknowledged.
    pub acknowledged: Condvar,
}

/// A simulated device.
pub struct Device {
    pub name: String,
    pub model: DeviceModel,
    pub ports: Vec<Port>,
    pub node_guid: u64,
    pub data_direct: bool,
    pub raw: RawDevice,
}

/// A port with all defaults filled in.
pub struct Port {
    pub state: PortState,
    pub link_layer: LinkLayer,
    pub active_mtu_bytes: u32,
    pub lid: u16,
    pub gids: Vec<SimGid>,
    pub pkeys: Vec<u16>,
    /// Addresses of its network interface.
    pub addresses: Vec<IpAddr>,
}

/// The device as C sees it. The public structure comes first, so that its address is that of the whole.
#[repr(C)]
pub struct RawDevice {
    pub public: ibv_device,
    pub slot: usize,
    pub index: usize,
}

// SAFETY: nothing writes to it after it was made, and it holds no pointer to follow.
unsafe impl Send for RawDevice {}
// SAFETY: as above.
unsafe impl Sync for RawDevice {}

static PROVIDERS: RwLock<Vec<&'static Provider>> = RwLock::new(Vec::new());

/// The installation of a slot.
pub fn of_slot(slot: usize) -> Option<&'static Provider> {
    PROVIDERS.read().unwrap_or_else(PoisonError::into_inner).get(slot).copied()
}

/// Adds an installation; gives its slot.
pub fn install(config: SimConfig) -> Result<usize, InstallError> {
    let network = config.directory.as_deref().map(Network::join).transpose().map_err(|error| InstallError::Directory(error.to_string()))?;
    let mut providers = PROVIDERS.write().unwrap_or_else(PoisonError::into_inner);
    let slot = providers.len();
    if slot >= super::table::SLOTS {
        return Err(InstallError::TooMany(super::table::SLOTS));
    }
    let devices = config.devices.into_iter().enumerate().map(|(index, device)| Device::new(device, slot, index));
    let devices = devices.collect::<Result<Vec<_>, _>>()?;
    // A model's faults are on each device of it.
    let of_models = devices
        .iter()
        .flat_map(|device| device.model.faults.iter().map(|fault| Fault { device: Some(device.name.clone()), ..fault.clone() }));
    let faults = config.faults.into_iter().chain(of_models).collect();
    let faults = Faults::new(faults, config.directory.as_deref().filter(|_| !config.counts_own_faults))
        .map_err(|error| InstallError::Directory(error.to_string()))?;
    let counting = Counting::new(config.tallies.as_deref(), devices.len()).map_err(|error| InstallError::CounterFile(error.to_string()))?;
    let states = devices.iter().map(|device| DeviceState { is_removed: false, ports_down: vec![false; device.ports.len() + 1] });
    let world = World {
        devices: states.collect(),
        next_qpn: network.as_ref().map_or(super::link::FIRST_QPN, Network::first_qpn),
        ..World::default()
    };
    let provider: &'static Provider = Box::leak(Box::new(Provider {
        devices,
        // As new a kernel as any model knows.
        kernel: config.kernel.unwrap_or_else(|| "999".to_owned()),
        memlock_bytes: config.memlock_bytes,
        takes_gpu_addresses: config.takes_gpu_addresses,
        faults,
        counting,
        warnings: Mutex::new(config.warnings),
        peers: config.peers,
        network,
        world: Mutex::new(world),
        clock: Condvar::new(),
        acknowledged: Condvar::new(),
    }));
    providers.push(provider);
    drop(providers);
    if let Some(network) = &provider.network {
        network.serve(provider).map_err(|error| InstallError::Directory(error.to_string()))?;
    }
    Ok(slot)
}

/// The lock, and with it everything.
pub struct Locked {
    pub provider: &'static Provider,
    pub world: MutexGuard<'static, World>,
}

impl Deref for Locked {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl DerefMut for Locked {
    fn deref_mut(&mut self) -> &mut World {
        &mut self.world
    }
}

impl Provider {
    /// Takes the lock.
    pub fn lock(&'static self) -> Locked {
        Locked { provider: self, world: self.world.lock().unwrap_or_else(PoisonError::into_inner) }
    }

    /// The way into a call on a device: counts it, lets faults act, and refuses when the device is gone.
    pub fn enter(&'static self, device: usize, call: &str, parameters: &[(&str, u64)]) -> Result<Locked, i32> {
        let locked = self.enter_to_destroy(device, call, parameters)?;
        if locked.devices[device].is_removed {
            return Err(libc::EIO);
        }
        Ok(locked)
    }

    /// As `enter`, for a call that frees something: libibverbs frees its side of objects of a device that is gone, and succeeds
    /// (libibverbs/ibverbs.h, verbs_is_destroy_err).
    pub fn enter_to_destroy(&'static self, device: usize, call: &str, parameters: &[(&str, u64)]) -> Result<Locked, i32> {
        let name = &self.devices[device].name;
        // Without the lock: a fault may never return, and other threads are to go on.
        self.faults.at_call(name, call, parameters)?;
        let is_removed = self.faults.device_removed(name);
        let mut locked = self.lock();
        if is_removed {
            locked.remove_device(device);
        }
        locked.check_ports(device);
        Ok(locked)
    }

    /// Prints what libibverbs does the first time that devices are listed, for whoever collects it from standard error.
    pub fn print_warnings(&self) {
        let warnings = std::mem::take(&mut *self.warnings.lock().unwrap_or_else(PoisonError::into_inner));
        let mut out = std::io::stderr().lock();
        for line in warnings {
            // A reader that has gone away is none of the caller's concern.
            let _ = writeln!(out, "{line}");
        }
    }

    /// Whether a simulated host has this address.
    pub fn knows(&self, gid: Gid) -> bool {
        self.peers.contains(&gid)
            || self.devices.iter().any(|device| device.has(gid))
            || self.network.as_ref().is_some_and(|network| network.has_host_at(gid))
    }

    /// Whether an address is one of another simulated host.
    pub fn reaches(&self, address: IpAddr) -> bool {
        let gid = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        let is_there = |network: &Network| network.has_listener_at(address) || network.has_host_at(Gid(gid));
        self.peers.contains(&Gid(gid)) || self.network.as_ref().is_some_and(is_there)
    }

    /// Waits until no event of an identifier is unacknowledged.
    pub fn wait_acknowledged_id(&'static self, locked: Locked, id: u32) -> Locked {
        let Locked { provider, world } = locked;
        let busy = |world: &mut World| world.ids.get(&id).is_some_and(|id| id.unacknowledged > 0);
        let world = self.acknowledged.wait_while(world, busy).unwrap_or_else(PoisonError::into_inner);
        Locked { provider, world }
    }

    /// Waits until no event of a completion queue is unacknowledged, as `ibv_destroy_cq` does.
    pub fn wait_acknowledged(&'static self, locked: Locked, cq: u32) -> Locked {
        let Locked { provider, world } = locked;
        let busy = |world: &mut World| world.cqs.get(&cq).is_some_and(|cq| cq.unacknowledged > 0);
        let world = self.acknowledged.wait_while(world, busy).unwrap_or_else(PoisonError::into_inner);
        Locked { provider, world }
    }
}

impl Locked {
    /// Has something happen at a time.
    pub fn set_timer(&mut self, at: Instant, timer: Timer) {
        self.timers.push(Reverse((at, timer)));
        let provider = self.provider;
        if self.clock_runs {
            provider.clock.notify_one();
        } else {
            // If there is no thread to be had, timers fire with the next call that sets one.
            self.clock_runs = std::thread::Builder::new().name("sim-clock".to_owned()).spawn(move || provider.run_clock()).is_ok();
        }
    }

    /// Whether one more object can be made; the errno if not.
    pub fn has_room(&self, device: usize, of: ObjectKind) -> Result<(), i32> {
        let at = &self.provider.devices[device];
        let (most, errno) = at.model.most(of);
        let most = self.provider.faults.limit(&at.name, of).map_or(most, |limit| most.min(u64::from(limit)));
        if self.has_fewer(device, of, most) { Ok(()) } else { Err(errno.0) }
    }
}

impl Provider {
    fn run_clock(&'static self) {
        let mut locked = self.lock();
        loop {
            let now = Instant::now();
            while let Some(Reverse((at, _))) = locked.timers.peek()
                && *at <= now
            {
                if let Some(Reverse((_, timer))) = locked.timers.pop() {
                    locked.fire(timer);
                }
            }
            let Some(Reverse((at, _))) = locked.timers.peek() else {
                locked.clock_runs = false;
                return;
            };
            let wait = at.saturating_duration_since(Instant::now());
            let Locked { provider, world } = locked;
            let (world, _) = self.clock.wait_timeout(world, wait).unwrap_or_else(PoisonError::into_inner);
            locked = Locked { provider, world };
        }
    }
}

impl Device {
    fn new(device: SimDevice, slot: usize, index: usize) -> Result<Self, InstallError> {
        let mut model = match device.model {
            ModelSource::Given(model) => *model,
            ModelSource::Named(name) => DeviceModel::find(&name).cloned().ok_or(InstallError::UnknownModel(name))?,
        };
        if let Some(firmware) = device.firmware {
            model.identity.firmware.value = firmware;
        }
        let count = usize::try_from(model.published.ports.value).unwrap_or(1).max(device.ports.len());
        let mut ports = device.ports;
        ports.resize(count, SimPort::default());
        let ports = ports.into_iter().enumerate().map(|(port, given)| Port::new(given, &model, index, port)).collect();
        let raw = RawDevice { public: public_device(&device.name, &model, index), slot, index };
        let node_guid = if device.node_guid == 0 { guid(index, 0) } else { device.node_guid };
        Ok(Self { name: device.name, model, ports, node_guid, data_direct: device.data_direct, raw })
    }

    /// The port of a number that counts from 1.
    pub fn port(&self, number: u8) -> Option<&Port> {
        self.ports.get(usize::from(number).checked_sub(1)?)
    }

    /// Whether one of the ports has this address.
    pub fn has(&self, gid: Gid) -> bool {
        !gid.is_empty() && self.ports.iter().any(|port| port.gids.iter().any(|entry| entry.gid == gid))
    }

    /// What a failed post returns.
    pub fn failed_post(&self, errno: i32) -> i32 {
        match self.model.connection.failed_post_returns.value {
            PostReturns::Errno => errno,
            PostReturns::NegatedErrno => -errno,
        }
    }
}

impl Port {
    fn new(given: SimPort, model: &DeviceModel, device: usize, port: usize) -> Self {
        Self {
            state: given.state,
            link_layer: given.link_layer.unwrap_or(model.identity.link_layer.value),
            active_mtu_bytes: given.active_mtu_bytes.unwrap_or(model.port.max_mtu_bytes.value),
            lid: given.lid,
            addresses: given.addresses.unwrap_or_else(|| match &given.gids {
                Some(gids) => gids.iter().filter_map(|entry| entry.gid.ipv4()).map(IpAddr::V4).collect(),
                None => vec![default_address(device, port).into()],
            }),
            gids: given.gids.unwrap_or_else(|| default_gids(model.port.gids.value, device, port)),
            pkeys: if given.pkeys.is_empty() { vec![0xffff] } else { given.pkeys },
        }
    }
}

/// A GUID out of the locally administered range.
fn guid(device: usize, port: usize) -> u64 {
    0x0200_00ff_fe00_0000 | (device as u64 + 1) << 8 | port as u64
}

fn default_address(device: usize, port: usize) -> Ipv4Addr {
    let [.., high, low] = (device + 1).to_be_bytes();
    Ipv4Addr::new(10, 77_u8.wrapping_add(port as u8), high, low)
}

/// Addresses of a port's own, in the shape that the model has: 10.77.0.1 for the first port of the first device, 10.77.0.2 for that of
/// the second, 10.78.0.1 for the first device's second port.
fn default_gids(shape: GidShape, device: usize, port: usize) -> Vec<SimGid> {
    let mut link_local = [0; 16];
    link_local[..2].copy_from_slice(&[0xfe, 0x80]);
    link_local[8..].copy_from_slice(&guid(device, port + 1).to_be_bytes());
    let mut hardware = [0; 16];
    let [.., high, low] = (device + 1).to_be_bytes();
    hardware[..6].copy_from_slice(&[2, 0, 0, port as u8, high, low]);
    let address = default_address(device, port).to_ipv6_mapped().octets();
    let entry = |gid: [u8; 16], kind| SimGid { gid: Gid(gid), kind };
    match shape {
        GidShape::HardwareAddress => vec![entry(hardware, GidType::Infiniband)],
        GidShape::RoceBoth => vec![
            entry(link_local, GidType::RoceV1),
            entry(link_local, GidType::RoceV2),
            entry(address, GidType::RoceV1),
            entry(address, GidType::RoceV2),
        ],
        GidShape::RoceV2 => vec![entry(link_local, GidType::RoceV2), entry(address, GidType::RoceV2)],
        GidShape::Guid | GidShape::Device => vec![entry(link_local, GidType::Infiniband)],
    }
}

fn public_device(name: &str, model: &DeviceModel, index: usize) -> ibv_device {
    let text = |field: &mut [std::ffi::c_char], text: &str| {
        // The rest stays zero, so the string is terminated.
        for (to, from) in field.iter_mut().take(63).zip(text.bytes()) {
            *to = from as std::ffi::c_char;
        }
    };
    // SAFETY: all-zero is a valid value: empty strings and no operations.
    let mut device: ibv_device = unsafe { std::mem::zeroed() };
    device.node_type = model.identity.node_type.value.code();
    device.transport_type = model.identity.transport.value.code();
    text(&mut device.name, name);
    text(&mut device.dev_name, &format!("uverbs{index}"));
    // No paths: there is nothing in sysfs, and nobody is to look there.
    device
}
