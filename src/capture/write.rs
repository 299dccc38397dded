//! Writes a capture: all of it under its name, or nothing.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::Capture;

/// Why a capture was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The file is there.
    #[error("{} is there already; --force replaces it, -o FILE writes another", .0.display())]
    Exists(PathBuf),
    /// The directory or the file cannot be written.
    #[error("cannot write {}: {error}; -o FILE writes elsewhere, -o - to standard output", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What came back.
        error: io::Error,
    },
}

/// The bytes of the file.
///
/// # Errors
/// The facts cannot be written down, which would be a mistake in this program.
pub fn compress(capture: &Capture) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    serde_json::to_writer(&mut encoder, capture)?;
    encoder.finish()
}

/// Writes them to a file beside the one that is wanted, which then takes its name: nobody sees half a file.
///
/// # Errors
/// The file is there and must not be replaced, or cannot be written.
pub fn write(path: &Path, bytes: &[u8], replaces: bool) -> Result<(), WriteError> {
    let fail = |error| WriteError::Io { path: path.to_owned(), error };
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // As any new file, subject to the umask; it is to be handed on.
    let mut file =
        tempfile::Builder::new().prefix(".rdmadoctor-").permissions(Permissions::from_mode(0o666)).tempfile_in(directory).map_err(fail)?;
    file.write_all(bytes).map_err(fail)?;
    file.as_file().sync_all().map_err(fail)?;
    let placed = if replaces { file.persist(path) } else { file.persist_noclobber(path) };
    placed.map_err(|error| match error.error {
        error if error.kind() == io::ErrorKind::AlreadyExists => WriteError::Exists(path.to_owned()),
        error => fail(error),
    })?;
    // The name is to outlive a crash too. Some file systems cannot do that for a directory.
    let _ = File::open(directory).and_then(|directory| directory.sync_all());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_only_on_demand_and_nothing_else_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.json.gz");
        write(&path, b"one", false).unwrap();
        let error = write(&path, b"two", false).unwrap_err();
        assert!(error.to_string().contains("--force"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        write(&path, b"two", true).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        let error = write(Path::new("/nowhere/x"), b"", false).unwrap_err();
        assert!(error.to_string().contains("/nowhere/x"), "{error}");
    }
}
