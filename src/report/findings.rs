//! What several formats say of findings.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;

use crate::checks::{Category, Finding, Probe, Status, find};

/// Those of a category.
pub(super) fn of(probe: &Probe, category: Category) -> impl Iterator<Item = &Finding> {
    probe.findings.iter().filter(move |finding| finding.id.get(3..5).and_then(|digits| digits.parse().ok()) == Some(category.number()))
}

/// The worst of what counts.
pub(super) fn worst(findings: &[&Finding]) -> Status {
    let has = |status| findings.iter().any(|finding| finding.status == status && finding.suppressed.is_none());
    [Status::Error, Status::Fail, Status::Warn, Status::Pass].into_iter().find(|status| has(*status)).unwrap_or(Status::Skip)
}

/// How many there are of each status.
pub(super) fn summary(findings: &[&Finding]) -> String {
    let number = |status| findings.iter().filter(|finding| finding.status == status && finding.suppressed.is_none()).count();
    let shown = [
        (Status::Fail, "failed"),
        (Status::Error, "broken"),
        (Status::Warn, "to look at"),
        (Status::Pass, "passed"),
        (Status::Skip, "skipped"),
    ];
    let parts: Vec<String> = shown
        .into_iter()
        .map(|(status, word)| (number(status), word))
        .filter(|(number, _)| *number > 0)
        .map(|(number, word)| format!("{number} {word}"))
        .collect();
    parts.join(", ")
}

/// Findings that differ in nothing but their subjects and what they read there, told once; with `each` every one by itself.
pub(super) fn groups<'a>(findings: &[&'a Finding], each: bool) -> Vec<Vec<&'a Finding>> {
    let shape = |finding: &Finding| {
        let device = finding.subject.split('/').next().unwrap_or_default().to_owned();
        (finding.id.clone(), finding.status, finding.title.replace(&device, "…"), finding.remedy.summary.replace(&device, "…"))
    };
    let mut groups: Vec<Vec<&Finding>> = Vec::new();
    let mut places = HashMap::new();
    for finding in findings {
        let place = if each { groups.len() } else { *places.entry(shape(finding)).or_insert(groups.len()) };
        match groups.get_mut(place) {
            Some(group) => group.push(finding),
            None => groups.push(vec![finding]),
        }
    }
    groups
}

/// What is not well and follows from another finding, by the key of that.
pub(super) struct Consequences<'a>(HashMap<&'a str, Vec<(usize, &'a Finding)>>);

impl<'a> Consequences<'a> {
    pub(super) fn of(probe: &'a Probe) -> Self {
        let mut all: HashMap<&str, Vec<(usize, &Finding)>> = HashMap::new();
        for (index, finding) in probe.findings.iter().enumerate().filter(|(_, finding)| finding.status.is_bad()) {
            if let Some(because) = &finding.because {
                all.entry(because).or_default().push((index, finding));
            }
        }
        Self(all)
    }

    /// Those that follow from one of a group, in the order of the document.
    pub(super) fn following(&self, group: &[&Finding]) -> Vec<&'a Finding> {
        let keys: BTreeSet<String> = group.iter().map(|finding| finding.key()).collect();
        let mut found: Vec<&(usize, &Finding)> = keys.iter().filter_map(|key| self.0.get(key.as_str())).flatten().collect();
        found.sort_by_key(|(index, _)| *index);
        found.into_iter().map(|(_, finding)| *finding).collect()
    }
}

/// Most other subjects of a group that are named in a line.
const MOST_NAMED: usize = 32;

/// The subjects of a group but for its first, where there are some: of very many the first ones, and how many more there are.
pub(super) fn others(group: &[&Finding]) -> Option<String> {
    let names: Vec<&str> = group.iter().skip(1).map(|finding| finding.subject.as_str()).collect();
    let (shown, left) = names.split_at(names.len().min(MOST_NAMED));
    let more = if left.is_empty() { String::new() } else { format!(" and {} more", left.len()) };
    (!names.is_empty()).then(|| shown.join(", ") + &more)
}

/// What stands by itself, the likeliest cause of an engine's failure first: what a queue pair was refused for says most.
pub(super) fn causes(probe: &Probe) -> Vec<&Finding> {
    let mut causes: Vec<&Finding> = probe.findings.iter().filter(|finding| finding.status.is_bad() && finding.is_root()).collect();
    let is_about = |finding: &Finding, category| find(&finding.id).is_ok_and(|check| check.page.category == category);
    causes.sort_by_key(|finding| {
        let rank = match () {
            () if is_about(finding, Category::QueuePairs) => 0,
            () if is_about(finding, Category::Measured) => 1,
            () => 2,
        };
        (finding.status == Status::Warn, rank)
    });
    causes
}

/// What is wrong, with evidence and remedy, as plain lines.
pub(super) fn description(finding: &Finding) -> String {
    let mut out = finding.title.clone() + "\n";
    for evidence in &finding.evidence {
        let expected = evidence.expected.as_ref().map(|expected| format!(" (expected: {expected})")).unwrap_or_default();
        let _ = writeln!(out, "{}: {}{expected}", evidence.source, evidence.value);
    }
    if let Some(because) = &finding.because {
        let _ = writeln!(out, "follows from {because}");
    }
    if !finding.remedy.summary.is_empty() {
        let _ = writeln!(out, "remedy: {}", finding.remedy.summary);
    }
    for command in &finding.remedy.commands {
        let _ = writeln!(out, "  {command}");
    }
    out
}
