//! From a profile to what an engine reads: its environment, configuration files and flags. One file an engine.
//!
//! Only settings that the engine's release really reads are written, each with the evidence that it rests on. Where no setting makes an
//! engine work, there is no export but the reason.

mod config_map;
mod context;
mod dlslime;
mod env;
mod libfabric;
mod lmdeploy;
mod mooncake;
mod nccl;
mod nixl;
mod nvshmem;
mod parts;
mod sglang;
mod tent;
mod ucx;
mod vllm;

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{EngineSetting, EngineVerdict, Profile, ProfiledEngine, ProfiledPort};
use crate::catalog::Catalog;
use crate::catalog::engine::runs_code;
use crate::devices::Devices;
use crate::qp::newer_than_known;
use crate::schema;
use context::{Context, Nic};

pub use config_map::config_map;
pub(crate) use parts::{Part, PartKind, SettingLine};

/// The document of `profile export`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Export {
    /// `rdmadoctor/profile-export/1`.
    pub schema: String,
    /// For which engine.
    pub engine: String,
    /// The release whose requests were tried; absent where there is none.
    pub version: Option<String>,
    /// What it reads; the first is what is printed unless another is asked for.
    pub parts: Vec<Part>,
    /// What the parts cannot say.
    pub notes: Vec<String>,
}

/// Why there is no export.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// The question is wrong.
    #[error("{0}")]
    Usage(String),
    /// No setting makes the engine work.
    #[error("no setting makes {engine} work on this host:{}{}", lines("", reasons), lines("remedy: ", remedies))]
    Impossible {
        /// The engine with its version.
        engine: String,
        /// Device by device.
        reasons: Vec<String>,
        /// What would help.
        remedies: Vec<String>,
    },
    /// The profile is not of the host that the export is for.
    #[error("{0}")]
    Elsewhere(String),
}

fn lines(head: &str, texts: &[String]) -> String {
    texts.iter().map(|text| format!("\n  {head}{text}")).collect()
}

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Wanted<'a> {
    /// The name, as [`names`] has it.
    pub name: &'a str,
    /// The engine's version; the newest of the profile otherwise.
    pub version: Option<&'a str>,
    /// Only for this GPU, by its place in the profile.
    pub gpu: Option<u32>,
    /// Only for this rank of as many.
    pub rank: Option<(u32, Option<u32>)>,
    /// Where files lie that settings name; without it those settings are left out.
    pub directory: Option<&'a Path>,
    /// Whether engines that fail are exported all the same, as they are tried.
    pub force: bool,
}

/// What `--for` takes: a name and its file's function.
struct Exporter {
    name: &'static str,
    /// The engine of the catalog whose verdict counts.
    engine: Option<&'static str>,
    export: fn(&Context<'_>) -> Result<Vec<Part>, ExportError>,
    /// Whether the engine registers GPU memory by its address alone, and knows no dma-bufs.
    registers_by_address: bool,
}

const fn exporter(
    name: &'static str,
    engine: Option<&'static str>,
    export: fn(&Context<'_>) -> Result<Vec<Part>, ExportError>,
) -> Exporter {
    Exporter { name, engine, export, registers_by_address: false }
}

const EXPORTERS: &[Exporter] = &[
    Exporter { registers_by_address: true, ..exporter("dlslime", Some("dlslime"), dlslime::export) },
    Exporter { registers_by_address: true, ..exporter("lmdeploy", Some("lmdeploy"), lmdeploy::export) },
    exporter("mooncake", Some("mooncake"), mooncake::export),
    exporter("mooncake-tent", Some("mooncake-tent"), tent::export),
    exporter("sglang", Some("mooncake"), sglang::export),
    exporter("vllm", Some("mooncake"), vllm::export),
    exporter("nixl", Some("nixl"), nixl::export),
    exporter("ucx", Some("ucx-rc"), ucx::export),
    exporter("nccl", Some("nccl"), nccl::export),
    exporter("nvshmem", Some("nvshmem"), nvshmem::export),
    exporter("libfabric", Some("libfabric"), libfabric::export),
    exporter("env", None, env::export),
];

/// What `--for` takes.
pub fn names() -> impl Iterator<Item = &'static str> {
    EXPORTERS.iter().map(|exporter| exporter.name)
}

/// Makes the export. `devices` are this host's now: GID indexes are looked up there.
///
/// # Errors
/// The name or version is not known, the profile is of another host, or no setting makes the engine work.
pub fn export(profile: &Profile, devices: &Devices, catalog: &Catalog, wanted: &Wanted<'_>) -> Result<Export, ExportError> {
    let exporter = EXPORTERS.iter().find(|exporter| exporter.name == wanted.name).ok_or_else(|| {
        ExportError::Usage(format!("cannot export for `{}`; known are {}", wanted.name, names().collect::<Vec<_>>().join(", ")))
    })?;
    if profile.devices.is_empty() {
        let reasons = vec!["it has no RDMA device".to_owned()];
        return Err(ExportError::Impossible { engine: wanted.name.to_owned(), reasons, remedies: Vec::new() });
    }
    let engine = exporter.engine.map(|name| find_engine(profile, catalog, name, wanted.version)).transpose()?;
    engine.map_or(Ok(()), |engine| known_settings(engine, catalog))?;
    let nics = match engine {
        Some(engine) => usable(profile, devices, engine, wanted.force)?,
        None => every(profile, devices)?,
    };
    let mut context = Context { wanted, profile, engine, nics };
    context.narrow()?;
    let parts = (exporter.export)(&context)?;
    let mut notes = vec![if profile.host.model.is_some() {
        "the profile is of a modelled host: nothing of this was tried on real devices".to_owned()
    } else if profile.validated {
        "every entry of the profile was attempted or measured on this host".to_owned()
    } else {
        format!("the profile has {} entries that were not validated; `rdmadoctor profile show` lists them", profile.unvalidated.len())
    }];
    if let (Some(engine), Some(asked)) = (engine, wanted.version)
        && catalog.engines().iter().any(|known| known.name == engine.name && known.is_newer(asked))
    {
        notes.push(newer_than_known(asked, &engine.version));
    }
    for left_out in engine.into_iter().flat_map(|engine| &engine.devices).filter(|device| device.verdict == EngineVerdict::Fails) {
        notes.extend(left_out.obstacles.iter().map(|obstacle| format!("{} is left out: {}", left_out.name, obstacle.summary)));
    }
    if exporter.registers_by_address {
        notes.extend(context.by_address_only());
    }
    for part in &parts {
        part.check()?;
    }
    Ok(Export {
        schema: schema::PROFILE_EXPORT.to_owned(),
        engine: wanted.name.to_owned(),
        version: engine.map(|engine| engine.version.clone()),
        parts,
        notes,
    })
}

fn find_engine<'a>(profile: &'a Profile, catalog: &Catalog, name: &str, version: Option<&str>) -> Result<&'a ProfiledEngine, ExportError> {
    let known: Vec<&ProfiledEngine> = profile.engines.iter().filter(|engine| engine.name == name).collect();
    let usage = |error: crate::catalog::CatalogError| ExportError::Usage(error.to_string());
    let release = match version {
        // The profile may have been written with engines that this program does not know.
        Some(version) if known.iter().any(|engine| engine.version == version) => version.to_owned(),
        Some(version) => catalog.find(&format!("{name}@{version}")).map_err(usage)?.1.version.clone(),
        None => known.last().map(|engine| engine.version.clone()).unwrap_or_default(),
    };
    known.into_iter().find(|engine| engine.version == release).ok_or_else(|| {
        let wanted = if release.is_empty() { name.to_owned() } else { format!("{name}@{release}") };
        ExportError::Usage(format!(
            "the profile has no verdict on {wanted}; write it again with `rdmadoctor profile write --engine {wanted}`"
        ))
    })
}

/// Refuses settings that the engine's entry in the catalog, or that of an engine which it uses, does not have: a profile is a file that others may write, and an engine's environment can make it run
/// their code.
fn known_settings(engine: &ProfiledEngine, catalog: &Catalog) -> Result<(), ExportError> {
    let is_used = |name: &str| {
        let own = catalog.engines().iter().filter(|known| known.name == engine.name).flat_map(|known| &known.releases);
        own.filter_map(|release| release.uses.as_ref()).any(|uses| uses.engine == name)
    };
    let is_known = |setting: &EngineSetting| {
        let entries = catalog.engines().iter().filter(|known| known.name == engine.name || is_used(&known.name));
        let queues = entries.flat_map(|known| &known.releases).flat_map(|release| &release.queues);
        queues.flat_map(|queue| &queue.settings).any(|known| known.name == setting.name && known.kind == setting.kind)
    };
    let is_plain = |value: &str| value.len() <= 64 && value.chars().all(|c| c.is_ascii_alphanumeric() || "._:+-".contains(c));
    match engine.settings.iter().find(|setting| !is_known(setting) || runs_code(&setting.name) || !is_plain(&setting.value)) {
        None => Ok(()),
        Some(setting) if is_known(setting) => Err(ExportError::Usage(format!(
            "the profile gives {} the value {:?}, which no attempt can have proved",
            setting.name, setting.value
        ))),
        Some(setting) => Err(ExportError::Usage(format!(
            "the profile has the setting {:?} for {}, which its entry in the catalog does not have; --catalog DIR adds engines",
            setting.name, engine.name
        ))),
    }
}

/// The ports of devices on which the engine works.
fn usable<'a>(profile: &'a Profile, devices: &Devices, engine: &'a ProfiledEngine, force: bool) -> Result<Vec<Nic<'a>>, ExportError> {
    let mut nics = Vec::new();
    let mut reasons = Vec::new();
    for device in &engine.devices {
        let works = matches!(device.verdict, EngineVerdict::Works | EngineVerdict::WorksWithSettings);
        let is_forced = force && device.verdict == EngineVerdict::Fails;
        if !works && !is_forced {
            let words: Vec<&str> = device.obstacles.iter().map(|obstacle| obstacle.summary.as_str()).collect();
            let words = if words.is_empty() { "it was not tried".to_owned() } else { words.join("; ") };
            reasons.push(format!("{}: {words}", device.name));
            continue;
        }
        match active_port(profile, &device.name) {
            None => reasons.push(format!("{}: no port of it is active", device.name)),
            Some(port) => nics.push(Nic { port, gid_index: resolve(devices, port)?, evidence: device.evidence.clone() }),
        }
    }
    if nics.is_empty() {
        if reasons.is_empty() {
            reasons.push("it has no RDMA device".to_owned());
        }
        let engine_name = format!("{} {}", engine.name, engine.version);
        return Err(ExportError::Impossible { engine: engine_name, reasons, remedies: engine.remedies.clone() });
    }
    Ok(nics)
}

/// Every active port, whatever engines make of it.
fn every<'a>(profile: &'a Profile, devices: &Devices) -> Result<Vec<Nic<'a>>, ExportError> {
    let ports = profile.devices.iter().filter(|port| port.is_active());
    let nics: Vec<Nic<'a>> = ports
        .map(|port| {
            Ok(Nic { port, gid_index: resolve(devices, port)?, evidence: port.gid.iter().map(|gid| gid.evidence.clone()).collect() })
        })
        .collect::<Result<_, ExportError>>()?;
    if nics.is_empty() {
        let reasons = vec!["it has no RDMA device with an active port".to_owned()];
        return Err(ExportError::Impossible { engine: "any engine".to_owned(), reasons, remedies: Vec::new() });
    }
    Ok(nics)
}

fn active_port<'a>(profile: &'a Profile, device: &str) -> Option<&'a ProfiledPort> {
    profile.devices.iter().find(|port| port.name == device && port.is_active())
}

/// The index of a port's GID on this host now.
fn resolve(devices: &Devices, port: &ProfiledPort) -> Result<Option<u32>, ExportError> {
    let Some(gid) = &port.gid else { return Ok(None) };
    let found = devices.devices.iter().find(|device| device.name == port.name);
    let found = found.and_then(|device| device.ports.iter().find(|known| known.port == port.port));
    let Some(found) = found else {
        return Err(ExportError::Elsewhere(format!(
            "this host has no {} port {}: the profile is of another host or time",
            port.name, port.port
        )));
    };
    match found.gids.iter().find(|known| known.gid == gid.value && known.kind == gid.kind) {
        Some(known) => Ok(Some(known.index)),
        None => Err(ExportError::Elsewhere(format!(
            "{} port {} has no GID {} now{}: write the profile again with `rdmadoctor profile write`",
            port.name,
            port.port,
            gid.value,
            found.best_gid().map_or_else(String::new, |best| format!(" (its best is {})", best.gid))
        ))),
    }
}
