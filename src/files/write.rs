//! One writer: a file is replaced whole or not at all, and what is no regular file is written into, never replaced.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::read::{SLICE_MS, is_interrupted};

/// How temporary files are called.
const PREFIX: &str = ".rdmadoctor-";
const SUFFIX: &str = ".tmp";

/// A temporary file that is older was left by a writer that was killed: writing takes seconds.
const STALE: Duration = Duration::from_secs(600);

/// What becomes of a file that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    Replaced,
    Kept,
}

/// Why a file was not written. What was there before is still there.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {step} {}: {error}", file.display(), object.display())]
pub(crate) struct WriteError {
    file: PathBuf,
    /// What was tried.
    step: &'static str,
    object: PathBuf,
    /// What came back. It stands in the text, so that it is not named as the source too.
    pub error: io::Error,
}

/// Writes `file`: to a temporary file in the same directory, synced, renamed, and the directory synced; a crash leaves the old file or the new
/// one. Its permissions are `mode` without what the umask takes. Through a symbolic link, what it leads to is replaced. A character device or a
/// pipe is written into.
///
/// # Errors
/// A step failed; then `file` is as it was, but for what a device or pipe has taken.
pub(crate) fn write(file: &Path, bytes: &[u8], mode: u32, existing: Existing) -> Result<(), WriteError> {
    let fail =
        |step: &'static str, object: &Path, error: io::Error| WriteError { file: file.to_owned(), step, object: object.to_owned(), error };
    let there = match std::fs::metadata(file) {
        Ok(metadata) => Some(metadata.file_type()),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(fail("looking at", file, error)),
    };
    match there {
        Some(kind) if kind.is_char_device() || kind.is_fifo() || is_descriptor(file) => {
            return into(file, bytes).map_err(|error| fail("writing into", file, error));
        }
        Some(kind) if !kind.is_file() => {
            return Err(fail("replacing", file, io::Error::other("it is there and is no regular file")));
        }
        Some(_) if existing == Existing::Kept => {
            return Err(fail("making", file, ErrorKind::AlreadyExists.into()));
        }
        _ => {}
    }
    // A link stays a link. One that leads nowhere is replaced: what it would lead to, nobody has made.
    let target =
        if there.is_some() { std::fs::canonicalize(file).map_err(|error| fail("looking at", file, error))? } else { file.to_owned() };
    let directory = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // A name of its own for each writer. It is removed when a step fails; what a killed writer leaves behind, the next one removes.
    let mut temporary = tempfile::Builder::new()
        .prefix(PREFIX)
        .suffix(SUFFIX)
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(directory)
        .map_err(|error| fail("making a file in", directory, error))?;
    let name = temporary.path().to_owned();
    temporary.write_all(bytes).map_err(|error| fail("writing", &name, error))?;
    temporary.as_file().sync_all().map_err(|error| fail("fsync", &name, error))?;
    if let Ok(now) = temporary.as_file().metadata().and_then(|metadata| metadata.modified()) {
        remove_stale(directory, now);
    }
    let placed = match existing {
        Existing::Replaced => temporary.persist(&target),
        Existing::Kept => temporary.persist_noclobber(&target),
    };
    placed.map_err(|error| fail("renaming", &name, error.error))?;
    // The name is to outlive a crash too. Some file systems cannot do that for a directory.
    match File::open(directory).and_then(|directory| directory.sync_all()) {
        Err(error) if error.kind() != ErrorKind::InvalidInput => Err(fail("fsync", directory, error)),
        _ => Ok(()),
    }
}

/// Whether it names what this process has open, such as `/dev/stdout`: a file there is a shell's, which has it open too.
pub(crate) fn is_descriptor(file: &Path) -> bool {
    ["/dev/stdout", "/dev/stderr", "/dev/fd", "/proc/self/fd"].iter().any(|place| file.starts_with(place))
}

/// Writes into what is no regular file, or belongs to another. Nothing is cut off, and nothing that is there is written over. A pipe whose
/// reader is slow is waited for, until the user interrupts.
fn into(file: &Path, bytes: &[u8]) -> io::Result<()> {
    // A pipe that nobody reads would hold open(2) for ever; so it is ENXIO.
    let mut open = OpenOptions::new().append(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(file)?;
    let mut left = bytes;
    while !left.is_empty() {
        match open.write(left) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => left = &left[written..],
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                if is_interrupted() {
                    return Err(io::Error::new(ErrorKind::TimedOut, "interrupted while it was written"));
                }
                let _ = poll(&mut [PollFd::new(open.as_fd(), PollFlags::POLLOUT)], PollTimeout::from(SLICE_MS));
            }
            Err(error) => return Err(error),
        }
    }
    open.flush()
}

/// Removes what writers left that were killed. `now` is by the clock of the file system, which on a network is another machine's. A file
/// that cannot be removed disturbs nobody.
fn remove_stale(directory: &Path, now: SystemTime) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_ours = name.to_str().is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX));
        let is_stale = |metadata: &std::fs::Metadata| {
            let age = metadata.modified().ok().and_then(|then| now.duration_since(then).ok());
            metadata.is_file() && age.is_some_and(|age| age > STALE)
        };
        if is_ours && entry.metadata().is_ok_and(|metadata| is_stale(&metadata)) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn replace(file: &Path, text: &str) -> Result<(), WriteError> {
        write(file, text.as_bytes(), 0o644, Existing::Replaced)
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_where_that_is_asked_for_and_no_other_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        write(&file, b"one", 0o600, Existing::Kept).unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let error = write(&file, b"two", 0o600, Existing::Kept).unwrap_err();
        assert_eq!((error.error.kind(), std::fs::read(&file).unwrap().as_slice()), (ErrorKind::AlreadyExists, b"one".as_slice()));
        replace(&file, "two").unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"two");
        assert_eq!(names(directory.path()), ["file"]);
        let error = replace(Path::new("/nowhere/x"), "").unwrap_err().to_string();
        assert!(error.contains("/nowhere"), "{error}");
    }

    #[test]
    fn what_is_no_regular_file_stays_what_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        // Nobody reads it.
        let error = replace(&pipe, "text").unwrap_err();
        assert_eq!(error.error.raw_os_error(), Some(libc::ENXIO), "{error}");
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || std::fs::read_to_string(pipe).unwrap()
        });
        while replace(&pipe, &"text".repeat(50_000)).is_err() {
            std::thread::yield_now();
        }
        assert_eq!(reader.join().unwrap().len(), 200_000);
        assert!(std::fs::metadata(&pipe).unwrap().file_type().is_fifo());
        // A device of its own would take root: a link to one is as good.
        let null = directory.path().join("null");
        symlink("/dev/null", &null).unwrap();
        replace(&null, "text").unwrap();
        assert!(std::fs::metadata(&null).unwrap().file_type().is_char_device());
        assert!(replace(directory.path(), "text").unwrap_err().to_string().contains("no regular file"));
        assert_eq!(names(directory.path()), ["null", "pipe"]);
    }

    #[test]
    fn a_link_stays_and_what_it_leads_to_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        std::fs::write(&file, "one").unwrap();
        symlink("file", &link).unwrap();
        replace(&link, "two").unwrap();
        assert_eq!((std::fs::read_to_string(&file).unwrap().as_str(), link.is_symlink()), ("two", true));
    }

    #[test]
    fn what_a_killed_writer_left_is_removed_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let old = SystemTime::now() - 2 * STALE;
        for (name, is_old) in [(".rdmadoctor-a1b2c3.tmp", true), (".rdmadoctor-d4e5f6.tmp", false), (".other-a1b2c3.tmp", true)] {
            let file = File::create(directory.path().join(name)).unwrap();
            if is_old {
                file.set_modified(old).unwrap();
            }
        }
        std::fs::create_dir(directory.path().join(".rdmadoctor-folder.tmp")).unwrap();
        File::open(directory.path().join(".rdmadoctor-folder.tmp")).unwrap().set_modified(old).unwrap();
        replace(&directory.path().join("file"), "text").unwrap();
        assert_eq!(names(directory.path()), [".other-a1b2c3.tmp", ".rdmadoctor-d4e5f6.tmp", ".rdmadoctor-folder.tmp", "file"]);
    }
}
