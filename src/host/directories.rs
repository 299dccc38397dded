//! Directories whose attributes are read one after another, held open: the way to each attribute is short then. Sysfs reaches most by links, which the
//! kernel would follow anew for each of thousands.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use memchr::memrchr;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

/// Directories that are kept: tables of addresses are read in three at once.
const KEPT: usize = 4;
/// From which read on a directory is held open: of most functions of PCI only two attributes are of interest.
const HELD_FROM: u32 = 3;

/// The directories that were read from last, the last one at the end. They are given up with this: what is removed and comes again has another.
#[derive(Default)]
pub(super) struct Directories(Vec<Directory>);

struct Directory {
    path: Vec<u8>,
    reads: u32,
    held: Option<OwnedFd>,
}

impl Directories {
    /// Opens a file of this host for reading, and never waits for a writer where a pipe stands at the path.
    pub(super) fn open(&mut self, path: &Path) -> io::Result<File> {
        let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        // As bytes: comparing paths component by component takes longer than opening them.
        let bytes = path.as_os_str().as_bytes();
        if let Some(slash) = memrchr(b'/', bytes).filter(|slash| (1..bytes.len() - 1).contains(slash))
            && let Some(held) = self.held(&bytes[..slash])
        {
            return Ok(openat(held, OsStr::from_bytes(&bytes[slash + 1..]), flags | OFlag::O_CLOEXEC, Mode::empty())?.into());
        }
        OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)
    }

    fn held(&mut self, path: &[u8]) -> Option<&OwnedFd> {
        let at = self.0.iter().position(|directory| directory.path == path);
        let mut directory = match at {
            Some(at) => self.0.remove(at),
            None => Directory { path: path.to_owned(), reads: 0, held: None },
        };
        directory.reads += 1;
        if directory.reads == HELD_FROM {
            let flags = libc::O_PATH | libc::O_DIRECTORY;
            directory.held = OpenOptions::new().read(true).custom_flags(flags).open(OsStr::from_bytes(path)).ok().map(Into::into);
        }
        if self.0.len() == KEPT {
            self.0.remove(0);
        }
        self.0.push(directory);
        self.0.last()?.held.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;

    use super::*;

    #[test]
    fn files_are_found_by_whichever_way() {
        let above = tempfile::tempdir().unwrap();
        let mut directories = Directories::default();
        for round in 0..3 {
            for folder in 0..6 {
                let folder = above.path().join(folder.to_string());
                fs::create_dir_all(&folder).unwrap();
                for file in 0..5 {
                    let path = folder.join(file.to_string());
                    fs::write(&path, format!("{round} {file}")).unwrap();
                    let mut text = String::new();
                    directories.open(&path).unwrap().read_to_string(&mut text).unwrap();
                    assert_eq!(text, format!("{round} {file}"));
                }
                assert_eq!(directories.open(&folder.join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
            }
        }
        assert_eq!((directories.0.len(), directories.0.iter().filter(|directory| directory.held.is_some()).count()), (KEPT, KEPT));
    }
}
