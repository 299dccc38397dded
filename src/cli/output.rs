//! The way to print: documents in the format that was asked for, pages, and files.

use std::io::IsTerminal;
use std::path::Path;

use anyhow::Context as _;
use clap::ColorChoice;

use crate::files::{self, Existing};
use crate::report::{self, Document, Format, Origin, Style, View};
use crate::text;

/// How a run prints.
pub struct Output {
    pub format: Format,
    pub color: ColorChoice,
    pub verbose: bool,
    /// Whether to show no progress.
    pub quiet: bool,
    /// What documents are about, where it is not this machine.
    pub origin: Option<Origin>,
}

impl Output {
    /// Writes a file whole: whoever reads it sees the old one or the new one.
    pub fn write_file(path: &Path, text: &str) -> anyhow::Result<()> {
        Ok(files::write(path, text::lines(text).as_bytes(), 0o644, Existing::Replaced)?)
    }

    /// Prints text as it is: a file's content.
    pub fn print_text(&self, text: &str) -> anyhow::Result<()> {
        print(&text::lines(text))
    }

    /// A document as JSON has it, with what it is about.
    pub fn json<'a>(&self, document: impl Into<Document<'a>>) -> anyhow::Result<String> {
        report::json(document.into(), self.origin.as_ref()).context("cannot make a document of it")
    }

    /// A document in the format that was asked for, as it is printed. A page shows those `beside` it as well.
    fn rendered<'a>(&self, document: impl Into<Document<'a>>, beside: &[Document<'_>]) -> anyhow::Result<String> {
        let color = match self.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            // https://no-color.org: any value but an empty one.
            ColorChoice::Auto => std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        };
        let host_name = match &self.origin {
            Some(Origin::Model(model)) => model.name.clone(),
            Some(Origin::Capture(capture)) => capture.host_name.clone().unwrap_or_else(|| capture.file.clone()),
            None => nix::unistd::gethostname().map_or_else(|_| "this host".to_owned(), |name| name.to_string_lossy().into_owned()),
        };
        let style = Style { color, width: width(), verbose: self.verbose };
        let view = View { style, origin: self.origin.as_ref(), host_name, beside };
        report::render(document.into(), self.format, &view).context("cannot make a report of it")
    }

    /// Prints a document in the format that was asked for.
    pub fn print<'a>(&self, document: impl Into<Document<'a>>) -> anyhow::Result<()> {
        self.print_beside(document, &[])
    }

    /// As [`Self::print`]; a page shows those `beside` it as well.
    pub fn print_beside<'a>(&self, document: impl Into<Document<'a>>, beside: &[Document<'_>]) -> anyhow::Result<()> {
        print(&self.rendered(document, beside)?)
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    report::print_text(text).context("cannot write to standard output")
}

/// Columns of the terminal; 100 where output is piped, which suits both logs and people.
fn width() -> usize {
    let asked = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    asked.or_else(|| console::Term::stdout().size_checked().map(|(_, columns)| columns.into())).unwrap_or(100)
}
