//! `preflight` for people and for CI: the cause first, then what was done.

use std::fmt::Write as _;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::probe::{annotation, annotations, count, groups, headline, markdown_findings, suites, tree};
use super::{Format, Style, Table};
use crate::checks::{Category, Finding, Probe, Status, find};
use crate::preflight::{Change, ChangeKind, Preflight, Step};

/// Changes that are told without -v; the worst come first.
const SHOWN_CHANGES: usize = 12;

impl Table for Preflight {
    fn table(&self, style: &Style) -> String {
        let style = *style;
        let mut out = format!("{} {}: {}\n", style.bold("preflight"), verdict(&self.verdict, style), summary(self, self.probe.as_ref()));
        if let Some(why) = &self.stopped {
            out += &style.entry("stopped", why);
        }
        if let Some(probe) = &self.probe {
            let all = causes(probe);
            let (failures, warnings): (Vec<&Finding>, Vec<&Finding>) = all.into_iter().partition(|finding| finding.status != Status::Warn);
            if !failures.is_empty() || (style.verbose && !warnings.is_empty()) {
                out.push('\n');
            }
            for group in groups(&failures, style.verbose) {
                out += &tree(probe, &group, style, 0);
            }
            for group in groups(&warnings, style.verbose) {
                // A warning does not stop a deployment: one line, and all of it with -v.
                out += &if style.verbose { tree(probe, &group, style, 0) } else { warning(&group, style) };
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

    fn other(&self, format: Format) -> Option<String> {
        match format {
            Format::Junit => Some(junit(self)),
            Format::Github => Some(github(self)),
            Format::Markdown => Some(markdown(self)),
            Format::Table | Format::Json | Format::Prometheus | Format::Csv | Format::Html => None,
        }
    }
}

/// What to do next, where something is to be done.
fn next(document: &Preflight) -> impl Iterator<Item = &String> {
    document.probe.iter().filter(|_| document.verdict != "pass").flat_map(|probe| &probe.next_commands)
}

fn verdict(verdict: &str, style: Style) -> String {
    match verdict {
        "pass" => style.good(verdict),
        "warn" => style.warn(verdict),
        _ => style.bad(verdict),
    }
}

/// How much is wrong, and the time.
pub(super) fn summary(document: &Preflight, probe: Option<&Probe>) -> String {
    let counts = probe.map(|probe| probe.counts).unwrap_or_default();
    let mut parts = vec![count(counts.fail + counts.error, "failure"), count(counts.warn, "warning")];
    let missing = document.steps.iter().filter(|step| step.is_missing).count() as u64;
    if missing > 0 {
        parts.push(format!("{} not run", count(missing, "step")));
    }
    let seconds = |us: u64| std::time::Duration::from_micros(us).as_secs_f64();
    format!("{}; {:.1} s of {} s", parts.join(", "), seconds(document.elapsed_us), seconds(document.time_budget_us))
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

fn junit(document: &Preflight) -> String {
    let mut report = Report::new("rdmadoctor preflight");
    let mut suite = TestSuite::new("preflight");
    for step in &document.steps {
        let mut status = match step.status {
            Status::Pass | Status::Warn => TestCaseStatus::success(),
            Status::Skip => TestCaseStatus::skipped(),
            Status::Fail => TestCaseStatus::non_success(NonSuccessKind::Failure),
            Status::Error => TestCaseStatus::non_success(NonSuccessKind::Error),
        };
        if !matches!(step.status, Status::Pass | Status::Warn) {
            status.set_message(step.summary.clone());
        }
        let mut case = TestCase::new(name(step), status);
        case.set_classname("preflight");
        case.set_time(std::time::Duration::from_micros(step.elapsed_us));
        if matches!(step.status, Status::Pass | Status::Warn) {
            case.set_system_out(step.summary.clone());
        }
        suite.add_test_case(case);
    }
    report.add_test_suite(suite);
    report.add_test_suites(document.probe.iter().flat_map(suites));
    report.to_string().unwrap_or_default()
}

/// A step's name with what it is about.
fn name(step: &Step) -> String {
    let subject = step.subject.as_ref().map(|subject| format!(" {subject}")).unwrap_or_default();
    format!("{}{subject}", step.step.name())
}

/// Workflow commands: the causes first, because GitHub shows few of them. Of steps, those that no finding tells of.
fn github(document: &Preflight) -> String {
    let mut out = String::new();
    if let Some(probe) = &document.probe {
        let consequences = probe.findings.iter().filter(|finding| finding.because.is_some());
        out += &annotations(&causes(probe).into_iter().chain(consequences).collect::<Vec<_>>());
    }
    for step in document.steps.iter().filter(|step| step.is_missing) {
        out += &annotation("warning", &name(step), &step.summary);
    }
    for step in document.steps.iter().filter(|step| step.status == Status::Fail && !has_findings(step)) {
        out += &annotation("error", &name(step), &step.summary);
    }
    for change in document.comparison.iter().flat_map(|comparison| &comparison.changes).filter(|change| change.kind == ChangeKind::Worse) {
        out += &annotation("notice", "worse than the run before", &told(change));
    }
    let _ = writeln!(out, "rdmadoctor preflight: {} ({})", document.verdict, summary(document, document.probe.as_ref()));
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

fn markdown(document: &Preflight) -> String {
    let cell = |text: &str| text.replace('|', "\\|").replace('\n', " ");
    let mut out = format!(
        "# rdmadoctor preflight: {}\n\n{} on {}.\n",
        document.verdict,
        summary(document, document.probe.as_ref()),
        document.host_name
    );
    if let Some(why) = &document.stopped {
        let _ = writeln!(out, "\n{why}.");
    }
    if let Some(probe) = &document.probe {
        out += &markdown_findings(probe, &causes(probe));
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
            let _ =
                writeln!(out, "| {} | {} | {} | {} |", kind(change.kind), cell(&change.what), or_dash(&change.was), or_dash(&change.is));
        }
    }
    let next: Vec<String> = next(document).map(|command| format!("`{command}`")).collect();
    if !next.is_empty() {
        let _ = writeln!(out, "\nNext: {}", next.join(", "));
    }
    out
}
