//! Reading a profile: whatever the text, a bounded answer with line and column.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::{PROFILE_SCHEMA, Profile};
use crate::files;

/// Largest file that is read. A profile of 16 NICs with every engine takes about a tenth of it.
const MOST_BYTES: u64 = 2 << 20;

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// The file cannot be read.
    #[error("cannot read {}: {why}", file.display())]
    Unreadable { file: PathBuf, why: String },
    /// It is no profile, or not a consistent one.
    #[error("{}:{line}:{column}: {why}", file.display())]
    Invalid {
        file: PathBuf,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What is wrong.
        why: String,
    },
}

/// Reads a file.
///
/// # Errors
/// It cannot be read, is no profile, or contradicts itprofile.
pub fn load(file: &Path) -> Result<Profile, ProfileError> {
    let unreadable = |why: String| ProfileError::Unreadable { file: file.to_owned(), why };
    let bytes = files::bytes(file, MOST_BYTES).map_err(|error| match error.kind() {
        ErrorKind::FileTooLarge => unreadable(format!("it is larger than {} MiB, which no profile is", MOST_BYTES >> 20)),
        _ => unreadable(error.to_string()),
    })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let (line, column) = place(&error.as_bytes()[..good]);
        ProfileError::Invalid { file: file.to_owned(), line, column, why: "it is not UTF-8 from here on".to_owned() }
    })?;
    parse(file, &text)
}

/// Reads the text of a file; `file` is only named in errors.
///
/// # Errors
/// It is no profile, or contradicts itprofile.
pub fn parse(file: &Path, text: &str) -> Result<Profile, ProfileError> {
    let invalid = |(line, column): (usize, usize), why: String| ProfileError::Invalid { file: file.to_owned(), line, column, why };
    let yaml = |error: serde_yaml::Error| {
        let at = error.location().map_or((1, 1), |at| (at.line(), at.column()));
        // serde_yaml ends its message with the place, which stands before it here.
        let full = error.to_string();
        invalid(at, full.split(" at line ").next().unwrap_or(&full).to_owned())
    };
    if text.len() as u64 > MOST_BYTES {
        return Err(invalid((1, 1), format!("it is larger than {} MiB, which no profile is", MOST_BYTES >> 20)));
    }
    if text.trim().is_empty() {
        return Err(invalid((1, 1), "it is empty, not a profile".to_owned()));
    }
    files::weigh(text).map_err(yaml)?;
    // First, so that a file of another kind or age is told as such and not by its first strange key.
    serde_yaml::Deserializer::from_str(text).deserialize_any(Schema).map_err(yaml)?;
    let profile: Profile = serde_yaml::from_str(text).map_err(yaml)?;
    match contradiction(&profile) {
        Some((needle, why)) => Err(invalid(find(text, &needle), why)),
        None => Ok(profile),
    }
}

/// The first thing that does not fit together: a word to find its place by, and what is wrong.
fn contradiction(profile: &Profile) -> Option<(String, String)> {
    let mut ids = HashSet::new();
    for evidence in &profile.evidence {
        if !ids.insert(evidence.id.as_str()) {
            return Some((format!("id: {}", evidence.id), format!("evidence {} is there twice", evidence.id)));
        }
    }
    for (entry, id) in evidence_ids(profile) {
        if !ids.contains(id) {
            return Some((id.to_owned(), format!("{entry} names the evidence `{id}`, which is not among `evidence`")));
        }
    }
    let mut ports = HashSet::new();
    for device in &profile.devices {
        if !ports.insert((&device.name, device.port)) {
            return Some((format!("name: {}", device.name), format!("{} port {} is there twice", device.name, device.port)));
        }
    }
    let mut engines = HashSet::new();
    for engine in &profile.engines {
        if !engines.insert((&engine.name, &engine.version)) {
            return Some((format!("name: {}", engine.name), format!("{} {} is there twice", engine.name, engine.version)));
        }
    }
    if profile.created.parse::<jiff::Timestamp>().is_err() {
        return Some(("created:".to_owned(), format!("`{}` is no time in UTC, such as 2026-01-31T12:00:00Z", profile.created)));
    }
    if profile.validated && !profile.unvalidated.is_empty() {
        return Some(("validated:".to_owned(), "validated is true although entries are listed in `unvalidated`".to_owned()));
    }
    if profile.validated && profile.host.model.is_some() {
        return Some(("validated:".to_owned(), "validated is true although the host is a model".to_owned()));
    }
    None
}

/// Every reference to evidence, with the entry that makes it.
fn evidence_ids(profile: &Profile) -> Vec<(String, &str)> {
    let mut ids: Vec<(String, &str)> = Vec::new();
    for device in &profile.devices {
        let entry = |part: &str| format!("devices/{}/{}/{part}", device.name, device.port);
        let proven =
            [&device.mtu_bytes, &device.cq_depth, &device.queue_pairs_per_connection, &device.traffic_class, &device.max_rd_atomic];
        let names = ["mtu_bytes", "cq_depth", "queue_pairs_per_connection", "traffic_class", "max_rd_atomic"];
        ids.extend(device.gid.iter().map(|gid| (entry("gid"), gid.evidence.as_str())));
        ids.extend(proven.iter().zip(names).filter_map(|(value, name)| Some((entry(name), value.as_ref()?.evidence.as_str()))));
        for limit in &device.qp.limits {
            let refused = limit.refused_evidence.as_deref();
            ids.extend([Some(limit.evidence.as_str()), refused].into_iter().flatten().map(|id| (entry("qp/limits"), id)));
        }
        ids.extend(device.qp.joint.iter().map(|joint| (entry("qp/joint"), joint.evidence.as_str())));
        ids.extend(device.qp.recommended.iter().map(|value| (entry("qp/recommended"), value.evidence.as_str())));
        ids.extend(device.connection.iter().map(|value| (entry("connection"), value.evidence.as_str())));
        let registered = device.memory.iter().filter_map(|value| value.registered_evidence.as_deref());
        ids.extend(device.memory.iter().map(|value| value.evidence.as_str()).chain(registered).map(|id| (entry("memory"), id)));
        ids.extend(device.measurements.iter().map(|value| (entry("measurements"), value.evidence.as_str())));
    }
    for gpu in &profile.gpus {
        let entry = |part: &str| format!("gpus/{}/{part}", gpu.pci);
        ids.push((entry("nics"), &gpu.evidence));
        if let Some(path) = &gpu.path {
            ids.push((entry("path"), &path.evidence));
            ids.extend(path.failed.iter().map(|failed| (entry("path"), failed.evidence.as_str())));
            ids.extend(path.also.iter().map(|also| (entry("path"), also.evidence.as_str())));
        }
        ids.extend(gpu.nics.iter().filter_map(|nic| Some((entry("nics"), nic.path.as_ref()?.evidence.as_str()))));
    }
    for engine in &profile.engines {
        let entry = format!("engines/{}/{}", engine.name, engine.version);
        ids.extend(engine.settings.iter().map(|setting| (entry.clone(), setting.evidence.as_str())));
        for device in &engine.devices {
            ids.extend(device.evidence.iter().map(|id| (entry.clone(), id.as_str())));
            ids.extend(device.obstacles.iter().map(|obstacle| (entry.clone(), obstacle.evidence.as_str())));
        }
    }
    ids
}

/// Line and column, from 1, of the end of `text`.
fn place(text: &[u8]) -> (usize, usize) {
    let line = text.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = text.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
    (line, column)
}

/// Where `needle` stands first, as a word of its own where there is one.
fn find(text: &str, needle: &str) -> (usize, usize) {
    let is_word = |at: usize| !text[at + needle.len()..].starts_with(|next: char| next.is_ascii_alphanumeric());
    let mut found = text.match_indices(needle).map(|(at, _)| at);
    let first = found.clone().next();
    found.find(|at| is_word(*at)).or(first).map_or((1, 1), |at| place(&text.as_bytes()[..at]))
}

/// Asks a document for its schema, and for nothing else.
struct Schema;

impl<'de> Visitor<'de> for Schema {
    type Value = ();

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a profile")
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
        Err(E::custom("this is a text, not a profile"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut is_there = false;
        while let Some(key) = entries.next_key::<String>()? {
            if key == "schema" {
                check_schema(&entries.next_value::<String>()?)?;
                is_there = true;
            } else {
                entries.next_value::<IgnoredAny>()?;
            }
        }
        if !is_there {
            return Err(serde::de::Error::custom(format!("it names no schema; a profile begins with `schema: {PROFILE_SCHEMA}`")));
        }
        Ok(())
    }
}

fn check_schema<E: serde::de::Error>(schema: &str) -> Result<(), E> {
    if schema == PROFILE_SCHEMA {
        return Ok(());
    }
    Err(E::custom(match schema.strip_prefix("rdmadoctor/profile/") {
        Some(version) => format!(
            "it is a profile of version {version}, and this program reads {PROFILE_SCHEMA}; write it again with `rdmadoctor profile write`"
        ),
        None => format!("its schema is `{schema}`, not `{PROFILE_SCHEMA}`"),
    }))
}

#[cfg(test)]
#[path = "read_tests.rs"]
pub(super) mod tests;
