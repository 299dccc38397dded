//! Engines as commands name them: by the catalog's name, with or without a version, or by a file.

use std::path::Path;

use crate::catalog::{Catalog, CatalogError, is_file};

/// The catalog, for what `wanted` names in it. Without a name nothing is looked up, so the embedded files are not read either: that takes as
/// long as a quick look at a host.
pub fn catalog(wanted: &[String]) -> Result<Catalog, CatalogError> {
    if wanted.is_empty() { Ok(Catalog::default()) } else { Catalog::load() }
}

/// Adds the files among `wanted` to the catalog, and gives names only.
pub fn with_files(catalog: &mut Catalog, wanted: &[String]) -> Result<Vec<String>, CatalogError> {
    wanted.iter().map(|name| if is_file(name) { catalog.add(Path::new(name)) } else { Ok(name.clone()) }).collect()
}
