//! Device families and engines as data, read from `profiles/` (embedded in the program) and from a directory of the user's.
//!
//! Nothing here talks to a device: what a device model answers is computed from its figures alone, and each names its source.

mod accept;
pub(crate) mod added;
pub mod check;
pub mod device;
#[cfg(test)]
mod device_tests;
mod doubt;
mod embedded;
pub mod engine;
mod fault;
mod figure;
pub(crate) mod file;
mod listing;
mod model;
mod packing;
pub mod rules;
mod state;

use std::path::{Path, PathBuf};

pub(crate) use accept::{Aspect, Refusal};
pub use device::DeviceModel;
pub(crate) use doubt::UncertainFigures;
pub(crate) use embedded::is_file;
pub use engine::Engine;
use engine::Release;
pub use fault::Fault;
pub(crate) use fault::{Condition, FaultKind, When};
pub(crate) use figure::Certainty;
#[cfg(test)]
#[cfg(test)]
pub(crate) use figure::Derivation;
pub use figure::{Errno, Figure};
pub(crate) use listing::{CatalogEntry, CatalogFiles, CatalogList, FileKind};
pub(crate) use model::ObjectKind;
pub use packing::{Efa, Hns, Irdma, Mlx4, Mlx5, Packing};
pub(crate) use state::{AttributeMask, Effect, ModifyRequest};

include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// Why the catalog cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// A file or directory cannot be read.
    #[error("cannot read {}", file.display())]
    Unreadable {
        /// Which.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is damaged.
    #[error("{}", problem.in_file(file))]
    Invalid {
        /// Which.
        file: PathBuf,
        /// What is wrong, with line and column.
        problem: check::Problem,
    },
    /// No engine has this name.
    #[error("unknown engine `{name}`; known are {}", known.join(", "))]
    UnknownEngine {
        /// What was asked for.
        name: String,
        /// All names.
        known: Vec<String>,
    },
    /// No modelled host has this name.
    #[error("unknown modelled host `{name}`; known are {}, or give a file", known.join(", "))]
    UnknownHost {
        /// What was asked for.
        name: String,
        /// All names.
        known: Vec<String>,
    },
    /// No release covers this version.
    #[error("the catalog has no {engine} {version}; known are {}", known.join(", "))]
    UnknownVersion {
        /// The engine.
        engine: String,
        /// What was asked for.
        version: String,
        /// All releases.
        known: Vec<String>,
    },
}

/// The engines that are known.
#[derive(Default)]
pub struct Catalog {
    engines: Vec<Engine>,
}

impl Catalog {
    /// The engines of the program, and those that `--catalog DIR` added, which take the place of those of the same name.
    ///
    /// # Errors
    /// A file is damaged.
    pub fn load() -> Result<Self, CatalogError> {
        let mut engines = ENGINES.iter().map(|(name, text)| Engine::parse(Path::new(name), text)).collect::<Result<Vec<_>, _>>()?;
        for (_, engine) in added::added().into_iter().flat_map(|added| &added.engines) {
            engines.retain(|known| known.name != engine.name);
            engines.push(engine.clone());
        }
        engines.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(Self { engines })
    }

    /// Adds one file, in place of an engine of the same name, and gives its name.
    ///
    /// # Errors
    /// The file cannot be read or is damaged.
    pub fn add(&mut self, file: &Path) -> Result<String, CatalogError> {
        let engine = Engine::parse(file, &file::read(file)?)?;
        let name = engine.name.clone();
        self.engines.retain(|known| known.name != name);
        self.engines.push(engine);
        Ok(name)
    }

    /// Every engine, by name.
    #[must_use]
    pub fn engines(&self) -> &[Engine] {
        &self.engines
    }

    /// Finds an engine and its release by `NAME` or `NAME@VERSION`.
    ///
    /// # Errors
    /// The engine or the version is not known; the message lists what is.
    pub fn find(&self, wanted: &str) -> Result<(&Engine, &Release), CatalogError> {
        let (name, version) = wanted.split_once('@').map_or((wanted, None), |(name, version)| (name, Some(version)));
        let engine = self.engines.iter().find(|engine| engine.is_called(name)).ok_or_else(|| CatalogError::UnknownEngine {
            name: name.to_owned(),
            known: self.engines.iter().map(|engine| engine.name.clone()).collect(),
        })?;
        Ok((engine, engine.release(version)?))
    }

    /// The release whose queue pairs `release` makes: itself, or the one that it uses.
    ///
    /// # Errors
    /// The release uses one that the catalog lacks.
    pub fn queues_of<'a>(&'a self, engine: &'a Engine, release: &'a Release) -> Result<(&'a Engine, &'a Release), CatalogError> {
        match &release.uses {
            // One step only: a chain of engines would hide who asks.
            Some(uses) => self.find(&format!("{}@{}", uses.engine, uses.version)),
            None => Ok((engine, release)),
        }
    }
}

/// The YAML files of a directory with their texts, by name.
fn yaml_files(directory: &Path) -> Result<Vec<(PathBuf, String)>, CatalogError> {
    let unreadable = |file: &Path| {
        let file = file.to_owned();
        move |source| CatalogError::Unreadable { file, source }
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(unreadable(directory))? {
        let path = entry.map_err(unreadable(directory))?.path();
        if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            let text = file::read(&path)?;
            files.push((path, text));
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_catalog_is_valid() {
        let catalog = Catalog::load().unwrap();
        assert!(!catalog.engines().is_empty());
        for engine in catalog.engines() {
            for release in &engine.releases {
                catalog.queues_of(engine, release).unwrap();
            }
        }
    }

    #[test]
    fn unknown_names_list_the_known_ones() {
        let catalog = Catalog::load().unwrap();
        assert!(catalog.find("nonsense").err().unwrap().to_string().contains("dlslime"));
        assert!(catalog.find("dlslime@newest").err().unwrap().to_string().contains("0.0.1.post7"));
    }
}
