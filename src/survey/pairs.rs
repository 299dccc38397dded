//! Every GPU with every NIC, by every way from GPU memory to the NIC.

use super::{Host, Onlooker, SurveyError, bandwidth};
use crate::bench::{PairCell, Pairs, Request};
use crate::devices::Problem;
use crate::gpu::{AllocKind, GpuName, MemoryKind, Path};
use crate::schema;
use crate::transfer::Operation;

/// The message that is measured with, unless another is asked.
const SIZE: u64 = 1 << 20;
/// The ways, in the order of the columns.
const PATHS: [Path; 4] = [Path::Peermem, Path::Dmabuf, Path::DataDirect, Path::Staged];

/// Measures each pair, with write and read apart.
pub(crate) fn pairs(host: &Host, request: &Request, onlooker: &mut Onlooker<'_>) -> Result<Pairs, SurveyError> {
    let size = match request.sizes.as_slice() {
        [one] => *one,
        // Those that are measured unless one is asked for.
        _ => SIZE,
    };
    let request = Request { sizes: vec![size], hot: true, spread: false, bidirectional: false, ..request.clone() };
    let mut document = Pairs { schema: schema::BW_PAIRS.to_owned(), size_bytes: size, ..Pairs::default() };
    let found = super::measure::devices_and_addresses(host, &mut host.worker()?)?.0;
    let nics: Vec<&str> = found.devices.iter().filter(|device| device.is_up()).map(|device| device.name.as_str()).collect();
    let cuda = host.usable_gpus()?;
    if nics.is_empty() || cuda.gpus.is_empty() {
        let summary = match (&cuda.error, nics.is_empty()) {
            (_, true) => "there is no RDMA device with an active port".to_owned(),
            (Some(error), false) => format!("no GPU can be used: {error}"),
            (None, false) => "CUDA shows no GPU".to_owned(),
        };
        let next = if nics.is_empty() { "`rdmadoctor devices` says why" } else { "`rdmadoctor gpu` says why" };
        document.problems.push(Problem { summary, next_step: Some(next.to_owned()) });
    }
    let operations = [Operation::Write, Operation::Read].into_iter().filter(|operation| request.wants(*operation));
    let request = Request { operations: operations.collect(), ..request };
    for (gpu, nic) in cuda.gpus.iter().flat_map(|gpu| nics.iter().map(move |nic| (gpu.pci.as_str(), *nic))) {
        for path in PATHS {
            if host.interrupted() {
                break;
            }
            measure(host, &request, (gpu, nic, path), onlooker, &mut document)?;
        }
    }
    if host.interrupted() {
        document.stopped = Some("interrupted".to_owned());
    }
    Ok(document)
}

/// Measures a pair and way, which gives a cell for each operation.
fn measure(
    host: &Host,
    request: &Request,
    (gpu, nic, path): (&str, &str, Path),
    onlooker: &mut Onlooker<'_>,
    document: &mut Pairs,
) -> Result<(), SurveyError> {
    let memory = MemoryKind::Gpu { gpu: GpuName::Pci(gpu.to_owned()), form: AllocKind::Plain, path };
    let request = Request { device: Some(nic.to_owned()), memory, to_memory: Some(MemoryKind::Host), ..request.clone() };
    let measured = bandwidth(host, &request, onlooker)?;
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
    document.cells.extend(request.operations.iter().map(of));
    document.is_simulated |= measured.is_simulated();
    Ok(())
}
