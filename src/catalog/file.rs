//! Reading files of the catalog: UTF-8 of a reasonable length, from a file or from a pipe that a shell made.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::CatalogError;
use super::check::{Place, Problem};

/// Longest file; a device that never ends must not fill the memory.
const LONGEST_BYTES: usize = 1 << 20;

/// How often a wait for a pipe looks whether the user has interrupted it, in milliseconds.
const SLICE_MS: u16 = 100;

/// What some editors put in front of UTF-8. YAML allows it, other readers of the same file stumble over it.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Reads a file whole.
///
/// # Errors
/// It cannot be read, is too long, or is not UTF-8.
pub(crate) fn read(path: &Path) -> Result<String, CatalogError> {
    read_until(path, &|| false)
}

/// As [`read`]; a wait for a pipe ends with [`ErrorKind::Interrupted`] when `is_interrupted` says so.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_until(path: &Path, is_interrupted: &dyn Fn() -> bool) -> Result<String, CatalogError> {
    let bytes = bytes(path, is_interrupted).map_err(|source| CatalogError::Unreadable { file: path.to_owned(), source })?;
    let invalid = |problem| CatalogError::Invalid { file: path.to_owned(), problem };
    if bytes.len() > LONGEST_BYTES {
        return Err(invalid(Problem::at(Place::START, format!("it is longer than {LONGEST_BYTES} bytes"))));
    }
    text(bytes).map_err(invalid)
}

fn text(bytes: Vec<u8>) -> Result<String, Problem> {
    let text = String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        let before = &error.as_bytes()[..offset];
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let place = Place {
            line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
            column: String::from_utf8_lossy(&before[line_start..]).chars().count() + 1,
        };
        let wrong = error.as_bytes()[offset];
        Problem::at(place, format!("not UTF-8: byte {wrong:#04x} at offset {offset}; save the file as UTF-8"))
    })?;
    if text.starts_with(BYTE_ORDER_MARK) {
        let what = "it begins with a byte order mark (ef bb bf at offset 0); save the file as UTF-8 without one";
        return Err(Problem::at(Place::START, what.to_owned()));
    }
    Ok(text)
}

/// Opens without waiting for somebody to write, so that a pipe to which nobody does can be given up.
fn bytes(path: &Path, is_interrupted: &dyn Fn() -> bool) -> io::Result<Vec<u8>> {
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    while bytes.len() <= LONGEST_BYTES {
        wait(&file, is_interrupted)?;
        match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => bytes.extend_from_slice(&chunk[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

/// Waits until a read would not: a pipe that nobody has opened yet would look like one that has ended.
fn wait(file: &File, is_interrupted: &dyn Fn() -> bool) -> io::Result<()> {
    loop {
        if is_interrupted() {
            return Err(ErrorKind::Interrupted.into());
        }
        let mut asked = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
        match poll(&mut asked, PollTimeout::from(SLICE_MS)) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            Ok(_) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn of(bytes: &[u8]) -> String {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let error = read(file.path()).unwrap_err().to_string();
        error.strip_prefix(file.path().to_str().unwrap()).unwrap().to_owned()
    }

    #[test]
    fn what_is_no_text_is_told_with_its_offset() {
        assert_eq!(of(b"a: 1\n\xc3\xa4b\xff: 2"), ":2:3: not UTF-8: byte 0xff at offset 8; save the file as UTF-8");
        assert!(of(b"\xff\xfea\0").starts_with(":1:1: not UTF-8: byte 0xff at offset 0"));
        assert!(of(b"\xef\xbb\xbfa: 1").contains("byte order mark"));
        assert!(of(&vec![b'#'; LONGEST_BYTES + 1]).contains("longer than"));
        assert!(read(Path::new("/")).unwrap_err().to_string().contains("cannot read /"));
    }

    #[test]
    fn a_pipe_is_read_to_its_end_and_given_up_when_asked() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let writer = std::thread::spawn({
            let pipe = pipe.clone();
            move || std::fs::write(pipe, "a: 1").unwrap()
        });
        assert_eq!(read(&pipe).unwrap(), "a: 1");
        writer.join().unwrap();
        let asked = AtomicBool::new(false);
        let error = read_until(&pipe, &|| asked.swap(true, Ordering::Relaxed)).unwrap_err();
        assert!(matches!(error, CatalogError::Unreadable { source, .. } if source.kind() == ErrorKind::Interrupted));
    }
}
