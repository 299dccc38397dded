//! SGLang: the map of GPUs to NICs that `--disaggregation-ib-device FILE.json` reads, and Mooncake's variables.
//!
//! Source: sgl-project/sglang python/sglang/srt/distributed/device_communicators/mooncake_transfer_engine.py (a missing GPU is an error
//! there, so every GPU is listed).

use super::{Context, ExportError, Part, PartKind, SettingLine, mooncake};

pub(super) fn export(context: &Context<'_>) -> Result<Vec<Part>, ExportError> {
    if context.profile.gpus.is_empty() {
        return Err(ExportError::Impossible {
            engine: "sglang".to_owned(),
            reasons: vec!["the profile lists no GPU, and SGLang's file is a map of GPUs to NICs".to_owned()],
            remedies: vec![format!(
                "without GPUs pass the devices by name: --disaggregation-ib-device {}",
                context.device_names().join(",")
            )],
        });
    }
    let mut map = serde_json::Map::new();
    let mut lines = Vec::new();
    for gpu in &context.profile.gpus {
        let value = context.nearest(gpu).iter().map(|nic| nic.port.name.clone()).collect::<Vec<_>>().join(",");
        map.insert(gpu.index.to_string(), value.clone().into());
        lines.push(SettingLine {
            name: gpu.index.to_string(),
            value,
            why: format!("the nearest usable NICs of {}", gpu.pci),
            evidence: vec![gpu.evidence.clone()],
        });
    }
    Ok(vec![
        context.json_part("ib-device", "sglang-ib-device.json", &map.into(), lines),
        context.part("env", "sglang.env", PartKind::Env, mooncake::lines(context)),
    ])
}
