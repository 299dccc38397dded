//! Latency and bandwidth of each GPU's memory: between it and host memory, by way of the nearest NIC, by the best way that works.

use std::time::Instant;

use super::flight::Flight;
use super::measure::{Pace, bandwidth, is_datagram, latency, request};
use crate::bench::{LoopbackReport, Request};
use crate::devices::Device;
use crate::facts::Facts;
use crate::gpu::{AllocKind, GpuError, GpuName, MemoryKind, Path};
use crate::survey::SurveyError;
use crate::transfer::Operation;

/// Figures of a GPU, and the context that is made twice.
const FIGURES: u32 = 30;

/// Measures one GPU after another, each with one of the NICs that were well by themselves; until then. Where there is none to measure, why.
pub(super) fn measure(
    flight: &Flight<'_>,
    facts: &Facts,
    nics: &[LoopbackReport],
    until: Instant,
) -> Result<Result<Vec<LoopbackReport>, String>, SurveyError> {
    let moved = |device: &Device| nics.iter().any(|nic| nic.device == device.name && !nic.moves_nothing());
    let devices: Vec<&Device> = facts.usable().map(|(device, _)| device).filter(|device| device.is_up() && moved(device)).collect();
    if devices.is_empty() {
        return Ok(Err("there is no RDMA device that moves data".to_owned()));
    }
    let gpus = match gpus(flight, facts)? {
        Ok(gpus) => gpus,
        Err(why) => return Ok(Err(why)),
    };
    let names: Vec<&str> = devices.iter().map(|device| device.name.as_str()).collect();
    let nearest = facts.host.topology.nearest(&gpus, &names);
    let mut pace = Pace::new(flight, FIGURES, until);
    let mut measured = Vec::new();
    for (gpu, nic) in gpus.iter().zip(nearest) {
        let Some(nic) = devices.iter().find(|device| Some(device.name.as_str()) == nic) else { continue };
        let mut report = LoopbackReport::of_gpu(gpu, &nic.name);
        if is_divided(facts, gpu) {
            report.not_run = Some("it is divided (MIG), and CUDA shows a part of it".to_owned());
        } else {
            pace.run(flight, &mut report, &mut |report, until| one(flight, gpu, nic, until, report))?;
        }
        measured.push(report);
    }
    Ok(Ok(measured))
}

/// Addresses of the GPUs that CUDA shows.
fn gpus(flight: &Flight<'_>, facts: &Facts) -> Result<Result<Vec<String>, String>, SurveyError> {
    let is_model = flight.host.model_name().is_some();
    let asked;
    let cuda = match &facts.gpus {
        // Whose memory is measured is not always what was found on the host.
        _ if is_model => {
            asked = flight.host.usable_gpus()?;
            &asked
        }
        Some(gpus) => &gpus.cuda,
        None if facts.nvidia_gpus().next().is_some() => {
            return Ok(Err("the kernel's driver of this host's NVIDIA GPUs is not loaded".to_owned()));
        }
        None => return Ok(Err("this host has no NVIDIA GPU".to_owned())),
    };
    Ok(match &cuda.error {
        Some(GpuError::NotAsked { why }) if is_model => Err(why.clone()),
        Some(error) => Err(format!("CUDA cannot be used: {error}")),
        None if cuda.gpus.is_empty() => Err("CUDA shows no GPU".to_owned()),
        None => Ok(cuda.gpus.iter().map(|gpu| gpu.pci.clone()).collect()),
    })
}

fn is_divided(facts: &Facts, gpu: &str) -> bool {
    facts.gpus.as_ref().and_then(|gpus| gpus.gpu(gpu)).is_some_and(|gpu| gpu.is_divided == Some(true))
}

fn one(flight: &Flight<'_>, gpu: &str, nic: &Device, until: Instant, report: &mut LoopbackReport) -> Result<(), SurveyError> {
    let memory = MemoryKind::Gpu { gpu: GpuName::Pci(gpu.to_owned()), form: AllocKind::Plain, path: Path::Auto };
    let base = Request { memory, to_memory: Some(MemoryKind::Host), ..request(flight, nic, until) };
    let (first, all, size) = if is_datagram(nic) {
        (Operation::Send, vec![Operation::Send], 4 << 10)
    } else {
        (Operation::Write, vec![Operation::Write, Operation::Read], 1 << 20)
    };
    // Writes alone: they say whether data gets out of the GPU, and how fast.
    latency(flight, &Request { operations: vec![first], sizes: vec![64], ..base.clone() }, report)?;
    if report.moves_nothing() {
        return Ok(());
    }
    bandwidth(flight, &Request { operations: all, sizes: vec![size], ..base }, report)
}
