//! Draws documents: one file a kind of output. Nothing here finds anything out.

mod at_once;
mod bench;
mod caps;
mod catalog;
mod compat;
mod counted;
mod devices;
mod explain;
mod gpu;
pub mod html;
mod modules;
mod ordering;
mod pairs;
mod plot;
mod preflight;
mod probe;
mod profile;
mod qp_matrix;
mod text;
mod topo;

use std::io::{self, Write};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::catalog::Doubts;

pub use plot::{bandwidth_svg, latency_svg};
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
    /// A page to look at and to send on, in one file; of `probe`, `qp-matrix`, `compat` and `report`.
    Html,
}

impl Format {
    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Json => "json",
            Self::Junit => "junit",
            Self::Github => "github",
            Self::Prometheus => "prometheus",
            Self::Markdown => "markdown",
            Self::Csv => "csv",
            Self::Html => "html",
        }
    }
}

/// What a document is about, where it is not this machine.
#[derive(Debug, Clone)]
pub enum Origin {
    /// A modelled host.
    Model(Modelled),
    /// A host whose facts were written to a file.
    Capture(Captured),
}

/// What a document of a capture says of that.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Captured {
    /// The file.
    pub file: String,
    /// When it was written.
    pub created: String,
    /// By which release.
    pub tool_version: String,
    /// With how much effort.
    pub level: String,
    /// Whether addresses, serial numbers and names of hosts were replaced.
    pub is_redacted: bool,
    /// The host, where it has a name.
    pub host_name: Option<String>,
    /// The modelled host, where it is of one.
    pub host_model: Option<String>,
}

impl Origin {
    /// One sentence.
    fn mark(&self) -> String {
        match self {
            Self::Model(model) => format!("This is the modelled host {}, not this machine.", model.name),
            Self::Capture(capture) => {
                let of = match (&capture.host_model, &capture.host_name) {
                    (Some(model), _) => format!(" of the modelled host {model}"),
                    (None, Some(name)) => format!(" of {name}"),
                    (None, None) => String::new(),
                };
                let kind = if capture.is_redacted { ", redacted" } else { "" };
                let Captured { created, tool_version, level, .. } = capture;
                format!("This is a capture{of} from {created} (rdmadoctor {tool_version}, level {level}{kind}), not this machine.")
            }
        }
    }

    /// Lines before and after the document, which shows figures whose paths begin with one of `shown`.
    fn marks(&self, style: &Style, shown: &[&str]) -> (String, String) {
        let before = style.warn(self.mark()) + "\n";
        match self {
            Self::Model(model) => (before, model.after(style, shown)),
            Self::Capture(_) => (before, String::new()),
        }
    }
}

/// What a document about a modelled host says of that.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
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
    /// The capture that it is about; absent where it is about this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_capture: Option<Captured>,
}

impl<D> Document<D> {
    fn new(document: D, origin: Option<&Origin>) -> Self {
        let (host_model, from_capture) = match origin {
            None => (None, None),
            Some(Origin::Model(model)) => (Some(model.clone()), None),
            Some(Origin::Capture(capture)) => (None, Some(capture.clone())),
        };
        Self { document, host_model, from_capture }
    }
}

impl Modelled {
    /// Lines after a document that shows figures whose paths begin with one of `shown`.
    fn after(&self, style: &Style, shown: &[&str]) -> String {
        let mut after = String::new();
        for doubts in &self.doubts {
            let kinds = [("only inferred", &doubts.inferred), ("as firmware of one device had it", &doubts.set_by_firmware)];
            let mut told = Vec::new();
            for (what, paths) in kinds {
                let is_shown = |path: &&str| shown.iter().any(|prefix| path.starts_with(prefix)) && !path.ends_with("sure_up_to");
                let mut names: Vec<String> = Vec::new();
                for path in paths.iter().map(String::as_str).filter(is_shown) {
                    let name = if style.verbose { path.to_owned() } else { short_name(path) };
                    if !names.contains(&name) {
                        names.push(name);
                    }
                }
                if !names.is_empty() {
                    told.push(format!("{what}: {}", names.join(", ")));
                }
            }
            if !told.is_empty() {
                after += &style.entry("model", &format!("{}, {}", doubts.model, told.join("; ")));
            }
        }
        after
    }
}

/// A figure's name as its reader knows it, from its path in a device file.
fn short_name(path: &str) -> String {
    let path = [".limit", ".zero", ".written_back"].iter().find_map(|what| path.strip_suffix(what)).unwrap_or(path);
    if path == "completion_queues.entries" {
        return "cq_depth".to_owned();
    }
    let (place, name) = path.rsplit_once('.').unwrap_or(("", path));
    if place == "shared_receive_queues" { format!("srq {name}") } else { name.to_owned() }
}

/// A document as it is printed. `origin` is what it is about, if not this machine: then the document says so.
///
/// # Errors
/// It is not to be had in that format.
pub fn render<D: Table + Serialize>(document: &D, format: Format, style: &Style, origin: Option<&Origin>) -> io::Result<String> {
    Ok(match format {
        Format::Table => {
            let (before, after) = origin.map(|origin| origin.marks(style, document.shown_figures())).unwrap_or_default();
            before + &document.table(style) + &after
        }
        Format::Json => json(document, origin)?,
        other => {
            let text = document.other(other).ok_or_else(|| io::Error::other("this document has no such format"))?;
            let mark = origin.map(Origin::mark);
            match (mark, other) {
                (None, _) => text,
                (Some(mark), Format::Prometheus | Format::Csv) => format!("# {mark}\n{text}"),
                (Some(mark), Format::Github) => format!("::notice::{mark}\n{text}"),
                // After the declaration, which must be the first thing of an XML document.
                (Some(mark), Format::Junit) => text.replacen("?>\n", &format!("?>\n<!-- {mark} -->\n"), 1),
                (Some(mark), _) => format!("{mark}\n\n{text}"),
            }
        }
    })
}

/// A document as JSON has it.
///
/// # Errors
/// It is not to be had as JSON.
pub fn json<D: Serialize>(document: &D, origin: Option<&Origin>) -> io::Result<String> {
    // By way of a value, which has its keys in order.
    let value = serde_json::to_value(Document::new(document, origin)).map_err(io::Error::other)?;
    Ok(serde_json::to_string_pretty(&value).map_err(io::Error::other)? + "\n")
}

/// Writes text as it is to standard output. A reader that has gone away is no error.
///
/// # Errors
/// Standard output cannot be written.
pub fn print_text(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
