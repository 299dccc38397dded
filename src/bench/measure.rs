//! Measuring: for each operation and size a link, a look at the contents, a ramp, a warm-up, and repeats.

use std::time::{Duration, Instant};

use super::counters::{Flow, Watched};
use super::document::{BandwidthResult, Buffer, FailureReport, LatencyResult, Verification};
use super::pair::Pair;
use super::ramp::{Tuning, ramp};
use super::runs::{first_plan, link_plan, part, rate, run};
use super::settings::Settings;
use super::side::BenchError;
use super::staged::{self, Ceilings};
use super::statistics::{Latencies, Spread};
use super::verify::verify;
use crate::transfer::{AccessPattern, BouncePlan, CompletionMode, LinkPlan, Operation, Progress, RunKind, RunPlan, StageFacts, Transport};

/// From how long a message takes on completions are waited for asleep: waking up takes microseconds, and one that asks all the time takes the
/// processor from what moves the data, where that is software.
const SLEEPS_FROM_NS: u64 = 10_000_000;

/// What is measured, and how to tell about it.
pub struct Measurement<'a> {
    /// What was asked.
    pub settings: &'a Settings,
    /// Both ends, as they were opened.
    pub facts: [StageFacts; 2],
    /// Counters around each measurement.
    pub counters: &'a Watched<'a>,
    /// Told what is under way.
    pub say: &'a mut dyn FnMut(&str),
    /// Whether the user wants to stop.
    pub stop: &'a dyn Fn() -> bool,
    /// Explains a failure.
    pub explain: &'a dyn Fn(&BenchError) -> FailureReport,
    /// Whether the process that had the ends is gone.
    pub is_lost: bool,
    /// How much is left, for people; kept while measuring.
    pub left: String,
}

/// What came of an operation and size.
pub enum Done {
    /// Figures of bandwidth.
    Bandwidth(Box<BandwidthResult>),
    /// Figures of latency.
    Latency(Box<LatencyResult>),
}

/// Measures everything that was asked. Tells whether it came to the end.
pub fn measure(pair: &mut Pair<'_>, kind: RunKind, measurement: &mut Measurement<'_>, each: &mut dyn FnMut(Done)) -> bool {
    let (started, mut done) = (Instant::now(), 0);
    let all = measurement.settings.operations.len() * measurement.settings.sizes.len();
    for operation in measurement.settings.operations.clone() {
        for size in measurement.settings.sizes.clone() {
            if (measurement.stop)() {
                return false;
            }
            measurement.left = left(started.elapsed(), done, all);
            done += 1;
            if measurement.settings.impossible(operation, size).is_some() {
                continue;
            }
            (measurement.say)(&format!("{operation}, {size} bytes{}", measurement.left));
            measurement.one(pair, kind, operation, size, each);
        }
    }
    !(measurement.stop)()
}

impl Measurement<'_> {
    /// Explains an error, unless it is the user's wish to stop. Notes whether the process of both ends is gone with it.
    pub(super) fn told(&mut self, error: &BenchError) -> Option<FailureReport> {
        self.is_lost |= matches!(error, BenchError::Worker(_));
        (!is_interrupted(error)).then(|| (self.explain)(error))
    }

    /// Both ends' memory, for people.
    fn memory(&self) -> String {
        let [near, far] = self.facts.each_ref().map(|facts| facts.memory.label());
        if near == far { near } else { format!("{near} and {far}") }
    }

    fn arrives(&self, operation: Operation) -> bool {
        operation == Operation::Send || (self.settings.immediate && operation == Operation::Write)
    }

    fn one(&mut self, pair: &mut Pair<'_>, kind: RunKind, operation: Operation, size: u64, each: &mut dyn FnMut(Done)) {
        let mut verification = None;
        let mut failure = None;
        if self.is_lost {
            // The child that had both ends is gone; a new one may have more luck with the next step.
            match pair.open() {
                Ok(facts) => (self.facts, self.is_lost) = (facts, false),
                Err(error) => failure = self.told(&error),
            }
        }
        let mut link = link_plan(self.settings, &self.facts, kind, operation, size, AccessPattern::Hot);
        if self.settings.verify && failure.is_none() {
            match verify(pair, self.settings, &link, operation, size) {
                Ok(verified) => verification = Some(verified),
                Err(error) => failure = self.told(&error),
            }
        }
        let touches: &[(bool, AccessPattern, Buffer)] =
            &[(self.settings.hot, AccessPattern::Hot, Buffer::Hot), (self.settings.spread, AccessPattern::Spread, Buffer::Spread)];
        if (self.stop)() && failure.is_none() {
            return;
        }
        match kind {
            RunKind::Latency => {
                let row = self.latency(pair, &link, operation, size, verification, failure);
                if row.latencies.is_some() || row.failure.is_some() {
                    each(Done::Latency(Box::new(row)));
                }
            }
            RunKind::Bandwidth => {
                for (_, touch, buffer) in touches.iter().filter(|(is_asked, _, _)| *is_asked) {
                    // The child of an interrupted run is gone, and its ends with it.
                    if (self.stop)() && failure.is_none() {
                        break;
                    }
                    link.receive.iter_mut().for_each(|receive| receive.touch = *touch);
                    let mut row = self.row(operation, size, *buffer);
                    (row.verification, row.failure) = (verification.clone(), failure.clone());
                    if row.failure.is_none()
                        && let Err(error) = self.bandwidth(pair, &link, *touch, &mut row)
                    {
                        row.failure = self.told(&error);
                    }
                    // What an interruption has left without any figure is not shown.
                    if row.bytes_per_second.is_some() || row.failure.is_some() {
                        each(Done::Bandwidth(Box::new(row)));
                    }
                }
            }
        }
    }

    fn row(&self, operation: Operation, size: u64, buffer: Buffer) -> BandwidthResult {
        BandwidthResult {
            operation,
            memory: self.memory(),
            buffer,
            size_bytes: size,
            bidirectional: self.settings.bidirectional,
            queue_pairs: self.settings.queue_pairs,
            depth: 0,
            batch: 0,
            inline: false,
            completion: self.settings.completing.unwrap_or(CompletionMode::Poll),
            messages: 0,
            bytes_per_second: None,
            messages_per_second: None,
            cpu_us_per_gib: None,
            staged: None,
            lost_percent: None,
            verification: None,
            counters: Vec::new(),
            carried: Vec::new(),
            failure: None,
        }
    }

    fn bandwidth(
        &mut self,
        pair: &mut Pair<'_>,
        link: &LinkPlan,
        touch: AccessPattern,
        row: &mut BandwidthResult,
    ) -> Result<(), BenchError> {
        let (operation, size, settings) = (row.operation, row.size_bytes, self.settings);
        let arrives = self.arrives(operation);
        let receives = [arrives && settings.bidirectional, arrives];
        pair.link(link, receives)?;
        let plan = RunPlan { operation, size_bytes: size as u32, touch, ..first_plan(settings, RunKind::Bandwidth) };
        // A staged transfer has its own depth, which is that of its slots.
        let plan = if settings.staged {
            let chunk_bytes = staged::chunk(settings, pair, &plan)?;
            RunPlan { staged: BouncePlan { chunk_bytes, ..BouncePlan::default() }, ..plan }
        } else {
            let (way, completion) = self.way(pair, link, &plan, receives)?;
            row.completion = completion;
            (row.depth, row.batch, row.inline) = (way.depth, way.batch, way.inline);
            RunPlan { depth: way.depth, batch: way.batch, inline: way.inline, ..plan }
        };
        let mut ceilings = Ceilings::default();
        // What the ramp has not warmed, a part of a run does.
        run(settings, pair, &RunPlan { limit: part(settings.limit), ..plan.clone() }, &mut |_| {})?;
        let before = self.counters.read(pair)?;
        let (mut rates, mut bytes, mut cpu_ns) = (Vec::new(), 0_u64, 0_u64);
        let (mut sent, mut arrived) = (0_u64, 0_u64);
        let mut payload = [0_u64; 2];
        for repeat in 1..=settings.repeats.max(1) {
            let (say, left) = (&mut *self.say, &self.left);
            let mut told = |progress: Progress| {
                let rate = progress.bytes as f64 / (progress.elapsed_ns.max(1) as f64 / 1e9) / 1e6;
                say(&format!("{operation}, {size} bytes, {repeat} of {}: {rate:.1} MB/s{left}", settings.repeats));
            };
            let mut last = Progress::default();
            let mut each = |progress: Progress| {
                last = progress;
                told(progress);
            };
            let results = match run(settings, pair, &RunPlan { limit: settings.limit, ..plan.clone() }, &mut each) {
                Err(error) if is_interrupted(&error) => {
                    // What has moved by then is a figure too, if a short one.
                    if last.elapsed_ns > 0 && rates.is_empty() {
                        rates.push(last.bytes as f64 / (last.elapsed_ns as f64 / 1e9));
                        sent = last.messages;
                    }
                    break;
                }
                results => results?,
            };
            let whole = rate(settings, arrives, &results);
            rates.push(whole);
            if settings.staged && !(self.stop)() {
                match ceilings.measure(settings, pair, &RunPlan { limit: settings.limit, ..plan.clone() }, whole) {
                    Err(error) if !is_interrupted(&error) => return Err(error),
                    _ => {}
                }
            }
            for (result, payload) in results.iter().zip(&mut payload) {
                bytes += result.sent.bytes;
                *payload += result.sent.bytes;
                sent += result.sent.messages;
                arrived += result.received.messages;
            }
            cpu_ns += if pair.is_loopback() { results[0].cpu_ns } else { results[0].cpu_ns + results[1].cpu_ns };
            if (self.stop)() {
                break;
            }
        }
        // Data of a read goes the other way than its request.
        if operation == Operation::Read {
            payload.reverse();
        }
        let may_be_lost = settings.transport != Transport::Rc;
        let flows = payload.map(|bytes| Flow { may_be_lost, ..Flow::of(bytes, size, settings.mtu_bytes) });
        (row.counters, row.carried) = self.counters.since(&before, pair, flows, self.stop)?;
        row.messages = sent;
        row.staged = ceilings.report(plan.staged.chunk_bytes);
        row.bytes_per_second = Spread::of(&rates);
        row.messages_per_second = row.bytes_per_second.map(|rate| rate.median / size as f64);
        row.cpu_us_per_gib = (bytes > 0).then(|| cpu_ns as f64 / 1000.0 / (bytes as f64 / f64::from(1 << 30)));
        if arrives && settings.transport != Transport::Rc && sent > 0 {
            row.lost_percent = Some((1.0 - arrived as f64 / sent as f64).max(0.0) * 100.0);
        }
        Ok(())
    }

    /// The depth, the chain and the way of waiting that bring most. The queue pairs are those that it takes.
    fn way(
        &self,
        pair: &mut Pair<'_>,
        link: &LinkPlan,
        plan: &RunPlan,
        receives: [bool; 2],
    ) -> Result<(Tuning, CompletionMode), BenchError> {
        let way = ramp(self.settings, pair, link, plan)?;
        let is_slow = way.message_ns >= SLEEPS_FROM_NS;
        let shares_processor = way.rate > 0.0 && self.facts.iter().any(|facts| facts.processors == Some(1));
        if self.settings.completing.is_some() || !(is_slow || shares_processor) {
            return Ok((way, link.completing));
        }
        // Who asks all the time takes the one processor from what moves the data; but waking up costs something too.
        let asleep = LinkPlan { completing: CompletionMode::Event, ..link.clone() };
        let tried = pair.link(&asleep, receives).and_then(|()| if is_slow { Ok(way) } else { ramp(self.settings, pair, &asleep, plan) });
        match tried {
            Ok(other) if is_slow || other.rate > way.rate => Ok((other, asleep.completing)),
            // Nobody asked for events: where there are none to be had, or less comes of them, completions are asked for.
            Ok(_) | Err(BenchError::End { .. }) => pair.link(link, receives).map(|()| (way, link.completing)),
            Err(error) => Err(error),
        }
    }

    fn latency(
        &mut self,
        pair: &mut Pair<'_>,
        link: &LinkPlan,
        operation: Operation,
        size: u64,
        verification: Option<Verification>,
        failure: Option<FailureReport>,
    ) -> LatencyResult {
        let inline = link.inline_bytes > 0;
        let mut row = LatencyResult {
            operation,
            memory: self.memory(),
            size_bytes: size,
            inline,
            completion: link.completing,
            is_half_round_trip: operation != Operation::Read,
            latencies: None,
            p50_us: None,
            verification,
            counters: Vec::new(),
            carried: Vec::new(),
            failure,
        };
        if row.failure.is_none()
            && let Err(error) = self.ping_pong(pair, link, &mut row)
        {
            row.failure = self.told(&error);
        }
        row
    }

    fn ping_pong(&mut self, pair: &mut Pair<'_>, link: &LinkPlan, row: &mut LatencyResult) -> Result<(), BenchError> {
        let (settings, operation, size) = (self.settings, row.operation, row.size_bytes);
        let arrives = self.arrives(operation);
        pair.link(link, [arrives, arrives])?;
        let first = first_plan(settings, RunKind::Latency);
        let plan = RunPlan { operation, size_bytes: size as u32, inline: row.inline, depth: link.send_depth, ..first };
        run(settings, pair, &RunPlan { limit: part(settings.limit), ..plan.clone() }, &mut |_| {})?;
        let before = self.counters.read(pair)?;
        let (mut medians, mut samples) = (Vec::new(), Vec::new());
        for repeat in 1..=settings.repeats.max(1) {
            let (say, left) = (&mut *self.say, &self.left);
            let mut told = |progress: Progress| {
                say(&format!("{operation}, {size} bytes, {repeat} of {}: {} messages{left}", settings.repeats, progress.messages));
            };
            let result = match run(settings, pair, &RunPlan { limit: settings.limit, ..plan.clone() }, &mut told) {
                Err(error) if is_interrupted(&error) => break,
                results => results?[0].clone(),
            };
            medians.extend(Latencies::of(&result.latencies).map(|latencies| latencies.p50_us));
            samples.extend(result.latencies);
            if (self.stop)() {
                break;
            }
        }
        // A message there and one back, of those that came back; of a read only what it brings.
        let bytes = samples.iter().map(|(_, count)| count).sum::<u64>().saturating_mul(size);
        let there = Flow::of(if operation == Operation::Read { 0 } else { bytes }, size, settings.mtu_bytes);
        let flows = [there, Flow::of(bytes, size, settings.mtu_bytes)];
        (row.counters, row.carried) = self.counters.since(&before, pair, flows, self.stop)?;
        row.latencies = Latencies::of(&samples);
        row.p50_us = Spread::of(&medians);
        Ok(())
    }
}

/// How many of the measurements are left and about how long they take, going by those that are done.
fn left(elapsed: Duration, done: usize, all: usize) -> String {
    let rest = all.saturating_sub(done);
    if done == 0 || rest == 0 {
        return String::new();
    }
    let seconds = elapsed.as_secs_f64() / done as f64 * rest as f64;
    format!(" ({rest} of {all} left, about {seconds:.0} s)")
}

fn is_interrupted(error: &BenchError) -> bool {
    matches!(error, BenchError::Worker(crate::worker::Failure::Interrupted))
}
