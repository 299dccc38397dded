//! Several pairs at once: whether devices share something that one of them alone does not fill.

use super::document::{BandwidthResult, Buffer, Share, TogetherResult};
use super::pair::Pair;
use super::runs::{link_plan, part, rate, run_plans};
use super::settings::Settings;
use super::side::BenchError;
use super::statistics::Spread;
use crate::transfer::{AccessPattern, LinkPlan, RunKind, RunPlan, RunResult, StageFacts};

/// A device that takes part.
pub struct Lane<'a, 'b> {
    pub device: String,
    /// Both ends of its connection, in one process of their own.
    pub pair: Pair<'b>,
    /// What was asked.
    pub settings: &'a Settings,
    /// Both ends, as they were opened.
    pub facts: [StageFacts; 2],
}

/// Runs one operation and size on all lanes at once, each with what it did best with `alone`: depth, chain, payload in the request and
/// way of waiting.
///
/// # Errors
/// Data does not move; the number is that of the lane.
pub fn together(lanes: &mut [Lane<'_, '_>], alone: &[&BandwidthResult]) -> Result<Option<TogetherResult>, Box<(usize, BenchError)>> {
    let mut plans = Vec::new();
    for (index, (lane, alone)) in lanes.iter_mut().zip(alone).enumerate() {
        let touch = if alone.buffer == Buffer::Hot { AccessPattern::Hot } else { AccessPattern::Spread };
        let link = link_plan(lane.settings, &lane.facts, RunKind::Bandwidth, alone.operation, alone.size_bytes, touch);
        let link = LinkPlan { completing: alone.completion, ..link };
        let arrives = link.receive.is_some();
        lane.pair.link(&link, [arrives && lane.settings.bidirectional, arrives]).map_err(|error| Box::new((index, error)))?;
        plans.push(RunPlan {
            operation: alone.operation,
            size_bytes: u32::try_from(alone.size_bytes).unwrap_or(u32::MAX),
            touch,
            depth: alone.depth.max(1),
            batch: alone.batch.max(1),
            inline: alone.inline,
            ..super::runs::first_plan(lane.settings, RunKind::Bandwidth)
        });
    }
    let Some(first) = lanes.first() else { return Ok(None) };
    let repeats = first.settings.repeats.max(1);
    let (mut sums, mut each) = (Vec::new(), vec![Vec::new(); lanes.len()]);
    // The first time is for warming up.
    for repeat in 0..=repeats {
        let mut begun = Vec::new();
        for (index, (lane, plan)) in lanes.iter_mut().zip(&plans).enumerate() {
            let limit = if repeat == 0 { part(plan.limit) } else { plan.limit };
            let plans = run_plans(lane.settings, true, &RunPlan { limit, ..plan.clone() });
            lane.pair.begin(plans).map_err(|error| Box::new((index, error)))?;
            begun.push(index);
        }
        let mut results: Vec<[RunResult; 2]> = Vec::new();
        for index in begun {
            results.push(lanes[index].pair.end(&mut |_| {}).map_err(|error| Box::new((index, error)))?);
        }
        if repeat > 0 {
            let rates: Vec<f64> = lanes
                .iter()
                .zip(&plans)
                .zip(&results)
                .map(|((lane, plan), results)| rate(lane.settings, plan.arrives(), results))
                .collect();
            sums.push(rates.iter().sum());
            each.iter_mut().zip(rates).for_each(|(all, rate)| all.push(rate));
        }
    }
    let median = |rate: Option<Spread>| rate.map_or(0.0, |rate| rate.median);
    let devices: Vec<Share> = lanes
        .iter()
        .zip(alone)
        .zip(&each)
        .map(|((lane, alone), rates)| Share {
            device: lane.device.clone(),
            completion: alone.completion,
            alone_bytes_per_second: median(alone.bytes_per_second),
            together_bytes_per_second: median(Spread::of(rates)),
        })
        .collect();
    let alone_sum: f64 = devices.iter().map(|share| share.alone_bytes_per_second).sum();
    let (operation, size_bytes, buffer) = (alone[0].operation, alone[0].size_bytes, alone[0].buffer);
    Ok(Spread::of(&sums).filter(|_| alone_sum > 0.0).map(|together| TogetherResult {
        operation,
        size_bytes,
        buffer,
        alone_bytes_per_second: alone_sum,
        together_bytes_per_second: together,
        kept_percent: together.median / alone_sum * 100.0,
        devices,
    }))
}
