//! Steps, each in one line, from what came of them.

use rdmadoctor_types::OutcomeKind;

use super::{Comparison, ProfileStep, Step, StepName};
use crate::bench::{BenchReport, FailureReport, LoopbackReport, Verification};
use crate::checks::{Category, Finding, Probe, Status, find};
use crate::gpu::Path;
use crate::qp::{AskReport, DeviceReport, QpMatrix};
use crate::units::{counted, size};

/// The categories that have steps of their own.
fn is_elsewhere(finding: &Finding) -> bool {
    find(&finding.id).is_ok_and(|check| matches!(check.page.category, Category::QueuePairs | Category::Measured))
}

/// What checks say that are neither about queue pairs nor measurements.
#[must_use]
pub fn probe_step(probe: &Probe) -> Step {
    let own: Vec<&Finding> = probe.findings.iter().filter(|finding| !is_elsewhere(finding) && finding.is_root()).collect();
    let number = |status: Status| own.iter().filter(|finding| finding.status == status).count();
    let (failed, broken, warned) = (number(Status::Fail), number(Status::Error), number(Status::Warn));
    let status = match () {
        () if failed + broken > 0 => Status::Fail,
        () if warned > 0 => Status::Warn,
        () => Status::Pass,
    };
    let mut parts = Vec::new();
    parts.extend((failed > 0).then(|| counted(failed as u64, "failure")));
    parts.extend((broken > 0).then(|| counted(broken as u64, "broken check")));
    parts.extend((warned > 0).then(|| counted(warned as u64, "warning")));
    parts.push(format!("{} passed", number(Status::Pass)));
    parts.push(format!("{} skipped", number(Status::Skip)));
    step(StepName::Probe, None, status, parts.join(", "))
}

fn step(step: StepName, subject: Option<&str>, status: Status, summary: String) -> Step {
    Step { step, subject: subject.map(str::to_owned), status, summary, is_missing: false, elapsed_us: 0 }
}

/// A line for each engine; where none was asked about, one for the modest queue pair. `untried` are devices for which no time was left.
#[must_use]
pub fn matrix_steps(matrix: &QpMatrix, untried: &[&str]) -> Vec<Step> {
    let mut engines: Vec<String> = Vec::new();
    for ask in matrix.devices.iter().flat_map(|report| &report.asks) {
        engines.extend(named(ask.engine.as_ref(), ask.version.as_ref()).filter(|name| !engines.contains(name)));
    }
    let elapsed_us = matrix.devices.iter().map(|report| report.elapsed_us).sum();
    let mut steps: Vec<Step> =
        if engines.is_empty() { vec![modest(matrix)] } else { engines.iter().map(|engine| of_engine(engine, matrix)).collect() };
    if !untried.is_empty() {
        let why = format!("not run on {}: no time was left for it, or it was interrupted", untried.join(", "));
        let late = Step { is_missing: true, ..step(StepName::QpMatrix, None, Status::Skip, why) };
        // Of what was tried on no device there is nothing to tell.
        if matrix.devices.is_empty() {
            return vec![late];
        }
        steps.push(late);
    }
    // All were tried together.
    if let Some(first) = steps.first_mut() {
        first.elapsed_us = elapsed_us;
    }
    steps
}

fn named(engine: Option<&String>, version: Option<&String>) -> Option<String> {
    Some(format!("{}@{}", engine?, version?))
}

fn modest(matrix: &QpMatrix) -> Step {
    let is_granted = |report: &&DeviceReport| report.base.as_ref().is_some_and(|base| base.outcome.is_granted());
    let granted = matrix.devices.iter().filter(is_granted).count();
    let (status, summary) = match (granted, matrix.devices.len()) {
        (_, 0) => (Status::Skip, "no device on which a queue pair could be tried".to_owned()),
        (granted, all) if granted == all => {
            (Status::Pass, format!("a modest queue pair is granted on {}; no engine was asked about", counted(all as u64, "device")))
        }
        (granted, all) => (Status::Fail, format!("a modest queue pair is granted on {granted} of {}", counted(all as u64, "device"))),
    };
    step(StepName::QpMatrix, None, status, summary)
}

fn of_engine(engine: &str, matrix: &QpMatrix) -> Step {
    let (mut granted, mut refused, mut untried) = (Vec::new(), Vec::new(), Vec::new());
    for report in &matrix.devices {
        let asks =
            report.asks.iter().filter(|ask| !ask.optional && named(ask.engine.as_ref(), ask.version.as_ref()).as_deref() == Some(engine));
        let asks: Vec<&AskReport> = asks.collect();
        let place = match () {
            () if asks.iter().any(|ask| ask.is_refused()) => &mut refused,
            () if asks.is_empty() || asks.iter().any(|ask| ask.verdict == OutcomeKind::NotRun) => &mut untried,
            () => &mut granted,
        };
        place.push(report.device.as_str());
    }
    let part = |word: &str, devices: &[&str]| match devices.len() {
        0 => None,
        // Many names tell less than that it is all of them.
        all if all == matrix.devices.len() && all > 3 => Some(format!("{word} on all {all} devices")),
        _ => Some(format!("{word} on {}", devices.join(", "))),
    };
    let parts: Vec<String> = [("refused", &refused), ("not tried", &untried), ("granted", &granted)]
        .into_iter()
        .filter_map(|(word, devices)| part(word, devices))
        .collect();
    let status = match () {
        () if !refused.is_empty() => Status::Fail,
        () if granted.is_empty() || !untried.is_empty() => Status::Skip,
        () => Status::Pass,
    };
    let summary = if parts.is_empty() { "no device on which it could be tried".to_owned() } else { parts.join("; ") };
    Step { is_missing: !untried.is_empty(), ..step(StepName::QpMatrix, Some(engine), status, summary) }
}

/// That no memory of a GPU was measured, and why.
#[must_use]
pub fn no_gpu_step(why: &str) -> Step {
    step(StepName::Bw, Some("GPU memory"), Status::Skip, format!("not run: {why}"))
}

/// Latency and bandwidth of a device, or of a GPU's memory by way of one.
#[must_use]
pub fn measured_steps(measured: &LoopbackReport) -> Vec<Step> {
    let name = &measured.subject();
    if let Some(why) = &measured.not_run {
        let not_run = |which| Step { is_missing: measured.is_missing, ..step(which, Some(name), Status::Skip, format!("not run: {why}")) };
        return [StepName::Ping, StepName::Bw].map(not_run).to_vec();
    }
    let ping = measured.ping.as_ref().map(|ping| {
        let rows: Vec<Row<'_>> = ping.results.iter().map(|row| (row.failure.as_ref(), row.verification.as_ref())).collect();
        let least = ping.results.iter().filter(|row| row.latencies.is_some()).map(|row| row.size_bytes).min().unwrap_or(0);
        let shortest = ping.results.iter().filter(|row| row.size_bytes == least);
        let figures = shortest.filter_map(|row| Some(format!("{} {} {:.1} us", row.operation, size(least), row.latencies?.p50_us)));
        let step = outcome(StepName::Ping, name, ping, &rows, figures.collect::<Vec<_>>().join(", "));
        Step { elapsed_us: measured.ping_elapsed_us, ..step }
    });
    let bw = measured.bw.as_ref().map(|bw| {
        let rows: Vec<Row<'_>> = bw.results.iter().map(|row| (row.failure.as_ref(), row.verification.as_ref())).collect();
        let mut operations = Vec::new();
        for row in bw.results.iter().filter(|row| row.bytes_per_second.is_some()) {
            if !operations.contains(&row.operation) {
                operations.push(row.operation);
            }
        }
        let figures = operations.into_iter().filter_map(|operation| {
            let row = measured.best(operation)?;
            let bits = row.bytes_per_second?.median * 8.0;
            let share = measured
                .path
                .as_ref()
                .map_or_else(String::new, |path| format!(" ({:.0} % of its path)", bits / path.bits_per_second.max(1) as f64 * 100.0));
            Some(format!("{operation} {:.2} Gbit/s{share}", bits / 1e9))
        });
        let mut figures = figures.collect::<Vec<_>>().join(", ");
        if let Some(path) = measured.gpu_memory().and_then(|memory| memory.path).filter(|_| !figures.is_empty()) {
            figures += &format!("; {}", if path == Path::Staged { "copied through host memory".to_owned() } else { format!("by {path}") });
        }
        let step = outcome(StepName::Bw, name, bw, &rows, figures);
        Step { elapsed_us: measured.bw_elapsed_us, ..step }
    });
    let bw = bw.or_else(|| {
        let why = if measured.moves_nothing() { "not run: ping moved nothing" } else { "not run" };
        ping.is_some().then(|| step(StepName::Bw, Some(name), Status::Skip, why.to_owned()))
    });
    ping.into_iter().chain(bw).collect()
}

type Row<'a> = (Option<&'a FailureReport>, Option<&'a Verification>);

fn outcome<R>(which: StepName, device: &str, document: &BenchReport<R>, rows: &[Row<'_>], figures: String) -> Step {
    let wrong = rows.iter().any(|(_, verification)| verification.is_some_and(|verification| verification.mismatch.is_some()));
    let failure = rows.iter().find_map(|(failure, _)| *failure);
    let (status, summary) = match (document.problems.first(), failure) {
        (Some(problem), _) => (Status::Fail, problem.summary.clone()),
        (None, _) if wrong => (Status::Fail, "what arrived is not what was sent".to_owned()),
        (None, Some(failure)) => (Status::Fail, format!("failed while {}: {}", failure.step, failure.summary)),
        (None, None) if figures.is_empty() => {
            (Status::Skip, document.stopped.clone().unwrap_or_else(|| "no operation suits it".to_owned()))
        }
        (None, None) if document.is_simulated() => (Status::Pass, format!("simulated: {figures}")),
        (None, None) => (Status::Pass, figures),
    };
    let is_short = document.stopped.is_some() && status != Status::Fail;
    let summary = match &document.stopped {
        Some(why) if status == Status::Pass => format!("{summary}; not all of it: {why}"),
        _ => summary,
    };
    Step { is_missing: is_short, ..step(which, Some(device), status, summary) }
}

/// The transfer profile.
#[must_use]
pub fn profile_step(profile: &ProfileStep, has_limits: bool) -> Step {
    let place = profile.file.as_ref().map_or_else(|| "not written (--profile-out FILE)".to_owned(), |file| format!("written to {file}"));
    let confirmed = format!("{} confirmed", counted(profile.attempts_repeated as u64, "attempt"));
    let open = match profile.unvalidated.len() {
        0 => "all proven".to_owned(),
        1 => "1 entry not proven".to_owned(),
        number => format!("{number} entries not proven"),
    };
    let (status, summary) = match profile.stale.first() {
        Some(stale) => {
            let (entry, was, is) = (&stale.entry, &stale.was, &stale.is);
            (Status::Fail, format!("not true any more when it was checked at once: {entry} was {was}, is {is}; {place}"))
        }
        None if !has_limits => (Status::Fail, format!("nothing was granted; {place}")),
        None => (Status::Pass, format!("{confirmed}, {open}; {place}")),
    };
    step(StepName::Profile, None, status, summary)
}

/// The earlier run.
#[must_use]
pub fn baseline_step(comparison: &Comparison) -> Step {
    use super::ChangeKind::{Better, Worse};
    let number = |kind| comparison.changes.iter().filter(|change| change.kind == kind).count();
    let replaced = if comparison.is_replaced { "; this run has taken its place" } else { "" };
    let summary = match (&comparison.created, comparison.changes.len()) {
        (None, _) if comparison.is_replaced => format!("the first run: kept in {}", comparison.file),
        (None, _) => format!("no good run is kept in {} yet", comparison.file),
        (Some(created), 0) => format!("nothing changed since {created}{replaced}"),
        (Some(created), all) => {
            format!("{} since {created}, {} worse, {} better{replaced}", counted(all as u64, "change"), number(Worse), number(Better))
        }
    };
    step(StepName::Baseline, None, Status::Pass, summary)
}
