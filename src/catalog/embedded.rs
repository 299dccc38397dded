//! The device files: those in the binary, and those of a directory.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use super::device::{DeviceModel, SCHEMA};

/// A device file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// It cannot be read.
    #[error("{path}: {why}", path = .path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// It is not a device file.
    #[error("{path}:{line}:{column}: {why}", path = .path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, from 1; 0 where it is not known.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong.
        why: String,
    },
    /// Its parts do not fit together.
    #[error("{path}: {why}", path = .path.display())]
    Inconsistent {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        why: String,
    },
}

/// Lists each file by its name, so that a missing one fails the build.
macro_rules! device_files {
    ($($name:literal),+ $(,)?) => {
        &[$((concat!("profiles/devices/", $name, ".yaml"), include_str!(concat!("../../profiles/devices/", $name, ".yaml")))),+]
    };
}

/// Path in the repository, and contents.
pub(super) const FILES: &[(&str, &str)] = device_files![
    "erdma",
    "erdma-compat",
    "mlx5-6.12",
    "mlx5-6.1",
    "mlx4",
    "bnxt_re-thor",
    "bnxt_re-thor2",
    "irdma-e810",
    "irdma-x722",
    "irdma-gen3",
    "efa",
    "mana",
    "hns",
    "qedr",
    "cxgb4",
    "ionic",
    "vmw_pvrdma",
    "ocrdma",
    "rxe-6.12",
    "rxe-6.1",
    "siw",
    "limited",
];

static MODELS: LazyLock<Vec<DeviceModel>> = LazyLock::new(|| {
    // A test parses every file, so nothing is dropped here.
    FILES.iter().filter_map(|(path, text)| DeviceModel::parse(Path::new(path), text).ok()).collect()
});

impl DeviceModel {
    /// The models that are part of the program, in the order of [`Self::names`].
    #[must_use]
    pub fn embedded() -> &'static [Self] {
        &MODELS
    }

    /// The embedded model of this name; of a family's name, the first of its models, which is the one of the newest kernel.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        MODELS.iter().find(|model| model.name == name).or_else(|| MODELS.iter().find(|model| model.family == name))
    }

    /// The names of the embedded models.
    #[must_use]
    pub fn names() -> Vec<&'static str> {
        MODELS.iter().map(|model| model.name.as_str()).collect()
    }

    /// Reads a device file.
    ///
    /// # Errors
    /// When it cannot be read or is not one; line and column are told.
    pub fn load(path: &Path) -> Result<Self, DeviceError> {
        let text = std::fs::read_to_string(path).map_err(|error| DeviceError::Read { path: path.to_owned(), why: error.to_string() })?;
        Self::parse(path, &text)
    }

    /// Reads the text of a device file; `path` is only named in errors.
    ///
    /// # Errors
    /// When it is not one; line and column are told.
    pub fn parse(path: &Path, text: &str) -> Result<Self, DeviceError> {
        let model: Self = serde_yaml::from_str(text).map_err(|error| {
            let (line, column) = error.location().map_or((0, 0), |at| (at.line(), at.column()));
            // serde_yaml ends its message with the place, which stands before it here.
            let full = error.to_string();
            let why = full.split(" at line ").next().unwrap_or(&full).to_owned();
            DeviceError::Parse { path: path.to_owned(), line, column, why }
        })?;
        match model.inconsistency() {
            Some(why) => Err(DeviceError::Inconsistent { path: path.to_owned(), why }),
            None => Ok(model),
        }
    }

    /// What does not fit together, if anything.
    fn inconsistency(&self) -> Option<String> {
        if self.schema != SCHEMA {
            return Some(format!("schema is `{}`, not `{SCHEMA}`", self.schema));
        }
        self.queue_pairs.inconsistency()
    }
}

/// Reads every `*.yaml` of a directory, in the order of their names.
///
/// # Errors
/// The first file that cannot be used.
pub fn load_directory(directory: &Path) -> Result<Vec<DeviceModel>, DeviceError> {
    let read = |error: std::io::Error| DeviceError::Read { path: directory.to_owned(), why: error.to_string() };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(read)? {
        let path = entry.map_err(read)?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            paths.push(path);
        }
    }
    paths.sort();
    paths.iter().map(|path| DeviceModel::load(path)).collect()
}
