//! A file system in memory, for models of hosts and for tests.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;

use super::{Kind, Metadata};

/// One path of a tree in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A regular file with its content.
    File(Vec<u8>),
    /// A symbolic link with its target.
    Link(PathBuf),
    /// A directory; those above a path need not be named.
    Dir,
    /// What nobody may read.
    Denied,
    /// What never answers, as files of sysfs whose device is stuck.
    Hangs,
    /// What answers every read with this errno, as attributes of sysfs do that have nothing to say.
    Fails(i32),
    /// A character device.
    CharDevice {
        /// Its driver's number.
        major: u64,
        /// Its number within the driver.
        minor: u64,
        /// Permission bits.
        mode: u32,
    },
}

impl Node {
    /// A file with this text.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::File(text.as_bytes().to_vec())
    }

    /// What the kernel would say of it. All in a model is root's.
    pub(super) fn metadata(&self) -> Metadata {
        let (kind, mode) = match self {
            Self::File(_) | Self::Fails(_) | Self::Hangs => (Kind::File, 0o644),
            Self::Denied => (Kind::File, 0),
            Self::Dir => (Kind::Dir, 0o755),
            Self::Link(_) => (Kind::Link, 0o777),
            Self::CharDevice { major, minor, mode } => (Kind::CharDevice { major: *major, minor: *minor }, *mode),
        };
        Metadata { kind, mode, uid: 0, gid: 0 }
    }

    /// The content, or what a read answers.
    pub(super) fn content(&self) -> Result<&[u8], Errno> {
        match self {
            Self::File(bytes) => Ok(bytes),
            Self::Denied => Err(Errno::EACCES),
            Self::Fails(errno) => Err(Errno::from_raw(*errno)),
            Self::Hangs => loop {
                std::thread::park();
            },
            Self::Dir => Err(Errno::EISDIR),
            Self::Link(_) | Self::CharDevice { .. } => Err(Errno::EINVAL),
        }
    }
}

/// Gives every path its plain absolute form, and adds the directories above it.
pub(super) fn complete(nodes: BTreeMap<PathBuf, Node>) -> BTreeMap<PathBuf, Node> {
    let mut complete = BTreeMap::from([(PathBuf::from("/"), Node::Dir)]);
    for (path, node) in nodes {
        let path = plain(&path);
        // What is there has all that is above it.
        for above in path.ancestors().skip(1) {
            if complete.contains_key(above) {
                break;
            }
            complete.insert(above.to_owned(), Node::Dir);
        }
        complete.insert(path, node);
    }
    complete
}

/// An absolute path without `.` and `..`; links are not looked at.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => {
                plain.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    plain
}

/// The names directly below a directory.
pub(super) fn names_below(nodes: &BTreeMap<PathBuf, Node>, dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let mut from = Bound::Excluded(dir.to_owned());
    while let Some((path, _)) = nodes.range::<Path, _>((from.as_ref().map(PathBuf::as_path), Bound::Unbounded)).next() {
        // Directories are nodes too, so the next one is directly below.
        let Some(name) = path.strip_prefix(dir).ok().and_then(|below| below.components().next()) else { break };
        names.push(name.as_os_str().to_string_lossy().into_owned());
        // The next name that there could be: what is below this one comes before it.
        let mut next = name.as_os_str().to_owned();
        next.push("\0");
        from = Bound::Included(dir.join(next));
    }
    names.sort();
    names
}
