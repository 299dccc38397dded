//! Writes the files of `profiles/families` as Rust constants of the types of src/host/families.rs, so that a start parses none of them.
//! A test there compares the constants with the files.

use std::path::PathBuf;

use serde_yaml::Value;

/// How a value is written.
enum Kind {
    Text,
    Number,
    Bool,
    /// A variant of an enum whose words are in snake_case.
    Variant(&'static str),
    Optional(&'static Kind),
    List(&'static Kind),
    /// A type and its fields: name in Rust, key in the file.
    Struct(&'static str, &'static [(&'static str, &'static str, Kind)]),
}

use Kind::{Bool, List, Number, Optional, Struct, Text, Variant};

const SOURCED: Kind = Struct("Sourced", &[("source", "source", Text)]);
const ADVICE: Kind = Struct("Advice", &[("action", "do", Text), ("source", "source", Text)]);
const PARAMETER: Kind = Struct("crate::host::modules::KnownParameter", &[("name", "name", Text), ("meaning", "meaning", Text)]);
const FAMILY: Kind = Struct(
    "Family",
    &[
        ("schema", "schema", Text),
        ("name", "name", Text),
        ("title", "title", Text),
        ("model", "model", Optional(&Text)),
        ("sources", "sources", List(&Text)),
        ("drivers", "drivers", List(&Struct("Driver", &[("name", "name", Text), ("mostly_without_rdma", "mostly_without_rdma", Bool)]))),
        (
            "pci",
            "pci",
            List(&Struct(
                "PciRange",
                &[
                    ("vendor", "vendor", Number),
                    ("first", "first", Number),
                    ("last", "last", Optional(&Number)),
                    ("any_class", "any_class", Bool),
                    ("source", "source", Text),
                ],
            )),
        ),
        ("device_prefixes", "device_prefixes", List(&Text)),
        ("software", "software", Optional(&Variant("SoftwareSign"))),
        (
            "modules",
            "modules",
            List(&Struct(
                "Known",
                &[
                    ("name", "name", Text),
                    ("symbol", "symbol", Optional(&Text)),
                    ("why", "why", Text),
                    ("parameters", "parameters", List(&PARAMETER)),
                ],
            )),
        ),
        (
            "log",
            "log",
            Struct("LogWords", &[("link_drivers", "link_drivers", List(&Text)), ("error_drivers", "error_drivers", List(&Text))]),
        ),
        (
            "dma_buf",
            "dma_buf",
            List(&Struct(
                "DmaBuf",
                &[
                    ("kernel", "kernel", Text),
                    ("supported", "supported", Bool),
                    ("inferred", "inferred", Bool),
                    ("certain_until", "certain_until", Optional(&Text)),
                    ("source", "source", Text),
                ],
            )),
        ),
        ("packed_queues", "packed_queues", Optional(&SOURCED)),
        (
            "own_queue_pairs",
            "own_queue_pairs",
            Optional(&Struct("OwnQueuePairs", &[("qp_type", "type", Text), ("source", "source", Text)])),
        ),
        ("bonds", "bonds", Optional(&Struct("Bonds", &[("modes", "modes", List(&Number)), ("source", "source", Text)]))),
        ("without_rdma_cm", "without_rdma_cm", Optional(&ADVICE)),
        (
            "remarks",
            "remarks",
            List(&Struct("CapabilityRemark", &[("capability", "capability", Text), ("text", "text", Text), ("source", "source", Text)])),
        ),
    ],
);

/// The constant `FAMILIES`.
pub fn constants(files: &[PathBuf]) -> String {
    let mut text = "/// Those of `profiles/families`.\npub(super) static FAMILIES: &[Family] = &[\n".to_owned();
    for file in files {
        let read = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let value: Value = serde_yaml::from_str(&read).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let family = FAMILY.rust(&value).unwrap_or_else(|why| panic!("{}: {why}", file.display()));
        text += &format!("    {family},\n");
    }
    text + "];\n"
}

impl Kind {
    /// A value as an expression; what is absent is `Value::Null`.
    fn rust(&self, value: &Value) -> Result<String, String> {
        let wrong = |expected: &str| format!("{value:?} is not {expected}");
        match self {
            Text => value.as_str().map(|text| format!("Cow::Borrowed({text:?})")).ok_or_else(|| wrong("a text")),
            Number => value.as_u64().map(|number| format!("{number:#x}")).ok_or_else(|| wrong("a number")),
            Bool => Ok(value.as_bool().unwrap_or(false).to_string()),
            Variant(of) => value.as_str().map(|word| format!("{of}::{}", camel(word))).ok_or_else(|| wrong("a word")),
            Optional(_) if value.is_null() => Ok("None".to_owned()),
            Optional(kind) => Ok(format!("Some({})", kind.rust(value)?)),
            List(_) if value.is_null() => Ok("Cow::Borrowed(&[])".to_owned()),
            List(kind) => {
                let items = value.as_sequence().ok_or_else(|| wrong("a list"))?;
                let items = items.iter().map(|item| kind.rust(item)).collect::<Result<Vec<_>, _>>()?;
                Ok(format!("Cow::Borrowed(&[{}])", items.join(", ")))
            }
            Struct(name, fields) => {
                let of = |key: &str| value.get(key).unwrap_or(&Value::Null);
                let field = |(field, key, kind): &(&str, &str, Kind)| {
                    kind.rust(of(key)).map(|text| format!("{field}: {text}")).map_err(|why| format!("{key}: {why}"))
                };
                let fields = fields.iter().map(field).collect::<Result<Vec<_>, _>>()?;
                Ok(format!("{name} {{ {} }}", fields.join(", ")))
            }
        }
    }
}

/// `some_word` as `SomeWord`.
fn camel(word: &str) -> String {
    let capital = |part: &str| part.get(..1).map(str::to_uppercase).unwrap_or_default() + part.get(1..).unwrap_or_default();
    word.split('_').map(capital).collect()
}
