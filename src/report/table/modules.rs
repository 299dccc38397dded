//! `modules` for people.

use super::{Style, Table};
use crate::facts::Modules;
use crate::host::modules::{BlockKind, Module, ModuleState, ModuleVersion, NvidiaFlavour, SymbolPresence};

impl Table for Modules {
    fn table(&self, style: &Style) -> String {
        let style = *style;
        let facts = &self.facts;
        let rows: Vec<Vec<String>> = facts
            .modules
            .iter()
            .map(|module| {
                let version = module.loaded_version.as_ref().or(module.disk_version.as_ref());
                let version = version.and_then(|version| version.version.clone()).unwrap_or_default();
                vec![module.name.clone(), state(module).to_owned(), version, first_remark(module)]
            })
            .collect();
        let mut out = style.columns(&["module", "state", "version", ""], &rows);
        // A note that belongs to several modules is told once.
        let mut notes: Vec<(Vec<&str>, String)> = Vec::new();
        for module in &facts.modules {
            for line in details(module, style) {
                match notes.iter_mut().find(|(_, text)| *text == line) {
                    Some((names, _)) => names.push(&module.name),
                    None => notes.push((vec![&module.name], line)),
                }
            }
        }
        for (names, text) in notes {
            let who = if names.len() == facts.modules.len() { "all modules".to_owned() } else { names.join(", ") };
            out += &style.entry("note", &format!("{who}: {text}"));
        }
        let peer = match &facts.peer_memory_api {
            SymbolPresence::Present { module } => {
                format!(
                    "ib_register_peer_memory_client is there{}",
                    module.as_ref().map(|module| format!(", in {module}")).unwrap_or_default()
                )
            }
            SymbolPresence::Absent => {
                "ib_register_peer_memory_client is not in this kernel, so nvidia_peermem cannot work; dma-buf is the other way".to_owned()
            }
            SymbolPresence::Unreadable { why } => format!("whether ib_register_peer_memory_client is there cannot be seen: {why}"),
        };
        out += &style.entry("peer mem.", &peer);
        if let Some(nvidia) = &facts.nvidia {
            let flavour = match nvidia.flavour {
                Some(NvidiaFlavour::Open) => ", open kernel modules",
                Some(NvidiaFlavour::Proprietary) => ", proprietary kernel modules",
                None => "",
            };
            out += &style.entry("nvidia", &format!("driver {}{flavour}", nvidia.version.as_deref().unwrap_or("of unknown version")));
            for parameter in nvidia.parameters.iter().filter(|_| style.verbose) {
                out += &style.entry("", &format!("{}={}: {}", parameter.name, parameter.value, parameter.meaning));
            }
        }
        out += &style.entry("kernel", facts.kernel_release.as_deref().unwrap_or("of unknown release"));
        if facts.directory.is_none() {
            out += &style.entry(
                "",
                "its modules' directory is not here (a container, or a kernel without modules), so what is on disk is not known",
            );
        }
        if let Some(why) = &facts.loading_disabled_by {
            out += &style.entry("loading", &format!("no module can be loaded now: {why}"));
        }
        for problem in &facts.problems {
            out += &style.entry("problem", &problem.to_string());
        }
        out
    }
}

fn state(module: &Module) -> &'static str {
    match module.state {
        ModuleState::Loaded => "loaded",
        ModuleState::BuiltIn => "built in",
        ModuleState::OnDisk => "on disk, not loaded",
        ModuleState::Absent => "absent",
        ModuleState::NotLoaded => "not loaded",
        ModuleState::Unknown => "not loaded, or built in",
    }
}

/// The most important thing to know beside the state.
fn first_remark(module: &Module) -> String {
    if module.version_differs == Some(true) {
        return "another version on disk".to_owned();
    }
    if !module.blocked_by.is_empty() {
        return "blocked".to_owned();
    }
    let set: Vec<String> = module
        .parameters
        .iter()
        .filter_map(|parameter| parameter.value.as_ref().map(|value| format!("{}={value}", parameter.name)))
        .collect();
    set.join(" ")
}

fn version(version: &ModuleVersion) -> String {
    match (&version.version, &version.srcversion) {
        (Some(version), _) => version.clone(),
        (None, Some(checksum)) => format!("srcversion {checksum}"),
        (None, None) => "unknown".to_owned(),
    }
}

fn details(module: &Module, style: Style) -> Vec<String> {
    let mut lines = Vec::new();
    if let (Some(true), Some(loaded), Some(disk)) = (module.version_differs, &module.loaded_version, &module.disk_version) {
        lines.push(format!(
            "{} is loaded, {} has {}: reload the module, or reboot, to run what is installed",
            version(loaded),
            module.disk_path.as_deref().unwrap_or("the disk"),
            version(disk)
        ));
    }
    for block in &module.blocked_by {
        let effect = match block.kind {
            BlockKind::Blacklist => "not loaded for a device that is found; `modprobe` by hand still loads it",
            BlockKind::Install => "`modprobe` does nothing instead of loading it",
            BlockKind::CommandLine => "the kernel refuses to load it",
        };
        lines.push(format!("{}:{} `{}`: {effect}", block.file, block.line, block.text));
    }
    lines.extend(module.notes.iter().cloned());
    if style.verbose {
        lines.insert(0, module.why_it_matters.clone());
        lines.extend(module.source.iter().map(|source| format!("known from {source}")));
        lines.extend(module.disk_path.iter().map(|path| format!("on disk: {path}")));
        for parameter in &module.parameters {
            let value = parameter.value.as_deref().unwrap_or("not set");
            lines.push(format!("{}={value}: {}", parameter.name, parameter.meaning));
            for configured in &parameter.configured {
                let value = configured.value.as_deref().unwrap_or_default();
                lines.push(format!("{}:{} sets it to {value} at load", configured.file, configured.line));
            }
        }
    }
    lines
}
