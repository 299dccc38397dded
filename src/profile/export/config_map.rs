//! A Kubernetes ConfigMap with an export's parts: variables as keys of their own (for `envFrom`), files as keys by their names.

use super::{Export, PartKind};

/// The ConfigMap as YAML. It is for one host: GID indexes and devices differ between hosts.
#[must_use]
pub fn config_map(export: &Export, name: &str, host: &str, created: &str) -> String {
    // Every JSON string is a YAML string.
    let quoted = |text: &str| serde_json::to_string(text).unwrap_or_default();
    let mut out = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {}\n  annotations:\n    rdmadoctor/host: {}\n    rdmadoctor/created: {}\ndata:\n",
        quoted(name),
        quoted(host),
        quoted(created)
    );
    let mut is_empty = true;
    for line in export.parts.iter().filter(|part| part.kind == PartKind::Env).flat_map(|part| &part.settings) {
        let evidence = if line.evidence.is_empty() { String::new() } else { format!(" [{}]", line.evidence.join(" ")) };
        out += &format!("  # {}{evidence}\n  {}: {}\n", line.why, line.name, quoted(&line.value));
        is_empty = false;
    }
    for part in export.parts.iter().filter(|part| part.kind != PartKind::Env) {
        out += &format!("  {}: {}\n", part.file, quoted(&part.text));
        is_empty = false;
    }
    if is_empty {
        out = out.trim_end_matches("data:\n").to_owned() + "data: {}\n";
    }
    out
}
