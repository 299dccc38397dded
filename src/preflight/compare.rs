//! What changed since an earlier run. A figure counts as changed where repeats of both runs leave no doubt, so that noise is no change.

use std::collections::BTreeMap;

use rdmadoctor_types::OutcomeKind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Preflight;
use crate::bench::{LoopbackReport, Spread};
use crate::checks::{Finding, Status};

/// What changed since an earlier run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// The file that the earlier run is kept in.
    pub file: String,
    /// When that was; absent where there is none yet.
    pub created: Option<String>,
    /// Whether this run has taken its place.
    pub is_replaced: bool,
    /// What is worse first.
    pub changes: Vec<Change>,
}

/// Something that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// For the better or the worse.
    pub kind: ChangeKind,
    /// What: a field of the fingerprint, a finding, an engine on a device, a measurement.
    pub what: String,
    /// As it was; absent where it was not there.
    pub was: Option<String>,
    /// As it is; absent where it is gone.
    pub is: Option<String>,
}

/// What a change means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// What was well is not.
    Worse,
    /// Neither by itself.
    Other,
    /// What was not well is.
    Better,
}

/// Compares this run with an earlier one.
#[must_use]
pub fn compare(file: &str, earlier: &Preflight, now: &Preflight) -> Comparison {
    let mut changes = Vec::new();
    let fields = |run: &Preflight| -> BTreeMap<String, String> {
        let host = ("host".to_owned(), run.host_name.clone());
        let tool = ("rdmadoctor".to_owned(), run.tool_version.clone());
        run.fingerprint.iter().map(|field| (field.field.clone(), field.value.clone())).chain([host, tool]).collect()
    };
    differences(&fields(earlier), &fields(now), &mut |_, _| ChangeKind::Other, &mut changes);
    differences(&verdicts(earlier), &verdicts(now), &mut engine_kind, &mut changes);
    findings(earlier, now, &mut changes);
    // The speed of a simulation is this machine's.
    if !now.measured.iter().any(LoopbackReport::is_simulated) {
        figures(&rates(earlier), &rates(now), true, &mut changes);
        figures(&latencies(earlier), &latencies(now), false, &mut changes);
    }
    changes.sort_by(|left, right| (left.kind, &left.what).cmp(&(right.kind, &right.what)));
    Comparison { file: file.to_owned(), created: Some(earlier.created.clone()), is_replaced: false, changes }
}

/// What one of two maps has otherwise than the other.
fn differences(
    was: &BTreeMap<String, String>,
    is: &BTreeMap<String, String>,
    kind: &mut dyn FnMut(Option<&String>, Option<&String>) -> ChangeKind,
    changes: &mut Vec<Change>,
) {
    let mut names: Vec<&String> = was.keys().chain(is.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let (was, is) = (was.get(name), is.get(name));
        if was != is {
            changes.push(Change { kind: kind(was, is), what: name.clone(), was: was.cloned(), is: is.cloned() });
        }
    }
}

fn engine_kind(was: Option<&String>, is: Option<&String>) -> ChangeKind {
    let is_granted = |verdict: Option<&String>| verdict.map(|verdict| verdict == OutcomeKind::Granted.name());
    match (is_granted(was), is_granted(is)) {
        (Some(true), Some(false)) => ChangeKind::Worse,
        (Some(false), Some(true)) => ChangeKind::Better,
        // An engine that was not asked about then, or is not now.
        _ => ChangeKind::Other,
    }
}

/// Engines' verdicts by device, engine and queue pair. What was not run says nothing.
fn verdicts(run: &Preflight) -> BTreeMap<String, String> {
    let reports = run.qp_matrix.iter().flat_map(|matrix| &matrix.devices);
    let asks = reports.flat_map(|report| report.asks.iter().map(|ask| (&report.device, ask)));
    asks.filter(|(_, ask)| ask.verdict != OutcomeKind::NotRun)
        .filter_map(|(device, ask)| {
            let (engine, version) = (ask.engine.as_ref()?, ask.version.as_ref()?);
            Some((format!("{device}: {engine} {version}, queue pair `{}`", ask.queue), ask.verdict.to_string()))
        })
        .collect()
}

/// Findings that are new, gone or of another gravity. A check that was skipped in one of the runs tells no change.
fn findings(earlier: &Preflight, now: &Preflight, changes: &mut Vec<Change>) {
    let of = |run: &Preflight| -> BTreeMap<String, Finding> {
        let findings = run.probe.iter().flat_map(|probe| &probe.findings).filter(|finding| finding.suppressed.is_none());
        findings.map(|finding| (finding.key(), finding.clone())).collect()
    };
    let (was, is) = (of(earlier), of(now));
    let grade = |finding: &Finding| match finding.status {
        Status::Pass => 0,
        Status::Skip => 1,
        Status::Warn => 2,
        Status::Fail | Status::Error => 3,
    };
    let told = |finding: &Finding| format!("{}: {}", finding.status.name(), finding.title);
    let mut keys: Vec<&String> = was.keys().chain(is.keys()).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        // What is not among the findings of a run is well there: checks name what is wrong, and pass as a whole.
        let (was, is) = (was.get(key), is.get(key));
        let skipped = [was, is].into_iter().flatten().any(|finding| finding.status == Status::Skip);
        let (before, after) = (was.map_or(0, grade), is.map_or(0, grade));
        if skipped || before == after {
            continue;
        }
        let kind = if after > before { ChangeKind::Worse } else { ChangeKind::Better };
        changes.push(Change { kind, what: key.clone(), was: was.map(told), is: is.map(told) });
    }
}

/// Bandwidths in Gbit/s by device and measurement.
fn rates(run: &Preflight) -> BTreeMap<String, Spread> {
    let rows = run.measured.iter().flat_map(|measured| {
        measured.bw.iter().flat_map(|bw| &bw.results).filter_map(|row| {
            let rate = row.bytes_per_second?;
            let bits = |bytes: f64| bytes * 8.0 / 1e9;
            let spread = Spread { median: bits(rate.median), min: bits(rate.min), max: bits(rate.max), ..rate };
            Some((
                format!(
                    "{}: {} of {} bytes on {} queue pairs, {} memory, Gbit/s",
                    measured.device, row.operation, row.size_bytes, row.queue_pairs, row.memory
                ),
                spread,
            ))
        })
    });
    rows.collect()
}

/// Median latencies by device and measurement.
fn latencies(run: &Preflight) -> BTreeMap<String, Spread> {
    let rows = run.measured.iter().flat_map(|measured| {
        measured.ping.iter().flat_map(|ping| &ping.results).filter_map(|row| {
            Some((format!("{}: {} of {} bytes, {} memory, us", measured.device, row.operation, row.size_bytes, row.memory), row.p50_us?))
        })
    });
    rows.collect()
}

/// Figures that differ by more than repeats of both runs do among themselves.
fn figures(was: &BTreeMap<String, Spread>, is: &BTreeMap<String, Spread>, more_is_better: bool, changes: &mut Vec<Change>) {
    for (name, was) in was {
        let Some(is) = is.get(name) else { continue };
        // What is too noisy to quote is too noisy to compare.
        if was.is_noisy || is.is_noisy {
            continue;
        }
        let (lower, upper) = if is.median < was.median { (is, was) } else { (was, is) };
        // Each range once more on both sides: three repeats do not show all that a figure does.
        if lower.max + (lower.max - lower.min) >= upper.min - (upper.max - upper.min) {
            continue;
        }
        let kind = if (is.median > was.median) == more_is_better { ChangeKind::Better } else { ChangeKind::Worse };
        let shown = |spread: &Spread| format!("{:.2} ({:.2} to {:.2})", spread.median, spread.min, spread.max);
        changes.push(Change { kind, what: name.clone(), was: Some(shown(was)), is: Some(shown(is)) });
    }
}
