//! What the catalog holds, file by file: those of the program, and those that a directory added.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CatalogError, DEVICES, ENGINES, FAMILY_FILES, HOSTS, TEMPLATES, added, file};
use crate::schema;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// What tells a family of devices, and what its driver is called.
    Family,
    /// What applications see of a device: a model of it.
    Device,
    /// What an engine asks.
    Engine,
    /// A modelled host.
    Host,
    /// What a host must be.
    Policy,
}

/// The document of `catalog list`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct CatalogList {
    /// `rdmadoctor/catalog-list/1`.
    pub schema: String,
    /// Families, device models, engines, hosts, each by name.
    pub files: Vec<CatalogEntry>,
}

/// A file of the catalog.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct CatalogEntry {
    pub kind: FileKind,
    /// The name by which it is asked for.
    pub name: String,
    /// One line for people.
    pub title: String,
    /// Where it is: of a file that is part of the program, its path in the repository.
    pub file: PathBuf,
    /// Whether it is part of the program.
    pub is_built_in: bool,
    /// The family of a device model.
    pub family: Option<String>,
    /// Releases of an engine, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub releases: Vec<String>,
}

/// The document of `catalog show` and `catalog new`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct CatalogFiles {
    /// `rdmadoctor/catalog-files/1`.
    pub schema: String,
    /// Those that have the name; a family and a device model may share one.
    pub files: Vec<CatalogFile>,
}

/// A file with its text.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct CatalogFile {
    pub kind: FileKind,
    /// Where it is; absent for a template.
    pub file: Option<PathBuf>,
    /// What stands in it.
    pub text: String,
}

/// A file that has not been looked into.
struct Known {
    kind: FileKind,
    name: String,
    path: PathBuf,
    /// Of a file that is part of the program.
    text: Option<&'static str>,
}

/// What every kind of file says of itself; what else stands there is of no interest here.
#[derive(Deserialize)]
struct Head {
    title: String,
    family: Option<String>,
    #[serde(default)]
    releases: Vec<Version>,
}

#[derive(Deserialize)]
struct Version {
    version: String,
}

impl CatalogList {
    /// Lists everything.
    ///
    /// # Errors
    /// A file that was added cannot be read any more.
    pub fn new() -> Result<Self, CatalogError> {
        let mut files = known().iter().map(Known::entry).collect::<Result<Vec<_>, _>>()?;
        files.sort_by(|left, right| (left.kind, &left.name).cmp(&(right.kind, &right.name)));
        Ok(Self { schema: schema::CATALOG_LIST.to_owned(), files })
    }
}

impl CatalogFiles {
    /// The files of a name, all kinds of them or one; none where there is no such name.
    ///
    /// # Errors
    /// A file that was added cannot be read any more.
    pub fn named(name: &str, kind: Option<FileKind>) -> Result<Self, CatalogError> {
        let wanted = known().into_iter().filter(|known| known.name == name && kind.is_none_or(|kind| kind == known.kind));
        let files = wanted
            .map(|known| Ok(CatalogFile { kind: known.kind, text: known.text()?.into_owned(), file: Some(known.path) }))
            .collect::<Result<Vec<_>, CatalogError>>()?;
        Ok(Self::of(files))
    }

    /// The template of a kind of file.
    #[must_use]
    pub fn template(kind: FileKind) -> Self {
        let word = match kind {
            FileKind::Family => "family",
            FileKind::Device => "device",
            FileKind::Engine => "engine",
            FileKind::Host => "host",
            FileKind::Policy => "policy",
        };
        let templates = TEMPLATES.iter().filter(|(path, _)| stem(path) == word);
        Self::of(templates.map(|(_, text)| CatalogFile { kind, file: None, text: (*text).to_owned() }).collect())
    }

    fn of(files: Vec<CatalogFile>) -> Self {
        Self { schema: schema::CATALOG_FILES.to_owned(), files }
    }
}

impl Known {
    fn text(&self) -> Result<Cow<'static, str>, CatalogError> {
        self.text.map_or_else(|| file::read(&self.path).map(Cow::Owned), |text| Ok(Cow::Borrowed(text)))
    }

    fn entry(&self) -> Result<CatalogEntry, CatalogError> {
        let text = self.text()?;
        let head: Option<Head> = serde_yaml::from_str(&text).ok();
        let (title, family, releases) = head.map(|head| (head.title, head.family, head.releases)).unwrap_or_default();
        Ok(CatalogEntry {
            kind: self.kind,
            name: self.name.clone(),
            title,
            file: self.path.clone(),
            is_built_in: self.text.is_some(),
            family,
            releases: releases.into_iter().map(|release| release.version).collect(),
        })
    }
}

/// Every file: the added ones, and those of the program that none of them replaces.
fn known() -> Vec<Known> {
    let of = |kind, name: &str, path: &Path| Known { kind, name: name.to_owned(), path: path.to_owned(), text: None };
    let mut all = Vec::new();
    if let Some(added) = added::added() {
        all.extend(added.families.iter().map(|(path, family)| of(FileKind::Family, &family.name, path)));
        all.extend(added.devices.iter().map(|(path, device)| of(FileKind::Device, &device.name, path)));
        all.extend(added.engines.iter().map(|(path, engine)| of(FileKind::Engine, &engine.name, path)));
        all.extend(added::hosts().map(|(name, path, _)| of(FileKind::Host, name, path)));
    }
    let kinds = [(FileKind::Family, FAMILY_FILES), (FileKind::Device, DEVICES), (FileKind::Engine, ENGINES), (FileKind::Host, HOSTS)];
    for (kind, files) in kinds {
        for (path, text) in files {
            let name = stem(path);
            if !all.iter().any(|other: &Known| other.kind == kind && other.name == name) {
                all.push(Known { kind, name: name.to_owned(), path: PathBuf::from(path), text: Some(text) });
            }
        }
    }
    all
}

/// The name of a file of the program.
fn stem(path: &str) -> &str {
    Path::new(path).file_stem().and_then(|stem| stem.to_str()).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_listed_by_the_name_that_its_file_gives() {
        let list = CatalogList::new().unwrap();
        assert_eq!(list.files.len(), FAMILY_FILES.len() + DEVICES.len() + ENGINES.len() + HOSTS.len());
        for entry in &list.files {
            assert!(!entry.title.is_empty() && entry.is_built_in, "{entry:?}");
            assert_eq!(entry.releases.is_empty(), entry.kind != FileKind::Engine, "{entry:?}");
            let shown = CatalogFiles::named(&entry.name, Some(entry.kind)).unwrap();
            assert!(shown.files[0].text.contains(&format!("\nname: {}\n", entry.name)), "{entry:?}");
        }
    }

    #[test]
    fn a_family_and_a_model_may_share_a_name() {
        let kinds: Vec<_> = CatalogFiles::named("erdma", None).unwrap().files.into_iter().map(|file| file.kind).collect();
        assert_eq!(kinds, [FileKind::Family, FileKind::Device]);
    }
}
