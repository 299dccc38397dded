//! Engines against device families as a plane, with what each refusal rests on below.

use maud::{Markup, html};

use super::super::table::compat::uncertainty;
use super::super::table::qp_matrix::{describe, describe_culprit, describe_remedy};
use super::badge;
use crate::compat::{Cell, Compat, Verdict};

pub(super) fn draw(compat: &Compat) -> Markup {
    let mut families: Vec<&str> = Vec::new();
    for cell in &compat.cells {
        if !families.contains(&cell.family.as_str()) {
            families.push(&cell.family);
        }
    }
    let engines: Vec<&[Cell]> =
        compat.cells.chunk_by(|left, right| (&left.engine, &left.version) == (&right.engine, &right.version)).collect();
    html! {
        h3 { "Verdicts from models" }
        p.muted { "No device was asked. " (badge("unknown", "unknown")) " rests on a figure that firmware sets or that was only inferred; NO LINK: granted, but only one of engine and device connects by rdma_cm." }
        div.scroll tabindex="0" { table.map {
            thead { tr { th { "engine" } @for family in &families { th { (family) } } } }
            tbody { @for cells in &engines {
                tr {
                    th scope="row" { (cells[0].engine) " " (cells[0].version) }
                    @for family in &families {
                        @match cells.iter().find(|cell| cell.family == *family) {
                            Some(cell) => td class={ "heat " (class(cell.worst())) } title=(cell.refusals().join("; ")) { (word(cell)) },
                            None => td.heat { "-" },
                        }
                    }
                }
            } }
        } }
        @for cells in &engines { (engine(cells)) }
    }
}

fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Granted => "granted",
        Verdict::Unknown => "unknown",
        Verdict::Refused => "refused",
    }
}

fn word(cell: &Cell) -> &'static str {
    match (cell.verdict, cell.worst()) {
        (Verdict::Refused, _) => "REFUSED",
        (_, Verdict::Refused) => "NO LINK",
        (_, Verdict::Unknown) => "unknown",
        (_, Verdict::Granted) => "granted",
    }
}

/// What is not plainly granted of one engine's release.
fn engine(cells: &[Cell]) -> Markup {
    let told: Vec<&Cell> = cells.iter().filter(|cell| cell.worst() != Verdict::Granted || cells.len() == 1).collect();
    html! {
        @if !told.is_empty() {
            details {
                summary { (cells[0].engine) " " (cells[0].version) ": why" }
                @for cell in told { (explain(cell)) }
            }
        }
    }
}

fn explain(cell: &Cell) -> Markup {
    html! {
        article class=(class(cell.worst())) {
            h4 { (badge(class(cell.worst()), word(cell))) " " strong { (cell.family) } @if cell.worst() == Verdict::Unknown { ": " (uncertainty(cell)) } }
            @for queue in cell.queues.iter().filter(|queue| !queue.outcome.is_granted() || queue.rests_on != "source") {
                p { strong { (queue.queue) } ": " (queue.outcome) @if queue.optional { " (the engine goes on without it)" } }
                @for culprit in &queue.culprits { p { (describe_culprit(culprit, true)) } }
                @for remedy in &queue.remedies { p { strong { "Remedy: " } (describe_remedy(remedy, &cell.engine)) } }
                p.muted.mono { (describe(&queue.request)) }
            }
            @for note in &cell.notes { p.muted { (note) } }
        }
    }
}
