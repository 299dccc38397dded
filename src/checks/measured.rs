//! 12: what moved when each device sent to itself. Only `preflight` measures.

use super::Source::Measured;
use super::{Action, Check, Facts, Finding, page};
use crate::bench::{BandwidthResult, CounterDelta, CounterKeeper, FailureReport, LoopbackReport, Verification};
use crate::gpu::Path;
use crate::transfer::Operation;

pub(super) const CHECKS: &[Check] = &[
    Check {
        page: page("RD-1201"),
        needs: &[Measured],
        depends_on: &["RD-0306", "RD-0401", "RD-0403", "RD-0501", "RD-0601", "RD-0604"],
        run: moves,
    },
    Check { page: page("RD-1202"), needs: &[Measured], depends_on: &[], run: is_unharmed },
    Check {
        page: page("RD-1203"),
        needs: &[Measured],
        depends_on: &["RD-0801", "RD-0803", "RD-0805", "RD-0807", "RD-1201"],
        run: share_of_path,
    },
    Check { page: page("RD-1204"), needs: &[Measured], depends_on: &["RD-1201"], run: counters },
    Check { page: page("RD-1205"), needs: &[Measured], depends_on: &["RD-0801", "RD-1201"], run: share_of_earlier },
    Check {
        page: page("RD-1206"),
        needs: &[Measured],
        depends_on: &["RD-0703", "RD-0704", "RD-0705", "RD-0706", "RD-0707", "RD-0708", "RD-0710", "RD-0716"],
        run: is_direct,
    },
];

/// Why a speed is not judged.
const SIMULATED: &str = "its device is simulated, and the speed of a simulation is no device's";

/// What `judge` says of each device on which something was measured.
fn each(facts: &Facts, judge: &dyn Fn(&LoopbackReport) -> Finding) -> Vec<Finding> {
    match &facts.measured {
        None => vec![Finding::skip("host", "nothing was measured; `rdmadoctor preflight` measures")],
        Some(measured) if measured.is_empty() => vec![Finding::skip("host", "there is no device to measure")],
        Some(measured) => measured
            .iter()
            .map(|measured| match &measured.not_run {
                Some(why) => Finding::skip(measured.subject(), format!("not measured: {why}")),
                None => judge(measured),
            })
            .collect(),
    }
}

/// What each measurement of a device is called, why it failed, and what was compared before.
fn rows(measured: &LoopbackReport) -> impl Iterator<Item = (String, Option<&FailureReport>, Option<&Verification>, &[CounterDelta])> {
    let ping = measured.ping.iter().flat_map(|ping| &ping.results).map(|row| {
        let name = format!("ping, {} of {} bytes", row.operation, row.size_bytes);
        (name, row.failure.as_ref(), row.verification.as_ref(), row.counters.as_slice())
    });
    let bw = measured.bw.iter().flat_map(|bw| &bw.results).map(|row| {
        let name = format!("bw, {} of {} bytes", row.operation, row.size_bytes);
        (name, row.failure.as_ref(), row.verification.as_ref(), row.counters.as_slice())
    });
    ping.chain(bw)
}

/// Why there are no more figures.
fn stopped(measured: &LoopbackReport) -> Option<&str> {
    let ping = measured.ping.as_ref().and_then(|ping| ping.stopped.as_deref());
    ping.or_else(|| measured.bw.as_ref().and_then(|bw| bw.stopped.as_deref()))
}

fn moves(facts: &Facts) -> Vec<Finding> {
    each(facts, &|measured| {
        let name = &measured.subject();
        let problems = measured.ping.iter().flat_map(|ping| &ping.problems).chain(measured.bw.iter().flat_map(|bw| &bw.problems));
        if let Some(problem) = problems.into_iter().next() {
            let finding = Finding::fail(name, "nothing can be measured on it").saw("rdmadoctor bw", &problem.summary);
            return finding.remedy(Action::Tune, problem.next_step.clone().unwrap_or_default(), &[&format!("{} -v", measured.command())]);
        }
        if let Some((what, failure)) = rows(measured).find_map(|(what, failure, ..)| Some((what, failure?))) {
            let mut finding = Finding::fail(name, format!("{what}: failed while {}", failure.step)).saw("came back", &failure.summary);
            for cause in &failure.causes {
                finding = finding.saw("likely", cause);
            }
            for line in &failure.evidence {
                finding = finding.saw("evidence", line);
            }
            return finding.remedy(Action::Tune, failure.next_step.clone().unwrap_or_default(), &[&format!("{} -v", measured.command())]);
        }
        let figures: Vec<String> = [Operation::Write, Operation::Read, Operation::Send]
            .into_iter()
            .filter_map(|operation| measured.best(operation))
            .map(figure)
            .chain(
                measured
                    .shortest()
                    .and_then(|row| Some(format!("{} of {} bytes takes {:.1} us", row.operation, row.size_bytes, row.latencies?.p50_us))),
            )
            .collect();
        let simulated = if measured.is_simulated() { "simulated: " } else { "" };
        match (figures.is_empty(), stopped(measured)) {
            (true, why) => Finding::skip(name, format!("not measured: {}", why.unwrap_or("no operation suits it"))),
            (false, _) => Finding::pass(name, format!("{simulated}{}", figures.join(", "))),
        }
    })
}

/// A bandwidth in words.
fn figure(row: &BandwidthResult) -> String {
    let rate = row.bytes_per_second.map_or(0.0, |rate| rate.median);
    let pairs = if row.queue_pairs > 1 { format!(" on {} queue pairs", row.queue_pairs) } else { String::new() };
    format!("{} of {} bytes{pairs} at {:.2} Gbit/s", row.operation, row.size_bytes, rate * 8.0 / 1e9)
}

fn is_unharmed(facts: &Facts) -> Vec<Finding> {
    each(facts, &|measured| {
        let name = &measured.subject();
        let verified: Vec<(String, &Verification)> =
            rows(measured).filter_map(|(what, _, verification, _)| Some((what, verification?))).collect();
        let wrong = verified.iter().find_map(|(what, verification)| Some((what, verification.mismatch?)));
        if let Some((what, mismatch)) = wrong {
            let place = if mismatch.is_guard { "beside the message, where nothing may be written" } else { "of the message" };
            return Finding::fail(name, format!("{what}: what arrived is not what was sent"))
                .saw_not(
                    format!("offset {} {place}", mismatch.offset_bytes),
                    format!("{:#04x}, {} wrong in all", mismatch.found, mismatch.wrong_bytes),
                    format!("{:#04x}", mismatch.expected),
                )
                .remedy(
                    Action::Replace,
                    "trust no transfer on this path: update firmware and driver, test the memory, and try another port",
                    &[&format!("{} -v", measured.command())],
                );
        }
        match verified.iter().map(|(_, verification)| verification.messages).sum::<u64>() {
            0 => Finding::skip(name, "no contents were compared"),
            messages => Finding::pass(name, format!("{messages} messages arrived as they were sent")),
        }
    })
}

fn share_of_path(facts: &Facts) -> Vec<Finding> {
    each(facts, &|measured| {
        let name = &measured.subject();
        if measured.is_simulated() {
            return Finding::skip(name, SIMULATED);
        }
        let Some(path) = &measured.path else {
            let why = match &measured.gpu {
                Some(_) => "an idle GPU slows its link down, so nothing tells what its path could carry",
                None => "nothing tells what its path could carry: it has no PCI function, or is a model's",
            };
            return Finding::skip(name, why);
        };
        let carries = format!("{:.1} Gbit/s, {}", path.bits_per_second as f64 / 1e9, path.bounded_by);
        // The best repeat counts: noise makes figures smaller, never larger.
        let share = |row: &BandwidthResult| {
            let best = row.bytes_per_second.map_or(0.0, |rate| rate.max);
            (best * 8.0 / path.bits_per_second.max(1) as f64 * 100.0, best)
        };
        let best = [Operation::Write, Operation::Read].into_iter().filter_map(|operation| measured.best(operation));
        let Some(least) = best.min_by(|left, right| share(left).0.total_cmp(&share(right).0)) else {
            return Finding::skip(name, "no bandwidth was measured");
        };
        let (percent, _) = share(least);
        match facts.wanted.bandwidth_percent_of_path {
            None => Finding::skip(name, format!("{} is {percent:.0} % of its path; the policy sets no least share", figure(least))),
            Some(wanted) if percent < f64::from(wanted) => {
                Finding::fail(name, format!("{} is {percent:.0} % of its path, the policy wants {wanted} %", figure(least)))
                    .saw_not("rdmadoctor bw", format!("{percent:.1} % in the best repeat"), format!("at least {wanted} %"))
                    .saw("the path carries", carries)
                    .remedy(
                        Action::Tune,
                        "look at what bounds it, and at what else uses the device meanwhile",
                        &[&measured.command(), "rdmadoctor topo"],
                    )
            }
            Some(wanted) => {
                Finding::pass(name, format!("{percent:.0} % of its path, of {wanted} % wanted")).saw("the path carries", carries)
            }
        }
    })
}

fn counters(facts: &Facts) -> Vec<Finding> {
    each(facts, &|measured| {
        let name = &measured.subject();
        // A port with itself uses no wire: what its interface counts meanwhile is of others.
        let is_own = |counter: &&CounterDelta| counter.keeper == CounterKeeper::Rdma;
        let mut grown: Vec<(String, String, u64, &str)> = Vec::new();
        for (what, counter) in
            rows(measured).flat_map(|(what, _, _, counters)| counters.iter().filter(is_own).map(move |counter| (what.clone(), counter)))
        {
            let Some(meaning) = counter.meaning.as_deref() else { continue };
            match grown.iter_mut().find(|(_, known, ..)| *known == counter.name) {
                Some((_, _, sum, _)) => *sum += counter.delta,
                None => grown.push((what, counter.name.clone(), counter.delta, meaning)),
            }
        }
        let Some((_, counter, _, meaning)) = grown.first() else {
            return Finding::pass(name, "no counter of trouble grew while data moved");
        };
        let mut finding = Finding::warn(name, format!("{counter} grew while data moved: {meaning}"));
        for (what, counter, delta, _) in &grown {
            finding = finding.saw_not(counter, format!("grew by {delta}, first in {what}"), "stays");
        }
        finding.remedy(Action::None, "measure again by itself, and follow what the counter means", &[&format!("{} -v", measured.command())])
    })
}

fn share_of_earlier(facts: &Facts) -> Vec<Finding> {
    each(facts, &|measured| {
        let name = &measured.subject();
        if measured.is_simulated() {
            return Finding::skip(name, SIMULATED);
        }
        let Some(wanted) = facts.wanted.bandwidth_percent_of_baseline else {
            return Finding::skip(name, "the policy does not say how much of an earlier run's bandwidth is wanted");
        };
        let both = measured.bw.iter().flat_map(|bw| &bw.results).filter_map(|row| {
            let (now, was) = (row.bytes_per_second?, measured.earlier_of(row)?.bytes_per_second?);
            (was.median > 0.0).then_some((row, now, was))
        });
        // What is too noisy to quote is too noisy to compare.
        let (noisy, steady): (Vec<_>, Vec<_>) = both.partition(|(_, now, was)| now.is_noisy || was.is_noisy);
        let shares = steady.into_iter().map(|(row, now, was)| (now.max / was.median * 100.0, row, was.median));
        match shares.min_by(|left, right| left.0.total_cmp(&right.0)) {
            None if !noisy.is_empty() => Finding::skip(name, "this run and the earlier one are too noisy to compare"),
            None => Finding::skip(name, "no earlier run measured the same"),
            Some((percent, row, was)) if percent < f64::from(wanted) => {
                Finding::fail(name, format!("{} is {percent:.0} % of what it was, the policy wants {wanted} %", figure(row)))
                    .saw_not("rdmadoctor bw", format!("{percent:.1} % in the best repeat"), format!("{:.2} Gbit/s", was * 8.0 / 1e9))
                    .remedy(Action::Tune, "look at what changed since then", &[&measured.command(), "rdmadoctor topo"])
            }
            Some((percent, row, _)) => Finding::pass(name, format!("{} is {percent:.0} % of what it was", figure(row))),
        }
    })
}

fn is_direct(facts: &Facts) -> Vec<Finding> {
    let gpus: Vec<&LoopbackReport> = facts.measured.iter().flatten().filter(|measured| measured.gpu.is_some()).collect();
    if gpus.is_empty() {
        return vec![Finding::skip("host", "no memory of a GPU was measured")];
    }
    let judge = |measured: &LoopbackReport| {
        let name = measured.subject();
        if let Some(why) = &measured.not_run {
            return Finding::skip(name, format!("not measured: {why}"));
        }
        let Some((path, memory)) = measured.gpu_memory().and_then(|memory| Some((memory.path?, memory))) else {
            // RD-1201 says why.
            return Finding::skip(name, "its memory could not be opened");
        };
        if path != Path::Staged {
            return Finding::pass(name, format!("its memory gets there by {path}"));
        }
        let refused = memory.tried.iter().filter_map(|tried| Some((tried.path, tried.refusal.as_ref()?)));
        refused
            .fold(Finding::warn(name, "its memory gets there by copies through host memory alone"), |finding, (path, refusal)| {
                finding.saw(path.to_string(), refusal.to_string())
            })
            .remedy(
                Action::Reload,
                "make one of the refused ways work; what refuses each, and what would mend it, is told by the commands below",
                &["rdmadoctor gpu", &format!("{} -v", measured.command())],
            )
    };
    gpus.into_iter().map(judge).collect()
}

#[cfg(test)]
#[path = "measured_tests.rs"]
pub(super) mod tests;
