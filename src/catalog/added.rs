//! What a directory of the user's adds to the catalog for the rest of the program's life: `--catalog DIR`.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::check::{self, Document};
use super::{CatalogError, DeviceModel, Engine, yaml_files};
use crate::host::families::{self, Family};
use crate::schema;

/// A file with what it says.
pub(super) type Read<T> = (PathBuf, T);

/// What a directory holds.
#[derive(Debug, Default)]
pub(super) struct Added {
    directory: PathBuf,
    pub(super) families: Vec<Read<Family>>,
    pub(super) devices: Vec<Read<DeviceModel>>,
    pub(super) engines: Vec<Read<Engine>>,
    /// Hosts with their texts: one may name what the others add, so they are read when they are asked for.
    pub(super) hosts: Vec<Read<String>>,
}

static ADDED: OnceLock<Added> = OnceLock::new();

/// Adds what a directory holds: families in `families`, device models in `devices`, engines in `engines` and hosts in `hosts`, or engines
/// alone where it has none of these. A file takes the place of what the program has of the same name. Only the first call counts.
///
/// # Errors
/// A file cannot be read or is damaged.
pub fn add(directory: &Path) -> Result<(), CatalogError> {
    let added = Added::read(directory)?;
    families::add(added.families.iter().map(|(_, family)| family.clone()).collect());
    let _ = ADDED.set(added);
    Ok(())
}

/// The directory that was added.
#[must_use]
pub fn directory() -> Option<&'static Path> {
    ADDED.get().map(|added| added.directory.as_path())
}

pub(super) fn added() -> Option<&'static Added> {
    ADDED.get()
}

/// Host files that were added, by name, with their texts.
pub(crate) fn hosts() -> impl Iterator<Item = (&'static str, &'static Path, &'static str)> {
    let files = ADDED.get().map(|added| added.hosts.as_slice()).unwrap_or_default();
    files.iter().filter_map(|(path, text)| Some((path.file_stem()?.to_str()?, path.as_path(), text.as_str())))
}

impl Added {
    /// Reads a directory.
    pub(super) fn read(directory: &Path) -> Result<Self, CatalogError> {
        let kinds = ["families", "devices", "engines", "hosts"].map(|kind| directory.join(kind));
        let is_flat = !kinds.iter().any(|kind| kind.is_dir());
        let [families, devices, engines, hosts] = kinds;
        let engines = if is_flat { directory.to_owned() } else { engines };
        Ok(Self {
            directory: directory.to_owned(),
            families: documents(&families)?,
            devices: documents(&devices)?,
            engines: if is_flat { parsed(yaml_files(&engines)?)? } else { documents(&engines)? },
            hosts: texts(&hosts)?,
        })
    }
}

/// The files of a directory that may be absent.
fn texts(directory: &Path) -> Result<Vec<Read<String>>, CatalogError> {
    if directory.is_dir() { yaml_files(directory) } else { Ok(Vec::new()) }
}

fn documents<T: Document>(directory: &Path) -> Result<Vec<Read<T>>, CatalogError> {
    parsed(texts(directory)?)
}

fn parsed<T: Document>(files: Vec<Read<String>>) -> Result<Vec<Read<T>>, CatalogError> {
    files.into_iter().map(|(path, text)| check::parse(&path, &text).map(|document| (path, document))).collect()
}

impl Document for Family {
    const SCHEMA: &str = schema::FAMILY;

    fn schema(&self) -> &str {
        &self.schema
    }

    fn inconsistencies(&self) -> Vec<(String, String)> {
        let mut inconsistencies = Vec::new();
        if self.modules.is_empty() {
            inconsistencies.push(("modules".to_owned(), "it lists no module".to_owned()));
        }
        for (index, range) in self.pci.iter().enumerate() {
            if range.last.is_some_and(|last| last < range.first) {
                inconsistencies.push((format!("pci[{index}].last"), "the last part is before the first".to_owned()));
            }
        }
        if self.software.is_some() && !(self.drivers.is_empty() && self.pci.is_empty()) {
            inconsistencies.push(("software".to_owned(), "a software device has neither a PCI driver nor PCI numbers".to_owned()));
        }
        inconsistencies
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::QpType;

    #[test]
    fn a_directory_adds_engines_and_a_damaged_one_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let (_, text) = super::super::ENGINES.iter().find(|(name, _)| name.ends_with("dlslime.yaml")).unwrap();
        std::fs::write(directory.path().join("mine.yaml"), text.replace("name: dlslime", "name: mine")).unwrap();
        let added = Added::read(directory.path()).unwrap();
        assert_eq!(added.engines[0].1.name, "mine");
        std::fs::write(directory.path().join("bad.yaml"), "schema: 5\nname").unwrap();
        let error = Added::read(directory.path()).unwrap_err().to_string();
        assert!(error.contains("bad.yaml:"), "{error}");
        // With a directory for each kind, what lies beside them is no engine.
        std::fs::create_dir(directory.path().join("families")).unwrap();
        assert!(Added::read(directory.path()).unwrap().engines.is_empty());
        assert!(Added::read(Path::new("/nowhere")).unwrap_err().to_string().contains("/nowhere"));
    }

    #[test]
    fn every_family_file_is_valid_and_names_a_model() {
        for (path, text) in super::super::FAMILY_FILES {
            let family: Family = check::parse(Path::new(path), text).unwrap();
            let model = DeviceModel::find(family.model.as_deref().unwrap()).unwrap();
            assert_eq!(model.family, family.name, "{path}");
            let is_packed = DeviceModel::embedded().iter().any(|model| model.family == family.name && model.queue_pairs.packing.is_some());
            assert_eq!(family.packed_queues.is_some(), is_packed, "{path}");
            assert!(family.own_queue_pairs.is_none_or(|own| own.qp_type.parse::<QpType>().is_ok()), "{path}");
        }
    }
}
