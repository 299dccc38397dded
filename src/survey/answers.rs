//! What a host answers to a look at one thing: the one here, one mounted elsewhere, a model, or a capture.

use super::{Host, SurveyError};
use crate::capture::{self, Capture};
use crate::devices::{self, Caps, DeviceCaps, Devices};
use crate::facts::{self, Facts, Level};
use crate::host::modules::ModulesFacts;
use crate::host::part::{ReadOptions, unread_of};
use crate::host::pcie::PcieFacts;
use crate::host::rdma::RdmaFacts;
use crate::host::system::SystemFacts;
use crate::host::topo::Topology;
use crate::host::{ReadError, families};
use crate::schema;
use crate::worker::{Failure, Inventory, Worker};

/// Refuses a device that is not among `known`.
pub(super) fn unknown_device<'a>(wanted: Option<&str>, known: impl Iterator<Item = &'a str>) -> Result<(), SurveyError> {
    let Some(wanted) = wanted else { return Ok(()) };
    let known: Vec<&str> = known.collect();
    if known.contains(&wanted) {
        return Ok(());
    }
    let known = if known.is_empty() { "this host has no RDMA devices".to_owned() } else { format!("known are {}", known.join(", ")) };
    Err(SurveyError::Unsuited(format!("unknown device `{wanted}`; {known}")))
}

fn names(devices: &Devices) -> impl Iterator<Item = &str> {
    devices.devices.iter().map(|device| device.name.as_str())
}

impl Host {
    /// Devices as sysfs and the verbs library see them, and what the latter says, of `wanted` only where one is named.
    pub(super) fn seen(&self, worker: &mut Worker, wanted: Option<&str>) -> Result<(Devices, Result<Inventory, Failure>), SurveyError> {
        let sysfs = self.reader(ReadOptions::default(), None)?.get::<RdmaFacts>()?;
        let inventory = Self::inventory(worker, wanted)?;
        let found = devices::collect(&sysfs, Some(&inventory));
        unknown_device(wanted, names(&found))?;
        Ok((found, inventory))
    }

    /// Its devices, or `wanted` alone.
    pub(crate) fn devices(&self, wanted: Option<&str>) -> Result<Devices, SurveyError> {
        let mut found = match self.captured() {
            Some(capture) => capture.facts.devices.clone(),
            None if self.has_devices() => self.seen(&mut self.worker()?, wanted)?.0,
            // Verbs of this machine say nothing about a host that is mounted elsewhere.
            None => self.devices_of_files()?,
        };
        unknown_device(wanted, names(&found))?;
        found.devices.retain(|device| wanted.is_none_or(|wanted| wanted == device.name));
        Ok(found)
    }

    /// Its devices, as files alone show them.
    pub(crate) fn devices_of_files(&self) -> Result<Devices, SurveyError> {
        Ok(devices::collect(&self.reader(ReadOptions::default(), None)?.get()?, None))
    }

    /// What its devices publish, or `wanted` alone.
    pub(crate) fn caps(&self, wanted: Option<&str>) -> Result<Caps, SurveyError> {
        let (found, inventory) = match self.captured() {
            Some(capture) => (capture.facts.devices.clone(), inventory_of(capture)?),
            None => {
                self.only_with_devices("caps")?;
                let (found, inventory) = self.seen(&mut self.worker()?, wanted)?;
                (found, inventory.ok())
            }
        };
        unknown_device(wanted, names(&found))?;
        let mut caps = Caps { schema: schema::CAPS.to_owned(), devices: Vec::new(), problems: found.problems };
        for device in found.devices.iter().filter(|device| wanted.is_none_or(|wanted| wanted == device.name)) {
            let seen = inventory.iter().flat_map(|inventory| &inventory.devices).find(|seen| seen.name == device.name);
            match seen.and_then(|seen| seen.attributes.clone().map(|attributes| (attributes, seen.ports.clone()))) {
                Some((attributes, ports)) => {
                    caps.devices.push(DeviceCaps::new(&device.name, device.family.as_deref(), attributes, ports));
                }
                None => caps.problems.extend(device.problem.as_ref().map(|problem| problem.of(&device.name))),
            }
        }
        Ok(caps)
    }

    /// How near GPUs and NICs are to each other, from files alone; what is wrong with the tree of functions, and what of the other parts came
    /// to no end.
    pub(crate) fn topology(&self) -> Result<(Topology, Vec<ReadError>), SurveyError> {
        let errors = |pcie: &PcieFacts, rdma: &RdmaFacts, system: &SystemFacts| {
            let unread = [unread_of(&rdma.problems), unread_of(&system.problems)];
            pcie.problems.iter().chain(unread.into_iter().flatten()).cloned().collect()
        };
        if let Some(capture) = self.captured() {
            let host = &capture.facts.host;
            return Ok((host.topology.clone(), errors(&host.pcie, &host.rdma, &host.system)));
        }
        let mut reader = self.reader(ReadOptions::default(), None)?;
        let (pcie, rdma, system) = (reader.get()?, reader.get()?, reader.get()?);
        Ok((facts::host::topology(&pcie, &rdma, &system), errors(&pcie, &rdma, &system)))
    }

    /// Its kernel modules, from files alone; those of `named`, or of families named there, too.
    pub(crate) fn modules(&self, named: &[String]) -> Result<ModulesFacts, SurveyError> {
        let Some(capture) = self.captured() else {
            return self.reader(ReadOptions { modules: named.to_vec(), ..ReadOptions::default() }, None)?.get();
        };
        let known = &capture.facts.modules;
        let is_known = |name: &str| known.modules.iter().any(|module| module.name == name.replace('-', "_"));
        match named.iter().find(|name| !is_known(name) && !families::names().contains(&name.as_str())) {
            Some(name) => Err(SurveyError::Unsuited(format!(
                "the capture says nothing of `{name}`; only `rdmadoctor modules {name}` on the host itself does"
            ))),
            None => Ok(known.clone()),
        }
    }

    /// A capture of what was found out, and the names that the host goes by.
    pub(crate) fn capture(&self, facts: Facts, level: Level, created: String) -> (Capture, Vec<String>) {
        let model = self.model_name().map(str::to_owned);
        let running = (self.has_devices() && model.is_none()).then(|| nix::unistd::gethostname().ok()).flatten();
        let names = capture::host_names(&self.root(), running.map(|name| name.to_string_lossy().into_owned()));
        let capture = Capture {
            schema: schema::CAPTURE.to_owned(),
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            created,
            level,
            is_redacted: false,
            host_name: names.first().cloned(),
            host_model: model,
            is_files_only: !self.has_devices(),
            facts,
        };
        (capture, names)
    }
}

/// What the verbs library said on a captured host.
fn inventory_of(capture: &Capture) -> Result<Option<Inventory>, SurveyError> {
    let verbs = capture.facts.verbs.as_ref().ok_or_else(|| {
        SurveyError::Unsuited(format!(
            "`caps` shows what the verbs library says, and the capture is {}; `rdmadoctor capture --level standard` on the host itself has that",
            if capture.is_files_only { "of files only" } else { "of level quick" }
        ))
    })?;
    Ok(verbs.inventory.clone())
}
