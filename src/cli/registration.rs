//! Why memory was refused, said beside a measurement: what the cause engine makes of it and of this host.

use std::time::Instant;

use super::gather::Look;
use super::progress::Progress;
use super::session::Session;
use crate::bench::Notice;
use crate::catalog::Catalog;
use crate::checks::{RefusedMemory, causes};
use crate::facts::{Facts, Level, Source, Wanted};
use crate::transfer::{PathTried, StageMemory};

/// What is known of this host, from files and from the GPUs' driver.
pub fn facts(session: &Session) -> anyhow::Result<Facts> {
    let catalog = Catalog::load()?;
    let look = Look {
        session,
        // The window onto a GPU's memory is known from its driver alone.
        level: Level::Standard,
        pid: None,
        modules: &[],
        needs: [Source::Verbs, Source::Gpus].into_iter().collect(),
        started: Instant::now(),
        budget: Level::Quick.budget(),
    };
    look.gather(&catalog, &[], Wanted::default(), &mut Progress::new("registration", true))
}

/// A notice for each way that was refused, before one was found or at all.
pub fn of_memory(session: &Session, memory: &StageMemory, device: &str, is_here: bool) -> anyhow::Result<Vec<Notice>> {
    let refused: Vec<&PathTried> = memory.tried.iter().filter(|tried| tried.refusal.is_some()).collect();
    if refused.is_empty() {
        return Ok(Vec::new());
    }
    let facts = if is_here { Some(facts(session)?) } else { None };
    let form = memory.kind.gpu().map(|(_, form, _)| form).unwrap_or_default();
    let gpu = memory.gpu.as_ref().map(|gpu| gpu.pci.clone()).unwrap_or_default();
    let of = |tried: &&PathTried| {
        let refusal = tried.refusal.as_ref()?;
        let causes = facts.iter().flat_map(|facts| {
            causes(facts, &RefusedMemory { form, path: tried.path, refusal, gpu: &gpu, device: Some(device), bytes: memory.bytes })
        });
        Some(Notice {
            summary: format!("{} to {device} by {} is no way here: {refusal}", memory.kind, tried.path),
            causes: causes.map(|cause| cause.line()).collect(),
        })
    };
    Ok(refused.iter().filter_map(of).collect())
}
