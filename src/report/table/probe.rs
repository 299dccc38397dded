//! `probe` for people and for programs that have formats of their own.

use std::time::Duration;

use super::preflight::verdict;
use super::style::wrap;
use super::{Style, Table};
use crate::checks::{Category, Finding, Probe, Status, SuppressionState};
use crate::report::findings::{Consequences, groups, of, others, summary, worst};
use crate::units::counted;

impl Table for Probe {
    fn table(&self, style: &Style) -> String {
        let style = *style;
        let mut out = String::new();
        let consequences = Consequences::of(self);
        for category in Category::ALL {
            let own: Vec<&Finding> = of(self, category).collect();
            if own.is_empty() {
                continue;
            }
            out += &format!("{} {}  {}\n", mark(worst(&own), style), style.bold(category.title()), style.dim(summary(&own)));
            let told: Vec<&Finding> = own.into_iter().filter(|finding| is_told(finding, style)).collect();
            for group in groups(&told, style.verbose) {
                out += &tree(&consequences, &group, style, 0);
            }
        }
        for suppression in &self.suppressions {
            let subject = suppression.subject.as_ref().map(|subject| format!(" on {subject}")).unwrap_or_default();
            let (check, reason, until) = (&suppression.check, &suppression.reason, &suppression.until);
            out += &match suppression.state {
                SuppressionState::Applied => style.entry("suppressed", &format!("{check}{subject} until {until}: {reason}")),
                SuppressionState::Unused => style.entry("unused", &format!("the suppression of {check}{subject} had nothing to suppress")),
                SuppressionState::Expired => {
                    style.entry("expired", &format!("the suppression of {check}{subject} ended on {until} and no longer applies: {reason}"))
                }
            };
        }
        let counts = self.counts;
        let verdict = verdict(&self.verdict, &style);
        let mut parts = vec![counted(counts.fail + counts.error, "failure"), counted(counts.warn, "warning")];
        if counts.consequences > 0 {
            parts.push(counted(counts.consequences, "consequence"));
        }
        parts.push(format!("{} passed", counts.pass));
        parts.push(format!("{} skipped", counts.skip));
        out += &format!("\n{} {verdict}: {}\n", style.bold("verdict"), parts.join(", "));
        let (elapsed, budget) = (Duration::from_micros(self.elapsed_us).as_secs_f64(), Duration::from_micros(self.budget_us).as_secs());
        out += &style.dim(format!("level {}, {elapsed:.1} s of {budget} s\n", self.level.name()));
        if let Some(why) = &self.stopped {
            out += &style.entry("stopped", why);
        }
        for command in &self.next_commands {
            out += &style.entry("next", command);
        }
        out
    }
}

pub(super) fn mark(status: Status, style: Style) -> String {
    match status {
        Status::Pass => style.good("ok  "),
        Status::Warn => style.warn("warn"),
        Status::Fail => style.bad("FAIL"),
        Status::Error => style.bad("ERR "),
        Status::Skip => style.dim("skip"),
    }
}

/// What is drawn by itself: with -v everything, else what is bad and no consequence of another finding.
fn is_told(finding: &Finding, style: Style) -> bool {
    let is_drawn_elsewhere = finding.because.is_some() && finding.status.is_bad();
    !is_drawn_elsewhere && (style.verbose || (finding.status.is_bad() && finding.suppressed.is_none()))
}

/// Status, check and subject, and the title that goes on below itself.
pub(super) fn headline(finding: &Finding, style: Style) -> String {
    const BEFORE: usize = "FAIL RD-0000 ".len();
    let lines = wrap(&format!("{}: {}", finding.subject, finding.title), style.width.saturating_sub(BEFORE).max(30));
    let mut out = format!("{} {} ", mark(finding.status, style), style.dim(&finding.id));
    for (index, line) in lines.iter().enumerate() {
        // Painted after it is broken, so that colour codes do not count as columns.
        out += &match line.strip_prefix(&finding.subject).filter(|_| index == 0) {
            Some(rest) => format!("{}{rest}\n", style.bold(&finding.subject)),
            None if index == 0 => format!("{line}\n"),
            None => format!("{}{line}\n", " ".repeat(BEFORE)),
        };
    }
    out
}

/// Pieces of evidence that a finding is drawn with; the first ones tell most, and -v shows all.
const SHOWN_EVIDENCE: usize = 4;

/// Findings of one shape with what follows from them below. Evidence and remedy are those of the first.
pub(super) fn tree(consequences: &Consequences<'_>, group: &[&Finding], style: Style, depth: usize) -> String {
    let Some(finding) = group.first() else { return String::new() };
    let indent = "  ".repeat(depth + 1);
    let narrow = Style { width: style.width.saturating_sub(indent.len()), ..style };
    let mut text = headline(finding, narrow);
    if let Some(others) = others(group) {
        text += &narrow.entry("also on", &others);
    }
    // Of a consequence the cause is the remedy.
    if depth == 0 || style.verbose {
        let shown = if style.verbose { usize::MAX } else { SHOWN_EVIDENCE };
        for evidence in finding.evidence.iter().take(shown) {
            let expected = evidence.expected.as_ref().map(|expected| format!(" (expected: {expected})")).unwrap_or_default();
            text += &narrow.entry("evidence", &format!("{}: {}{expected}", evidence.source, evidence.value));
        }
        if finding.evidence.len() > shown {
            text += &narrow.entry("", &format!("{} more with -v", finding.evidence.len() - shown));
        }
        if !finding.remedy.summary.is_empty() {
            text += &narrow.entry("remedy", &finding.remedy.summary);
        }
        for command in &finding.remedy.commands {
            text += &narrow.entry("", command);
        }
    }
    if let Some(why) = &finding.suppressed {
        text += &narrow.entry("suppressed", why);
    }
    let mut out: String = text.lines().map(|line| format!("{indent}{line}\n")).collect();
    // Links have no cycles and are no longer than the chain of dependencies.
    const DEEPEST: usize = 16;
    if depth < DEEPEST {
        for group in groups(&consequences.following(group), style.verbose) {
            out += &tree(consequences, &group, style, depth + 1);
        }
    }
    out
}
