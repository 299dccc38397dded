//! JUnit's XML, which CI systems read: a test case for each finding and step.

use std::io;
use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::findings::{description, of};
use super::{Document, Kind, Renderer, View, gate};
use crate::checks::{Category, Finding, Probe, Status};
use crate::preflight::{Preflight, Step};

pub(super) struct Junit;

impl Renderer for Junit {
    fn documents(&self) -> &'static [Kind] {
        &[Kind::Probe, Kind::Preflight]
    }

    fn draw(&self, document: Document<'_>, _: &View<'_>) -> io::Result<Option<String>> {
        let (name, suites) = match document {
            Document::Probe(probe) => ("rdmadoctor probe", suites(probe)),
            Document::Preflight(gate) => {
                let of_probe = gate.probe.iter().flat_map(suites);
                ("rdmadoctor preflight", std::iter::once(steps(gate)).chain(of_probe).collect())
            }
            _ => return Ok(None),
        };
        let mut report = Report::new(name);
        report.add_test_suites(suites);
        report.to_string().map(Some).map_err(io::Error::other)
    }

    fn marked(&self, text: String, mark: &str) -> String {
        // After the declaration, which must be the first thing of an XML document.
        // Two hyphens would end the comment (XML 1.0, section 2.5).
        let mark = mark.replace("--", "- -").replace("--", "- -");
        text.replacen("?>\n", &format!("?>\n<!-- {mark} -->\n"), 1)
    }
}

/// A suite for each category.
fn suites(probe: &Probe) -> Vec<TestSuite> {
    let suite = |category: Category| {
        let mut suite = TestSuite::new(category.title());
        suite.add_test_cases(of(probe, category).map(of_finding));
        suite
    };
    Category::ALL.into_iter().map(suite).filter(|suite| !suite.test_cases.is_empty()).collect()
}

fn of_finding(finding: &Finding) -> TestCase {
    let status = if finding.suppressed.is_some() && finding.status.is_bad() { Status::Skip } else { finding.status };
    let mut outcome = outcome(status);
    if !matches!(status, Status::Pass | Status::Warn) {
        outcome.set_message(finding.suppressed.clone().unwrap_or_else(|| finding.title.clone()));
    }
    if matches!(status, Status::Fail | Status::Error) {
        outcome.set_description(description(finding));
    }
    let mut case = TestCase::new(format!("{} {}", finding.id, finding.subject), outcome);
    case.set_classname(finding.id.clone());
    if finding.status == Status::Warn {
        case.set_system_out(description(finding));
    }
    case
}

/// The steps of a gate.
fn steps(gate: &Preflight) -> TestSuite {
    let mut suite = TestSuite::new("preflight");
    suite.add_test_cases(gate.steps.iter().map(of_step));
    suite
}

fn of_step(step: &Step) -> TestCase {
    let is_well = matches!(step.status, Status::Pass | Status::Warn);
    let mut outcome = outcome(step.status);
    if !is_well {
        outcome.set_message(step.summary.clone());
    }
    let mut case = TestCase::new(gate::name(step), outcome);
    case.set_classname("preflight");
    case.set_time(Duration::from_micros(step.elapsed_us));
    if is_well {
        case.set_system_out(step.summary.clone());
    }
    case
}

fn outcome(status: Status) -> TestCaseStatus {
    match status {
        // JUnit knows no warnings: one is a test that passed and has something to say.
        Status::Pass | Status::Warn => TestCaseStatus::success(),
        Status::Skip => TestCaseStatus::skipped(),
        Status::Fail => TestCaseStatus::non_success(NonSuccessKind::Failure),
        Status::Error => TestCaseStatus::non_success(NonSuccessKind::Error),
    }
}
