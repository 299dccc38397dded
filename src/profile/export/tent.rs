//! Mooncake's TENT: one JSON document, named by MC_TENT_CONF and used with MC_USE_TENT.
//!
//! Sources: Mooncake 3b5a594 mooncake-transfer-engine/tent/config/transfer-engine.json and tent/src/common/config.cpp (the keys, and that
//! MC_MAX_* win over them since 0.3.11), mooncake-common/src/environ.cpp (MC_USE_TENT, MC_TENT_CONF).

use serde_json::{Value, json};

use super::{Context, ExportError, Part, PartKind, SettingLine};

const FILE: &str = "transfer-engine.json";

/// Variables and the keys that say the same.
const KEYS: &[(&str, &str)] = &[
    ("MC_MAX_WR", "transports.rdma.endpoint.max_qp_wr"),
    ("MC_MAX_SGE", "transports.rdma.endpoint.max_sge"),
    ("MC_MAX_INLINE", "transports.rdma.endpoint.max_inline_bytes"),
    ("MC_MAX_CQE_PER_CTX", "transports.rdma.device.max_cqe"),
];

pub(super) fn export(context: &Context<'_>) -> Result<Vec<Part>, ExportError> {
    let mut lines = vec![context.devices_line("topology.rdma_whitelist", context.device_names().join(","))];
    let mut document = json!({"topology": {"rdma_whitelist": context.device_names(), "priority_matrix": context.priority_matrix()}});
    let mut set = |line: SettingLine| {
        let number = line.value.parse::<u64>().map_or_else(|_| Value::from(line.value.clone()), Value::from);
        let mut place = &mut document;
        for key in line.name.split('.') {
            place = &mut place[key];
        }
        *place = number;
        lines.push(line);
    };
    if let Some(gid) = context.gid_line("transports.rdma.device.gid_index") {
        set(gid);
    }
    let port = context.nics.first().map(|nic| nic.port.port);
    if let Some(port) = port.filter(|port| context.nics.iter().all(|nic| nic.port.port == *port)) {
        set(context.devices_line("transports.rdma.device.port", port.to_string()));
    }
    if let Some(class) = context.traffic_class_line("transports.rdma.endpoint.traffic_class") {
        set(class);
    }
    for line in [context.engine_lines("config"), context.engine_lines("env")].concat() {
        let key = KEYS.iter().find(|(name, _)| *name == line.name).map_or(line.name.as_str(), |(_, key)| key).to_owned();
        if key.starts_with("transports.") {
            set(SettingLine { name: key, ..line });
        }
    }
    let mut env = vec![SettingLine {
        name: "MC_USE_TENT".to_owned(),
        value: "1".to_owned(),
        why: "TENT in place of the classic engine".to_owned(),
        evidence: Vec::new(),
    }];
    if let Some(directory) = context.wanted.directory {
        env.push(SettingLine {
            name: "MC_TENT_CONF".to_owned(),
            value: directory.join(FILE).display().to_string(),
            why: "the document of part `config`".to_owned(),
            evidence: Vec::new(),
        });
    }
    Ok(vec![context.json_part("config", FILE, &document, lines), context.part("env", "mooncake-tent.env", PartKind::Env, env)])
}
