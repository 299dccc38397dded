//! A profile held against a host: what it depends on is read again, and what it rests on is tried again.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{HostSnapshot, Now, Profile, ProfileCheck, check, connected, decisive};
use crate::qp::{Outcome, QpRequest, QpType};
use crate::survey::{Host, SurveyError};
use crate::worker::{Connect, Failure, Worker};

/// Refuses to compare a profile with a host that it cannot belong to.
pub(crate) fn of_this_host(host: &Host, profile: &Profile) -> Result<(), SurveyError> {
    let unsuited = |why: String| Err(SurveyError::Unsuited(why));
    match (profile.host.model.as_deref(), host.model_name()) {
        (Some(model), Some(shown)) if model == shown => Ok(()),
        (None, None) => Ok(()),
        (Some(model), _) => unsuited(format!("the profile is of the modelled host {model}: give --host-model {model}")),
        (None, Some(shown)) => unsuited(format!("the profile is of a real host ({}), and --host-model shows {shown}", profile.host.name)),
    }
}

/// Compares a profile with this host.
pub(crate) fn compare(host: &Host, file: &Path, profile: &Profile, within: Duration) -> Result<ProfileCheck, SurveyError> {
    let started = Instant::now();
    of_this_host(host, profile)?;
    let mut worker = host.worker()?;
    let inventory = Host::inventory(&mut worker, None)?;
    let seen = HostSnapshot::look(host.name(), &host.root(), &inventory);
    let connections = connections(&mut worker, profile, &seen);
    let attempts = attempts(&mut worker, profile, &seen, Instant::now() + within);
    let now = Now { seen: &seen, attempts: &attempts, connections: &connections };
    let mut found = check(&file.display().to_string(), profile, &now);
    found.elapsed_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    Ok(found)
}

fn connections(worker: &mut Worker, profile: &Profile, seen: &HostSnapshot) -> HashMap<(String, u32), String> {
    let mut reached = HashMap::new();
    for (device, port) in connected(profile) {
        let Ok(number) = u8::try_from(port) else { continue };
        let gid_index = seen.port(device, port).and_then(|(_, port)| port.best_gid_index());
        let found = match worker.ask(Connect { device: device.to_owned(), port: number, gid_index, request: QpRequest::base(QpType::RC) }) {
            Ok(connected) => connected.reached.to_string(),
            // It was not found out, which is no change.
            Err(Failure::Interrupted | Failure::Broken(_)) => continue,
            Err(failure) => failure.to_string(),
        };
        reached.insert((device.to_owned(), port), found);
    }
    reached
}

/// Makes decisive attempts again, as many as fit; each device has its share of the time.
fn attempts(worker: &mut Worker, profile: &Profile, seen: &HostSnapshot, deadline: Instant) -> HashMap<(String, QpRequest), Outcome> {
    let mut outcomes = HashMap::new();
    let decisive = decisive(profile);
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
