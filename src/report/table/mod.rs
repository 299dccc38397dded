//! Tables and lines for people: one file a document.

mod at_once;
pub(super) mod bench;
mod caps;
mod capture;
mod catalog;
pub(super) mod compat;
pub(super) mod counters;
mod devices;
mod explain;
mod gpu;
mod modules;
mod ordering;
mod pairs;
mod percentiles;
mod preflight;
mod probe;
mod profile;
pub(super) mod qp_matrix;
mod style;
#[cfg(test)]
mod tests;
pub(super) mod topo;

use std::io;

use super::{Document, Kind, Renderer, View};

pub(crate) use style::Style;

pub(super) struct Tables;

impl Renderer for Tables {
    fn documents(&self) -> &'static [Kind] {
        Kind::ALL
    }

    fn draw(&self, document: Document<'_>, view: &View<'_>) -> io::Result<Option<String>> {
        let table = document.table();
        let (before, after) = view.origin.map(|origin| origin.marks(&view.style, table.shown_figures())).unwrap_or_default();
        Ok(Some(before + &table.table(&view.style) + &after))
    }

    /// Lines before and after the table say it.
    fn marked(&self, text: String, _: &str) -> String {
        text
    }
}

/// A document that people can read in a terminal.
pub(super) trait Table {
    /// Draws it, with a final newline.
    fn table(&self, style: &Style) -> String;

    /// Which figures of a device model it shows, by the beginnings of their paths: doubts about others are of no interest to its reader.
    fn shown_figures(&self) -> &'static [&'static str] {
        &[]
    }
}
