//! Finds out what a profile says: attempts, then memory and GPUs, then transfers, each within its part of the time.

use std::time::{Duration, Instant};

use super::{Effort, HostSnapshot, Material, Measured, Profile, Unmeasured, make, measure, now};
use crate::bench::{Hosts, LoopbackHooks};
use crate::catalog::{Catalog, CatalogError};
use crate::devices;
use crate::facts::HostMemory;
use crate::gpu::GpusFacts;
use crate::host;
use crate::qp::{Chosen, choose};
use crate::survey::{self, Attempts, Host, Say, SurveyError, Tried, share};
use crate::worker::{GpuMemory, Worker};

/// Attempts at most on each device: bounds need some hundreds, and each engine's culprits as many.
const MOST_ATTEMPTS: u64 = 20_000;

/// When, in hundredths of the time, attempts end, then GPUs, then memory; transfers have the rest.
const ATTEMPTS_END: u32 = 60;
const GPUS_END: u32 = 72;
const MEMORY_END: u32 = 80;

/// How much host memory is registered where nobody says what is needed.
const USUAL_BYTES: u64 = 64 << 20;

/// What to find out, and how long.
pub(crate) struct Examination<'a> {
    pub host: &'a Host,
    pub catalog: &'a Catalog,
    pub engines: &'a [Chosen<'a>],
    pub kv_bytes: Option<u64>,
    pub budget: Duration,
    /// Of each measurement; absent where no transfer is to be timed.
    pub duration: Option<Duration>,
    /// Transfers that were timed already; absent where that is still to be done.
    pub done: Option<(Vec<Measured>, Vec<Unmeasured>)>,
}

impl Examination<'_> {
    fn part(&self, hundredths: u32) -> Duration {
        self.budget * hundredths / 100
    }

    /// The time that it takes at most, part by part.
    pub(crate) fn plan(&self) -> String {
        let seconds = |duration: Duration| duration.as_secs_f32();
        format!(
            "{} s at most: queue pairs until {} s, GPUs until {} s, memory until {} s, then transfers",
            seconds(self.budget),
            seconds(self.part(ATTEMPTS_END)),
            seconds(self.part(GPUS_END)),
            seconds(self.part(MEMORY_END))
        )
    }

    /// Finds it out and makes the profile.
    pub(crate) fn run(&self, say: Say<'_>) -> Result<Profile, SurveyError> {
        let (host, started) = (self.host, Instant::now());
        let mut worker = host.worker()?;
        say("asking the verbs library");
        let inventory = Host::inventory(&mut worker, None)?;
        let seen = HostSnapshot::look(host.name(), &host.root(), &inventory);
        let tried = self.attempts(&mut worker, &seen, started + self.part(ATTEMPTS_END), say)?;
        let (gpus, gpu_memory) = self.gpus(&seen, started + self.part(GPUS_END), say)?;
        let host_memory = self.memory(&mut worker, &seen, started + self.part(MEMORY_END), say);
        let (measured, unmeasured) = match &self.done {
            Some(done) => done.clone(),
            None => self.transfers(&mut worker, &seen, started + self.budget, say),
        };
        say("trying engines with their settings");
        let material = Material {
            seen: &seen,
            model: host.model_name(),
            at: &now()?,
            tried: &tried,
            measured: &measured,
            unmeasured: &unmeasured,
            host_memory: &host_memory,
            gpus: gpus.as_ref(),
            gpu_memory: &gpu_memory,
            kv_bytes: self.kv_bytes,
        };
        Ok(make(&material, &mut worker))
    }

    /// Searches the bounds of each device and tries what engines ask.
    fn attempts(&self, worker: &mut Worker, seen: &HostSnapshot, deadline: Instant, say: Say<'_>) -> Result<Vec<Tried>, SurveyError> {
        let usable: Vec<_> = seen.usable().collect();
        let of_engines = Attempts::of_engines(self.catalog, self.engines, deadline);
        let attempts = Attempts { bounds: Some(true), budget: MOST_ATTEMPTS, ..of_engines };
        attempts.run(worker, &usable, devices::limits(&self.host.root()), say)
    }

    /// Asks the GPUs' driver, and registers memory of each GPU with each device.
    fn gpus(&self, seen: &HostSnapshot, deadline: Instant, say: Say<'_>) -> Result<(Option<GpusFacts>, Vec<GpuMemory>), SurveyError> {
        let usable: Vec<String> = seen.usable().map(|(device, _)| device.name.clone()).collect();
        // Without the driver in the kernel there is nobody to ask.
        let has_driver = self.host.root().text("/proc/driver/nvidia/version").is_ok_and(|text| text.is_some());
        let addresses: Vec<String> = seen.nvidia_gpus().map(str::to_owned).collect();
        if !has_driver || addresses.is_empty() || usable.is_empty() {
            return Ok((None, Vec::new()));
        }
        let found = self.host.gpus(&addresses, deadline, say)?;
        let tried = self.host.gpu_memory(&found, &usable, deadline, say)?;
        Ok((Some(found), tried))
    }

    /// Registers as much host memory with each device as is asked for, as far as that does no harm.
    fn memory(&self, worker: &mut Worker, seen: &HostSnapshot, deadline: Instant, say: Say<'_>) -> Vec<HostMemory> {
        let root = self.host.root();
        let spare = survey::spare_bytes(&host::system::read(&root).memory, host::limits::read_own_cgroup(&root).memory_bytes());
        let wanted = self.kv_bytes.unwrap_or(USUAL_BYTES).min(spare);
        let devices = seen.usable().map(|(device, verbs)| {
            let region = verbs.attributes.as_ref().map_or(u64::MAX, |known| known.max_mr_size_bytes);
            (device.name.as_str(), wanted.min(region).max(1))
        });
        // A large piece takes longer than other questions do.
        survey::host_memory(worker, &devices.collect::<Vec<_>>(), deadline, Some(self.host.answer_within()), say)
    }

    /// Times each active port with itself.
    fn transfers(&self, worker: &mut Worker, seen: &HostSnapshot, deadline: Instant, say: Say<'_>) -> (Vec<Measured>, Vec<Unmeasured>) {
        let all = |why: String| Unmeasured { device: None, port: None, why };
        let (mut measured, mut unmeasured) = (Vec::new(), Vec::new());
        let Some(duration) = self.duration else {
            return (measured, vec![all("not asked for: --no-transfers".to_owned())]);
        };
        let repeat_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let effort = match self.host.model_name() {
            None => Effort::Timed { repeat_ms },
            Some(model) => {
                unmeasured.push(all(format!("the speed of a simulation of {model} says nothing of the device")));
                Effort::Verified
            }
        };
        let root = &self.host.root();
        let (addresses, answer_within) = (host::net::read(root).addresses, self.host.answer_within());
        let hosts = Hosts { ours: &seen.devices.devices, our_addresses: &addresses, theirs: None, answer_within };
        let ports: Vec<_> = seen.usable().flat_map(|(device, _)| device.ports.iter().map(move |port| (device, port))).collect();
        for (index, (device, port)) in ports.iter().enumerate() {
            let until = Instant::now() + share(deadline, ports.len() - index);
            let mut hooks = LoopbackHooks {
                root,
                say: &mut |text| say(&format!("{}: {text}", device.name)),
                stop: &|| self.host.interrupted() || Instant::now() >= until,
            };
            let (mut found, mut lacking) = measure(worker, (device, port), &hosts, effort, &mut hooks);
            measured.append(&mut found);
            unmeasured.append(&mut lacking);
        }
        (measured, unmeasured)
    }
}

/// The engines that are asked for; all releases of all where none is, so that any of them can be exported.
pub(crate) fn engines<'a>(catalog: &'a Catalog, wanted: &'a [String]) -> Result<Vec<Chosen<'a>>, CatalogError> {
    if wanted.is_empty() {
        let every = catalog.engines().iter().flat_map(|engine| engine.releases.iter().map(move |release| Chosen::of(engine, release)));
        return Ok(every.collect());
    }
    // A profile names releases: a version that stands for one is that one.
    let mut chosen: Vec<Chosen<'a>> = Vec::new();
    for one in choose(catalog, wanted)?.into_iter().map(|one| Chosen::of(one.engine, one.release)) {
        if !chosen.contains(&one) {
            chosen.push(one);
        }
    }
    Ok(chosen)
}
