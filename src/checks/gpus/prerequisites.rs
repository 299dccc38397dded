//! What each way from GPU memory to a NIC needs, one by one: met, missing, or not known.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ways::{Feasibility, flavour_way, kernel_way, nic_way};
use crate::checks::modules::peer_memory_module;
use crate::facts::Facts;
use crate::gpu::{GpuFacts, Path};
use crate::host::limits::LimitValue;
use crate::host::modules::SymbolPresence;
use crate::units::about_size;

/// Whether something is there that is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Met {
    #[serde(rename = "met")]
    Present,
    /// It is not.
    Missing,
    /// That cannot be seen here.
    Unknown,
}

/// Something that a way needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Prerequisite {
    /// The way.
    pub path: Path,
    pub needs: String,
    pub met: Met,
    pub seen: Option<String>,
}

impl From<Feasibility> for Met {
    fn from(way: Feasibility) -> Self {
        match way {
            Feasibility::Open => Self::Present,
            Feasibility::Closed => Self::Missing,
            Feasibility::Unknown => Self::Unknown,
        }
    }
}

fn is(known: Option<bool>) -> Met {
    known.map_or(Met::Unknown, |is_so| if is_so { Met::Present } else { Met::Missing })
}

/// All of a GPU.
#[must_use]
pub fn prerequisites(facts: &Facts, gpu: &GpuFacts) -> Vec<Prerequisite> {
    let mut found = Vec::new();
    let mut add = |path: Path, needs: &str, met: Met, seen: Option<String>| {
        found.push(Prerequisite { path, needs: needs.to_owned(), met, seen });
    };
    let modules = &facts.modules;
    let said = gpu.cuda;
    let attribute = |name: &str, value: Option<bool>| value.map(|value| format!("CU_DEVICE_ATTRIBUTE_{name} is {}", u8::from(value)));
    let banner = modules.nvidia.as_ref().map(|nvidia| nvidia.banner.clone());

    let (api, seen) = match &modules.peer_memory_api {
        SymbolPresence::Present { module } => {
            (Met::Present, Some(format!("ib_register_peer_memory_client in {}", module.as_deref().unwrap_or("the kernel"))))
        }
        SymbolPresence::Absent => (Met::Missing, Some("no symbol ib_register_peer_memory_client".to_owned())),
        SymbolPresence::Unreadable { why } => (Met::Unknown, Some(why.clone())),
    };
    add(Path::Peermem, "an ib_core that takes peer-memory clients", api, seen);
    let is_loaded = match (peer_memory_module(facts), facts.in_kernel("nvidia_peermem")) {
        (Some(name), _) => (Met::Present, Some(format!("{name} is loaded"))),
        (None, Some(false)) => (Met::Missing, Some("neither nvidia_peermem nor nv_peer_mem is loaded".to_owned())),
        (None, _) => (Met::Unknown, None),
    };
    add(Path::Peermem, "nvidia_peermem, or nv_peer_mem", is_loaded.0, is_loaded.1);
    let direct = said.and_then(|said| said.gpu_direct_rdma_supported);
    add(Path::Peermem, "a GPU with GPUDirect RDMA", is(direct), attribute("GPU_DIRECT_RDMA_SUPPORTED", direct));

    add(Path::Dmabuf, "the open GPU driver", flavour_way(facts).into(), banner.clone());
    add(Path::Dmabuf, "kernel 5.12 or later", kernel_way(facts).into(), facts.host.system.kernel_release.clone());
    let option = facts.host.system.config.as_ref().map(|config| config.value("CONFIG_DMA_SHARED_BUFFER").to_owned());
    let is_built = option.as_ref().map(|value| value != "n");
    add(Path::Dmabuf, "a kernel with dma-bufs", is(is_built), option.map(|value| format!("CONFIG_DMA_SHARED_BUFFER={value}")));
    let dma_buf = said.and_then(|said| said.dma_buf_supported);
    add(Path::Dmabuf, "a GPU whose memory is exported", is(dma_buf), attribute("DMA_BUF_SUPPORTED", dma_buf));
    for nic in facts.rdma_devices() {
        let driver = nic.driver.clone().map(|driver| format!("{driver}, by the kernel's sources of its version"));
        add(Path::Dmabuf, &format!("a NIC driver with dma-bufs, for {}", nic.name), nic_way(facts, nic).into(), driver);
    }

    let cuda = facts.gpus.as_ref().and_then(|gpus| gpus.cuda.driver_version.clone());
    let is_new = cuda.as_deref().and_then(version).map(|version| version >= (12, 8));
    add(Path::DataDirect, "CUDA 12.8 or later", is(is_new), cuda.map(|version| format!("the driver takes CUDA {version}")));
    let has_mlx5 = facts.rdma_devices().iter().any(|nic| nic.driver.as_deref().is_some_and(|driver| driver.starts_with("mlx5")));
    let (met, seen) = if has_mlx5 { (Met::Unknown, None) } else { (Met::Missing, Some("there is no NIC of mlx5".to_owned())) };
    add(Path::DataDirect, "a NIC of mlx5 with a data-direct device", met, seen);

    let limits = &facts.host.limits.own;
    let limit = limits.memlock().map(|limit| match limit.soft {
        LimitValue::Unlimited => (true, "Max locked memory is unlimited".to_owned()),
        LimitValue::Value(value) => (value >= STAGING, format!("Max locked memory is {}", about_size(value))),
    });
    let locks = match (limits.has_ipc_lock(), limit) {
        (Some(true), _) => (Met::Present, Some("CAP_IPC_LOCK is in force".to_owned())),
        (_, Some((is_enough, seen))) => (is(Some(is_enough)), Some(seen)),
        (_, None) => (Met::Unknown, None),
    };
    add(Path::Staged, "locked host memory for the chunks", locks.0, locks.1);
    found
}

/// What the chunks of a staged transfer take on one end at least.
const STAGING: u64 = 8 << 20;

/// `12.8` as numbers.
fn version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
