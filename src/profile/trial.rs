//! What an engine needs on this host: the settings of all its queue pairs on all devices taken together, and tried together.

use rdmadoctor_types::OutcomeKind;

use super::EngineVerdict;
use crate::catalog::engine::Connect;
use crate::qp::{AskReport, Attempter, Bound, Outcome, Parameter, QpRequest, QpType, Remedy, Value};
use crate::request::{Ask, AskOrigin, Setting};
use crate::survey::Tried;

/// An engine's release on all devices.
#[derive(Debug, Clone)]
pub struct Trial {
    pub engine: String,
    pub version: String,
    /// How it connects queue pairs.
    pub connect: Option<Connect>,
    /// Settings, with the values that all devices grant.
    pub settings: Vec<(Setting, String)>,
    pub devices: Vec<DeviceTrial>,
}

/// An engine's release on one device.
#[derive(Debug, Clone)]
pub struct DeviceTrial {
    pub device: String,
    /// What came of it.
    pub verdict: EngineVerdict,
    /// What was tried last for each queue pair, and what came of it: with the settings where they are needed.
    pub attempts: Vec<(Ask, QpRequest, Outcome)>,
    /// What stands in the way: queue pair by queue pair, what was tried and why it fails.
    pub obstacles: Vec<(String, QpRequest, Outcome)>,
    /// What would help.
    pub remedies: Vec<String>,
}

/// Brings the verdicts of all devices together. `attempt` tries a request on a device.
pub fn trials(tried: &[Tried], attempt: &mut dyn FnMut(&str, &QpRequest) -> Outcome) -> Vec<Trial> {
    let count = tried.first().map_or(0, |first| first.groups.len());
    (0..count).filter_map(|index| trial(tried, index, attempt)).collect()
}

fn trial(tried: &[Tried], index: usize, attempt: &mut dyn FnMut(&str, &QpRequest) -> Outcome) -> Option<Trial> {
    let AskOrigin::Engine { name, version } = tried.first()?.groups.get(index)?.asks.first()?.origin.clone() else { return None };
    let connect = tried.first()?.groups.get(index)?.connect;
    let pairs: Vec<(&str, Vec<(&Ask, &AskReport)>)> = tried
        .iter()
        .filter_map(|tried| {
            let asks = &tried.groups.get(index)?.asks;
            let mut reports = tried
                .report
                .asks
                .iter()
                .filter(|report| report.engine.as_ref() == Some(&name) && report.version.as_ref() == Some(&version));
            Some((tried.report.device.as_str(), asks.iter().filter_map(|ask| Some((ask, reports.next()?))).collect()))
        })
        .collect();
    let settings = merged(pairs.iter().filter(|(_, asks)| can_be_set(asks)).flat_map(|(_, asks)| asks.iter().copied()));
    let devices = pairs.iter().map(|(device, asks)| on_device(device, asks, &settings, attempt)).collect();
    Some(Trial { engine: name, version, connect, settings, devices })
}

/// Whether settings mend everything that is refused on a device.
fn can_be_set(asks: &[(&Ask, &AskReport)]) -> bool {
    asks.iter().filter(|(ask, _)| !ask.optional).all(|(_, report)| {
        report.verdict == OutcomeKind::Granted || report.remedies.iter().any(|remedy| matches!(remedy, Remedy::Settings { .. }))
    })
}

/// The settings of all queue pairs; of a number, the smallest that any of them needs.
fn merged<'a>(asks: impl Iterator<Item = (&'a Ask, &'a AskReport)>) -> Vec<(Setting, String)> {
    let mut merged: Vec<(Setting, String)> = Vec::new();
    for (ask, report) in asks.filter(|(ask, report)| !ask.optional && report.verdict != OutcomeKind::Granted) {
        let found = report.remedies.iter().find_map(|remedy| match remedy {
            Remedy::Settings { settings } => Some(settings),
            _ => None,
        });
        for (name, value) in found.into_iter().flatten().filter_map(|setting| setting.split_once('=')) {
            let Some(setting) = ask.settings.iter().find(|setting| setting.name == name) else { continue };
            match merged.iter_mut().find(|(known, _)| known.name == name) {
                Some((_, known)) => {
                    if let (Ok(new), Ok(old)) = (value.parse::<u64>(), known.parse::<u64>())
                        && new < old
                    {
                        value.clone_into(known);
                    }
                }
                None => merged.push((setting.clone(), value.to_owned())),
            }
        }
    }
    merged
}

fn on_device(
    device: &str,
    asks: &[(&Ask, &AskReport)],
    settings: &[(Setting, String)],
    attempt: &mut dyn FnMut(&str, &QpRequest) -> Outcome,
) -> DeviceTrial {
    let mut trial = DeviceTrial {
        device: device.to_owned(),
        verdict: EngineVerdict::Works,
        attempts: Vec::new(),
        obstacles: Vec::new(),
        remedies: Vec::new(),
    };
    let is_settable = can_be_set(asks);
    for (ask, report) in asks.iter().filter(|(ask, _)| !ask.optional) {
        let Some(first) = report.attempts.first() else { continue };
        let request = if is_settable { with_settings(&report.request, ask, settings) } else { report.request.clone() };
        let outcome = if request == first.request { first.outcome.clone() } else { attempt(device, &request) };
        let verdict = match (&outcome, request == first.request) {
            (Outcome::Granted { .. }, true) => EngineVerdict::Works,
            (Outcome::Granted { .. }, false) => EngineVerdict::WorksWithSettings,
            (Outcome::NotRun { .. }, _) => EngineVerdict::Unknown,
            _ => EngineVerdict::Fails,
        };
        trial.verdict = trial.verdict.max(verdict);
        if verdict == EngineVerdict::Fails {
            trial.obstacles.push((obstacle(ask, report, &outcome), request.clone(), outcome.clone()));
            trial.remedies.extend(report.remedies.iter().filter_map(|remedy| remedy_words(report, remedy)));
        }
        trial.attempts.push(((*ask).clone(), request, outcome));
    }
    if trial.attempts.is_empty() {
        trial.verdict = EngineVerdict::Unknown;
    }
    trial.remedies.sort();
    trial.remedies.dedup();
    trial
}

/// The request that an engine makes with settings.
fn with_settings(request: &QpRequest, ask: &Ask, settings: &[(Setting, String)]) -> QpRequest {
    let mut request = request.clone();
    for (setting, value) in settings {
        // One setting may change both directions.
        for own in ask.settings.iter().filter(|own| own.name == setting.name) {
            let number = own.gives.or_else(|| value.parse().ok());
            let now = own.parameter.get(&request).number();
            // An engine lowers what it was told further by itself, never the other way.
            if let (Some(number), Some(now)) = (number, now)
                && (own.gives.is_some() || number < now)
            {
                request = own.parameter.with(&request, Value::Number(number));
            }
        }
    }
    request
}

fn obstacle(ask: &Ask, report: &AskReport, outcome: &Outcome) -> String {
    let queue = format!("queue pair `{}`", ask.queue);
    // Another type is another engine: the other parameters are of no interest then.
    if wants_another_type(report) {
        return format!("{queue}: the device has no {} queue pairs; {outcome}", report.request.qp_type);
    }
    if report.culprits.is_empty() {
        let cause = report.cause.as_ref().map_or_else(String::new, |cause| format!(" ({})", cause.summary));
        return format!("{queue}: {outcome}{cause}");
    }
    let parts: Vec<String> = report
        .culprits
        .iter()
        .map(|culprit| {
            let setting =
                culprit.setting.as_ref().map_or_else(|| "no setting changes it".to_owned(), |setting| format!("{setting} changes it"));
            format!("{}: asked {}, the device accepts {}, {setting}", culprit.parameter, culprit.asked, culprit.accepted)
        })
        .collect();
    format!("{queue}: {}; {outcome}", parts.join("; "))
}

fn wants_another_type(report: &AskReport) -> bool {
    report.culprits.iter().any(|culprit| culprit.parameter == Parameter::QpType)
}

fn remedy_words(report: &AskReport, remedy: &Remedy) -> Option<String> {
    let engine = report.engine.as_deref()?;
    match remedy {
        Remedy::Versions { versions } => Some(format!("{engine} {}: all its queue pairs are granted", versions.join(" or "))),
        Remedy::NoSetting { .. } if wants_another_type(report) => {
            Some(format!("an engine that needs no {} queue pairs", report.request.qp_type))
        }
        Remedy::NoSetting { parameters } => {
            let wanted: Vec<String> = report
                .culprits
                .iter()
                .filter(|culprit| parameters.contains(&culprit.parameter))
                .map(|culprit| format!("{} at {}", culprit.parameter, culprit.accepted))
                .collect();
            Some(format!("a patch of {engine} that asks {} for queue pair `{}`", wanted.join(" and "), report.queue))
        }
        Remedy::Settings { .. } | Remedy::Request { .. } => None,
    }
}

/// Entries of the queues of [`recommend`] at most: what the engines of the catalog ask lies between 256 and 8192.
const DEPTH: u32 = 4096;
/// Scatter-gather entries of it at most.
const ENTRIES: u32 = 4;
/// Inline bytes of it at most: what Mooncake and UCX ask.
const INLINE_BYTES: u32 = 64;

/// A request near what engines need that the device grants as a whole, found from the bounds of its parts; depths are halved until it is.
pub fn recommend(bounds: &[Bound], attempter: &mut dyn Attempter) -> Option<(QpRequest, Outcome)> {
    let bound = |parameter: Parameter| bounds.iter().find(|bound| bound.parameter == parameter).and_then(|bound| bound.accepted);
    let mut depth = DEPTH;
    loop {
        let mut request = QpRequest::base(QpType::RC);
        request.max_send_wr = bound(Parameter::MaxSendWr)?.min(depth);
        request.max_recv_wr = bound(Parameter::MaxRecvWr)?.min(depth);
        request.max_send_sge = bound(Parameter::MaxSendSge)?.min(ENTRIES);
        request.max_recv_sge = bound(Parameter::MaxRecvSge)?.min(ENTRIES);
        request.max_inline_data = bound(Parameter::MaxInlineData)?.min(INLINE_BYTES);
        request.cq_depth = bound(Parameter::CqDepth)?.min(2 * depth);
        let mut outcome = Outcome::NotRun { why: "no answer".to_owned() };
        attempter.attempts(std::slice::from_ref(&request), &mut |_, found| {
            outcome = found;
            true
        });
        match outcome {
            Outcome::Granted { .. } => return Some((request, outcome)),
            Outcome::Refused { .. } if depth > 16 => depth /= 2,
            _ => return None,
        }
    }
}
