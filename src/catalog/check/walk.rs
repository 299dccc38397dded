//! Holds a located tree against the JSON Schema of its type, and says of everything that does not fit where it stands.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::located::{Content, Node, below};
use super::{Place, Problem};

/// Everything in `node` that `schema` does not allow.
pub(super) fn against(node: &Node, schema: &Value) -> Vec<Problem> {
    let nothing = Map::new();
    let definitions = schema.get("$defs").and_then(Value::as_object).unwrap_or(&nothing);
    let mut walk = Walk { definitions, problems: Vec::new() };
    walk.value(node, schema, "");
    walk.problems
}

/// More help nobody, and each takes a look at all known keys.
const MOST_PROBLEMS: usize = 100;

struct Walk<'a> {
    definitions: &'a Map<String, Value>,
    problems: Vec<Problem>,
}

impl<'a> Walk<'a> {
    fn say(&mut self, place: Place, path: &str, what: &str) {
        let summary = if path.is_empty() { what.to_owned() } else { format!("{path}: {what}") };
        self.problems.push(Problem::at(place, summary));
    }

    fn value(&mut self, node: &Node, schema: &'a Value, path: &str) {
        let schema = self.resolve(schema);
        if matches!(node.content, Content::Opaque) {
            return;
        }
        for list in ["anyOf", "oneOf"] {
            let Some(choices) = schema.get(list).and_then(Value::as_array) else { continue };
            if choices.iter().all(|choice| choice.get("required").is_some() && choice.get("type").is_none()) {
                self.exactly_one(node, choices, path);
            } else if let Some(words) = words(choices) {
                return self.word(node, &words, path);
            } else {
                return self.best(node, choices, path);
            }
        }
        if let Some(names) = schema.get("enum").and_then(Value::as_array) {
            let words: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
            return self.word(node, &words, path);
        }
        if !self.has_type(node, schema, path) {
            return;
        }
        match &node.content {
            Content::Map(_) => self.map(node, schema, path),
            Content::List(items) => {
                let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0);
                let most = schema.get("maxItems").and_then(Value::as_u64).unwrap_or(u64::MAX);
                if items.is_empty() && least > 0 {
                    self.say(node.place, path, "the list is empty; it takes at least one");
                } else if !(least..=most).contains(&(items.len() as u64)) {
                    self.say(node.place, path, &format!("the list has {} items, not {least}", items.len()));
                }
                if let Some(of) = schema.get("items") {
                    for (index, item) in items.iter().enumerate() {
                        self.value(item, of, &format!("{path}[{index}]"));
                    }
                }
            }
            Content::Scalar(value) => {
                if schema.get("pattern").is_some() && value.as_str().is_some_and(|text| text.trim().is_empty()) {
                    self.say(node.place, path, "it is empty");
                }
                self.range(node, value, schema, path);
            }
            Content::Opaque => {}
        }
    }

    fn resolve(&self, schema: &'a Value) -> &'a Value {
        let target = schema.get("$ref").and_then(Value::as_str).and_then(|target| target.strip_prefix("#/$defs/"));
        target.and_then(|name| self.definitions.get(name)).unwrap_or(schema)
    }

    /// Of several forms the one that fits best; nothing, where one of them is nothing.
    fn best(&mut self, node: &Node, choices: &'a [Value], path: &str) {
        let mut fewest: Option<Vec<Problem>> = None;
        for choice in choices {
            if choice.get("type").and_then(Value::as_str) == Some("null") {
                if matches!(node.content, Content::Scalar(serde_yaml::Value::Null)) {
                    return;
                }
                continue;
            }
            let mut walk = Walk { definitions: self.definitions, problems: Vec::new() };
            walk.value(node, choice, path);
            if fewest.as_ref().is_none_or(|known| walk.problems.len() < known.len()) {
                fewest = Some(walk.problems);
            }
        }
        self.problems.extend(fewest.unwrap_or_default());
    }

    /// One of several keys.
    fn exactly_one(&mut self, node: &Node, choices: &[Value], path: &str) {
        let keys: Vec<&str> = choices.iter().filter_map(|choice| choice["required"].as_array()?.first()?.as_str()).collect();
        let Content::Map(entries) = &node.content else { return };
        let given: Vec<_> = entries.iter().filter(|entry| keys.contains(&entry.key.as_str())).collect();
        match given.as_slice() {
            [_] => {}
            [] => self.say(node.place, path, &format!("it has none of {}; it takes exactly one", keys.join(", "))),
            [first, second, ..] => {
                let both = format!("it has both {} and {}; it takes exactly one of {}", first.key, second.key, keys.join(", "));
                self.say(second.place, path, &both);
            }
        }
    }

    fn word(&mut self, node: &Node, words: &[&str], path: &str) {
        match &node.content {
            Content::Scalar(serde_yaml::Value::String(word)) if words.contains(&word.as_str()) => {}
            content => self.say(node.place, path, &format!("{} is none of {}", shown(content), words.join(", "))),
        }
    }

    /// Whether a value is of one of the types; says so where it is not.
    fn has_type(&mut self, node: &Node, schema: &Value, path: &str) -> bool {
        let types: Vec<&str> = match schema.get("type") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
            _ => return true,
        };
        let fits = |kind: &str| match &node.content {
            Content::Map(_) => kind == "object",
            Content::List(_) => kind == "array",
            Content::Scalar(value) => match kind {
                "null" => value.is_null(),
                // serde_yaml takes a key without a value for an empty map or list.
                "array" => value.is_null() && schema.get("minItems").is_none(),
                "object" => value.is_null() && schema.get("required").is_none(),
                "string" => value.is_string(),
                "boolean" => value.is_bool(),
                "integer" => value.is_i64() || value.is_u64(),
                "number" => value.is_number(),
                _ => false,
            },
            Content::Opaque => true,
        };
        if types.iter().any(|kind| fits(kind)) {
            return true;
        }
        let wanted = types.iter().find(|kind| **kind != "null").copied().unwrap_or("null");
        let name = match wanted {
            "object" => "a map of keys and values",
            "array" => "a list",
            "string" => "text",
            "boolean" => "true or false",
            "integer" => "a whole number",
            other => other,
        };
        let mut what = format!("{} is not {name}", shown(&node.content));
        match (&node.content, wanted) {
            (Content::Scalar(serde_yaml::Value::String(text)), "integer") => {
                if let Some(bytes) = with_unit(text) {
                    what += &format!("; units stand in the names of keys, so write {bytes}");
                }
            }
            (Content::Scalar(value), "string") if !value.is_null() => what += "; put it in quotes",
            _ => {}
        }
        self.say(node.place, path, &what);
        false
    }

    fn range(&mut self, node: &Node, value: &serde_yaml::Value, schema: &Value, path: &str) {
        let whole = value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from));
        let bound = |key: &str| schema.get(key).and_then(|bound| bound.as_i64().map(i128::from).or_else(|| bound.as_u64().map(i128::from)));
        // Schemas of 32 and 64 bits tell their upper end by the format alone.
        let of_format = match schema.get("format").and_then(Value::as_str) {
            Some("uint32") => Some(i128::from(u32::MAX)),
            Some("int32") => Some(i128::from(i32::MAX)),
            _ => None,
        };
        let Some(whole) = whole else { return };
        if let Some(least) = bound("minimum").filter(|least| whole < *least) {
            self.say(node.place, path, &format!("{whole} is less than {least}"));
        }
        if let Some(most) = bound("maximum").or(of_format).filter(|most| whole > *most) {
            self.say(node.place, path, &format!("{whole} is more than {most}"));
        }
    }

    fn map(&mut self, node: &Node, schema: &'a Value, path: &str) {
        let Content::Map(entries) = &node.content else { return };
        let properties = schema.get("properties").and_then(Value::as_object);
        let mut meant = Vec::new();
        let mut seen = HashSet::new();
        for entry in entries {
            if self.problems.len() >= MOST_PROBLEMS {
                return;
            }
            if !seen.insert(&entry.key) {
                self.say(entry.place, path, &format!("`{}` stands here twice", entry.key));
                continue;
            }
            let of = properties
                .and_then(|known| known.get(&entry.key))
                .or_else(|| schema.get("additionalProperties").filter(|of| of.is_object()));
            match of {
                Some(of) => self.value(&entry.value, of, &below(path, &entry.key)),
                None if schema.get("additionalProperties") == Some(&Value::Bool(false)) => {
                    let known: Vec<&str> = properties.into_iter().flat_map(Map::keys).map(String::as_str).collect();
                    let advice = match nearest(&entry.key, &known) {
                        Some(near) => {
                            meant.push(near);
                            format!("did you mean `{near}`?")
                        }
                        None => format!("known are {}", known.join(", ")),
                    };
                    self.say(entry.place, path, &format!("unknown key `{}`; {advice}", entry.key));
                }
                None => {}
            }
        }
        for key in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            if node.get(key).is_none() && !meant.contains(&key) {
                let advice = if key.starts_with("source") { ": where is this known from?" } else { "" };
                self.say(node.place, path, &format!("`{key}` is missing{advice}"));
            }
        }
    }
}

/// The words, where each choice is one.
fn words(choices: &[Value]) -> Option<Vec<&str>> {
    choices
        .iter()
        .map(|choice| match choice.get("enum").and_then(Value::as_array) {
            Some(names) => names.iter().map(Value::as_str).collect::<Option<Vec<_>>>(),
            None => Some(vec![choice.get("const")?.as_str()?]),
        })
        .collect::<Option<Vec<_>>>()
        .map(|words| words.concat())
}

/// A value as a message names it.
fn shown(content: &Content) -> String {
    match content {
        Content::Scalar(serde_yaml::Value::Null) => "nothing".to_owned(),
        Content::Scalar(serde_yaml::Value::String(text)) => format!("`{text}`"),
        Content::Scalar(value) => serde_yaml::to_string(value).unwrap_or_default().trim_end().to_owned(),
        Content::List(_) => "a list".to_owned(),
        Content::Map(_) => "a map".to_owned(),
        Content::Opaque => "this".to_owned(),
    }
}

/// The number that a size with a unit, such as `64k`, stands for.
fn with_unit(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let shift = match text[end..].trim().to_ascii_lowercase().as_str() {
        "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        _ => return None,
    };
    text[..end].parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// The known name that was probably meant: one that begins with the given one, or the other way round, or is few letters away.
fn nearest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    let is_longer = |name: &&&str| given.len() > 3 && (name.starts_with(given) || given.starts_with(**name));
    known
        .iter()
        .find(is_longer)
        .or_else(|| known.iter().filter(|name| strsim::osa_distance(given, name) <= 2).min_by_key(|name| strsim::osa_distance(given, name)))
        .copied()
}
