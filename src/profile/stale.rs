//! Is a profile still true of its host? What can be seen is compared, decisive attempts are made again, and the rest stands or falls with
//! the parts of the fingerprint that it depends on.

use std::collections::HashMap;

use rdmadoctor_types::OutcomeKind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::entries::verdict_word;
use super::evidence::to_request;
use super::seen::depends_on;
use super::{EngineVerdict, Evidence, EvidenceKind, HostSnapshot, Profile, ProfiledPort};
use crate::qp::{Outcome, QpRequest};
use crate::schema;

/// The document of `profile check`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProfileCheck {
    /// `rdmadoctor/profile-check/1`.
    pub schema: String,
    pub file: String,
    /// When it was written.
    pub created: String,
    /// Whether no entry is stale.
    pub is_fresh: bool,
    /// Entries that no longer hold, in the order of the file.
    pub stale: Vec<Stale>,
    /// Parts of the fingerprint that changed, whether or not that makes an entry stale.
    pub changed: Vec<Changed>,
    /// Attempts that were made again.
    pub attempts_repeated: usize,
    /// Attempts that were not, for want of time or because they crash or hang; what they prove then stands with the fingerprint.
    pub attempts_left: usize,
    /// Time taken, in microseconds.
    pub elapsed_us: u64,
}

/// An entry that no longer holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Stale {
    /// Such as `devices/mlx5_0/1/gid`.
    pub entry: String,
    /// What the profile says.
    pub was: String,
    /// What is so now.
    pub is: String,
}

/// A part of the fingerprint that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Changed {
    pub field: String,
    /// What it was; absent where it was not there.
    pub was: Option<String>,
    pub is: Option<String>,
}

/// What was found out for a check.
pub struct Now<'a> {
    /// What files and the verbs library say.
    pub seen: &'a HostSnapshot,
    /// Attempts that were made again, by device and request.
    pub attempts: &'a HashMap<(String, QpRequest), Outcome>,
    /// How far a queue pair comes now, by device and port.
    pub connections: &'a HashMap<(String, u32), String>,
}

/// The attempts that decide a profile's entries, cheapest first: device, request, and the outcome then.
#[must_use]
pub fn decisive(profile: &Profile) -> Vec<(&str, QpRequest, OutcomeKind)> {
    let mut list: Vec<_> = profile
        .evidence
        .iter()
        .filter(|evidence| evidence.kind == EvidenceKind::Attempt)
        .filter_map(|evidence| {
            let outcome =
                evidence.outcome.as_ref()?.known().filter(|outcome| matches!(outcome, OutcomeKind::Granted | OutcomeKind::Refused))?;
            Some((evidence.device.as_deref()?, to_request(evidence.request.as_ref()?)?, outcome))
        })
        .collect();
    list.sort_by_key(|(_, request, _)| request.memory_bytes());
    list
}

/// The ports on which a connection was made: device and port.
pub fn connected(profile: &Profile) -> impl Iterator<Item = (&str, u32)> {
    profile.devices.iter().filter(|port| port.connection.is_some()).map(|port| (port.name.as_str(), port.port))
}

/// Compares a profile with its host.
#[must_use]
pub fn check(file: &str, profile: &Profile, now: &Now<'_>) -> ProfileCheck {
    let changed = changes(profile, now.seen);
    let mut judge = Judge { profile, now, changed: &changed, stale: Vec::new() };
    for port in &profile.devices {
        judge.port(port);
    }
    judge.gpus();
    judge.engines();
    let stale = judge.stale;
    let attempts_repeated = now.attempts.values().filter(|outcome| !matches!(outcome, Outcome::NotRun { .. })).count();
    let all = profile.evidence.iter().filter(|evidence| evidence.kind == EvidenceKind::Attempt).count();
    ProfileCheck {
        schema: schema::PROFILE_CHECK.to_owned(),
        file: file.to_owned(),
        created: profile.created.clone(),
        is_fresh: stale.is_empty(),
        stale,
        changed,
        attempts_repeated,
        attempts_left: all.saturating_sub(attempts_repeated),
        elapsed_us: 0,
    }
}

fn changes(profile: &Profile, seen: &HostSnapshot) -> Vec<Changed> {
    let was: HashMap<&str, &str> = profile.host.fingerprint.iter().map(|field| (field.field.as_str(), field.value.as_str())).collect();
    let is: HashMap<&str, &str> = seen.fingerprint.iter().map(|field| (field.field.as_str(), field.value.as_str())).collect();
    let mut fields: Vec<&str> = was.keys().chain(is.keys()).copied().collect();
    fields.sort_unstable();
    fields.dedup();
    let value = |map: &HashMap<&str, &str>, field: &str| map.get(field).map(|value| (*value).to_owned());
    fields
        .into_iter()
        .filter(|field| was.get(field) != is.get(field))
        .map(|field| Changed { field: field.to_owned(), was: value(&was, field), is: value(&is, field) })
        .collect()
}

struct Judge<'a> {
    profile: &'a Profile,
    now: &'a Now<'a>,
    changed: &'a [Changed],
    stale: Vec<Stale>,
}

impl Judge<'_> {
    fn put(&mut self, entry: String, was: impl ToString, is: impl ToString) {
        let (was, is) = (was.to_string(), is.to_string());
        if was != is {
            self.stale.push(Stale { entry, was, is });
        }
    }

    /// The changed fields whose names begin with one of `prefixes`, in words.
    fn changed(&self, prefixes: &[String]) -> Option<String> {
        let words: Vec<String> = self
            .changed
            .iter()
            .filter(|changed| prefixes.iter().any(|prefix| changed.field.starts_with(prefix)))
            .map(|changed| {
                let word = |value: &Option<String>| value.clone().unwrap_or_else(|| "absent".to_owned());
                format!("{} was {}, is {}", changed.field, word(&changed.was), word(&changed.is))
            })
            .collect();
        (!words.is_empty()).then(|| words.join("; "))
    }

    /// The parts of the fingerprint that a device's queue pairs depend on.
    fn depends_on(&self, device: &str) -> Vec<String> {
        self.now.seen.devices.devices.iter().find(|known| known.name == device).map(depends_on).unwrap_or_default()
    }

    /// Whether an attempt comes out otherwise now, and how; or, where it was not made again, what changed of what it depends on.
    fn attempt(&self, id: &str) -> Option<(String, String)> {
        let Evidence { device, request, outcome, .. } = self.profile.evidence(id)?;
        let (device, request, outcome) = (device.as_deref()?, to_request(request.as_ref()?)?, outcome.as_ref()?);
        match self.now.attempts.get(&(device.to_owned(), request)) {
            Some(Outcome::NotRun { .. }) | None => {
                let mut prefixes = self.depends_on(device);
                prefixes.push("limits.".to_owned());
                let changed = self.changed(&prefixes)?;
                Some((outcome.to_string(), format!("not tried again, and {changed}")))
            }
            Some(now) if *outcome == now.kind() => None,
            Some(now) => Some((outcome.to_string(), now.to_string())),
        }
    }

    /// What of a port is not looked at: `cq_depth` is that of the recommended request, and stands with it; `queue_pairs_per_connection` was
    /// measured, and stands with the measurements; `family`, `transport` and `link_layer` are what the device is, which shows in its GIDs and
    /// driver; `state` may change with every cable; `numa_node` follows from the place in the PCI tree; `netdev` and `ipv4` of the GID say
    /// for people what its value says.
    fn port(&mut self, port: &ProfiledPort) {
        let at = |part: &str| format!("devices/{}/{}/{part}", port.name, port.port);
        let seen = self.now.seen;
        let Some((_, found)) = seen.port(&port.name, port.port) else {
            self.stale.push(Stale {
                entry: format!("devices/{}/{}", port.name, port.port),
                was: "there".to_owned(),
                is: "no such port".to_owned(),
            });
            return;
        };
        if let Some(gid) = &port.gid
            && !found.gids.iter().any(|known| known.gid == gid.value && known.kind == gid.kind)
        {
            let known: Vec<&str> = found.gids.iter().map(|gid| gid.gid.as_str()).collect();
            self.put(
                at("gid"),
                &gid.value,
                format!("not in the table, which has {}", if known.is_empty() { "nothing".to_owned() } else { known.join(", ") }),
            );
        }
        if let Some(mtu) = &port.mtu_bytes {
            self.put(at("mtu_bytes"), mtu.value, found.active_mtu_bytes.map_or_else(|| "unknown".to_owned(), |mtu| mtu.to_string()));
        }
        for limit in &port.qp.limits {
            let entry = at(&format!("qp/{}", limit.parameter));
            let granted = self.attempt(&limit.evidence).map(|(was, is)| (format!("{} {was}", limit.accepted), is));
            let refused = || {
                let (was, is) = self.attempt(limit.refused_evidence.as_deref()?)?;
                Some((format!("{} {was}", limit.refused.unwrap_or_default()), is))
            };
            if let Some((was, is)) = granted.or_else(refused) {
                self.put(entry, was, is);
            }
        }
        // Too many attempts to be made again.
        let changed = self.changed(&self.depends_on(&port.name));
        for (joint, changed) in port.qp.joint.iter().filter_map(|joint| Some((joint, changed.as_ref()?))) {
            self.put(at(&format!("qp/joint/{}/{}", joint.parameter, joint.over)), "found", changed);
        }
        if let Some(recommended) = &port.qp.recommended
            && let Some((was, is)) = self.attempt(&recommended.evidence)
        {
            self.put(at("qp/recommended"), was, is);
        }
        let class = seen.traffic_class(&port.name, port.port).map(|(class, _)| class);
        let words = |class: Option<u32>| class.map_or_else(|| "not set".to_owned(), |class| class.to_string());
        self.put(at("traffic_class"), words(port.traffic_class.as_ref().map(|class| class.value)), words(class));
        if let Some(reads) = &port.max_rd_atomic {
            let now = seen.verbs(&port.name).and_then(|verbs| verbs.attributes.as_ref());
            let now = now.map_or_else(|| "unknown".to_owned(), |now| now.max_qp_rd_atom.min(now.max_qp_init_rd_atom).to_string());
            self.put(at("max_rd_atomic"), reads.value, now);
        }
        if let Some(connection) = &port.connection
            && let Some(reached) = self.now.connections.get(&(port.name.clone(), port.port))
        {
            self.put(at("connection"), &connection.reached, reached);
        }
        if let Some(memory) = &port.memory {
            let words = |region: u64, locked: Option<u64>| {
                format!(
                    "regions up to {region} bytes, {} may be locked",
                    locked.map_or_else(|| "any number".to_owned(), |bytes| format!("{bytes} bytes"))
                )
            };
            let region =
                seen.verbs(&port.name).and_then(|verbs| verbs.attributes.as_ref()).map_or(0, |attributes| attributes.max_mr_size_bytes);
            self.put(at("memory"), words(memory.max_region_bytes, memory.memlock_bytes), words(region, seen.limits.memlock_bytes()));
        }
        if !port.measurements.is_empty() {
            let mut prefixes = self.depends_on(&port.name);
            // By which address of a port data goes makes no difference to its speed.
            prefixes.extend(["mtu_bytes", "rate_bits_per_second", "state"].map(|what| format!("port.{}.{}.{what}", port.name, port.port)));
            prefixes.push(format!("pci.nic.{}", port.pci.as_deref().unwrap_or("none")));
            if let Some(changed) = self.changed(&prefixes) {
                self.put(at("measurements"), "measured", changed);
            }
        }
    }

    fn gpus(&mut self) {
        let topology = &self.now.seen.topology;
        for gpu in &self.profile.gpus {
            let was: Vec<&str> = gpu.nics.iter().map(|nic| nic.name.as_str()).collect();
            let is = topology.gpus.iter().find(|known| known.address == gpu.pci).map(|known| known.nics.join(", "));
            self.put(format!("gpus/{}/nics", gpu.pci), was.join(", "), is.unwrap_or_else(|| "no such GPU".to_owned()));
            let Some(path) = &gpu.path else { continue };
            let mut prefixes = ["module.nvidia", "module.nv_peer_mem.", "module.gdrdrv."].map(str::to_owned).to_vec();
            prefixes.push(format!("pci.gpu.{}", gpu.pci));
            for nic in path.nic.iter().chain(gpu.nics.iter().map(|nic| &nic.name)) {
                prefixes.extend(self.depends_on(nic));
            }
            if let Some(changed) = self.changed(&prefixes) {
                self.put(format!("gpus/{}/path", gpu.pci), &path.kind, changed);
            }
        }
        for gpu in topology.gpus.iter().filter(|gpu| self.profile.gpus.iter().all(|known| known.pci != gpu.address)) {
            self.stale.push(Stale { entry: format!("gpus/{}", gpu.address), was: "not there".to_owned(), is: "there".to_owned() });
        }
    }

    fn engines(&mut self) {
        for engine in &self.profile.engines {
            let mut reasons: Vec<String> = Vec::new();
            for device in engine.devices.iter().filter(|device| device.verdict != EngineVerdict::Unknown) {
                for id in &device.evidence {
                    if let Some((was, is)) = self.attempt(id) {
                        let reason = format!("on {} a queue pair that was {was}: {is}", device.name);
                        if !reasons.contains(&reason) {
                            reasons.push(reason);
                        }
                    }
                }
            }
            if !reasons.is_empty() {
                self.put(format!("engines/{}/{}", engine.name, engine.version), verdict_word(engine.verdict), reasons.join("; "));
            }
        }
    }
}

#[cfg(test)]
#[path = "stale_tests.rs"]
mod tests;
