//! LMDeploy: the environment of its engine processes, which DLSlime reads there, and flags of engine and proxy.
//!
//! Sources: LMDeploy v0.16.0 (1208bf006) lmdeploy/cli/serve.py, lmdeploy/cli/utils.py (flags), lmdeploy/serve/proxy/proxy.py,
//! lmdeploy/pytorch/disagg/backend/dlslime.py (device `available_nic()[rank % n]`, port 1), lmdeploy/pytorch/envs.py (what the Ray executor
//! hands on).

use rdmadoctor_types::LinkLayer;

use super::{Context, ExportError, Part, PartKind, SettingLine, dlslime};

pub(super) fn export(context: &Context<'_>) -> Result<Vec<Part>, ExportError> {
    if let Some(nic) = context.nics.iter().find(|nic| nic.port.port != 1) {
        return Err(ExportError::Impossible {
            engine: "lmdeploy".to_owned(),
            reasons: vec![format!("{}: its active port is {}, and LMDeploy uses port 1 only", nic.port.name, nic.port.port)],
            remedies: Vec::new(),
        });
    }
    let is_infiniband = context.nics.iter().all(|nic| nic.port.link_layer.as_ref().is_some_and(|layer| *layer == LinkLayer::Infiniband));
    let link = if is_infiniband { "IB" } else { "RoCE" };
    let flag = |name: &str, value: &str, why: &str, evidence: Vec<String>| SettingLine {
        name: name.to_owned(),
        value: value.to_owned(),
        why: why.to_owned(),
        evidence,
    };
    let engine = vec![
        flag("--backend", "pytorch", "only this backend moves caches between processes", Vec::new()),
        flag("--migration-backend", "DLSlime", "the one whose queue pairs were tried", context.device_evidence()),
        flag("--role", "Prefill", "or Decode, on the other side", Vec::new()),
    ];
    let proxy = vec![
        flag("--serving-strategy", "DistServe", "prefill and decode in different processes", Vec::new()),
        flag("--migration-protocol", "RDMA", "what this profile is about", Vec::new()),
        flag("--link-type", link, "the link layer of the ports", context.device_evidence()),
    ];
    Ok(vec![
        context.part("env", "lmdeploy.env", PartKind::Env, dlslime::lines(context)?),
        context.part("engine-flags", "lmdeploy-engine.flags", PartKind::Flags, engine),
        context.part("proxy-flags", "lmdeploy-proxy.flags", PartKind::Flags, proxy),
        ranks(context),
    ])
}

/// The NIC of each rank. LMDeploy takes NICs in turn by rank, whichever is near, so each process must see only its own.
fn ranks(context: &Context<'_>) -> Part {
    let mut lines = Vec::new();
    for gpu in &context.profile.gpus {
        if let Some(nic) = context.nearest(gpu).first() {
            lines.push(SettingLine {
                name: format!("rank.{}.SLIME_VISIBLE_DEVICES", gpu.index),
                value: nic.port.name.clone(),
                why: format!(
                    "for the process of GPU {} ({}). With the Ray executor it must stand in the environment of the raylet (or of its container) on every host, since LMDeploy hands on only names that it reads itself",
                    gpu.index, gpu.pci
                ),
                evidence: vec![gpu.evidence.clone()],
            });
        }
    }
    context.part("ranks", "lmdeploy-ranks.conf", PartKind::Conf, lines)
}
