//! Findings: by category, the worst first, consequences below their cause, evidence on demand.

use std::collections::HashSet;

use maud::{Markup, html};
use rdmadoctor_types::Word;

use super::super::findings::{Consequences, groups, of, others, summary, worst};
use super::{badge, commands};
use crate::checks::{Category, Finding, Probe, Status};
use crate::units::counted;

/// Boxes that say which findings are shown; the script obeys them, and without it all are shown.
pub(super) fn filter() -> Markup {
    let kinds = [("fail", true), ("warn", true), ("error", true), ("pass", false), ("skip", false)];
    html! {
        fieldset {
            legend { "Findings to show" }
            @for (kind, is_shown) in kinds {
                label { input type="checkbox" data-shows=(kind) checked[is_shown]; " " (kind) }
            }
        }
    }
}

pub(super) fn draw(probe: &Probe) -> Markup {
    let counts = probe.counts;
    let mut parts = vec![counted(counts.fail + counts.error, "failure"), counted(counts.warn, "warning")];
    if counts.consequences > 0 {
        parts.push(format!("{} that follow", counted(counts.consequences, "consequence")));
    }
    parts.push(format!("{} passed", counts.pass));
    parts.push(format!("{} skipped", counts.skip));
    let mut categories: Vec<(Category, Vec<&Finding>)> =
        Category::ALL.into_iter().map(|category| (category, of(probe, category).collect())).collect();
    categories.retain(|(_, findings)| !findings.is_empty());
    categories.sort_by_key(|(_, findings)| rank(worst(findings)));
    let keys = probe.findings.iter().filter(|finding| finding.status.is_bad()).map(Finding::key).collect();
    let mut tree = Tree { consequences: Consequences::of(probe), keys, drawn: HashSet::new() };
    let drawn: Vec<Markup> = categories.iter().map(|(category, findings)| tree.category(*category, findings)).collect();
    html! {
        p.verdict { (badge(verdict_class(&probe.verdict), probe.verdict.as_str())) " " (parts.join(", ")) span.muted { "; level " (probe.level.name()) } }
        @if let Some(why) = &probe.stopped { p.note { (why) } }
        @if !probe.next_commands.is_empty() { p { "What to do next:" } (commands(&probe.next_commands)) }
        @for category in drawn { (category) }
        @if !probe.suppressions.is_empty() {
            h3 { "Suppressed by the policy" }
            div.scroll tabindex="0" { table {
                thead { tr { th { "check" } th { "subject" } th { "until" } th { "reason" } th { "state" } } }
                tbody { @for rule in &probe.suppressions {
                    tr { td { (rule.check) } td { (rule.subject.as_deref().unwrap_or("all")) } td { (rule.until) } td { (rule.reason) } td { (state(rule.state)) } }
                } }
            } }
        }
    }
}

fn state(state: crate::checks::SuppressionState) -> &'static str {
    use crate::checks::SuppressionState::{Applied, Expired, Unused};
    match state {
        Applied => "applied",
        Unused => "nothing to suppress",
        Expired => "expired: no longer applies",
    }
}

/// The class of a verdict; a word that is none is not made one.
pub(super) fn verdict_class(verdict: &Word<Status>) -> &'static str {
    verdict.known().map_or("none", Status::name)
}

fn rank(status: Status) -> u8 {
    match status {
        Status::Fail | Status::Error => 0,
        Status::Warn => 1,
        Status::Pass => 2,
        Status::Skip => 3,
    }
}

/// Draws each finding once, whatever links a saved document claims.
struct Tree<'a> {
    consequences: Consequences<'a>,
    /// Of what is not well.
    keys: HashSet<String>,
    drawn: HashSet<*const Finding>,
}

impl<'a> Tree<'a> {
    fn category(&mut self, category: Category, findings: &[&'a Finding]) -> Markup {
        let is_elsewhere = |finding: &Finding| {
            let because = finding.because.as_ref().filter(|_| finding.status.is_bad());
            because.is_some_and(|because| self.keys.contains(because))
        };
        let mut told: Vec<&Finding> = findings.iter().copied().filter(|finding| !is_elsewhere(finding)).collect();
        told.sort_by_key(|finding| rank(finding.status));
        let trees: Vec<Markup> = groups(&told, false).iter().map(|group| self.group(group, 0)).collect();
        html! {
            @if !trees.is_empty() {
                div data-group {
                    h3 { (category.title()) " " span.muted { (summary(findings)) } }
                    @for tree in trees { (tree) }
                }
            }
        }
    }

    fn group(&mut self, group: &[&'a Finding], depth: usize) -> Markup {
        let group: Vec<&Finding> = group.iter().copied().filter(|finding| self.drawn.insert(std::ptr::from_ref(*finding))).collect();
        let Some(finding) = group.first() else { return html! {} };
        // A chain of real dependencies is far shorter.
        let deepest = 16;
        let consequences = if depth < deepest { self.consequences.following(&group) } else { Vec::new() };
        let below: Vec<Markup> = groups(&consequences, false).iter().map(|group| self.group(group, depth + 1)).collect();
        html! {
            article class=(finding.status.name()) data-status=(finding.status.name()) {
                h4 { (badge(finding.status.name(), finding.status.name())) " " span.muted { (finding.id) } " " strong { (finding.subject) } ": " (finding.title) }
                @if let Some(others) = others(&group) { p.muted { "also on " (others) } }
                @if let Some(why) = &finding.suppressed { p.muted { "suppressed: " (why) } }
                @if !finding.remedy.summary.is_empty() {
                    div.remedy { p { strong { "Remedy: " } (finding.remedy.summary) } (commands(&finding.remedy.commands)) }
                }
                @if !finding.evidence.is_empty() { (evidence(finding)) }
                @for tree in below { (tree) }
            }
        }
    }
}

fn evidence(finding: &Finding) -> Markup {
    let has_expected = finding.evidence.iter().any(|evidence| evidence.expected.is_some());
    html! {
        details {
            summary { "Evidence" }
            div.scroll tabindex="0" { table {
                thead { tr { th { "source" } th { "what it said" } @if has_expected { th { "expected" } } } }
                tbody { @for evidence in &finding.evidence {
                    tr {
                        td.mono { (evidence.source) } td.mono { (evidence.value) }
                        @if has_expected { td.mono { (evidence.expected.as_deref().unwrap_or_default()) } }
                    }
                } }
            } }
        }
    }
}
