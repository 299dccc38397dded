//! Plain variables, for engines that have no exporter: everything that a program needs to open a device and make a queue pair.

use super::{Context, ExportError, Part, PartKind, SettingLine};

pub(super) fn export(context: &Context<'_>) -> Result<Vec<Part>, ExportError> {
    let mut lines = vec![context.devices_line("RDMADOCTOR_DEVICES", context.device_ports().join(","))];
    for nic in &context.nics {
        let device: String = nic.port.name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
        let mut add = |what: &str, value: String, why: &str, evidence: &str| {
            lines.push(SettingLine {
                name: format!("RDMADOCTOR_{device}_{}_{what}", nic.port.port),
                value,
                why: why.to_owned(),
                evidence: vec![evidence.to_owned()],
            });
        };
        if let (Some(gid), Some(index)) = (&nic.port.gid, nic.gid_index) {
            add("GID_INDEX", index.to_string(), &format!("where {} stands on this host now", gid.value), &gid.evidence);
        }
        if let Some(mtu) = &nic.port.mtu_bytes {
            add("MTU_BYTES", mtu.value.to_string(), "the path MTU in force", &mtu.evidence);
        }
        if let Some(recommended) = &nic.port.qp.recommended {
            let request = &recommended.value;
            let values = [
                ("MAX_SEND_WR", request.max_send_wr),
                ("MAX_RECV_WR", request.max_recv_wr),
                ("MAX_SEND_SGE", request.max_send_sge),
                ("MAX_RECV_SGE", request.max_recv_sge),
                ("MAX_INLINE_DATA", request.max_inline_data),
                ("CQ_DEPTH", request.cq_depth),
            ];
            for (what, value) in values {
                add(what, value.to_string(), "granted together", &recommended.evidence);
            }
        }
    }
    Ok(vec![context.part("env", "rdma.env", PartKind::Env, lines)])
}
