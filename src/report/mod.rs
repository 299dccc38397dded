//! Draws documents: one file a format. Nothing here finds anything out.
//!
//! To add a format, write its file and name it here. The documents that it draws say which commands offer it.

mod csv;
mod documents;
mod findings;
mod gate;
mod github;
pub(crate) mod html;
mod json;
mod junit;
mod markdown;
mod origin;
mod prometheus;
mod svg;
mod table;
#[cfg(test)]
mod tests;

use std::io::{self, Write};

use clap::ValueEnum;

use crate::text;

pub use documents::schemas;
pub(crate) use documents::{Document, Kind};
pub(crate) use origin::{Captured, Head, Modelled, Origin};
pub(crate) use svg::{bandwidth_svg, latency_svg};
pub(crate) use table::Style;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs; its schema is published.
    Json,
    /// XML that CI systems read.
    Junit,
    /// Annotations of GitHub Actions.
    Github,
    /// Metrics in the text format of Prometheus.
    Prometheus,
    /// For issues and pull requests.
    Markdown,
    /// A line for each figure.
    Csv,
    /// A page to look at and to send on, in one file.
    Html,
}

impl Format {
    fn renderer(self) -> &'static dyn Renderer {
        match self {
            Self::Table => &table::Tables,
            Self::Json => &json::Json,
            Self::Junit => &junit::Junit,
            Self::Github => &github::Github,
            Self::Prometheus => &prometheus::Prometheus,
            Self::Markdown => &markdown::Markdown,
            Self::Csv => &csv::Csv,
            Self::Html => &html::Html,
        }
    }

    pub(crate) fn all() -> impl Iterator<Item = Self> {
        Self::value_variants().iter().copied()
    }

    /// Its name on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// How one format draws documents.
trait Renderer {
    /// Those that it draws.
    fn documents(&self) -> &'static [Kind];

    /// A document, with a final newline; nothing where it is not among them.
    fn draw(&self, document: Document<'_>, view: &View<'_>) -> io::Result<Option<String>>;

    /// The text with a sentence on which host it is about. Formats that say it by themselves leave the text as it is.
    fn marked(&self, text: String, mark: &str) -> String;
}

/// What a format needs to know beside the document.
pub(crate) struct View<'a> {
    /// How text is drawn in a terminal.
    pub style: Style,
    /// What the document is about, if not this machine: then it says so.
    pub origin: Option<&'a Origin>,
    /// The host's name, for a page.
    pub host_name: String,
    /// Documents about the same host that a page shows as well.
    pub beside: &'a [Document<'a>],
}

/// A document as it is printed.
pub(crate) fn render(document: Document<'_>, format: Format, view: &View<'_>) -> io::Result<String> {
    let renderer = format.renderer();
    let no_such = || io::Error::other(format!("{} has no format {}", document.kind().schema(), format.name()));
    let text = renderer.draw(document, view)?.ok_or_else(no_such)?;
    let text = match view.origin {
        Some(origin) => renderer.marked(text, &text::line(&origin.mark())),
        None => text,
    };
    // Each string was filtered where it came in; this holds for those that nobody thought of.
    Ok(match format {
        Format::Json => text,
        Format::Table if view.style.color => text::painted(&text),
        _ => text::lines(&text).into_owned(),
    })
}

/// A document as JSON.
pub(crate) fn json(document: Document<'_>, origin: Option<&Origin>) -> io::Result<String> {
    document.json(origin)
}

/// Writes text as it is to standard output. A reader that has gone away is no error.
pub(crate) fn print_text(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
