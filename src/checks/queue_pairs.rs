//! 06: queue pairs, tried on the devices themselves.

use rdmadoctor_types::OutcomeKind;

use super::Source::{Log, QueuePairs};
use super::{Action, Check, Facts, Finding, page};
use crate::catalog::Catalog;
use crate::host::log::Event;
use crate::qp::{AskReport, CauseClass, CulpritReport, DeviceReport, Outcome, Parameter, QpRequest, Remedy, newer_than_known, remedies_of};

pub(super) const CHECKS: &[Check] = &[
    Check {
        page: page("RD-0601"),
        needs: &[QueuePairs],
        depends_on: &["RD-0306", "RD-0501", "RD-0506", "RD-0604", "RD-1110", "RD-1111"],
        run: modest_request,
    },
    Check {
        page: page("RD-0602"),
        needs: &[QueuePairs],
        depends_on: &["RD-0601", "RD-0501", "RD-0506", "RD-0604"],
        run: engines_are_granted,
    },
    Check {
        page: page("RD-0603"),
        needs: &[QueuePairs],
        depends_on: &["RD-0210", "RD-0307", "RD-0401", "RD-0403", "RD-0601"],
        run: connects_to_itself,
    },
    Check { page: page("RD-0604"), needs: &[QueuePairs], depends_on: &["RD-1110"], run: nothing_crashed },
    Check { page: page("RD-0605"), needs: &[Log], depends_on: &[], run: region_sizes },
    Check { page: page("RD-0606"), needs: &[Log], depends_on: &[], run: logged_refusals },
];

/// The reports of devices, or why there are none.
fn reports(facts: &Facts) -> Result<&[DeviceReport], Vec<Finding>> {
    match &facts.queue_pairs {
        None => Err(vec![Finding::skip("host", "no queue pair was tried")]),
        Some(reports) if reports.is_empty() => Err(vec![Finding::skip("host", "there is no device on which a queue pair could be tried")]),
        Some(reports) => Ok(reports),
    }
}

fn modest_request(facts: &Facts) -> Vec<Finding> {
    let reports = match reports(facts) {
        Ok(reports) => reports,
        Err(skipped) => return skipped,
    };
    let judge = |report: &DeviceReport| {
        let name = &report.device;
        match report.base.as_ref() {
            None => Finding::skip(name, "it was not tried"),
            Some(base) => match &base.outcome {
                Outcome::Granted { .. } => Finding::pass(name, format!("a modest {} queue pair is granted", base.request.qp_type)),
                Outcome::NotRun { why } => Finding::skip(name, format!("it was not tried: {why}")),
                outcome => Finding::fail(name, "not even a modest queue pair is granted")
                    .saw_not("ibv_create_qp", outcome_shown(outcome), "granted")
                    .saw("request", asked(&base.request))
                    .remedy(
                        Action::Tune,
                        "find out with the whole matrix",
                        &[&command!("rdmadoctor qp-matrix {} -v", name), "dmesg | tail -50"],
                    ),
            },
        }
    };
    reports.iter().map(judge).collect()
}

/// A request as `--ask` takes it.
fn asked(request: &QpRequest) -> String {
    let parts = Parameter::ALL.into_iter().filter(|parameter| *parameter != Parameter::Srq || request.srq.is_some());
    parts.map(|parameter| format!("{parameter}={}", parameter.get(request))).collect::<Vec<_>>().join(",")
}

fn outcome_shown(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Granted { .. } => "granted".to_owned(),
        Outcome::Refused { error } => error.to_string(),
        Outcome::Crashed { signal, .. } => format!("the process died of {signal}"),
        Outcome::Hung { deadline_ms, .. } => format!("no answer in {deadline_ms} ms"),
        Outcome::NotRun { why } => format!("not tried: {why}"),
    }
}

fn engines_are_granted(facts: &Facts) -> Vec<Finding> {
    if facts.wanted.engines.is_empty() {
        return vec![Finding::skip("host", "no engine was asked about; --engine NAME[@VERSION] asks for one")];
    }
    let reports = match reports(facts) {
        Ok(reports) => reports,
        Err(skipped) => return skipped,
    };
    let of_one_engine = |left: &AskReport, right: &AskReport| (&left.engine, &left.version) == (&right.engine, &right.version);
    reports.iter().flat_map(|report| report.asks.chunk_by(of_one_engine).map(move |asks| judge_engine(report, asks))).collect()
}

/// One finding for all queue pairs of an engine on a device.
fn judge_engine(report: &DeviceReport, asks: &[AskReport]) -> Finding {
    let device = &report.device;
    let engine = match asks.first().map(|ask| (&ask.engine, &ask.version)) {
        Some((Some(engine), Some(version))) => format!("{engine}@{version}"),
        Some((Some(engine), None)) => engine.clone(),
        _ => "asked".to_owned(),
    };
    let subject = format!("{device}/{engine}");
    let refused: Vec<&AskReport> = asks.iter().filter(|ask| ask.is_refused()).collect();
    if refused.is_empty() {
        return if asks.iter().any(|ask| ask.verdict == OutcomeKind::NotRun) {
            Finding::skip(subject, "not all of it was tried: the time or the number of attempts was over")
        } else {
            with_version(Finding::pass(subject, format!("{device} grants what {engine} asks")), asks)
        };
    }
    let mut finding = Finding::graded(refused.iter().any(|ask| !ask.optional), subject, title(device, &engine, &refused));
    finding = with_version(finding, asks);
    for ask in &refused {
        let queue = &ask.queue;
        let came_back = ask.attempts.first().map(|attempt| attempt.outcome.to_string());
        if let Some(first) = ask.attempts.first() {
            finding = finding.saw_not(format!("{queue} queue pair"), outcome_shown(&first.outcome), "granted");
        }
        for culprit in &ask.culprits {
            finding = finding.saw_not(
                format!("{queue} {}", culprit.parameter),
                format!("{} asked", culprit.asked),
                format!("{} is granted", culprit.accepted),
            );
        }
        let seen = ask.cause.iter().flat_map(|cause| &cause.evidence).filter(|seen| Some(*seen) != came_back.as_ref());
        for seen in seen {
            finding = finding.saw(format!("{queue} attempts"), seen);
        }
    }
    if let Some(seen) = refused.iter().find_map(|ask| ask.on_refusal.as_ref()) {
        finding = finding.saw("what its user sees", seen);
    }
    for (ask, first) in refused.iter().filter_map(|ask| Some((ask, ask.attempts.first()?))) {
        finding = finding.saw(format!("{} request", ask.queue), asked(&first.request));
    }
    let (action, summary, commands) = remedy(&refused, device, &engine);
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    finding.remedy(action, summary, &commands)
}

/// Says so where an older release stands for one that the catalog does not know.
fn with_version(finding: Finding, asks: &[AskReport]) -> Finding {
    match asks.first().map(|ask| (&ask.asked_version, &ask.version)) {
        Some((Some(asked), Some(version))) => finding.saw("the catalog", newer_than_known(asked, version)),
        _ => finding,
    }
}

/// What is wrong, in one sentence.
fn title(device: &str, engine: &str, refused: &[&AskReport]) -> String {
    let type_of =
        |ask: &&AskReport| ask.culprits.iter().find(|culprit| culprit.parameter == Parameter::QpType).map(|culprit| culprit.asked);
    // Another type is another engine: the other parameters are of no interest then.
    if let Some(asked) = refused.first().and_then(type_of)
        && refused.iter().all(|ask| type_of(ask) == Some(asked))
    {
        return format!("{device} has no {asked} queue pairs, and {engine} asks for them");
    }
    let parts: Vec<String> = refused
        .iter()
        .map(|ask| {
            let culprits: Vec<String> = ask.culprits.iter().map(culprit_shown).collect();
            let what = if culprits.is_empty() { "its request as a whole".to_owned() } else { culprits.join(" and ") };
            format!("{what} ({})", ask.queue)
        })
        .collect();
    let verdict = refused.first().map_or("refuses", |ask| verdict_shown(ask.verdict.known()));
    format!("{device} {verdict} what {engine} asks: {}", parts.join(", "))
}

fn verdict_shown(verdict: Option<OutcomeKind>) -> &'static str {
    match verdict {
        Some(OutcomeKind::Crashed) => "crashes on",
        Some(OutcomeKind::Hung) => "hangs on",
        _ => "refuses",
    }
}

fn culprit_shown(culprit: &CulpritReport) -> String {
    format!("{} {} where {} is granted", culprit.parameter, culprit.asked, culprit.accepted)
}

/// What makes an engine's requests pass: settings, other releases, or what the cause says.
fn remedy(refused: &[&AskReport], device: &str, engine: &str) -> (Action, String, Vec<String>) {
    let mut parts = Vec::new();
    let mut commands = Vec::new();
    let mut action = Action::Tune;
    let asks: Vec<AskReport> = refused.iter().map(|ask| (*ask).clone()).collect();
    for remedy in remedies_of(&asks) {
        match remedy {
            Remedy::Settings { settings } => {
                parts.push(format!("start {engine} with {}", settings.join(" ")));
                let quoted = |setting: &String| match setting.split_once('=') {
                    Some((name, value)) => command!("{}={}", name, value),
                    None => command!("{}", setting),
                };
                commands.push(format!("export {}", settings.iter().map(quoted).collect::<Vec<_>>().join(" ")));
            }
            Remedy::Versions { versions } => {
                action = Action::Replace;
                let name = engine.split('@').next().unwrap_or(engine);
                parts.push(format!("use {name} {}, all of whose queue pairs are granted here", versions.join(" or ")));
            }
            Remedy::NoSetting { parameters } if parameters.contains(&Parameter::QpType) => {
                action = Action::Replace;
                parts.push("take a device that has such queue pairs, or an engine that does without them".to_owned());
            }
            Remedy::NoSetting { parameters } => {
                action = Action::Replace;
                let names: Vec<&str> = parameters.iter().map(|parameter| parameter.name()).collect();
                parts.push(format!("no setting of {engine} changes {}", names.join(" or ")));
            }
            Remedy::Request { changes } => parts.push(format!("ask {}", changes.join(" and "))),
        }
    }
    let mut steps: Vec<&String> = refused.iter().filter_map(|ask| ask.cause.as_ref()?.next_step.as_ref()).collect();
    steps.dedup();
    parts.extend(steps.into_iter().cloned());
    if parts.is_empty() {
        parts.push("no smaller request of this shape is granted; see the whole matrix".to_owned());
    }
    // An engine of a file has no name that `--engine` takes.
    if Catalog::load().is_ok_and(|catalog| catalog.find(engine).is_ok()) {
        commands.push(command!("rdmadoctor qp-matrix --engine {} -v", engine));
    } else {
        let requests = refused.iter().filter_map(|ask| ask.attempts.first()).map(|first| asked(&first.request));
        commands.extend(requests.map(|request| command!("rdmadoctor qp-matrix {} --ask {request} -v", device)));
    }
    (action, parts.join("; "), commands)
}

fn connects_to_itself(facts: &Facts) -> Vec<Finding> {
    let reports = match reports(facts) {
        Ok(reports) => reports,
        Err(skipped) => return skipped,
    };
    // Engines that connect through rdma_cm only do not need it.
    let is_needed = facts.wanted.engines.is_empty() || facts.wanted.engines.iter().any(|engine| engine.connects_itself);
    let judge = |report: &DeviceReport| {
        let Some(connection) = &report.connection else {
            return Finding::skip(&report.device, "no queue pair was connected");
        };
        let subject = format!("{}/{}", report.device, connection.port);
        let Some(refused) = &connection.refused else {
            return Finding::pass(subject, "a queue pair was connected with itself");
        };
        let cause = connection.cause.as_ref();
        let why = cause.map_or_else(|| format!("it comes to {} only", connection.reached), |cause| cause.summary.clone());
        let is_network = cause.is_some_and(|cause| cause.class == CauseClass::Network);
        Finding::graded(
            is_needed && !facts.wanted.engines.is_empty(),
            subject,
            format!("a queue pair cannot be connected with itself: {why}"),
        )
        .saw_not("ibv_modify_qp", refused, "RTS")
        .remedy(
            if is_network { Action::Tune } else { Action::Replace },
            cause.and_then(|cause| cause.next_step.clone()).unwrap_or_else(|| "look at the port and its GIDs".to_owned()),
            &[&command!("rdmadoctor devices {}", report.device)],
        )
    };
    reports.iter().map(judge).collect()
}

fn nothing_crashed(facts: &Facts) -> Vec<Finding> {
    let reports = match reports(facts) {
        Ok(reports) => reports,
        Err(skipped) => return skipped,
    };
    let judge = |report: &DeviceReport| {
        let attempts = report.base.iter().chain(report.asks.iter().flat_map(|ask| &ask.attempts));
        let broken = attempts.into_iter().find(|attempt| matches!(attempt.outcome, Outcome::Crashed { .. } | Outcome::Hung { .. }));
        match broken {
            None => Finding::pass(&report.device, format!("every attempt came back ({} in all)", report.attempts_total)),
            Some(attempt) => Finding::fail(&report.device, "an attempt crashed or hung")
                .saw_not(asked(&attempt.request), outcome_shown(&attempt.outcome), "granted or refused")
                .remedy(Action::Replace, "upgrade the provider and the firmware, and report it", &["dmesg | tail -50"]),
        }
    };
    reports.iter().map(judge).collect()
}

fn region_sizes(facts: &Facts) -> Vec<Finding> {
    let log = &facts.host.log;
    let Some(source) = &log.source else {
        return vec![Finding::skip("host", "the kernel's log cannot be read here")];
    };
    let findings: Vec<Finding> = log
        .events
        .iter()
        .filter_map(|logged| match logged.event {
            Event::ErdmaMemoryRegionTooLarge { asked_bytes, limit_bytes } => Some(
                Finding::warn("host", "a program registered a larger region than an eRDMA device takes")
                    .saw_not(source, format!("{asked_bytes} bytes asked"), format!("at most {limit_bytes} bytes"))
                    .remedy(Action::Tune, format!("make the engine's segments smaller than {limit_bytes} bytes"), &[]),
            ),
            _ => None,
        })
        .collect();
    if findings.is_empty() { vec![Finding::pass("host", "the log tells of no region that was too large")] } else { findings }
}

fn logged_refusals(facts: &Facts) -> Vec<Finding> {
    let log = &facts.host.log;
    let Some(source) = &log.source else {
        return vec![Finding::skip("host", "the kernel's log cannot be read here")];
    };
    let mut findings = Vec::new();
    for logged in &log.events {
        let Event::BnxtQueuePairRefused { device, limits } = &logged.event else { continue };
        let over: Vec<_> = limits.iter().filter(|limit| limit.asked > limit.limit).collect();
        let what: Vec<String> =
            over.iter().map(|limit| format!("{} {} where {} is the most", limit.parameter, limit.asked, limit.limit)).collect();
        findings.push(
            Finding::warn(
                device.clone().unwrap_or_else(|| "host".to_owned()),
                format!("a program's queue pair was refused: {}", what.join(", ")),
            )
            .saw(source, &logged.line)
            .remedy(Action::Tune, "lower the engine's setting for it", &["rdmadoctor qp-matrix --engine all"]),
        );
    }
    if findings.is_empty() { vec![Finding::pass("host", "the log tells of no refused queue pair")] } else { findings }
}
