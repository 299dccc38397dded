//! Engines as commands name them: by the catalog's name, with or without a version, or by a file.

use std::path::Path;

use crate::catalog::{Catalog, CatalogError};

/// Whether a name is meant as a file: nothing in the catalog has such an end, or a slash.
pub fn is_file(name: &str) -> bool {
    name.contains('/') || name.ends_with(".yaml") || name.ends_with(".yml")
}

/// Adds the files among `wanted` to the catalog, and gives names only.
pub fn with_files(catalog: &mut Catalog, wanted: &[String]) -> Result<Vec<String>, CatalogError> {
    wanted.iter().map(|name| if is_file(name) { catalog.add(Path::new(name)) } else { Ok(name.clone()) }).collect()
}
