//! `rdmadoctor bw --all-pairs`: every GPU with every NIC, by every way.

use super::UsageError;
use super::bw::Arguments;
use super::ends;
use super::session::Session;
use crate::bench::{PairCell, Pairs, Request};
use crate::devices;
use crate::devices::Problem;
use crate::gpu::{CudaFacts, GpuForm, GpuName, MemoryKind, Path};
use crate::host::part::Asked;
use crate::host::rdma::RdmaFacts;
use crate::schema;
use crate::transfer::Operation;

/// Longest wait for CUDA to tell its GPUs.
const CUDA_ANSWER: std::time::Duration = std::time::Duration::from_secs(20);
/// The message that is measured with, unless another is asked.
const SIZE: u64 = 1 << 20;
/// The ways, in the order of the columns.
const PATHS: [Path; 4] = [Path::Peermem, Path::Dmabuf, Path::DataDirect, Path::Staged];

/// Measures each pair.
pub fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<u8> {
    if arguments.ends.names_an_end() {
        let why = "--all-pairs takes every GPU and NIC of this host; leave DEV, --to, --peer, --memory and --to-memory out";
        return Err(UsageError(why.to_owned()).into());
    }
    let size = match arguments.sizes.as_slice() {
        [one] => *one,
        // Those that are measured unless one is asked for.
        _ => SIZE,
    };
    let request = Request { sizes: vec![size], hot: true, spread: false, bidirectional: false, ..arguments.request()? };
    let mut document = Pairs { schema: schema::BW_PAIRS.to_owned(), size_bytes: size, ..Pairs::default() };
    let nics = nics(session)?;
    let cuda = session.host.worker_within(CUDA_ANSWER)?.ask(crate::worker::ReadUsableGpus);
    let cuda = cuda.unwrap_or_else(|failure| CudaFacts {
        error: Some(crate::gpu::GpuError::NotAsked { why: failure.to_string() }),
        ..CudaFacts::default()
    });
    let gpus: Vec<String> = cuda.gpus.iter().map(|gpu| gpu.pci.clone()).collect();
    if nics.is_empty() || gpus.is_empty() {
        let summary = match (&cuda.error, nics.is_empty()) {
            (_, true) => "there is no RDMA device with an active port".to_owned(),
            (Some(error), false) => format!("no GPU can be used: {error}"),
            (None, false) => "CUDA shows no GPU".to_owned(),
        };
        let next = if nics.is_empty() { "`rdmadoctor devices` says why" } else { "`rdmadoctor gpu` says why" };
        document.problems.push(Problem { summary, next_step: Some(next.to_owned()) });
    }
    let operations = [Operation::Write, Operation::Read].into_iter().filter(|operation| request.wants(*operation));
    let operations: Vec<Operation> = operations.collect();
    for (gpu, nic) in gpus.iter().flat_map(|gpu| nics.iter().map(move |nic| (gpu, nic))) {
        for path in PATHS {
            if session.host.interrupted() {
                break;
            }
            document.cells.extend(cells(session, &request, (gpu, nic, path), &operations)?);
        }
    }
    if session.host.interrupted() {
        document.stopped = Some("interrupted".to_owned());
    }
    session.output.print(&document)?;
    let works = |gpu: &String, nic: &String| {
        document.cells.iter().any(|cell| cell.gpu == *gpu && cell.device == *nic && cell.bytes_per_second.is_some())
    };
    let lacks_a_way = gpus.iter().any(|gpu| nics.iter().any(|nic| !works(gpu, nic)));
    let is_wrong = document.cells.iter().any(|cell| cell.is_right == Some(false));
    Ok(ends::code(&session.host, !document.problems.is_empty(), lacks_a_way || is_wrong))
}

/// NICs with an active port.
fn nics(session: &Session) -> anyhow::Result<Vec<String>> {
    let mut reader = session.host.reader(Asked::default(), None)?;
    let sysfs = reader.get::<RdmaFacts>()?;
    let inventory = session.host.worker()?.inventory(None);
    let found = devices::collect(&sysfs, Some(&inventory));
    let is_active =
        |device: &&devices::Device| device.problem.is_none() && device.ports.iter().any(|port| port.state.as_deref() == Some("active"));
    Ok(found.devices.iter().filter(is_active).map(|device| device.name.clone()).collect())
}

/// The cells of a pair and way, one for each operation.
fn cells(
    session: &Session,
    request: &Request,
    (gpu, nic, path): (&str, &str, Path),
    operations: &[Operation],
) -> anyhow::Result<Vec<PairCell>> {
    let memory = MemoryKind::Gpu { gpu: GpuName::Pci(gpu.to_owned()), form: GpuForm::Plain, path };
    let measured = ends::bandwidth(
        session,
        &Request {
            device: Some(nic.to_owned()),
            memory,
            to_memory: Some(MemoryKind::Host),
            operations: operations.to_vec(),
            ..request.clone()
        },
    )?;
    let of = |operation: &Operation| {
        let result = measured.results.iter().find(|result| result.operation == *operation);
        let failure = result.and_then(|result| result.failure.as_ref());
        let reason =
            failure.map(|failure| failure.summary.clone()).or_else(|| measured.problems.first().map(|problem| problem.summary.clone()));
        let figure = result.and_then(|result| result.bytes_per_second);
        let mut causes: Vec<String> = failure.map(|failure| failure.causes.clone()).unwrap_or_default();
        causes.extend(measured.notices.iter().filter(|_| figure.is_none()).flat_map(|notice| notice.causes.clone()));
        PairCell {
            gpu: gpu.to_owned(),
            device: nic.to_owned(),
            operation: *operation,
            path,
            bytes_per_second: figure,
            is_right: result.and_then(|result| result.verification.as_ref()).map(|verification| verification.mismatch.is_none()),
            reason: if figure.is_some() { None } else { Some(reason.unwrap_or_else(|| "not measured".to_owned())) },
            causes,
        }
    };
    Ok(operations.iter().map(of).collect())
}
