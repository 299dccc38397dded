//! Verdicts, steps and comparisons of runs that are made up.

use rdmadoctor_types::Word;

use super::compare::compare;
use super::steps::measured_steps;
use super::*;
use crate::bench::{BandwidthResult, BenchReport, LoopbackReport};
use crate::checks::{self, Policy, Status};
use crate::devices::Devices;
use crate::facts::Level;
use crate::profile::FingerprintField;
use crate::qp::QpMatrix;
use crate::schema;

/// A run on which nothing was found out yet.
fn run() -> Preflight {
    Preflight {
        schema: schema::PREFLIGHT.to_owned(),
        verdict: Word::Known(Status::Pass),
        created: "2027-01-01T00:00:00Z".to_owned(),
        tool_version: "0".to_owned(),
        host_name: "node1".to_owned(),
        fingerprint: vec![FingerprintField { field: "kernel.release".to_owned(), value: "6.1".to_owned() }],
        steps: Vec::new(),
        probe: None,
        qp_matrix: Some(QpMatrix { schema: String::new(), devices: Vec::new(), problems: Vec::new() }),
        devices: Some(Devices { schema: String::new(), devices: Vec::new(), problems: Vec::new() }),
        topo: None,
        measured: Vec::new(),
        profile: None,
        comparison: None,
        time_budget_us: 60_000_000,
        elapsed_us: 0,
        stopped: None,
    }
}

/// A bandwidth, by its repeats in Gbit/s.
fn measured(repeats: &[f64]) -> LoopbackReport {
    let bytes: Vec<f64> = repeats.iter().map(|gigabits| gigabits * 1e9 / 8.0).collect();
    let rate = crate::bench::Spread::of(&bytes).unwrap();
    let row: BandwidthResult = serde_json::from_value(serde_json::json!({
        "operation": "write", "memory": "host", "buffer": "hot", "size_bytes": 65536, "bidirectional": false, "queue_pairs": 1, "depth": 1,
        "batch": 1, "inline": false, "completion": "poll", "messages": 1, "bytes_per_second": rate, "messages_per_second": null,
        "cpu_us_per_gib": null, "lost_percent": null, "verification": null, "counters": [], "failure": null
    }))
    .unwrap();
    let bw = BenchReport {
        schema: schema::BW.to_owned(),
        connection: None,
        results: vec![row],
        ordering: Vec::new(),
        notices: Vec::new(),
        problems: Vec::new(),
        stopped: None,
    };
    LoopbackReport { bw: Some(bw), ..LoopbackReport::new("mlx5_0", None) }
}

fn with(repeats: &[f64]) -> Preflight {
    Preflight { measured: vec![measured(repeats)], ..run() }
}

#[test]
fn noise_is_no_change() {
    let kinds = |was: &[f64], is: &[f64]| -> Vec<ChangeKind> {
        compare("last.json", &with(was), &with(is)).changes.iter().map(|change| change.kind).collect()
    };
    assert_eq!(kinds(&[100.0, 101.0, 102.0], &[97.0, 98.0, 99.5]), []);
    assert_eq!(kinds(&[100.0, 101.0, 102.0], &[50.0, 51.0, 52.0]), [ChangeKind::Worse]);
    assert_eq!(kinds(&[50.0, 51.0, 52.0], &[100.0, 101.0, 102.0]), [ChangeKind::Better]);
    // Too noisy to quote, so too noisy to compare.
    assert_eq!(kinds(&[90.0, 100.0, 110.0], &[50.0, 51.0, 52.0]), []);
}

#[test]
fn what_changed_on_the_host_is_named() {
    let mut now = run();
    now.fingerprint[0].value = "6.12".to_owned();
    let comparison = compare("last.json", &run(), &now);
    assert_eq!(
        comparison.changes,
        [Change { kind: ChangeKind::Other, what: "kernel.release".to_owned(), was: Some("6.1".to_owned()), is: Some("6.12".to_owned()) }]
    );
    assert_eq!(compare("last.json", &run(), &run()).changes, []);
}

#[test]
fn findings_that_are_new_are_worse_and_those_that_are_gone_better() {
    let facts = crate::capture::load(std::path::Path::new("tests/captures/1-erdma-a10x8.json.gz")).unwrap().facts;
    let judged = |mend: bool| {
        let mut probe = checks::judge(
            &facts,
            Level::Standard,
            &checks::registry().collect::<Vec<_>>(),
            &Policy::default(),
            jiff::civil::date(2027, 1, 1),
        );
        if mend {
            probe.findings.iter_mut().filter(|finding| finding.status.is_bad()).for_each(|finding| finding.status = Status::Pass);
        }
        Preflight { probe: Some(probe), ..run() }
    };
    let (sick, well) = (judged(false), judged(true));
    let worse = compare("last.json", &well, &sick).changes;
    assert!(
        !worse.is_empty() && worse.iter().all(|change| change.kind == ChangeKind::Worse && change.what.starts_with("RD-")),
        "{worse:?}"
    );
    let better = compare("last.json", &sick, &well).changes;
    assert!(better.len() == worse.len() && better.iter().all(|change| change.kind == ChangeKind::Better), "{better:?}");
}

#[test]
fn what_was_not_run_is_no_pass() {
    let step = |status, is_missing| Step { step: StepName::Bw, subject: None, status, summary: String::new(), is_missing, elapsed_us: 0 };
    let facts = crate::checks::Probe { verdict: Word::Known(Status::Pass), ..probe() };
    assert_eq!(verdict(Some(&facts), &[step(Status::Pass, false)]), Status::Pass);
    assert_eq!(verdict(Some(&facts), &[step(Status::Skip, false)]), Status::Pass);
    assert_eq!(verdict(Some(&facts), &[step(Status::Skip, true)]), Status::Warn);
    assert_eq!(verdict(Some(&facts), &[step(Status::Fail, false)]), Status::Fail);
    assert_eq!(verdict(None, &[]), Status::Warn);
}

/// Of a host on which all is well.
fn probe() -> crate::checks::Probe {
    let facts = crate::capture::load(std::path::Path::new("tests/captures/1-erdma-a10x8.json.gz")).unwrap().facts;
    checks::judge(&facts, Level::Standard, &[], &Policy::default(), jiff::civil::date(2027, 1, 1))
}

#[test]
fn a_device_that_was_not_measured_says_why_once_for_each_step() {
    let late = LoopbackReport { not_run: Some("0.1 s were left".to_owned()), is_missing: true, ..LoopbackReport::new("mlx5_0", None) };
    let steps = measured_steps(&late);
    assert_eq!(steps.iter().map(|step| (step.step, step.is_missing)).collect::<Vec<_>>(), [(StepName::Ping, true), (StepName::Bw, true)]);
    let steps = measured_steps(&measured(&[1.0, 1.0, 1.0]));
    assert_eq!((steps.len(), steps[0].summary.as_str()), (1, "write 1.00 Gbit/s"));
}
