//! From a profile to what an engine reads: its environment, configuration files and flags. One file an engine.
//!
//! Only settings that the engine's release really reads are written, each with the evidence that it rests on. Where no setting makes an
//! engine work, there is no export but the reason.

mod config_map;
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

use super::seen::best_gid;
use super::{EngineVerdict, Profile, ProfiledEngine, ProfiledGpu, ProfiledPort};
use crate::catalog::Catalog;
use crate::facts::Devices;
use crate::qp::newer_than_known;

pub use config_map::config_map;
pub use parts::{Part, PartKind, SettingLine};

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

type Exporter = fn(&Context<'_>) -> Result<Vec<Part>, ExportError>;

/// Names, the engine of the catalog whose verdict counts, and the exporter.
const EXPORTERS: &[(&str, Option<&str>, Exporter)] = &[
    ("dlslime", Some("dlslime"), dlslime::export),
    ("lmdeploy", Some("lmdeploy"), lmdeploy::export),
    ("mooncake", Some("mooncake"), mooncake::export),
    ("mooncake-tent", Some("mooncake-tent"), tent::export),
    ("sglang", Some("mooncake"), sglang::export),
    ("vllm", Some("mooncake"), vllm::export),
    ("nixl", Some("nixl"), nixl::export),
    ("ucx", Some("ucx-rc"), ucx::export),
    ("nccl", Some("nccl"), nccl::export),
    ("nvshmem", Some("nvshmem"), nvshmem::export),
    ("libfabric", Some("libfabric"), libfabric::export),
    ("env", None, env::export),
];

/// What `--for` takes.
pub fn names() -> impl Iterator<Item = &'static str> {
    EXPORTERS.iter().map(|(name, _, _)| *name)
}

/// What exporters have.
pub(super) struct Context<'a> {
    wanted: &'a Wanted<'a>,
    profile: &'a Profile,
    engine: Option<&'a ProfiledEngine>,
    nics: Vec<Nic<'a>>,
}

/// A port that the engine can use.
#[derive(Clone)]
pub(super) struct Nic<'a> {
    port: &'a ProfiledPort,
    /// Where its GID stands on this host now.
    gid_index: Option<u32>,
    /// What proves that the engine can use it.
    evidence: Vec<String>,
}

/// Makes the export. `devices` are this host's now: GID indexes are looked up there.
///
/// # Errors
/// The name or version is not known, the profile is of another host, or no setting makes the engine work.
pub fn export(profile: &Profile, devices: &Devices, catalog: &Catalog, wanted: &Wanted<'_>) -> Result<Export, ExportError> {
    let (_, engine_name, exporter) = EXPORTERS.iter().find(|(name, _, _)| *name == wanted.name).ok_or_else(|| {
        ExportError::Usage(format!("cannot export for `{}`; known are {}", wanted.name, names().collect::<Vec<_>>().join(", ")))
    })?;
    if profile.devices.is_empty() {
        let reasons = vec!["it has no RDMA device".to_owned()];
        return Err(ExportError::Impossible { engine: wanted.name.to_owned(), reasons, remedies: Vec::new() });
    }
    let engine = engine_name.map(|name| find_engine(profile, catalog, name, wanted.version)).transpose()?;
    let nics = match engine {
        Some(engine) => usable(profile, devices, engine, wanted.force)?,
        None => every(profile, devices)?,
    };
    let mut context = Context { wanted, profile, engine, nics };
    context.narrow()?;
    let parts = exporter(&context)?;
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
    if matches!(wanted.name, "dlslime" | "lmdeploy") {
        notes.extend(context.by_address_only());
    }
    for part in &parts {
        part.check()?;
    }
    Ok(Export {
        schema: "rdmadoctor/profile-export/1".to_owned(),
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
    let ports = profile.devices.iter().filter(|port| port.state.as_deref() == Some("active"));
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
    profile.devices.iter().find(|port| port.name == device && port.state.as_deref() == Some("active"))
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
            best_gid(found).map_or_else(String::new, |best| format!(" (its best is {})", best.gid))
        ))),
    }
}

impl<'a> Context<'a> {
    /// Leaves the NICs of the GPU or rank that was asked for.
    fn narrow(&mut self) -> Result<(), ExportError> {
        let count = u32::try_from(self.profile.gpus.len()).unwrap_or(u32::MAX);
        let gpu = match (self.wanted.gpu, self.wanted.rank) {
            (Some(gpu), _) => gpu,
            (None, Some((rank, world))) => {
                if world.is_some_and(|world| rank >= world) {
                    return Err(ExportError::Usage(format!("rank {rank} is not below the world's size")));
                }
                if count == 0 {
                    return self.narrow_to_rank(rank);
                }
                rank % count
            }
            (None, None) => return Ok(()),
        };
        let Some(gpu) = self.profile.gpus.iter().find(|known| known.index == gpu) else {
            return Err(ExportError::Usage(format!("the profile has no GPU {gpu}; it has {count} of them, counted from 0")));
        };
        let best = self.nearest(gpu);
        if best.is_empty() {
            return Err(ExportError::Usage(format!("no usable NIC is listed for GPU {}", gpu.index)));
        }
        self.nics = if self.wanted.rank.is_some() { best.into_iter().take(1).collect() } else { best };
        Ok(())
    }

    /// Without GPUs ranks take the NICs in turn.
    fn narrow_to_rank(&mut self, rank: u32) -> Result<(), ExportError> {
        let count = self.nics.len().max(1);
        let own = usize::try_from(rank).unwrap_or(0) % count;
        self.nics = self.nics.get(own).cloned().into_iter().collect();
        Ok(())
    }

    /// The usable NICs that are as near to a GPU as the nearest one, best first.
    fn nearest(&self, gpu: &ProfiledGpu) -> Vec<Nic<'a>> {
        let ranked = self.ranked(gpu);
        let nearest = ranked.first().map(|(_, affinity)| affinity.clone());
        ranked.into_iter().filter(|(_, affinity)| Some(affinity) == nearest.as_ref()).map(|(nic, _)| nic).collect()
    }

    /// All usable NICs as a GPU ranks them, with their affinity. One that has no place in the PCI tree comes last.
    fn ranked(&self, gpu: &ProfiledGpu) -> Vec<(Nic<'a>, String)> {
        let mut ranked: Vec<(Nic<'a>, String)> = gpu
            .nics
            .iter()
            .filter_map(|known| Some((self.nics.iter().find(|nic| nic.port.name == known.name)?.clone(), known.affinity.clone())))
            .collect();
        let rest = self.nics.iter().filter(|nic| gpu.nics.iter().all(|known| known.name != nic.port.name));
        ranked.extend(rest.map(|nic| (nic.clone(), "unknown".to_owned())));
        ranked
    }

    /// Names of the devices.
    fn device_names(&self) -> Vec<&'a str> {
        self.nics.iter().map(|nic| nic.port.name.as_str()).collect()
    }

    /// Names with ports, `mlx5_0:1`.
    fn device_ports(&self) -> Vec<String> {
        self.nics.iter().map(|nic| format!("{}:{}", nic.port.name, nic.port.port)).collect()
    }

    /// What proves that the devices can be used.
    fn device_evidence(&self) -> Vec<String> {
        let mut ids: Vec<String> = self.nics.iter().flat_map(|nic| nic.evidence.iter().cloned()).collect();
        ids.sort_by_key(|id| id.trim_start_matches('e').parse::<u64>().unwrap_or(u64::MAX));
        ids.dedup();
        ids
    }

    /// A line that names the devices.
    fn devices_line(&self, name: &str, value: String) -> SettingLine {
        let why = if self.engine.is_some() { "the devices on which the engine works" } else { "the devices with an active port" };
        SettingLine { name: name.to_owned(), value, why: why.to_owned(), evidence: self.device_evidence() }
    }

    /// The index that all the NICs' GIDs share, with the evidence of the GIDs; none where they differ or a port has no GID.
    fn shared_gid_index(&self) -> Option<(u32, Vec<String>)> {
        let index = self.nics.first()?.gid_index?;
        let is_shared = self.nics.iter().all(|nic| nic.gid_index == Some(index));
        let evidence = self.nics.iter().filter_map(|nic| Some(nic.port.gid.as_ref()?.evidence.clone())).collect();
        is_shared.then_some((index, evidence))
    }

    /// A line for the shared index.
    fn gid_line(&self, name: &str) -> Option<SettingLine> {
        let (index, evidence) = self.shared_gid_index()?;
        let why = "where the addresses of these ports stand on this host now".to_owned();
        Some(SettingLine { name: name.to_owned(), value: index.to_string(), why, evidence })
    }

    /// A line for the traffic class, where the host sets the same one for all the ports.
    fn traffic_class_line(&self, name: &str) -> Option<SettingLine> {
        let class = self.nics.first()?.port.traffic_class.as_ref()?;
        let is_shared = self.nics.iter().all(|nic| nic.port.traffic_class.as_ref().is_some_and(|other| other.value == class.value));
        let why = "the traffic class that the host sets".to_owned();
        is_shared.then(|| SettingLine {
            name: name.to_owned(),
            value: class.value.to_string(),
            why,
            evidence: vec![class.evidence.clone()],
        })
    }

    /// The engine's settings that attempts proved, of one kind.
    fn engine_lines(&self, kind: &str) -> Vec<SettingLine> {
        let settings = self.engine.into_iter().flat_map(|engine| &engine.settings).filter(|setting| setting.kind == kind);
        settings
            .map(|setting| SettingLine {
                name: setting.name.clone(),
                value: setting.value.clone(),
                why: "refused without it, granted with it".to_owned(),
                evidence: vec![setting.evidence.clone()],
            })
            .collect()
    }

    /// A part of `NAME=VALUE` lines.
    fn part(&self, name: &str, file: &str, kind: PartKind, lines: Vec<SettingLine>) -> Part {
        Part::of_lines(name, file, kind, &self.title(), lines, self.profile)
    }

    /// A part that is a JSON document; its reasons are told beside it, since JSON has no comments.
    fn json_part(&self, name: &str, file: &str, value: &serde_json::Value, lines: Vec<SettingLine>) -> Part {
        let text = serde_json::to_string_pretty(value).unwrap_or_default() + "\n";
        Part { name: name.to_owned(), file: file.to_owned(), kind: PartKind::Json, text, settings: lines }
    }

    fn title(&self) -> String {
        let engine = self.engine.map_or_else(String::new, |engine| format!(" ({} {})", engine.name, engine.version));
        format!("{}{engine} on {}", self.wanted.name, self.profile.host.name)
    }

    /// The GPUs with the NICs of each in two ranks, by key of Mooncake's matrix; processors by NUMA node besides.
    fn priority_matrix(&self) -> serde_json::Value {
        let mut matrix = serde_json::Map::new();
        let mut nodes: Vec<u32> = self.profile.devices.iter().filter_map(|port| port.numa_node).collect();
        nodes.extend(self.profile.gpus.iter().filter_map(|gpu| gpu.numa_node));
        nodes.sort_unstable();
        nodes.dedup();
        if nodes.is_empty() {
            nodes.push(0);
        }
        let names = |nics: Vec<&Nic<'_>>| serde_json::Value::from(nics.iter().map(|nic| nic.port.name.clone()).collect::<Vec<_>>());
        for node in nodes {
            // A software device belongs to every node.
            let (near, far): (Vec<&Nic<'_>>, Vec<&Nic<'_>>) =
                self.nics.iter().partition(|nic| nic.port.numa_node.is_none_or(|own| own == node));
            matrix.insert(format!("cpu:{node}"), serde_json::json!([names(near), names(far)]));
        }
        for gpu in &self.profile.gpus {
            let near = self.nearest(gpu);
            let far: Vec<Nic<'_>> = self
                .ranked(gpu)
                .into_iter()
                .map(|(nic, _)| nic)
                .filter(|nic| near.iter().all(|one| one.port.name != nic.port.name))
                .collect();
            matrix.insert(format!("cuda:{}", gpu.index), serde_json::json!([names(near.iter().collect()), names(far.iter().collect())]));
        }
        matrix.into()
    }

    /// Evidence of the PCI tree's places of all GPUs.
    fn gpu_evidence(&self) -> Vec<String> {
        self.profile.gpus.iter().map(|gpu| gpu.evidence.clone()).collect()
    }

    /// A word on GPUs whose memory an engine cannot register that knows no dma-bufs, by what was tried. DLSlime gives `ibv_reg_mr` the
    /// address (2be3462 dlslime/csrc/engine/rdma/memory_pool.cpp), and LMDeploy moves its cache by DLSlime.
    fn by_address_only(&self) -> Option<String> {
        let failed = |gpu: &'a ProfiledGpu| gpu.path.as_ref()?.failed.iter().find(|way| way.kind == "peermem").map(|way| (gpu, way));
        let gpus: Vec<_> = self.profile.gpus.iter().filter_map(failed).collect();
        let (_, first) = gpus.first()?;
        let indices: Vec<String> = gpus.iter().map(|(gpu, _)| gpu.index.to_string()).collect();
        Some(format!(
            "memory of GPU {} cannot be registered by its address, which is the only way that DLSlime knows: {}; it needs nvidia_peermem and an \
             ib_core that takes it (`rdmadoctor modules nvidia_peermem`), or data in host memory",
            indices.join(", "),
            first.why
        ))
    }

    /// The one path of all GPUs' memory, where it is known.
    fn gpu_path(&self) -> Option<(&'a str, Vec<String>)> {
        let profile = self.profile;
        let first = profile.gpus.first()?.path.as_ref()?;
        let all = profile.gpus.iter().map(|gpu| gpu.path.as_ref()).collect::<Option<Vec<_>>>()?;
        all.iter()
            .all(|path| path.kind == first.kind)
            .then(|| (first.kind.as_str(), all.iter().map(|path| path.evidence.clone()).collect()))
    }
}
