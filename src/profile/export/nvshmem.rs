//! NVSHMEM's ibrc transport: variables.
//!
//! Sources: NVSHMEM 2d7d25f src/modules/transport/common/env_defs.h (the names, and that NVSHMEM_HCA_LIST counts only with
//! NVSHMEM_ENABLE_NIC_PE_MAPPING), ibrc/ibrc.cpp.

use super::{Context, ExportError, Part, PartKind, SettingLine};

pub(super) fn export(context: &Context<'_>) -> Result<Vec<Part>, ExportError> {
    let mapping = SettingLine {
        name: "NVSHMEM_ENABLE_NIC_PE_MAPPING".to_owned(),
        value: "1".to_owned(),
        why: "NVSHMEM_HCA_LIST counts only with it".to_owned(),
        evidence: Vec::new(),
    };
    let mut lines = vec![mapping, context.devices_line("NVSHMEM_HCA_LIST", context.device_ports().join(","))];
    lines.extend(context.gid_line("NVSHMEM_IB_GID_INDEX"));
    lines.extend(context.traffic_class_line("NVSHMEM_IB_TRAFFIC_CLASS"));
    lines.extend(context.engine_lines("env"));
    if let Some((path, evidence)) = context.gpu_path().filter(|(path, _)| *path == "peermem") {
        let why = format!("GPU memory reaches the NICs by {path}");
        lines.push(SettingLine { name: "NVSHMEM_IB_DISABLE_DMABUF".to_owned(), value: "1".to_owned(), why, evidence });
    }
    Ok(vec![context.part("env", "nvshmem.env", PartKind::Env, lines)])
}
