//! Why memory was refused, said beside a measurement: what the cause engine makes of it and of this host.

use std::time::Instant;

use super::beside::Beside;
use super::gather::Look;
use super::progress::Progress;
use super::session::Session;
use crate::bench::{BenchError, Notice, Who};
use crate::catalog::Catalog;
use crate::checks::{Facts, Level, RefusedMemory, Wanted, causes};
use crate::transfer::{PathTried, StageMemory, Trouble};

/// What is known of this host, from files and from the GPUs' driver.
pub fn facts(session: &Session) -> anyhow::Result<Facts> {
    let catalog = Catalog::load(None)?;
    let look = Look {
        session,
        level: Level::Quick,
        pid: None,
        modules: &[],
        needs_attempts: false,
        beside: Beside::of_checks(&[]),
        started: Instant::now(),
    };
    look.gather(&catalog, &[], Wanted::default(), &mut Progress::new("registration", true))
}

/// A notice for each way that was refused.
fn notices(session: &Session, memory: &StageMemory, device: &str, is_here: bool) -> anyhow::Result<Vec<Notice>> {
    let refused: Vec<&PathTried> = memory.tried.iter().filter(|tried| tried.refusal.is_some()).collect();
    if refused.is_empty() {
        return Ok(Vec::new());
    }
    let facts = if is_here { Some(facts(session)?) } else { None };
    let form = memory.kind.gpu().map(|(_, form, _)| form).unwrap_or_default();
    let gpu = memory.gpu.as_ref().map(|gpu| gpu.pci.clone()).unwrap_or_default();
    let of = |tried: &&PathTried| {
        let refusal = tried.refusal.as_ref()?;
        let causes = facts
            .iter()
            .flat_map(|facts| causes(facts, &RefusedMemory { form, path: tried.path, refusal, gpu: &gpu, device: Some(device), bytes: 0 }));
        Some(Notice {
            summary: format!("{} to {device} by {} is no way here: {refusal}", memory.kind, tried.path),
            causes: causes.map(|cause| cause.line()).collect(),
        })
    };
    Ok(refused.iter().filter_map(of).collect())
}

/// Why ways were refused before one was found.
pub fn of_memory(session: &Session, memory: &StageMemory, device: &str, is_here: bool) -> anyhow::Result<Vec<Notice>> {
    notices(session, memory, device, is_here)
}

/// Why there was no way at all. `devices` are this end's and the other's.
pub fn of_error(session: &Session, error: &BenchError, devices: [&str; 2]) -> anyhow::Result<Vec<Notice>> {
    match error {
        BenchError::End { who, failure, .. } => match &failure.trouble {
            Trouble::Memory { memory, .. } => {
                let is_here = *who == Who::Here;
                notices(session, memory, devices[usize::from(!is_here)], is_here)
            }
            _ => Ok(Vec::new()),
        },
        _ => Ok(Vec::new()),
    }
}
