//! Reading files of the catalog: UTF-8 of a reasonable length, from a file or from a pipe that a shell made.

use std::io::ErrorKind;
use std::path::Path;

use super::CatalogError;
use super::check::{Place, Problem};
use crate::files;

/// Longest file; a device that never ends must not fill the memory.
const LONGEST_BYTES: u64 = 1 << 20;

/// What some editors put in front of UTF-8. YAML allows it, other readers of the same file stumble over it.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Reads a file whole.
///
/// # Errors
/// It cannot be read, is too long, is not UTF-8, or stands for too much.
pub(crate) fn read(path: &Path) -> Result<String, CatalogError> {
    let invalid = |problem| CatalogError::Invalid { file: path.to_owned(), problem };
    let bytes = match files::bytes(path, LONGEST_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::FileTooLarge => return Err(invalid(Problem::at(Place::START, error.to_string()))),
        Err(source) => return Err(CatalogError::Unreadable { file: path.to_owned(), source }),
    };
    let text = text(bytes).map_err(invalid)?;
    // What is no YAML at all is told by who knows what it should be.
    match files::weigh(&text) {
        Err(error) if files::is_too_heavy(&error) => Err(invalid(Problem::of(&error))),
        _ => Ok(text),
    }
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

#[cfg(test)]
mod tests {
    use std::io::Write;

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
        assert!(of(&vec![b'#'; (1 << 20) + 1]).contains("longer than"));
        assert!(read(Path::new("/")).unwrap_err().to_string().contains("cannot read /"));
    }
}
