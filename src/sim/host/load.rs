//! Finding and reading host files, each with those that it extends.

use std::collections::BTreeSet;
use std::path::Path;

use serde_yaml::{Mapping, Value};

use super::{HostModel, overlay};
use crate::catalog::check::{self, Document, Place, Problem};
use crate::catalog::{CatalogError, DeviceModel, HOSTS, added, file, is_file};
use crate::schema;

/// Files in a chain of extensions; more is a mistake.
const LONGEST_CHAIN: usize = 8;

impl HostModel {
    /// Names of the hosts that are known.
    pub fn names() -> impl Iterator<Item = &'static str> {
        let embedded = HOSTS.iter().filter_map(|(path, _)| Path::new(*path).file_stem()?.to_str());
        let names: BTreeSet<&str> = embedded.chain(added::hosts().map(|(name, ..)| name)).collect();
        names.into_iter()
    }

    /// The embedded hosts. A test reads every one, so none is left out.
    #[must_use]
    pub fn embedded() -> Vec<Self> {
        HOSTS.iter().filter_map(|(path, text)| Self::parse(Path::new(path), text).ok()).collect()
    }

    /// An embedded host by its name, or one of a file.
    ///
    /// # Errors
    /// There is no such name, or the file cannot be read or is damaged.
    pub fn find(name: &str) -> Result<Self, CatalogError> {
        if let Some((path, text)) = known(name, None) {
            return Self::parse(path, text);
        }
        let path = Path::new(name);
        if !path.exists() && !name.contains(['/', '.']) {
            return Err(CatalogError::UnknownHost { name: name.to_owned(), known: Self::names().map(str::to_owned).collect() });
        }
        Self::load(path)
    }

    /// Reads a host file.
    ///
    /// # Errors
    /// It, or one that it extends, cannot be read or is damaged.
    pub fn load(path: &Path) -> Result<Self, CatalogError> {
        Self::parse(path, &file::read(path)?)
    }

    /// Reads a file's text; `file` is for messages, and its directory is where files are looked for that it extends.
    ///
    /// # Errors
    /// The text is no valid host file; the message names file, line and column.
    pub fn parse(file: &Path, text: &str) -> Result<Self, CatalogError> {
        whole(file, text).map_err(|problems| {
            let first = problems.into_iter().next();
            let problem = first.unwrap_or_else(|| Problem::at(Place::START, "it cannot be read".to_owned()));
            CatalogError::Invalid { file: file.to_owned(), problem }
        })
    }

    /// Everything that is wrong with a file's text.
    pub fn problems(file: &Path, text: &str) -> Vec<Problem> {
        let mut problems = whole(file, text).err().unwrap_or_default();
        // Each has a default because of files that extend others, so no schema asks for them.
        if !check::has_key(text, "extends") {
            for key in ["kernel", "sources"].into_iter().filter(|key| !check::has_key(text, key)) {
                let is_told = problems.iter().any(|problem| problem.summary.contains(key));
                if !is_told {
                    problems.push(Problem::at(Place::START, format!("`{key}` is missing")));
                }
            }
        }
        problems.sort();
        problems
    }
}

impl Document for HostModel {
    const SCHEMA: &str = schema::HOST;

    fn schema(&self) -> &str {
        &self.schema
    }

    /// What a whole host has to be is asked once its files are merged.
    fn inconsistencies(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}

/// The file of a name: one that was added, or one of the program.
fn known(name: &str, but_for: Option<&Path>) -> Option<(&'static Path, &'static str)> {
    let added = added::hosts().find(|(known, path, _)| *known == name && but_for != Some(*path)).map(|(_, path, text)| (path, text));
    added.or_else(|| {
        let embedded = HOSTS.iter().map(|(path, text)| (Path::new(*path), *text));
        embedded.into_iter().find(|(path, _)| path.file_stem().is_some_and(|stem| stem == name))
    })
}

/// Names the device files of a host's NICs by whole paths: they are seen from the directory of the file that names them.
fn with_device_files(over: &mut Value, file: &Path, text: &str) -> Result<(), Problem> {
    let nics = over.get_mut("nics").and_then(Value::as_sequence_mut);
    for model in nics.into_iter().flatten().filter_map(|nic| nic.get_mut("model")) {
        let Some(name) = model.as_str().filter(|name| is_file(name)) else { continue };
        let at_name = |why: String| Fault::new(name, why).placed(text);
        let path = std::path::absolute(file.parent().unwrap_or(Path::new("")).join(name)).map_err(|error| at_name(error.to_string()))?;
        // No device or pipe: a file that came from elsewhere could name one that never ends.
        let path = path.to_str().filter(|_| path.is_file()).ok_or_else(|| at_name(format!("the device model `{name}` is no file")))?;
        DeviceModel::of_file(path).map_err(|error| at_name(format!("the device model {error}")))?;
        *model = Value::String(path.to_owned());
    }
    Ok(())
}

/// A host with all that it extends.
fn whole(file: &Path, text: &str) -> Result<HostModel, Vec<Problem>> {
    let merged = merged(file, text, 1)?;
    let mut host: HostModel = serde_yaml::from_value(merged).map_err(|error| vec![Problem::at(Place::START, error.to_string())])?;
    host.inherit();
    // What is wrong may stand in a file that is extended; then there is no place in this one.
    let problems: Vec<Problem> = host.inconsistencies().iter().map(|fault| fault.placed(text)).collect();
    if problems.is_empty() { Ok(host) } else { Err(problems) }
}

/// A file's content over that of the file that it extends.
fn merged(file: &Path, text: &str, depth: usize) -> Result<Value, Vec<Problem>> {
    // Read as the type first: values that are merged afterwards have no places.
    let problems = check::problems::<HostModel>(text);
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut over: Value = serde_yaml::from_str(text).map_err(|error| vec![Problem::at(Place::START, error.to_string())])?;
    with_device_files(&mut over, file, text).map_err(|problem| vec![problem])?;
    let mut base = match over.get("extends").and_then(Value::as_str) {
        None => Value::Mapping(Mapping::new()),
        Some(name) => {
            let at_key = |why: String| vec![Problem::at(check::place_in(text, "extends"), why)];
            if depth >= LONGEST_CHAIN {
                return Err(at_key(format!("{depth} files extend each other, the last one `{name}`: is there a circle?")));
            }
            // A problem of another file is told with its own place, where this one extends it.
            let elsewhere = |file: &Path, problems: Vec<Problem>| {
                problems.iter().flat_map(|problem| at_key(format!("it extends {}", problem.in_file(file)))).collect::<Vec<_>>()
            };
            // One that has the name of the program's own may extend that.
            match known(name, Some(file)) {
                Some((path, text)) => merged(path, text, depth + 1).map_err(|problems| elsewhere(path, problems))?,
                None => {
                    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
                    let path = folder.join(name);
                    // A file that came from elsewhere could name a secret, of which a message would tell, or what never ends.
                    let is_beside = || Some(path.canonicalize().ok()?.starts_with(folder.canonicalize().ok()?));
                    if path.exists() && is_beside() != Some(true) {
                        let what = format!(
                            "it extends `{name}`, which is not in the folder of this file: copy it there, or extend one of the program's own"
                        );
                        return Err(at_key(what));
                    }
                    if !path.is_file() {
                        let known = HostModel::names().collect::<Vec<_>>().join(", ");
                        return Err(at_key(format!("it extends `{name}`, which is no file and none of {known}")));
                    }
                    let text = file::read(&path).map_err(|error| at_key(format!("it extends {error}")))?;
                    merged(&path, &text, depth + 1).map_err(|problems| elsewhere(&path, problems))?
                }
            }
        }
    };
    overlay::apply(&mut base, over).map_err(|fault| vec![fault.placed(text)])?;
    Ok(base)
}

/// What is wrong with a host, and a word by which its place is found.
#[derive(Debug)]
pub(super) struct Fault {
    why: String,
    word: String,
}

impl Fault {
    pub(super) fn new(word: impl Into<String>, why: impl Into<String>) -> Self {
        Self { why: why.into(), word: word.into() }
    }

    /// Where its word first stands in a text; at the beginning where it does not.
    fn placed(&self, text: &str) -> Problem {
        let found = text.lines().enumerate().find_map(|(line, content)| {
            let column = content[..content.find(&self.word)?].chars().count() + 1;
            Some(Place { line: line + 1, column })
        });
        Problem::at(found.filter(|_| !self.word.is_empty()).unwrap_or(Place::START), self.why.clone())
    }
}

/// Paths of a host file are those of a host, from its root.
pub(super) fn is_plain(path: &Path) -> bool {
    path.is_absolute() && path.components().all(|component| !matches!(component, std::path::Component::ParentDir))
}
