//! `preflight` for people: the cause first, then what was done.

use rdmadoctor_types::Word;

use super::probe::{headline, tree};
use super::{Style, Table};
use crate::checks::{Finding, Status};
use crate::preflight::{ChangeKind, Preflight, Step};
use crate::report::findings::{Consequences, causes, groups};
use crate::report::gate::{kind, next, summary, told};

/// Changes that are told without -v; the worst come first.
const SHOWN_CHANGES: usize = 12;

impl Table for Preflight {
    fn table(&self, style: &Style) -> String {
        let style = *style;
        let mut out = format!("{} {}: {}\n", style.bold("preflight"), verdict(&self.verdict, &style), summary(self, self.probe.as_ref()));
        if let Some(why) = &self.stopped {
            out += &style.entry("stopped", why);
        }
        if let Some(probe) = &self.probe {
            let consequences = Consequences::of(probe);
            let all = causes(probe);
            let (failures, warnings): (Vec<&Finding>, Vec<&Finding>) = all.into_iter().partition(|finding| finding.status != Status::Warn);
            if !failures.is_empty() || (style.verbose && !warnings.is_empty()) {
                out.push('\n');
            }
            for group in groups(&failures, style.verbose) {
                out += &tree(&consequences, &group, style, 0);
            }
            for group in groups(&warnings, style.verbose) {
                // A warning does not stop a deployment: one line, and all of it with -v.
                out += &if style.verbose { tree(&consequences, &group, style, 0) } else { warning(&group, style) };
            }
        }
        out.push('\n');
        out += &steps(&self.steps, style);
        out += &changes(self, style);
        for command in next(self) {
            out += &style.entry("next", command);
        }
        out
    }
}

pub(super) fn verdict(verdict: &Word<Status>, style: &Style) -> String {
    match verdict.known() {
        Some(Status::Pass) => style.good(verdict),
        Some(Status::Warn) => style.warn(verdict),
        _ => style.bad(verdict),
    }
}

fn warning(group: &[&Finding], style: Style) -> String {
    let Some(finding) = group.first() else { return String::new() };
    let narrow = Style { width: style.width.saturating_sub(2), ..style };
    let mut text = headline(finding, narrow);
    if group.len() > 1 {
        let others: Vec<&str> = group.iter().skip(1).map(|finding| finding.subject.as_str()).collect();
        text += &narrow.entry("also on", &others.join(", "));
    }
    text.lines().map(|line| format!("  {line}\n")).collect()
}

/// A table of steps. Steps that were not run for one reason are told once.
fn steps(steps: &[Step], style: Style) -> String {
    let mut groups: Vec<(&Step, usize)> = Vec::new();
    for step in steps {
        let is_alike = |known: &Step| step.status == Status::Skip && (known.step, &known.summary) == (step.step, &step.summary);
        match groups.iter_mut().find(|(known, _)| is_alike(known)) {
            Some((_, others)) => *others += 1,
            None => groups.push((step, 0)),
        }
    }
    let row = |(step, others): &(&Step, usize)| {
        let time = if step.elapsed_us > 0 { format!("{:.1} s", step.elapsed_us as f64 / 1e6) } else { String::new() };
        let more = if *others > 0 { format!(" and {others} more") } else { String::new() };
        let subject = step.subject.clone().unwrap_or_default() + &more;
        vec![step.status.name().to_owned(), step.step.name().to_owned(), subject, time, step.summary.clone()]
    };
    let rows: Vec<Vec<String>> = groups.iter().map(row).collect();
    let table = style.columns(&["", "step", "of", "took", "what came of it"], &rows);
    // Painted after it is laid out, so that colour codes do not count as columns.
    let painted = |line: &str| {
        let word = line.trim_start().split(' ').next().unwrap_or_default();
        let color = match word {
            "pass" if line.starts_with("  pass") => style.good(word),
            "warn" if line.starts_with("  warn") => style.warn(word),
            "fail" | "error" if line.starts_with("  fail") || line.starts_with("  error") => style.bad(word),
            _ => return format!("{line}\n"),
        };
        format!("{}\n", line.replacen(word, &color, 1))
    };
    table.lines().map(painted).collect()
}

fn changes(document: &Preflight, style: Style) -> String {
    let Some(comparison) = document.comparison.as_ref().filter(|comparison| !comparison.changes.is_empty()) else { return String::new() };
    let since = comparison.created.as_deref().unwrap_or_default();
    let mut out = format!("\n{} since {since}, {}\n", style.bold("changed"), comparison.file);
    let shown = if style.verbose { usize::MAX } else { SHOWN_CHANGES };
    for change in comparison.changes.iter().take(shown) {
        let (name, text) = (kind(change.kind), told(change));
        let text = match change.kind {
            ChangeKind::Worse => style.warn(text),
            ChangeKind::Better => style.good(text),
            ChangeKind::Other => text,
        };
        out += &style.entry(name, &text);
    }
    if comparison.changes.len() > shown {
        out += &style.entry("", &format!("{} more with -v", comparison.changes.len() - shown));
    }
    out
}
