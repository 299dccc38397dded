//! Reads that note what went wrong and go on: one unreadable file must not lose the rest.

use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::directories::Directories;
use super::root::text_of;
use super::{Metadata, ReadError, ReadFailure, Root};

/// A root with the problems met so far.
pub(super) struct Reader<'a> {
    pub(super) root: &'a Root,
    directories: Directories,
    pub(super) problems: Vec<ReadError>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(root: &'a Root) -> Self {
        Self { root, directories: Directories::default(), problems: Vec::new() }
    }

    /// The value, or nothing and one more problem.
    pub(super) fn keep<T>(&mut self, result: Result<Option<T>, ReadError>) -> Option<T> {
        result.unwrap_or_else(|error| {
            self.problems.push(error);
            None
        })
    }

    /// The text of a file; what goes wrong is the caller's to judge.
    pub(super) fn read(&mut self, path: impl AsRef<Path>) -> Result<Option<String>, ReadError> {
        self.root.text_in(&mut self.directories, path.as_ref())
    }

    /// The text of a file.
    pub(super) fn text(&mut self, path: impl AsRef<Path>) -> Option<String> {
        let read = self.root.text(path);
        self.keep(read)
    }

    /// The first bytes of a file as text, where the whole is long.
    pub(super) fn head(&mut self, path: impl AsRef<Path>, limit_bytes: u64) -> Option<String> {
        let path = path.as_ref();
        let opened = self.root.open(path);
        let source = self.keep(opened)?;
        let read = source.head(limit_bytes).map(Some).map_err(|error| ReadError::new(path, ReadFailure::from_io(&error)));
        self.keep(read).map(text_of)
    }

    /// The text of an attribute of sysfs, without spaces around it. A driver that has nothing to say there answers EINVAL, ENODATA or
    /// EOPNOTSUPP: that is absence too.
    pub(super) fn attribute(&mut self, path: impl AsRef<Path>) -> Option<String> {
        let read = match self.read(path) {
            Err(error) if matches!(error.errno(), Some(Errno::EINVAL | Errno::ENODATA | Errno::EOPNOTSUPP)) => Ok(None),
            read => read,
        };
        self.keep(read).map(|text| text.trim().to_owned())
    }

    /// An attribute that `parse` understands; what it does not is a problem that says what was expected.
    pub(super) fn parsed<T>(&mut self, path: impl AsRef<Path>, expected: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let path = path.as_ref();
        let text = self.attribute(path)?;
        let value = parse(&text);
        if value.is_none() {
            self.problems.push(ReadError::malformed(path, "value", format!("{:?} is not {expected}", shorten(&text))));
        }
        value
    }

    /// The names in a directory; none where it is absent.
    pub(super) fn names(&mut self, path: impl AsRef<Path>) -> Vec<String> {
        let read = self.root.names(path);
        self.keep(read).unwrap_or_default()
    }

    /// The path without links.
    pub(super) fn canonical(&mut self, path: impl AsRef<Path>) -> Option<PathBuf> {
        let read = self.root.canonical(path);
        self.keep(read)
    }

    /// What a path is.
    pub(super) fn metadata(&mut self, path: impl AsRef<Path>) -> Option<Metadata> {
        let read = self.root.metadata(path);
        self.keep(read)
    }

    /// The last component of a link's target: sysfs names drivers and functions so.
    pub(super) fn link_name(&mut self, path: impl AsRef<Path>) -> Option<String> {
        let read = self.root.link(path);
        self.keep(read)?.file_name().map(|name| name.to_string_lossy().into_owned())
    }
}

/// The start of a text, so that garbage in a file does not fill a report.
pub(super) fn shorten(text: &str) -> String {
    const LONGEST: usize = 60;
    if text.chars().count() <= LONGEST { text.to_owned() } else { text.chars().take(LONGEST).chain("…".chars()).collect() }
}

/// A number as sysfs writes it: decimal, or hexadecimal after `0x`.
pub(super) fn number(text: &str) -> Option<u64> {
    text.strip_prefix("0x").map_or_else(|| text.parse().ok(), |digits| u64::from_str_radix(digits, 16).ok())
}
