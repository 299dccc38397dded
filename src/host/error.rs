//! Why something on the host could not be read.

use std::io;
use std::path::Path;

use nix::errno::Errno;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::verbs::ErrorNumber;

/// A path that is there and could not be read or understood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{path}: {failure}")]
pub struct ReadError {
    /// As seen from the root. A string, because a name need not be UTF-8 and a report must be.
    pub path: String,
    /// What went wrong.
    pub failure: ReadFailure,
}

/// What went wrong with a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum ReadFailure {
    /// EACCES or EPERM.
    #[error("permission denied")]
    PermissionDenied,
    /// A directory was wanted, at this path or above it.
    #[error("not a directory")]
    NotADirectory,
    /// A regular file was wanted.
    #[error("not a regular file")]
    NotAFile,
    /// More than a reader takes in.
    #[error("longer than {limit_bytes} bytes")]
    TooLarge {
        /// The bound.
        limit_bytes: u64,
    },
    /// Symbolic links that lead into each other.
    #[error("too many levels of symbolic links")]
    Loop,
    /// Any other system error.
    #[error("{errno}")]
    Io {
        /// Its number; 0 where the error had none.
        errno: ErrorNumber,
    },
    /// Reading it came to no end.
    #[error("not read: {why}")]
    NotRead {
        /// Why, such as that there was no answer in time.
        why: String,
    },
    /// It could be read and says something else than what stands there on Linux.
    #[error("malformed {item}: {detail}")]
    Malformed {
        /// Which line or item.
        item: String,
        /// What is wrong with it.
        detail: String,
    },
}

impl ReadError {
    /// A failure at a path.
    #[must_use]
    pub fn new(path: &Path, failure: ReadFailure) -> Self {
        Self { path: path.to_string_lossy().into_owned(), failure }
    }

    /// Content that is not what it should be.
    #[must_use]
    pub fn malformed(path: &Path, item: &str, detail: impl Into<String>) -> Self {
        Self::new(path, ReadFailure::Malformed { item: item.to_owned(), detail: detail.into() })
    }

    /// The errno that the kernel gave, where it was not one that has a name of its own here.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self.failure {
            ReadFailure::Io { errno } => Some(Errno::from_raw(errno.0)),
            _ => None,
        }
    }
}

impl ReadFailure {
    /// The failure that a system error number stands for.
    pub(super) fn from_errno(errno: Errno) -> Self {
        match errno {
            Errno::EACCES | Errno::EPERM => Self::PermissionDenied,
            Errno::ENOTDIR => Self::NotADirectory,
            Errno::EISDIR => Self::NotAFile,
            Errno::ELOOP => Self::Loop,
            other => Self::Io { errno: ErrorNumber(other as i32) },
        }
    }

    /// The failure that an input or output error stands for.
    pub(super) fn from_io(error: &io::Error) -> Self {
        error.raw_os_error().map_or(Self::Io { errno: ErrorNumber(0) }, |raw| match Errno::from_raw(raw) {
            Errno::UnknownErrno => Self::Io { errno: ErrorNumber(raw) },
            known => Self::from_errno(known),
        })
    }
}
