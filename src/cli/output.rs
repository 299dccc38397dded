//! The way to print: documents in the format that was asked for, pages, and files.

use std::io::{IsTerminal, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Context as _;
use clap::ColorChoice;
use serde::Serialize;

use crate::report::html::{HostPage, Page};
use crate::report::{self, Format, Origin, Style, Table};

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
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let write = || -> std::io::Result<()> {
            let mut file = tempfile::Builder::new().permissions(std::fs::Permissions::from_mode(0o644)).tempfile_in(directory)?;
            file.write_all(text.as_bytes())?;
            file.persist(path)?;
            Ok(())
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    /// Whether a page is wanted.
    pub fn wants_page(&self) -> bool {
        self.format == Format::Html
    }

    /// What was found on the host that this run is about, as a page.
    pub fn host_page(&self, page: HostPage) -> String {
        let name = match &self.origin {
            Some(Origin::Model(model)) => model.name.clone(),
            Some(Origin::Capture(capture)) => capture.host_name.clone().unwrap_or_else(|| capture.file.clone()),
            None => nix::unistd::gethostname().map_or_else(|_| "this host".to_owned(), |name| name.to_string_lossy().into_owned()),
        };
        rendered(vec![HostPage { name, origin: self.origin.clone(), ..page }])
    }

    /// Prints what was found on the host that this run is about as a page.
    pub fn print_host(&self, page: HostPage) -> anyhow::Result<()> {
        self.print_text(&self.host_page(page))
    }

    /// Prints a page.
    pub fn print_page(&self, hosts: Vec<HostPage>) -> anyhow::Result<()> {
        self.print_text(&rendered(hosts))
    }

    /// Prints text as it is: a file's content.
    pub fn print_text(&self, text: &str) -> anyhow::Result<()> {
        report::print_text(text).context("cannot write to standard output")
    }

    /// A document as JSON has it, with what it is about.
    pub fn json<D: Serialize>(&self, document: &D) -> anyhow::Result<String> {
        report::json(document, self.origin.as_ref()).context("cannot make a document of it")
    }

    /// A document in the format that was asked for, as it is printed.
    pub fn rendered<D: Table + Serialize>(&self, document: &D) -> anyhow::Result<String> {
        let color = match self.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            // https://no-color.org: any value but an empty one.
            ColorChoice::Auto => std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        };
        let style = Style { color, width: width(), verbose: self.verbose };
        report::render(document, self.format, &style, self.origin.as_ref()).context("cannot make a report of it")
    }

    /// Prints a document in the format that was asked for.
    pub fn print<D: Table + Serialize>(&self, document: &D) -> anyhow::Result<()> {
        self.print_text(&self.rendered(document)?)
    }
}

/// Pages as HTML.
fn rendered(hosts: Vec<HostPage>) -> String {
    let created = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string();
    Page { created, hosts }.render()
}

/// Columns of the terminal; 100 where output is piped, which suits both logs and people.
fn width() -> usize {
    let asked = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    asked.or_else(|| console::Term::stdout().size_checked().map(|(_, columns)| columns.into())).unwrap_or(100)
}
