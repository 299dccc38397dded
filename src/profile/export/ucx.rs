//! UCX: ucx.conf, which it reads in its installation's etc/ucx, the home directory, $UCX_CONFIG_DIR and the working directory.
//!
//! Sources: UCX 9466d10 src/ucs/config/parser.c (files and their order), src/uct/ib/base/ib_iface.c and rc/verbs/rc_verbs_iface.c (keys);
//! `ucx_info -c -f` lists the same keys from 1.13 on.

use super::{Context, ExportError, Part, PartKind, SettingLine};

pub(super) fn export(context: &Context<'_>) -> Result<Vec<Part>, ExportError> {
    let lines = lines(context);
    Ok(vec![context.part("conf", "ucx.conf", PartKind::Conf, lines.clone()), context.part("env", "ucx.env", PartKind::Env, lines)])
}

/// The keys with their prefix.
pub(super) fn lines(context: &Context<'_>) -> Vec<SettingLine> {
    let mut lines = vec![context.devices_line("UCX_NET_DEVICES", context.device_ports().join(","))];
    lines.extend(context.gid_line("UCX_IB_GID_INDEX"));
    lines.extend(context.traffic_class_line("UCX_IB_TRAFFIC_CLASS"));
    lines.extend(context.engine_lines("env"));
    lines
}
