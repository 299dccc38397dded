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

#[cfg(test)]
mod tests {
    use serde_yaml::Value;

    use super::super::{Part, SettingLine};
    use super::*;

    #[test]
    fn variables_are_keys_with_their_reasons_and_files_are_whole() {
        let line = |name: &str, value: &str, evidence: &[&str]| SettingLine {
            name: name.to_owned(),
            value: value.to_owned(),
            why: format!("why {name}"),
            evidence: evidence.iter().map(|id| (*id).to_owned()).collect(),
        };
        let part = |file: &str, kind, text: &str, settings| Part {
            name: file.to_owned(),
            file: file.to_owned(),
            kind,
            text: text.to_owned(),
            settings,
        };
        let export = |parts| Export { schema: String::new(), engine: "x".to_owned(), version: None, parts, notes: Vec::new() };
        let env = part("x.env", PartKind::Env, "A=1\n", vec![line("A", "1", &["e1", "e2"]), line("B", "", &[])]);
        let flags = part("x.flags", PartKind::Flags, "--a: 1\n", vec![line("--a", "1", &[])]);
        let read = |export: &Export| serde_yaml::from_str::<Value>(&config_map(export, "n", "h", "c").unwrap()).unwrap();
        let map = read(&export(vec![env, flags.clone()]));
        assert_eq!(map["metadata"]["annotations"]["rdmadoctor/reasons"], "A: why A [e1 e2]\nB: why B\n");
        assert_eq!((&map["metadata"]["name"], &map["metadata"]["annotations"]["rdmadoctor/host"]), (&"n".into(), &"h".into()));
        assert_eq!(map["data"], serde_yaml::from_str::<Value>("{A: '1', B: '', x.flags: \"--a: 1\\n\"}").unwrap());
        // Without a variable there is nothing to give reasons for.
        let map = read(&export(vec![flags]));
        assert_eq!(map["metadata"]["annotations"], serde_yaml::from_str::<Value>("{rdmadoctor/created: c, rdmadoctor/host: h}").unwrap());
    }
}
