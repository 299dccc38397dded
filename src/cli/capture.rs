//! `rdmadoctor capture`.

use std::io::{ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use clap::Args;

use super::progress::Progress;
use super::session::Session;
use super::{UsageError, engines, exit};
use crate::capture::{self, Redactor, Written};
use crate::checks::{self, Check, Policy};
use crate::facts::Level;
use crate::files::{self, Existing};
use crate::qp::choose;
use crate::schema;
use crate::survey::{Look, SurveyError};

/// Arguments of `capture`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Write to this file (`-` for standard output); rdmadoctor-TIME.json.gz if absent.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file if it is there.
    #[arg(long)]
    force: bool,
    /// Leave addresses, serial numbers and names of hosts as they are.
    #[arg(long)]
    no_redact: bool,
    /// How much effort to take; at `quick`, no device is opened.
    #[arg(long, value_enum, default_value_t, value_name = "LEVEL")]
    level: Level,
    /// Try this engine's queue pairs too, by name, or a file in the catalog's form. May be repeated; `all` takes every engine's newest known release.
    #[arg(long, value_name = "NAME[@VERSION]|FILE")]
    engine: Vec<String>,
    /// Look at the limits of this process too, such as an engine that runs already.
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
}

/// Writes what is known of this host to a file.
pub fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<u8> {
    let started = Instant::now();
    session.host.no_capture("capture", "looks at a host itself, not at a capture of one")?;
    let now = jiff::Timestamp::now();
    let output =
        arguments.output.clone().unwrap_or_else(|| PathBuf::from(format!("rdmadoctor-{}.json.gz", now.strftime("%Y%m%dT%H%M%SZ"))));
    let is_stream = output == Path::new("-");
    // Told before the work is done, not after.
    if is_stream && std::io::stdout().is_terminal() {
        return Err(UsageError("a capture is compressed, and a terminal cannot show that; give -o FILE or a pipe".to_owned()).into());
    }
    if !is_stream && !arguments.force && output.is_file() && !files::is_descriptor(&output) {
        return Err(exists(&output).into());
    }
    if let Some(directory) = output.parent().filter(|directory| !directory.as_os_str().is_empty() && !directory.is_dir()) {
        return Err(UsageError(format!("cannot write {}: {} is no directory", output.display(), directory.display())).into());
    }
    let mut catalog = engines::catalog(&arguments.engine)?;
    let names = engines::with_files(&mut catalog, &arguments.engine)?;
    let engines = choose(&catalog, &names)?;
    let mut progress = Progress::new("capture", session.output.quiet);
    let checks: Vec<&Check> = checks::registry().filter(|check| check.page.level <= arguments.level).collect();
    let look = Look {
        pid: arguments.pid,
        engines: &engines,
        wanted: Policy::default().wanted(&catalog, &engines),
        started,
        ..Look::at(arguments.level, checks::needs(&checks), &catalog)
    };
    let facts = session.host.facts(&look, &mut |detail| progress.at(detail))?;
    drop(progress);
    if session.host.interrupted() {
        return Err(SurveyError::Interrupted("interrupted; no capture was written".to_owned()).into());
    }

    let created = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let (mut capture, host_names) = session.host.capture(facts, arguments.level, created);
    if !arguments.no_redact {
        let redactor =
            Redactor::new(&host_names).context("cannot get random numbers to replace addresses with; --no-redact does without")?;
        capture = capture.redacted(redactor).context("cannot replace addresses; --no-redact leaves them")?;
    }
    let bytes = capture::compress(&capture).context("cannot compress the capture")?;
    if is_stream {
        let mut out = std::io::stdout().lock();
        return match out.write_all(&bytes).and_then(|()| out.flush()) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("cannot write to standard output"),
            _ => Ok(exit::OK),
        };
    }
    let existing = if arguments.force { Existing::Replaced } else { Existing::Kept };
    // One that tells which host it is of is for its owner alone; the other is to be handed on.
    let mode = if capture.is_redacted { 0o666 } else { 0o600 };
    files::write(&output, &bytes, mode, existing).map_err(|error| match error.error.kind() {
        ErrorKind::AlreadyExists => exists(&output).into(),
        _ => anyhow::anyhow!("{error}; -o FILE writes elsewhere, -o - to standard output"),
    })?;
    session.output.print(&Written {
        schema: schema::CAPTURE_WRITTEN.to_owned(),
        file: output.display().to_string(),
        size_bytes: bytes.len() as u64,
        level: arguments.level,
        is_redacted: capture.is_redacted,
    })?;
    Ok(exit::OK)
}

fn exists(output: &Path) -> UsageError {
    UsageError(format!("{} is there already; --force replaces it, -o FILE writes another", output.display()))
}
