//! Reads a capture, which may be damaged or made to do harm: everything is bounded.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flate2::bufread::GzDecoder;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Deserialize;

use super::Capture;
use crate::schema::CAPTURE;

/// Longest document that is read; that of a host with 16 NICs and 8 GPUs has some 400 KiB.
pub const DOCUMENT_LIMIT_BYTES: u64 = 64 << 20;

/// How long a pipe may be silent.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often a wait looks whether it was interrupted.
const SLICE_MS: u8 = 100;

/// Why a file cannot be used as a capture.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {} as a capture: {what}", .path.display())]
pub struct CaptureError {
    path: PathBuf,
    what: String,
}

/// Reads a file, or standard input for `-`. A pipe is waited for, until `is_interrupted` says otherwise.
///
/// # Errors
/// The file cannot be read, or is no capture that this release understands.
pub fn load(path: &Path, is_interrupted: &dyn Fn() -> bool) -> Result<Capture, CaptureError> {
    let fail = |what: String| CaptureError { path: path.to_owned(), what };
    let input = open(path).map_err(fail)?;
    let waited = Patient { input, is_interrupted, what: None };
    let mut reader = BufReader::with_capacity(64 << 10, waited);
    let text = unpack(&mut reader).map_err(|what| fail(reader.get_ref().what.clone().unwrap_or(what)))?;
    parse_document(&text).map_err(fail)
}

/// Reads a document from the bytes of a file.
///
/// # Errors
/// As [`load`], without the file.
pub fn parse_file(bytes: &[u8]) -> Result<Capture, String> {
    parse_document(&unpack(&mut &bytes[..])?)
}

fn open(path: &Path) -> Result<File, String> {
    if path == Path::new("-") {
        return io::stdin().as_fd().try_clone_to_owned().map(File::from).map_err(|error| error.to_string());
    }
    // A pipe without a writer would hold open(2) for ever.
    let file =
        OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path).map_err(|error| error.to_string())?;
    let kind = file.metadata().map_err(|error| error.to_string())?.file_type();
    if kind.is_dir() {
        return Err("it is a directory; give the file that `rdmadoctor capture` wrote".to_owned());
    }
    if !kind.is_file() && !kind.is_fifo() {
        return Err("it is neither a file nor a pipe".to_owned());
    }
    Ok(file)
}

/// Waits for what is slow, but not for ever.
struct Patient<'a> {
    input: File,
    is_interrupted: &'a dyn Fn() -> bool,
    /// Why it gave up.
    what: Option<String>,
}

impl Read for Patient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let started = Instant::now();
        loop {
            let mut waiting = [PollFd::new(self.input.as_fd(), PollFlags::POLLIN)];
            let ready = poll(&mut waiting, PollTimeout::from(SLICE_MS)).unwrap_or(0);
            if ready > 0 {
                match self.input.read(buffer) {
                    Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                    other => return other,
                }
            }
            let what = match () {
                () if (self.is_interrupted)() => "interrupted while it was read".to_owned(),
                () if started.elapsed() >= PATIENCE => {
                    format!("nothing came from it in {} s; does anything write to it?", PATIENCE.as_secs())
                }
                () => continue,
            };
            self.what = Some(what);
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
}

/// The document in a file, if it is a whole one and nothing else.
fn unpack(reader: &mut impl BufRead) -> Result<Vec<u8>, String> {
    let start = reader.fill_buf().map_err(|error| error.to_string())?;
    match start {
        [] => return Err("it is empty; was it copied to the end?".to_owned()),
        [0x1f, 0x8b, ..] | [0x1f] => {}
        [b'{', ..] => return Err("it is not compressed; `gzip FILE` makes of a plain document what can be read".to_owned()),
        _ => return Err("it is not gzip-compressed, so it is not what `rdmadoctor capture` wrote".to_owned()),
    }
    // What is compressed is shorter than what it stands for, but for a few bytes.
    let mut limited = reader.take(DOCUMENT_LIMIT_BYTES + (1 << 20));
    let mut text = Vec::new();
    GzDecoder::new(&mut limited).take(DOCUMENT_LIMIT_BYTES + 1).read_to_end(&mut text).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => "it ends too early; was it copied to the end?".to_owned(),
        _ => format!("it is damaged: {error}"),
    })?;
    if text.len() as u64 > DOCUMENT_LIMIT_BYTES {
        return Err(format!("its document is longer than {} MiB, which no capture is", DOCUMENT_LIMIT_BYTES >> 20));
    }
    match limited.fill_buf() {
        Ok([]) => Ok(text),
        Ok(_) => Err("something follows its end, so it is not what `rdmadoctor capture` wrote".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// What every version has.
#[derive(Deserialize)]
struct Head {
    schema: Option<String>,
    tool_version: Option<String>,
}

/// Reads a document that is not compressed.
///
/// # Errors
/// It is no capture, or one that this release does not understand.
pub fn parse_document(text: &[u8]) -> Result<Capture, String> {
    let head: Head = serde_json::from_slice(text).map_err(|error| format!("its document is damaged: {error}"))?;
    let schema = head.schema.ok_or_else(|| format!("its document does not say what it is; a capture has \"schema\": \"{CAPTURE}\""))?;
    let by = head.tool_version.filter(|by| by.len() < 40).map_or_else(String::new, |by| format!(" (rdmadoctor {by} wrote it)"));
    if schema != CAPTURE {
        let schema: String = schema.chars().take(60).collect();
        let version = schema.strip_prefix("rdmadoctor/capture/").and_then(|version| version.parse::<u64>().ok());
        return Err(match version {
            Some(_) => format!("it has version {schema}, and this release reads {CAPTURE}{by}; take a newer release of rdmadoctor"),
            None => format!("its document is {schema:?}, not {CAPTURE}"),
        });
    }
    serde_json::from_slice(text).map_err(|error| format!("its document is not what {CAPTURE} is{by}: {error}"))
}
