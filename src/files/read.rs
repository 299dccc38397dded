//! One reader: a regular file or a pipe, no longer than its kind is, and not waited for without end.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How long a pipe may be silent.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often a wait looks whether the user has interrupted it, in milliseconds.
pub(super) const SLICE_MS: u8 = 100;

/// Signals are the process's, and so is what they ask for.
static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on a wait ends when this is set.
pub(crate) fn give_up_when(is_interrupted: Arc<AtomicBool>) {
    let _ = INTERRUPTED.set(is_interrupted);
}

pub(super) fn is_interrupted() -> bool {
    INTERRUPTED.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
}

/// A regular file or a pipe that is open. A read waits for a pipe, for [`PATIENCE`] at most, and ends with [`ErrorKind::TimedOut`], whose text
/// says why: what is `Interrupted` would be tried again by readers above.
#[derive(Debug)]
pub(crate) struct Input {
    file: File,
    /// Why it was given up.
    why: Option<String>,
}

impl Input {
    /// Opens a file, or standard input for `-`.
    ///
    /// # Errors
    /// It cannot be opened, or is neither a regular file nor a pipe.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = if path == Path::new("-") {
            File::from(io::stdin().as_fd().try_clone_to_owned()?)
        } else {
            // A pipe without a writer would hold open(2) for ever.
            OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?
        };
        let kind = file.metadata()?.file_type();
        let what = match () {
            () if kind.is_file() || kind.is_fifo() => return Ok(Self { file, why: None }),
            () if kind.is_dir() => "it is a directory",
            // A shell's `cmd | rdmadoctor` may be a pair of sockets, as ssh makes them.
            () if path == Path::new("-") && kind.is_socket() => return Ok(Self { file, why: None }),
            () if kind.is_char_device() => "it is a character device, neither a file nor a pipe",
            () if kind.is_block_device() => "it is a block device, neither a file nor a pipe",
            () => "it is neither a file nor a pipe",
        };
        Err(io::Error::new(ErrorKind::InvalidInput, what))
    }

    /// Why a read gave up, if one did: readers above it may tell only of an unexpected end.
    pub(crate) fn why(&self) -> Option<&str> {
        self.why.as_deref()
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let started = Instant::now();
        loop {
            let mut waiting = [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)];
            let ready = poll(&mut waiting, PollTimeout::from(SLICE_MS)).unwrap_or(0);
            if ready > 0 {
                match self.file.read(buffer) {
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                    other => return other,
                }
            }
            let why = match () {
                () if is_interrupted() => "interrupted while it was read".to_owned(),
                () if started.elapsed() >= PATIENCE => {
                    format!("nothing came from it in {} s; does anything write to it?", PATIENCE.as_secs())
                }
                () => continue,
            };
            self.why = Some(why.clone());
            return Err(io::Error::new(ErrorKind::TimedOut, why));
        }
    }
}

/// All bytes of a file or pipe, if they are no more than `most`.
///
/// # Errors
/// It cannot be opened or read, is neither a file nor a pipe, stays silent, or is longer ([`ErrorKind::FileTooLarge`]).
pub(crate) fn bytes(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    Input::open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::new(ErrorKind::FileTooLarge, format!("it is longer than {most} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_to_its_bound_and_not_beyond() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, b"1234").unwrap();
        assert_eq!(bytes(&file, 4).unwrap(), b"1234");
        assert_eq!(bytes(&file, 3).unwrap_err().kind(), ErrorKind::FileTooLarge);
        assert_eq!(bytes(&directory.path().join("none"), 4).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn what_is_neither_file_nor_pipe_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for (path, what) in [(Path::new("/dev/zero"), "character device"), (directory.path(), "directory")] {
            let error = bytes(path, 4).unwrap_err();
            assert!(error.to_string().contains(what), "{}: {error}", path.display());
        }
        // The kernel itself opens no socket.
        assert!(bytes(&socket, 4).is_err());
    }

    #[test]
    fn a_pipe_is_read_to_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let writer = std::thread::spawn({
            let pipe = pipe.clone();
            move || std::fs::write(pipe, "a: 1").unwrap()
        });
        assert_eq!(bytes(&pipe, 100).unwrap(), b"a: 1");
        writer.join().unwrap();
    }
}
