//! UCX: ucx.conf, which it reads in its installation's etc/ucx, the home directory, $UCX_CONFIG_DIR and the working directory.
//!
//! Sources: UCX 9466d10 src/ucs/config/parser.c (files and their order), src/uct/ib/base/ib_iface.c and rc/verbs/rc_verbs_iface.c (keys);
//! `ucx_info -c -f` lists the same keys from 1.13 on; src/uct/ib/ud/base/ud_iface.h, uct_ud_iface_check_grh, of the releases that take a
//! packet's type from the completion's service level, as mlx5 has it there.

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
    lines.extend(unchecked_addresses(context));
    lines.extend(context.engine_lines("env"));
    lines
}

/// UCX connects its endpoints by datagrams, and throws those away whose destination it does not find where mlx5 would have it. Seen on
/// Soft-RoCE with UCX 1.13.1: without this connections time out, with it they are made (tests/lab/profile.rs).
fn unchecked_addresses(context: &Context<'_>) -> Option<SettingLine> {
    let gids = context.nics.iter().filter(|nic| nic.port.family.as_deref() == Some("rxe")).filter_map(|nic| nic.port.gid.as_ref());
    let evidence: Vec<String> = gids.filter(|gid| gid.ipv4.is_some()).map(|gid| gid.evidence.clone()).collect();
    let why = "UCX does not find the IPv4 destination of Soft-RoCE's datagrams, and drops them".to_owned();
    (!evidence.is_empty()).then(|| SettingLine { name: "UCX_UD_ETH_DGID_CHECK".to_owned(), value: "n".to_owned(), why, evidence })
}
