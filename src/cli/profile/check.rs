//! `rdmadoctor profile check`.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;

use super::super::session::Session;
use super::super::{exit, values};
use super::{ProfileFile, load, of_this_host};
use crate::profile;
use crate::profile::{Now, Profile, ProfileCheck, Seen, check};
use crate::qp::{Outcome, QpRequest, QpType};
use crate::survey::Host;
use crate::worker::{Connect, Failure, Worker};

/// Arguments of `profile check`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    profile: ProfileFile,
    /// Time at most for making attempts again, cheapest first; what they leave stands with the fingerprint.
    #[arg(long, value_name = "TIME", default_value = "120ms", value_parser = values::duration)]
    within: Duration,
}

/// Checks and tells; exit code 1 where something is stale.
pub fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<u8> {
    session.host.only_with_devices("profile check")?;
    let file = &arguments.profile.profile;
    let profile = load(file)?;
    let found = compare(session, file, &profile, arguments.within)?;
    session.output.print(&found)?;
    Ok(if found.is_fresh { exit::OK } else { exit::FAILED })
}

/// Compares a profile with this host.
pub(in crate::cli) fn compare(session: &Session, file: &Path, profile: &Profile, within: Duration) -> anyhow::Result<ProfileCheck> {
    let started = Instant::now();
    of_this_host(session, profile)?;
    let mut worker = session.host.worker()?;
    let inventory = Host::inventory(&mut worker, None)?;
    let seen = Seen::look(session.host.name(), &session.host.root(), &inventory);
    let connections = connections(&mut worker, profile, &seen);
    let attempts = attempts(&mut worker, profile, &seen, Instant::now() + within);
    let now = Now { seen: &seen, attempts: &attempts, connections: &connections };
    let mut found = check(&file.display().to_string(), profile, &now);
    found.elapsed_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    Ok(found)
}

fn connections(worker: &mut Worker, profile: &Profile, seen: &Seen) -> HashMap<(String, u32), String> {
    let mut reached = HashMap::new();
    for (device, port) in profile::connected(profile) {
        let Ok(number) = u8::try_from(port) else { continue };
        let gid_index = seen.port(device, port).and_then(|(_, port)| port.best_gid_index());
        let found = match worker.ask(Connect { device: device.to_owned(), port: number, gid_index, request: QpRequest::base(QpType::RC) }) {
            Ok(connected) => connected.reached,
            // It was not found out, which is no change.
            Err(Failure::Interrupted | Failure::Broken(_)) => continue,
            Err(failure) => failure.to_string(),
        };
        reached.insert((device.to_owned(), port), found);
    }
    reached
}

/// Makes decisive attempts again, as many as fit; each device has its share of the time.
fn attempts(worker: &mut Worker, profile: &Profile, seen: &Seen, deadline: Instant) -> HashMap<(String, QpRequest), Outcome> {
    let mut outcomes = HashMap::new();
    let decisive = profile::decisive(profile);
    let mut devices: Vec<&str> = decisive.iter().map(|(device, _, _)| *device).filter(|device| seen.verbs(device).is_some()).collect();
    devices.sort_unstable();
    devices.dedup();
    for (index, device) in devices.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let until = Instant::now() + left / u32::try_from(devices.len() - index).unwrap_or(1).max(1);
        let requests: Vec<QpRequest> =
            decisive.iter().filter(|(name, _, _)| name == device).map(|(_, request, _)| request.clone()).collect();
        // A large completion queue takes long to make, and an attempt under way is not broken off: so portions grow only with what is left.
        worker.attempts(device, &requests, &mut |at, outcome| {
            outcomes.insert(((*device).to_owned(), requests[at].clone()), outcome);
            Instant::now() < until
        });
    }
    outcomes
}
