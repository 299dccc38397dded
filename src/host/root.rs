//! The one seam to the file system.
//!
//! Paths are absolute and seen from the root. Symbolic links are followed inside the root, as under chroot(2): a link to `/etc/x` in a
//! host mounted at `/host` means `/host/etc/x`, and `..` stops at the root. Links are therefore walked here and not by the kernel,
//! except where the root is the real one and there is nothing to escape from.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Cursor, Read};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;

use super::directories::Directories;
use super::tree::{self, Node};
use super::{Kind, Metadata, ReadError, ReadFailure, Source};
use crate::text;

/// Most that [`Root::text`] and [`Root::bytes`] read of one file: what the kernel shows in one is far shorter.
pub const TEXT_LIMIT_BYTES: u64 = 1 << 20;

/// Where each file is an attribute; control groups and debugfs, which are below /sys too, have files that come in pieces.
const ATTRIBUTES: [&str; 5] = ["/sys/class/", "/sys/bus/", "/sys/devices/", "/sys/module/", "/sys/kernel/mm/"];

/// The smallest page: an attribute that fills less is read whole.
const ATTRIBUTE_BYTES: usize = 4096;

thread_local! {
    /// Where an attribute is read to: clearing a page for each of thousands takes longer than reading them.
    static PAGE: RefCell<[u8; ATTRIBUTE_BYTES]> = const { RefCell::new([0; ATTRIBUTE_BYTES]) };
}

/// Links followed in one path before it counts as a loop; the kernel's own bound (path_resolution(7)).
const LINK_LIMIT: usize = 40;

/// The path that was last begun to be read, and how many were before it.
static BEING_READ: Mutex<(u64, Option<PathBuf>)> = Mutex::new((0, None));

/// The path that this process is reading or read last, and a number that grows with each: who watches tells so what reading hangs on.
#[must_use]
pub fn being_read() -> (u64, Option<PathBuf>) {
    BEING_READ.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn begin(path: &Path) {
    let mut reading = BEING_READ.lock().unwrap_or_else(PoisonError::into_inner);
    reading.0 += 1;
    reading.1 = Some(path.to_owned());
}

/// Where a host's files are read.
#[derive(Debug, Clone)]
pub struct Root(Backing);

#[derive(Debug, Clone)]
enum Backing {
    Dir(PathBuf),
    Tree(BTreeMap<PathBuf, Node>),
}

impl Default for Root {
    /// This host.
    fn default() -> Self {
        Self::dir("/")
    }
}

impl Root {
    /// The files below a directory; `/` is this host.
    #[must_use]
    pub fn dir(path: impl Into<PathBuf>) -> Self {
        Self(Backing::Dir(path.into()))
    }

    /// A file system in memory.
    #[must_use]
    pub fn tree(nodes: BTreeMap<PathBuf, Node>) -> Self {
        Self(Backing::Tree(tree::complete(nodes)))
    }

    /// The text of a file of at most `TEXT_LIMIT_BYTES`, without the newline at its end; what is not UTF-8 is replaced. `None` where there is no such file.
    ///
    /// # Errors
    /// The file is there and cannot be read, or is too long.
    pub fn text(&self, path: impl AsRef<Path>) -> Result<Option<String>, ReadError> {
        Ok(self.bytes(path)?.map(trimmed))
    }

    /// The content of a file of at most `TEXT_LIMIT_BYTES`.
    ///
    /// # Errors
    /// As [`Root::text`].
    pub fn bytes(&self, path: impl AsRef<Path>) -> Result<Option<Vec<u8>>, ReadError> {
        self.bytes_to(path, TEXT_LIMIT_BYTES)
    }

    /// The content of a file of at most `limit_bytes`.
    ///
    /// # Errors
    /// As [`Root::text`].
    pub fn bytes_to(&self, path: impl AsRef<Path>, limit_bytes: u64) -> Result<Option<Vec<u8>>, ReadError> {
        self.bytes_in(&mut Directories::default(), path.as_ref(), limit_bytes)
    }

    /// As [`Root::text`], where several files of a directory are read.
    pub(super) fn text_in(&self, directories: &mut Directories, path: &Path) -> Result<Option<String>, ReadError> {
        Ok(self.bytes_in(directories, path, TEXT_LIMIT_BYTES)?.map(trimmed))
    }

    fn bytes_in(&self, directories: &mut Directories, path: &Path, limit_bytes: u64) -> Result<Option<Vec<u8>>, ReadError> {
        if let Some(found) = self.attribute(directories, path)? {
            return Ok(found);
        }
        let Some(source) = self.open(path)? else { return Ok(None) };
        let bytes = source.head(limit_bytes.saturating_add(1)).map_err(|error| ReadError::new(path, ReadFailure::from_io(&error)))?;
        if bytes.len() as u64 > limit_bytes {
            return Err(ReadError::new(path, ReadFailure::TooLarge { limit_bytes }));
        }
        Ok(Some(bytes))
    }

    /// The content of an attribute of this host's sysfs, with one read: there are thousands of them, and the kernel gives all of one at
    /// once, at most a page (Documentation/filesystems/sysfs.rst). `None` where that does not tell: the path is none of them, is empty, or fills
    /// a page; within it `None` where there is no such file.
    fn attribute(&self, directories: &mut Directories, path: &Path) -> Result<Option<Option<Vec<u8>>>, ReadError> {
        if !self.is_host() || !ATTRIBUTES.iter().any(|above| path.as_os_str().as_bytes().starts_with(above.as_bytes())) {
            return Ok(None);
        }
        begin(path);
        let read =
            directories.open(path).and_then(|mut file| PAGE.with_borrow_mut(|page| file.read(page).map(|length| page[..length].to_vec())));
        match present(read).map_err(|error| ReadError::new(path, ReadFailure::from_io(&error)))? {
            // Nothing is what a pipe says that nobody writes to, and a full page may be the beginning of more.
            Some(bytes) if bytes.is_empty() || bytes.len() == ATTRIBUTE_BYTES => Ok(None),
            found => Ok(Some(found)),
        }
    }

    /// Opens a regular file for reading in pieces.
    ///
    /// # Errors
    /// The path is there and is no regular file, or cannot be opened.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Option<Source>, ReadError> {
        let path = path.as_ref();
        begin(path);
        let fail = |failure| ReadError::new(path, failure);
        let Some(found) = self.resolve(path, true)? else { return Ok(None) };
        match &self.0 {
            Backing::Dir(_) => {
                let Some(file) = present(open(&found)).map_err(|error| fail(ReadFailure::from_io(&error)))? else { return Ok(None) };
                // Of process and kernel, whose files nobody replaces, a directory tells itself when it is read.
                if self.is_host() && path.starts_with("/proc") {
                    return Ok(Some(Source::File(file, 0)));
                }
                let metadata = file.metadata().map_err(|error| fail(ReadFailure::from_io(&error)))?;
                if metadata.is_file() { Ok(Some(Source::File(file, metadata.len()))) } else { Err(fail(ReadFailure::NotAFile)) }
            }
            Backing::Tree(nodes) => match nodes.get(&found).map(|node| (node, node.content())) {
                None => Ok(None),
                Some((_, Ok(bytes))) => Ok(Some(Source::Memory(Cursor::new(bytes.to_vec())))),
                Some((Node::Link(_) | Node::CharDevice { .. }, Err(_))) => Err(fail(ReadFailure::NotAFile)),
                Some((_, Err(errno))) => Err(fail(ReadFailure::from_errno(errno))),
            },
        }
    }

    /// The names in a directory, sorted. `None` where there is no such directory.
    ///
    /// # Errors
    /// The path is there and is no directory, or cannot be listed.
    pub fn names(&self, path: impl AsRef<Path>) -> Result<Option<Vec<String>>, ReadError> {
        let path = path.as_ref();
        begin(path);
        let fail = |failure| ReadError::new(path, failure);
        let Some(found) = self.resolve(path, true)? else { return Ok(None) };
        match &self.0 {
            Backing::Dir(_) => {
                let listed = fs::read_dir(found).and_then(|entries| {
                    entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned())).collect::<io::Result<Vec<_>>>()
                });
                let listed = present(listed).map_err(|error| fail(ReadFailure::from_io(&error)))?;
                Ok(listed.map(|mut names| {
                    names.sort();
                    names
                }))
            }
            Backing::Tree(nodes) => match nodes.get(&found) {
                None => Ok(None),
                Some(Node::Dir) => Ok(Some(tree::names_below(nodes, &found))),
                Some(Node::Denied) => Err(fail(ReadFailure::PermissionDenied)),
                Some(_) => Err(fail(ReadFailure::NotADirectory)),
            },
        }
    }

    /// The target of a symbolic link, as it is written. `None` where there is nothing, or no link.
    ///
    /// # Errors
    /// The directories above it cannot be read.
    pub fn link(&self, path: impl AsRef<Path>) -> Result<Option<PathBuf>, ReadError> {
        let path = path.as_ref();
        begin(path);
        let Some(found) = self.resolve(path, false)? else { return Ok(None) };
        self.target(&found).map_err(|errno| ReadError::new(path, ReadFailure::from_errno(errno)))
    }

    /// Whether something is there, links followed. What cannot be looked at counts as absent.
    #[must_use]
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        matches!(self.metadata(path), Ok(Some(_)))
    }

    /// The path without links, seen from the root. `None` where there is nothing.
    ///
    /// # Errors
    /// A loop of links, or a directory on the way that cannot be read.
    pub fn canonical(&self, path: impl AsRef<Path>) -> Result<Option<PathBuf>, ReadError> {
        let path = path.as_ref();
        begin(path);
        if self.is_host() {
            return present(canonical(&absolute(path))).map_err(|error| ReadError::new(path, ReadFailure::from_io(&error)));
        }
        self.walk(path, true).map(|found| found.map(|(inside, _)| inside))
    }

    /// What a path is and who may use it, links followed. `None` where there is nothing.
    ///
    /// # Errors
    /// As [`Root::canonical`].
    pub fn metadata(&self, path: impl AsRef<Path>) -> Result<Option<Metadata>, ReadError> {
        let path = path.as_ref();
        begin(path);
        if self.is_host() {
            return present(fs::metadata(absolute(path)))
                .map(|found| found.as_ref().map(Metadata::from_std))
                .map_err(|error| ReadError::new(path, ReadFailure::from_io(&error)));
        }
        self.walk(path, true).map(|found| found.map(|(_, metadata)| metadata))
    }

    /// Whether this is the real root, from which no link leads out.
    pub(super) fn is_host(&self) -> bool {
        // Comparing paths takes longer, and is for those that are written otherwise (`//`).
        matches!(&self.0, Backing::Dir(dir) if dir.as_os_str() == "/" || dir == Path::new("/"))
    }

    /// The path to hand to the backing; the last component's link is followed if `follow`.
    fn resolve(&self, path: &Path, follow: bool) -> Result<Option<PathBuf>, ReadError> {
        if self.is_host() {
            return Ok(Some(absolute(path)));
        }
        Ok(self.walk(path, follow)?.map(|(inside, _)| self.outside(&inside)))
    }

    /// A path of the backing for one seen from the root.
    fn outside(&self, inside: &Path) -> PathBuf {
        match &self.0 {
            Backing::Dir(dir) => dir.join(inside.strip_prefix("/").unwrap_or(inside)),
            Backing::Tree(_) => inside.to_owned(),
        }
    }

    /// What a path of the backing is, its own link not followed.
    fn look(&self, outside: &Path) -> Result<Option<Metadata>, Errno> {
        match &self.0 {
            Backing::Dir(_) => present(fs::symlink_metadata(outside))
                .map(|found| found.as_ref().map(Metadata::from_std))
                .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0))),
            Backing::Tree(nodes) => Ok(nodes.get(outside).map(Node::metadata)),
        }
    }

    /// The target of a path of the backing, if it is a link.
    fn target(&self, outside: &Path) -> Result<Option<PathBuf>, Errno> {
        match &self.0 {
            Backing::Dir(_) => match fs::read_link(outside) {
                Ok(target) => Ok(Some(target)),
                // EINVAL: there, and no link (readlink(2)).
                Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOENT)) => Ok(None),
                Err(error) => Err(Errno::from_raw(error.raw_os_error().unwrap_or(0))),
            },
            Backing::Tree(nodes) => match nodes.get(outside) {
                Some(Node::Link(target)) => Ok(Some(target.clone())),
                _ => Ok(None),
            },
        }
    }

    /// Goes down a path component by component, so that no link leaves the root.
    fn walk(&self, path: &Path, follow: bool) -> Result<Option<(PathBuf, Metadata)>, ReadError> {
        let fail = |errno| ReadError::new(path, ReadFailure::from_errno(errno));
        let mut here = PathBuf::from("/");
        let Some(mut metadata) = self.look(&self.outside(&here)).map_err(fail)? else { return Ok(None) };
        // A root that is itself a link is the user's choice: it leads to where the root is.
        if metadata.kind == Kind::Link {
            metadata.kind = Kind::Dir;
        }
        let mut left: VecDeque<OsString> = VecDeque::new();
        put_before(&mut left, path);
        let mut links = 0;
        while let Some(name) = left.pop_front() {
            if metadata.kind != Kind::Dir {
                // A model's directory that may not be entered is written as one denied node.
                let denied = matches!(&self.0, Backing::Tree(nodes) if nodes.get(&here) == Some(&Node::Denied));
                return Err(fail(if denied { Errno::EACCES } else { Errno::ENOTDIR }));
            }
            let next = if name == ".." { here.parent().unwrap_or(Path::new("/")).to_owned() } else { here.join(&name) };
            let outside = self.outside(&next);
            let Some(found) = self.look(&outside).map_err(fail)? else { return Ok(None) };
            if found.kind == Kind::Link && next != Path::new("/") && (follow || !left.is_empty()) {
                links += 1;
                if links > LINK_LIMIT {
                    return Err(fail(Errno::ELOOP));
                }
                let Some(target) = self.target(&outside).map_err(fail)? else { return Ok(None) };
                if target.is_absolute() {
                    here = PathBuf::from("/");
                    metadata.kind = Kind::Dir;
                }
                put_before(&mut left, &target);
                continue;
            }
            here = next;
            metadata = found;
            if here == Path::new("/") {
                metadata.kind = Kind::Dir;
            }
        }
        Ok(Some((here, metadata)))
    }
}

/// Bytes as text, where they stand; what is not UTF-8 is replaced, and what would move a cursor is named.
pub(super) fn text_of(bytes: Vec<u8>) -> String {
    text::kept(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// Bytes as text without the newline at its end.
fn trimmed(bytes: Vec<u8>) -> String {
    let mut text = text_of(bytes);
    text.truncate(text.trim_end_matches(['\n', '\r']).len());
    text
}

/// Puts the components of a path before those that are left to walk.
fn put_before(left: &mut VecDeque<OsString>, path: &Path) {
    for component in path.components().rev() {
        match component {
            Component::Normal(name) => left.push_front(name.to_owned()),
            Component::ParentDir => left.push_front(OsString::from("..")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
}

/// Opens a file. Never waits for a writer where a pipe stands at the path.
fn open(path: &Path) -> io::Result<fs::File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)
}

/// The path without links. The kernel is asked once for all of it; the C library, which asks for each component, only where there is no /proc.
fn canonical(path: &Path) -> io::Result<PathBuf> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path)?;
    let real = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
    match real {
        // What the kernel adds to the path of what was removed meanwhile is no part of a path (fs/d_path.c, fs/kernfs).
        Ok(real) if real.is_absolute() && !real.to_string_lossy().contains("deleted") => Ok(real),
        _ => fs::canonicalize(path),
    }
}

/// The path from `/`, also where it was given without one.
fn absolute(path: &Path) -> PathBuf {
    Path::new("/").join(path)
}

/// Tells what is absent from what cannot be read.
fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
#[path = "root_tests.rs"]
mod tests;
