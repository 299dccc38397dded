//! `probe` for people and for programs that have formats of their own.

use std::fmt::Write as _;
use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::text::wrap;
use super::{Format, Style, Table};
use crate::checks::{Category, Finding, Probe, Status, SuppressionState};

impl Table for Probe {
    fn table(&self, style: &Style) -> String {
        let style = *style;
        let mut out = String::new();
        for category in Category::ALL {
            let own: Vec<&Finding> = of(self, category).collect();
            if own.is_empty() {
                continue;
            }
            out += &format!("{} {}  {}\n", mark(worst(&own), style), style.bold(category.title()), style.dim(summary(&own)));
            let told: Vec<&Finding> = own.into_iter().filter(|finding| is_told(finding, style)).collect();
            for group in groups(&told, style.verbose) {
                out += &tree(self, &group, style, 0);
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
        let verdict = match self.verdict.as_str() {
            "pass" => style.good("pass"),
            "warn" => style.warn("warn"),
            verdict => style.bad(verdict),
        };
        let mut parts = vec![count(counts.fail + counts.error, "failure"), count(counts.warn, "warning")];
        if counts.consequences > 0 {
            parts.push(count(counts.consequences, "consequence"));
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

    fn other(&self, format: Format) -> Option<String> {
        match format {
            Format::Junit => Some(junit(self)),
            Format::Github => Some(github(self)),
            Format::Prometheus => Some(prometheus(self)),
            Format::Markdown => Some(markdown(self)),
            Format::Table | Format::Json | Format::Csv | Format::Html => None,
        }
    }
}

pub(super) fn of(probe: &Probe, category: Category) -> impl Iterator<Item = &Finding> {
    probe.findings.iter().filter(move |finding| finding.id.get(3..5).and_then(|digits| digits.parse().ok()) == Some(category.number()))
}

pub(super) fn count(number: u64, name: &str) -> String {
    format!("{number} {name}{}", if number == 1 { "" } else { "s" })
}

/// The worst of what counts.
pub(super) fn worst(findings: &[&Finding]) -> Status {
    let has = |status| findings.iter().any(|finding| finding.status == status && finding.suppressed.is_none());
    [Status::Error, Status::Fail, Status::Warn, Status::Pass].into_iter().find(|status| has(*status)).unwrap_or(Status::Skip)
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

/// What is drawn by itself: with -v everything, else what is bad and no consequence of another finding.
fn is_told(finding: &Finding, style: Style) -> bool {
    let is_drawn_elsewhere = finding.because.is_some() && finding.status.is_bad();
    !is_drawn_elsewhere && (style.verbose || (finding.status.is_bad() && finding.suppressed.is_none()))
}

/// Findings that differ in nothing but their subjects and what they read there, told once; with `each` every one by itself.
pub(super) fn groups<'a>(findings: &[&'a Finding], each: bool) -> Vec<Vec<&'a Finding>> {
    let shape = |finding: &Finding| {
        let device = finding.subject.split('/').next().unwrap_or_default().to_owned();
        (finding.id.clone(), finding.status, finding.title.replace(&device, "…"), finding.remedy.summary.replace(&device, "…"))
    };
    let mut groups: Vec<Vec<&Finding>> = Vec::new();
    for finding in findings {
        match groups.iter_mut().find(|group| !each && group.first().is_some_and(|first| shape(first) == shape(finding))) {
            Some(group) => group.push(finding),
            None => groups.push(vec![finding]),
        }
    }
    groups
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
pub(super) fn tree(probe: &Probe, group: &[&Finding], style: Style, depth: usize) -> String {
    let Some(finding) = group.first() else { return String::new() };
    let indent = "  ".repeat(depth + 1);
    let narrow = Style { width: style.width.saturating_sub(indent.len()), ..style };
    let mut text = headline(finding, narrow);
    if group.len() > 1 {
        let others: Vec<&str> = group.iter().skip(1).map(|finding| finding.subject.as_str()).collect();
        text += &narrow.entry("also on", &others.join(", "));
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
    let keys: Vec<String> = group.iter().map(|finding| finding.key()).collect();
    let follows = |other: &&Finding| other.status.is_bad() && other.because.as_ref().is_some_and(|because| keys.contains(because));
    let consequences: Vec<&Finding> = probe.findings.iter().filter(follows).collect();
    // Links have no cycles and are no longer than the chain of dependencies.
    const DEEPEST: usize = 16;
    if depth < DEEPEST {
        for group in groups(&consequences, style.verbose) {
            out += &tree(probe, &group, style, depth + 1);
        }
    }
    out
}

/// What is wrong, with evidence and remedy, as plain lines.
fn description(finding: &Finding) -> String {
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

fn junit(probe: &Probe) -> String {
    let mut report = Report::new("rdmadoctor probe");
    report.add_test_suites(suites(probe));
    report.to_string().unwrap_or_default()
}

/// A suite for each category.
pub(super) fn suites(probe: &Probe) -> Vec<TestSuite> {
    let mut suites = Vec::new();
    for category in Category::ALL {
        let mut suite = TestSuite::new(category.title());
        for finding in of(probe, category) {
            let status = match finding.status {
                Status::Pass => TestCaseStatus::success(),
                Status::Skip => TestCaseStatus::skipped(),
                _ if finding.suppressed.is_some() => TestCaseStatus::skipped(),
                // JUnit knows no warnings: one is a test that passed and has something to say.
                Status::Warn => TestCaseStatus::success(),
                Status::Fail => TestCaseStatus::non_success(NonSuccessKind::Failure),
                Status::Error => TestCaseStatus::non_success(NonSuccessKind::Error),
            };
            let is_failure = matches!(finding.status, Status::Fail | Status::Error) && finding.suppressed.is_none();
            let mut status = status;
            if finding.status != Status::Pass && finding.status != Status::Warn {
                let message = finding.suppressed.clone().unwrap_or_else(|| finding.title.clone());
                status.set_message(message);
                if is_failure {
                    status.set_description(description(finding));
                }
            }
            let mut case = TestCase::new(format!("{} {}", finding.id, finding.subject), status);
            case.set_classname(finding.id.clone());
            if finding.status == Status::Warn {
                case.set_system_out(description(finding));
            }
            suite.add_test_case(case);
        }
        if !suite.test_cases.is_empty() {
            suites.push(suite);
        }
    }
    suites
}

/// A workflow command of GitHub Actions.
pub(super) fn annotation(kind: &str, title: &str, text: &str) -> String {
    let data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    format!("::{kind} title={}::{}\n", property(title), data(text))
}

/// Workflow commands of GitHub Actions.
fn github(probe: &Probe) -> String {
    annotations(&probe.findings.iter().collect::<Vec<_>>()) + &format!("rdmadoctor probe: {}\n", probe.verdict)
}

/// A command for each finding that is not well.
pub(super) fn annotations(findings: &[&Finding]) -> String {
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

/// The text format of Prometheus.
fn prometheus(probe: &Probe) -> String {
    let label = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let counts = probe.counts;
    let mut out = String::new();
    let head = |name: &str, help: &str| format!("# HELP {name} {help}\n# TYPE {name} gauge\n");
    out += &head("rdmadoctor_findings", "Findings that stand by themselves, by status.");
    for (status, number) in
        [("pass", counts.pass), ("warn", counts.warn), ("fail", counts.fail), ("skip", counts.skip), ("error", counts.error)]
    {
        let _ = writeln!(out, "rdmadoctor_findings{{status=\"{status}\"}} {number}");
    }
    out += &head("rdmadoctor_finding", "A warning or failure that stands by itself.");
    for finding in probe.findings.iter().filter(|finding| finding.status.is_bad() && finding.is_root()) {
        let _ = writeln!(
            out,
            "rdmadoctor_finding{{id=\"{}\",subject=\"{}\",status=\"{}\"}} 1",
            label(&finding.id),
            label(&finding.subject),
            finding.status.name()
        );
    }
    out += &head("rdmadoctor_verdict", "1 for the verdict of the last probe.");
    for verdict in ["pass", "warn", "fail"] {
        let _ = writeln!(out, "rdmadoctor_verdict{{verdict=\"{verdict}\"}} {}", u8::from(probe.verdict == verdict));
    }
    out += &head("rdmadoctor_probe_duration_seconds", "Time that the probe took.");
    let _ = writeln!(out, "rdmadoctor_probe_duration_seconds {}", Duration::from_micros(probe.elapsed_us).as_secs_f64());
    out
}

fn markdown(probe: &Probe) -> String {
    let mut out = format!("# rdmadoctor probe: {}\n\n| category | findings |\n|---|---|\n", probe.verdict);
    for category in Category::ALL {
        let own: Vec<&Finding> = of(probe, category).collect();
        if !own.is_empty() {
            let _ = writeln!(out, "| {} | {} |", category.title(), summary(&own));
        }
    }
    out += &markdown_findings(probe, &probe.findings.iter().collect::<Vec<_>>());
    let _ = writeln!(out, "\nNext: {}", probe.next_commands.iter().map(|command| format!("`{command}`")).collect::<Vec<_>>().join(", "));
    out
}

/// A section for each finding that is not well and follows from no other.
pub(super) fn markdown_findings(probe: &Probe, findings: &[&Finding]) -> String {
    let cell = |text: &str| text.replace('|', "\\|").replace('\n', " ");
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::{Action, Counts};
    use crate::facts::Level;

    fn probe() -> Probe {
        let finding = |id: &str, finding: Finding| Finding { id: id.to_owned(), ..finding };
        let root = finding("RD-0204", Finding::fail("mlx5_ib", "mlx5_ib is \"not\" loaded, 100% <sure>"))
            .saw_not("/proc/modules", "absent | gone", "loaded")
            .remedy(Action::Reload, "load it", &["modprobe mlx5_ib"]);
        let mut consequence = finding("RD-0301", Finding::fail("host", "there is no RDMA device"));
        consequence.because = Some(root.key());
        let warning = finding("RD-0408", Finding::warn("host", "RDMA interfaces have different MTUs"));
        let mut suppressed = finding("RD-0213", Finding::warn("host", "exclusive"));
        suppressed.suppressed = Some("the plugin moves devices".to_owned());
        Probe {
            schema: "rdmadoctor/probe/1".to_owned(),
            verdict: "fail".to_owned(),
            level: Level::Quick,
            findings: vec![root, suppressed, consequence, warning],
            counts: Counts { fail: 1, warn: 1, consequences: 1, suppressed: 1, ..Counts::default() },
            suppressions: Vec::new(),
            checks_not_run: 0,
            next_commands: vec!["rdmadoctor explain RD-0204".to_owned()],
            budget_us: 2_000_000,
            elapsed_us: 1_500_000,
            stopped: None,
        }
    }

    #[test]
    fn a_table_has_consequences_under_their_root() {
        let table = probe().table(&Style { color: false, width: 100, verbose: false });
        let at = |text: &str| table.find(text).unwrap_or_else(|| panic!("{text} in {table}"));
        assert!(at("  FAIL RD-0204") < at("    FAIL RD-0301") && at("    FAIL RD-0301") < at("FAIL devices and ports"));
        assert!(!table.contains("RD-0213"), "{table}");
        assert!(table.contains("1 failure, 1 warning, 1 consequence"), "{table}");
    }

    #[test]
    fn each_format_says_what_is_wrong_and_escapes_it() {
        let probe = probe();
        let junit = junit(&probe);
        assert!(junit.contains("RD-0204") && junit.contains("&lt;sure&gt;") && junit.contains("failures=\"2\""), "{junit}");
        let github = github(&probe);
        assert!(github.contains("::error title=RD-0204 mlx5_ib::") && github.contains("100%25") && !github.contains("RD-0213"), "{github}");
        assert!(github.contains("::notice title=RD-0301 host::") && github.contains("::warning title=RD-0408 host::"), "{github}");
        let prometheus = prometheus(&probe);
        assert!(prometheus.contains("rdmadoctor_finding{id=\"RD-0204\",subject=\"mlx5_ib\",status=\"fail\"} 1"), "{prometheus}");
        assert!(prometheus.contains("rdmadoctor_verdict{verdict=\"fail\"} 1") && !prometheus.contains("RD-0301"), "{prometheus}");
        let markdown = markdown(&probe);
        assert!(
            markdown.contains("absent \\| gone") && markdown.contains("modprobe mlx5_ib") && markdown.contains("* RD-0301"),
            "{markdown}"
        );
    }
}
