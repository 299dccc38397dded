//! Workflow commands of GitHub Actions, which annotate a run.

use std::fmt::Write as _;
use std::io;

use super::findings::{causes, description};
use super::{Document, Kind, Renderer, View, gate};
use crate::checks::{Finding, Probe, Status};
use crate::preflight::{ChangeKind, Preflight, Step};

pub(super) struct Github;

impl Renderer for Github {
    fn documents(&self) -> &'static [Kind] {
        &[Kind::Probe, Kind::Preflight]
    }

    fn draw(&self, document: Document<'_>, _: &View<'_>) -> io::Result<Option<String>> {
        Ok(match document {
            Document::Probe(probe) => Some(of_probe(probe)),
            Document::Preflight(document) => Some(of_gate(document)),
            _ => None,
        })
    }

    fn marked(&self, text: String, mark: &str) -> String {
        format!("::notice::{}\n{text}", data(mark))
    }
}

fn of_probe(probe: &Probe) -> String {
    annotations(&probe.findings.iter().collect::<Vec<_>>()) + &format!("rdmadoctor probe: {}\n", probe.verdict)
}

/// Workflow commands: the causes first, because GitHub shows few of them. Of steps, those that no finding tells of.
fn of_gate(document: &Preflight) -> String {
    let mut out = String::new();
    if let Some(probe) = &document.probe {
        let consequences = probe.findings.iter().filter(|finding| finding.because.is_some());
        out += &annotations(&causes(probe).into_iter().chain(consequences).collect::<Vec<_>>());
    }
    for step in document.steps.iter().filter(|step| step.is_missing) {
        out += &annotation("warning", &gate::name(step), &step.summary);
    }
    for step in document.steps.iter().filter(|step| matches!(step.status, Status::Fail | Status::Error) && !has_findings(step)) {
        out += &annotation("error", &gate::name(step), &step.summary);
    }
    for change in document.comparison.iter().flat_map(|comparison| &comparison.changes).filter(|change| change.kind == ChangeKind::Worse) {
        out += &annotation("notice", "worse than the run before", &gate::told(change));
    }
    let _ = writeln!(out, "rdmadoctor preflight: {} ({})", document.verdict, gate::summary(document, document.probe.as_ref()));
    out
}

/// Whether checks judge what a step does, so that its failure is a finding too.
fn has_findings(step: &Step) -> bool {
    use crate::preflight::StepName::{Baseline, Bw, Ping, Probe, Profile, QpMatrix};
    match step.step {
        Probe | QpMatrix | Ping | Bw => true,
        Profile | Baseline => false,
    }
}

/// A command for each finding that is not well.
fn annotations(findings: &[&Finding]) -> String {
    let mut out = String::new();
    for finding in findings.iter().filter(|finding| finding.status.is_bad() && finding.suppressed.is_none()) {
        let kind = match (finding.status, &finding.because) {
            (_, Some(_)) => "notice",
            (Status::Warn, None) => "warning",
            _ => "error",
        };
        let title = format!("{} {}", finding.id, finding.subject);
        out += &annotation(kind, &title, description(finding).trim_end());
    }
    out
}

/// A workflow command of GitHub Actions.
/// What a command says, in one line.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn annotation(kind: &str, title: &str, text: &str) -> String {
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    format!("::{kind} title={}::{}\n", property(title), data(text))
}
