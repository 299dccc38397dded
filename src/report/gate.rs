//! What several formats say of a gate's steps and changes.

use crate::checks::{Probe, Status};
use crate::preflight::{Change, ChangeKind, Preflight, Step};
use crate::units::counted;

/// What to do next, where something is to be done.
pub(super) fn next(document: &Preflight) -> impl Iterator<Item = &String> {
    document.probe.iter().filter(|_| document.verdict != Status::Pass).flat_map(|probe| &probe.next_commands)
}

/// How much is wrong, and the time.
pub(super) fn summary(document: &Preflight, probe: Option<&Probe>) -> String {
    let counts = probe.map(|probe| probe.counts).unwrap_or_default();
    let mut parts = vec![counted(counts.fail + counts.error, "failure"), counted(counts.warn, "warning")];
    let missing = document.steps.iter().filter(|step| step.is_missing).count() as u64;
    if missing > 0 {
        parts.push(format!("{} not run", counted(missing, "step")));
    }
    let seconds = |us: u64| std::time::Duration::from_micros(us).as_secs_f64();
    format!("{}; {:.1} s of {} s", parts.join(", "), seconds(document.elapsed_us), seconds(document.time_budget_us))
}

/// A step's name with what it is about.
pub(super) fn name(step: &Step) -> String {
    let subject = step.subject.as_ref().map(|subject| format!(" {subject}")).unwrap_or_default();
    format!("{}{subject}", step.step.name())
}

/// A change's word.
pub(super) fn kind(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::Worse => "worse",
        ChangeKind::Other => "other",
        ChangeKind::Better => "better",
    }
}

/// A change in one sentence.
pub(super) fn told(change: &Change) -> String {
    let what = &change.what;
    match (&change.was, &change.is) {
        (Some(was), Some(is)) => format!("{what}: was {was}, is {is}"),
        (Some(was), None) => format!("{what}: was {was}, is gone"),
        (None, Some(is)) => format!("{what}: new: {is}"),
        (None, None) => what.clone(),
    }
}
