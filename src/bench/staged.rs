//! Staged transfers beside their ceilings: the copies alone and the provider alone, with the same chunks in the same places, in one run.

use super::document::StagedReport;
use super::pair::Pair;
use super::runs::{rate, run};
use super::settings::Settings;
use super::side::BenchError;
use super::statistics::Spread;
use crate::transfer::{BouncePlan, Limit, RunPlan, StagedPart};

/// Lengths of a chunk that are tried: short ones overlap sooner, of long ones fewer have to be asked for.
const CHUNKS: [u32; 4] = [512 << 10, 1 << 20, 2 << 20, 4 << 20];
/// How long each is tried.
const STEP_MS: u64 = 50;

/// The length of chunks that moves most.
///
/// # Errors
/// Data does not move.
pub fn chunk(settings: &Settings, pair: &mut Pair<'_>, plan: &RunPlan) -> Result<u32, BenchError> {
    let mut best = (CHUNKS[0], 0.0);
    for (index, chunk_bytes) in CHUNKS.into_iter().enumerate() {
        // Longer than a message is as long as the message.
        if index > 0 && CHUNKS[index - 1] >= plan.size_bytes {
            break;
        }
        let staged = BouncePlan { part: StagedPart::All, chunk_bytes };
        let results = run(settings, pair, &RunPlan { staged, limit: Limit::TimeMs(STEP_MS), ..plan.clone() }, &mut |_| {})?;
        let rate = rate(settings, false, &results);
        if rate > best.1 {
            best = (chunk_bytes, rate);
        }
    }
    Ok(best.0)
}

/// Figures of the parts, a pair for each repeat of the whole.
#[derive(Default)]
pub struct Ceilings {
    copies: Vec<f64>,
    provider: Vec<f64>,
    shares: Vec<f64>,
}

impl Ceilings {
    /// Measures both parts as the whole was measured just now.
    ///
    /// # Errors
    /// Data does not move.
    pub fn measure(&mut self, settings: &Settings, pair: &mut Pair<'_>, plan: &RunPlan, whole: f64) -> Result<(), BenchError> {
        let mut part = |part| {
            let staged = BouncePlan { part, ..plan.staged };
            run(settings, pair, &RunPlan { staged, ..plan.clone() }, &mut |_| {}).map(|results| rate(settings, false, &results))
        };
        let (copies, provider) = (part(StagedPart::Copies)?, part(StagedPart::Provider)?);
        self.copies.push(copies);
        self.provider.push(provider);
        let least = copies.min(provider);
        if least > 0.0 {
            self.shares.push(whole / least * 100.0);
        }
        Ok(())
    }

    /// All of it; nothing where nothing was measured.
    #[must_use]
    pub fn report(&self, chunk_bytes: u32) -> Option<StagedReport> {
        Some(StagedReport {
            chunk_bytes: chunk_bytes.into(),
            copies_bytes_per_second: Spread::of(&self.copies)?,
            provider_bytes_per_second: Spread::of(&self.provider)?,
            share_percent: Spread::of(&self.shares)?.median,
        })
    }
}
