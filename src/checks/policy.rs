//! What the user wants of a host: requirements, severities, suppressions, thresholds.

use std::path::{Path, PathBuf};

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Finding, Status, find};
use crate::catalog::check::Document;
use crate::catalog::engine::Connect;
use crate::catalog::file::read as read_file;
use crate::catalog::{Catalog, CatalogError};
use crate::facts::{Wanted, WantedEngine};
use crate::qp::Chosen;
use crate::schema;

/// A policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// `rdmadoctor/policy/1`.
    pub schema: String,
    /// What the host must have.
    #[serde(default)]
    pub require: Requirements,
    /// How grave findings of a check are.
    #[serde(default)]
    pub severity: Vec<SeverityRule>,
    /// Findings that do not count for a while.
    #[serde(default)]
    pub suppress: Vec<Suppression>,
    /// Bounds that only the user can know.
    #[serde(default)]
    pub thresholds: Thresholds,
}

/// What the host must have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Requirements {
    /// RDMA devices, by name, each with an active port.
    pub devices: Vec<String>,
    /// Families of which there must be a device.
    pub families: Vec<String>,
    /// Engines whose queue pairs must be granted, `NAME` or `NAME@VERSION`.
    pub engines: Vec<String>,
    /// Modules that the kernel must have.
    pub modules: Vec<String>,
}

/// How grave a check's findings are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SeverityRule {
    /// The check's id.
    pub check: String,
    /// What its warnings and failures count as.
    pub status: Severity,
}

/// Warning or failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// A warning.
    Warn,
    /// A failure.
    Fail,
}

/// A finding that does not count for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Suppression {
    /// The check's id.
    pub check: String,
    /// Only on this subject; on all of them if absent.
    pub subject: Option<String>,
    pub reason: String,
    /// The last day on which it holds: `2027-03-31`.
    pub until: String,
}

/// Bounds that only the user can know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Thresholds {
    /// Least locked memory.
    pub memlock_bytes: Option<u64>,
    /// Least rate of every active port.
    pub port_bits_per_second: Option<u64>,
    /// How often a link may have gone down in the kernel's log; 2 where nothing is said.
    pub link_downs: Option<u64>,
    /// How long the files that come from devices, or a GPU's driver, may take to answer; 1000 where nothing is said.
    pub slow_read_ms: Option<u64>,
    /// Least bandwidth that `preflight` measures, in percent of what this host's own path carries: the smaller of the port's rate and its
    /// PCI Express link.
    pub bandwidth_percent_of_path: Option<u32>,
    /// Least bandwidth, in percent of what the run had that `preflight --baseline` or `--compare` names.
    pub bandwidth_percent_of_baseline: Option<u32>,
}

/// Why a policy cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The file cannot be read, or is no text.
    #[error("{}", with_source(.0))]
    File(CatalogError),
    /// It is no policy.
    #[error("{}: {message}", file.display())]
    Invalid {
        file: PathBuf,
        /// What is wrong, with line and column where they are known.
        message: String,
    },
}

/// An error and why it came, on one line.
fn with_source(error: &CatalogError) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

impl Policy {
    /// What the host must have, for these engines too.
    pub(crate) fn wanted(&self, catalog: &Catalog, engines: &[Chosen<'_>]) -> Wanted {
        let engines = engines.iter().map(|chosen| WantedEngine {
            name: chosen.engine.name.clone(),
            version: chosen.release.version.clone(),
            connects_itself: chosen.connect(catalog) == Connect::Oob,
        });
        Wanted {
            engines: engines.collect(),
            devices: self.require.devices.clone(),
            families: self.require.families.clone(),
            modules: self.require.modules.clone(),
            memlock_bytes: self.thresholds.memlock_bytes,
            port_bits_per_second: self.thresholds.port_bits_per_second,
            link_downs: self.thresholds.link_downs,
            slow_read_ms: self.thresholds.slow_read_ms,
            bandwidth_percent_of_path: self.thresholds.bandwidth_percent_of_path,
            bandwidth_percent_of_baseline: self.thresholds.bandwidth_percent_of_baseline,
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or is no policy.
    pub fn load(file: &Path) -> Result<Self, PolicyError> {
        let text = read_file(file).map_err(PolicyError::File)?;
        Self::parse(file, &text)
    }

    /// Reads a text; `file` is for messages.
    ///
    /// # Errors
    /// It is no policy.
    pub fn parse(file: &Path, text: &str) -> Result<Self, PolicyError> {
        let invalid = |message: String| PolicyError::Invalid { file: file.to_owned(), message };
        let policy: Self = serde_yaml::from_str(text).map_err(|error| invalid(error.to_string()))?;
        if policy.schema != schema::POLICY {
            return Err(invalid(format!("schema is `{}`, expected `{}`", policy.schema, schema::POLICY)));
        }
        match policy.inconsistencies().into_iter().next() {
            Some((_, why)) => Err(invalid(why)),
            None => Ok(policy),
        }
    }

    /// How grave a finding is under this policy.
    pub(super) fn severity_of(&self, finding: &Finding) -> Status {
        let rule = self.severity.iter().rfind(|rule| is_check(&rule.check, &finding.id));
        match (finding.status, rule.map(|rule| rule.status)) {
            (Status::Warn | Status::Fail, Some(Severity::Warn)) => Status::Warn,
            (Status::Warn | Status::Fail, Some(Severity::Fail)) => Status::Fail,
            (status, _) => status,
        }
    }
}

impl Document for Policy {
    const SCHEMA: &str = schema::POLICY;

    fn schema(&self) -> &str {
        &self.schema
    }

    fn inconsistencies(&self) -> Vec<(String, String)> {
        let mut inconsistencies = Vec::new();
        let severities = self.severity.iter().enumerate().map(|(index, rule)| (format!("severity[{index}].check"), &rule.check));
        let suppressed = self.suppress.iter().enumerate().map(|(index, rule)| (format!("suppress[{index}].check"), &rule.check));
        inconsistencies.extend(severities.chain(suppressed).filter_map(|(path, id)| Some((path, find(id).err()?.to_string()))));
        for (index, rule) in self.suppress.iter().enumerate() {
            if rule.reason.trim().is_empty() {
                inconsistencies.push((format!("suppress[{index}].reason"), format!("the suppression of {} gives no reason", rule.check)));
            }
            if rule.last_day().is_none() {
                inconsistencies.push((format!("suppress[{index}].until"), format!("`{}` is no day such as 2027-03-31", rule.until)));
            }
        }
        let families = crate::host::families::names();
        for (index, unknown) in self.require.families.iter().enumerate().filter(|(_, family)| !families.contains(&family.as_str())) {
            inconsistencies
                .push((format!("require.families[{index}]"), format!("unknown family `{unknown}`; known are {}", families.join(", "))));
        }
        let thresholds = &self.thresholds;
        for (name, share) in [
            ("bandwidth_percent_of_path", thresholds.bandwidth_percent_of_path),
            ("bandwidth_percent_of_baseline", thresholds.bandwidth_percent_of_baseline),
        ] {
            if let Some(share) = share.filter(|share| !(1..=100).contains(share)) {
                inconsistencies.push((format!("thresholds.{name}"), format!("{name} is {share}; valid are 1 to 100")));
            }
        }
        inconsistencies
    }
}

impl Suppression {
    /// The last day on which it holds.
    pub(super) fn last_day(&self) -> Option<Date> {
        self.until.trim().parse().ok()
    }

    /// Whether it speaks of a finding, on whichever day.
    pub(super) fn is_about(&self, finding: &Finding) -> bool {
        is_check(&self.check, &finding.id) && self.subject.as_ref().is_none_or(|subject| *subject == finding.subject)
    }
}

fn is_check(wanted: &str, id: &str) -> bool {
    find(wanted).is_ok_and(|check| check.page.id == id)
}
