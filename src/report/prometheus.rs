//! Metrics in the text format of Prometheus.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use super::{Document, Kind, Renderer, View};
use crate::checks::{Probe, Status};

pub(super) struct Prometheus;

impl Renderer for Prometheus {
    fn documents(&self) -> &'static [Kind] {
        &[Kind::Probe]
    }

    fn draw(&self, document: Document<'_>, _: &View<'_>) -> io::Result<Option<String>> {
        Ok(match document {
            Document::Probe(probe) => Some(of_probe(probe)),
            _ => None,
        })
    }

    fn marked(&self, text: String, mark: &str) -> String {
        format!("# {mark}\n{text}")
    }
}

fn of_probe(probe: &Probe) -> String {
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
    for verdict in [Status::Pass, Status::Warn, Status::Fail] {
        let _ = writeln!(out, "rdmadoctor_verdict{{verdict=\"{verdict}\"}} {}", u8::from(probe.verdict == verdict));
    }
    out += &head("rdmadoctor_probe_duration_seconds", "Time that the probe took.");
    let _ = writeln!(out, "rdmadoctor_probe_duration_seconds {}", Duration::from_micros(probe.elapsed_us).as_secs_f64());
    out
}
