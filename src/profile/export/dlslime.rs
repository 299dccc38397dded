//! DLSlime: variables that its library reads when it is loaded. It has no configuration file.
//!
//! Sources: DLSlime fbb617e csrc/engine/rdma/rdma_env.h (0.0.1.post8, the first with settings), 45efc48 (post10), 4cd86c5
//! csrc/dlslime/engine/rdma/rdma_env.h (0.0.2.post1), 6e440d2 dlslime/csrc/engine/rdma/rdma_env.h; choice of the GID in rdma_context.cpp
//! beside each.

use rdmadoctor_types::LinkLayer;

use super::{Context, ExportError, Nic, Part, PartKind, SettingLine};
use crate::profile::ProfiledPort;

/// Releases that read no setting at all (PyPI sdists of both, csrc/engine/rdma/rdma_config.h).
const WITHOUT_SETTINGS: &[&str] = &["0.0.1.post6", "0.0.1.post7"];

/// Reads outstanding at once that DLSlime asks unless told otherwise; it aborts on a device with fewer (rdma_channel.cpp).
const READS: u32 = 16;

pub(super) fn export(context: &Context<'_>) -> Result<Vec<Part>, ExportError> {
    let version = context.engine.map_or("", |engine| engine.version.as_str());
    let lines = if WITHOUT_SETTINGS.contains(&version) { Vec::new() } else { lines(context)? };
    Ok(vec![context.part("env", "dlslime.env", PartKind::Env, lines)])
}

/// The variables; LMDeploy's processes read the same.
pub(super) fn lines(context: &Context<'_>) -> Result<Vec<SettingLine>, ExportError> {
    let shared = context.gid_line("SLIME_GID_INDEX").filter(|line| line.value != "0");
    // 0 cannot be said: DLSlime takes it for its own choice, which is the first RoCE v2 entry that is IPv4-mapped.
    let refused: Vec<String> = context
        .nics
        .iter()
        .filter(|nic| {
            nic.port.link_layer.as_ref().is_some_and(|layer| *layer == LinkLayer::Ethernet) && !chooses_right(nic) && shared.is_none()
        })
        .map(|nic| format!("{}: DLSlime finds no IPv4-mapped RoCE v2 address on it and aborts with \"Failed to find GID\"", nic.port.name))
        .collect();
    if !refused.is_empty() {
        let remedies = vec!["give the interface of the device an IPv4 address: `ip address add ADDRESS/BITS dev NETDEV`".to_owned()];
        return Err(ExportError::Impossible { engine: "dlslime".to_owned(), reasons: refused, remedies });
    }
    let mut lines = vec![context.devices_line("SLIME_VISIBLE_DEVICES", context.device_names().join(","))];
    lines.extend(shared);
    lines.extend(context.engine_lines("env"));
    let least = |port: &ProfiledPort| port.max_rd_atomic.as_ref().map(|reads| (reads.value, reads.evidence.clone()));
    if let Some((reads, evidence)) = context.nics.iter().filter_map(|nic| least(nic.port)).min().filter(|(reads, _)| *reads < READS) {
        for name in ["SLIME_MAX_RD_ATOMIC", "SLIME_MAX_DEST_RD_ATOMIC"] {
            let why = "DLSlime asks 16 and aborts on a device that publishes fewer".to_owned();
            lines.push(SettingLine { name: name.to_owned(), value: reads.to_string(), why, evidence: vec![evidence.clone()] });
        }
    }
    Ok(lines)
}

/// Whether DLSlime, left alone, takes an address that works.
fn chooses_right(nic: &Nic<'_>) -> bool {
    nic.port.gid.as_ref().is_some_and(|gid| gid.kind.as_deref() == Some("RoCE v2") && gid.ipv4.is_some())
}
