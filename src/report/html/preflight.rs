//! The gate: verdict, steps, and what changed.

use maud::{Markup, html};

use super::super::gate::{kind, summary};
use super::badge;
use super::findings::verdict_class;
use crate::checks::Probe;
use crate::preflight::{ChangeKind, Preflight};

/// Before the findings, which say why.
pub(super) fn draw(document: &Preflight, probe: Option<&Probe>) -> Markup {
    html! {
        p.verdict { (badge(verdict_class(&document.verdict), document.verdict.as_str())) " preflight: " (summary(document, probe)) span.muted { "; " (document.created) } }
        @if let Some(why) = &document.stopped { p.note { (why) } }
        h3 { "Steps" }
        div.scroll tabindex="0" { table {
            thead { tr { th { "result" } th { "step" } th { "of" } th { "took" } th { "what came of it" } } }
            tbody { @for step in &document.steps {
                tr {
                    td class={ "heat " (step.status.name()) } { (step.status.name()) }
                    th scope="row" { (step.step.name()) }
                    td { (step.subject.as_deref().unwrap_or_default()) }
                    td.number { (format!("{:.1} s", step.elapsed_us as f64 / 1e6)) }
                    td { (step.summary) }
                }
            } }
        } }
        (changes(document))
    }
}

fn changes(document: &Preflight) -> Markup {
    let class = |kind: ChangeKind| match kind {
        ChangeKind::Worse => "heat fail",
        ChangeKind::Other => "heat skip",
        ChangeKind::Better => "heat pass",
    };
    html! {
        @if let Some(comparison) = document.comparison.as_ref().filter(|comparison| !comparison.changes.is_empty()) {
            h3 { "Changed since " (comparison.created.as_deref().unwrap_or_default()) }
            div.scroll tabindex="0" { table {
                thead { tr { th { "change" } th { "what" } th { "was" } th { "is" } } }
                tbody { @for change in &comparison.changes {
                    tr {
                        td class=(class(change.kind)) { (kind(change.kind)) }
                        th scope="row" { (change.what) }
                        td { (change.was.as_deref().unwrap_or("-")) } td { (change.is.as_deref().unwrap_or("-")) }
                    }
                } }
            } }
        }
    }
}
