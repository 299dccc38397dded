//! vLLM with Mooncake's connector: the document of `--kv-transfer-config`, and Mooncake's variables.
//!
//! Source: vllm-project/vllm docs/features/mooncake_connector_usage.md (`device_name`, `mooncake_protocol`; kv_role is kv_producer,
//! kv_consumer or kv_both).

use serde_json::json;

use super::{Context, ExportError, Part, PartKind, SettingLine, mooncake};

pub(super) fn export(context: &Context<'_>) -> Result<Vec<Part>, ExportError> {
    let devices = context.device_names().join(",");
    let document = json!({
        "kv_connector": "MooncakeConnector",
        "kv_role": "kv_both",
        "kv_connector_extra_config": {"mooncake_protocol": "rdma", "device_name": devices},
    });
    let role = SettingLine {
        name: "kv_role".to_owned(),
        value: "kv_both".to_owned(),
        why: "kv_producer on prefill hosts and kv_consumer on decode hosts narrow it".to_owned(),
        evidence: Vec::new(),
    };
    Ok(vec![
        context.json_part(
            "kv-transfer-config",
            "vllm-kv-transfer.json",
            &document,
            vec![context.devices_line("device_name", devices.clone()), role],
        ),
        context.part("env", "vllm.env", PartKind::Env, mooncake::lines(context)),
    ])
}
