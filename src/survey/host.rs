//! The host that a run is about, and how to reach its files and devices.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tempfile::TempPath;

use crate::capture::Capture;
use crate::catalog::CatalogError;
use crate::host::Root;
use crate::host::part::{OfPart, Part, PartFacts, ReadOptions};
use crate::sim::{CounterFile, HostModel, Seat};
use crate::worker::{Failure, Inventory, ModelledHost, Target, Worker, WorkerOptions};

/// Why a host does not give what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// What was asked for is not to be had from a host of this kind.
    #[error("{0}")]
    Unsuited(String),
    /// The user interrupted before there was anything to tell.
    #[error("{0}")]
    Interrupted(String),
    /// An engine's requests, which the catalog does not give.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The child process that was to find it out.
    #[error(transparent)]
    Child(#[from] Failure),
    /// Something of rdmadoctor's own is missing.
    #[error("{what}")]
    Own {
        /// What it was to do.
        what: &'static str,
        /// Why it could not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl SurveyError {
    /// From why `what` is missing.
    pub(crate) fn own<E: std::error::Error + Send + Sync + 'static>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Own { what, source: Box::new(source) }
    }
}

/// Which host it is.
pub enum Kind {
    Live,
    /// One whose file system is mounted at this directory; only its files are here.
    Mounted(PathBuf),
    Modelled(Box<HostModel>),
    /// One whose facts were written to a file.
    Captured(Box<Capture>),
}

/// How a host is reached.
pub struct Options {
    /// The verbs library in place of the one that the dynamic linker finds.
    pub libibverbs: Option<PathBuf>,
    /// Longest wait for one answer.
    pub answer_within: Duration,
    /// Set when the user has asked to stop.
    pub interrupted: Arc<AtomicBool>,
    /// Whether a modelled host moves data from and to this machine's GPUs.
    pub has_local_gpus: bool,
    /// Where a modelled host meets others, and as which of them.
    pub seat: Option<Seat>,
}

/// The host that a run is about.
pub struct Host {
    kind: Kind,
    options: Options,
    /// Where simulated devices count what they carry.
    tallies: OnceLock<TempPath>,
}

impl Host {
    /// One that is reached so.
    #[must_use]
    pub fn new(kind: Kind, options: Options) -> Self {
        Self { kind, options, tallies: OnceLock::new() }
    }

    /// Whether the user has asked to stop.
    #[must_use]
    pub fn interrupted(&self) -> bool {
        self.options.interrupted.load(Ordering::Relaxed)
    }

    /// Set when the user has asked to stop.
    #[must_use]
    pub fn interruption(&self) -> Arc<AtomicBool> {
        self.options.interrupted.clone()
    }

    /// Whether the files are this machine's own.
    #[must_use]
    pub fn has_own_files(&self) -> bool {
        matches!(self.kind, Kind::Live)
    }

    /// What is known of a captured host; absent where the host is here, mounted or modelled.
    pub(super) fn captured(&self) -> Option<&Capture> {
        match &self.kind {
            Kind::Captured(capture) => Some(capture),
            _ => None,
        }
    }

    pub(super) fn model(&self) -> Option<&HostModel> {
        match &self.kind {
            Kind::Modelled(model) => Some(model),
            _ => None,
        }
    }

    /// The name of the modelled host.
    pub(crate) fn model_name(&self) -> Option<&str> {
        self.model().map(|model| model.name.as_str())
    }

    /// The directory of the modelled network that it is a host of.
    #[must_use]
    pub fn sim_network(&self) -> Option<&Path> {
        self.options.seat.as_ref().map(Seat::directory)
    }

    /// Refuses a command that has no use for a captured host.
    ///
    /// # Errors
    /// The host is captured.
    pub fn no_capture(&self, command: &str, why: &str) -> Result<(), SurveyError> {
        match self.kind {
            Kind::Captured(_) => Err(SurveyError::Unsuited(format!("`{command}` {why}; leave --from out"))),
            _ => Ok(()),
        }
    }

    /// Where the host's files are.
    #[must_use]
    pub fn root(&self) -> Root {
        match &self.kind {
            Kind::Live => Root::default(),
            Kind::Mounted(directory) => Root::dir(directory),
            Kind::Modelled(model) => model.root(),
            // Whatever would still be looked for, this machine has no part in it.
            Kind::Captured(_) => Root::tree(BTreeMap::new()),
        }
    }

    /// Whether devices can be asked: not those of a host that is mounted elsewhere or captured.
    #[must_use]
    pub fn has_devices(&self) -> bool {
        matches!(self.kind, Kind::Live | Kind::Modelled(_))
    }

    /// Refuses a command that asks the devices themselves.
    ///
    /// # Errors
    /// The host is mounted elsewhere or captured.
    pub fn only_with_devices(&self, command: &str) -> Result<(), SurveyError> {
        let (option, shows) = match self.kind {
            Kind::Live | Kind::Modelled(_) => return Ok(()),
            Kind::Captured(_) => ("--from", "a capture"),
            Kind::Mounted(_) => ("--root", "only files"),
        };
        Err(SurveyError::Unsuited(format!("`{command}` asks the devices themselves, and {option} shows {shows}; leave {option} out")))
    }

    /// Refuses to run something of the user's on a host that is none.
    pub(crate) fn only_here(&self) -> Result<(), SurveyError> {
        self.model_name().map_or(Ok(()), |model| {
            let why = format!("a command runs on this machine, not on the modelled host {model}: leave --host-model out");
            Err(SurveyError::Unsuited(why))
        })
    }

    /// The host's name, for people.
    #[must_use]
    pub fn name(&self) -> String {
        let own = || nix::unistd::gethostname().map_or_else(|_| "this host".to_owned(), |name| name.to_string_lossy().into_owned());
        let number = self.options.seat.as_ref().map(Seat::number).filter(|number| *number > 0);
        let suffix = number.map_or_else(String::new, |number| format!("-{number}"));
        self.model_name().map_or_else(own, |model| format!("{model}{suffix}"))
    }

    /// Longest wait for one answer.
    #[must_use]
    pub fn answer_within(&self) -> Duration {
        self.options.answer_within
    }

    /// Reads the host's files, each path within the longest wait for one answer, and those that the kernel makes `until` then, if that is said.
    ///
    /// # Errors
    /// The child process that reads cannot be made.
    pub fn reader(&self, asked: ReadOptions, until: Option<Instant>) -> Result<Reader, SurveyError> {
        let here = Reader { worker: None, root: self.root(), asked, deadline: self.answer_within(), until };
        match &self.kind {
            // Its files are in memory and cannot hang unless they are to.
            Kind::Modelled(model) if model.hang.is_empty() => Ok(here),
            Kind::Captured(_) => Ok(here),
            Kind::Modelled(_) | Kind::Live | Kind::Mounted(_) => {
                Ok(Reader { worker: Some(Worker::of_files(self.worker_options()?)), ..here })
            }
        }
    }

    /// A child process that serves verbs, not yet started.
    ///
    /// # Errors
    /// The program that it runs cannot be found.
    pub fn worker(&self) -> Result<Worker, SurveyError> {
        self.worker_options().map(Worker::new)
    }

    /// As [`Self::worker`], with another longest wait: bringing GPUs up takes longer than verbs do.
    ///
    /// # Errors
    /// As there.
    pub fn worker_within(&self, deadline: Duration) -> Result<Worker, SurveyError> {
        Ok(Worker::new(WorkerOptions { deadline, ..self.worker_options()? }))
    }

    /// What the modelled host's devices count of the data that they carry, by child processes that are started from now on; absent where this
    /// host is looked at, whose devices count themselves.
    ///
    /// # Errors
    /// There is no place for the counters.
    pub fn tallies(&self) -> Result<Option<CounterFile>, SurveyError> {
        let Some(model) = self.model() else { return Ok(None) };
        if self.tallies.get().is_none() {
            let file = tempfile::Builder::new().prefix("rdmadoctor-").tempfile();
            let file = file.map_err(SurveyError::own("cannot make a file for simulated counters"))?;
            let _ = self.tallies.set(file.into_temp_path());
        }
        Ok(CounterFile::of(&self.of_model(model).simulation()))
    }

    /// What a child is told of a model, whose devices count what they carry if somebody wants to know.
    fn of_model(&self, model: &HostModel) -> ModelledHost {
        ModelledHost {
            model: model.clone(),
            tallies: self.tallies.get().map(|path| path.to_path_buf()),
            network: self.sim_network().map(Path::to_owned),
            has_local_gpus: self.options.has_local_gpus,
        }
    }

    /// How child processes are started and waited for.
    ///
    /// # Errors
    /// The program that they run cannot be found.
    pub fn worker_options(&self) -> Result<WorkerOptions, SurveyError> {
        Ok(WorkerOptions {
            program: own_program().map_err(SurveyError::own("cannot find the own program, which is also the child process"))?,
            target: match &self.kind {
                Kind::Modelled(model) => Target::Modelled(Box::new(self.of_model(model))),
                Kind::Mounted(directory) => Target::Live { root: absolute(directory)?, libibverbs: self.options.libibverbs.clone() },
                Kind::Live | Kind::Captured(_) => Target::Live { root: PathBuf::from("/"), libibverbs: self.options.libibverbs.clone() },
            },
            deadline: self.answer_within(),
            interrupted: self.options.interrupted.clone(),
        })
    }

    /// What the verbs library says, of `wanted` only where one is named. A child that cannot be talked to is no answer of the library's.
    ///
    /// # Errors
    /// The child process cannot be talked to.
    pub fn inventory(worker: &mut Worker, wanted: Option<&str>) -> Result<Result<Inventory, Failure>, SurveyError> {
        match worker.inventory(wanted) {
            Err(failure @ Failure::Broken(_)) => Err(failure.into()),
            answer => Ok(answer),
        }
    }
}

fn absolute(directory: &Path) -> Result<PathBuf, SurveyError> {
    std::path::absolute(directory).map_err(SurveyError::own("cannot tell where the host's files are"))
}

/// The least time for one path at level quick, where most of its budget has gone already.
const LEAST_PATH: Duration = Duration::from_millis(500);

/// The least time for a whole part there: on a busy machine a part of usual size takes a second.
const LEAST_PART: Duration = Duration::from_secs(2);

/// Reads parts of a host's files: in a child process, because a file may never answer, or here where that cannot be.
pub struct Reader {
    worker: Option<Worker>,
    root: Root,
    asked: ReadOptions,
    deadline: Duration,
    /// When all of them are to be read, where that matters.
    until: Option<Instant>,
}

impl Reader {
    /// A part, whatever came of it.
    ///
    /// # Errors
    /// The child process cannot be talked to, or the user interrupted.
    pub fn part(&mut self, part: Part) -> Result<PartFacts, SurveyError> {
        let until = self.until.filter(|_| part.is_kernels());
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let deadline = left.map_or(self.deadline, |left| left.max(LEAST_PATH).min(self.deadline));
        let longest = left.map(|left| left.max(LEAST_PART));
        match &mut self.worker {
            Some(worker) => match worker.read(part, &self.asked, deadline, longest) {
                Err(Failure::Interrupted) => Err(SurveyError::Interrupted("interrupted while the host's files were read".to_owned())),
                answer => Ok(answer?),
            },
            None => Ok(part.read(&self.root, &self.asked)),
        }
    }

    /// A part's facts.
    ///
    /// # Errors
    /// As [`Self::part`].
    pub fn get<T: OfPart>(&mut self) -> Result<T, SurveyError> {
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
