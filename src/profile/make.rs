//! A profile from what was found out before, by `profile write` or by another command; what it needs beside is tried here.

use super::Profile;
use super::assemble::{Examined, Material, assemble};
use super::trial::{recommend, trials};
use crate::qp::{DeviceAttempter, Outcome, QpRequest};
use crate::survey::SurveyError;
use crate::worker::Worker;

/// Tries a request near what engines need on each device, and each engine with its settings, and makes the profile.
pub fn make(material: &Material<'_>, worker: &mut Worker) -> Profile {
    let mut recommended: Vec<(String, QpRequest, Outcome)> = Vec::new();
    for tried in material.tried {
        let device = &tried.report.device;
        let mut attempter = DeviceAttempter { worker, device };
        let found = recommend(&tried.report.bounds, &mut attempter);
        recommended.extend(found.map(|(request, outcome)| (device.clone(), request, outcome)));
    }
    let trials = trials(material.tried, &mut |device, request| {
        let mut outcome = Outcome::NotRun { why: "no answer".to_owned() };
        worker.attempts(device, std::slice::from_ref(request), &mut |_, found| {
            outcome = found;
            true
        });
        outcome
    });
    assemble(&Examined { material, recommended: &recommended, trials: &trials })
}

/// Now, as a profile writes it.
pub(crate) fn now() -> Result<String, SurveyError> {
    let now = jiff::Timestamp::now().round(jiff::Unit::Second);
    Ok(now.map_err(SurveyError::own("cannot tell the time"))?.to_string())
}
