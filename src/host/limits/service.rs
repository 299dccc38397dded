//! Limits that services and logins will get: unit files of systemd and limits.conf(5).

use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::process::LimitValue;
use crate::host::ReadError;
use crate::host::reader::{Reader, shorten};

/// Where units are, the stronger first (systemd.unit(5)).
const UNIT_DIRS: [&str; 5] =
    ["/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];

/// Of these, where packages of the distribution put theirs.
const PACKAGED: [&str; 2] = ["/usr/lib/systemd/system", "/lib/systemd/system"];

/// Services that start engines, so that their limits are told even where no file sets any.
const STARTERS: [&str; 9] = ["containerd", "crio", "docker", "k3s", "kubelet", "podman", "rke2-server", "rke2-agent", "slurmd"];

/// Directives that bound what RDMA needs.
const DIRECTIVES: [&str; 3] = ["LimitMEMLOCK", "LimitNOFILE", "LimitNPROC"];

/// Limits that services and logins will get.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceFacts {
    /// Whether systemd's unit files are here at all.
    pub has_systemd: bool,
    /// `DefaultLimit…` of systemd's own configuration.
    pub defaults: Vec<UnitLimit>,
    /// Services that set a limit on locked memory, and those that start engines.
    pub units: Vec<UnitFacts>,
    /// Lines of limits.conf on locked memory. They hold for logins through PAM, not for services.
    pub logins: Vec<LoginLimit>,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnitFacts {
    /// Such as `containerd.service`.
    pub name: String,
    /// Its file and drop-ins, in the order in which they are read.
    pub files: Vec<String>,
    /// The limits that it ends up with; absent are those that no file sets.
    pub limits: Vec<UnitLimit>,
}

impl UnitFacts {
    /// The limit that a directive sets.
    #[must_use]
    pub fn limit(&self, directive: &str) -> Option<&UnitLimit> {
        self.limits.iter().find(|limit| limit.directive == directive)
    }
}

/// A limit with the line that sets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnitLimit {
    /// Such as `LimitMEMLOCK`.
    pub directive: String,
    /// The limit in force; of LimitMEMLOCK in bytes.
    pub soft: LimitValue,
    /// How far it may be raised.
    pub hard: LimitValue,
    pub file: String,
    /// The line, from 1.
    pub line: usize,
}

/// A line of limits.conf(5) on locked memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoginLimit {
    /// A user, `@group`, `*` or others.
    pub domain: String,
    /// `soft`, `hard`, or `-` for both.
    pub kind: String,
    /// The limit, in bytes.
    pub limit: LimitValue,
    pub file: String,
    /// The line, from 1.
    pub line: usize,
}

/// Reads them. A service that is asked for by name is told even if it sets nothing.
pub(super) fn read(reader: &mut Reader<'_>, asked: Option<&str>) -> ServiceFacts {
    let mut listed: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut seen = Vec::new();
    for dir in UNIT_DIRS {
        // /lib and /usr/lib are one on most hosts.
        let Some(real) = reader.canonical(dir) else { continue };
        if !seen.contains(&real) {
            seen.push(real);
            listed.insert(dir.to_owned(), reader.names(dir));
        }
    }
    let has_systemd = !listed.is_empty();
    let units = Units { dirs: UNIT_DIRS.into_iter().filter_map(|dir| Some((dir, listed.get(dir)?))).collect() };
    let defaults = defaults(reader);
    let mut told = Vec::new();
    for name in units.services(asked) {
        let Some(unit) = units.read(reader, &name) else { continue };
        let is_starter = name.strip_suffix(".service").is_some_and(|stem| STARTERS.contains(&stem));
        if is_starter || asked == Some(name.as_str()) || unit.limit("LimitMEMLOCK").is_some() {
            told.push(unit);
        }
    }
    ServiceFacts { has_systemd, defaults, units: told, logins: logins(reader) }
}

/// The directories of units with the names in them, the stronger first.
struct Units<'a> {
    dirs: Vec<(&'static str, &'a Vec<String>)>,
}

impl Units<'_> {
    fn services(&self, asked: Option<&str>) -> Vec<String> {
        let is_starter = |name: &str| name.strip_suffix(".service").is_some_and(|stem| STARTERS.contains(&stem));
        let mut services = Vec::new();
        for (dir, names) in &self.dirs {
            let names = names.iter().map(|name| name.strip_suffix(".d").unwrap_or(name)).filter(|name| name.ends_with(".service"));
            // The distribution's own hundreds of services start no engines.
            services.extend(names.filter(|name| !PACKAGED.contains(dir) || is_starter(name) || asked == Some(*name)).map(str::to_owned));
        }
        services.sort();
        services.dedup();
        services
    }

    /// A unit with its drop-ins. `None` where it is masked or has no file.
    fn read(&self, reader: &mut Reader<'_>, name: &str) -> Option<UnitFacts> {
        // An instance `a@b.service` is made from the template `a@.service`.
        let template = name.split_once('@').map(|(stem, _)| format!("{stem}@.service"));
        let mut candidates = std::iter::once(name).chain(template.as_deref());
        let main = candidates.find_map(|name| {
            self.dirs.iter().find(|(_, names)| names.iter().any(|found| found == name)).map(|(dir, _)| format!("{dir}/{name}"))
        })?;
        // Linked to /dev/null, it cannot be started.
        if reader.root.link(&main).ok().flatten().is_some_and(|target| target == Path::new("/dev/null")) {
            return None;
        }
        let mut files = vec![main];
        files.extend(self.drop_ins(reader, name, template.as_deref()));
        let mut limits: Vec<UnitLimit> = Vec::new();
        for file in &files {
            let text = reader.text(file).unwrap_or_default();
            parse(reader, file, &text, "Service", "", &mut limits);
        }
        Some(UnitFacts { name: name.to_owned(), files, limits })
    }

    /// Drop-ins of a unit, sorted by their own names; of two with the same name the stronger directory's counts.
    fn drop_ins(&self, reader: &mut Reader<'_>, name: &str, template: Option<&str>) -> Vec<String> {
        let mut found: BTreeMap<String, String> = BTreeMap::new();
        for unit in [Some(name), template, Some("service")].into_iter().flatten() {
            let folder = format!("{unit}.d");
            for (dir, names) in &self.dirs {
                if !names.contains(&folder) {
                    continue;
                }
                for file in reader.names(format!("{dir}/{folder}")).into_iter().filter(|file| file.ends_with(".conf")) {
                    found.entry(file.clone()).or_insert_with(|| format!("{dir}/{folder}/{file}"));
                }
            }
        }
        found.into_values().collect()
    }
}

/// `DefaultLimit…` lines of system.conf and its drop-ins (systemd-system.conf(5)).
fn defaults(reader: &mut Reader<'_>) -> Vec<UnitLimit> {
    let mut files = vec!["/usr/lib/systemd/system.conf".to_owned(), "/etc/systemd/system.conf".to_owned()];
    for dir in ["/usr/lib/systemd/system.conf.d", "/etc/systemd/system.conf.d"] {
        files.extend(reader.names(dir).into_iter().filter(|name| name.ends_with(".conf")).map(|name| format!("{dir}/{name}")));
    }
    let mut limits = Vec::new();
    for file in files {
        let text = reader.text(&file).unwrap_or_default();
        parse(reader, &file, &text, "Manager", "Default", &mut limits);
    }
    limits
}

/// Adds the limits of one file; a later line takes the place of an earlier one, and an empty value that of all (systemd.exec(5)).
fn parse(reader: &mut Reader<'_>, file: &str, text: &str, wanted: &str, prefix: &str, limits: &mut Vec<UnitLimit>) {
    let mut section = "";
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
        }
        if section != wanted || line.starts_with(['#', ';']) {
            continue;
        }
        let Some((key, value)) = line.split_once('=').map(|(key, value)| (key.trim(), value.trim())) else { continue };
        let Some(directive) = DIRECTIVES.iter().find(|directive| key.strip_prefix(prefix) == Some(**directive)) else { continue };
        limits.retain(|limit| limit.directive != *directive);
        if value.is_empty() {
            continue;
        }
        match both(value) {
            Some((soft, hard)) => {
                limits.push(UnitLimit { directive: (*directive).to_owned(), soft, hard, file: file.to_owned(), line: number + 1 });
            }
            None => reader.problems.push(ReadError::malformed(
                Path::new(file),
                &format!("line {}", number + 1),
                format!("{:?} is not a limit", shorten(value)),
            )),
        }
    }
}

/// `64M`, `infinity`, or `64M:infinity` for soft and hard.
fn both(text: &str) -> Option<(LimitValue, LimitValue)> {
    let (soft, hard) = text.split_once(':').unwrap_or((text, text));
    Some((size(soft)?, size(hard)?))
}

/// Sizes count in 1024 (systemd.exec(5)).
fn size(text: &str) -> Option<LimitValue> {
    if text == "infinity" {
        return Some(LimitValue::Unlimited);
    }
    let shift = match text.bytes().last()? {
        b'K' => 10,
        b'M' => 20,
        b'G' => 30,
        b'T' => 40,
        b'P' => 50,
        b'E' => 60,
        _ => 0,
    };
    let digits = if shift == 0 { text } else { &text[..text.len() - 1] };
    digits.trim().parse::<u64>().ok()?.checked_mul(1 << shift).map(LimitValue::Value)
}

/// Lines on locked memory of limits.conf and limits.d; the unit there is KiB.
fn logins(reader: &mut Reader<'_>) -> Vec<LoginLimit> {
    let mut files = vec!["/etc/security/limits.conf".to_owned()];
    let dir = "/etc/security/limits.d";
    files.extend(reader.names(dir).into_iter().filter(|name| name.ends_with(".conf")).map(|name| format!("{dir}/{name}")));
    let mut logins = Vec::new();
    for file in files {
        let text = reader.text(&file).unwrap_or_default();
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default();
            let mut fields = line.split_whitespace();
            let (Some(domain), Some(kind), Some("memlock"), Some(value)) = (fields.next(), fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let limit = match value {
                "unlimited" | "infinity" | "-1" => Some(LimitValue::Unlimited),
                value => value.parse::<u64>().ok().and_then(|value| value.checked_mul(1024)).map(LimitValue::Value),
            };
            match limit {
                Some(limit) => {
                    logins.push(LoginLimit {
                        domain: domain.to_owned(),
                        kind: kind.to_owned(),
                        limit,
                        file: file.clone(),
                        line: number + 1,
                    });
                }
                None => reader.problems.push(ReadError::malformed(
                    Path::new(&file),
                    &format!("line {}", number + 1),
                    format!("{:?} is not a limit", shorten(value)),
                )),
            }
        }
    }
    logins
}
