//! libfabric's verbs provider: variables.
//!
//! Sources: libfabric man/fi_verbs.7.md (names and defaults), prov/verbs/src/verbs_init.c; FI_PROVIDER in man/fabric.7.md. Devices are named
//! by their interfaces (FI_VERBS_IFACE), which every release since 1.4 reads; FI_VERBS_DEVICE_NAME came later and does not choose among
//! a device's interfaces. rdma_cm finds the GID by the address, so none is set.

use super::{Context, ExportError, Part, PartKind, SettingLine};

pub(super) fn export(context: &Context<'_>) -> Result<Vec<Part>, ExportError> {
    let mut lines = vec![SettingLine {
        name: "FI_PROVIDER".to_owned(),
        value: "verbs".to_owned(),
        why: "another provider, often tcp, is taken without a word otherwise".to_owned(),
        evidence: Vec::new(),
    }];
    let netdevs: Vec<&str> = context.nics.iter().filter_map(|nic| nic.port.gid.as_ref()?.netdev.as_deref()).collect();
    // It takes one prefix or name in older releases, and a list in newer ones.
    if let [netdev] = netdevs[..]
        && context.nics.len() == 1
    {
        lines.push(context.devices_line("FI_VERBS_IFACE", netdev.to_owned()));
    }
    lines.extend(context.engine_lines("env"));
    Ok(vec![context.part("env", "libfabric.env", PartKind::Env, lines)])
}
