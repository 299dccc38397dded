//! Writing a profile: a crash at any moment leaves the old file or the new one, and writers at the same time do not mix.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::Profile;
use crate::files::{self, Existing, WriteError};
use crate::survey::{Host, SurveyError};

/// Where the profile is when no file is named.
pub const DEFAULT_FILE: &str = "/etc/rdmadoctor/profile.yaml";

/// Where a profile of a host is written.
pub(crate) fn place(host: &Host, output: Option<&Path>) -> Result<PathBuf, SurveyError> {
    match (output, host.model_name()) {
        (Some(output), _) => Ok(output.to_owned()),
        (None, None) => Ok(PathBuf::from(DEFAULT_FILE)),
        (None, Some(_)) => Err(SurveyError::Unsuited(
            "a model's profile does not belong where engines look for this host's: give -o FILE, or -o -".to_owned(),
        )),
    }
}

/// Why a file was not written. What was there before is still there.
#[derive(Debug, thiserror::Error)]
#[error("{}; {}", .0, next_step(.0.cause()))]
pub struct SaveError(Failure);

#[derive(Debug, thiserror::Error)]
enum Failure {
    /// Its directory is missing and cannot be made.
    #[error("cannot write {}: making {}: {error}", file.display(), directory.display())]
    Directory {
        file: PathBuf,
        directory: PathBuf,
        /// What came back. It stands in the text, so that it is not named as the source too.
        error: std::io::Error,
    },
    /// A step of writing it.
    #[error("{0}")]
    Step(WriteError),
}

impl Failure {
    fn cause(&self) -> &std::io::Error {
        match self {
            Self::Directory { error, .. } => error,
            Self::Step(step) => &step.error,
        }
    }
}

/// The text of a profile's file.
///
/// # Errors
/// None in practice: every value of a profile can be written.
pub fn to_yaml(profile: &Profile) -> Result<String, serde_yaml::Error> {
    let head = "# Written by `rdmadoctor profile write`. Every value names its evidence, which stands at the end.\n";
    serde_yaml::to_string(profile).map(|text| head.to_owned() + &text)
}

/// Replaces `file` by one with this text, whole or not at all. A missing directory is made.
///
/// # Errors
/// A step failed; then `file` is as it was.
pub fn save(file: &Path, text: &str) -> Result<(), SaveError> {
    if let Some(directory) = file.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        let fail = |error| SaveError(Failure::Directory { file: file.to_owned(), directory: directory.to_owned(), error });
        std::fs::create_dir_all(directory).map_err(fail)?;
    }
    // Engines run as other users than the one that writes, so all may read it whom the umask leaves.
    files::write(file, text.as_bytes(), 0o644, Existing::Replaced).map_err(|step| SaveError(Failure::Step(step)))
}

fn next_step(error: &std::io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::PermissionDenied => "run as a user who may, or name another file with -o; `-o -` prints it",
        ErrorKind::ReadOnlyFilesystem => "the file system is read-only: name another file with -o; `-o -` prints it",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "the disk is full: make room, or name another file with -o; `-o -` prints it",
        _ => "name another file with -o; `-o -` prints it",
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_no_other_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("new/profile.yaml");
        save(&file, "one").unwrap();
        save(&file, "two").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "two");
        assert_eq!(std::fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
    }

    #[test]
    fn writers_at_the_same_time_do_not_mix() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("profile.yaml");
        let texts: Vec<String> = (0..8).map(|writer| format!("{writer}").repeat(200_000)).collect();
        std::thread::scope(|scope| {
            for text in &texts {
                scope.spawn(|| (0..5).for_each(|_| save(&file, text).unwrap()));
            }
            for _ in 0..50 {
                if let Ok(seen) = std::fs::read_to_string(&file) {
                    assert!(texts.contains(&seen), "{} bytes of several writers", seen.len());
                }
            }
        });
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_written_is_told_with_its_step() {
        // /proc takes no files from anyone, root included.
        let error = save(Path::new("/proc/rdmadoctor/profile.yaml"), "text").unwrap_err().to_string();
        assert!(error.contains("making /proc/rdmadoctor") && error.contains("-o -"), "{error}");
        let error = save(Path::new("/proc"), "text").unwrap_err().to_string();
        assert!(error.contains("no regular file"), "{error}");
    }

    #[test]
    fn a_full_disk_leaves_the_old_file() {
        // /dev/full answers every write with ENOSPC.
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let error = (&full).write_all(b"text").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        assert!(next_step(&error).contains("the disk is full"));
    }
}
