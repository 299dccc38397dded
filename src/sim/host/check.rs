//! What a whole host has to be: asked once its files are merged.

use std::collections::BTreeSet;

use super::load::{Fault, is_plain};
use super::{HostModel, Link, hardware_address, with_prefix_length};
use crate::catalog::DeviceModel;

/// Most of anything that is counted out in files; a file with more is a mistake, and would take all memory.
const MOST: usize = 256;

/// Largest window of a GPU.
const LARGEST_WINDOW_GIB: u64 = 1 << 20;

impl HostModel {
    /// Gives functions the NUMA node of the bridge that they are behind, where they name none.
    pub(super) fn inherit(&mut self) {
        for index in 0..self.bridges.len() {
            let node = self.node_above(self.bridges[index].parent.as_deref());
            self.bridges[index].numa_node = self.bridges[index].numa_node.or(node);
        }
        for index in 0..self.nics.len() {
            let node = self.node_above(self.nics[index].parent.as_deref());
            self.nics[index].numa_node = self.nics[index].numa_node.or(node);
        }
        for index in 0..self.gpus.len() {
            let node = self.node_above(self.gpus[index].parent.as_deref());
            self.gpus[index].numa_node = self.gpus[index].numa_node.or(node);
        }
    }

    fn node_above(&self, parent: Option<&str>) -> Option<u32> {
        self.bridges.iter().find(|bridge| Some(bridge.pci.as_str()) == parent)?.numa_node
    }

    /// What does not fit together: the first of each kind.
    pub(super) fn inconsistencies(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if self.sources.iter().all(|source| source.trim().is_empty()) {
            faults.push(Fault::new("sources", "it names no source: say where the host's make-up is known from, or `invented`"));
        }
        if self.kernel.is_empty() {
            faults.push(Fault::new("kernel", "it names no kernel"));
        }
        faults.extend([self.counts(), self.tree(), self.devices(), self.network(), self.paths()].into_iter().filter_map(Result::err));
        faults
    }

    /// How much there is of anything, and what it is called.
    fn counts(&self) -> Result<(), Fault> {
        let lists = [self.nics.len(), self.gpus.len(), self.bridges.len(), self.interfaces.len(), self.huge_pages.len()];
        if lists.into_iter().any(|length| length > MOST) {
            return Err(Fault::new("", format!("more than {MOST} functions, interfaces or sizes of pages")));
        }
        let nodes = self.bridges.iter().map(|bridge| bridge.numa_node).chain(self.nics.iter().map(|nic| nic.numa_node));
        let nodes = nodes.chain(self.gpus.iter().map(|gpu| gpu.numa_node)).chain([self.machine.numa_nodes]).flatten();
        if let Some(node) = nodes.max().filter(|node| *node as usize > MOST) {
            return Err(Fault::new(node.to_string(), format!("NUMA node {node}: at most {MOST}")));
        }
        if self.machine.memory_gib_per_node.is_some_and(|size| size > 1 << 20)
            || self.machine.cpus_per_node.is_some_and(|cpus| cpus > 1 << 16)
        {
            return Err(Fault::new("machine", "more memory or processors than a machine has"));
        }
        let modules = self.modules.loaded.iter().map(|module| &module.name).chain(&self.modules.built_in).chain(&self.modules.on_disk);
        let names = self.nics.iter().flat_map(|nic| [Some(&nic.name), nic.netdev.as_ref()]).flatten();
        let names = names.chain(self.interfaces.iter().map(|interface| &interface.name)).chain(modules).chain([&self.kernel]);
        for name in names {
            if name.is_empty() || name.contains(['/', '\0']) || name == "." || name == ".." {
                return Err(Fault::new(name, format!("`{name}` is no name of a file")));
            }
        }
        let mut seen = BTreeSet::new();
        let modules = self.modules.loaded.iter().map(|module| &module.name).chain(&self.modules.built_in).chain(&self.modules.on_disk);
        for module in modules {
            if !seen.insert(module) {
                return Err(Fault::new(module, format!("the module {module} is named twice")));
            }
        }
        Ok(())
    }

    /// Addresses and places of functions.
    fn tree(&self) -> Result<(), Fault> {
        if let Some(nic) = self.nics.iter().find(|nic| nic.pci.is_empty()) {
            return Err(Fault::new(
                &nic.name,
                format!("{}: it names no PCI address; is the name one of the host that is extended?", nic.name),
            ));
        }
        let bridges = self.bridges.iter().map(|bridge| (&bridge.pci, &bridge.parent, bridge.link));
        let nics = self.nics.iter().map(|nic| (&nic.pci, &nic.parent, nic.link));
        let gpus = self.gpus.iter().map(|gpu| (&gpu.pci, &gpu.parent, gpu.link));
        let mut seen = BTreeSet::new();
        for (address, parent, link) in bridges.chain(nics).chain(gpus) {
            if !is_address(address) {
                return Err(Fault::new(address, format!("`{address}` is no PCI address such as 0000:3b:00.0")));
            }
            if !seen.insert(address) {
                return Err(Fault::new(address, format!("{address} is named twice")));
            }
            // A bridge stands before what is behind it, so the tree has no loops.
            if let Some(parent) = parent
                && !self.bridges.iter().take_while(|bridge| bridge.pci != *address).any(|bridge| bridge.pci == *parent)
            {
                return Err(Fault::new(address, format!("{address} is behind {parent}, which is no bridge listed before it")));
            }
            if let Some(Link { generation, generation_now, lanes, lanes_now }) = link
                && ([Some(generation), generation_now].into_iter().flatten().any(|generation| !(1..=6).contains(&generation))
                    || [Some(lanes), lanes_now].into_iter().flatten().any(|lanes| !(1..=32).contains(&lanes)))
            {
                return Err(Fault::new(address, format!("{address}: a link has a generation, 1 to 6, and lanes, 1 to 32")));
            }
        }
        Ok(())
    }

    fn devices(&self) -> Result<(), Fault> {
        let mut seen = BTreeSet::new();
        for nic in &self.nics {
            let name = nic.name.as_str();
            if !seen.insert(name) {
                return Err(Fault::new(name, format!("{name} is named twice")));
            }
            let known = DeviceModel::names().join(", ");
            if DeviceModel::find(&nic.model).is_none() {
                return Err(Fault::new(name, format!("{name}: unknown device model `{}`; known are {known}", nic.model)));
            }
            if nic.id.as_ref().is_some_and(|id| !is_id(id)) {
                return Err(Fault::new(name, format!("{name}: its id is no vendor and device such as 15b3:1021")));
            }
            if nic.read_request_bytes.is_some_and(|size| !size.is_power_of_two() || !(128..=4096).contains(&size)) {
                return Err(Fault::new("read_request_bytes", format!("{name}: a read request is 128, 256, 512, 1024, 2048 or 4096 bytes")));
            }
            if nic.netdev_pci.as_ref().is_some_and(|address| !is_address(address)) {
                return Err(Fault::new("netdev_pci", format!("{name}: netdev_pci is no PCI address")));
            }
            if nic.counters.keys().any(|counter| counter.contains('/')) {
                return Err(Fault::new("counters", format!("{name}: a counter's name has no `/`")));
            }
        }
        if let Some(held) = self.held.iter().find(|held| !seen.contains(held.device.as_str())) {
            return Err(Fault::new(&held.device, format!("`{}` is no device of this host", held.device)));
        }
        if self.held.len() > MOST || self.held.iter().any(|held| held.queue_pairs.max(held.memory_regions) > 1 << 32) {
            return Err(Fault::new("held", "more is held than a host has"));
        }
        let errors = self.nvidia.iter().flat_map(|nvidia| [&nvidia.nvml_error, &nvidia.cuda_error]);
        let errors = errors.chain(self.gpus.iter().map(|gpu| &gpu.error)).flatten();
        if let Some(word) = errors.into_iter().find(|word| !super::gpus::is_error(word)) {
            return Err(Fault::new(word, format!("`{word}` is no error of NVML or CUDA; say its name, or `missing`, `hang` or `crash`")));
        }
        let known = self.nics.iter().map(|nic| nic.name.as_str()).collect::<Vec<_>>().join(", ");
        for fault in &self.faults {
            if let Some(device) = fault.devices().find_map(|device| self.lacks(device)) {
                return Err(Fault::new(device, format!("the fault `{fault}` is of a device that is not there; there are {known}")));
            }
        }
        for gpu in &self.gpus {
            let address = &gpu.pci;
            if !is_id(&gpu.id) {
                return Err(Fault::new(address, format!("{address}: `{}` is no vendor and device such as 10de:2236", gpu.id)));
            }
            if !gpu.bar1_gib.is_power_of_two() || gpu.bar1_gib > LARGEST_WINDOW_GIB {
                return Err(Fault::new(address, format!("{address}: bar1_gib is {}; a window's size is a power of two", gpu.bar1_gib)));
            }
            if gpu.memory_gib.is_some_and(|size| size > LARGEST_WINDOW_GIB)
                || gpu.bar1_used_gib > gpu.bar1_gib
                || gpu.answers_in_ms > 1 << 32
            {
                return Err(Fault::new(address, format!("{address}: more memory, window or time than a GPU has")));
            }
        }
        Ok(())
    }

    fn network(&self) -> Result<(), Fault> {
        let nics = self.nics.iter().map(|nic| (&nic.name, &nic.addresses, &nic.mac));
        let interfaces = self.interfaces.iter().map(|interface| (&interface.name, &interface.addresses, &interface.mac));
        for (name, addresses, mac) in nics.chain(interfaces) {
            if let Some(wrong) = addresses.iter().find(|address| with_prefix_length(address).is_none()) {
                return Err(Fault::new(wrong, format!("{name}: `{wrong}` is no address with a prefix length")));
            }
            if let Some(mac) = mac.as_ref().filter(|mac| hardware_address(mac).is_none()) {
                return Err(Fault::new(mac, format!("{name}: `{mac}` is no hardware address")));
            }
        }
        let functions = self.interfaces.iter().filter_map(|interface| interface.pci.as_ref());
        match functions.into_iter().find(|address| !is_address(address)) {
            Some(address) => Err(Fault::new(address, format!("`{address}` is no PCI address such as 0000:3b:00.0"))),
            None => Ok(()),
        }
    }

    fn paths(&self) -> Result<(), Fault> {
        let paths = self.files.keys().chain(self.links.keys()).chain(&self.remove).chain(&self.deny);
        for path in paths {
            if !is_plain(path) {
                let path = path.to_string_lossy();
                return Err(Fault::new(path.as_ref(), format!("`{path}` is no path from the root of a host")));
            }
        }
        let names = self.modprobe.keys().chain(self.container.iter().flat_map(|container| &container.missing_nodes));
        match names.into_iter().find(|name| name.is_empty() || name.starts_with('/') || name.contains("..")) {
            Some(name) => Err(Fault::new(name, format!("`{name}` is no name below /etc/modprobe.d or /dev"))),
            None => Ok(()),
        }
    }
}

fn is_address(text: &str) -> bool {
    let is_hexadecimal = |part: &str, length: usize| part.len() == length && part.chars().all(|c| c.is_ascii_hexdigit());
    let parts: Vec<&str> = text.split([':', '.']).collect();
    matches!(parts.as_slice(), [domain, bus, device, function]
        if is_hexadecimal(domain, 4) && is_hexadecimal(bus, 2) && is_hexadecimal(device, 2) && is_hexadecimal(function, 1))
}

fn is_id(text: &str) -> bool {
    let is_hexadecimal = |part: &str| part.len() == 4 && part.chars().all(|c| c.is_ascii_hexdigit());
    text.split_once(':').is_some_and(|(vendor, device)| is_hexadecimal(vendor) && is_hexadecimal(device))
}
