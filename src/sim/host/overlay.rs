//! Laying one host file over another. Both were read as the type before, so only what they mean is looked at here.

use serde_yaml::{Mapping, Value};

use super::load::Fault;

/// Lists whose members have a name, and the key that it stands under.
const KEYED: &[(&str, &str)] = &[("nics", "name"), ("interfaces", "name"), ("gpus", "pci"), ("bridges", "pci"), ("modules.loaded", "name")];

/// Lists that add up.
const ADDED: &[&str] = &["sources", "kernel_log", "remove", "deny", "hang", "faults", "modules.on_disk", "modules.built_in"];

/// Lists of modules, one a state.
const STATES: [&str; 3] = ["loaded", "built_in", "on_disk"];

/// A name that means all members.
const ALL: &str = "*";

/// Lays `over` over `base`. Extensions and removals are done with afterwards, so neither is in the result.
pub(super) fn apply(base: &mut Value, over: Value) -> Result<(), Fault> {
    let Value::Mapping(mut over) = over else { return Ok(()) };
    over.remove("extends");
    if let Some(Value::Sequence(names)) = over.remove("without") {
        for name in &names {
            if !remove(base, name) {
                let name = name.as_str().unwrap_or_default();
                return Err(Fault::new(name, format!("without `{name}`: the host that is extended has no such device or module")));
            }
        }
    }
    leave_other_states(base, &over);
    merge(base, Value::Mapping(over), "");
    Ok(())
}

/// Removes members of any list by their name or PCI address. Whether there was one.
fn remove(base: &mut Value, name: &Value) -> bool {
    let mut found = false;
    let mut drop_from = |list: Option<&mut Value>, keys: &[&str]| {
        let Some(Value::Sequence(members)) = list else { return };
        let before = members.len();
        members.retain(|member| member != name && keys.iter().all(|key| member.get(key) != Some(name)));
        found |= members.len() < before;
    };
    for list in ["nics", "interfaces", "gpus", "bridges"] {
        drop_from(base.get_mut(list), &["name", "pci"]);
    }
    for state in STATES {
        drop_from(base.get_mut("modules").and_then(|modules| modules.get_mut(state)), &["name"]);
    }
    found
}

/// A module is in one state: what `over` names under one leaves the others.
fn leave_other_states(base: &mut Value, over: &Mapping) {
    for state in STATES {
        let Some(Value::Sequence(named)) = over.get("modules").and_then(|modules| modules.get(state)) else { continue };
        let names: Vec<&Value> = named.iter().map(|module| module.get("name").unwrap_or(module)).collect();
        for other in STATES.into_iter().filter(|other| *other != state) {
            if let Some(Value::Sequence(members)) = base.get_mut("modules").and_then(|modules| modules.get_mut(other)) {
                members.retain(|member| !names.contains(&member.get("name").unwrap_or(member)));
            }
        }
    }
}

fn merge(base: &mut Value, over: Value, path: &str) {
    match (base, over) {
        (Value::Mapping(base), Value::Mapping(over)) => {
            for (key, value) in over {
                let name = key.as_str().unwrap_or_default();
                let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
                match base.get_mut(&key) {
                    Some(known) => merge(known, value, &path),
                    // Members may come first where the host that is extended has none, so defaults are seen to there too.
                    None => {
                        let mut fresh = if value.is_mapping() { Value::Mapping(Mapping::new()) } else { Value::Sequence(Vec::new()) };
                        merge(&mut fresh, value, &path);
                        base.insert(key, fresh);
                    }
                }
            }
        }
        (Value::Sequence(base), Value::Sequence(over)) if ADDED.contains(&path) => base.extend(over),
        (Value::Sequence(base), Value::Sequence(over)) if KEYED.iter().any(|(list, _)| *list == path) => {
            let key = KEYED.iter().find(|(list, _)| *list == path).map_or("name", |(_, key)| key);
            merge_members(base, over, key);
        }
        (base, over) => *base = over,
    }
}

/// Members with a known name are merged, others are added over what `*` has said before them.
fn merge_members(base: &mut Vec<Value>, over: Vec<Value>, key: &str) {
    let mut defaults = Value::Mapping(Mapping::new());
    for mut member in over {
        let name = member.get(key).cloned();
        if name.as_ref().and_then(Value::as_str) == Some(ALL) {
            if let Value::Mapping(fields) = &mut member {
                fields.remove(key);
            }
            base.iter_mut().for_each(|known| merge(known, member.clone(), key));
            merge(&mut defaults, member, key);
        } else if let Some(known) = base.iter_mut().find(|known| known.get(key) == name.as_ref()) {
            merge(known, member, key);
        } else {
            let mut fresh = defaults.clone();
            merge(&mut fresh, member, key);
            base.push(fresh);
        }
    }
}
