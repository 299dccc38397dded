//! Writing a profile: a crash at any moment leaves the old file or the new one, and writers at the same time do not mix.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::Profile;
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

/// How temporary files are called.
const PREFIX: &str = ".rdmadoctor-";
const SUFFIX: &str = ".tmp";

/// A temporary file that is older was left by a writer that was killed: writing takes seconds.
const STALE: Duration = Duration::from_secs(600);

/// Why a file was not written. What was there before is still there.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {step} {}: {error}; {next}", file.display(), object.display())]
pub struct SaveError {
    file: PathBuf,
    /// What was tried.
    step: &'static str,
    object: PathBuf,
    /// What came back. It stands in the text, so that it is not named as the source too.
    error: std::io::Error,
    /// What to do.
    next: &'static str,
}

/// The text of a profile's file.
///
/// # Errors
/// None in practice: every value of a profile can be written.
pub fn to_yaml(profile: &Profile) -> Result<String, serde_yaml::Error> {
    let head = "# Written by `rdmadoctor profile write`. Every value names its evidence, which stands at the end.\n";
    serde_yaml::to_string(profile).map(|text| head.to_owned() + &text)
}

/// Replaces `file` by one with this text: a temporary file in the same directory, synced, renamed, and the directory synced. A missing
/// directory is made.
///
/// # Errors
/// A step failed; then `file` is as it was.
pub fn save(file: &Path, text: &str) -> Result<(), SaveError> {
    let fail = |step: &'static str, object: &Path, error: std::io::Error| SaveError {
        file: file.to_owned(),
        step,
        object: object.to_owned(),
        next: next_step(&error),
        error,
    };
    let directory = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if std::fs::metadata(file).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(fail("replacing", file, std::io::Error::other("it is there and is no regular file")));
    }
    std::fs::create_dir_all(directory).map_err(|error| fail("making", directory, error))?;
    // A name of its own for each writer. It is removed when a step fails; what a killed writer leaves behind, the next one removes.
    let mut temporary = tempfile::Builder::new()
        .prefix(PREFIX)
        .suffix(SUFFIX)
        .tempfile_in(directory)
        .map_err(|error| fail("making a file in", directory, error))?;
    let name = temporary.path().to_owned();
    temporary.write_all(text.as_bytes()).map_err(|error| fail("writing", &name, error))?;
    // Engines run as other users than the one that writes.
    temporary.as_file().set_permissions(std::fs::Permissions::from_mode(0o644)).map_err(|error| fail("chmod", &name, error))?;
    temporary.as_file().sync_all().map_err(|error| fail("fsync", &name, error))?;
    if let Ok(now) = temporary.as_file().metadata().and_then(|metadata| metadata.modified()) {
        remove_stale(directory, now);
    }
    temporary.persist(file).map_err(|error| fail("renaming", &name, error.error))?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(|error| fail("fsync", directory, error))
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
        save(&directory.path().join("profile.yaml"), "text").unwrap();
        let mut left: Vec<String> =
            std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, [".other-a1b2c3.tmp", ".rdmadoctor-d4e5f6.tmp", ".rdmadoctor-folder.tmp", "profile.yaml"]);
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
        let error = save(Path::new("/dev/null"), "text").unwrap_err().to_string();
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
