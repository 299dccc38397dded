//! What every command has: the options of all commands, the child process, the way to print.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use clap::ColorChoice;
use serde::Serialize;
use tempfile::TempPath;

use super::{Global, Interrupted, UsageError};
use crate::capture::{self, Capture};
use crate::catalog::HostModel;
use crate::gpu::{GpuForm, GpusFacts};
use crate::host::Root;
use crate::host::part::{Asked, OfPart, Part, PartFacts};
use crate::host::rdma_objects::ObjectsFacts;
use crate::report::html::{HostPage, Page};
use crate::report::{self, Captured, Format, Modelled, Origin, Style, Table};
use crate::sim::{SimConfig, Tallies};
use crate::worker::{Failure, Files, GpuMemory, Inventory, Provider, Worker, WorkerOptions};

/// One run of the program.
pub struct Session {
    global: Global,
    model: Option<HostModel>,
    capture: Option<Capture>,
    interrupted: Arc<AtomicBool>,
    /// Where simulated devices count what they carry.
    tallies: OnceLock<TempPath>,
}

impl Session {
    /// Checks the options of all commands and listens for Ctrl-C.
    pub fn new(global: Global, formats: &[Format]) -> anyhow::Result<Self> {
        if !formats.contains(&global.format) {
            let names = |formats: &[Format]| formats.iter().map(|format| format.name()).collect::<Vec<_>>().join(", ");
            return Err(UsageError(format!("this command has no format {}, only {}", global.format.name(), names(formats))).into());
        }
        // Options of every command may stand on either side of its name, where clap does not see them together.
        let is_elsewhere = global.root != std::path::Path::new("/") || global.libibverbs.is_some();
        let clash = match (&global.host_model, is_elsewhere) {
            (Some(_), true) => Some("--host-model shows a modelled host, --root and --libibverbs another one; give only one of them"),
            (Some(_), false) if global.from.is_some() => {
                Some("--host-model shows a modelled host, --from a captured one; give only one of them")
            }
            (None, true) if global.from.is_some() => {
                Some("--from shows a captured host, --root and --libibverbs another one; give only one of them")
            }
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
            let lacking = |fault: &crate::sim::Fault| fault.devices().find_map(|device| model.lacks(device)).map(str::to_owned);
            if let Some((fault, device)) = global.fault.iter().find_map(|fault| Some((fault, lacking(fault)?))) {
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
        let stopped = || interrupted.load(Ordering::Relaxed);
        let capture = global.from.as_deref().map(|path| capture::load(path, &stopped)).transpose();
        let capture = match capture {
            Err(error) if stopped() => return Err(Interrupted(error.to_string()).into()),
            capture => capture.map_err(|error| UsageError(error.to_string()))?,
        };
        Ok(Self { global, model, capture, interrupted, tallies: OnceLock::new() })
    }

    /// Whether the user has asked to stop.
    pub fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Whether the files are this machine's own, and not a model's or those of a host that is captured or mounted elsewhere.
    pub fn has_own_files(&self) -> bool {
        self.model.is_none() && self.is_this_host()
    }

    /// What is known of a captured host; absent where the host is here, mounted or modelled.
    pub fn captured(&self) -> Option<&Capture> {
        self.capture.as_ref()
    }

    /// The name of the modelled host.
    pub fn model_name(&self) -> Option<&str> {
        self.model.as_ref().map(|model| model.name.as_str())
    }

    /// Refuses a command that has no use for a captured host.
    pub fn no_capture(&self, command: &str, why: &str) -> Result<(), UsageError> {
        if self.capture.is_none() { Ok(()) } else { Err(UsageError(format!("`{command}` {why}; leave --from out"))) }
    }

    /// Where the host's files are.
    pub fn root(&self) -> Root {
        match (&self.model, &self.capture) {
            (Some(model), _) => model.root(),
            // Whatever would still be looked for, this machine has no part in it.
            (None, Some(_)) => Root::tree(BTreeMap::new()),
            (None, None) => Root::dir(&self.global.root),
        }
    }

    /// Whether files and devices belong to the same host: not so for a host that is mounted elsewhere or captured.
    pub fn is_this_host(&self) -> bool {
        self.capture.is_none() && self.global.root == std::path::Path::new("/")
    }

    /// Refuses a command that needs the devices themselves for a host that is mounted elsewhere.
    pub fn only_this_host(&self, command: &str) -> Result<(), UsageError> {
        if self.is_this_host() {
            return Ok(());
        }
        let (option, shows) = if self.capture.is_some() { ("--from", "a capture") } else { ("--root", "only files") };
        Err(UsageError(format!("`{command}` asks the devices themselves, and {option} shows {shows}; leave {option} out")))
    }

    /// The host's name, for people.
    pub fn host_name(&self) -> String {
        let own = || nix::unistd::gethostname().map_or_else(|_| "this host".to_owned(), |name| name.to_string_lossy().into_owned());
        self.model_name().map_or_else(own, str::to_owned)
    }

    /// The kind of output.
    pub fn format(&self) -> Format {
        self.global.format
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

    /// Reads the host's files, each part within what `--answer-within` gives, and those that the kernel makes within `deadline`, if that is less.
    pub fn reader(&self, asked: Asked, deadline: Option<Duration>) -> anyhow::Result<Reader> {
        let here = Reader { files: None, root: self.root(), asked, deadline: self.global.answer_within, of_kernel: deadline };
        let files = match (&self.model, &self.capture) {
            // Its files are in memory and cannot hang unless they are to.
            (Some(model), _) if model.hang.is_empty() => return Ok(here),
            (Some(model), _) => Files::Modelled(Box::new(model.clone())),
            (None, Some(_)) => return Ok(here),
            (None, None) => Files::Below(std::path::absolute(&self.global.root)?),
        };
        Ok(Reader { files: Some((files, Worker::new(self.worker_options()?))), ..here })
    }

    /// A child process that serves verbs, not yet started.
    pub fn worker(&self) -> anyhow::Result<Worker> {
        self.worker_options().map(Worker::new)
    }

    /// As [`Self::worker`], with another longest wait: bringing GPUs up takes longer than verbs do.
    pub fn worker_within(&self, deadline: Duration) -> anyhow::Result<Worker> {
        Ok(Worker::new(WorkerOptions { deadline, ..self.worker_options()? }))
    }

    /// The GPUs of the modelled host; absent where this one is looked at.
    pub fn modelled_gpus(&self) -> Option<Option<GpusFacts>> {
        self.model.as_ref().map(HostModel::gpus)
    }

    /// What trying these kinds of the modelled host's GPU memory with these devices would give; absent where this host is looked at.
    pub fn modelled_gpu_memory(&self, devices: &[String], forms: &[GpuForm]) -> Option<Vec<GpuMemory>> {
        self.model.as_ref().map(|model| model.gpu_memory(devices, forms))
    }

    /// What is held of the modelled host's RDMA devices; absent where this host is looked at.
    pub fn modelled_objects(&self) -> Option<ObjectsFacts> {
        self.model.as_ref().map(HostModel::objects)
    }

    /// What the modelled host's devices count of the data that they carry, by child processes that are started from now on; absent where this
    /// host is looked at, whose devices count themselves.
    pub fn tallies(&self) -> anyhow::Result<Option<Tallies>> {
        let Some(model) = &self.model else { return Ok(None) };
        if self.tallies.get().is_none() {
            let file = tempfile::Builder::new().prefix("rdmadoctor-").tempfile().context("cannot make a file for simulated counters")?;
            let _ = self.tallies.set(file.into_temp_path());
        }
        Ok(Tallies::of(&self.counting(model)))
    }

    /// A model's verbs, whose devices count what they carry if somebody wants to know.
    fn counting(&self, model: &HostModel) -> SimConfig {
        SimConfig { tallies: self.tallies.get().map(|path| path.to_path_buf()), ..model.simulation() }
    }

    /// How child processes are started and waited for.
    pub fn worker_options(&self) -> anyhow::Result<WorkerOptions> {
        Ok(WorkerOptions {
            program: own_program().context("cannot find the own program, which is also the child process")?,
            provider: match &self.model {
                Some(model) => Provider::Simulated(self.counting(model)),
                None => Provider::Library(self.global.libibverbs.clone()),
            },
            deadline: self.global.answer_within,
            interrupted: self.interrupted.clone(),
        })
    }

    /// Whether a page is wanted.
    pub fn wants_page(&self) -> bool {
        self.global.format == Format::Html
    }

    /// What was found on the host that this run is about, as a page.
    pub fn host_page(&self, page: HostPage) -> String {
        let origin = self.origin();
        let name = match &origin {
            Some(Origin::Model(model)) => model.name.clone(),
            Some(Origin::Capture(capture)) => capture.host_name.clone().unwrap_or_else(|| capture.file.clone()),
            None => nix::unistd::gethostname().map_or_else(|_| "this host".to_owned(), |name| name.to_string_lossy().into_owned()),
        };
        rendered(vec![HostPage { name, origin, ..page }])
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

    /// What the verbs library says, of `wanted` only where one is named. A child that cannot be talked to is no answer of the library's.
    pub fn inventory(worker: &mut Worker, wanted: Option<&str>) -> anyhow::Result<Result<Inventory, Failure>> {
        match worker.inventory(wanted) {
            Err(failure @ Failure::Broken(_)) => Err(failure.into()),
            answer => Ok(answer),
        }
    }

    /// What documents are about, where it is not this machine.
    fn origin(&self) -> Option<Origin> {
        let model = self.model.as_ref().map(|model| Origin::Model(Modelled { name: model.name.clone(), doubts: model.doubts() }));
        let captured = |capture: &Capture| Captured {
            file: self.global.from.iter().map(|path| path.display().to_string()).collect(),
            created: capture.created.clone(),
            tool_version: capture.tool_version.clone(),
            level: capture.level.name().to_owned(),
            is_redacted: capture.is_redacted,
            host_name: capture.host_name.clone(),
            host_model: capture.host_model.clone(),
        };
        model.or_else(|| self.capture.as_ref().map(|capture| Origin::Capture(captured(capture))))
    }

    /// A document as JSON has it, with what it is about.
    pub fn json<D: Serialize>(&self, document: &D) -> anyhow::Result<String> {
        report::json(document, self.origin().as_ref()).context("cannot make a document of it")
    }

    /// A document in the format that was asked for, as it is printed.
    pub fn rendered<D: Table + Serialize>(&self, document: &D) -> anyhow::Result<String> {
        let color = match self.global.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            // https://no-color.org: any value but an empty one.
            ColorChoice::Auto => std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        };
        let style = Style { color, width: width(), verbose: self.global.verbose };
        report::render(document, self.global.format, &style, self.origin().as_ref()).context("cannot make a report of it")
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

/// Reads parts of a host's files: in a child process, because a file may never answer, or here where that cannot be.
pub struct Reader {
    files: Option<(Files, Worker)>,
    root: Root,
    asked: Asked,
    deadline: Duration,
    /// Of parts that the kernel makes, where that is another.
    of_kernel: Option<Duration>,
}

impl Reader {
    /// A part, whatever came of it.
    pub fn part(&mut self, part: Part) -> anyhow::Result<PartFacts> {
        let deadline = self.of_kernel.filter(|_| part.is_kernels()).map_or(self.deadline, |deadline| deadline.min(self.deadline));
        match &mut self.files {
            Some((files, worker)) => match worker.read(files, part, &self.asked, deadline) {
                Err(Failure::Interrupted) => Err(Interrupted("interrupted while the host's files were read".to_owned()).into()),
                answer => Ok(answer?),
            },
            None => Ok(part.read(&self.root, &self.asked)),
        }
    }

    /// A part's facts.
    pub fn get<T: OfPart>(&mut self) -> anyhow::Result<T> {
        // A reader gives what it was asked for.
        Ok(T::of(self.part(T::PART)?).unwrap_or_default())
    }
}

/// The path of the running program. Without /proc it is what the program was called by, looked for as a shell does.
fn own_program() -> std::io::Result<PathBuf> {
    std::env::current_exe().or_else(|error| {
        let called = std::env::args_os().next().map(PathBuf::from).ok_or(error)?;
        let found = |path: &PathBuf| path.is_file();
        let places = std::env::var_os("PATH").unwrap_or_default();
        let candidates = if called.components().count() > 1 {
            vec![std::path::absolute(&called)?]
        } else {
            std::env::split_paths(&places).map(|place| place.join(&called)).collect()
        };
        candidates.into_iter().find(found).ok_or_else(|| std::io::ErrorKind::NotFound.into())
    })
}

/// Columns of the terminal; 100 where output is piped, which suits both logs and people.
fn width() -> usize {
    let asked = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    asked.or_else(|| console::Term::stdout().size_checked().map(|(_, columns)| columns.into())).unwrap_or(100)
}
