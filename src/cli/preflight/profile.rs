//! The transfer profile: made, written where that was asked for, and checked at once.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;

use super::super::profile::{check, write};
use super::{Flight, elapsed, missing};
use crate::checks::Status;
use crate::preflight::{ProfileStep, Step, StepName, profile_step};
use crate::profile::save;

/// `profile write` with the words of a command line: whatever has a default there has it here.
#[derive(Parser)]
#[command(no_binary_name = true)]
struct Words {
    #[command(flatten)]
    arguments: write::Arguments,
}

/// With less time than this there is no profile worth having.
const LEAST: Duration = Duration::from_secs(1);

/// Of the time that is left, the part in which attempts are made again.
const CHECK_PART: u32 = 4;

/// Makes the profile in the time that is left.
pub fn make(flight: &Flight<'_>, left: Duration) -> anyhow::Result<(Step, Option<ProfileStep>)> {
    let (session, file) = (flight.session, flight.arguments.profile_out.as_deref());
    if session.interrupted() {
        return Ok((missing(StepName::Profile, "interrupted"), None));
    }
    if left < LEAST {
        let why = format!("{:.1} s of the time budget were left for it", left.as_secs_f32());
        return Ok((missing(StepName::Profile, &why), None));
    }
    let began = Instant::now();
    let budget = format!("{}ms", (left - left / CHECK_PART).as_millis());
    let words = Words::try_parse_from(["--budget", &budget]).context("profile write does not take what preflight asks")?;
    // Without engines, a profile for all of them.
    let every;
    let engines = if flight.engines.is_empty() {
        every = write::chosen(flight.catalog, &[])?;
        &every
    } else {
        flight.engines
    };
    let profile = write::examine(session, &words.arguments, flight.catalog, engines)?;
    if session.interrupted() {
        return Ok((missing(StepName::Profile, "interrupted; none was written"), None));
    }
    let text = profile.to_yaml()?;
    if let Some(Err(error)) = file.map(|file| save(file, &text)) {
        // The rest of the report is not lost with it.
        let failed = Step { status: Status::Fail, is_missing: false, summary: error.to_string(), ..missing(StepName::Profile, "") };
        return Ok((failed, None));
    }
    let again = check::compare(session, file.unwrap_or(Path::new("-")), &profile, left / CHECK_PART)?;
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
