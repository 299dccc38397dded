//! From findings to a verdict.

use std::collections::HashMap;

use jiff::civil::Date;
use rdmadoctor_types::Word;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Check, Facts, Finding, Level, Policy, Status, run};
use crate::schema;

/// The document of `probe`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Probe {
    /// `rdmadoctor/probe/1`.
    pub schema: String,
    /// `pass`, `warn` or `fail`.
    pub verdict: Word<Status>,
    /// How much effort was taken.
    pub level: Level,
    /// The findings, by check and subject.
    pub findings: Vec<Finding>,
    /// How many findings of each kind stand by themselves: consequences of another finding and suppressed ones are left out.
    pub counts: Counts,
    /// What the policy suppresses, whether it still holds or not.
    pub suppressions: Vec<SuppressionReport>,
    /// Checks that were left out, for the level or by choice.
    pub checks_not_run: u64,
    /// Useful next commands.
    pub next_commands: Vec<String>,
    /// The time that it might take.
    pub budget_us: u64,
    /// The time that it took.
    pub elapsed_us: u64,
    /// Why it ended early.
    pub stopped: Option<String>,
}

/// How many findings there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    /// All is well.
    pub pass: u64,
    /// Warnings.
    pub warn: u64,
    /// Failures.
    pub fail: u64,
    /// What could not be judged.
    pub skip: u64,
    /// Checks that failed themselves.
    pub error: u64,
    /// Warnings and failures that follow from another one.
    pub consequences: u64,
    /// Warnings and failures that the policy suppresses.
    pub suppressed: u64,
}

/// A suppression and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SuppressionReport {
    pub check: String,
    /// The subject, where it is for one only.
    pub subject: Option<String>,
    pub reason: String,
    /// The last day on which it holds.
    pub until: String,
    /// What became of it.
    pub state: SuppressionState,
}

/// What became of a suppression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SuppressionState {
    /// It suppressed something.
    Applied,
    /// There was nothing to suppress.
    Unused,
    /// Its last day is over: it no longer applies.
    Expired,
}

/// Runs checks and comes to a verdict. `today` decides which suppressions still hold.
#[must_use]
pub fn judge(facts: &Facts, level: Level, checks: &[&'static Check], policy: &Policy, today: Date) -> Probe {
    let mut findings = run(facts, checks.iter().copied());
    for finding in &mut findings {
        finding.status = policy.severity_of(finding);
    }
    let suppressions = suppress(&mut findings, policy, today);
    let counts = count(&findings);
    let verdict = match () {
        () if findings.iter().any(|finding| finding.suppressed.is_none() && matches!(finding.status, Status::Fail | Status::Error)) => {
            Status::Fail
        }
        () if counts.warn > 0 => Status::Warn,
        () => Status::Pass,
    };
    Probe {
        schema: schema::PROBE.to_owned(),
        verdict: Word::Known(verdict),
        level,
        next_commands: next_commands(&findings, level),
        counts,
        findings,
        suppressions,
        checks_not_run: u64::try_from(super::registry().count().saturating_sub(checks.len())).unwrap_or(u64::MAX),
        budget_us: u64::try_from(level.budget().as_micros()).unwrap_or(u64::MAX),
        elapsed_us: 0,
        stopped: None,
    }
}

fn suppress(findings: &mut [Finding], policy: &Policy, today: Date) -> Vec<SuppressionReport> {
    let mut reports = Vec::new();
    for rule in &policy.suppress {
        let holds = rule.last_day().is_some_and(|last| today <= last);
        let mut state = if holds { SuppressionState::Unused } else { SuppressionState::Expired };
        for finding in findings.iter_mut().filter(|finding| holds && finding.status.is_bad() && rule.is_about(finding)) {
            finding.suppressed = Some(format!("{} (until {})", rule.reason, rule.until));
            state = SuppressionState::Applied;
        }
        let (check, subject, reason, until) = (rule.check.clone(), rule.subject.clone(), rule.reason.clone(), rule.until.clone());
        reports.push(SuppressionReport { check, subject, reason, until, state });
    }
    // What follows from a suppressed finding is suppressed with it. Each round reaches one step further.
    loop {
        let roots: HashMap<String, String> =
            findings.iter().filter_map(|finding| Some((finding.key(), finding.suppressed.clone()?))).collect();
        let mut has_changed = false;
        for finding in findings.iter_mut().filter(|finding| finding.suppressed.is_none()) {
            let root = finding.because.as_ref().and_then(|because| roots.get_key_value(because));
            if let Some((key, why)) = root {
                finding.suppressed = Some(format!("follows from {key}: {why}"));
                has_changed = true;
            }
        }
        if !has_changed {
            return reports;
        }
    }
}

fn count(findings: &[Finding]) -> Counts {
    let mut counts = Counts::default();
    for finding in findings {
        match finding.status {
            status if status.is_bad() && finding.suppressed.is_some() => counts.suppressed += 1,
            status if status.is_bad() && finding.because.is_some() => counts.consequences += 1,
            Status::Pass => counts.pass += 1,
            Status::Warn => counts.warn += 1,
            Status::Fail => counts.fail += 1,
            Status::Skip => counts.skip += 1,
            Status::Error => counts.error += 1,
        }
    }
    counts
}

/// The two most useful things to do next.
fn next_commands(findings: &[Finding], level: Level) -> Vec<String> {
    let worst = |status| findings.iter().filter(move |finding| finding.status == status && finding.is_root());
    let mut roots: Vec<&Finding> = worst(Status::Fail).chain(worst(Status::Warn)).collect();
    // What a queue pair was refused for says most, and there is a command that says more.
    roots.sort_by_key(|finding| (finding.status != Status::Fail, category(finding) != "06"));
    let Some(first) = roots.first() else {
        return vec![
            if level == Level::Quick { "rdmadoctor probe --level standard --engine all" } else { "rdmadoctor qp-matrix" }.to_owned(),
            "rdmadoctor devices".to_owned(),
        ];
    };
    let subject: Vec<&str> = first.subject.split('/').collect();
    let second = match (category(first), subject.as_slice()) {
        ("06", [device, engine, ..]) if engine.contains('@') => command!("rdmadoctor qp-matrix {} --engine {}", device, engine),
        ("06", [device, ..]) => command!("rdmadoctor qp-matrix {}", device),
        ("02" | "07", _) => "rdmadoctor modules -v".to_owned(),
        _ => match roots.iter().find(|other| other.id != first.id) {
            Some(other) => format!("rdmadoctor explain {}", other.id),
            None => "rdmadoctor devices -v".to_owned(),
        },
    };
    vec![format!("rdmadoctor explain {}", first.id), second]
}

fn category(finding: &Finding) -> &str {
    finding.id.get(3..5).unwrap_or_default()
}
