//! Reads a capture, which may be damaged or made to do harm: everything is bounded.

use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::GzDecoder;
use serde::Deserialize;

use super::Capture;
use crate::files::Input;
use crate::schema::CAPTURE;
use crate::text;

/// Longest document that is read; that of a host with 16 NICs and 8 GPUs has some 400 KiB.
pub const DOCUMENT_LIMIT_BYTES: u64 = 64 << 20;

/// Most values in a document: each takes some hundred bytes of memory, however short it is written. A large host has tens of
/// thousands.
const MOST_VALUES: usize = 1_500_000;

/// Why a file cannot be used as a capture.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {} as a capture: {what}", .path.display())]
pub struct CaptureError {
    path: PathBuf,
    what: String,
}

/// Reads a file, or standard input for `-`. A pipe is waited for.
///
/// # Errors
/// The file cannot be read, or is no capture that this release understands.
pub fn load(path: &Path) -> Result<Capture, CaptureError> {
    let fail = |what: String| CaptureError { path: path.to_owned(), what };
    let input = Input::open(path).map_err(|error| fail(of_opening(&error)))?;
    let mut reader = BufReader::with_capacity(64 << 10, input);
    let text = unpack(&mut reader).map_err(|what| fail(reader.get_ref().why().map_or(what, str::to_owned)))?;
    parse_document(&text).map_err(fail)
}

fn of_opening(error: &io::Error) -> String {
    match error.to_string() {
        what if what.contains("directory") && error.kind() == io::ErrorKind::InvalidInput => {
            format!("{what}; give the file that `rdmadoctor capture` wrote")
        }
        what => what,
    }
}

/// Reads a document from the bytes of a file.
///
/// # Errors
/// As [`load`], without the file.
pub fn parse_file(bytes: &[u8]) -> Result<Capture, String> {
    parse_document(&unpack(&mut &bytes[..])?)
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
    // Of texts in it some are counted too, which only makes an honest document seem a little heavier than it is.
    if text.iter().filter(|byte| matches!(byte, b',' | b'[' | b'{')).count() > MOST_VALUES {
        return Err(format!("its document has more than {MOST_VALUES} values, which no capture has"));
    }
    let head: Head = text::from_json(text).map_err(|error| format!("its document is damaged: {error}"))?;
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
    text::from_json(text).map_err(|error| format!("its document is not what {CAPTURE} is{by}: {error}"))
}
