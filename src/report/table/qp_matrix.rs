//! `qp-matrix` for people: the answer to what was asked, then the device's limits.

use std::fmt::Write as _;

use rdmadoctor_types::OutcomeKind;

use super::{Style, Table};
use crate::catalog::engine::Connect;
use crate::qp::{
    AskReport, Bound, Cause, CauseClass, CulpritReport, DeviceReport, Ending, Frontier, Grid, Outcome, Parameter, QpMatrix, Remedy, Shape,
    Value, newer_than_known, remedies_of,
};

impl Table for QpMatrix {
    fn shown_figures(&self) -> &'static [&'static str] {
        &["queue_pairs.", "completion_queues.", "shared_receive_queues.", "published.max_sge", "published.max_qp_wr", "published.max_cqe"]
    }

    fn table(&self, style: &Style) -> String {
        let mut out = String::new();
        // Hosts have many devices of a kind; what is the same of all is told once.
        for (index, device) in self.devices.iter().enumerate() {
            if self.devices[..index].iter().any(|other| is_same(other, device)) {
                continue;
            }
            if index > 0 {
                out.push('\n');
            }
            out += &draw_device(device, *style);
            let same: Vec<&str> =
                self.devices[index + 1..].iter().filter(|other| is_same(device, other)).map(|other| other.device.as_str()).collect();
            if !same.is_empty() {
                out += &format!("\n{}", style.entry("also on", &format!("{}: the same in every respect", same.join(", "))));
            }
        }
        out + &super::devices::problems(&self.problems, *style)
    }
}

/// Whether two devices' reports differ in nothing but the name and the time taken.
pub(in crate::report) fn is_same(left: &DeviceReport, right: &DeviceReport) -> bool {
    let plain = |report: &DeviceReport| {
        let timeless = DeviceReport { elapsed_us: 0, ..report.clone() };
        serde_json::to_string(&timeless).map(|text| text.replace(&report.device, "")).ok()
    };
    left.stopped.is_none() && plain(left) == plain(right)
}

fn draw_device(device: &DeviceReport, style: Style) -> String {
    let mut out = String::new();
    let family = device.family.as_ref().map(|family| format!(" ({family})")).unwrap_or_default();
    let _ = write!(out, "{}{family}", style.bold(&device.device));
    if let Some(reported) = &device.reported {
        let _ = write!(out, "  publishes max_sge {}, max_qp_wr {}, max_cqe {}", reported.max_sge, reported.max_qp_wr, reported.max_cqe);
    }
    out.push('\n');
    match device.base.as_ref().map(|base| (&base.request, &base.outcome)) {
        None | Some((_, Outcome::Granted { .. })) => {}
        Some((_, Outcome::NotRun { why })) => out += &style.entry("not tried", why),
        Some((request, outcome)) => {
            let _ = writeln!(out, "{}", style.bad("No queue pair can be made on this device, however modest."));
            out += &style.entry("tried", &describe(request));
            out += &device
                .base_cause
                .as_ref()
                .map_or_else(|| style.entry("came back", &outcome.to_string()), |cause| draw_cause(cause, style));
        }
    }
    for asks in
        device.asks.chunk_by(|left, right| left.engine.is_some() && (&left.engine, &left.version) == (&right.engine, &right.version))
    {
        out.push('\n');
        let is_unconnectable = device.connection.as_ref().is_some_and(|connection| connection.refused.is_some());
        out += &draw_group(asks, is_unconnectable, style);
    }
    out += &connection(device, style);
    if let Some(grid) = &device.grid {
        out.push('\n');
        out += &draw_grid(grid, style);
    }
    if let Some(why) = &device.count_failed {
        let _ = writeln!(out, "\n{}: {why}", style.bad("Queue pairs were not counted"));
    }
    if let Some(count) = &device.count {
        let _ = writeln!(out, "\n{}", style.bold("Queue pairs at once"));
        out += &style.entry("shape", &describe(&count.request));
        let found = match &count.counted.refused {
            Some(error) => format!("{} existed together; the next: {error}", count.counted.granted),
            None => format!("{} existed together, as many as --count asked", count.counted.granted),
        };
        out += &style.entry("found", &found);
    }
    if !device.bounds.is_empty() {
        out.push('\n');
        out += &bounds(device, style);
    }
    if !device.support.is_empty() {
        let words: Vec<String> = device
            .support
            .iter()
            .map(|support| match &support.outcome {
                Outcome::Granted { .. } => format!("{} yes", support.name),
                Outcome::Refused { error } => format!("{} no ({})", support.name, error.errno.name()),
                other => format!("{} {}", support.name, other.kind().name().replace('_', " ")),
            })
            .collect();
        out += &style.entry("types", &words.join(", "));
    }
    for joint in &device.joint {
        out += &style.entry("joint", &describe_joint(joint));
    }
    if let Some(why) = &device.stopped {
        let _ = writeln!(out, "\n{}", style.warn(format!("Not everything was tried: {why}.")));
    }
    let _ = writeln!(out, "\n{}", style.dim(format!("{} in {}", attempts(device.attempts_total), duration(device.elapsed_us))));
    out
}

/// `1 attempt`, `2 attempts`.
pub(super) fn attempts(count: u64) -> String {
    format!("{count} {}", if count == 1 { "attempt" } else { "attempts" })
}

fn duration(us: u64) -> String {
    if us < 1_000_000 { format!("{} ms", us.div_ceil(1000)) } else { format!("{:.1} s", us as f64 / 1e6) }
}

/// The request in one line, without what is at its plainest.
pub(in crate::report) fn describe(request: &crate::qp::QpRequest) -> String {
    let mut words = vec![request.qp_type.to_string()];
    words.extend(Parameter::NUMERIC.iter().map(|parameter| format!("{parameter} {}", parameter.get(request))));
    words.extend(request.srq.map(|srq| format!("shared receive queue of {} with {} entries each", srq.max_wr, srq.max_sge)));
    words.join(", ")
}

/// The queue pairs of one engine, or one request of the user's: the verdict first, what mends it last.
fn draw_group(asks: &[AskReport], is_unconnectable: bool, style: Style) -> String {
    let Some(first) = asks.first() else { return String::new() };
    let who = match (&first.engine, &first.version) {
        (Some(engine), Some(version)) => format!("{engine} {version}"),
        _ => "The request".to_owned(),
    };
    let failed = asks.iter().filter(|ask| ask.verdict != OutcomeKind::Granted && !ask.optional).count();
    let verdict = match asks.iter().find(|ask| ask.verdict != OutcomeKind::Granted && !ask.optional) {
        None if is_unconnectable && first.connect == Some(Connect::Oob) => {
            style.warn("granted, but it cannot connect its queue pairs here (see below)")
        }
        None => style.good("granted"),
        Some(ask) if ask.verdict == OutcomeKind::NotRun => style.warn("not run"),
        Some(ask) => style.bad(ask.verdict.as_str().to_uppercase()),
    };
    let of = if asks.len() > 1 { format!(" ({} of {} queue pairs granted)", asks.len() - failed, asks.len()) } else { String::new() };
    let mut out = format!("{}: {verdict}{of}\n", style.bold(who));
    if let (Some(asked), Some(version)) = (&first.asked_version, &first.version) {
        out += &style.entry("note", &newer_than_known(asked, version));
    }
    for ask in asks {
        if ask.verdict == OutcomeKind::NotRun || (first.engine.is_some() && (asks.len() > 1 || ask.verdict != OutcomeKind::Granted)) {
            let note = if ask.optional { " (the engine goes on without it)" } else { "" };
            out += &style
                .entry(&ask.queue, &format!("{}{note}", ask.attempts.first().map_or(String::new(), |attempt| attempt.outcome.to_string())));
        }
        out += &draw_ask(ask, style);
    }
    let engine = first.engine.as_deref().unwrap_or_default();
    for line in remedies_of(asks) {
        out += &style.entry("remedy", &describe_remedy(&line, engine));
    }
    if let Some(symptom) = asks.iter().find_map(|ask| ask.on_refusal.as_ref()) {
        out += &style.entry("seen as", symptom);
    }
    out
}

fn draw_ask(ask: &AskReport, style: Style) -> String {
    let mut out = String::new();
    let is_wrong = ask.is_refused();
    for culprit in &ask.culprits {
        out += &style.entry("culprit", &describe_culprit(culprit, ask.engine.is_some()));
    }
    for alternative in &ask.alternatives {
        let words: Vec<String> = alternative.iter().map(|culprit| describe_culprit(culprit, ask.engine.is_some())).collect();
        out += &style.entry("or instead", &words.join("; "));
    }
    if let Some(cause) = &ask.cause {
        // What came back stands in the queue pair's own line already.
        let came_back = ask.attempts.first().map(|attempt| attempt.outcome.to_string());
        let mut cause = cause.clone();
        cause.evidence.retain(|evidence| ask.engine.is_none() || Some(evidence) != came_back.as_ref());
        out += &draw_cause(&cause, style);
    }
    if is_wrong || style.verbose {
        out += &style.entry("asked", &describe(&ask.request));
    }
    for lowered in ask.lowered.iter().filter(|_| is_wrong || style.verbose) {
        out += &style.entry("", lowered);
    }
    if style.verbose {
        for attempt in &ask.attempts {
            out += &style.entry("attempt", &format!("{}: {}", describe(&attempt.request), outcome_with_caps(&attempt.outcome)));
        }
    }
    out
}

fn outcome_with_caps(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Granted { caps, cq_depth } => format!(
            "granted with max_send_wr {}, max_recv_wr {}, max_send_sge {}, max_recv_sge {}, max_inline_data {}, cq_depth {cq_depth}",
            caps.max_send_wr, caps.max_recv_wr, caps.max_send_sge, caps.max_recv_sge, caps.max_inline_data
        ),
        other => other.to_string(),
    }
}

pub(in crate::report) fn describe_culprit(culprit: &CulpritReport, is_engine: bool) -> String {
    let asked = match culprit.parameter {
        Parameter::Srq if culprit.accepted == Value::Number(0) => "a shared receive queue is asked, the device has none".to_owned(),
        _ if !culprit.exact => {
            format!("asked {}, the device accepts at least {} (the search was cut short)", culprit.asked, culprit.accepted)
        }
        _ if culprit.asked.number().is_some() && culprit.asked.number() < culprit.accepted.number() => {
            format!("asked {}, the device needs at least {}", culprit.asked, culprit.accepted)
        }
        _ => format!("asked {}, the device accepts {}", culprit.asked, culprit.accepted),
    };
    let setting = match (&culprit.setting, is_engine) {
        (Some(setting), _) => format!(" (set by {setting})"),
        (None, true) => " (no setting changes it)".to_owned(),
        (None, false) => String::new(),
    };
    format!("{}: {asked}{setting}", culprit.parameter)
}

fn draw_cause(cause: &Cause, style: Style) -> String {
    let class = match cause.class {
        CauseClass::OverLimit => "over a limit",
        CauseClass::Resources => "resources",
        CauseClass::Driver => "driver, firmware or provider",
        CauseClass::Network => "network configuration",
    };
    let mut out = style.entry("cause", &format!("{class}: {}", cause.summary));
    for evidence in &cause.evidence {
        out += &style.entry("evidence", evidence);
    }
    if let Some(next) = &cause.next_step {
        out += &style.entry("next", next);
    }
    out
}

pub(in crate::report) fn describe_remedy(remedy: &Remedy, engine: &str) -> String {
    match remedy {
        Remedy::Settings { settings } => format!("start {engine} with {} (granted here)", settings.join(" ")),
        Remedy::Versions { versions } => format!("{engine} {}: all its queue pairs are granted here", versions.join(" or ")),
        Remedy::NoSetting { parameters } => {
            let names: Vec<_> = parameters.iter().map(|parameter| parameter.name()).collect();
            format!("no setting of {engine} changes {}; it takes another version or a patch", names.join(" or "))
        }
        Remedy::Request { changes } => format!("ask {} (granted here)", changes.join(" and ")),
    }
}

fn connection(device: &DeviceReport, style: Style) -> String {
    match &device.connection {
        Some(connection) if connection.refused.is_some() => {
            let mut out = format!("\n{}\n", style.warn("A queue pair of this device cannot be connected the way most engines do it."));
            out += &connection.cause.as_ref().map_or_else(
                || style.entry("came back", connection.refused.as_deref().unwrap_or_default()),
                |cause| draw_cause(cause, style),
            );
            out
        }
        Some(connection) if style.verbose => format!("\nA queue pair connected with itself reached {}.\n", connection.reached),
        _ => String::new(),
    }
}

fn bounds(device: &DeviceReport, style: Style) -> String {
    let kind = device.base.as_ref().map_or("RC", |base| base.request.qp_type.name());
    let mut out = format!("{}\n", style.bold(format!("Bounds ({kind}, the other parameters small)")));
    let rows: Vec<Vec<String>> = device
        .bounds
        .iter()
        .map(|bound| {
            let refused = match (bound.refused, &bound.errno_name) {
                (Some(value), Some(errno)) => format!("{value} {errno}"),
                (Some(value), None) => format!("{value} {}", word_of(&bound.ending)),
                (None, _) => "-".to_owned(),
            };
            let zero = match &bound.zero {
                None => "-".to_owned(),
                Some(Outcome::Granted { .. }) => "accepted".to_owned(),
                Some(Outcome::Refused { error }) => error.errno.name(),
                Some(other) => other.kind().name().replace('_', " "),
            };
            vec![
                bound.parameter.to_string(),
                bound.accepted.map_or("-".to_owned(), |value| value.to_string()),
                refused,
                bound.reported.map_or("-".to_owned(), |value| value.to_string()),
                zero,
                remark(bound),
            ]
        })
        .collect();
    out += &style.columns(&["parameter", "accepted", "refused", "published", "zero", ""], &rows);
    out
}

fn word_of(ending: &Ending) -> String {
    match ending {
        Ending::Broken { outcome } => outcome.kind().to_string(),
        _ => String::new(),
    }
}

pub(in crate::report) fn remark(bound: &Bound) -> String {
    if let Shape::AcceptedAbove { value } = bound.shape {
        return format!("not monotone: {value} is accepted again");
    }
    match &bound.ending {
        Ending::Limit | Ending::None => match (bound.reported, bound.accepted) {
            (Some(reported), Some(accepted)) if reported < i64::from(accepted) => "more than published".to_owned(),
            (Some(reported), Some(accepted)) if reported > i64::from(accepted) => "less than published".to_owned(),
            _ => String::new(),
        },
        Ending::Resources => "resources, not a limit: locked or device memory".to_owned(),
        Ending::Exhausted => "unknown: the base failed too, something ran out".to_owned(),
        Ending::BeyondMemory => "at least; more was not tried (--max-memory)".to_owned(),
        Ending::Broken { outcome } => format!("the next value {}", outcome.kind()),
        Ending::Stopped { .. } => "at least; the search was stopped".to_owned(),
    }
}

pub(in crate::report) fn describe_joint(joint: &Frontier) -> String {
    let over = joint.over.name();
    if let Some(broken) = &joint.broken {
        let at = |parameter: Parameter| format!("{parameter} {}", parameter.get(&broken.request));
        return format!(
            "{} over {over} is not known: {} with {} and {}",
            joint.parameter,
            broken.outcome,
            at(joint.parameter),
            at(joint.over)
        );
    }
    let start = if joint.complete { String::new() } else { "(incomplete) ".to_owned() };
    if joint.independent {
        let capped = joint.points.iter().map(|point| point.accepted).min() != joint.points.iter().map(|point| point.accepted).max();
        let within = if capped { ", as far as --max-memory lets it be tried" } else { "" };
        return format!("{start}{} does not depend on {over}{within}", joint.parameter);
    }
    let steps: Vec<String> = joint.points.iter().map(|point| format!("{} up to {}", point.accepted, point.up_to)).collect();
    format!("{start}{} falls as {over} grows: {}", joint.parameter, steps.join(", "))
}

/// A cell of a grid in one word.
pub(in crate::report) fn word_of_cell(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Granted { .. } => "yes".to_owned(),
        Outcome::Refused { error } => error.errno.name(),
        other => other.kind().name().replace('_', " "),
    }
}

fn draw_grid(grid: &Grid, style: Style) -> String {
    let mut out = format!("{}\n", style.bold("Grid"));
    match grid.parameters.as_slice() {
        // Two dimensions are drawn as a plane, anything else as a list.
        [down, across] => {
            let mut columns: Vec<Value> = Vec::new();
            let mut rows: Vec<(Value, Vec<String>)> = Vec::new();
            for cell in &grid.cells {
                if !columns.contains(&cell.values[1]) {
                    columns.push(cell.values[1]);
                }
                match rows.last_mut() {
                    Some((value, words)) if *value == cell.values[0] => words.push(word_of_cell(&cell.outcome)),
                    _ => rows.push((cell.values[0], vec![word_of_cell(&cell.outcome)])),
                }
            }
            let corner = format!("{down} \\ {across}");
            let header: Vec<String> = std::iter::once(corner).chain(columns.iter().map(Value::to_string)).collect();
            let header: Vec<&str> = header.iter().map(String::as_str).collect();
            let rows: Vec<Vec<String>> =
                rows.into_iter().map(|(value, words)| std::iter::once(value.to_string()).chain(words).collect()).collect();
            out += &style.columns(&header, &rows);
        }
        parameters => {
            let mut header: Vec<&str> = parameters.iter().map(|parameter| parameter.name()).collect();
            header.push("");
            let rows: Vec<Vec<String>> = grid
                .cells
                .iter()
                .map(|cell| cell.values.iter().map(Value::to_string).chain([word_of_cell(&cell.outcome)]).collect())
                .collect();
            out += &style.columns(&header, &rows);
        }
    }
    out
}
