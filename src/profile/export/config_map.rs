//! A Kubernetes ConfigMap with an export's parts: variables as keys of their own (for `envFrom`), files as keys by their names.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Export, PartKind};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ConfigMap<'a> {
    api_version: &'a str,
    kind: &'a str,
    metadata: Metadata<'a>,
    data: BTreeMap<&'a str, &'a str>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    name: &'a str,
    annotations: BTreeMap<&'a str, &'a str>,
}

/// The ConfigMap as YAML. It is for one host: GID indexes and devices differ between hosts. Why each variable is there, an annotation says.
///
/// # Errors
/// None in practice: every text can be written.
pub fn config_map(export: &Export, name: &str, host: &str, created: &str) -> Result<String, serde_yaml::Error> {
    let variables = || export.parts.iter().filter(|part| part.kind == PartKind::Env).flat_map(|part| &part.settings);
    let reason = |line: &super::SettingLine| match line.evidence.as_slice() {
        [] => format!("{}: {}\n", line.name, line.why),
        ids => format!("{}: {} [{}]\n", line.name, line.why, ids.join(" ")),
    };
    let reasons: String = variables().map(reason).collect();
    let mut annotations = BTreeMap::from([("rdmadoctor/host", host), ("rdmadoctor/created", created)]);
    if !reasons.is_empty() {
        annotations.insert("rdmadoctor/reasons", &reasons);
    }
    let files = export.parts.iter().filter(|part| part.kind != PartKind::Env).map(|part| (part.file.as_str(), part.text.as_str()));
    serde_yaml::to_string(&ConfigMap {
        api_version: "v1",
        kind: "ConfigMap",
        metadata: Metadata { name, annotations },
        data: variables().map(|line| (line.name.as_str(), line.value.as_str())).chain(files).collect(),
    })
}
