//! What every command has: the options of all commands, the child process, the way to print.

use std::io::{IsTerminal, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use clap::{ColorChoice, ValueEnum as _};
use serde::Serialize;

use super::{Global, UsageError};
use crate::catalog::HostModel;
use crate::host::Root;
use crate::report::{self, Format, Modelled, Style, Table};
use crate::worker::{Provider, Worker, WorkerOptions};

/// One run of the program.
pub struct Session {
    global: Global,
    model: Option<HostModel>,
    interrupted: Arc<AtomicBool>,
}

impl Session {
    /// Checks the options of all commands and listens for Ctrl-C.
    /// `formats` are those that the command has besides table and json.
    pub fn new(global: Global, formats: &[Format]) -> anyhow::Result<Self> {
        if !matches!(global.format, Format::Table | Format::Json) && !formats.contains(&global.format) {
            let name = |format: &Format| format.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
            let others: String = formats.iter().map(|format| format!(", {}", name(format))).collect();
            return Err(UsageError(format!("this command has no format {}; it has table, json{others}", name(&global.format))).into());
        }
        // Options of every command may stand on either side of its name, where clap does not see them together.
        let is_elsewhere = global.root != std::path::Path::new("/") || global.libibverbs.is_some();
        let clash = match (&global.host_model, is_elsewhere) {
            (Some(_), true) => Some("--host-model shows a modelled host, --root and --libibverbs another one; give only one of them"),
            (None, _) if !global.fault.is_empty() => {
                Some("--fault lets something go wrong on a modelled host; give --host-model NAME with it")
            }
            _ if global.verbose && global.quiet => Some("--verbose and --quiet contradict each other"),
            _ => None,
        };
        if let Some(clash) = clash {
            return Err(UsageError(clash.to_owned()).into());
        }
        let mut model = global.host_model.as_deref().map(HostModel::find).transpose()?;
        if let Some(model) = &mut model {
            if let Some((fault, device)) = global.fault.iter().find_map(|fault| Some((fault, model.lacks(fault.device.as_ref()?)?))) {
                let known = model.nics.iter().map(|nic| nic.name.as_str()).collect::<Vec<_>>().join(", ");
                let known = if known.is_empty() { "it has no devices".to_owned() } else { format!("valid are {known}") };
                return Err(UsageError(format!("--fault {fault}: {} has no device `{device}`; {known}", model.name)).into());
            }
            model.faults.extend(global.fault.iter().cloned());
        }
        if !global.root.is_dir() {
            return Err(UsageError(format!("--root {} is no directory", global.root.display())).into());
        }
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            // The first one asks for a report of what is known; the second one is obeyed at once.
            signal_hook::flag::register_conditional_shutdown(signal, super::exit::INTERRUPTED.into(), interrupted.clone())?;
            signal_hook::flag::register(signal, interrupted.clone())?;
        }
        Ok(Self { global, model, interrupted })
    }

    /// Whether the user has asked to stop.
    pub fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Where the host's files are.
    pub fn root(&self) -> Root {
        self.model.as_ref().map_or_else(|| Root::dir(&self.global.root), HostModel::root)
    }

    /// Whether files and devices belong to the same host: not so for a host that is mounted elsewhere.
    pub fn is_this_host(&self) -> bool {
        self.global.root == std::path::Path::new("/")
    }

    /// Refuses a command that needs the devices themselves for a host that is mounted elsewhere.
    pub fn only_this_host(&self, command: &str) -> Result<(), UsageError> {
        if self.is_this_host() {
            return Ok(());
        }
        Err(UsageError(format!("`{command}` asks the devices themselves, and --root shows only files; leave --root out")))
    }

    /// Longest wait for one answer.
    pub fn answer_within(&self) -> std::time::Duration {
        self.global.answer_within
    }

    /// Writes a file whole: whoever reads it sees the old one or the new one.
    pub fn write_file(&self, path: &Path, text: &str) -> anyhow::Result<()> {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let write = || -> std::io::Result<()> {
            let mut file = tempfile::Builder::new().permissions(std::fs::Permissions::from_mode(0o644)).tempfile_in(directory)?;
            file.write_all(text.as_bytes())?;
            file.persist(path)?;
            Ok(())
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    /// Whether to show no progress.
    pub fn quiet(&self) -> bool {
        self.global.quiet
    }

    /// Set when the user has asked to stop.
    pub fn interruption(&self) -> Arc<AtomicBool> {
        self.interrupted.clone()
    }

    /// A child process that serves verbs, not yet started.
    pub fn worker(&self) -> anyhow::Result<Worker> {
        self.worker_options().map(Worker::new)
    }

    /// How child processes are started and waited for.
    pub fn worker_options(&self) -> anyhow::Result<WorkerOptions> {
        Ok(WorkerOptions {
            program: std::env::current_exe().context("cannot find the own program, which is also the child process")?,
            provider: match &self.model {
                Some(model) => Provider::Simulated(model.simulation()),
                None => Provider::Library(self.global.libibverbs.clone()),
            },
            deadline: self.global.answer_within,
            interrupted: self.interrupted.clone(),
        })
    }

    /// Prints a document in the format that was asked for.
    pub fn print<D: Table + Serialize>(&self, document: &D) -> anyhow::Result<()> {
        let color = match self.global.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            // https://no-color.org: any value but an empty one.
            ColorChoice::Auto => std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        };
        let style = Style { color, width: width(), verbose: self.global.verbose };
        let model = self.model.as_ref().map(|model| Modelled { name: model.name.clone(), doubts: model.doubts() });
        report::print(document, self.global.format, &style, model.as_ref()).context("cannot write to standard output")
    }
}

/// Columns of the terminal; 100 where output is piped, which suits both logs and people.
fn width() -> usize {
    let asked = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    asked.or_else(|| console::Term::stdout().size_checked().map(|(_, columns)| columns.into())).unwrap_or(100)
}
