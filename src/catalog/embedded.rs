//! The device models: those in the binary, those that a directory adds, and those of files.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{LazyLock, Mutex, OnceLock, PoisonError};

use super::check::{self, Document};
use super::device::DeviceModel;
use super::{CatalogError, DEVICES, added, file};
use crate::host::families;
use crate::schema;

/// Parsed one by one, each when it is first asked for: most commands need one or two, and all of them take longer than the rest of a start.
static EACH: LazyLock<Vec<OnceLock<Option<DeviceModel>>>> = LazyLock::new(|| DEVICES.iter().map(|_| OnceLock::new()).collect());

static ALL: LazyLock<Vec<DeviceModel>> = LazyLock::new(|| (0..DEVICES.len()).filter_map(at).cloned().collect());

/// The model of a file. A test parses every file, so nothing is dropped here.
fn at(index: usize) -> Option<&'static DeviceModel> {
    let (path, text) = DEVICES.get(index)?;
    EACH.get(index)?.get_or_init(|| DeviceModel::parse(Path::new(path), text).ok()).as_ref()
}

/// The model of a name: an added one, or one of the program.
fn named(wanted: &str) -> Option<&'static DeviceModel> {
    let added = added::added().into_iter().flat_map(|added| &added.devices).find(|(_, model)| model.name == wanted);
    match added {
        Some((_, model)) => Some(model),
        None => at(DEVICES.iter().position(|(path, _)| name(path) == wanted)?),
    }
}

/// Whether a name is meant as a file: nothing in the catalog has such an end, or a slash.
#[must_use]
pub fn is_file(name: &str) -> bool {
    name.contains('/') || name.ends_with(".yaml") || name.ends_with(".yml")
}

/// The name of a model, which its file has as well.
fn name(path: &str) -> &str {
    let file = path.rsplit_once('/').map_or(path, |(_, file)| file);
    file.strip_suffix(".yaml").unwrap_or(file)
}

/// Files that were asked for by their paths, each read once.
static OF_FILES: Mutex<BTreeMap<String, &'static DeviceModel>> = Mutex::new(BTreeMap::new());

impl DeviceModel {
    /// The models that are part of the program, by name.
    #[must_use]
    pub fn embedded() -> &'static [Self] {
        &ALL
    }

    /// Every model: those that were added, and those of the program whose names none of them has.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        let added = || added::added().into_iter().flat_map(|added| added.devices.iter().map(|(_, model)| model));
        added().chain(ALL.iter().filter(move |model| added().all(|other| other.name != model.name)))
    }

    /// The model of this name; of a family's name, the one that the family's file names, or else any of the family; of a path, the one of
    /// that file.
    #[must_use]
    pub fn find(wanted: &str) -> Option<&'static Self> {
        if is_file(wanted) {
            return Self::of_file(wanted).ok();
        }
        let of_family = || families::find(wanted)?.model.as_deref();
        named(wanted).or_else(|| of_family().and_then(named)).or_else(|| Self::all().find(|model| model.family == wanted))
    }

    /// The model of a file, which is read once and kept.
    ///
    /// # Errors
    /// It cannot be read or is none.
    pub fn of_file(path: &str) -> Result<&'static Self, CatalogError> {
        let mut read = OF_FILES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(model) = read.get(path) {
            return Ok(model);
        }
        // There are as many as a host has kinds of NICs, and they live as long as the program.
        let model: &'static Self = Box::leak(Box::new(Self::load(Path::new(path))?));
        read.insert(path.to_owned(), model);
        Ok(model)
    }

    /// The names of all models.
    #[must_use]
    pub fn names() -> Vec<&'static str> {
        let added = || added::added().into_iter().flat_map(|added| added.devices.iter().map(|(_, model)| model.name.as_str()));
        let mut names: Vec<_> = DEVICES.iter().map(|(path, _)| name(path)).filter(|name| added().all(|other| other != *name)).collect();
        names.extend(added());
        names.sort_unstable();
        names
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
    const SCHEMA: &str = schema::DEVICE;

    fn schema(&self) -> &str {
        &self.schema
    }

    fn inconsistencies(&self) -> Vec<(String, String)> {
        let mut inconsistencies = self.queue_pairs.inconsistencies();
        for (index, fault) in self.faults.iter().enumerate().filter(|(_, fault)| fault.device.is_some()) {
            let why = format!("`{fault}` names a device; a model's faults are on every device of the model");
            inconsistencies.push((format!("faults[{index}]"), why));
        }
        inconsistencies
    }
}
