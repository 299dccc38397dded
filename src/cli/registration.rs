//! Why memory was refused, said beside a measurement: what the cause engine makes of it and of this host.

use std::time::Instant;

use super::gather::Look;
use super::progress::Progress;
use super::session::Session;
use crate::bench::{BenchError, ConnectionReport, Notice, Settings, Who};
use crate::catalog::Catalog;
use crate::checks::{RefusedMemory, causes};
use crate::devices::Problem;
use crate::facts::{Facts, Level, Source, Wanted};
use crate::gpu::{MemoryKind, Path};
use crate::transfer::{PathTried, RunKind, StageFacts, StageMemory, Trouble};

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

/// Why there was no way at all. `devices` are this end's and the other's.
pub fn of_error(session: &Session, error: &BenchError, devices: [&str; 2]) -> anyhow::Result<Vec<Notice>> {
    match error {
        BenchError::End { who, failure, .. } => match &failure.trouble {
            Trouble::Memory { memory, .. } => {
                let is_here = *who == Who::Here;
                of_memory(session, memory, devices[usize::from(!is_here)], is_here)
            }
            _ => Ok(Vec::new()),
        },
        _ => Ok(Vec::new()),
    }
}

/// Both ends, opened: what their memory is, and what was asked.
pub struct Opened<'a> {
    pub session: &'a Session,
    pub kind: RunKind,
    pub facts: &'a [StageFacts; 2],
    pub asked: &'a [MemoryKind; 2],
}

impl Opened<'_> {
    /// Says what both ends' memory is and what that leaves no way for.
    pub fn settle(
        &self,
        connection: &mut ConnectionReport,
        settings: &mut Settings,
        notices: &mut Vec<Notice>,
        problems: &mut Vec<Problem>,
    ) -> anyhow::Result<()> {
        let is_one_device = connection.local.device == connection.remote.device && connection.peer.is_none();
        let is_here = [true, connection.peer.is_none()];
        for (at, end) in [&mut connection.local, &mut connection.remote].into_iter().enumerate() {
            let memory = self.facts[at].memory.clone();
            let asked = &self.asked[at];
            if memory.kind != *asked {
                problems.push(Problem {
                    summary: format!("{}: it was to have memory of {asked}, and has {}", end.device, memory.kind),
                    next_step: Some("run the same release of rdmadoctor on both sides".to_owned()),
                });
            }
            // Both ends of one kind and device were refused alike.
            if at == 0 || !is_one_device || !memory.is_like(&self.facts[0].memory) {
                notices.extend(of_memory(self.session, &memory, &end.device, is_here[at])?);
            }
            settings.staged |= memory.path == Some(Path::Staged);
            end.memory = Some(memory);
        }
        let is_of_gpu = self.facts.iter().any(|facts| facts.memory.path.is_some());
        if is_of_gpu && self.kind == RunKind::Latency && !settings.staged && !settings.immediate {
            settings.immediate = true;
            let summary = "writes carry immediate data here: a processor does not see GPU memory change, so a message is known to have arrived by its completion";
            notices.push(Notice { summary: summary.to_owned(), causes: Vec::new() });
        }
        for operation in settings.operations.iter().filter(|_| settings.staged) {
            if let Some(why) = settings.impossible(*operation, 1) {
                notices.push(Notice { summary: format!("{operation} is left out: {why}"), causes: Vec::new() });
            }
        }
        Ok(())
    }
}
