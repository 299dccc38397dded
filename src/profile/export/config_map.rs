//! A Kubernetes ConfigMap with an export's parts: variables as keys of their own (for `envFrom`), files as keys by their names.
//!
//! Every text is quoted or a block. What stands plain is text to one reader of YAML and a number, a date or a truth to another (`1:30`, `no`,
//! `2026-12-01`, `=`: YAML 1.1, which Kubernetes and Python read, has more of them than 1.2), so that serde_yaml, which writes plain what it
//! would itself read as text, is not the writer here. `tests/reader.rs` has Python read what is written.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Export, PartKind};

/// The ConfigMap as YAML. It is for one host: GID indexes and devices differ between hosts. Why each variable is there, an annotation says.
#[must_use]
pub fn config_map(export: &Export, name: &str, host: &str, created: &str) -> String {
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
    let data: BTreeMap<&str, &str> = variables().map(|line| (line.name.as_str(), line.value.as_str())).chain(files).collect();
    let mut out = format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {}\n  annotations:\n", quoted(name));
    write(&mut out, "    ", &annotations);
    out += if data.is_empty() { "data: {}\n" } else { "data:\n" };
    write(&mut out, "  ", &data);
    out
}

fn write(out: &mut String, indent: &str, entries: &BTreeMap<&str, &str>) {
    for (key, text) in entries {
        // Names of variables and files that no reader takes for anything else: longer than `false`, or with a mark in them.
        let is_name = key.starts_with(|first: char| first.is_ascii_alphabetic())
            && key.chars().all(|letter| letter.is_ascii_alphanumeric() || "_./-".contains(letter))
            && (key.len() > 5 || key.contains(['_', '.', '/']));
        let key = if is_name { (*key).to_owned() } else { quoted(key) };
        if is_block(text) {
            let lines: String =
                text.lines().map(|line| if line.is_empty() { "\n".to_owned() } else { format!("{indent}  {line}\n") }).collect();
            let _ = write!(out, "{indent}{key}: |\n{lines}");
        } else {
            let _ = writeln!(out, "{indent}{key}: {}", quoted(text));
        }
    }
}

/// Whether a text can be a block as it is: lines of printable ASCII, the first of which tells the indentation, and one newline at the end.
fn is_block(text: &str) -> bool {
    let is_printable = |letter: char| letter == '\n' || (' '..='~').contains(&letter);
    text.ends_with('\n') && !text.ends_with("\n\n") && !text.starts_with([' ', '\n']) && text.chars().all(is_printable)
}

/// A text in double quotes, where all that is neither a letter nor printable ASCII is an escape sequence (YAML 1.1 and 1.2, section 5.7).
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            '\n' => out += "\\n",
            ' '..='~' => out.push(letter),
            _ if letter.is_alphanumeric() => out.push(letter),
            _ => {
                let _ = write!(out, "\\U{:08X}", u32::from(letter));
            }
        }
    }
    out + "\""
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
        let read = |export: &Export| serde_yaml::from_str::<Value>(&config_map(export, "n", "h", "c")).unwrap();
        let map = read(&export(vec![env, flags.clone()]));
        assert_eq!(map["metadata"]["annotations"]["rdmadoctor/reasons"], "A: why A [e1 e2]\nB: why B\n");
        assert_eq!((&map["metadata"]["name"], &map["metadata"]["annotations"]["rdmadoctor/host"]), (&"n".into(), &"h".into()));
        assert_eq!(map["data"], serde_yaml::from_str::<Value>("{A: '1', B: '', x.flags: \"--a: 1\\n\"}").unwrap());
        // Without a variable there is nothing to give reasons for.
        let map = read(&export(vec![flags]));
        assert_eq!(map["metadata"]["annotations"], serde_yaml::from_str::<Value>("{rdmadoctor/created: c, rdmadoctor/host: h}").unwrap());
    }
}
