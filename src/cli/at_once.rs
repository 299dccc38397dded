//! `bw --devices`: each device alone, then all of them at once.

use super::UsageError;
use super::bw::{alone, is_bad};
use super::ends::{self, Hosts, Obstacle, Own};
use super::progress::Progress;
use super::session::Session;
use crate::bench::{self, AtOnce, BandwidthResult, Bench, Lane, Notice, Pair, TogetherResult};
use crate::devices;
use crate::devices::Problem;
use crate::host::net::NetFacts;
use crate::host::part::Asked;
use crate::host::rdma::RdmaFacts;
use crate::schema;
use crate::transfer::Completing;
use crate::worker::Worker;

/// Measures, prints, and gives the exit code.
pub fn run(session: &Session, arguments: &ends::Arguments, own: &Own, devices: &[String]) -> anyhow::Result<u8> {
    if let Some(twice) = devices.iter().enumerate().find(|(index, device)| devices[..*index].contains(device)) {
        return Err(UsageError(format!("--devices names {} twice", twice.1)).into());
    }
    let mut document = AtOnce {
        schema: schema::BW_AT_ONCE.to_owned(),
        alone: Vec::new(),
        together: Vec::new(),
        notices: Vec::new(),
        problems: Vec::new(),
        stopped: None,
    };
    for device in devices {
        if !session.host.interrupted() {
            document.alone.push(alone(session, &arguments.of_device(device), own)?);
        }
    }
    let is_whole = document.alone.iter().all(|alone| alone.problems.is_empty() && !alone.results.is_empty());
    if !session.host.interrupted() && is_whole {
        all(session, arguments, own, devices, &mut document)?;
    } else if !is_whole {
        document.problems.push(Problem {
            summary: "not all of them can be measured alone, so not all at once".to_owned(),
            next_step: Some("see what is said of each, or leave some out of --devices".to_owned()),
        });
    }
    if session.host.interrupted() {
        document.stopped = Some("interrupted".to_owned());
    }
    let notice = judge(&document.together);
    document.notices.extend(notice);
    session.output.print(&document)?;
    let has_failed = document.alone.iter().any(|alone| !alone.problems.is_empty() || alone.results.iter().any(is_bad));
    Ok(ends::code(session, !document.problems.is_empty(), has_failed))
}

/// Rows of the same operation, size and buffer of all devices, where each has a figure.
fn rows(alone: &[Bench<BandwidthResult>]) -> Vec<Vec<BandwidthResult>> {
    let Some(first) = alone.first() else { return Vec::new() };
    let key = |row: &BandwidthResult| (row.operation, row.size_bytes, row.buffer);
    let same = |row: &BandwidthResult| {
        alone
            .iter()
            .map(|bench| bench.results.iter().find(|other| key(other) == key(row) && other.bytes_per_second.is_some()).cloned())
            .collect()
    };
    first.results.iter().filter_map(same).collect()
}

fn all(session: &Session, arguments: &ends::Arguments, own: &Own, devices: &[String], document: &mut AtOnce) -> anyhow::Result<()> {
    let mut reader = session.host.reader(Asked::default(), None)?;
    let (sysfs, net) = (reader.get::<RdmaFacts>()?, reader.get::<NetFacts>()?);
    drop(reader);
    // A process for each device: they have to run at the same time.
    let mut workers = devices.iter().map(|_| session.host.worker()).collect::<Result<Vec<Worker>, _>>()?;
    let inventory = workers.first_mut().map(|worker| worker.inventory(None));
    let found = devices::collect(&sysfs, inventory.as_ref());
    let hosts = Hosts { ours: &found.devices, our_addresses: &net.addresses, theirs: None };
    let patience = u64::try_from(session.host.answer_within().as_millis()).unwrap_or(u64::MAX) * 4 / 5;
    let mut chosen = Vec::new();
    for device in devices {
        match ends::choose(&arguments.of_device(device), own, &hosts) {
            Ok(mut choice) => {
                choice.settings.patience_ms = patience;
                chosen.push(choice);
            }
            Err(Obstacle::Usage(error)) => return Err(error.into()),
            Err(Obstacle::Problem(problem)) => {
                document.problems.push(problem);
                return Ok(());
            }
        }
    }
    let failed = |index: usize, error: &bench::BenchError, hints: &bench::Known| {
        let report = bench::explain(error, &ends::known(session, error, hints));
        let causes: String = report.causes.iter().map(|cause| format!("; likely: {cause}")).collect();
        Problem {
            summary: format!("all at once: {}: {}: {}{causes}", devices[index], report.step, report.summary),
            next_step: report.next_step,
        }
    };
    let mut lanes = Vec::new();
    for (index, (worker, choice)) in workers.iter_mut().zip(&chosen).enumerate() {
        let mut pair = Pair::new(worker, None, choice.ends.clone(), choice.connection.connect, choice.mark.wrapping_add(1 << 20));
        match pair.open() {
            Ok(facts) => lanes.push(Lane { device: devices[index].clone(), pair, settings: &choice.settings, facts }),
            Err(error) => {
                document.problems.push(failed(index, &error, &choice.hints));
                return Ok(());
            }
        }
    }
    let mut progress = Progress::new("bw", session.output.quiet);
    for rows in rows(&document.alone) {
        if session.host.interrupted() {
            break;
        }
        let Some(first) = rows.first() else { continue };
        progress.at(&format!("all at once: {}, {} bytes", first.operation, first.size_bytes));
        match bench::together(&mut lanes, &rows.iter().collect::<Vec<_>>()) {
            Ok(result) => document.together.extend(result),
            Err(_) if session.host.interrupted() => break,
            Err(failure) => {
                let (index, error) = *failure;
                document.problems.push(failed(index, &error, &chosen[index].hints));
                break;
            }
        }
    }
    Ok(())
}

/// What all at once say beside each alone. Less than the sum, by more than repeats differ, means that they share something.
fn judge(together: &[TogetherResult]) -> Option<Notice> {
    let is_less = |row: &&TogetherResult| row.together_bytes_per_second.max < row.alone_bytes_per_second;
    let worst = together.iter().filter(is_less).min_by(|left, right| left.kept_percent.total_cmp(&right.kept_percent))?;
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let count = worst.devices.len();
    let mut causes = Vec::new();
    if processors < count {
        let unit = if processors == 1 { "processor" } else { "processors" };
        let polls = worst.devices.iter().filter(|share| share.completion == Completing::Poll).count();
        let asleep = if polls > 0 { format!(", or --completion event: {polls} of them poll") } else { String::new() };
        causes.push(format!("{count} processes move data, and may use {processors} {unit}: give them more{asleep}"));
    }
    causes.push("they share a PCIe switch, an uplink or memory of one NUMA node: `rdmadoctor topo` shows what hangs where".to_owned());
    causes.push("they are ports of one adapter, which has one bus and one engine for both".to_owned());
    Some(Notice {
        summary: format!(
            "all at once keep {:.0} % of what the devices reach alone ({} of {} bytes)",
            worst.kept_percent, worst.operation, worst.size_bytes
        ),
        causes,
    })
}
