//! The whole of `qp-matrix` on one device: what is asked first, then types, bounds and joint limits.

use std::time::Instant;

use rdmadoctor_types::{OutcomeKind, QpState, Word};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cause::{Cause, CauseClass, classify};
use super::culprits::{Culprit, CulpritSet, culprits};
use super::{
    Ask, Attempter, Bound, Ending, Frontier, Outcome, Parameter, Prober, QpRequest, QpType, Setting, SrqRequest, Stop, Value, bound,
    frontier,
};
use crate::catalog::engine::Connect;
use crate::devices::{HostLimits, Problem};
use crate::host::families;
use crate::request::AskOrigin;
use crate::verbs::DeviceAttributes;
use crate::worker::Counted;

/// What to find out.
#[derive(Debug, Clone)]
pub struct MatrixOptions {
    /// Requests that must be judged.
    pub asks: Vec<AskGroup>,
    /// Values to try in every combination.
    pub grid: Vec<(Parameter, Vec<Value>)>,
    /// Whether to find types, bounds and joint limits.
    pub bounds: bool,
    /// Limits of this process.
    pub limits: HostLimits,
    /// When to stop.
    pub stop: Stop,
}

/// All queue pairs of one engine's release, or the user's own request, and what other releases would ask.
#[derive(Debug, Clone)]
pub struct AskGroup {
    /// What is asked.
    pub asks: Vec<Ask>,
    /// What a user of the engine sees when it is refused.
    pub on_refusal: Option<String>,
    /// How the engine connects its queue pairs; absent for a request of the user's.
    pub connect: Option<Connect>,
    /// The version that was asked for, where it is newer than any that the catalog knows.
    pub asked_version: Option<String>,
    /// Other releases, oldest first, by version.
    pub others: Vec<(String, Vec<Ask>)>,
}

/// The document of `qp-matrix`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct QpMatrix {
    /// `rdmadoctor/qp-matrix/1`.
    pub schema: String,
    /// One entry a device.
    pub devices: Vec<DeviceReport>,
    /// What stands in the way of examining devices.
    pub problems: Vec<Problem>,
}

impl QpMatrix {
    /// Whether something stands in the way, or does not work: what was asked, or, where nothing was, the device itself.
    pub(crate) fn has_failed(&self) -> bool {
        !self.problems.is_empty() || self.devices.iter().any(DeviceReport::has_failed)
    }
}

/// What a device publishes, beside what is found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reported {
    /// The smaller of the send and the receive limit.
    pub max_sge: i32,
    /// Work requests on any one queue.
    pub max_qp_wr: i32,
    /// Entries of a completion queue.
    pub max_cqe: i32,
    /// Queue pairs.
    pub max_qp: i32,
    /// Shared receive queues.
    pub max_srq: i32,
}

impl From<&DeviceAttributes> for Reported {
    fn from(attributes: &DeviceAttributes) -> Self {
        let DeviceAttributes { max_sge, max_qp_wr, max_cqe, max_qp, max_srq, .. } = *attributes;
        Self { max_sge, max_qp_wr, max_cqe, max_qp, max_srq }
    }
}

impl Reported {
    /// What is published for a parameter; inline data never is.
    #[must_use]
    pub fn of(&self, parameter: Parameter) -> Option<i64> {
        match parameter {
            Parameter::MaxSendWr | Parameter::MaxRecvWr => Some(self.max_qp_wr.into()),
            Parameter::MaxSendSge | Parameter::MaxRecvSge => Some(self.max_sge.into()),
            Parameter::CqDepth => Some(self.max_cqe.into()),
            Parameter::MaxInlineData | Parameter::QpType | Parameter::Srq => None,
        }
    }
}

/// A request and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AttemptReport {
    /// What was tried.
    pub request: QpRequest,
    /// What came of it.
    pub outcome: Outcome,
}

/// Whether a type of queue pair, or a shared receive queue, works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Support {
    /// `RC`, `UD`, …, or `srq`.
    pub name: String,
    /// What came of a modest request with it.
    pub outcome: Outcome,
}

/// A culprit with the setting that changes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CulpritReport {
    pub parameter: Parameter,
    /// The refused value.
    pub asked: Value,
    /// The nearest value that was granted.
    pub accepted: Value,
    /// The engine's setting for it.
    pub setting: Option<String>,
    /// Whether the next value towards `asked` was refused; otherwise the search was cut short, and more may be accepted.
    pub exact: bool,
}

/// A way to make the request pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Remedy {
    /// Settings of the engine, each with its value; together they were granted.
    Settings {
        /// `NAME=VALUE`.
        settings: Vec<String>,
    },
    /// Releases of the engine whose queue pairs were all granted.
    Versions {
        /// Their versions, oldest first.
        versions: Vec<String>,
    },
    /// Nothing that a user can set changes these parameters: the engine must be changed.
    NoSetting { parameters: Vec<Parameter> },
    /// The user's own request must change so.
    Request {
        /// `PARAMETER=VALUE`.
        changes: Vec<String>,
    },
}

/// The verdict on one asked queue pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AskReport {
    /// The engine; absent for the user's own request.
    pub engine: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// The version that was asked for, where it is newer than any that the catalog knows: judged as `version`.
    pub asked_version: Option<String>,
    /// The engine's name for the queue pair.
    pub queue: String,
    /// What is asked, after what the engine lowers by itself.
    pub request: QpRequest,
    /// `granted`, `refused`, `crashed`, `hung` or `not_run`.
    pub verdict: Word<OutcomeKind>,
    /// Whether the engine goes on without it.
    pub optional: bool,
    /// How the engine connects it; absent for the user's own request.
    pub connect: Option<Connect>,
    /// What the engine lowered by itself, in words.
    pub lowered: Vec<String>,
    /// The attempt itself, then those that prove the culprits.
    pub attempts: Vec<AttemptReport>,
    /// The smallest change that makes it pass.
    pub culprits: Vec<CulpritReport>,
    /// Other changes as small.
    pub alternatives: Vec<Vec<CulpritReport>>,
    /// Why it was refused.
    pub cause: Option<Cause>,
    /// What makes it pass.
    pub remedies: Vec<Remedy>,
    /// What a user of the engine sees.
    pub on_refusal: Option<String>,
}

impl AskReport {
    /// Whether it was tried and not granted.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.verdict != OutcomeKind::Granted && self.verdict != OutcomeKind::NotRun
    }
}

/// One combination of a grid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GridCell {
    /// The values, in the order of the grid's parameters.
    pub values: Vec<Value>,
    /// What came of it.
    pub outcome: Outcome,
}

/// All combinations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Grid {
    /// The parameters that vary.
    pub parameters: Vec<Parameter>,
    /// Every combination; the last parameter varies fastest.
    pub cells: Vec<GridCell>,
}

/// Everything found of one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceReport {
    /// Its name.
    pub device: String,
    /// Its family, such as `erdma`; absent where it is not known.
    pub family: Option<String>,
    /// What it publishes.
    pub reported: Option<Reported>,
    /// The modest request that everything is compared with.
    pub base: Option<AttemptReport>,
    /// Why even that is not granted.
    pub base_cause: Option<Cause>,
    /// Which types work, and whether a shared receive queue does.
    pub support: Vec<Support>,
    /// Bounds of single parameters.
    pub bounds: Vec<Bound>,
    /// Joint limits.
    pub joint: Vec<Frontier>,
    /// Verdicts on what was asked.
    pub asks: Vec<AskReport>,
    /// The grid, where one was asked.
    pub grid: Option<Grid>,
    /// How many queue pairs existed at once, where that was asked.
    pub count: Option<CountReport>,
    /// Why they could not be counted.
    pub count_failed: Option<String>,
    /// How far a queue pair comes when it is connected with itself.
    pub connection: Option<ConnectionReport>,
    /// Attempts made.
    pub attempts_total: u64,
    /// Time taken, in microseconds.
    pub elapsed_us: u64,
    /// Why it ended early.
    pub stopped: Option<String>,
}

impl DeviceReport {
    fn has_failed(&self) -> bool {
        let is_broken = |outcome: &Outcome| matches!(outcome, Outcome::Crashed { .. } | Outcome::Hung { .. });
        self.asks.iter().any(|ask| !ask.optional && ask.verdict != OutcomeKind::Granted)
            || self.base.as_ref().is_some_and(|base| !base.outcome.is_granted())
            || self.bounds.iter().any(|bound| matches!(&bound.ending, Ending::Broken { outcome } if is_broken(outcome)))
            || self.count_failed.is_some()
            || self.joint.iter().any(|joint| joint.broken.is_some())
            || self.support.iter().any(|support| is_broken(&support.outcome))
            || self.grid.as_ref().is_some_and(|grid| grid.cells.iter().any(|cell| is_broken(&cell.outcome)))
            || self.connection.as_ref().is_some_and(|connection| {
                let is_broken = connection.cause.as_ref().is_some_and(|cause| cause.class == CauseClass::Driver);
                connection.refused.is_some() && (is_broken || self.asks.iter().any(|ask| ask.connect == Some(Connect::Oob)))
            })
    }
}

/// Queue pairs that existed at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CountReport {
    /// Their shape.
    pub request: QpRequest,
    /// How many were wanted at most.
    pub ceiling: u32,
    /// How many there were, and what ended it.
    pub counted: Counted,
}

/// The walk of a queue pair through its states.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConnectionReport {
    /// The port used.
    pub port: u8,
    /// The last state reached.
    pub reached: Word<QpState>,
    /// The refusal, in words.
    pub refused: Option<String>,
    pub cause: Option<Cause>,
}

/// Finds out what `options` ask of one device. Connection and count are left to the caller, who has the child process.
pub fn run_device(
    device: &str,
    family: Option<String>,
    attributes: Option<&DeviceAttributes>,
    attempter: &mut dyn Attempter,
    options: &MatrixOptions,
    progress: &mut dyn FnMut(u64),
) -> DeviceReport {
    let started = Instant::now();
    let mut prober = Prober::new(attempter, options.stop, progress);
    let reported = attributes.map(Reported::from);
    let known = family.as_deref().and_then(families::find).and_then(|family| family.own_queue_pairs.as_ref());
    let own_type = known.and_then(|own| own.qp_type.parse().ok());
    let base = find_base(&mut prober, own_type);
    let mut run = Run { prober, base, reported, bounds: Vec::new(), limits: options.limits, own_type };
    let asks = options.asks.iter().flat_map(|group| run.group(group)).collect();
    let grid = (!options.grid.is_empty()).then(|| run.grid(&options.grid));
    let (mut support, mut joint) = (Vec::new(), Vec::new());
    if options.bounds {
        support = run.support();
        if run.base.outcome.is_granted() {
            run.all_bounds();
            joint = run.joint();
        }
    }
    DeviceReport {
        device: device.to_owned(),
        family,
        reported: run.reported,
        base_cause: classify(&run.base.request, &run.base.outcome, &[], false, options.limits, false),
        base: Some(run.base),
        support,
        bounds: if options.bounds { run.bounds } else { Vec::new() },
        joint,
        asks,
        grid,
        count: None,
        count_failed: None,
        connection: None,
        attempts_total: run.prober.attempts(),
        elapsed_us: u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
        stopped: run.prober.stopped().map(str::to_owned),
    }
}

/// The first type that a modest request gets: the driver's own where engines use that, then RC where there is RC.
fn find_base(prober: &mut Prober<'_>, own_type: Option<QpType>) -> AttemptReport {
    let mut first = None;
    for qp_type in own_type.into_iter().chain([QpType::RC, QpType::UC, QpType::UD, QpType::RawPacket]) {
        let request = QpRequest::base(qp_type);
        let outcome = prober.attempt(&request);
        let report = AttemptReport { request, outcome };
        if report.outcome.is_granted() {
            return report;
        }
        first.get_or_insert(report);
        if prober.stopped().is_some() {
            break;
        }
    }
    first.unwrap_or_else(|| AttemptReport {
        request: QpRequest::base(QpType::RC),
        outcome: Outcome::NotRun { why: "nothing was tried".to_owned() },
    })
}

struct Run<'a> {
    prober: Prober<'a>,
    base: AttemptReport,
    reported: Option<Reported>,
    bounds: Vec<Bound>,
    limits: HostLimits,
    own_type: Option<QpType>,
}

impl Run<'_> {
    /// The bound of a parameter, searched for once.
    fn bound(&mut self, parameter: Parameter) -> Bound {
        if let Some(known) = self.bounds.iter().find(|bound| bound.parameter == parameter) {
            return known.clone();
        }
        let reported = self.reported.as_ref().and_then(|reported| reported.of(parameter));
        let found = bound(&mut self.prober, &self.base.request, parameter, reported);
        self.bounds.push(found.clone());
        found
    }

    fn all_bounds(&mut self) {
        for parameter in Parameter::NUMERIC {
            self.bound(parameter);
        }
        self.bounds.sort_by_key(|bound| Parameter::NUMERIC.iter().position(|parameter| *parameter == bound.parameter));
    }

    fn support(&mut self) -> Vec<Support> {
        let mut support: Vec<Support> = QpType::ALL
            .into_iter()
            // Of the types of drivers' own only this driver's can be made here.
            .filter(|kind| *kind != QpType::Driver && (*kind != QpType::Srd || self.own_type == Some(QpType::Srd)))
            .map(|kind| Support { name: kind.name().to_owned(), outcome: self.prober.attempt(&QpRequest::base(kind)) })
            .collect();
        let with_srq = QpRequest { srq: Some(SrqRequest { max_wr: 16, max_sge: 1 }), ..self.base.request.clone() };
        support.push(Support { name: Parameter::Srq.name().to_owned(), outcome: self.prober.attempt(&with_srq) });
        support
    }

    fn joint(&mut self) -> Vec<Frontier> {
        let pairs = [
            (Parameter::MaxSendWr, Parameter::MaxSendSge),
            (Parameter::MaxSendWr, Parameter::MaxInlineData),
            (Parameter::MaxRecvWr, Parameter::MaxRecvSge),
        ];
        let mut found = Vec::new();
        for (depth, over) in pairs {
            let (Some(depth_bound), Some(over_bound)) = (self.bound(depth).accepted, self.bound(over).accepted) else { continue };
            if self.prober.stopped().is_none() {
                found.push(frontier(&mut self.prober, &self.base.request, (depth, depth_bound), (over, over_bound)));
            }
        }
        found
    }

    fn grid(&mut self, dimensions: &[(Parameter, Vec<Value>)]) -> Grid {
        let mut combinations: Vec<Vec<Value>> = vec![Vec::new()];
        for (_, values) in dimensions {
            combinations = combinations
                .iter()
                .flat_map(|head| values.iter().map(move |value| head.iter().copied().chain([*value]).collect()))
                .collect();
        }
        let parameters: Vec<Parameter> = dimensions.iter().map(|(parameter, _)| *parameter).collect();
        let requests: Vec<QpRequest> = combinations
            .iter()
            .map(|values| {
                parameters
                    .iter()
                    .zip(values)
                    .fold(self.base.request.clone(), |request, (parameter, value)| parameter.with(&request, *value))
            })
            .collect();
        let outcomes = self.prober.attempt_all(&requests);
        Grid { parameters, cells: combinations.into_iter().zip(outcomes).map(|(values, outcome)| GridCell { values, outcome }).collect() }
    }

    fn group(&mut self, group: &AskGroup) -> Vec<AskReport> {
        let mut reports: Vec<AskReport> = group.asks.iter().map(|ask| self.ask(ask, group)).collect();
        if reports.iter().any(|report| report.verdict == OutcomeKind::Refused && !report.optional) {
            let versions: Vec<String> =
                group.others.iter().filter(|(_, asks)| self.all_granted(asks)).map(|(version, _)| version.clone()).collect();
            if !versions.is_empty() {
                for report in reports.iter_mut().filter(|report| report.verdict == OutcomeKind::Refused) {
                    report.remedies.push(Remedy::Versions { versions: versions.clone() });
                }
            }
        }
        reports
    }

    fn all_granted(&mut self, asks: &[Ask]) -> bool {
        asks.iter().filter(|ask| !ask.optional).all(|ask| {
            let request = self.lowered(ask).0;
            self.prober.attempt_asked(&request).is_granted()
        })
    }

    /// The request after what the engine lowers by trying.
    fn lowered(&mut self, ask: &Ask) -> (QpRequest, Vec<String>) {
        let mut request = ask.request.clone();
        let mut words = ask.clamped.clone();
        if !ask.probed.is_empty() && self.base.outcome.is_granted() && !self.prober.attempt_asked(&request).is_granted() {
            for parameter in &ask.probed {
                let (Some(asked), Some(accepted)) = (parameter.get(&request).number(), self.bound(*parameter).accepted) else { continue };
                if accepted < asked {
                    words.push(format!("the engine lowers {parameter} from {asked} to {accepted} by trying"));
                    request = parameter.with(&request, Value::Number(accepted));
                }
            }
        }
        (request, words)
    }

    fn ask(&mut self, ask: &Ask, group: &AskGroup) -> AskReport {
        let (request, lowered) = self.lowered(ask);
        let outcome = self.prober.attempt_asked(&request);
        let mut attempts = vec![AttemptReport { request: request.clone(), outcome: outcome.clone() }];
        let base_granted = self.base.outcome.is_granted();
        let mut sets = Vec::new();
        if !outcome.is_granted() && base_granted && !matches!(outcome, Outcome::NotRun { .. }) {
            sets = culprits(&mut self.prober, &request, &self.base.request, &self.bounds);
            // Where there are alternatives, the one that a user can set comes first.
            sets.sort_by_key(|set| set.culprits.iter().filter(|culprit| setting_of(ask, culprit).is_none()).count());
        }
        for set in &sets {
            attempts.push(AttemptReport { request: set.granted.clone(), outcome: self.prober.attempt_asked(&set.granted) });
        }
        let cause = classify(&request, &outcome, &sets, base_granted, self.limits, self.prober.stopped().is_some());
        let (engine, version) = match &ask.origin {
            AskOrigin::User => (None, None),
            AskOrigin::Engine { name, version } => (Some(name.clone()), Some(version.clone())),
        };
        let mut told = sets.iter().map(|set| set.culprits.iter().map(|culprit| report(ask, culprit, set.exact)).collect::<Vec<_>>());
        AskReport {
            engine,
            version,
            asked_version: group.asked_version.clone(),
            queue: ask.queue.clone(),
            request,
            verdict: Word::Known(outcome.kind()),
            optional: ask.optional,
            connect: group.connect,
            lowered,
            attempts,
            culprits: told.next().unwrap_or_default(),
            alternatives: told.collect(),
            cause,
            remedies: sets.first().map(|set| remedies(&mut self.prober, ask, set)).unwrap_or_default(),
            on_refusal: if matches!(outcome, Outcome::Granted { .. } | Outcome::NotRun { .. }) { None } else { group.on_refusal.clone() },
        }
    }
}

/// What mends all queue pairs of an engine: without a setting for each, no setting is worth naming first.
#[must_use]
pub fn remedies_of(asks: &[AskReport]) -> Vec<Remedy> {
    let all = || asks.iter().flat_map(|ask| &ask.remedies);
    let mut without: Vec<Parameter> = all()
        .filter_map(|remedy| if let Remedy::NoSetting { parameters } = remedy { Some(parameters) } else { None })
        .flatten()
        .copied()
        .collect();
    without.sort();
    without.dedup();
    let mut lines: Vec<Remedy> = Vec::new();
    if !without.is_empty() {
        lines.push(Remedy::NoSetting { parameters: without });
    }
    for remedy in all() {
        let is_covered = matches!(remedy, Remedy::NoSetting { .. }) || (matches!(remedy, Remedy::Settings { .. }) && !lines.is_empty());
        if !is_covered && !lines.contains(remedy) {
            lines.push(remedy.clone());
        }
    }
    lines
}

fn setting_of<'a>(ask: &'a Ask, culprit: &Culprit) -> Option<&'a Setting> {
    // The depth of a shared receive queue can be set, which is not doing without one: that takes a setting that says so.
    let is_without = culprit.parameter == Parameter::Srq && culprit.accepted == Value::Number(0);
    ask.settings.iter().find(|setting| setting.parameter == culprit.parameter && (!is_without || setting.gives == Some(0)))
}

fn report(ask: &Ask, culprit: &Culprit, exact: bool) -> CulpritReport {
    CulpritReport {
        parameter: culprit.parameter,
        asked: culprit.asked,
        accepted: culprit.accepted,
        setting: setting_of(ask, culprit).map(|setting| setting.name.clone()),
        exact,
    }
}

fn remedies(prober: &mut Prober<'_>, ask: &Ask, set: &CulpritSet) -> Vec<Remedy> {
    if ask.origin == AskOrigin::User {
        return vec![Remedy::Request {
            changes: set.culprits.iter().map(|culprit| format!("{}={}", culprit.parameter, culprit.accepted)).collect(),
        }];
    }
    let mut request = set.granted.clone();
    let mut settings = Vec::new();
    let mut without = Vec::new();
    for culprit in &set.culprits {
        match setting_of(ask, culprit) {
            None => without.push(culprit.parameter),
            Some(Setting { name, value: Some(value), gives: Some(gives), .. }) => {
                request = culprit.parameter.with(&request, Value::Number(*gives));
                settings.push(format!("{name}={value}"));
            }
            Some(setting) => settings.push(format!("{}={}", setting.name, culprit.accepted)),
        }
    }
    // A setting may give another value than the extreme that was found: then that one has to be granted too.
    if without.is_empty() && prober.attempt_asked(&request).is_granted() {
        return vec![Remedy::Settings { settings }];
    }
    if without.is_empty() {
        without = set.culprits.iter().map(|culprit| culprit.parameter).collect();
    }
    vec![Remedy::NoSetting { parameters: without }]
}
