//! Replaces what tells which host a capture is of: addresses, serial numbers, names of hosts. The same thing is replaced by the same
//! thing everywhere in one capture and by another one in the next, because the key is random and is not kept.

mod address;
mod text;

use std::collections::HashMap;

use serde_json::Value;

use self::address::Mapper;

/// Fields that hold versions, which can look like IPv4 addresses.
const VERSIONS: &[&str] = &["firmware", "version", "release", "banner", "kernel_build"];

/// Fields that hold nothing but a number that names one piece of hardware.
const SERIALS: &[&str] = &["serial", "asset_tag"];

/// Replaces what tells which host something is of.
pub struct Redactor {
    mapper: Mapper,
    /// Names of this host, the longest first, with what stands for them.
    hosts: Vec<(String, String)>,
    domains: Vec<String>,
    /// Digits of addresses that stand somewhere with colons, with what stands for them.
    known: HashMap<String, String>,
    /// Serial numbers that stand in a field of their own.
    secrets: Vec<(String, String)>,
}

impl Redactor {
    /// One with a random key, for a host of these names.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn new(names: &[String]) -> Result<Self, getrandom::Error> {
        let mut key = [0; 16];
        getrandom::fill(&mut key)?;
        Ok(Self::with_key(key, names))
    }

    fn with_key(key: [u8; 16], names: &[String]) -> Self {
        let mut redactor =
            Self { mapper: Mapper::new(key), hosts: Vec::new(), domains: Vec::new(), known: HashMap::new(), secrets: Vec::new() };
        for name in names {
            redactor.hosts.push((name.clone(), redactor.host(name)));
            if let Some((first, domain)) = name.split_once('.') {
                redactor.hosts.push((first.to_owned(), redactor.host(first)));
                redactor.domains.push(domain.to_ascii_lowercase());
            }
        }
        // The longest first: a name may begin with another one.
        redactor.hosts.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        redactor.hosts.dedup();
        redactor
    }

    /// What stands for a host's name.
    fn host(&self, name: &str) -> String {
        format!("host-{:08x}", self.mapper.number("host", name.to_ascii_lowercase().as_bytes()) as u32)
    }

    /// What stands for a serial number.
    fn serial(&self, number: &str) -> String {
        format!("serial-{:08x}", self.mapper.number("serial", number.as_bytes()) as u32)
    }

    /// Replaces in a whole document. `schema` is the document's: words that it lists are no names of hosts.
    pub fn redact(mut self, document: &mut Value, schema: &Value) {
        self.learn(document, "");
        Walk { redactor: &self, definitions: schema.get("$defs") }.walk(document, &[schema], "");
    }

    /// Finds what can be told from something else only where it stands: digits of addresses, serial numbers, names in descriptions.
    fn learn(&mut self, value: &Value, key: &str) {
        match value {
            Value::String(text) if is_one(SERIALS, key) && text.len() >= 4 => self.secrets.push((text.clone(), self.serial(text))),
            Value::String(text) => self.learn_digits(text),
            Value::Array(items) => items.iter().for_each(|item| self.learn(item, key)),
            Value::Object(fields) => {
                if let (Some(name), Some(description)) = (text_of(value, "name"), text_of(value, DESCRIPTION)) {
                    self.learn_description(name, description);
                }
                fields.iter().for_each(|(key, field)| self.learn(field, key));
            }
            _ => {}
        }
    }

    /// Both rdma-ndd (`%h %d`) and openibd (`%h HCA-1`) put the host's name into a device's description.
    fn learn_description(&mut self, device: &str, description: &str) {
        let words: Vec<&str> = description.split_whitespace().collect();
        if let [host, other] = words[..]
            && (other == device || other.starts_with("HCA-"))
        {
            self.hosts.push((host.to_owned(), self.host(host)));
            self.hosts.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        }
    }

    fn learn_digits(&mut self, text: &str) {
        for run in text.split(|c: char| !c.is_ascii_hexdigit() && c != ':' && c != '-').filter(|run| run.len() >= 17) {
            let groups: Vec<&str> = run.split([':', '-']).collect();
            let digits = groups.concat().to_ascii_lowercase();
            // The lower half of a GID is a GUID, or made of a hardware address; an iWARP port's begins with one.
            let parts = [digits.get(digits.len().saturating_sub(16)..), digits.strip_suffix(&"0".repeat(20))];
            for digits in parts.into_iter().flatten().filter(|_| groups.len() > 1) {
                if let Some(replacement) = self.bare(digits) {
                    self.known.insert(digits.to_owned(), replacement);
                }
            }
        }
    }
}

/// What a device says of itself.
const DESCRIPTION: &str = "node_desc";

fn is_one(names: &[&str], key: &str) -> bool {
    names.iter().any(|name| key.contains(name))
}

fn text_of<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.get(key)?.as_str()
}

/// A walk through a document beside its schema.
struct Walk<'a> {
    redactor: &'a Redactor,
    definitions: Option<&'a Value>,
}

impl<'a> Walk<'a> {
    fn walk(&self, value: &mut Value, schemas: &[&'a Value], key: &str) {
        let schemas = self.expanded(schemas);
        match value {
            Value::String(text) => {
                let is_word = schemas.iter().any(|schema| {
                    schema.get("const").is_some_and(|word| word == text.as_str())
                        || schema.get("enum").and_then(Value::as_array).is_some_and(|words| words.iter().any(|word| word == text.as_str()))
                });
                if !is_word {
                    *text = self.text(text, key);
                }
            }
            Value::Array(items) => {
                let of_items: Vec<&Value> = schemas.iter().filter_map(|schema| schema.get("items")).collect();
                items.iter_mut().for_each(|item| self.walk(item, &of_items, key));
            }
            Value::Object(fields) => {
                let network = network_of(fields);
                let device = fields.get("name").cloned();
                for (key, field) in fields.iter_mut() {
                    if key == DESCRIPTION && device.as_ref() == Some(field) {
                        continue;
                    }
                    let of_field: Vec<&Value> = schemas.iter().filter_map(|schema| schema.get("properties")?.get(key)).collect();
                    self.walk(field, &of_field, key);
                }
                if let Some((destination, length)) = network {
                    fields.insert("destination".to_owned(), self.redactor.mapper.network(destination, length).to_string().into());
                }
            }
            _ => {}
        }
    }

    fn text(&self, text: &str, key: &str) -> String {
        if key == DESCRIPTION && !text.is_empty() {
            return format!("description-{:08x}", self.redactor.mapper.number("description", text.as_bytes()) as u32);
        }
        if is_one(SERIALS, key) && !text.is_empty() {
            return self.redactor.serial(text);
        }
        self.redactor.text(text, is_one(VERSIONS, key))
    }

    /// The schemas with references followed and alternatives spread out.
    fn expanded(&self, schemas: &[&'a Value]) -> Vec<&'a Value> {
        let mut all = Vec::new();
        let mut left: Vec<&Value> = schemas.to_vec();
        while let Some(schema) = left.pop() {
            let referred = schema.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next());
            left.extend(referred.and_then(|name| self.definitions?.get(name)));
            let alternatives = ["anyOf", "oneOf", "allOf"].into_iter().filter_map(|word| schema.get(word)?.as_array());
            left.extend(alternatives.flatten());
            all.push(schema);
        }
        all
    }
}

/// The destination of a route, whose bits beyond its prefix are zero and must stay so.
fn network_of(fields: &serde_json::Map<String, Value>) -> Option<(std::net::IpAddr, u32)> {
    let length = fields.get("prefix_length")?.as_u64()?;
    Some((fields.get("destination")?.as_str()?.parse().ok()?, u32::try_from(length).ok()?))
}

#[cfg(test)]
mod tests;
