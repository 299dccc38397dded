//! What a path is, and an open file, whichever kind of root it comes from.

use std::fs::{self, File};
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use nix::sys::stat::{major, minor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What kind of thing a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link; never the answer where links are followed.
    Link,
    /// A character device.
    CharDevice {
        /// Its driver's number.
        major: u64,
        /// Its number within the driver.
        minor: u64,
    },
    /// A block device, socket or pipe.
    Other,
}

/// What a path is and who may use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Metadata {
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Metadata {
    /// Reads what the kernel says of a path.
    pub(super) fn from_std(metadata: &fs::Metadata) -> Self {
        let file_type = metadata.file_type();
        let kind = if file_type.is_file() {
            Kind::File
        } else if file_type.is_dir() {
            Kind::Dir
        } else if file_type.is_symlink() {
            Kind::Link
        } else if file_type.is_char_device() {
            Kind::CharDevice { major: major(metadata.rdev()), minor: minor(metadata.rdev()) }
        } else {
            Kind::Other
        };
        Self { kind, mode: metadata.mode() & 0o7777, uid: metadata.uid(), gid: metadata.gid() }
    }
}

/// An open file: read it from the start, or seek in it.
#[derive(Debug)]
pub enum Source {
    /// A file of the system, and how long it said it was: 0 where it does not say, as those of procfs.
    File(File, u64),
    /// A file of a model.
    Memory(Cursor<Vec<u8>>),
}

/// Room for the first read of a file: most are shorter, and without it the standard library begins with 32 bytes.
const FIRST_READ_BYTES: usize = 8 << 10;

impl Source {
    /// What is left of it, as far as `limit_bytes`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn head(self, limit_bytes: u64) -> io::Result<Vec<u8>> {
        // One that says its length needs no read that only finds its end, which a file server would have to answer.
        let length = if let Self::File(_, length @ 1..) = self { length.min(limit_bytes) } else { limit_bytes };
        let mut bytes = Vec::with_capacity(usize::try_from(length).map_or(FIRST_READ_BYTES, |length| length.min(FIRST_READ_BYTES)));
        self.take(length).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file, _) => file.read(buffer),
            Self::Memory(bytes) => bytes.read(buffer),
        }
    }
}

impl Seek for Source {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        match self {
            Self::File(file, _) => file.seek(position),
            Self::Memory(bytes) => bytes.seek(position),
        }
    }
}
