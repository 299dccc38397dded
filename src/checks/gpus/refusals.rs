//! Why memory was refused, said beside a measurement: what the cause engine makes of it and of this host.

use super::causes::{RefusedMemory, causes};
use crate::bench::Notice;
use crate::catalog::Catalog;
use crate::facts::{Level, Source};
use crate::survey::{Host, Look, SurveyError};
use crate::transfer::{PathTried, StageMemory};

/// A notice for each way that was refused, before one was found or at all.
pub(crate) fn refusals(host: &Host, memory: &StageMemory, device: &str, is_here: bool) -> Result<Vec<Notice>, SurveyError> {
    let refused: Vec<&PathTried> = memory.tried.iter().filter(|tried| tried.refusal.is_some()).collect();
    if refused.is_empty() {
        return Ok(Vec::new());
    }
    let facts = || {
        let catalog = Catalog::default();
        // The window onto a GPU's memory is known from its driver alone.
        let needs = [Source::Verbs, Source::Gpus].into_iter().collect();
        host.facts(&Look { budget: Level::Quick.budget(), ..Look::at(Level::Standard, needs, &catalog) }, &mut |_| ())
    };
    let facts = is_here.then(facts).transpose()?;
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
