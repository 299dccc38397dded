//! Where facts come from: what checks need is gathered, and nothing else.

use crate::host::part::Part;

/// Something that facts are gathered from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Rdma,
    Counters,
    Pcie,
    Net,
    Limits,
    System,
    VerbsFiles,
    Log,
    Modules,
    /// The verbs library.
    Verbs,
    /// Queue pairs that are tried.
    QueuePairs,
    /// The GPUs' driver.
    Gpus,
    /// Registrations of host memory.
    HostMemory,
    /// Registrations of GPU memory.
    GpuMemory,
    /// Who holds objects of RDMA devices.
    Objects,
    /// Data that was moved.
    Measured,
}

impl Source {
    /// The part of the host's files that it is.
    pub(crate) fn part(self) -> Option<Part> {
        Some(match self {
            Self::Rdma => Part::Rdma,
            Self::Counters => Part::Counters,
            Self::Pcie => Part::Pcie,
            Self::Net => Part::Net,
            Self::Limits => Part::Limits,
            Self::System => Part::System,
            Self::VerbsFiles => Part::VerbsFiles,
            Self::Log => Part::Log,
            Self::Modules => Part::Modules,
            Self::Verbs | Self::QueuePairs | Self::Gpus | Self::HostMemory | Self::GpuMemory | Self::Objects | Self::Measured => {
                return None;
            }
        })
    }
}

/// What is gathered. Files are read in any case, since each part that cannot be read is told of.
#[derive(Debug, Clone)]
pub(crate) struct Needs(Vec<Source>);

impl Needs {
    pub(crate) fn has(&self, source: Source) -> bool {
        self.0.contains(&source)
    }

    /// Whether files alone do not suffice.
    pub(crate) fn has_more_than_files(&self) -> bool {
        self.0.iter().any(|source| source.part().is_none())
    }
}

impl FromIterator<Source> for Needs {
    fn from_iter<T: IntoIterator<Item = Source>>(sources: T) -> Self {
        let mut sources: Vec<Source> = sources.into_iter().collect();
        // Something can be tried on those devices and GPUs only of which it is known that they answer.
        if sources.contains(&Source::GpuMemory) {
            sources.push(Source::Gpus);
        }
        if sources.iter().any(|source| matches!(source, Source::QueuePairs | Source::HostMemory | Source::GpuMemory)) {
            sources.push(Source::Verbs);
        }
        Self(sources)
    }
}
