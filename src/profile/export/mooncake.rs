//! Mooncake's Transfer Engine: MC_* variables, the matrix of NICs by GPU (MC_CUSTOM_TOPO_JSON), and the store's device list.
//!
//! Sources: Mooncake 3b5a594 mooncake-common/src/environ.cpp (all MC_* and WITH_NVIDIA_PEERMEM), mooncake-transfer-engine/src/config.cpp,
//! src/transfer_engine_impl.cpp (MC_CUSTOM_TOPO_JSON is read where devices are found by the engine itself), src/topology.cpp (the matrix).

use super::{Context, ExportError, Part, PartKind, SettingLine};

pub(super) fn export(context: &Context<'_>) -> Result<Vec<Part>, ExportError> {
    let mut parts = vec![context.part("env", "mooncake.env", PartKind::Env, lines(context))];
    let topology = SettingLine {
        name: "MC_CUSTOM_TOPO_JSON".to_owned(),
        value: "topology.json".to_owned(),
        why: "NICs of each GPU and NUMA node: the nearest usable ones, then the others".to_owned(),
        evidence: [context.device_evidence(), context.gpu_evidence()].concat(),
    };
    parts.push(context.json_part("topology", TOPOLOGY, &context.priority_matrix(), vec![topology]));
    let store = serde_json::json!({"protocol": "rdma", "device_name": context.device_names().join(",")});
    parts.push(context.json_part(
        "store",
        "mooncake.json",
        &store,
        vec![context.devices_line("device_name", context.device_names().join(","))],
    ));
    Ok(parts)
}

/// The file of the matrix.
const TOPOLOGY: &str = "mooncake-topology.json";

/// The variables; vLLM's and SGLang's Mooncake connectors leave them to Mooncake too.
pub(super) fn lines(context: &Context<'_>) -> Vec<SettingLine> {
    let mut lines = context.engine_lines("env");
    lines.extend(context.gid_line("MC_GID_INDEX"));
    let port = context.nics.first().map(|nic| nic.port.port);
    if let Some(port) = port.filter(|port| *port != 1 && context.nics.iter().all(|nic| nic.port.port == *port)) {
        lines.push(context.devices_line("MC_IB_PORT", port.to_string()));
    }
    lines.extend(context.traffic_class_line("MC_IB_TC"));
    if let Some((path, evidence)) = context.gpu_path().filter(|(path, _)| matches!(*path, "dmabuf" | "peermem")) {
        let value = u32::from(path == "peermem").to_string();
        let why = format!("GPU memory reaches the NICs by {path}");
        lines.push(SettingLine { name: "WITH_NVIDIA_PEERMEM".to_owned(), value, why, evidence });
    }
    if let Some(directory) = context.wanted.directory {
        lines.push(SettingLine {
            name: "MC_CUSTOM_TOPO_JSON".to_owned(),
            value: directory.join(TOPOLOGY).display().to_string(),
            why: "NICs of each GPU and NUMA node".to_owned(),
            evidence: context.gpu_evidence(),
        });
    }
    lines
}
