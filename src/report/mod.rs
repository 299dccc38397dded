//! Draws documents: one file a kind of output. Nothing here finds anything out.

mod caps;
mod compat;
mod devices;
mod modules;
mod qp_matrix;
mod text;

use std::io::{self, Write};

use serde::Serialize;

pub use text::Style;

/// A document that people can read in a terminal.
pub trait Table {
    /// Draws it, with a final newline.
    fn table(&self, style: &Style) -> String;
}

/// The kinds of output that every document has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs; its schema is published.
    Json,
}

/// Writes a document to standard output. A reader that has gone away is no error.
///
/// # Errors
/// Standard output cannot be written.
pub fn print<D: Table + Serialize>(document: &D, format: Format, style: &Style) -> io::Result<()> {
    let text = match format {
        Format::Table => document.table(style),
        Format::Json => serde_json::to_string_pretty(document).map_err(io::Error::other)? + "\n",
    };
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
