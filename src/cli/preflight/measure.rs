//! Latency and bandwidth of each device, back to itself: `ping` and `bw` as they are, with less time for each figure.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;

use super::super::beside::usable;
use super::super::{bw, ping};
use super::{Flight, elapsed};
use crate::bench::{LoopbackReport, PathLimit};
use crate::devices::Device;
use crate::facts::Facts;
use crate::transfer::Operation;

/// Figures of a device.
const FIGURES: u32 = 40;

/// 1 Gbit/s. What is slower is software, mostly: a megabyte takes it so long that looking for a depth, and for what more queue pairs bring,
/// would take the time of everything else.
const SLOW_BYTES_PER_SECOND: f64 = 125e6;

/// `ping` with the words of a command line: whatever has a default there has it here.
#[derive(Parser)]
#[command(no_binary_name = true)]
struct Ping {
    #[command(flatten)]
    arguments: ping::Arguments,
}

/// As [`Ping`].
#[derive(Parser)]
#[command(no_binary_name = true)]
struct Bw {
    #[command(flatten)]
    arguments: bw::Arguments,
}

/// When measuring ends, and what one device or GPU takes.
pub struct Pace {
    until: Instant,
    takes: Duration,
}

impl Pace {
    /// As long as none was measured, as many figures as there are in it: operations, sizes and repeats, and as much again for looking for a
    /// depth.
    pub fn new(flight: &Flight<'_>, figures: u32, until: Instant) -> Self {
        Self { until, takes: flight.arguments.duration * figures }
    }

    /// Measures by `measure` what there is time for, and says in the report where there is none.
    pub fn run(
        &mut self,
        flight: &Flight<'_>,
        report: &mut LoopbackReport,
        measure: &mut dyn FnMut(&mut LoopbackReport, Instant) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let left = self.until.saturating_duration_since(Instant::now());
        report.not_run = match () {
            () if flight.session.host.interrupted() => Some("interrupted".to_owned()),
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
        report.earlier = flight.baseline.rates(report);
        measure(report, self.until)?;
        self.takes = self.takes.max(began.elapsed());
        Ok(())
    }
}

/// Measures one device after another, because two at once would disturb each other; until then.
pub fn devices(flight: &Flight<'_>, facts: &Facts, until: Instant) -> anyhow::Result<Vec<LoopbackReport>> {
    let mut measured = Vec::new();
    let mut pace = Pace::new(flight, FIGURES, until);
    for device in usable(facts) {
        let mut report = LoopbackReport::new(&device.name, path(flight, facts, device));
        if is_up(device) {
            pace.run(flight, &mut report, &mut |report, until| measure(flight, device, until, report))?;
        } else {
            report.not_run = Some("it has no active port".to_owned());
        }
        measured.push(report);
    }
    Ok(measured)
}

/// Whether data can move.
pub fn is_up(device: &Device) -> bool {
    device.ports.iter().any(|port| port.state.as_deref() == Some("active"))
}

/// EFA has datagrams only, which are no longer than a packet.
pub fn is_datagram(device: &Device) -> bool {
    device.transport == "unspecified"
}

/// Of a model nothing is known: data moves as fast as this machine's memory lets it.
fn path(flight: &Flight<'_>, facts: &Facts, device: &Device) -> Option<PathLimit> {
    if flight.session.host.model_name().is_some() {
        return None;
    }
    let port = device.ports.iter().find(|port| port.state.as_deref() == Some("active"))?;
    PathLimit::of(&device.name, port.rate_bits_per_second, &facts.host.topology)
}

fn measure(flight: &Flight<'_>, device: &Device, until: Instant, report: &mut LoopbackReport) -> anyhow::Result<()> {
    let own = if is_datagram(device) { ["--op", "send", "--sizes", "64,4k"] } else { ["--op", "write,read", "--sizes", "64,4k"] };
    latency(flight, device, &own, until, report)?;
    if report.moves_nothing() {
        return Ok(());
    }
    if is_datagram(device) {
        return bandwidth(flight, device, &["--op", "send", "--sizes", "4k"], until, report);
    }
    bandwidth(flight, device, &["--op", "write,read", "--sizes", "64k"], until, report)?;
    let best = |operation| report.best(operation)?.bytes_per_second;
    let is_slow = [Operation::Write, Operation::Read].into_iter().filter_map(best).any(|rate| rate.median < SLOW_BYTES_PER_SECOND);
    if is_slow {
        return bandwidth(flight, device, &["--op", "write,read", "--sizes", "1M", "--depth", "4", "--batch", "1"], until, report);
    }
    bandwidth(flight, device, &["--op", "write,read", "--sizes", "1M"], until, report)?;
    // Whether one queue pair fills the link is told by more of them.
    bandwidth(flight, device, &["--op", "write,read", "--sizes", "1M", "--queue-pairs", "4"], until, report)
}

/// What every measurement here has.
fn common(flight: &Flight<'_>, device: &Device) -> [String; 3] {
    let duration = format!("{}us", flight.arguments.duration.max(Duration::from_millis(1)).as_micros());
    [device.name.clone(), "--duration".to_owned(), duration]
}

/// `ping`, with these words more.
pub fn latency(flight: &Flight<'_>, device: &Device, words: &[&str], until: Instant, report: &mut LoopbackReport) -> anyhow::Result<()> {
    let common = common(flight, device);
    let words = common.iter().map(String::as_str).chain(words.iter().copied());
    let words = Ping::try_parse_from(words).context("ping does not take what preflight asks")?;
    let began = Instant::now();
    report.ping = Some(ping::measured(flight.session, &words.arguments, Some(until))?);
    report.ping_elapsed_us += elapsed(began);
    Ok(())
}

/// `bw`, with these words more; once more, as long as nothing stands in the way.
pub fn bandwidth(flight: &Flight<'_>, device: &Device, words: &[&str], until: Instant, report: &mut LoopbackReport) -> anyhow::Result<()> {
    if report.bw.as_ref().is_some_and(|bw| !bw.problems.is_empty() || bw.stopped.is_some()) {
        return Ok(());
    }
    let common = common(flight, device);
    let words = common.iter().map(String::as_str).chain(words.iter().copied()).chain(["--buffer", "hot"]);
    let words = Bw::try_parse_from(words).context("bw does not take what preflight asks")?;
    let began = Instant::now();
    let more = bw::measured(flight.session, &words.arguments, Some(until))?;
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
