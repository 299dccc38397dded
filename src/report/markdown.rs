//! Markdown, for issues and pull requests.

use std::fmt::Write as _;
use std::io;

use super::findings::{Consequences, causes, of, summary};
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
        format!("{}\n\n{text}", plain(mark))
    }
}

/// What a cell of a table can hold.
/// Text that stands for itself: what Markdown or HTML would make something of is escaped.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        match letter {
            '<' => out += "&lt;",
            '&' => out += "&amp;",
            '\n' => out.push(' '),
            '\\' | '`' | '*' | '[' | ']' | '~' | '|' => out.extend(['\\', letter]),
            _ => out.push(letter),
        }
    }
    out
}

/// The longest row of backticks in a text.
fn backticks(text: &str) -> usize {
    text.split(|letter| letter != '`').map(str::len).max().unwrap_or(0)
}

/// Code in a line, between more backticks than it holds (CommonMark, section 6.1).
fn code(text: &str) -> String {
    let fence = "`".repeat(backticks(text) + 1);
    let space = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{fence}{space}{}{space}{fence}", text.replace('\n', " "))
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
    let _ = writeln!(out, "\nNext: {}", probe.next_commands.iter().map(|command| code(command)).collect::<Vec<_>>().join(", "));
    out
}

fn of_gate(document: &Preflight) -> String {
    let mut out = format!(
        "# rdmadoctor preflight: {}\n\n{} on {}.\n",
        document.verdict,
        gate::summary(document, document.probe.as_ref()),
        plain(&document.host_name)
    );
    if let Some(why) = &document.stopped {
        let _ = writeln!(out, "\n{}.", plain(why));
    }
    if let Some(probe) = &document.probe {
        out += &sections(probe, &causes(probe));
    }
    out += "\n## Steps\n\n| | step | of | took | what came of it |\n|---|---|---|---|---|\n";
    for step in &document.steps {
        let (word, which, summary) = (step.status.name(), step.step.name(), plain(&step.summary));
        let subject = plain(step.subject.as_deref().unwrap_or_default());
        let _ = writeln!(out, "| {word} | {which} | {subject} | {:.1} s | {summary} |", step.elapsed_us as f64 / 1e6);
    }
    if let Some(comparison) = document.comparison.as_ref().filter(|comparison| !comparison.changes.is_empty()) {
        let since = plain(comparison.created.as_deref().unwrap_or_default());
        let _ = writeln!(out, "\n## Changed since {since}\n\n| | what | was | is |\n|---|---|---|---|");
        for change in &comparison.changes {
            let or_dash = |text: &Option<String>| text.as_deref().map_or_else(|| "-".to_owned(), plain);
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} |",
                gate::kind(change.kind),
                plain(&change.what),
                or_dash(&change.was),
                or_dash(&change.is)
            );
        }
    }
    let next: Vec<String> = gate::next(document).map(|command| code(command)).collect();
    if !next.is_empty() {
        let _ = writeln!(out, "\nNext: {}", next.join(", "));
    }
    out
}

/// A section for each finding that is not well and follows from no other.
fn sections(probe: &Probe, findings: &[&Finding]) -> String {
    let mut out = String::new();
    let consequences = Consequences::of(probe);
    for finding in findings.iter().filter(|finding| finding.status.is_bad() && finding.is_root()) {
        let _ = writeln!(out, "\n## {} {} {}: {}\n", finding.status.name(), finding.id, code(&finding.subject), plain(&finding.title));
        if !finding.evidence.is_empty() {
            out += "| source | value | expected |\n|---|---|---|\n";
            for evidence in &finding.evidence {
                let expected = evidence.expected.as_deref().unwrap_or_default();
                let _ = writeln!(out, "| {} | {} | {} |", plain(&evidence.source), plain(&evidence.value), plain(expected));
            }
        }
        if !finding.remedy.summary.is_empty() {
            let _ = writeln!(out, "\nRemedy: {}.", plain(&finding.remedy.summary));
        }
        if !finding.remedy.commands.is_empty() {
            let commands = finding.remedy.commands.join("\n");
            let fence = "`".repeat(backticks(&commands).max(2) + 1);
            let _ = writeln!(out, "\n{fence}sh\n{commands}\n{fence}");
        }
        for other in consequences.following(&[finding]) {
            let _ = writeln!(out, "\n* {} {}: {}", other.id, code(&other.subject), plain(&other.title));
        }
    }
    out
}
