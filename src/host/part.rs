//! The parts in which a host's files are read, so that one that cannot be read to its end loses no other.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::limits::LimitsFacts;
use super::log::LogFacts;
use super::modules::ModulesFacts;
use super::net::NetFacts;
use super::pcie::PcieFacts;
use super::rdma::RdmaFacts;
use super::rdma_counters::CounterFacts;
use super::system::SystemFacts;
use super::verbs_files::VerbsFilesFacts;
use super::vpd::VpdFacts;
use super::{ReadError, ReadFailure, Root};

/// How much is read of what is long and says little.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    Whole,
    /// A GID table, which has a file for each of up to 1024 entries, as far as it is filled; no file of a loaded module with which nothing is
    /// compared; no driver file of a family of which no device is here.
    Brief,
}

/// What is of interest on one host and not on another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadOptions {
    /// A process whose limits are read too.
    pub pid: Option<u32>,
    /// Whether what is long and says little is left out ([`Look::Brief`]).
    #[serde(default)]
    pub is_brief: bool,
    /// Whether vital product data is read, which takes time.
    pub vpd: bool,
    /// Modules that are looked at beside those that always are.
    pub modules: Vec<String>,
}

impl ReadOptions {
    fn look(&self) -> Look {
        if self.is_brief { Look::Brief } else { Look::Whole }
    }
}

/// Facts of one part.
pub trait OfPart: Sized + Default {
    const PART: Part;

    /// The facts, if they are of this part.
    fn of(facts: PartFacts) -> Option<Self>;

    /// What could not be read or understood.
    fn problems(&self) -> &[ReadError];
}

macro_rules! parts {
    ($($part:ident($facts:ty) $name:literal $place:literal $read:expr;)*) => {
        /// A part of a host's files.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Part {
            $(#[doc = concat!("`", $name, "`: below ", $place, ".")] $part,)*
        }

        /// What was read of a part.
        #[derive(Debug, Clone, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum PartFacts {
            $(#[doc = concat!("Of `", $name, "`.")] $part(Box<$facts>),)*
        }

        /// How a part says so that went on and on until the time for all of them was over: it is large, or its files are slow one by one.
pub(crate) const TIME_IS_OVER: &str = "the time for all was over";

impl Part {
            /// Its name among the facts.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$part => $name,)* }
            }

            /// Where most of it is.
            fn place(self) -> &'static str {
                match self { $(Self::$part => $place,)* }
            }

            #[must_use]
            pub fn read(self, root: &Root, asked: &ReadOptions) -> PartFacts {
                match self { $(Self::$part => {
                    let read: fn(&Root, &ReadOptions) -> $facts = $read;
                    PartFacts::$part(Box::new(read(root, asked)))
                })* }
            }

            fn with(self, problem: ReadError) -> PartFacts {
                match self { $(Self::$part => PartFacts::$part(Box::new(<$facts>::from_problem(problem))),)* }
            }
        }

        $(
            impl OfPart for $facts {
                const PART: Part = Part::$part;

                fn of(facts: PartFacts) -> Option<Self> {
                    if let PartFacts::$part(facts) = facts { Some(*facts) } else { None }
                }

                fn problems(&self) -> &[ReadError] {
                    &self.problems
                }
            }

            impl FromProblem for $facts {
                fn from_problem(problem: ReadError) -> Self {
                    Self { problems: vec![problem], ..Self::default() }
                }
            }
        )*
    };
}

trait FromProblem {
    fn from_problem(problem: ReadError) -> Self;
}

parts! {
    Rdma(RdmaFacts) "rdma" "/sys/class/infiniband" |root, asked| super::rdma::read_at(root, asked.look());
    Counters(CounterFacts) "counters" "/sys/class/infiniband" |root, _| super::rdma_counters::read(root);
    Pcie(PcieFacts) "pcie" "/sys/bus/pci/devices" |root, _| super::pcie::read(root);
    Net(NetFacts) "net" "/sys/class/net" |root, _| super::net::read(root);
    Limits(LimitsFacts) "limits" "/proc/self" |root, asked| super::limits::read(root, asked.pid);
    System(SystemFacts) "system" "/proc" |root, _| super::system::read(root);
    VerbsFiles(VerbsFilesFacts) "verbs_files" "/etc/libibverbs.d" |root, asked| super::verbs_files::read_at(root, asked.look());
    Log(LogFacts) "log" "/dev/kmsg" |root, _| super::log::read(root);
    Vpd(VpdFacts) "vpd" "/sys/bus/pci/devices" |root, asked| if asked.vpd { super::vpd::read(root) } else { VpdFacts::default() };
    Modules(ModulesFacts) "modules" "/sys/module" |root, asked| super::modules::read_with(root, &asked.modules, asked.look());
}

impl Part {
    /// Whether the kernel makes its files: those are short and there at once, while a disk may take its time.
    #[must_use]
    pub fn is_kernels(self) -> bool {
        !matches!(self, Self::Modules | Self::VerbsFiles | Self::Log | Self::Vpd)
    }

    /// What is known of it where reading came to no end: why, and at which path, if that is known.
    #[must_use]
    pub fn unread(self, at: Option<PathBuf>, why: String) -> PartFacts {
        let path = at.unwrap_or_else(|| Path::new(self.place()).to_owned());
        self.with(ReadError::new(&path, ReadFailure::NotRead { why }))
    }
}

/// Why a part was not read to its end, if it was not.
#[must_use]
pub fn unread_of(problems: &[ReadError]) -> Option<&ReadError> {
    problems.iter().find(|problem| matches!(problem.failure, ReadFailure::NotRead { .. }))
}
