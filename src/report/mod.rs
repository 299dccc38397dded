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

/// Writes a document to standard output. `model` is the name of the modelled host that it is about, if it is about one: then the document
/// says so. A reader that has gone away is no error.
///
/// # Errors
/// Standard output cannot be written.
pub fn print<D: Table + Serialize>(document: &D, format: Format, style: &Style, model: Option<&str>) -> io::Result<()> {
    let text = match format {
        Format::Table => {
            let mark = model.map(|model| style.warn(format!("This is the modelled host {model}, not this machine.")) + "\n");
            mark.unwrap_or_default() + &document.table(style)
        }
        Format::Json => {
            let mut value = serde_json::to_value(document).map_err(io::Error::other)?;
            if let (Some(object), Some(model)) = (value.as_object_mut(), model) {
                object.insert("host_model".to_owned(), model.into());
            }
            serde_json::to_string_pretty(&value).map_err(io::Error::other)? + "\n"
        }
    };
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
