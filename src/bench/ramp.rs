//! Which depth and chain move most: tried one after another before anything is measured.

use super::pair::Pair;
use super::runs::{rate, run};
use super::settings::Settings;
use super::side::BenchError;
use crate::transfer::{Limit, LinkPlan, Operation, RunPlan};

/// Depths and chains that are tried one after another, until more brings less.
pub const RAMP: [(u32, u32); 9] = [(1, 1), (2, 1), (4, 1), (8, 2), (16, 4), (32, 8), (64, 16), (128, 32), (256, 64)];
/// From how small a message on the ramp begins at a depth that a single look would not fill.
const BEGIN: usize = 3;
/// How long a step of the ramp lasts, or how many messages long if that is longer: of a few, one more or less counts too much.
const STEP_MS: u64 = 20;
const STEP_MESSAGES: u64 = 32;
/// What part of the best rate counts as equal to it, and how many steps in a row may bring less for the ramp to go on. Of equal ones the
/// longest chain is taken: it rings the fewest doorbells.
const EQUAL: f64 = 0.997;
const WORSE: u32 = 2;
/// How long data that is under way may take when the time of a run is up, as a part of the run.
const DRAIN_PART: f64 = 0.25;

/// What a run uses.
#[derive(Clone, Copy)]
pub struct Way {
    /// Requests under way on each queue pair.
    pub depth: u32,
    /// Requests posted at once.
    pub batch: u32,
    /// Whether payload travels in the request.
    pub inline: bool,
    /// How long one message takes by itself, in nanoseconds; 0 where nobody looked.
    pub message_ns: u64,
}

/// Looks for the depth, chain and way of carrying payload that bring most: grows until more brings less.
///
/// # Errors
/// Data does not move.
pub fn ramp(settings: &Settings, pair: &mut Pair<'_>, link: &LinkPlan, plan: &RunPlan) -> Result<Way, BenchError> {
    let can_inline = link.inline_bytes > 0 && plan.operation != Operation::Read;
    let mut try_one = |way: Way, limit: Limit| {
        let plan = RunPlan { depth: way.depth, batch: way.batch, inline: way.inline, limit, ..plan.clone() };
        run(settings, pair, &plan, &mut |_| {}).map(|results| (rate(settings, false, &results), results[0].sent.elapsed_ns))
    };
    if let Some(depth) = settings.depth {
        let depth = depth.min(link.send_depth);
        let batch = settings.batch.unwrap_or((depth / 4).max(1)).min(depth);
        return Ok(Way { depth, batch, inline: can_inline, message_ns: 0 });
    }
    // How long one message takes says how many may be under way when the time is up.
    let single = Way { depth: 1, batch: 1, inline: can_inline, message_ns: 0 };
    try_one(single, Limit::Iterations(1))?;
    let (_, single_ns) = try_one(single, Limit::Iterations(1))?;
    let single = Way { message_ns: single_ns, ..single };
    let run_ns = match settings.limit {
        Limit::TimeMs(ms) => (ms * 1_000_000) as f64,
        Limit::Iterations(count) => count as f64 * single_ns as f64,
        Limit::UntilTold => 1e9,
    };
    // Two are worth a look however long one takes: while one is acknowledged, the next is under way.
    let deepest = ((run_ns * DRAIN_PART / single_ns.max(1) as f64) as u32).clamp(link.send_depth.min(2), link.send_depth);
    let step_ms = (single_ns * STEP_MESSAGES / 1_000_000).clamp(STEP_MS, ((run_ns / 1e6) as u64).max(STEP_MS));
    let steps: Vec<(u32, u32)> =
        RAMP.into_iter().filter(|(depth, _)| *depth <= link.send_depth && *depth >= link.send_depth.min(2)).collect();
    let begin = if steps.iter().filter(|(depth, _)| *depth <= deepest).count() > BEGIN + 1 { BEGIN } else { 0 };
    let (mut best, mut most, mut worse) = ((single, 0.0), 0.0_f64, 0);
    for (index, (depth, chain)) in steps[begin..].iter().enumerate() {
        // Of more than one message the rate says it: on a long way many are under way at once, and one takes as long by itself.
        let under_way = f64::from(*depth) * f64::from(plan.size_bytes) * f64::from(settings.queue_pairs);
        if index > 0 && under_way / most > run_ns / 1e9 * DRAIN_PART {
            break;
        }
        let way = Way { depth: *depth, batch: settings.batch.unwrap_or(*chain).min(*depth), ..single };
        let (rate, _) = try_one(way, Limit::TimeMs(step_ms))?;
        most = most.max(rate);
        if rate >= most * EQUAL {
            (best, worse) = ((way, rate), 0);
        } else {
            worse += 1;
        }
        if worse == WORSE {
            break;
        }
    }
    // Carrying payload in the request is not always faster.
    if can_inline {
        let way = Way { inline: false, ..best.0 };
        let (rate, _) = try_one(way, Limit::TimeMs(step_ms))?;
        if rate > best.1 {
            best = (way, rate);
        }
    }
    Ok(best.0)
}
