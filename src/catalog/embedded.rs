//! The device files: those in the binary, and those of a directory.

use std::path::Path;
use std::sync::{LazyLock, OnceLock};

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

/// Parsed one by one, each when it is first asked for: most commands need one or two, and all of them take longer than the rest of a start.
static EACH: LazyLock<Vec<OnceLock<Option<DeviceModel>>>> = LazyLock::new(|| FILES.iter().map(|_| OnceLock::new()).collect());

static ALL: LazyLock<Vec<DeviceModel>> = LazyLock::new(|| (0..FILES.len()).filter_map(at).cloned().collect());

/// The model of a file. A test parses every file, so nothing is dropped here.
fn at(index: usize) -> Option<&'static DeviceModel> {
    let (path, text) = FILES.get(index)?;
    EACH.get(index)?.get_or_init(|| DeviceModel::parse(Path::new(path), text).ok()).as_ref()
}

/// The name of a model, which its file has as well.
fn name(path: &str) -> &str {
    let file = path.rsplit_once('/').map_or(path, |(_, file)| file);
    file.strip_suffix(".yaml").unwrap_or(file)
}

impl DeviceModel {
    /// The models that are part of the program, in the order of [`Self::names`].
    #[must_use]
    pub fn embedded() -> &'static [Self] {
        &ALL
    }

    /// The embedded model of this name; of a family's name, the first of its models, which is the one of the newest kernel.
    #[must_use]
    pub fn find(wanted: &str) -> Option<&'static Self> {
        match FILES.iter().position(|(path, _)| name(path) == wanted) {
            Some(index) => at(index),
            None => (0..FILES.len()).filter_map(at).find(|model| model.family == wanted),
        }
    }

    /// The names of the embedded models.
    #[must_use]
    pub fn names() -> Vec<&'static str> {
        FILES.iter().map(|(path, _)| name(path)).collect()
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
