//! What is wrong with a file of the catalog: everything that can be told in one reading, each with its place.
//!
//! A file is held against the JSON Schema of its type, which finds many mistakes at once, and then read as the type, which finds the rest.
//! Only the reading decides whether a file is taken by other commands.

mod document;
mod located;
mod walk;

use std::fmt;
use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use document::{CatalogCheck, CheckedFile, FileVerdict};
pub(crate) use located::Place;
use located::{Content, Node};

use super::{CatalogError, DeviceModel, Engine, file};
use crate::host::families::Family;
use crate::schema;

/// What is wrong with a file, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct Problem {
    /// Line, from 1; where something is missing, that of what should hold it.
    pub line: Option<usize>,
    /// Column, from 1, in characters.
    pub column: Option<usize>,
    /// What is wrong.
    pub summary: String,
}

impl Problem {
    /// One at a place.
    #[must_use]
    pub fn at(place: Place, summary: String) -> Self {
        Self { line: Some(place.line), column: Some(place.column), summary }
    }

    /// What serde_yaml says, with the place that it ends with in front.
    pub(super) fn of(error: &serde_yaml::Error) -> Self {
        let full = error.to_string();
        let summary = full.split(" at line ").next().unwrap_or(&full).to_owned();
        let at = error.location();
        Self { line: at.as_ref().map(serde_yaml::Location::line), column: at.as_ref().map(serde_yaml::Location::column), summary }
    }

    /// `FILE:LINE:COLUMN: what`.
    #[must_use]
    pub fn in_file(&self, file: &Path) -> String {
        format!("{}:{self}", file.display())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, "{line}:{column}:")?;
        }
        write!(f, " {}", self.summary)
    }
}

/// A file and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// What the file says that it is.
    pub declares: Option<String>,
    /// What is wrong, from its beginning to its end.
    pub problems: Vec<Problem>,
}

/// A type of file.
pub(crate) trait Document: DeserializeOwned + JsonSchema {
    /// What its `schema` says.
    const SCHEMA: &str;

    /// What a file says that it is.
    fn schema(&self) -> &str;

    /// What does not fit together although each value is one, with the path of the value that is to blame.
    fn inconsistencies(&self) -> Vec<(String, String)>;
}

/// A kind of file that a room above knows: what its `schema` says, and all that is wrong with a text of it.
pub type Kind = (&'static str, fn(&Path, &str) -> Vec<Problem>);

/// Reads a file and checks it, as one of the catalog's or of the kinds that are given.
///
/// # Errors
/// It cannot be read.
pub fn check_file(path: &Path, kinds: &[Kind]) -> Result<Checked, CatalogError> {
    match file::read(path) {
        Ok(text) => Ok(check(path, &text, kinds)),
        Err(CatalogError::Invalid { problem, .. }) => Ok(Checked { declares: None, problems: vec![problem] }),
        Err(error) => Err(error),
    }
}

/// Checks a file's text. A host file that extends others is looked for beside `path`.
#[must_use]
pub fn check(path: &Path, text: &str, kinds: &[Kind]) -> Checked {
    let Some(tree) = Node::parse(text) else {
        let problem = match serde_yaml::from_str::<serde_yaml::Value>(text) {
            Err(error) => Problem::of(&error),
            Ok(_) => located::refused(text).unwrap_or_else(|| Problem::at(Place::START, "it is empty, or no plain YAML".to_owned())),
        };
        return Checked { declares: None, problems: vec![problem] };
    };
    let declares = tree.get("schema").and_then(|entry| match &entry.value.content {
        Content::Scalar(schema) => schema.as_str().map(str::to_owned),
        _ => None,
    });
    let problems = match declares.as_deref() {
        Some(schema::ENGINE) => problems::<Engine>(text),
        Some(schema::DEVICE) => problems::<DeviceModel>(text),
        Some(schema::FAMILY) => problems::<Family>(text),
        Some(other) if kinds.iter().any(|(schema, _)| *schema == other) => {
            kinds.iter().filter(|(schema, _)| *schema == other).flat_map(|(_, problems)| problems(path, text)).collect()
        }
        other => {
            let known = [schema::ENGINE, schema::DEVICE, schema::FAMILY].into_iter();
            let known = known.chain(kinds.iter().map(|(schema, _)| *schema)).collect::<Vec<_>>().join(", ");
            let place = place_in(text, "schema");
            let given = other.map_or("missing".to_owned(), |other| format!("`{other}`"));
            vec![Problem::at(place, format!("its schema is {given}; valid are {known}"))]
        }
    };
    Checked { declares, problems }
}

/// Reads a text as a type; the first problem, where there is one.
///
/// # Errors
/// The text is no such file.
pub(crate) fn parse<T: Document>(file: &Path, text: &str) -> Result<T, CatalogError> {
    if let Ok(document) = serde_yaml::from_str::<T>(text)
        && document.schema() == T::SCHEMA
        && document.inconsistencies().is_empty()
    {
        return Ok(document);
    }
    let first = problems::<T>(text).into_iter().next();
    let problem = first.unwrap_or_else(|| Problem::at(Place::START, "it cannot be read".to_owned()));
    Err(CatalogError::Invalid { file: file.to_owned(), problem })
}

/// Everything that is wrong with a text as a type.
pub(crate) fn problems<T: Document>(text: &str) -> Vec<Problem> {
    let tree = Node::parse(text);
    let mut problems = match &tree {
        Some(tree) => walk::against(tree, schemars::schema_for!(T).as_value()),
        None => Vec::new(),
    };
    match serde_yaml::from_str::<T>(text) {
        // The tree has told of all that its schema knows of.
        Err(error) if problems.is_empty() => problems.push(Problem::of(&error)),
        Err(_) => {}
        Ok(document) => {
            let places = tree.as_ref().map(Node::places).unwrap_or_default();
            let mut inconsistencies = document.inconsistencies();
            if document.schema() != T::SCHEMA {
                inconsistencies.push(("schema".to_owned(), format!("schema is `{}`, expected `{}`", document.schema(), T::SCHEMA)));
            }
            problems.extend(inconsistencies.into_iter().map(|(path, why)| {
                let mut known = path.as_str();
                // What is missing has no place of its own; what should hold it has one.
                while !places.contains_key(known) {
                    known = known.rfind(['.', '[']).map_or("", |end| &known[..end]);
                    if known.is_empty() {
                        break;
                    }
                }
                Problem::at(places.get(known).copied().unwrap_or(Place::START), why)
            }));
        }
    }
    problems.sort();
    problems.dedup();
    problems
}

/// Where a key of the root stands, or where the text begins.
pub(crate) fn place_in(text: &str, key: &str) -> Place {
    Node::parse(text).and_then(|tree| tree.get(key).map(|entry| entry.place)).unwrap_or(Place::START)
}

/// Whether the root has a key.
pub(crate) fn has_key(text: &str, key: &str) -> bool {
    Node::parse(text).is_some_and(|tree| matches!(tree.content, Content::Map(_)) && tree.get(key).is_some())
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
