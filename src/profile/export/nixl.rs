//! NIXL over UCX: parameters of createBackend.
//!
//! Sources: NIXL 8770b65 src/plugins/ucx/ucx_backend.cpp and ucx_utils.cpp: `device_list` is split at a comma with a space and `:1` is
//! added to each name; `engine_config` holds UCX's keys without their prefix.

use serde_json::json;

use super::{Context, ExportError, Part, PartKind, ucx};

pub(super) fn export(context: &Context<'_>) -> Result<Vec<Part>, ExportError> {
    if let Some(nic) = context.nics.iter().find(|nic| nic.port.port != 1) {
        return Err(ExportError::Impossible {
            engine: "nixl".to_owned(),
            reasons: vec![format!("{}: its active port is {}, and NIXL adds port 1 to every device", nic.port.name, nic.port.port)],
            remedies: vec!["leave `device_list` out and export for `ucx`: UCX_NET_DEVICES takes ports".to_owned()],
        });
    }
    let devices = context.device_names().join(", ");
    let keys: Vec<_> = ucx::lines(context).into_iter().filter(|line| line.name != "UCX_NET_DEVICES").collect();
    let config: Vec<String> = keys.iter().map(|line| format!("{}={}", line.name.trim_start_matches("UCX_"), line.value)).collect();
    let mut document = json!({"device_list": devices});
    if !config.is_empty() {
        document["engine_config"] = config.join(",").into();
    }
    let mut lines = vec![context.devices_line("device_list", devices)];
    lines.extend(keys.clone());
    Ok(vec![
        context.json_part("backend", "nixl-backend.json", &document, lines),
        context.part(
            "env",
            "nixl.env",
            PartKind::Env,
            [vec![context.devices_line("UCX_NET_DEVICES", context.device_ports().join(","))], keys].concat(),
        ),
    ])
}
