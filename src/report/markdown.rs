//! Markdown, for issues and pull requests.

use std::fmt::Write as _;
use std::io;

use super::findings::{causes, of, summary};
use super::{Document, Kind, Renderer, View, gate};
use crate::checks::{Category, Finding, Probe};
use crate::preflight::Preflight;

pub(super) struct Markdown;

impl Renderer for Markdown {
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
        format!("{mark}\n\n{text}")
    }
}

/// What a cell of a table can hold.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn of_probe(probe: &Probe) -> String {
    let mut out = format!("# rdmadoctor probe: {}\n\n| category | findings |\n|---|---|\n", probe.verdict);
    for category in Category::ALL {
        let own: Vec<&Finding> = of(probe, category).collect();
        if !own.is_empty() {
            let _ = writeln!(out, "| {} | {} |", category.title(), summary(&own));
        }
    }
    out += &sections(probe, &probe.findings.iter().collect::<Vec<_>>());
    let _ = writeln!(out, "\nNext: {}", probe.next_commands.iter().map(|command| format!("`{command}`")).collect::<Vec<_>>().join(", "));
    out
}

fn of_gate(document: &Preflight) -> String {
    let mut out = format!(
        "# rdmadoctor preflight: {}\n\n{} on {}.\n",
        document.verdict,
        gate::summary(document, document.probe.as_ref()),
        document.host_name
    );
    if let Some(why) = &document.stopped {
        let _ = writeln!(out, "\n{why}.");
    }
    if let Some(probe) = &document.probe {
        out += &sections(probe, &causes(probe));
    }
    out += "\n## Steps\n\n| | step | of | took | what came of it |\n|---|---|---|---|---|\n";
    for step in &document.steps {
        let (word, which, summary) = (step.status.name(), step.step.name(), cell(&step.summary));
        let subject = step.subject.as_deref().unwrap_or_default();
        let _ = writeln!(out, "| {word} | {which} | {subject} | {:.1} s | {summary} |", step.elapsed_us as f64 / 1e6);
    }
    if let Some(comparison) = document.comparison.as_ref().filter(|comparison| !comparison.changes.is_empty()) {
        let since = comparison.created.as_deref().unwrap_or_default();
        let _ = writeln!(out, "\n## Changed since {since}\n\n| | what | was | is |\n|---|---|---|---|");
        for change in &comparison.changes {
            let or_dash = |text: &Option<String>| text.as_deref().map_or_else(|| "-".to_owned(), cell);
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} |",
                gate::kind(change.kind),
                cell(&change.what),
                or_dash(&change.was),
                or_dash(&change.is)
            );
        }
    }
    let next: Vec<String> = gate::next(document).map(|command| format!("`{command}`")).collect();
    if !next.is_empty() {
        let _ = writeln!(out, "\nNext: {}", next.join(", "));
    }
    out
}

/// A section for each finding that is not well and follows from no other.
fn sections(probe: &Probe, findings: &[&Finding]) -> String {
    let mut out = String::new();
    for finding in findings.iter().filter(|finding| finding.status.is_bad() && finding.is_root()) {
        let _ = writeln!(out, "\n## {} {} `{}`: {}\n", finding.status.name(), finding.id, finding.subject, finding.title);
        if !finding.evidence.is_empty() {
            out += "| source | value | expected |\n|---|---|---|\n";
            for evidence in &finding.evidence {
                let expected = evidence.expected.as_deref().unwrap_or_default();
                let _ = writeln!(out, "| {} | {} | {} |", cell(&evidence.source), cell(&evidence.value), cell(expected));
            }
        }
        if !finding.remedy.summary.is_empty() {
            let _ = writeln!(out, "\nRemedy: {}.", finding.remedy.summary);
        }
        if !finding.remedy.commands.is_empty() {
            let _ = writeln!(out, "\n```sh\n{}\n```", finding.remedy.commands.join("\n"));
        }
        let key = finding.key();
        for other in probe.findings.iter().filter(|other| other.because.as_ref() == Some(&key) && other.status.is_bad()) {
            let _ = writeln!(out, "\n* {} `{}`: {}", other.id, other.subject, other.title);
        }
    }
    out
}
