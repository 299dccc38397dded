//! What engines ask of `ibv_create_qp`, by version: data, read from `profiles/engines/*.yaml`.

use std::cmp::Ordering;
use std::path::Path as FilePath;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::CatalogError;
use super::check::{self, Document};
use crate::gpu::Path;
use crate::request::{Ask, AskOrigin, Parameter, QpRequest, QpType, Setting, SrqRequest};
use crate::schema;
use crate::verbs::DeviceAttributes;

/// One engine: a file of the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Engine {
    /// `rdmadoctor/engine/1`.
    pub schema: String,
    /// What `--engine` takes.
    pub name: String,
    /// How people write it.
    pub title: String,
    /// Other names for `--engine`.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Where it lives.
    pub homepage: Option<String>,
    /// How its queue pairs find each other.
    pub connect: Connect,
    /// What a user sees when a queue pair is refused.
    pub on_refusal: OnRefusal,
    /// How it gets from GPU memory to a NIC, where that is known.
    pub gpu_paths: Option<GpuPaths>,
    /// Oldest first.
    #[schemars(length(min = 1))]
    pub releases: Vec<Release>,
}

/// How an engine gets from GPU memory to a NIC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GpuPaths {
    /// What it tries, in this order.
    #[schemars(length(min = 1))]
    pub tries: Vec<Path>,
    /// What it does by itself and which setting changes that.
    pub how: String,
    /// Where this is known from.
    #[schemars(length(min = 1))]
    pub sources: Vec<String>,
}

/// How an engine connects queue pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Connect {
    /// It exchanges addresses by itself and walks the states with ibv_modify_qp.
    Oob,
    /// Through rdma_cm.
    Cm,
}

/// What happens to a user of the engine when a queue pair is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OnRefusal {
    /// The kind of it.
    pub outcome: RefusalOutcome,
    /// One sentence, so that a reader recognises the crash.
    pub summary: String,
    /// Where this is known from.
    #[serde(default)]
    pub sources: Vec<String>,
}

/// How an engine ends when it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RefusalOutcome {
    /// The process dies of a signal.
    Crashed,
    /// The engine reports an error.
    Failed,
    /// It tries again.
    Retried,
    /// It goes on over another transport, mostly in silence.
    Fallback,
}

/// A range of versions that ask the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// The version that reports name.
    pub version: String,
    /// First version that asks so.
    pub from: Option<String>,
    /// First version that no longer does.
    pub before: Option<String>,
    /// A remark.
    pub note: Option<String>,
    /// Whether this was concluded rather than read in the source.
    #[serde(default)]
    pub inferred: bool,
    /// Where it differs from the engine's.
    pub on_refusal: Option<OnRefusal>,
    /// Another engine's release, whose queue pairs this one makes.
    pub uses: Option<Uses>,
    /// Where this is known from.
    #[schemars(length(min = 1))]
    pub sources: Vec<String>,
    /// The queue pairs that it makes.
    #[serde(default)]
    pub queues: Vec<Queue>,
}

/// A release of another engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Uses {
    /// Its name.
    pub engine: String,
    /// Its version.
    pub version: String,
}

/// A queue pair that an engine makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Queue {
    /// What the engine uses it for.
    pub name: String,
    /// Type, as [`QpType`] writes it.
    pub qp_type: String,
    /// Asked work requests on the send queue.
    pub max_send_wr: u32,
    /// Asked work requests on the receive queue.
    pub max_recv_wr: u32,
    /// Asked scatter-gather entries in a send request.
    pub max_send_sge: u32,
    /// Asked scatter-gather entries in a receive request.
    pub max_recv_sge: u32,
    /// Asked bytes inline.
    pub max_inline_data: u32,
    /// Entries of the larger completion queue; absent where `follows` gives it.
    pub cq_depth: Option<u32>,
    /// Shared receive queue.
    pub srq: Option<SrqRequest>,
    /// Whether the engine goes on without it.
    #[serde(default)]
    pub optional: bool,
    /// What the engine lowers by itself.
    #[serde(default)]
    pub clamps: Vec<Clamp>,
    /// What the engine takes from the device.
    #[serde(default)]
    pub follows: Vec<Follow>,
    /// What a user can set.
    #[serde(default)]
    pub settings: Vec<Setting>,
    /// A remark.
    pub note: Option<String>,
}

/// The engine lowers a parameter to a published capability.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Clamp {
    /// Which.
    pub parameter: Parameter,
    /// To what.
    pub to: Capability,
}

/// The engine asks exactly a published capability.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Follow {
    /// Which.
    pub parameter: Parameter,
    /// Of what.
    pub cap: Capability,
}

/// A published capability that engines look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Capability {
    /// `max_sge`.
    MaxSge,
    /// `max_qp_wr`.
    MaxQpWr,
    /// `max_cqe`.
    MaxCqe,
    /// `max_srq_wr`.
    MaxSrqWr,
    /// None: the engine tries and bisects.
    Probed,
}

impl Capability {
    fn published(self, attributes: &DeviceAttributes) -> Option<u32> {
        let value = match self {
            Self::MaxSge => attributes.max_sge,
            Self::MaxQpWr => attributes.max_qp_wr,
            Self::MaxCqe => attributes.max_cqe,
            Self::MaxSrqWr => attributes.max_srq_wr,
            Self::Probed => return None,
        };
        u32::try_from(value).ok()
    }

    fn name(self) -> &'static str {
        match self {
            Self::MaxSge => "max_sge",
            Self::MaxQpWr => "max_qp_wr",
            Self::MaxCqe => "max_cqe",
            Self::MaxSrqWr => "max_srq_wr",
            Self::Probed => "what it finds by trying",
        }
    }
}

impl Engine {
    /// Reads a file's text; `name` is for messages.
    ///
    /// # Errors
    /// The text is no valid engine file; the message names file, line and column.
    pub fn parse(name: &FilePath, text: &str) -> Result<Self, CatalogError> {
        check::parse(name, text)
    }

    /// The release that `version` belongs to; the newest one for `None`.
    ///
    /// # Errors
    /// No release covers the version; the message lists those that are known. `1.2.x` is the newest one of 1.2.
    pub fn release(&self, version: Option<&str>) -> Result<&Release, CatalogError> {
        let unknown = |version: &str| CatalogError::UnknownVersion {
            engine: self.name.clone(),
            version: version.to_owned(),
            known: self.releases.iter().map(|release| release.version.clone()).collect(),
        };
        let Some(version) = version else { return self.releases.last().ok_or_else(|| unknown("")) };
        if let Some(series) = version.strip_suffix(".x").or_else(|| version.strip_suffix(".*")) {
            let newest = self.releases.iter().filter(|release| release.is_of(series));
            return newest.max_by(|left, right| compare_versions(&left.version, &right.version)).ok_or_else(|| unknown(version));
        }
        self.releases
            .iter()
            .find(|release| release.version == version)
            .or_else(|| self.releases.iter().find(|release| release.covers(version)))
            .ok_or_else(|| unknown(version))
    }
}

impl Engine {
    /// Whether it has a name, or is called so beside it.
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name) || self.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(name))
    }

    /// Whether a version is newer than every release that is known.
    #[must_use]
    pub fn is_newer(&self, version: &str) -> bool {
        is_version(version) && self.releases.iter().all(|release| compare_versions(version, &release.version) == Ordering::Greater)
    }
}

/// What does not begin with a number is no version, and so before or after none.
fn is_version(text: &str) -> bool {
    text.trim_start_matches('v').starts_with(|first: char| first.is_ascii_digit()) && !text.ends_with(".x") && !text.ends_with(".*")
}

impl Document for Engine {
    const SCHEMA: &str = schema::ENGINE;

    fn schema(&self) -> &str {
        &self.schema
    }

    fn inconsistencies(&self) -> Vec<(String, String)> {
        let mut inconsistencies = Vec::new();
        if self.releases.is_empty() {
            inconsistencies.push(("releases".to_owned(), "it lists no release".to_owned()));
        }
        for (index, _) in self.gpu_paths.iter().flat_map(|paths| paths.tries.iter().enumerate()).filter(|(_, path)| **path == Path::Auto) {
            inconsistencies
                .push((format!("gpu_paths.tries[{index}]"), "`auto` is what rdmadoctor chooses by, not a path of an engine".to_owned()));
        }
        for (index, release) in self.releases.iter().enumerate() {
            let path = format!("releases[{index}]");
            let place = format!("release {}", release.version);
            if release.sources.iter().all(|source| source.trim().is_empty()) {
                inconsistencies.push((format!("{path}.sources"), format!("{place} names no source")));
            }
            if release.queues.is_empty() == release.uses.is_none() {
                inconsistencies.push((path.clone(), format!("{place} needs either queues or uses")));
            }
            for (index, queue) in release.queues.iter().enumerate() {
                let path = format!("{path}.queues[{index}]");
                if let Err(error) = queue.type_of() {
                    inconsistencies.push((format!("{path}.qp_type"), format!("{place}, queue {}: {error}", queue.name)));
                }
                for (index, setting) in queue.settings.iter().enumerate().filter(|(_, setting)| runs_code(&setting.name)) {
                    let what = format!("{place}: {} tells a loader or a shell what to run, and is no engine's setting", setting.name);
                    inconsistencies.push((format!("{path}.settings[{index}].name"), what));
                }
                if queue.cq_depth.is_none() && !queue.follows.iter().any(|follow| follow.parameter == Parameter::CqDepth) {
                    inconsistencies.push((path, format!("{place}, queue {} has no cq_depth", queue.name)));
                }
            }
        }
        inconsistencies
    }
}

/// Whether a variable of this name makes a loader, a shell or an interpreter run or load what it names (ld.so(8), bash(1), python(1), perlrun(1)).
pub(crate) fn runs_code(name: &str) -> bool {
    const PREFIXES: [&str; 12] =
        ["LD_", "DYLD_", "GCONV_", "GLIBC_", "MALLOC_", "BASH", "PYTHON", "PERL", "RUBY", "NODE_", "JAVA_", "GIT_"];
    const NAMES: [&str; 10] = ["PATH", "ENV", "IFS", "SHELLOPTS", "PS4", "PROMPT_COMMAND", "HOME", "TMPDIR", "CDPATH", "SHELL"];
    let name = name.to_ascii_uppercase();
    NAMES.contains(&name.as_str()) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

impl Release {
    /// Whether it is of a series of versions: 1.2.3 is of 1.2 and of 1.
    fn is_of(&self, series: &str) -> bool {
        let rest = self.version.trim_start_matches('v').strip_prefix(series.trim_start_matches('v'));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }

    fn covers(&self, version: &str) -> bool {
        is_version(version)
            && (self.from.is_some() || self.before.is_some())
            && self.from.as_deref().is_none_or(|from| compare_versions(version, from) != Ordering::Less)
            && self.before.as_deref().is_none_or(|before| compare_versions(version, before) == Ordering::Less)
    }
}

impl Queue {
    fn type_of(&self) -> Result<QpType, String> {
        // EFA's scalable reliable datagram is a driver type in verbs.
        self.qp_type.parse()
    }

    /// The request that a device with these capabilities gets.
    #[must_use]
    pub fn ask(&self, origin: AskOrigin, attributes: Option<&DeviceAttributes>) -> Ask {
        let mut request = QpRequest {
            qp_type: self.type_of().unwrap_or(QpType::RC),
            max_send_wr: self.max_send_wr,
            max_recv_wr: self.max_recv_wr,
            max_send_sge: self.max_send_sge,
            max_recv_sge: self.max_recv_sge,
            max_inline_data: self.max_inline_data,
            cq_depth: self.cq_depth.unwrap_or(1),
            srq: self.srq,
        };
        let mut clamped = Vec::new();
        for follow in &self.follows {
            if let Some(published) = attributes.and_then(|attributes| follow.cap.published(attributes)) {
                request = follow.parameter.with(&request, crate::request::Value::Number(published));
                clamped.push(format!("{} is what the device publishes as {}: {published}", follow.parameter, follow.cap.name()));
            }
        }
        for clamp in &self.clamps {
            let Some(published) = attributes.and_then(|attributes| clamp.to.published(attributes)) else { continue };
            let Some(asked) = clamp.parameter.get(&request).number() else { continue };
            if published < asked {
                request = clamp.parameter.with(&request, crate::request::Value::Number(published));
                clamped.push(format!(
                    "the engine lowers {} from {asked} to the published {} {published}",
                    clamp.parameter,
                    clamp.to.name()
                ));
            }
        }
        Ask {
            origin,
            queue: self.name.clone(),
            request,
            probed: self.clamps.iter().filter(|clamp| clamp.to == Capability::Probed).map(|clamp| clamp.parameter).collect(),
            clamped,
            settings: self.settings.clone(),
            optional: self.optional,
        }
    }
}

/// Orders versions as PEP 440 and semantic versions do where they agree: numbers by value, `post` after the release, any other word
/// (rc, alpha, dev) before it.
fn compare_versions(left: &str, right: &str) -> Ordering {
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    enum Part {
        Before(String),
        End,
        After,
        Number(u64),
    }
    fn parts(version: &str) -> Vec<Part> {
        let mut parts = Vec::new();
        let mut rest = version.trim_start_matches('v');
        while let Some(first) = rest.chars().next() {
            let is_digit = first.is_ascii_digit();
            let end = rest.find(|c: char| c.is_ascii_digit() != is_digit || matches!(c, '.' | '-' | '_' | '+')).unwrap_or(rest.len());
            let word = &rest[..end.max(usize::from(end == 0) * first.len_utf8())];
            rest = &rest[word.len()..];
            match word {
                "." | "-" | "_" | "+" => {}
                "post" => parts.push(Part::After),
                _ if is_digit => parts.push(Part::Number(word.parse().unwrap_or(u64::MAX))),
                _ => parts.push(Part::Before(word.to_ascii_lowercase())),
            }
        }
        // Trailing zeros say nothing: 1.0 is 1.
        while parts.last() == Some(&Part::Number(0)) {
            parts.pop();
        }
        parts.push(Part::End);
        parts
    }
    parts(left).cmp(&parts(right))
}

/// The engine origin of asks of this release.
#[must_use]
pub fn origin(engine: &Engine, release: &Release) -> AskOrigin {
    AskOrigin::Engine { name: engine.name.clone(), version: release.version.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered() {
        let ordered = ["0.0.1rc1", "0.0.1", "0.0.1.post7", "0.0.1.post10", "0.0.2", "0.0.2.post1", "0.1.0", "0.1.23", "2.29.7", "2.30"];
        for (index, left) in ordered.iter().enumerate() {
            for (other, right) in ordered.iter().enumerate() {
                assert_eq!(compare_versions(left, right), index.cmp(&other), "{left} {right}");
            }
        }
        assert_eq!(compare_versions("1.0", "1"), Ordering::Equal);
        assert_eq!(compare_versions("v1.2", "1.2.0"), Ordering::Equal);
    }

    const FILE: &str = "
schema: rdmadoctor/engine/1
name: tiny
title: Tiny
connect: oob
on_refusal: {outcome: crashed, summary: dies}
releases:
  - version: '1.0'
    before: '2.0'
    sources: [a]
    queues:
      - {name: data, qp_type: RC, max_send_wr: 8, max_recv_wr: 8, max_send_sge: 4, max_recv_sge: 4, max_inline_data: 0, cq_depth: 65536,
         clamps: [{parameter: max_send_sge, to: max_sge}, {parameter: cq_depth, to: max_cqe}]}
  - version: '2.1'
    from: '2.0'
    sources: [a]
    queues:
      - {name: data, qp_type: RC, max_send_wr: 8, max_recv_wr: 8, max_send_sge: 1, max_recv_sge: 1, max_inline_data: 0,
         follows: [{parameter: cq_depth, cap: max_cqe}]}
";

    #[test]
    fn releases_are_found_by_version_and_range() {
        let engine = Engine::parse(FilePath::new("tiny.yaml"), FILE).unwrap();
        assert_eq!(engine.release(None).unwrap().version, "2.1");
        assert_eq!(engine.release(Some("1.7.3")).unwrap().version, "1.0");
        assert_eq!(engine.release(Some("9")).unwrap().version, "2.1");
        assert!(engine.is_newer("9") && engine.is_newer("v2.2") && !engine.is_newer("2.1") && !engine.is_newer("2.x"));
        assert_eq!(engine.release(Some("1.x")).unwrap().version, "1.0");
        assert_eq!(engine.release(Some("2.1.*")).unwrap().version, "2.1");
        assert!(engine.release(Some("3.x")).is_err());
        let engine = Engine::parse(FilePath::new("tiny.yaml"), &FILE.replace("    before: '2.0'\n", "")).unwrap();
        let error = engine.release(Some("0.5")).unwrap_err().to_string();
        assert!(error.contains("1.0") && error.contains("2.1"), "{error}");
    }

    #[test]
    fn engines_lower_and_follow_what_the_device_publishes() {
        let engine = Engine::parse(FilePath::new("tiny.yaml"), FILE).unwrap();
        let attributes = DeviceAttributes { max_sge: 1, max_cqe: 32767, ..DeviceAttributes::default() };
        let ask = engine.releases[0].queues[0].ask(AskOrigin::User, Some(&attributes));
        assert_eq!((ask.request.max_send_sge, ask.request.max_recv_sge, ask.request.cq_depth), (1, 4, 32767));
        assert_eq!(ask.clamped.len(), 2);
        let ask = engine.releases[1].queues[0].ask(AskOrigin::User, Some(&attributes));
        assert_eq!(ask.request.cq_depth, 32767);
    }

    #[test]
    fn a_damaged_file_is_refused_with_its_place() {
        for (damage, expected) in [
            (FILE.replace("title: Tiny", "titel: Tiny"), "tiny.yaml:4:1: unknown key `titel`; did you mean `title`?"),
            (FILE.replace("max_send_wr: 8,", "max_send_wr: many,"), "max_send_wr"),
            (FILE.replace("engine/1", "engine/9"), "tiny.yaml:2:9: schema is `rdmadoctor/engine/9`, expected `rdmadoctor/engine/1`"),
            (FILE.replace("sources: [a]", "sources: []"), "names no source"),
            (FILE.replace("qp_type: RC", "qp_type: XX"), "RC, UC, UD"),
            ("{".to_owned(), "tiny.yaml:"),
        ] {
            let error = Engine::parse(FilePath::new("tiny.yaml"), &damage).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("tiny.yaml"), "{error}");
        }
    }
}
