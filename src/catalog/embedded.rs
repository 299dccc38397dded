//! The device files: those in the binary, and those of a directory.

use std::path::Path;
use std::sync::LazyLock;

use super::check::{self, Document};
use super::device::{DeviceModel, SCHEMA};
use super::{CatalogError, file};

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
    pub fn load(path: &Path) -> Result<Self, CatalogError> {
        Self::parse(path, &file::read(path)?)
    }

    /// Reads the text of a device file; `path` is only named in errors.
    ///
    /// # Errors
    /// When it is not one; line and column are told.
    pub fn parse(path: &Path, text: &str) -> Result<Self, CatalogError> {
        check::parse(path, text)
    }
}

impl Document for DeviceModel {
    const SCHEMA: &str = SCHEMA;

    fn schema(&self) -> &str {
        &self.schema
    }

    fn misfits(&self) -> Vec<(String, String)> {
        let mut misfits = self.queue_pairs.misfits();
        for (index, fault) in self.faults.iter().enumerate().filter(|(_, fault)| fault.device.is_some()) {
            let why = format!("`{fault}` names a device; a model's faults are on every device of the model");
            misfits.push((format!("faults[{index}]"), why));
        }
        misfits
    }
}

/// Reads every `*.yaml` of a directory, in the order of their names.
///
/// # Errors
/// The first file that cannot be used.
pub fn load_directory(directory: &Path) -> Result<Vec<DeviceModel>, CatalogError> {
    super::yaml_files(directory)?.iter().map(|(path, text)| DeviceModel::parse(path, text)).collect()
}
