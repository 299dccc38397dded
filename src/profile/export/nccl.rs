//! NCCL: /etc/nccl.conf, or the same as variables.
//!
//! Sources: NCCL 5067397 (2.30.7) src/misc/param.cc (files, and lines that begin with `#`), src/transport/net_ib/init.cc
//! (NCCL_IB_HCA with `=` for exact names), connect.cc (NCCL_IB_GID_INDEX, NCCL_IB_TC).

use super::{Context, ExportError, Part, PartKind};

pub(super) fn export(context: &Context<'_>) -> Result<Vec<Part>, ExportError> {
    // The leading sign asks for exact names; without it `mlx5_1` would stand for `mlx5_10` too.
    let mut lines = vec![context.devices_line("NCCL_IB_HCA", format!("={}", context.device_ports().join(",")))];
    lines.extend(context.gid_line("NCCL_IB_GID_INDEX"));
    lines.extend(context.traffic_class_line("NCCL_IB_TC"));
    lines.extend(context.engine_lines("env"));
    Ok(vec![context.part("conf", "nccl.conf", PartKind::Conf, lines.clone()), context.part("env", "nccl.env", PartKind::Env, lines)])
}
