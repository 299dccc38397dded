//! Latency and bandwidth of each device, back to itself: `ping` and `bw` as they are, with less time for each figure.

use std::time::{Duration, Instant};

use rdmadoctor_types::Transport;

use super::flight::{Flight, elapsed};
use crate::bench::{LoopbackReport, PathLimit, Request};
use crate::checks;
use crate::devices::Device;
use crate::facts::Facts;
use crate::survey::{self, Onlooker, SurveyError};
use crate::transfer::{Limit, Operation, RunKind};

/// Figures of a device.
const FIGURES: u32 = 40;

/// 1 Gbit/s. What is slower is software, mostly: a megabyte takes it so long that looking for a depth, and for what more queue pairs bring,
/// would take the time of everything else.
const SLOW_BYTES_PER_SECOND: f64 = 125e6;

/// When measuring ends, and what one device or GPU takes.
pub(super) struct Pace {
    until: Instant,
    takes: Duration,
}

impl Pace {
    /// As long as none was measured, as many figures as there are in it: operations, sizes and repeats, and as much again for looking for a
    /// depth.
    pub(super) fn new(flight: &Flight<'_>, figures: u32, until: Instant) -> Self {
        Self { until, takes: flight.request.duration * figures }
    }

    /// Measures by `measure` what there is time for, and says in the report where there is none.
    pub(super) fn run(
        &mut self,
        flight: &Flight<'_>,
        report: &mut LoopbackReport,
        measure: &mut dyn FnMut(&mut LoopbackReport, Instant) -> Result<(), SurveyError>,
    ) -> Result<(), SurveyError> {
        let left = self.until.saturating_duration_since(Instant::now());
        report.not_run = match () {
            () if flight.host.interrupted() => Some("interrupted".to_owned()),
            () if left < self.takes => Some(format!(
                "{:.1} s of the time budget were left for it, and it takes about {:.1} s",
                left.as_secs_f32(),
                self.takes.as_secs_f32()
            )),
            () => None,
        };
        report.is_missing = report.not_run.is_some();
        if report.is_missing {
            return Ok(());
        }
        let began = Instant::now();
        report.earlier = flight.request.baseline.rates(report);
        measure(report, self.until)?;
        self.takes = self.takes.max(began.elapsed());
        Ok(())
    }
}

/// Measures one device after another, because two at once would disturb each other; until then.
pub(super) fn devices(flight: &Flight<'_>, facts: &Facts, until: Instant) -> Result<Vec<LoopbackReport>, SurveyError> {
    let mut measured = Vec::new();
    let mut pace = Pace::new(flight, FIGURES, until);
    for (device, _) in facts.usable() {
        let mut report = LoopbackReport::new(&device.name, path(flight, facts, device));
        if device.is_up() {
            pace.run(flight, &mut report, &mut |report, until| measure(flight, device, until, report))?;
        } else {
            report.not_run = Some("it has no active port".to_owned());
        }
        measured.push(report);
    }
    Ok(measured)
}

/// EFA has datagrams only, which are no longer than a packet.
pub(super) fn is_datagram(device: &Device) -> bool {
    device.transport == Transport::Unspecified
}

/// Of a model nothing is known: data moves as fast as this machine's memory lets it.
fn path(flight: &Flight<'_>, facts: &Facts, device: &Device) -> Option<PathLimit> {
    if flight.host.model_name().is_some() {
        return None;
    }
    let port = device.ports.iter().find(|port| port.is_active())?;
    PathLimit::of(&device.name, port.rate_bits_per_second, &facts.host.topology)
}

const WRITE_READ: [Operation; 2] = [Operation::Write, Operation::Read];

fn measure(flight: &Flight<'_>, device: &Device, until: Instant, report: &mut LoopbackReport) -> Result<(), SurveyError> {
    let base = request(flight, device, until);
    let operations = if is_datagram(device) { vec![Operation::Send] } else { WRITE_READ.to_vec() };
    let small = Request { operations: operations.clone(), sizes: vec![64, 4 << 10], ..base.clone() };
    latency(flight, &small, report)?;
    if report.moves_nothing() {
        return Ok(());
    }
    if is_datagram(device) {
        return bandwidth(flight, &Request { operations, sizes: vec![4 << 10], ..base }, report);
    }
    bandwidth(flight, &Request { operations: operations.clone(), sizes: vec![64 << 10], ..base.clone() }, report)?;
    let large = Request { operations, sizes: vec![1 << 20], ..base };
    let best = |operation| report.best(operation)?.bytes_per_second;
    let is_slow = WRITE_READ.into_iter().filter_map(best).any(|rate| rate.median < SLOW_BYTES_PER_SECOND);
    if is_slow {
        return bandwidth(flight, &Request { depth: Some(4), batch: Some(1), ..large }, report);
    }
    bandwidth(flight, &large, report)?;
    // Whether one queue pair fills the link is told by more of them.
    bandwidth(flight, &Request { queue_pairs: 4, ..large }, report)
}

/// What every measurement here has.
pub(super) fn request(flight: &Flight<'_>, device: &Device, until: Instant) -> Request {
    let milliseconds = u64::try_from(flight.request.duration.as_millis()).unwrap_or(u64::MAX);
    Request {
        device: Some(device.name.clone()),
        limit: Limit::TimeMs(milliseconds.max(1)),
        spread: false,
        until: Some(until),
        ..Request::default()
    }
}

/// As `ping` does.
pub(super) fn latency(flight: &Flight<'_>, request: &Request, report: &mut LoopbackReport) -> Result<(), SurveyError> {
    let began = Instant::now();
    let request = Request { kind: RunKind::Latency, ..request.clone() };
    let mut ping =
        survey::latency(flight.host, &request, &mut Onlooker { say: &mut |text| (flight.say)(text), refused: checks::refusals })?;
    ping.judge();
    report.ping = Some(ping);
    report.ping_elapsed_us += elapsed(began);
    Ok(())
}

/// As `bw` does; once more, as long as nothing stands in the way.
pub(super) fn bandwidth(flight: &Flight<'_>, request: &Request, report: &mut LoopbackReport) -> Result<(), SurveyError> {
    if report.bw.as_ref().is_some_and(|bw| !bw.problems.is_empty() || bw.stopped.is_some()) {
        return Ok(());
    }
    let began = Instant::now();
    let mut more =
        survey::bandwidth(flight.host, request, &mut Onlooker { say: &mut |text| (flight.say)(text), refused: checks::refusals })?;
    more.judge();
    match &mut report.bw {
        None => report.bw = Some(more),
        Some(measured) => {
            measured.results.extend(more.results);
            measured.notices.extend(more.notices);
            measured.problems.extend(more.problems);
            measured.stopped = more.stopped;
        }
    }
    report.bw_elapsed_us += elapsed(began);
    Ok(())
}
