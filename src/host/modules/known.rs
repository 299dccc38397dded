//! Which kernel modules matter, why, and which of their parameters do.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::host::families;

/// A module that rdmadoctor reports on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "KnownModule")]
pub struct Known {
    /// As the kernel writes it, with `_`.
    pub name: Cow<'static, str>,
    /// A function that only this module has: in /proc/kallsyms it shows a module that is built in and has neither parameters nor a version.
    /// Absent where the module is never built in.
    pub symbol: Option<Cow<'static, str>>,
    /// What it is for, for the reader of a report.
    pub why: Cow<'static, str>,
    /// Parameters that matter.
    #[serde(default)]
    pub parameters: Cow<'static, [KnownParameter]>,
}

/// A parameter with what it decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KnownParameter {
    pub name: Cow<'static, str>,
    /// What it decides.
    pub meaning: Cow<'static, str>,
}

const fn plain(name: &'static str, symbol: &'static str, why: &'static str) -> Known {
    let symbol = if symbol.is_empty() { None } else { Some(Cow::Borrowed(symbol)) };
    Known { name: Cow::Borrowed(name), why: Cow::Borrowed(why), symbol, parameters: Cow::Borrowed(&[]) }
}

/// What every host is asked for.
pub(super) static ALWAYS: &[Known] = &[
    Known {
        parameters: Cow::Borrowed(&[KnownParameter {
            name: Cow::Borrowed("netns_mode"),
            meaning: Cow::Borrowed(
                "Y: every network namespace sees all RDMA devices; N: a device is seen only in the namespace that it was moved to",
            ),
        }]),
        name: Cow::Borrowed("ib_core"),
        symbol: Some(Cow::Borrowed("ib_register_device")),
        why: Cow::Borrowed("the kernel's RDMA core: without it there are no RDMA devices"),
    },
    plain("ib_uverbs", "ib_uverbs_open", "gives programs the device nodes /dev/infiniband/uverbsN, which libibverbs opens"),
    plain("iw_cm", "iw_cm_connect", "connection management for iWARP devices"),
    plain("rdma_cm", "rdma_resolve_addr", "connection management by IP address"),
    plain(
        "rdma_ucm",
        "ucma_open",
        "gives programs /dev/infiniband/rdma_cm, which librdmacm opens; iWARP devices cannot be used without it",
    ),
    plain("nvidia", "", "NVIDIA's GPU driver"),
    plain("nvidia_uvm", "", "NVIDIA's unified memory: CUDA does not start without it"),
    plain(
        "nvidia_peermem",
        "",
        "lets ibv_reg_mr take GPU memory, where dma-buf is not used; needs an ib_core with ib_register_peer_memory_client",
    ),
    plain("nv_peer_mem", "", "the older name of nvidia_peermem, from a package of its own"),
    plain("gdrdrv", "", "GDRCopy: lets the processor reach GPU memory for small copies"),
];

/// Every module that is known: those of every host, then those of the families, which are reported only on a host that has such a device or
/// PCI function, or when asked for.
pub(super) fn all() -> impl Iterator<Item = &'static Known> {
    ALWAYS.iter().chain(families::all().flat_map(|family| family.modules.iter()))
}

/// The entry of a name, with `-` and `_` alike.
pub(super) fn find(name: &str) -> Option<&'static Known> {
    let name = super::normal(name);
    all().find(|known| known.name == name)
}
