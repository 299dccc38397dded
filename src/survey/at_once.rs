//! Several devices at once, after each was measured alone.

use super::measure::{devices_and_addresses, known};
use super::{Host, Onlooker, Say, SurveyError, bandwidth};
use crate::bench::{self, AtOnce, BandwidthResult, BenchError, BenchReport, Hints, Hosts, Lane, Obstacle, Pair, Request};
use crate::devices::Problem;
use crate::schema;
use crate::worker::Worker;

/// Measures each device alone, then all of them at once, each with what it did best alone.
pub(crate) fn at_once(host: &Host, request: &Request, devices: &[String], onlooker: &mut Onlooker<'_>) -> Result<AtOnce, SurveyError> {
    let mut document = AtOnce {
        schema: schema::BW_AT_ONCE.to_owned(),
        alone: Vec::new(),
        together: Vec::new(),
        notices: Vec::new(),
        problems: Vec::new(),
        stopped: None,
    };
    for device in devices {
        if !host.interrupted() {
            let mut alone = bandwidth(host, &request.of_device(device), onlooker)?;
            alone.judge();
            document.alone.push(alone);
        }
    }
    let is_whole = document.alone.iter().all(|alone| alone.problems.is_empty() && !alone.results.is_empty());
    if !host.interrupted() && is_whole {
        together(host, request, devices, &mut document, onlooker.say)?;
    } else if !is_whole {
        document.problems.push(Problem {
            summary: "not all of them can be measured alone, so not all at once".to_owned(),
            next_step: Some("see what is said of each, or leave some out of --devices".to_owned()),
        });
    }
    if host.interrupted() {
        document.stopped = Some("interrupted".to_owned());
    }
    if !document.alone.iter().any(BenchReport::is_simulated) {
        document.notices.extend(bench::judge_together(&document.together));
    }
    Ok(document)
}

fn together(host: &Host, request: &Request, devices: &[String], document: &mut AtOnce, say: Say<'_>) -> Result<(), SurveyError> {
    // A process for each device: they have to run at the same time.
    let mut workers = devices.iter().map(|_| host.worker()).collect::<Result<Vec<Worker>, _>>()?;
    let Some(first) = workers.first_mut() else { return Ok(()) };
    let (found, addresses) = devices_and_addresses(host, first)?;
    let hosts = Hosts { ours: &found.devices, our_addresses: &addresses, theirs: None, answer_within: host.answer_within() };
    let mut plans = Vec::new();
    for device in devices {
        match bench::plan(&request.of_device(device), &hosts) {
            Ok(plan) => plans.push(plan),
            Err(Obstacle::Usage(why)) => return Err(SurveyError::Unsuited(why)),
            Err(obstacle) => {
                document.problems.push(obstacle.into_problem());
                return Ok(());
            }
        }
    }
    let failed = |index: usize, error: &BenchError, hints: &Hints| {
        let problem = bench::explain(error, &known(host, error, hints)).into_problem();
        Problem { summary: format!("all at once: {}: {}", devices[index], problem.summary), ..problem }
    };
    let mut lanes = Vec::new();
    for (index, (worker, plan)) in workers.iter_mut().zip(&plans).enumerate() {
        let mut pair = Pair::new(worker, None, plan.ends.clone(), plan.connection.connect, plan.mark.wrapping_add(1 << 20));
        match pair.open() {
            Ok(facts) => lanes.push(Lane { device: devices[index].clone(), pair, settings: &plan.settings, facts }),
            Err(error) => {
                document.problems.push(failed(index, &error, &plan.hints));
                return Ok(());
            }
        }
    }
    for rows in rows(&document.alone) {
        if host.interrupted() {
            break;
        }
        let Some(first) = rows.first() else { continue };
        say(&format!("all at once: {}, {} bytes", first.operation, first.size_bytes));
        match bench::together(&mut lanes, &rows) {
            Ok(result) => document.together.extend(result),
            Err(_) if host.interrupted() => break,
            Err(failure) => {
                let (index, error) = *failure;
                document.problems.push(failed(index, &error, &plans[index].hints));
                break;
            }
        }
    }
    Ok(())
}

/// Rows of the same operation, size and buffer of all devices, where each has a figure.
fn rows(alone: &[BenchReport<BandwidthResult>]) -> Vec<Vec<&BandwidthResult>> {
    let Some(first) = alone.first() else { return Vec::new() };
    let key = |row: &BandwidthResult| (row.operation, row.size_bytes, row.buffer);
    let same = |row: &BandwidthResult| {
        alone.iter().map(|bench| bench.results.iter().find(|other| key(other) == key(row) && other.bytes_per_second.is_some())).collect()
    };
    first.results.iter().filter_map(same).collect()
}
