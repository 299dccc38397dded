//! Latency and bandwidth of each device, back to itself: `ping` and `bw` as they are, with less time for each figure.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;

use super::super::beside::usable;
use super::super::{bw, ping};
use super::{Flight, elapsed};
use crate::bench::{LoopbackReport, PathLimit};
use crate::checks::Facts;
use crate::facts::Device;

/// What a device takes as long as none was measured, in figures: operations, sizes and repeats, and as much again for looking for a depth.
const FIGURES: u32 = 40;

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

/// Measures one device after another, because two at once would disturb each other; until then.
pub fn devices(flight: &Flight<'_>, facts: &Facts, until: Instant) -> anyhow::Result<Vec<LoopbackReport>> {
    let mut measured = Vec::new();
    let mut takes = flight.arguments.duration * FIGURES;
    for device in usable(facts) {
        let mut report = LoopbackReport::new(&device.name, path(flight, facts, device));
        let left = until.saturating_duration_since(Instant::now());
        let is_up = device.ports.iter().any(|port| port.state.as_deref() == Some("active"));
        report.not_run = match () {
            () if !is_up => Some("it has no active port".to_owned()),
            () if flight.session.interrupted() => Some("interrupted".to_owned()),
            () if left < takes => Some(format!(
                "{:.1} s of the time budget were left for it, and it takes about {:.1} s",
                left.as_secs_f32(),
                takes.as_secs_f32()
            )),
            () => None,
        };
        report.is_missing = report.not_run.is_some() && is_up;
        if report.not_run.is_none() {
            let began = Instant::now();
            report.earlier = flight.baseline.rates(&device.name);
            measure(flight, device, until, &mut report)?;
            takes = takes.max(began.elapsed());
        }
        measured.push(report);
    }
    Ok(measured)
}

/// Of a model nothing is known: data moves as fast as this machine's memory lets it.
fn path(flight: &Flight<'_>, facts: &Facts, device: &Device) -> Option<PathLimit> {
    if flight.session.model_name().is_some() {
        return None;
    }
    let port = device.ports.iter().find(|port| port.state.as_deref() == Some("active"))?;
    PathLimit::of(&device.name, port.rate_bits_per_second, &facts.host.topology)
}

fn measure(flight: &Flight<'_>, device: &Device, until: Instant, report: &mut LoopbackReport) -> anyhow::Result<()> {
    let session = flight.session;
    let duration = format!("{}us", flight.arguments.duration.max(Duration::from_millis(1)).as_micros());
    let common = [device.name.as_str(), "--duration", &duration];
    // EFA has datagrams only, which are no longer than a packet.
    let is_datagram = device.transport == "unspecified";
    let own = if is_datagram { ["--op", "send", "--sizes", "64,4k"] } else { ["--op", "write,read", "--sizes", "64,4k"] };
    let words = Ping::try_parse_from(common.iter().chain(&own)).context("ping does not take what preflight asks")?;
    let began = Instant::now();
    report.ping = Some(ping::measured(session, &words.arguments, Some(until))?);
    report.ping_elapsed_us = elapsed(began);
    if report.moves_nothing() {
        return Ok(());
    }
    // Memory of GPUs comes here: the same once more for each of `--memory cuda:N`, with rows of their own in the same documents.
    let own = if is_datagram { ["--op", "send", "--sizes", "4k"] } else { ["--op", "write,read", "--sizes", "64k,1M"] };
    let words =
        Bw::try_parse_from(common.iter().chain(&own).chain(&["--buffer", "hot"])).context("bw does not take what preflight asks")?;
    let began = Instant::now();
    let mut measured = bw::measured(session, &words.arguments, Some(until))?;
    if !is_datagram && measured.problems.is_empty() && measured.stopped.is_none() {
        // Whether one queue pair fills the link is told by more of them.
        let more = ["--op", "write,read", "--sizes", "1M", "--buffer", "hot", "--queue-pairs", "4"];
        let words = Bw::try_parse_from(common.iter().chain(&more)).context("bw does not take what preflight asks")?;
        let more = bw::measured(session, &words.arguments, Some(until))?;
        measured.results.extend(more.results);
        measured.notices.extend(more.notices);
        measured.problems.extend(more.problems);
        measured.stopped = more.stopped;
    }
    report.bw = Some(measured);
    report.bw_elapsed_us = elapsed(began);
    Ok(())
}
