//! `compat` for people: an engine to a block, families gathered by what becomes of it.

use std::fmt::Write as _;

use super::{Style, Table};
use crate::compat::{Cell, Compat, Verdict};
use crate::request::Outcome;

impl Table for Compat {
    fn table(&self, style: &Style) -> String {
        let style = *style;
        let mut out = String::new();
        for cells in self.cells.chunk_by(|left, right| (&left.engine, &left.version) == (&right.engine, &right.version)) {
            if self.cells.len() == 1 {
                out += &explain(&cells[0], style);
            } else {
                out += &engine(cells, style);
            }
        }
        let _ = writeln!(
            out,
            "{}",
            style.dim(format!(
                "{} {} from models, {} in {} ms",
                self.cells.len(),
                if self.cells.len() == 1 { "verdict" } else { "verdicts" },
                super::qp_matrix::attempts(self.attempts_total),
                self.elapsed_us.div_ceil(1000)
            ))
        );
        out
    }
}

fn engine(cells: &[Cell], style: Style) -> String {
    let mut out = format!("{}\n", style.bold(format!("{} {}", cells[0].engine, cells[0].version)));
    let of = |verdict: Verdict| cells.iter().filter(move |cell| cell.verdict == verdict);
    let granted: Vec<&str> =
        of(Verdict::Granted).filter(|cell| cell.connects == Verdict::Granted).map(|cell| cell.family.as_str()).collect();
    if !granted.is_empty() {
        out += &style.entry("granted", &granted.join(", "));
    }
    let refused = together(of(Verdict::Refused).map(|cell| (cell.refusals().join("; "), cell)));
    let unconnected = cells.iter().filter(|cell| cell.verdict < Verdict::Refused && cell.connects == Verdict::Refused);
    let unconnected = together(unconnected.map(|cell| (unconnected_because(cell), cell)));
    let unknown = cells.iter().filter(|cell| cell.worst() == Verdict::Unknown);
    let unknown = together(unknown.map(|cell| (uncertainty(cell), cell)));
    for (label, groups) in [("REFUSED", refused), ("NO LINK", unconnected), ("unknown", unknown)] {
        for (why, families) in groups {
            out += &style.entry(label, &format!("{}: {why}", families.join(", ")));
        }
    }
    let notes = cells.iter().flat_map(|cell| cell.notes.iter().map(move |note| (note.clone(), cell)));
    // What the lines above have said is not said again.
    for (note, families) in
        together(notes.filter(|(note, cell)| cell.verdict == Verdict::Refused || !unconnected_because(cell).contains(note.as_str())))
    {
        let who = if families.len() == cells.len() { String::new() } else { format!("{}: ", families.join(", ")) };
        out += &style.entry("note", &format!("{who}{note}"));
    }
    out.push('\n');
    out
}

/// Families of which the same is told stand together.
fn together<'a>(told: impl Iterator<Item = (String, &'a Cell)>) -> Vec<(String, Vec<&'a str>)> {
    let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
    for (what, cell) in told {
        match groups.iter_mut().find(|(other, _)| *other == what) {
            Some((_, families)) => families.push(&cell.family),
            None => groups.push((what, vec![&cell.family])),
        }
    }
    groups
}

/// Why queue pairs that are granted, or may be, cannot be connected.
fn unconnected_because(cell: &Cell) -> String {
    if cell.connects == Verdict::Granted {
        return String::new();
    }
    let granted = if cell.verdict == Verdict::Granted { "granted".to_owned() } else { uncertainty(cell) };
    format!("{granted}, but {}", cell.notes.first().map_or("", String::as_str))
}

/// What an unknown verdict rests on.
pub(in crate::report) fn uncertainty(cell: &Cell) -> String {
    if cell.verdict == Verdict::Granted {
        return format!("granted; only inferred: {}", cell.notes.first().map_or("", String::as_str));
    }
    let queues = cell.queues.iter().filter(|queue| queue.rests_on != "source");
    let mut unsure: Vec<String> = Vec::new();
    let mut rests_on = "firmware";
    let mut is_granted = true;
    for queue in queues {
        unsure.extend(queue.unsure.iter().filter(|name| !unsure.contains(name)).cloned().collect::<Vec<_>>());
        is_granted &= queue.outcome.is_granted();
        if queue.rests_on == "inferred" {
            rests_on = "inferred";
        }
    }
    let likely = if is_granted { "granted" } else { "refused" };
    let basis = if rests_on == "firmware" { "set by firmware" } else { "only inferred" };
    format!("likely {likely}; the limit of {} is {basis}", unsure.join(", "))
}

/// One cell, whole.
fn explain(cell: &Cell, style: Style) -> String {
    let verdict = match cell.verdict {
        Verdict::Granted => style.good("granted"),
        Verdict::Unknown => style.warn(format!("unknown: {}", uncertainty(cell))),
        Verdict::Refused => style.bad("REFUSED"),
    };
    let link = match cell.connects {
        Verdict::Granted => String::new(),
        Verdict::Unknown => style.warn(", but perhaps it cannot connect"),
        Verdict::Refused if cell.verdict == Verdict::Refused => style.bad(", and it CANNOT CONNECT either"),
        Verdict::Refused => style.bad(", but CANNOT CONNECT"),
    };
    let mut out = format!("{} on {}: {verdict}{link}\n", style.bold(format!("{} {}", cell.engine, cell.version)), cell.family);
    for queue in &cell.queues {
        out += &style.entry(&queue.queue, &super::qp_matrix::describe(&queue.request));
        if let Outcome::Granted { caps, cq_depth } = &queue.outcome {
            let written = format!(
                "granted; written back: max_send_wr {}, max_recv_wr {}, max_send_sge {}, max_recv_sge {}, max_inline_data {}, cq_depth {cq_depth}",
                caps.max_send_wr, caps.max_recv_wr, caps.max_send_sge, caps.max_recv_sge, caps.max_inline_data
            );
            out += &style.entry("", &written);
        } else {
            out += &style.entry("", &queue.outcome.to_string());
        }
        for culprit in &queue.culprits {
            out += &style.entry("culprit", &super::qp_matrix::describe_culprit(culprit, true));
        }
        for remedy in &queue.remedies {
            out += &style.entry("remedy", &super::qp_matrix::describe_remedy(remedy, &cell.engine));
        }
        if queue.rests_on != "source" {
            out += &style.entry("doubt", &format!("rests on a figure that is {}: {}", queue.rests_on, queue.unsure.join(", ")));
        }
    }
    for note in &cell.notes {
        out += &style.entry("note", note);
    }
    out
}
