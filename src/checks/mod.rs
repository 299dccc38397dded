//! Checks: pure functions from what is known of a host to findings, in one registry.

/// A command of a remedy. Each word that the host gives is one word to a shell as well: names of files, units and interfaces hold what a shell
/// would run.
macro_rules! command {
    ($text:literal $(, $word:expr)+ $(,)?) => {
        format!($text $(, $crate::text::word(&$word.to_string()))+)
    };
}

mod addresses;
mod container;
mod devices;
mod explain;
mod finding;
mod gpus;
mod health;
mod leftovers;
mod library;
mod limits;
mod link;
mod measured;
mod modules;
mod page;
mod pcie;
mod policy;
mod probe;
mod qos;
mod queue_pairs;
mod registrations;

use std::panic::{AssertUnwindSafe, catch_unwind};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::facts::{Facts, Level, Needs, Source};
use page::page;

pub use explain::{Explanation, Explanations};
pub(crate) use finding::{Action, Finding, Status};
pub(crate) use gpus::{Cause, EnginePath, GpuReport, GpuSurvey, KindReport, Met, WayReport};
pub(crate) use gpus::{refusals, survey};
pub(crate) use health::UNREAD;
pub(crate) use page::Page;
pub use policy::Policy;
#[cfg(test)]
#[cfg(test)]
pub(crate) use probe::Counts;
pub(crate) use probe::{Probe, SuppressionState, judge};

/// What a check is about; the middle digits of its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// 01: libraries and providers.
    Library,
    /// 02: kernel modules.
    Modules,
    /// 03: devices and ports.
    Devices,
    /// 04: addresses, partitions and MTU.
    Addresses,
    /// 05: limits and permissions.
    Limits,
    /// 06: queue pairs.
    QueuePairs,
    /// 07: GPUs and their memory.
    Gpus,
    /// 08: PCI Express, NUMA and IOMMU.
    Pcie,
    /// 09: containers.
    Container,
    /// 10: quality of service.
    Qos,
    /// 11: health.
    Health,
    /// 12: what was measured; only `preflight` measures.
    Measured,
}

impl Category {
    /// All of them, in their order.
    pub const ALL: [Self; 12] = [
        Self::Library,
        Self::Modules,
        Self::Devices,
        Self::Addresses,
        Self::Limits,
        Self::QueuePairs,
        Self::Gpus,
        Self::Pcie,
        Self::Container,
        Self::Qos,
        Self::Health,
        Self::Measured,
    ];

    /// The first two digits of its ids.
    #[must_use]
    pub fn number(self) -> u32 {
        self as u32 + 1
    }

    /// For people.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Library => "libraries and providers",
            Self::Modules => "kernel modules",
            Self::Devices => "devices and ports",
            Self::Addresses => "addresses and MTU",
            Self::Limits => "limits and permissions",
            Self::QueuePairs => "queue pairs",
            Self::Gpus => "GPUs and their memory",
            Self::Pcie => "PCI Express, NUMA, IOMMU",
            Self::Container => "container",
            Self::Qos => "quality of service",
            Self::Health => "health",
            Self::Measured => "measurements",
        }
    }
}

/// One check.
#[derive(Debug)]
pub struct Check {
    /// What `docs/checks` says of it: id, texts, level.
    pub page: &'static Page,
    /// What it is judged from.
    pub(crate) needs: &'static [Source],
    /// Checks whose findings can be the cause of this one's.
    pub depends_on: &'static [&'static str],
    /// The check itself.
    pub run: fn(&Facts) -> Vec<Finding>,
}

/// Every check, by category and id.
pub fn registry() -> impl Iterator<Item = &'static Check> {
    [
        library::CHECKS,
        modules::CHECKS,
        devices::CHECKS,
        addresses::CHECKS,
        limits::CHECKS,
        registrations::CHECKS,
        queue_pairs::CHECKS,
        gpus::CHECKS,
        pcie::CHECKS,
        container::CHECKS,
        qos::CHECKS,
        health::CHECKS,
        leftovers::CHECKS,
        measured::CHECKS,
    ]
    .into_iter()
    .flatten()
}

/// A check that is not there, with those that are near.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown check `{wanted}`; {}", alike(.near))]
pub struct UnknownCheck {
    /// What was asked for.
    pub wanted: String,
    /// Ids that look alike, with their titles.
    pub near: Vec<String>,
}

fn alike(near: &[String]) -> String {
    if near.is_empty() { "`rdmadoctor explain` lists them all".to_owned() } else { format!("near are {}", near.join(", ")) }
}

/// A check by its id; `RD-` may be left out.
///
/// # Errors
/// There is none.
pub fn find(wanted: &str) -> Result<&'static Check, UnknownCheck> {
    let upper = wanted.trim().to_ascii_uppercase();
    let id = if upper.starts_with("RD-") { upper } else { format!("RD-{upper}") };
    registry().find(|check| check.page.id == id).ok_or_else(|| {
        // The same category, then the most digits alike.
        let alike = |check: &&Check| check.page.id.chars().zip(id.chars()).filter(|(one, other)| one == other).count();
        let same_category = |check: &&Check| check.page.id.get(..5) == id.get(..5);
        let mut candidates: Vec<&Check> = registry().filter(|check| same_category(check) || alike(check) >= 6).collect();
        candidates.sort_by_key(|check| (!same_category(check), std::cmp::Reverse(alike(check))));
        let near = candidates.iter().take(5).map(|check| format!("{} ({})", check.page.id, check.page.title)).collect();
        UnknownCheck { wanted: wanted.to_owned(), near }
    })
}

/// Runs checks and links what follows from what.
pub fn run<'a>(facts: &Facts, checks: impl IntoIterator<Item = &'a Check>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for check in checks {
        findings.extend(run_one(facts, check));
    }
    link::link(&mut findings);
    findings
}

/// What is gathered for checks.
pub(crate) fn needs(checks: &[&Check]) -> Needs {
    checks.iter().flat_map(|check| check.needs).copied().collect()
}

fn run_one(facts: &Facts, check: &Check) -> Vec<Finding> {
    if let Some(why) = facts.not_asked.as_ref().filter(|_| check.page.level > Level::Quick) {
        return vec![Finding { id: check.page.id.to_owned(), ..Finding::skip("host", why) }];
    }
    // Whatever it made of a part that is not there, it would mean nothing.
    let is_needed = |part| check.needs.iter().any(|source| source.part() == Some(part));
    let mut findings = match facts.unread().find(|(part, _)| is_needed(*part)) {
        Some((part, problem)) => vec![Finding::skip("host", format!("{} was not read to its end, at {}", part.name(), problem.path))],
        // No check may take the others with it.
        None => catch_unwind(AssertUnwindSafe(|| (check.run)(facts)))
            .unwrap_or_else(|_| vec![Finding::error("host", "the check itself failed; please report it")]),
    };
    if findings.is_empty() {
        findings.push(Finding::skip("host", "nothing here that this is about"));
    }
    for finding in &mut findings {
        check.page.id.clone_into(&mut finding.id);
    }
    findings
}

#[cfg(test)]
mod tests;
