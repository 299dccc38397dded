//! `bw --devices`: each device alone, then all of them at once.

use super::progress::Progress;
use super::session::Session;
use super::{UsageError, bw, ends};
use crate::bench::{AtOnce, BandwidthResult, Request, judge_together};
use crate::devices::Problem;
use crate::schema;
use crate::survey;

/// Measures, prints, and gives the exit code.
pub fn run(session: &Session, request: &Request, devices: &[String]) -> anyhow::Result<u8> {
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
            document.alone.push(bw::measured(session, &request.of_device(device))?);
        }
    }
    let is_whole = document.alone.iter().all(|alone| alone.problems.is_empty() && !alone.results.is_empty());
    if !session.host.interrupted() && is_whole {
        let mut progress = Progress::new("bw", session.output.quiet);
        survey::at_once(&session.host, request, devices, &mut document, &mut |detail| progress.at(detail))?;
    } else if !is_whole {
        document.problems.push(Problem {
            summary: "not all of them can be measured alone, so not all at once".to_owned(),
            next_step: Some("see what is said of each, or leave some out of --devices".to_owned()),
        });
    }
    if session.host.interrupted() {
        document.stopped = Some("interrupted".to_owned());
    }
    let notice = judge_together(&document.together);
    document.notices.extend(notice);
    session.output.print(&document)?;
    let has_failed = document.alone.iter().any(|alone| !alone.problems.is_empty() || alone.results.iter().any(BandwidthResult::is_bad));
    Ok(ends::code(&session.host, !document.problems.is_empty(), has_failed))
}
