//! What queue pairs a host grants, as `qp-matrix` tells it.

use super::answers::unknown_device;
use super::{Attempts, Host, Say, SurveyError};
use crate::capture::Capture;
use crate::devices::{self, Device, Devices, Problem};
use crate::qp::{AskReport, Chosen, QpMatrix};
use crate::schema;

impl Host {
    /// Tries `attempts` on `wanted`, or on all devices; gives the devices too, where they were looked at for that. Of a capture, what was tried
    /// then.
    pub(crate) fn queue_pairs(
        &self,
        wanted: Option<&str>,
        attempts: &Attempts<'_>,
        say: Say<'_>,
    ) -> Result<(QpMatrix, Option<Devices>), SurveyError> {
        if let Some(capture) = self.captured() {
            return Ok((captured(capture, wanted, attempts)?, None));
        }
        self.only_with_devices("qp-matrix")?;
        let mut worker = self.worker()?;
        let (mut found, inventory) = self.seen(&mut worker, wanted)?;
        let verbs = inventory.map(|inventory| inventory.devices).unwrap_or_default();
        let mut matrix =
            QpMatrix { schema: schema::QP_MATRIX.to_owned(), devices: Vec::new(), problems: std::mem::take(&mut found.problems) };
        let asked = |device: &Device| wanted.is_none_or(|wanted| wanted == device.name);
        let usable: Vec<_> = found.usable(&verbs).filter(|(device, _)| asked(device)).collect();
        let tried = attempts.run(&mut worker, &usable, devices::limits(&self.root()), say)?;
        matrix.devices.extend(tried.into_iter().map(|tried| tried.report));
        for device in found.devices.iter().filter(|device| asked(device)) {
            let is_tried = matrix.devices.iter().any(|report| report.device == device.name);
            let interrupted = || Problem { summary: format!("{}: not examined: interrupted", device.name), next_step: None };
            let problem = device.problem.as_ref().map(|problem| problem.of(&device.name));
            matrix.problems.extend(problem.or_else(|| (self.interrupted() && !is_tried).then(interrupted)));
        }
        Ok((matrix, Some(found)))
    }
}

/// The attempts that were made for a capture; no others can be.
fn captured(capture: &Capture, wanted: Option<&str>, attempts: &Attempts<'_>) -> Result<QpMatrix, SurveyError> {
    let unsuited = |text: String| Err(SurveyError::Unsuited(text));
    if !attempts.own.is_empty() || !attempts.grid.is_empty() || attempts.bounds.is_some() || attempts.count.is_some() {
        let text = "--ask, --grid, --bounds and --count try queue pairs on the device itself, and a capture has none; leave --from out";
        return unsuited(text.to_owned());
    }
    let Some(reports) = &capture.facts.queue_pairs else {
        let text = "`qp-matrix` tries queue pairs, and the capture has no attempts; `rdmadoctor capture --level standard --engine NAME` on the host itself makes some";
        return unsuited(text.to_owned());
    };
    unknown_device(wanted, reports.iter().map(|report| report.device.as_str()))?;
    let problems = capture.facts.devices.problems.clone();
    let mut matrix = QpMatrix { schema: schema::QP_MATRIX.to_owned(), devices: Vec::new(), problems };
    let engines = attempts.engines;
    for report in reports.iter().filter(|report| wanted.is_none_or(|wanted| wanted == report.device)) {
        let mut report = report.clone();
        let is_of = |ask: &AskReport, chosen: &Chosen<'_>| {
            ask.engine.as_ref() == Some(&chosen.engine.name) && ask.version.as_ref() == Some(&chosen.release.version)
        };
        if let Some(missing) = engines.iter().find(|chosen| !report.asks.iter().any(|ask| is_of(ask, chosen))) {
            let name = format!("{}@{}", missing.engine.name, missing.release.version);
            return unsuited(format!(
                "the capture has no attempts of {name} on {}; `rdmadoctor capture --engine {name}` on the host itself makes them",
                report.device
            ));
        }
        report.asks.retain(|ask| engines.is_empty() || engines.iter().any(|chosen| is_of(ask, chosen)));
        matrix.devices.push(report);
    }
    Ok(matrix)
}
