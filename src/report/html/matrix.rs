//! What was asked as a heat map, why it was refused, and the device's limits.

use maud::{Markup, html};
use rdmadoctor_types::OutcomeKind;

use super::super::table::qp_matrix::{describe, describe_culprit, describe_joint, describe_remedy, is_same, remark, word_of_cell};
use super::{badge, commands, plane, tables};
use crate::qp::{AskReport, Cause, DeviceReport, Grid, Outcome, Parameter, QpMatrix, Remedy, Value, remedies_of};

/// Rows and columns of a grid drawn at most: more is no picture.
const MOST_GRID_LINES: usize = 100;

pub(super) fn draw(matrix: &QpMatrix) -> Markup {
    html! {
        h3 { "Queue pairs, by trying" }
        @for (index, report) in matrix.devices.iter().enumerate() {
            @match matrix.devices[..index].iter().find(|other| is_same(other, report)) {
                Some(other) => p { strong { (report.device) } ": in every respect the same as " (other.device) },
                None => (device(report)),
            }
        }
        (tables::problems(&matrix.problems))
    }
}

fn device(report: &DeviceReport) -> Markup {
    let refused = report.base.as_ref().filter(|base| !base.outcome.is_granted());
    html! {
        h4 { (report.device) @if let Some(family) = &report.family { " (" (family) ")" } }
        @if let Some(reported) = &report.reported {
            p.muted { "publishes max_sge " (reported.max_sge) ", max_qp_wr " (reported.max_qp_wr) ", max_cqe " (reported.max_cqe) }
        }
        @if let Some(base) = refused {
            article.refused { h4 { "No queue pair can be made on this device, however modest." } p { (base.outcome) } (cause(report.base_cause.as_ref())) }
        }
        @if !report.asks.is_empty() { (heat_map(report)) (refusals(report)) }
        @if let Some(connection) = &report.connection {
            @if let Some(refused) = &connection.refused {
                article.warn {
                    h4 { (badge("warn", "warn")) " A queue pair of this device cannot be connected the way most engines do it." }
                    @if connection.cause.is_some() { (cause(connection.cause.as_ref())) } @else { p { (refused) } }
                }
            }
        }
        @if !report.bounds.is_empty() { (bounds(report)) }
        @if !report.support.is_empty() {
            p { "Types: " @for support in &report.support { (badge(class(&support.outcome), &support.name)) " " } }
        }
        @for joint in &report.joint {
            @if joint.independent || joint.broken.is_some() || joint.points.is_empty() { p.muted { (describe_joint(joint)) } }
            @else {
                h4 { (joint.parameter.name()) " over " (joint.over.name()) }
                (plane::draw(joint, &report.bounds, &report.asks))
                details { summary { "Figures" } p { (describe_joint(joint)) } }
            }
        }
        @if let Some(grid) = &report.grid { (self::grid(grid)) }
        @if let Some(why) = &report.count_failed { p.note { "Queue pairs were not counted: " (why) } }
        @if let Some(count) = &report.count {
            p { (count.counted.granted) " queue pairs existed together" @if let Some(error) = &count.counted.refused { "; the next: " (error) } }
            p.muted.mono { (describe(&count.request)) }
        }
        @if let Some(why) = &report.stopped { p.note { "Not everything was tried: " (why) "." } }
    }
}

fn class(outcome: &Outcome) -> &'static str {
    class_of(Some(outcome.kind()))
}

fn class_of(kind: Option<OutcomeKind>) -> &'static str {
    match kind {
        Some(OutcomeKind::Granted) => "granted",
        Some(OutcomeKind::Refused | OutcomeKind::Crashed | OutcomeKind::Hung) => "refused",
        Some(OutcomeKind::NotRun) | None => "none",
    }
}

fn name(ask: &AskReport) -> String {
    match (&ask.engine, &ask.version) {
        (Some(engine), Some(version)) => format!("{engine} {version}"),
        _ => "the request".to_owned(),
    }
}

/// Requests against parameters: what is granted, and which values are refused.
fn heat_map(report: &DeviceReport) -> Markup {
    let cell = |ask: &AskReport, parameter: Parameter| {
        let asked = parameter.get(&ask.request);
        let culprit = ask.culprits.iter().find(|culprit| culprit.parameter == parameter);
        let bound = report.bounds.iter().find(|bound| bound.parameter == parameter).and_then(|bound| bound.accepted);
        let is_within = bound.zip(asked.number()).is_some_and(|(bound, asked)| asked <= bound);
        let class = match culprit {
            Some(_) => "refused hit",
            None if ask.verdict == OutcomeKind::Granted || is_within => "granted",
            None => "none",
        };
        let asked = if parameter == Parameter::Srq && asked == Value::Number(0) { "no".to_owned() } else { asked.to_string() };
        (class, asked, culprit.map(|culprit| culprit.accepted.to_string()))
    };
    let parameters = || std::iter::once(Parameter::QpType).chain(Parameter::NUMERIC).chain([Parameter::Srq]);
    html! {
        div.scroll tabindex="0" { table.map {
            caption { "What each engine asks; a refused value stands with the one that is granted." }
            thead { tr { th { "engine" } th { "queue pair" } th { "verdict" } @for parameter in parameters() { th { (parameter.name()) } } } }
            tbody { @for ask in &report.asks {
                tr {
                    th scope="row" { (name(ask)) }
                    td { (ask.queue) @if ask.optional { " (optional)" } }
                    td class={ "heat " (class_of(ask.verdict.known())) } { (ask.verdict.as_str().replace('_', " ")) }
                    @for parameter in parameters() {
                        @let (class, asked, accepted) = cell(ask, parameter);
                        td class={ "heat " (class) } { (asked) @if let Some(accepted) = accepted { " → " (accepted) } }
                    }
                }
            } }
        } }
    }
}

fn refusals(report: &DeviceReport) -> Markup {
    let groups =
        report.asks.chunk_by(|left, right| left.engine.is_some() && (&left.engine, &left.version) == (&right.engine, &right.version));
    html! {
        @for asks in groups {
            @if asks.iter().any(|ask| ask.verdict != OutcomeKind::Granted) { (group(asks)) }
        }
    }
}

fn group(asks: &[AskReport]) -> Markup {
    let engine = asks[0].engine.as_deref().unwrap_or_default();
    let remedies = remedies_of(asks);
    let bad: Vec<&AskReport> = asks.iter().filter(|ask| ask.verdict != OutcomeKind::Granted).collect();
    let is_bad = bad.iter().any(|ask| !ask.optional);
    html! {
        article class=(if is_bad { "refused" } else { "warn" }) {
            @for ask in bad {
                h4 { (badge(class_of(ask.verdict.known()), ask.verdict.as_str())) " " strong { (name(ask)) } ", " (ask.queue) @if ask.optional { " (the engine goes on without it)" } }
                @for culprit in &ask.culprits { p { (describe_culprit(culprit, ask.engine.is_some())) } }
                @for alternative in &ask.alternatives {
                    p { "or instead: " (alternative.iter().map(|culprit| describe_culprit(culprit, ask.engine.is_some())).collect::<Vec<_>>().join("; ")) }
                }
                (cause(ask.cause.as_ref()))
                details {
                    summary { "Evidence" }
                    @for lowered in &ask.lowered { p { (lowered) } }
                    ul.plain { @for attempt in &ask.attempts { li.mono { (badge(class(&attempt.outcome), &attempt.outcome.to_string())) " " (describe(&attempt.request)) } } }
                }
            }
            @for remedy in &remedies {
                div.remedy {
                    p { strong { "Remedy: " } (describe_remedy(remedy, engine)) }
                    @if let Remedy::Settings { settings } = remedy { (commands(&settings.iter().map(|setting| format!("export {setting}")).collect::<Vec<_>>())) }
                }
            }
            @if let Some(symptom) = asks.iter().find_map(|ask| ask.on_refusal.as_ref()) { p.muted { "seen as: " (symptom) } }
        }
    }
}

fn cause(cause: Option<&Cause>) -> Markup {
    html! {
        @if let Some(cause) = cause {
            p { (cause.summary) }
            @if let Some(next) = &cause.next_step { p { strong { "Next: " } (next) } }
            @if !cause.evidence.is_empty() {
                details { summary { "What shows it" } ul { @for evidence in &cause.evidence { li { (evidence) } } } }
            }
        }
    }
}

fn bounds(report: &DeviceReport) -> Markup {
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    html! {
        div.scroll tabindex="0" { table {
            caption { "Bounds, the other parameters small" }
            thead { tr { th { "parameter" } th { "accepted" } th { "refused" } th { "published" } th {} } }
            tbody { @for bound in &report.bounds {
                tr {
                    th scope="row" { (bound.parameter.name()) }
                    td.number.granted { (or_dash(bound.accepted.map(|value| value.to_string()))) }
                    td.number { (or_dash(bound.refused.map(|value| value.to_string()))) " " (bound.errno_name.as_deref().unwrap_or_default()) }
                    td.number { (or_dash(bound.reported.map(|value| value.to_string()))) }
                    td { (remark(bound)) }
                }
            } }
        } }
    }
}

/// Two dimensions as a plane, others as a list.
fn grid(grid: &Grid) -> Markup {
    let too_many = grid.cells.len() > MOST_GRID_LINES * MOST_GRID_LINES;
    html! {
        h4 { "Grid" }
        @if too_many { p.note { (grid.cells.len()) " combinations are too many to draw; --format json has them all." } }
        @else { div.scroll tabindex="0" { table.map { @match grid.parameters.as_slice() {
            [down, across] => (grid_plane(grid, *down, *across)),
            parameters => {
                thead { tr { @for parameter in parameters { th { (parameter.name()) } } th { "result" } } }
                tbody { @for cell in &grid.cells {
                    tr { @for value in &cell.values { td.number { (value) } } td class={ "heat " (class(&cell.outcome)) } { (word_of_cell(&cell.outcome)) } }
                } }
            }
        } } } }
    }
}

fn grid_plane(grid: &Grid, down: Parameter, across: Parameter) -> Markup {
    let mut columns: Vec<Value> = Vec::new();
    for value in grid.cells.iter().filter_map(|cell| cell.values.get(1)) {
        if !columns.contains(value) {
            columns.push(*value);
        }
    }
    html! {
        thead { tr { th { (down.name()) " \\ " (across.name()) } @for value in &columns { th { (value) } } } }
        tbody { @for row in grid.cells.chunk_by(|left, right| left.values.first() == right.values.first()) {
            tr {
                th scope="row" { @if let Some(value) = row.first().and_then(|cell| cell.values.first()) { (value) } }
                @for cell in row { td class={ "heat " (class(&cell.outcome)) } { (word_of_cell(&cell.outcome)) } }
            }
        } }
    }
}
