//! The parts of an export and how they are written down.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ExportError;
use crate::catalog::engine::runs_code;
use crate::profile::Profile;
use crate::text;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PartKind {
    /// `NAME=VALUE` lines for a process's environment: systemd's EnvironmentFile, docker's --env-file.
    Env,
    /// The engine's own configuration file of `NAME=VALUE` lines.
    Conf,
    /// A JSON document.
    Json,
    /// Arguments of a command.
    Flags,
}

/// Something that an engine reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Part {
    /// What `--part` takes.
    pub name: String,
    /// The usual name of such a file.
    pub file: String,
    pub kind: PartKind,
    /// The whole text.
    pub text: String,
    /// What is in it, with the evidence.
    pub settings: Vec<SettingLine>,
}

/// A setting with its reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SettingLine {
    pub name: String,
    pub value: String,
    pub why: String,
    /// Ids of evidence in the profile.
    pub evidence: Vec<String>,
}

/// Longest line of a comment: UCX's reader of ini files stops at 200 bytes (src/ucs/config/ini.h).
const COMMENT: usize = 100;

impl Part {
    /// A file of `NAME=VALUE` lines, each under a comment with its evidence.
    pub(super) fn of_lines(name: &str, file: &str, kind: PartKind, title: &str, settings: Vec<SettingLine>, profile: &Profile) -> Self {
        let mut text = comment(&format!("{title}, from the transfer profile of {}", profile.created));
        if settings.is_empty() {
            text += &comment("Nothing needs to be set.");
        }
        for line in &settings {
            text += &comment(&reason(line, profile));
            text += &match kind {
                PartKind::Flags => format!("{}\n", flag(line)),
                _ => format!("{}={}\n", line.name, line.value),
            };
        }
        Self { name: name.to_owned(), file: file.to_owned(), kind, text, settings }
    }

    /// Refuses what would add lines of its own to a file, or names of its own to an environment: a profile is a file that others may write.
    pub(super) fn check(&self) -> Result<(), ExportError> {
        for line in &self.settings {
            let is_name = line.name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.:/".contains(c)) && !line.name.is_empty();
            let is_name = is_name && (self.kind != PartKind::Env || !runs_code(&line.name));
            // systemd's EnvironmentFile, docker's --env-file and a shell quote in three ways: what needs no quotes, all of them read alike.
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "._:,/=+@%^-".contains(c);
            let is_value =
                if self.kind == PartKind::Env { line.value.chars().all(is_plain) } else { !line.value.chars().any(char::is_control) };
            if !is_name || !is_value {
                return Err(ExportError::Usage(format!(
                    "the profile has a setting that cannot be written: {:?}={:?}",
                    line.name, line.value
                )));
            }
        }
        Ok(())
    }
}

/// An argument as a shell takes it.
pub(super) fn flag(line: &SettingLine) -> String {
    if line.value.is_empty() { line.name.clone() } else { format!("{} {}", line.name, text::word(&line.value)) }
}

/// Why a line is there, with its evidence: the first in words, the others by their ids.
fn reason(line: &SettingLine, profile: &Profile) -> String {
    const IDS: usize = 8;
    let Some((first, others)) = line.evidence.split_first() else { return line.why.clone() };
    let mut words = profile.evidence(first).map_or_else(|| first.clone(), |evidence| format!("{first}: {}", evidence.summary));
    if !others.is_empty() {
        words += &format!("; {}", others[..others.len().min(IDS)].join(" "));
    }
    if others.len() > IDS {
        words += &format!(" and {} more", others.len() - IDS);
    }
    format!("{} [{words}]", line.why)
}

/// A comment of lines that every reader takes: no control characters, and no `=`, which older NCCL takes for a setting even there.
fn comment(text: &str) -> String {
    let mut out = String::new();
    let mut line = "#".to_owned();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if line.len() + 1 + word.len() > COMMENT && line.len() > 1 {
            out += &line;
            out.push('\n');
            line = "#".to_owned();
        }
        line.push(' ');
        // A single word may be longer than a line.
        line.extend(word.chars().take(COMMENT).map(|c| if c == '=' { ':' } else { c }));
    }
    out + &line + "\n"
}
