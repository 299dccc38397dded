//! Which figures of a model are not from source, so that whoever shows the model can say so.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::DeviceModel;
use crate::host::families;

/// Figures of a model that its driver's source does not settle, by their path in the model's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UncertainFigures {
    pub model: String,
    /// Set by firmware: the model has a value that somebody saw, another card may have another.
    pub set_by_firmware: Vec<String>,
    /// Only inferred.
    pub inferred: Vec<String>,
}

impl DeviceModel {
    /// Lists them.
    #[must_use]
    pub fn doubts(&self) -> UncertainFigures {
        let mut doubts = UncertainFigures { model: self.name.clone(), set_by_firmware: Vec::new(), inferred: Vec::new() };
        // A figure is written as an object whose key says how sure it is, wherever in the model it stands.
        if let Ok(value) = serde_json::to_value(self) {
            walk(&value, "", &mut doubts);
        }
        let by_family = families::find(&self.family).filter(|_| self.software.dma_buf.is_empty());
        if by_family.is_some_and(|family| family.dma_buf.iter().any(|entry| entry.inferred)) {
            doubts.inferred.push("software.dma_buf.supported".to_owned());
        }
        for paths in [&mut doubts.set_by_firmware, &mut doubts.inferred] {
            paths.sort();
            paths.dedup();
        }
        doubts
    }
}

fn walk(value: &serde_json::Value, path: &str, doubts: &mut UncertainFigures) {
    match value {
        serde_json::Value::Object(fields) => {
            let is_set = |key: &str| fields.get(key).is_some_and(|value| !value.is_null());
            if is_set("source") && is_set("observed") {
                doubts.set_by_firmware.push(path.to_owned());
            } else if is_set("source") && is_set("inferred") {
                doubts.inferred.push(path.to_owned());
            } else {
                for (key, inner) in fields {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    walk(inner, &path, doubts);
                }
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| walk(item, path, doubts)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_firmware_sets_and_what_is_inferred_is_listed() {
        let erdma = DeviceModel::find("erdma").unwrap().doubts();
        assert!(erdma.set_by_firmware.iter().any(|path| path.starts_with("published.")), "{erdma:?}");
        let pvrdma = DeviceModel::find("vmw_pvrdma").unwrap().doubts();
        assert!(!pvrdma.inferred.is_empty());
        // What the kernel's source states is in neither list.
        assert!(!erdma.set_by_firmware.iter().chain(&erdma.inferred).any(|path| path.contains("send_sge")), "{erdma:?}");
    }
}
