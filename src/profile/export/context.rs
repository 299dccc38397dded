//! What exporters have: the engine, the ports that it can use, and lines that several engines share.

use super::parts::{Part, PartKind, SettingLine};
use super::{ExportError, Wanted};
use crate::profile::{Profile, ProfiledEngine, ProfiledGpu, ProfiledPort};

/// What exporters have.
pub(super) struct Context<'a> {
    pub(super) wanted: &'a Wanted<'a>,
    pub(super) profile: &'a Profile,
    pub(super) engine: Option<&'a ProfiledEngine>,
    pub(super) nics: Vec<Nic<'a>>,
}

/// A port that the engine can use.
#[derive(Clone)]
pub(super) struct Nic<'a> {
    pub(super) port: &'a ProfiledPort,
    /// Where its GID stands on this host now.
    pub(super) gid_index: Option<u32>,
    /// What proves that the engine can use it.
    pub(super) evidence: Vec<String>,
}

impl<'a> Context<'a> {
    /// Leaves the NICs of the GPU or rank that was asked for.
    pub(super) fn narrow(&mut self) -> Result<(), ExportError> {
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
    pub(super) fn narrow_to_rank(&mut self, rank: u32) -> Result<(), ExportError> {
        let count = self.nics.len().max(1);
        let own = usize::try_from(rank).unwrap_or(0) % count;
        self.nics = self.nics.get(own).cloned().into_iter().collect();
        Ok(())
    }

    /// The usable NICs that are as near to a GPU as the nearest one, best first.
    pub(super) fn nearest(&self, gpu: &ProfiledGpu) -> Vec<Nic<'a>> {
        let ranked = self.ranked(gpu);
        let nearest = ranked.first().map(|(_, affinity)| affinity.clone());
        ranked.into_iter().filter(|(_, affinity)| Some(affinity) == nearest.as_ref()).map(|(nic, _)| nic).collect()
    }

    /// All usable NICs as a GPU ranks them, with their affinity. One that has no place in the PCI tree comes last.
    pub(super) fn ranked(&self, gpu: &ProfiledGpu) -> Vec<(Nic<'a>, String)> {
        let mut ranked: Vec<(Nic<'a>, String)> = gpu
            .nics
            .iter()
            .filter_map(|known| Some((self.nics.iter().find(|nic| nic.port.name == known.name)?.clone(), known.affinity.clone())))
            .collect();
        let rest = self.nics.iter().filter(|nic| gpu.nics.iter().all(|known| known.name != nic.port.name));
        ranked.extend(rest.map(|nic| (nic.clone(), "unknown".to_owned())));
        ranked
    }

    pub(super) fn device_names(&self) -> Vec<&'a str> {
        self.nics.iter().map(|nic| nic.port.name.as_str()).collect()
    }

    /// Names with ports, `mlx5_0:1`.
    pub(super) fn device_ports(&self) -> Vec<String> {
        self.nics.iter().map(|nic| format!("{}:{}", nic.port.name, nic.port.port)).collect()
    }

    /// What proves that the devices can be used.
    pub(super) fn device_evidence(&self) -> Vec<String> {
        let mut ids: Vec<String> = self.nics.iter().flat_map(|nic| nic.evidence.iter().cloned()).collect();
        ids.sort_by_key(|id| id.trim_start_matches('e').parse::<u64>().unwrap_or(u64::MAX));
        ids.dedup();
        ids
    }

    /// A line that names the devices.
    pub(super) fn devices_line(&self, name: &str, value: String) -> SettingLine {
        let why = if self.engine.is_some() { "the devices on which the engine works" } else { "the devices with an active port" };
        SettingLine { name: name.to_owned(), value, why: why.to_owned(), evidence: self.device_evidence() }
    }

    /// The index that all the NICs' GIDs share, with the evidence of the GIDs; none where they differ or a port has no GID.
    pub(super) fn shared_gid_index(&self) -> Option<(u32, Vec<String>)> {
        let index = self.nics.first()?.gid_index?;
        let is_shared = self.nics.iter().all(|nic| nic.gid_index == Some(index));
        let evidence = self.nics.iter().filter_map(|nic| Some(nic.port.gid.as_ref()?.evidence.clone())).collect();
        is_shared.then_some((index, evidence))
    }

    /// A line for the shared index.
    pub(super) fn gid_line(&self, name: &str) -> Option<SettingLine> {
        let (index, evidence) = self.shared_gid_index()?;
        let why = "where the addresses of these ports stand on this host now".to_owned();
        Some(SettingLine { name: name.to_owned(), value: index.to_string(), why, evidence })
    }

    /// A line for the traffic class, where the host sets the same one for all the ports.
    pub(super) fn traffic_class_line(&self, name: &str) -> Option<SettingLine> {
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
    pub(super) fn engine_lines(&self, kind: &str) -> Vec<SettingLine> {
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
    pub(super) fn part(&self, name: &str, file: &str, kind: PartKind, lines: Vec<SettingLine>) -> Part {
        Part::of_lines(name, file, kind, &self.title(), lines, self.profile)
    }

    /// A part that is a JSON document; its reasons are told beside it, since JSON has no comments.
    pub(super) fn json_part(&self, name: &str, file: &str, value: &serde_json::Value, lines: Vec<SettingLine>) -> Part {
        let text = serde_json::to_string_pretty(value).unwrap_or_default() + "\n";
        Part { name: name.to_owned(), file: file.to_owned(), kind: PartKind::Json, text, settings: lines }
    }

    pub(super) fn title(&self) -> String {
        let engine = self.engine.map_or_else(String::new, |engine| format!(" ({} {})", engine.name, engine.version));
        format!("{}{engine} on {}", self.wanted.name, self.profile.host.name)
    }

    /// The GPUs with the NICs of each in two ranks, by key of Mooncake's matrix; processors by NUMA node besides.
    pub(super) fn priority_matrix(&self) -> serde_json::Value {
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
    pub(super) fn gpu_evidence(&self) -> Vec<String> {
        self.profile.gpus.iter().map(|gpu| gpu.evidence.clone()).collect()
    }

    /// A word on GPUs whose memory an engine cannot register that knows no dma-bufs, by what was tried. DLSlime gives `ibv_reg_mr` the
    /// address (2be3462 dlslime/csrc/engine/rdma/memory_pool.cpp), and LMDeploy moves its cache by DLSlime.
    pub(super) fn by_address_only(&self) -> Option<String> {
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
    pub(super) fn gpu_path(&self) -> Option<(&'a str, Vec<String>)> {
        let profile = self.profile;
        let first = profile.gpus.first()?.path.as_ref()?;
        let all = profile.gpus.iter().map(|gpu| gpu.path.as_ref()).collect::<Option<Vec<_>>>()?;
        all.iter()
            .all(|path| path.kind == first.kind)
            .then(|| (first.kind.as_str(), all.iter().map(|path| path.evidence.clone()).collect()))
    }
}
