//! Which depth and chain move most: tried one after another before anything is measured.

use super::pair::Pair;
use super::runs::{rate, run};
use super::settings::Settings;
use super::side::BenchError;
use crate::transfer::{Limit, LinkPlan, Operation, RunPlan};

/// Depths and chains that are tried one after another.
pub const RAMP: [(u32, u32); 9] = [(1, 1), (2, 1), (4, 1), (8, 2), (16, 4), (32, 8), (64, 16), (128, 32), (256, 64)];
/// From how small a message on the ramp begins at a depth that a single look would not fill.
const BEGIN: usize = 3;
/// How long a step of the ramp lasts, or how many messages long if that is longer: of a few, one more or less counts too much.
const STEP_MS: u64 = 20;
const STEP_MESSAGES: u64 = 32;
/// What part of the best rate counts as equal to it, unless looks at one depth differ by more. Of equal ones the longest chain is taken: it
/// rings the fewest doorbells.
const EQUAL: f64 = 0.997;
/// How many times the usual distance of a look from its mean is still chance: the best of several means is above its truth, while others are
/// below theirs.
const LUCK: f64 = 2.0;
/// Steps that bring this part of the best rate are looked at once more, since one look may be luck: between two emulated hosts looks at one
/// depth differ by half. And how many steps in a row may bring less than that for the ramp to go on.
const NEAR: f64 = 0.5;
const WORSE: u32 = 2;
/// How long data that is under way may take when the time of a run is up, as a part of the run.
const DRAIN_PART: f64 = 0.25;

/// What a run uses.
#[derive(Clone, Copy)]
pub struct Tuning {
    /// Requests under way on each queue pair.
    pub depth: u32,
    /// Requests posted at once.
    pub batch: u32,
    /// Whether payload travels in the request.
    pub inline: bool,
    /// How long one message takes by itself, in nanoseconds; 0 where nobody looked.
    pub message_ns: u64,
    /// Bytes a second that it brought; 0 where nobody looked.
    pub rate: f64,
}

/// Looks for the depth, chain and way of carrying payload that bring most: grows until more brings much less, and looks twice at what is near.
///
/// # Errors
/// Data does not move.
pub fn ramp(settings: &Settings, pair: &mut Pair<'_>, link: &LinkPlan, plan: &RunPlan) -> Result<Tuning, BenchError> {
    let can_inline = link.inline_bytes > 0 && plan.operation != Operation::Read;
    let mut try_one = |way: Tuning, limit: Limit| {
        let plan = RunPlan { depth: way.depth, batch: way.batch, inline: way.inline, limit, ..plan.clone() };
        run(settings, pair, &plan, &mut |_| {}).map(|results| (rate(settings, false, &results), results[0].sent.elapsed_ns))
    };
    if let Some(depth) = settings.depth {
        let depth = depth.min(link.send_depth);
        let batch = settings.batch.unwrap_or((depth / 4).max(1)).min(depth);
        return Ok(Tuning { depth, batch, inline: can_inline, message_ns: 0, rate: 0.0 });
    }
    // How long one message takes says how many may be under way when the time is up.
    let single = Tuning { depth: 1, batch: 1, inline: can_inline, message_ns: 0, rate: 0.0 };
    try_one(single, Limit::Iterations(1))?;
    let (_, single_ns) = try_one(single, Limit::Iterations(1))?;
    let single = Tuning { message_ns: single_ns, ..single };
    let run_ns = match settings.limit {
        Limit::TimeMs(ms) => (ms * 1_000_000) as f64,
        Limit::Iterations(count) => count as f64 * single_ns as f64,
        Limit::UntilTold => 1e9,
    };
    let step_ms = (single_ns * STEP_MESSAGES / 1_000_000).clamp(STEP_MS, ((run_ns / 1e6) as u64).max(STEP_MS));
    let path = Path {
        send_depth: link.send_depth,
        message_bytes: f64::from(plan.size_bytes) * f64::from(settings.queue_pairs),
        single_ns,
        drain_ns: run_ns * DRAIN_PART,
    };
    let (depth, chain, rate) = path.deepen(&mut |depth, chain| {
        let way = Tuning { depth, batch: settings.batch.unwrap_or(chain).min(depth), ..single };
        try_one(way, Limit::TimeMs(step_ms)).map(|(rate, _)| rate)
    })?;
    let best = Tuning { depth, batch: settings.batch.unwrap_or(chain).min(depth), rate, ..single };
    // Carrying payload in the request is not always faster.
    if can_inline {
        let way = Tuning { inline: false, ..best };
        let (rate, _) = try_one(way, Limit::TimeMs(step_ms))?;
        if rate > best.rate {
            return Ok(Tuning { rate, ..way });
        }
    }
    Ok(best)
}

/// What is known of a connection before anything is tried.
struct Path {
    /// Requests that a queue pair takes.
    send_depth: u32,
    /// Bytes of a message on each queue pair.
    message_bytes: f64,
    /// How long one message takes by itself.
    single_ns: u64,
    /// How long data that is under way may take when the time is up.
    drain_ns: f64,
}

impl Path {
    /// Tries depths and chains one after another, by the rate in bytes a second, and gives the longest of those that are equal to the best,
    /// with its rate.
    fn deepen<E>(&self, try_one: &mut dyn FnMut(u32, u32) -> Result<f64, E>) -> Result<(u32, u32, f64), E> {
        // Two are worth a look however long one takes: while one is acknowledged, the next is under way.
        let least = self.send_depth.min(2);
        let steps: Vec<(u32, u32)> = RAMP.into_iter().filter(|(depth, _)| (least..=self.send_depth).contains(depth)).collect();
        // As long as no rate is known, one message after another is the slowest way.
        let is_short = |depth: u32| f64::from(depth) * self.single_ns as f64 <= self.drain_ns;
        let begin = if steps.iter().filter(|(depth, _)| is_short(*depth)).count() > BEGIN + 1 { BEGIN } else { 0 };
        let mut looks: Vec<(u32, u32, f64)> = Vec::new();
        let (mut most, mut worse) = (0.0_f64, 0);
        for (depth, chain) in &steps[begin..] {
            // On a long way many are under way at once, so the rate says how long they take, and not what one takes by itself.
            let takes_ns = f64::from(*depth) * self.message_bytes / most * 1e9;
            if !looks.is_empty() && takes_ns > self.drain_ns {
                break;
            }
            let rate = try_one(*depth, *chain)?;
            most = most.max(rate);
            looks.push((*depth, *chain, rate));
            worse = if rate < most * NEAR { worse + 1 } else { 0 };
            if worse == WORSE {
                break;
            }
        }
        looks.retain(|(_, _, rate)| *rate >= most * NEAR);
        let mut apart = Vec::new();
        if looks.len() > 1 {
            for (depth, chain, rate) in &mut looks {
                let again = try_one(*depth, *chain)?;
                apart.push((*rate - again).abs() / (*rate + again));
                *rate = f64::midpoint(*rate, again);
            }
        }
        apart.sort_by(f64::total_cmp);
        let equal = apart.get(apart.len() / 2).map_or(EQUAL, |apart| EQUAL.min(1.0 - LUCK * apart));
        let most = looks.iter().fold(0.0_f64, |most, (_, _, rate)| most.max(*rate));
        let best = looks.into_iter().rfind(|(_, _, rate)| *rate >= most * equal).unwrap_or((1, 1, 0.0));
        Ok(best)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// What is chosen for messages of so many bytes in a run of half a second, where one takes `single_ns` by itself and no more than so many bytes
    /// a second go through; and the depths that were tried.
    fn chosen(message_bytes: u32, single_ns: u64, most: f64, send_depth: u32) -> ((u32, u32), Vec<u32>) {
        let path = Path { send_depth, message_bytes: message_bytes.into(), single_ns, drain_ns: 500e6 * DRAIN_PART };
        let mut tried = Vec::new();
        let deepened = path.deepen(&mut |depth, _| {
            tried.push(depth);
            Ok::<_, Infallible>(most.min(f64::from(depth * message_bytes) * 1e9 / single_ns as f64))
        });
        let Ok((depth, chain, _)) = deepened;
        ((depth, chain), tried)
    }

    #[test]
    fn a_long_way_is_filled() {
        // Two emulated guests: a message of 1 KiB takes 4 ms to and fro, and 6 MB/s go through.
        assert_eq!(chosen(1024, 4_000_000, 6e6, 256).0, (256, 64));
        // A fast NIC begins at a depth that fills it.
        assert_eq!(chosen(65536, 5_000, 50e9, 256), ((256, 64), [16, 32, 64, 128, 256].repeat(2)));
    }

    /// What is chosen for messages of 64 bytes by the first look at each depth and the second one, in 10^6 bytes a second.
    fn chosen_by<const N: usize>(first: [(u32, f64); N], second: [(u32, f64); N]) -> (u32, u32) {
        let path = Path { send_depth: 256, message_bytes: 64.0, single_ns: 1_000_000, drain_ns: 500e6 * DRAIN_PART };
        let mut looks = first.into_iter().chain(second);
        let deepened = path.deepen(&mut |depth, _| {
            let look = looks.find(|(known, _)| *known == depth);
            Ok::<_, Infallible>(look.map_or(0.0, |(_, rate)| rate * 1e6))
        });
        let Ok((depth, chain, _)) = deepened;
        (depth, chain)
    }

    #[test]
    fn one_lucky_look_is_not_believed() {
        // As of two emulated guests: looks are 15 % from their mean, so 256 is as good as 128.
        let first = [(16, 0.30), (32, 0.20), (64, 0.16), (128, 0.28), (256, 0.30)];
        let second = [(16, 0.12), (32, 0.20), (64, 0.26), (128, 0.30), (256, 0.22)];
        assert_eq!(chosen_by(first, second), (256, 64));
    }

    #[test]
    fn two_lucky_looks_are_no_more_than_luck() {
        // All depths are as good, looks are 2 to 3 % from their mean, and the two at 16 are both above the truth.
        let first = [(16, 4.42), (32, 4.08), (64, 4.30), (128, 4.12), (256, 4.35)];
        let second = [(16, 4.24), (32, 4.31), (64, 4.12), (128, 4.35), (256, 4.07)];
        assert_eq!(chosen_by(first, second), (256, 64));
        // What is no luck is seen: a chain that costs a tenth is not taken.
        let first = [(16, 4.40), (32, 4.31), (64, 4.30), (128, 3.90), (256, 3.80)];
        let second = [(16, 4.24), (32, 4.20), (64, 4.22), (128, 3.80), (256, 3.90)];
        assert_eq!(chosen_by(first, second), (64, 16));
    }

    #[test]
    fn much_less_twice_ends_it() {
        let path = Path { send_depth: 256, message_bytes: 64.0, single_ns: 1_000_000, drain_ns: 500e6 * DRAIN_PART };
        let mut tried = Vec::new();
        let deepened = path.deepen(&mut |depth, _| {
            tried.push(depth);
            Ok::<_, Infallible>(1e9 / f64::from(depth * depth))
        });
        let Ok((depth, _, _)) = deepened;
        assert_eq!((depth, tried), (16, vec![16, 32, 64]));
    }

    #[test]
    fn no_more_is_under_way_than_comes_to_an_end_in_time() {
        // Soft-RoCE: 8 MiB take a quarter of a second each, 1 MiB 34 ms.
        assert_eq!(chosen(8 << 20, 270_000_000, 30e6, 256), ((2, 1), vec![2]));
        assert_eq!(chosen(1 << 20, 34_000_000, 30e6, 256), ((2, 1), vec![2]));
        assert_eq!(chosen(64 << 10, 2_160_000, 30e6, 256).0, (32, 8));
        // A queue of one, and one through which nothing comes.
        assert_eq!(chosen(64, 1000, 1e6, 1).0, (1, 1));
        assert_eq!(chosen(64, 1000, 0.0, 256).1, [16]);
    }
}
