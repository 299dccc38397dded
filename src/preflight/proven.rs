//! The transfer profile: made, written where that was asked for, and checked at once.

use std::path::Path;
use std::time::{Duration, Instant};

use super::flight::{Flight, elapsed, missing};
use super::steps::profile_step;
use super::{ProfileStep, Step, StepName};
use crate::bench::LoopbackReport;
use crate::checks::Status;
use crate::profile::{self, Examination, Measured, Unmeasured, save};
use crate::survey::SurveyError;

/// With less time than this there is no profile worth having.
const LEAST: Duration = Duration::from_secs(1);

/// Of the time that is left, the part in which attempts are made again.
const CHECK_PART: u32 = 4;

/// Makes the profile in the time that is left.
pub(super) fn make(flight: &Flight<'_>, measured: &[LoopbackReport], left: Duration) -> Result<(Step, Option<ProfileStep>), SurveyError> {
    let (host, request, file) = (flight.host, flight.request, flight.request.profile_out);
    if host.interrupted() {
        return Ok((missing(StepName::Profile, "interrupted"), None));
    }
    if left < LEAST {
        let why = format!("{:.1} s of the time budget were left for it", left.as_secs_f32());
        return Ok((missing(StepName::Profile, &why), None));
    }
    let began = Instant::now();
    // Without engines, a profile for all of them.
    let every;
    let engines = if request.engines.is_empty() {
        every = profile::engines(request.catalog, &[])?;
        &every
    } else {
        request.engines
    };
    let examination = Examination {
        host,
        catalog: request.catalog,
        engines,
        kv_bytes: None,
        budget: left - left / CHECK_PART,
        duration: Some(request.duration),
        // The speed of a simulation is no figure of a device: it is verified once more, and not timed.
        done: host.model_name().is_none().then(|| transfers(measured)),
    };
    let profile = examination.run(&mut |text| (flight.say)(text))?;
    if host.interrupted() {
        return Ok((missing(StepName::Profile, "interrupted; none was written"), None));
    }
    let text = profile::to_yaml(&profile).map_err(SurveyError::own("cannot write a profile down"))?;
    if let Some(Err(error)) = file.map(|file| save(file, &text)) {
        // The rest of the report is not lost with it.
        let failed = Step { status: Status::Fail, is_missing: false, summary: error.to_string(), ..missing(StepName::Profile, "") };
        return Ok((failed, None));
    }
    let again = profile::compare(host, file.unwrap_or(Path::new("-")), &profile, left / CHECK_PART)?;
    let made = ProfileStep {
        file: file.map(|file| file.display().to_string()),
        is_validated: profile.validated,
        unvalidated: profile.unvalidated,
        attempts_repeated: again.attempts_repeated,
        stale: again.stale,
    };
    let has_limits = profile.devices.iter().any(|port| !port.qp.limits.is_empty());
    // A host without devices has been told so.
    let step = profile_step(&made, has_limits);
    Ok((Step { elapsed_us: elapsed(began), ..step }, Some(made)))
}

/// What was measured, as a profile has it.
fn transfers(measured: &[LoopbackReport]) -> (Vec<Measured>, Vec<Unmeasured>) {
    let (mut timed, mut lacking) = (Vec::new(), Vec::new());
    for report in measured {
        let lack = |why: &str| Unmeasured { device: Some(report.device.clone()), port: None, why: why.to_owned() };
        lacking.extend(report.not_run.as_deref().map(lack));
        let ping = report.ping.iter().filter_map(|ping| Some((ping.connection.as_ref()?, ping)));
        let ping = ping.flat_map(|(connection, ping)| ping.results.iter().map(move |row| Measured::latency(connection, row)));
        let bw = report.bw.iter().filter_map(|bw| Some((bw.connection.as_ref()?, bw)));
        let bw = bw.flat_map(|(connection, bw)| bw.results.iter().map(move |row| Measured::bandwidth(connection, row)));
        for row in ping.chain(bw) {
            match row {
                Ok(row) => timed.push(row),
                Err(lack) => lacking.push(lack),
            }
        }
        let problems = report.ping.iter().flat_map(|ping| &ping.problems).chain(report.bw.iter().flat_map(|bw| &bw.problems));
        lacking.extend(problems.map(|problem| lack(&problem.summary)));
        let stopped =
            report.ping.iter().filter_map(|ping| ping.stopped.as_deref()).chain(report.bw.iter().filter_map(|bw| bw.stopped.as_deref()));
        lacking.extend(stopped.map(lack));
    }
    (timed, lacking)
}
