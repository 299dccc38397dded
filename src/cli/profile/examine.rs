//! Finds out what a profile says: attempts, then memory and GPUs, then transfers, each within its part of the time.

use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::super::progress::Progress;
use super::super::qp_matrix;
use super::super::session::Session;
use crate::bench::{Hosts, LoopbackHooks};
use crate::catalog::Catalog;
use crate::devices;
use crate::devices::Device;
use crate::facts::HostMemory;
use crate::gpu::GpusFacts;
use crate::host::{self, Root};
use crate::profile::{Effort, Material, Measured, Profile, Seen, Tried, Unmeasured, make, measure, now};
use crate::qp::{AskGroup, Chosen, DeviceAttempter, DeviceReport, MatrixOptions, Stop, ask_group, run_device};
use crate::survey;
use crate::survey::Host;
use crate::worker::{GpuMemory, Register, Worker};

/// Attempts at most on each device: bounds need some hundreds, and each engine's culprits as many.
const MOST_ATTEMPTS: u64 = 20_000;

/// When, in hundredths of the time, attempts end, then GPUs, then memory; transfers have the rest.
const ATTEMPTS_END: u32 = 60;
const GPUS_END: u32 = 72;
const MEMORY_END: u32 = 80;

/// How much host memory is registered where nobody says what is needed.
const USUAL_BYTES: u64 = 64 << 20;

/// Longest wait for GPU memory and a registration of it: the first one makes a context.
const GPU_ANSWER: Duration = Duration::from_secs(8);

/// What to find out, and how long.
pub(in crate::cli) struct Examination<'a> {
    pub session: &'a Session,
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
    pub(super) fn plan(&self) -> String {
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
    pub(in crate::cli) fn run(&self) -> anyhow::Result<Profile> {
        let session = self.session;
        let started = Instant::now();
        let mut progress = Progress::new("profile", session.output.quiet);
        let mut worker = session.host.worker()?;
        let root = session.host.root();
        progress.at("asking the verbs library");
        let inventory = Host::inventory(&mut worker, None)?;
        let seen = Seen::look(session.host.name(), &root, &inventory);
        let reports = attempts(self, &mut worker, &seen, &root, started + self.part(ATTEMPTS_END), &mut progress)?;
        let (gpus, gpu_memory) = gpus(session, &seen, &root, started + self.part(GPUS_END), &mut progress)?;
        let host_memory = memory(self, &mut worker, &seen, &root, started + self.part(MEMORY_END), &mut progress);
        worker.wait_at_most(session.host.answer_within());
        let (measured, unmeasured) = match &self.done {
            Some(done) => done.clone(),
            None => transfers(self, &mut worker, &seen, &root, started + self.budget, &mut progress),
        };
        progress.at("trying engines with their settings");
        let tried: Vec<Tried<'_>> = reports.iter().map(|(report, groups)| Tried { report, groups }).collect();
        let material = Material {
            seen: &seen,
            model: session.host.model_name(),
            at: &now().context("cannot tell the time")?,
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
}

/// Searches the bounds of each device and tries what engines ask.
fn attempts(
    examination: &Examination<'_>,
    worker: &mut Worker,
    seen: &Seen,
    root: &Root,
    deadline: Instant,
    progress: &mut Progress,
) -> anyhow::Result<Vec<(DeviceReport, Vec<AskGroup>)>> {
    let session = examination.session;
    let usable: Vec<&Device> = seen.usable().collect();
    let mut reports = Vec::new();
    for (index, device) in usable.iter().enumerate() {
        if session.host.interrupted() {
            break;
        }
        let Some(verbs) = seen.verbs(&device.name) else { continue };
        let attributes = verbs.attributes.as_ref();
        let groups: Vec<AskGroup> =
            examination.engines.iter().map(|chosen| ask_group(examination.catalog, *chosen, attributes)).collect::<Result<_, _>>()?;
        let options = MatrixOptions {
            asks: groups.clone(),
            grid: Vec::new(),
            bounds: true,
            limits: devices::limits(root),
            stop: Stop {
                budget: MOST_ATTEMPTS,
                deadline: Some(Instant::now() + share(deadline, usable.len() - index)),
                max_memory_bytes: qp_matrix::SEARCH_MEMORY,
                max_asked_memory_bytes: qp_matrix::ASK_MEMORY,
            },
        };
        let mut attempter = DeviceAttempter { worker, device: &device.name };
        let mut report = run_device(&device.name, device.family.clone(), attributes, &mut attempter, &options, &mut |attempts| {
            progress.at(&format!("{}: {attempts} attempts", device.name));
        });
        report.connection = qp_matrix::connection_of(worker, device, verbs, &report).filter(|_| !session.host.interrupted());
        reports.push((report, groups));
    }
    Ok(reports)
}

/// What is left until then for one of `count`: a slow one does not take the others' time.
fn share(deadline: Instant, count: usize) -> Duration {
    deadline.saturating_duration_since(Instant::now()) / u32::try_from(count).unwrap_or(1).max(1)
}

/// Asks the GPUs' driver, and registers memory of each GPU with each device.
fn gpus(
    session: &Session,
    seen: &Seen,
    root: &Root,
    deadline: Instant,
    progress: &mut Progress,
) -> anyhow::Result<(Option<GpusFacts>, Vec<GpuMemory>)> {
    let usable: Vec<String> = seen.usable().map(|device| device.name.clone()).collect();
    // Without the driver in the kernel there is nobody to ask.
    let has_driver = root.text("/proc/driver/nvidia/version").is_ok_and(|text| text.is_some());
    let addresses: Vec<String> = seen.nvidia_gpus().map(str::to_owned).collect();
    if !has_driver || addresses.is_empty() || usable.is_empty() {
        return Ok((None, Vec::new()));
    }
    progress.at("asking the GPU driver");
    let found = survey::gpus(&mut session.host.worker()?, &addresses, deadline);
    progress.at("registering GPU memory");
    let answering: Vec<String> = found.gpus.iter().filter(|gpu| gpu.cuda.is_some()).map(|gpu| gpu.pci.clone()).collect();
    let tried = survey::try_gpu_memory(&mut session.host.worker_within(GPU_ANSWER)?, &answering, &usable, deadline);
    Ok((Some(found), tried))
}

/// Registers as much host memory with each device as is asked for, as far as that does no harm.
fn memory(
    examination: &Examination<'_>,
    worker: &mut Worker,
    seen: &Seen,
    root: &Root,
    deadline: Instant,
    progress: &mut Progress,
) -> Vec<HostMemory> {
    let spare = survey::spare_bytes(&host::system::read(root).memory, host::limits::read_own_cgroup(root).memory_bytes());
    let usable: Vec<&Device> = seen.usable().collect();
    let mut tried = Vec::new();
    for (index, device) in usable.iter().enumerate() {
        if examination.session.host.interrupted() {
            break;
        }
        progress.at(&format!("{}: registering host memory", device.name));
        let region = seen.verbs(&device.name).and_then(|verbs| verbs.attributes.as_ref()).map_or(u64::MAX, |known| known.max_mr_size_bytes);
        let most = examination.kv_bytes.unwrap_or(USUAL_BYTES).min(spare).min(region).max(1);
        let share = share(deadline, usable.len() - index);
        // A large piece takes longer than other questions do.
        worker.wait_at_most(share.max(examination.session.host.answer_within()));
        let mut try_one = |bytes| {
            worker.ask(Register { device: device.name.clone(), bytes }).map(|tried| match (tried.error, tried.elapsed_us) {
                (Some(error), _) => Err(error),
                (None, elapsed_us) => Ok(elapsed_us.unwrap_or(0)),
            })
        };
        tried.push(survey::try_host_memory(&device.name, most, Instant::now() + share, &mut try_one));
    }
    tried
}

/// Times each active port with itself.
fn transfers(
    examination: &Examination<'_>,
    worker: &mut Worker,
    seen: &Seen,
    root: &Root,
    deadline: Instant,
    progress: &mut Progress,
) -> (Vec<Measured>, Vec<Unmeasured>) {
    let session = examination.session;
    let all = |why: String| Unmeasured { device: None, port: None, why };
    let (mut measured, mut unmeasured) = (Vec::new(), Vec::new());
    let Some(duration) = examination.duration else {
        return (measured, vec![all("not asked for: --no-transfers".to_owned())]);
    };
    let is_model = session.host.model_name().is_some();
    let repeat_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let effort = if is_model { Effort::Verified } else { Effort::Timed { repeat_ms } };
    if let Some(model) = session.host.model_name() {
        unmeasured.push(all(format!("the speed of a simulation of {model} says nothing of the device")));
    }
    let addresses = host::net::read(root).addresses;
    let hosts = Hosts { ours: &seen.devices.devices, our_addresses: &addresses, theirs: None, answer_within: session.host.answer_within() };
    let ports: Vec<_> = seen.usable().flat_map(|device| device.ports.iter().map(move |port| (device, port))).collect();
    for (index, (device, port)) in ports.iter().enumerate() {
        let until = Instant::now() + share(deadline, ports.len() - index);
        let mut hooks = LoopbackHooks {
            root,
            say: &mut |text| progress.at(&format!("{}: {text}", device.name)),
            stop: &|| session.host.interrupted() || Instant::now() >= until,
        };
        let (mut found, mut lacking) = measure(worker, (device, port), &hosts, effort, &mut hooks);
        measured.append(&mut found);
        unmeasured.append(&mut lacking);
    }
    (measured, unmeasured)
}
