//! Draws documents: one file a kind of output. Nothing here finds anything out.

mod bench;
mod caps;
mod compat;
mod devices;
mod explain;
mod modules;
mod probe;
mod qp_matrix;
mod text;
mod topo;

use std::io::{self, Write};

use schemars::JsonSchema;
use serde::Serialize;

use crate::catalog::Doubts;

pub use bench::bandwidth_svg;
pub use probe::checks_markdown;
pub use text::Style;

/// A document that people can read in a terminal.
pub trait Table {
    /// Draws it, with a final newline.
    fn table(&self, style: &Style) -> String;

    /// Which figures of a device model it shows, by the beginnings of their paths: doubts about others are of no interest to its reader.
    fn shown_figures(&self) -> &'static [&'static str] {
        &[]
    }

    /// The document in a format that not every document has.
    fn other(&self, _format: Format) -> Option<String> {
        None
    }
}

/// The kinds of output. Every document has the first two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs; its schema is published.
    Json,
    /// XML that CI systems read; of `probe` only.
    Junit,
    /// Annotations of GitHub Actions; of `probe` only.
    Github,
    /// Metrics in the text format of Prometheus; of `probe` only.
    Prometheus,
    /// For issues and pull requests; of `probe` only.
    Markdown,
    /// A line for each figure; of `ping` and `bw` only.
    Csv,
}

/// What a document about a modelled host says of that.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Modelled {
    /// The host's name.
    pub name: String,
    /// Figures of its devices that are not from source.
    pub doubts: Vec<Doubts>,
}

/// A document as JSON has it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "{D}Document")]
pub struct Document<D> {
    /// The document itself.
    #[serde(flatten)]
    pub document: D,
    /// The modelled host that it is about; absent where it is about this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_model: Option<Modelled>,
}

impl Modelled {
    /// Lines before and after the document, which shows figures whose paths begin with one of `shown`.
    fn marks(&self, style: &Style, shown: &[&str]) -> (String, String) {
        let before = style.warn(format!("This is the modelled host {}, not this machine.", self.name)) + "\n";
        let mut after = String::new();
        for doubts in &self.doubts {
            let kinds = [
                ("set by firmware on a real device, one that was seen is used", &doubts.set_by_firmware),
                ("only inferred", &doubts.inferred),
            ];
            for (what, paths) in kinds {
                let is_shown = |path: &&str| shown.iter().any(|prefix| path.starts_with(prefix)) && !path.ends_with("sure_up_to");
                let paths: Vec<&str> = paths.iter().map(String::as_str).filter(is_shown).collect();
                if !paths.is_empty() {
                    after += &style.entry("model", &format!("{}, {what}: {}", doubts.model, paths.join(", ")));
                }
            }
        }
        (before, after)
    }
}

/// Writes a document to standard output. `model` is the modelled host that it is about, if it is about one: then the document says so. A reader that has gone away is no error.
///
/// # Errors
/// Standard output cannot be written.
pub fn print<D: Table + Serialize>(document: &D, format: Format, style: &Style, model: Option<&Modelled>) -> io::Result<()> {
    let text = match format {
        Format::Table => {
            let (before, after) = model.map(|model| model.marks(style, document.shown_figures())).unwrap_or_default();
            before + &document.table(style) + &after
        }
        Format::Json => {
            // By way of a value, which has its keys in order.
            let value = serde_json::to_value(Document { document, host_model: model.cloned() }).map_err(io::Error::other)?;
            serde_json::to_string_pretty(&value).map_err(io::Error::other)? + "\n"
        }
        other => {
            let text = document.other(other).ok_or_else(|| io::Error::other("this document has no such format"))?;
            let mark = model.map(|model| format!("This is the modelled host {}, not this machine.", model.name));
            match (mark, other) {
                (None, _) => text,
                (Some(mark), Format::Prometheus | Format::Csv) => format!("# {mark}\n{text}"),
                (Some(mark), Format::Github) => format!("::notice::{mark}\n{text}"),
                // After the declaration, which must be the first thing of an XML document.
                (Some(mark), Format::Junit) => text.replacen("?>\n", &format!("?>\n<!-- {mark} -->\n"), 1),
                (Some(mark), _) => format!("{mark}\n\n{text}"),
            }
        }
    };
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
