//! What `probe` asks and tries beside verbs: the GPUs' driver, who holds objects, and memory that is registered.

use std::time::{Duration, Instant};

use super::progress::Progress;
use super::session::Session;
use crate::devices::Device;
use crate::facts::{Facts, HostMemory, MemoryTried, Needs, Source};
use crate::gpu::GpusFacts;
use crate::host::pcie::PcieFunction;
use crate::host::rdma_objects::ObjectsFacts;
use crate::survey;
use crate::worker::{ReadObjects, Register, Worker};

/// How long all GPUs together may be asked.
const GPU_TIME: Duration = Duration::from_secs(12);

/// Longest wait for GPU memory and a registration of it: the first one makes a context.
const GPU_ANSWER: Duration = Duration::from_secs(8);

/// How long host memory may be registered on all devices together.
const REGISTRATION_TIME: Duration = Duration::from_secs(6);

/// Asks who holds objects, before this program makes some of its own, and what the GPUs' driver says.
pub(super) fn ask(
    needs: &Needs,
    session: &Session,
    worker: &mut Worker,
    facts: &mut Facts,
    started: Instant,
    progress: &mut Progress,
) -> anyhow::Result<()> {
    if needs.has(Source::Objects) {
        facts.objects = Some(objects(worker));
    }
    if needs.has(Source::Gpus) {
        progress.at("asking the GPU driver");
        facts.gpus = gpus(session, facts, started + GPU_TIME)?;
    }
    Ok(())
}

/// Registers memory.
pub(super) fn try_memory(
    needs: &Needs,
    session: &Session,
    worker: &mut Worker,
    facts: &mut Facts,
    deadline: Instant,
    progress: &mut Progress,
) -> anyhow::Result<()> {
    if !needs.has(Source::HostMemory) && !needs.has(Source::GpuMemory) {
        return Ok(());
    }
    let mut tried = MemoryTried::default();
    let usable: Vec<String> = usable(facts).into_iter().map(|device| device.name.clone()).collect();
    if needs.has(Source::HostMemory) {
        tried.host = host_memory(session, worker, facts, &usable, deadline, progress);
    }
    if needs.has(Source::GpuMemory) {
        progress.at("trying GPU memory");
        let answering = facts.gpus.iter().flat_map(|gpus| &gpus.gpus).filter(|gpu| gpu.cuda.is_some());
        let gpus: Vec<String> = answering.map(|gpu| gpu.pci.clone()).collect();
        tried.gpu = survey::try_gpu_memory(&mut session.host.worker_within(GPU_ANSWER)?, &gpus, &usable, deadline);
    }
    facts.memory = Some(tried);
    Ok(())
}

/// Registers growing pieces of host memory with each device.
fn host_memory(
    session: &Session,
    worker: &mut Worker,
    facts: &Facts,
    usable: &[String],
    deadline: Instant,
    progress: &mut Progress,
) -> Vec<HostMemory> {
    let mut tried = Vec::new();
    let until = deadline.min(Instant::now() + REGISTRATION_TIME);
    for (index, device) in usable.iter().enumerate() {
        if session.host.interrupted() {
            break;
        }
        progress.at(&format!("{device}: registering host memory"));
        let share = until.saturating_duration_since(Instant::now()) / u32::try_from(usable.len() - index).unwrap_or(1).max(1);
        let mut try_one = |bytes| {
            worker.ask(Register { device: device.clone(), bytes }).map(|tried| match (tried.error, tried.elapsed_us) {
                (Some(error), _) => Err(error),
                (None, elapsed_us) => Ok(elapsed_us.unwrap_or(0)),
            })
        };
        tried.push(survey::try_host_memory(device, survey::most_bytes(&facts.host), Instant::now() + share, &mut try_one));
    }
    tried
}

/// Devices that can be opened.
pub(super) fn usable(facts: &Facts) -> Vec<&Device> {
    let devices = facts.devices.devices.iter();
    devices.filter(|device| device.problem.is_none() && facts.verbs_device(&device.name).is_some()).collect()
}

/// Who holds objects of RDMA devices.
fn objects(worker: &mut Worker) -> ObjectsFacts {
    let asked = worker.ask(ReadObjects);
    asked.unwrap_or_else(|failure| ObjectsFacts { error: Some(format!("RDMA netlink: {failure}")), ..ObjectsFacts::default() })
}

/// What the GPUs' driver says; nothing where the kernel has none.
fn gpus(session: &Session, facts: &Facts, deadline: Instant) -> anyhow::Result<Option<GpusFacts>> {
    // Without the driver in the kernel there is nobody to ask, and RD-0701 says so.
    if facts.modules.nvidia.is_none() {
        return Ok(None);
    }
    let bound = |gpu: &&PcieFunction| gpu.function.driver.as_deref() == Some("nvidia");
    let addresses: Vec<String> = facts.nvidia_gpus().filter(bound).map(|gpu| gpu.address().to_owned()).collect();
    let mut worker = session.host.worker()?;
    Ok(Some(survey::gpus(&mut worker, &addresses, deadline)))
}
