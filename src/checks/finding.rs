//! What a check says: findings with their evidence and remedies.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

rdmadoctor_types::words! {
    /// How something is.
    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    pub enum Status {
        /// It is well.
        Pass = "pass",
        /// It deserves a look.
        Warn = "warn",
        /// It is wrong.
        Fail = "fail",
        /// It could not be judged, or there was nothing to judge; the title says why.
        Skip = "skip",
        /// The check itself failed.
        Error = "error",
    }
}

impl Status {
    /// Whether something has to be done.
    #[must_use]
    pub fn is_bad(self) -> bool {
        matches!(self, Self::Warn | Self::Fail | Self::Error)
    }
}

/// Something that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    /// Where: a path or a call.
    pub source: String,
    /// What it said.
    pub value: String,
    /// What it should say.
    pub expected: Option<String>,
}

/// What kind of step mends something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Nothing to do, or nothing that is known.
    #[default]
    None,
    /// A setting.
    Tune,
    /// A module or a service has to start anew.
    Reload,
    /// A device has to be reset.
    Reset,
    /// The host has to start anew.
    Reboot,
    /// Software or hardware has to be replaced or installed.
    Replace,
    /// Who runs the network, the cluster or the hypervisor has to act.
    AskFabric,
}

/// What mends it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Remedy {
    /// What kind of step.
    pub action: Action,
    /// One sentence; empty where there is nothing to do.
    pub summary: String,
    /// The exact commands.
    pub commands: Vec<String>,
}

/// What a check says of one subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// The check.
    pub id: String,
    /// How the subject is.
    pub status: Status,
    /// `host`, a device (`mlx5_0`), a port (`mlx5_0/1`), a module, a PCI address, or several of these with `/` between.
    pub subject: String,
    /// One sentence.
    pub title: String,
    /// What was read.
    pub evidence: Vec<Evidence>,
    /// The finding that this one follows from, as `ID/subject`.
    pub because: Option<String>,
    /// What mends it.
    pub remedy: Remedy,
    /// Why the policy does not count it.
    pub suppressed: Option<String>,
    /// Other subjects that it is about, by which findings of other checks are linked to it.
    #[serde(skip)]
    pub about: Vec<String>,
}

impl Finding {
    fn new(status: Status, subject: impl Into<String>, title: impl Into<String>) -> Self {
        Self {
            id: String::new(),
            status,
            subject: subject.into(),
            title: title.into(),
            evidence: Vec::new(),
            because: None,
            remedy: Remedy::default(),
            suppressed: None,
            about: Vec::new(),
        }
    }

    /// All is well.
    pub fn pass(subject: impl Into<String>, title: impl Into<String>) -> Self {
        Self::new(Status::Pass, subject, title)
    }

    /// Something deserves a look.
    pub fn warn(subject: impl Into<String>, title: impl Into<String>) -> Self {
        Self::new(Status::Warn, subject, title)
    }

    /// Something is wrong.
    pub fn fail(subject: impl Into<String>, title: impl Into<String>) -> Self {
        Self::new(Status::Fail, subject, title)
    }

    /// A failure where it is severe, else a warning.
    pub fn graded(is_severe: bool, subject: impl Into<String>, title: impl Into<String>) -> Self {
        Self::new(if is_severe { Status::Fail } else { Status::Warn }, subject, title)
    }

    /// It could not be judged; `why` says why.
    pub fn skip(subject: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(Status::Skip, subject, why)
    }

    /// The check itself failed.
    pub fn error(subject: impl Into<String>, title: impl Into<String>) -> Self {
        Self::new(Status::Error, subject, title)
    }

    /// With something that was read.
    #[must_use]
    pub fn saw(mut self, source: impl Into<String>, value: impl Into<String>) -> Self {
        self.evidence.push(Evidence { source: source.into(), value: value.into(), expected: None });
        self
    }

    /// With something that was read and should be otherwise.
    #[must_use]
    pub fn saw_not(mut self, source: impl Into<String>, value: impl Into<String>, expected: impl Into<String>) -> Self {
        self.evidence.push(Evidence { source: source.into(), value: value.into(), expected: Some(expected.into()) });
        self
    }

    /// With what mends it.
    #[must_use]
    pub fn remedy(mut self, action: Action, summary: impl Into<String>, commands: &[&str]) -> Self {
        self.remedy = Remedy { action, summary: summary.into(), commands: commands.iter().map(|command| (*command).to_owned()).collect() };
        self
    }

    /// With one more subject.
    #[must_use]
    pub fn about(mut self, subject: impl Into<String>) -> Self {
        self.about.push(subject.into());
        self
    }

    /// What other findings name it by.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}", self.id, self.subject)
    }

    /// Whether it stands by itself: neither a consequence nor suppressed.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.because.is_none() && self.suppressed.is_none()
    }

    /// All that it is about.
    pub(super) fn subjects(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.subject).chain(&self.about).map(String::as_str)
    }
}
