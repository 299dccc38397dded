//! Kernel modules: which of those that RDMA needs are there, how, and what stands in the way.
//!
//! No program is run. Several files tell parts of the story, none of them is always there, and each answer names the one it rests on.

mod disk;
mod kernel;
mod known;
mod modprobe;
mod nvidia;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::disk::Disk;
use self::kernel::{Kernel, Running};
use self::modprobe::Configuration;
use super::family::Numbers;
use super::part::Look;
use super::pci::Identity;
use super::reader::Reader;
use super::{ReadError, Root, families, family, pci, rdma};

pub(crate) use disk::ModuleVersion;
pub(crate) use kernel::SymbolPresence;
pub(crate) use known::{Known, KnownParameter};
pub(crate) use modprobe::{Block, BlockKind, ConfiguredValue};
pub(crate) use nvidia::{NvidiaDriver, NvidiaFlavour, NvidiaNode};

/// What the host says of its kernel modules.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModulesFacts {
    /// The running kernel's release.
    pub kernel_release: Option<String>,
    /// Directory of its modules; absent where there is none, as in many containers.
    pub directory: Option<String>,
    /// What says that no module can be loaded: `nomodule` on the command line, kernel.modules_disabled, or a kernel built without modules.
    pub loading_disabled_by: Option<String>,
    /// The modules, those of every host first, then the drivers of devices that are here or were asked for.
    pub modules: Vec<Module>,
    /// Whether ib_core takes peer-memory clients, as nvidia_peermem is one.
    pub peer_memory_api: SymbolPresence,
    /// NVIDIA's driver, where it is loaded.
    pub nvidia: Option<NvidiaDriver>,
    /// What could not be read or understood.
    pub problems: Vec<ReadError>,
}

/// One kernel module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Module {
    /// Its name, with `_`.
    pub name: String,
    /// What it is for.
    pub why_it_matters: String,
    /// Whether and how the kernel has it.
    pub state: ModuleState,
    /// What the state was read from; absent where it rests on nothing being found.
    pub source: Option<String>,
    /// Version in the kernel.
    pub loaded_version: Option<ModuleVersion>,
    /// Version on disk.
    pub disk_version: Option<ModuleVersion>,
    /// File on disk.
    pub disk_path: Option<String>,
    /// Whether the version on disk is another than the loaded one; absent where there are not two to compare.
    pub version_differs: Option<bool>,
    /// What keeps it from being loaded. A module can be loaded all the same, before or by other means.
    pub blocked_by: Vec<Block>,
    /// Parameters that matter. Of a module that is not loaded, only configured ones.
    pub parameters: Vec<Parameter>,
    /// What else there is to say.
    pub notes: Vec<String>,
}

/// Whether and how the kernel has a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModuleState {
    /// Loaded.
    Loaded,
    /// Part of the kernel itself.
    BuiltIn,
    /// Not loaded; `modprobe` would find it.
    OnDisk,
    /// Neither in the kernel nor on disk.
    Absent,
    /// Not in the kernel; whether on disk cannot be seen from here.
    NotLoaded,
    /// Not loaded; whether it is part of the kernel cannot be seen from here.
    Unknown,
}

/// A parameter of a module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// What it decides.
    pub meaning: String,
    /// What it is set to now; absent where the module is not loaded, or has no such parameter.
    pub value: Option<String>,
    /// What modprobe's configuration and the kernel's command line set it to when the module is loaded, the last one wins.
    pub configured: Vec<ConfiguredValue>,
}

/// Modules that register GPU memory with ib_core: the driver's own, and the older one of MLNX_OFED.
const PEER_MEMORY_CLIENTS: [&str; 2] = ["nvidia_peermem", "nv_peer_mem"];

/// Reads what matters for the devices that this host has.
#[must_use]
pub fn read(root: &Root) -> ModulesFacts {
    read_with(root, &[], Look::Whole)
}

/// As [`read`], with the modules of `asked` too: names of families (`mlx5`) or of modules (`mlx5_ib`). A brief look leaves out the file of a
/// loaded module with which nothing can be compared.
#[must_use]
pub fn read_with(root: &Root, asked: &[String], look: Look) -> ModulesFacts {
    let mut reader = Reader::new(root);
    let functions = pci::identities(&mut reader);
    let drivers = drivers(&mut reader, &functions, asked);
    let (kernel_release, note) = release(&mut reader);
    let names: Vec<String> = known::ALWAYS.iter().map(|known| known.name.clone().into_owned()).chain(drivers).collect();
    let wanted: BTreeSet<&str> = names.iter().map(String::as_str).chain(PEER_MEMORY_CLIENTS).collect();
    let disk = kernel_release.as_deref().map(|release| Disk::read(&mut reader, release, &wanted)).unwrap_or_default();
    let kernel = Kernel::read(&mut reader);
    let configuration = Configuration::read(&mut reader);
    let host = Host { kernel_release: kernel_release.as_deref(), disk, kernel, configuration, look };
    let mut modules: Vec<Module> = names.iter().map(|name| host.module(&mut reader, name)).collect();
    if let Some(note) = note {
        modules.iter_mut().filter(|module| module.disk_path.is_some()).for_each(|module| module.notes.push(note.clone()));
    }
    let nvidia = nvidia::read(&mut reader);
    let has_loaded = modules.iter().any(|module| module.state == ModuleState::Loaded);
    let is_running = |name: &str| host.kernel.running(name, host.disk.is_built_in(name)).is_some();
    let is_of_use = nvidia.is_some() || PEER_MEMORY_CLIENTS.into_iter().any(is_running) || may_have_nvidia_gpu(&functions);
    let peer_memory_api = if is_of_use {
        host.kernel.peer_memory(is_running("ib_core"))
    } else {
        SymbolPresence::Unreadable { why: "not looked for: there is no NVIDIA GPU".to_owned() }
    };
    reader.problems.extend(host.kernel.problem());
    ModulesFacts {
        peer_memory_api,
        loading_disabled_by: host.configuration.loading_disabled_by.or_else(|| if has_loaded { None } else { without_modules(root) }),
        directory: host.disk.directory,
        kernel_release,
        modules,
        nvidia,
        problems: reader.problems,
    }
}

/// Whether there is a PCI function of NVIDIA's, or no telling.
fn may_have_nvidia_gpu(functions: &[Identity]) -> bool {
    functions.is_empty() || functions.iter().any(|function| function.vendor_id == Some(0x10de))
}

/// What shows that the kernel was built without loadable modules (CONFIG_MODULES): it then has neither of two files that it always has.
fn without_modules(root: &Root) -> Option<String> {
    let has = |path| root.exists(path);
    let without = has("/proc/sys/kernel/osrelease") && !has("/proc/modules") && !has("/proc/sys/kernel/modules_disabled");
    without.then(|| "the kernel has neither /proc/modules nor /proc/sys/kernel/modules_disabled: built without loadable modules".to_owned())
}

/// A function that only this module has, where it is one that can be built in: for models of hosts.
pub(crate) fn symbol_of(module: &str) -> Option<&'static str> {
    known::find(module)?.symbol.as_deref()
}

/// Whether a module is one of those that matter, on whichever host.
pub(super) fn is_known(module: &str) -> bool {
    known::find(module).is_some()
}

/// A module's name as the kernel writes it: `-` and `_` are one.
fn normal(name: &str) -> Cow<'_, str> {
    if name.contains('-') { name.replace('-', "_").into() } else { name.into() }
}

/// The running kernel's release, and a note where it had to be guessed.
fn release(reader: &mut Reader<'_>) -> (Option<String>, Option<String>) {
    let stated = reader.text("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned());
    let stated = stated.or_else(|| reader.text("/proc/version")?.strip_prefix("Linux version ")?.split(' ').next().map(str::to_owned));
    if let Some(release) = stated.filter(|release| !release.is_empty() && !release.contains('/')) {
        return (Some(release), None);
    }
    // A host mounted elsewhere without its /proc: with one kernel installed there is no doubt which.
    match &reader.names("/lib/modules")[..] {
        [only] => (Some(only.clone()), Some(format!("the running kernel is not known: {only} is the only one in /lib/modules"))),
        _ => (None, None),
    }
}

/// Drivers of the RDMA devices and PCI functions that are here, and what was asked for beside the modules of every host.
fn drivers(reader: &mut Reader<'_>, functions: &[Identity], asked: &[String]) -> Vec<String> {
    let mut families: Vec<String> = functions.iter().filter_map(family_of).map(str::to_owned).collect();
    // A reader of its own: problems with these files are told by the reader of RDMA devices.
    families.extend(rdma::families(&mut Reader::new(reader.root)));
    let mut names: Vec<String> = families.iter().flat_map(|family| families::modules_of(family)).map(str::to_owned).collect();
    for name in asked {
        match families::modules_of(name) {
            modules if modules.is_empty() => names.push(normal(name).into_owned()),
            modules => names.extend(modules.into_iter().map(str::to_owned)),
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| !known::ALWAYS.iter().any(|known| known.name == *name) && seen.insert(name.clone()));
    names
}

fn family_of(function: &Identity) -> Option<&'static str> {
    let Identity { vendor_id: vendor, device_id: device, class, .. } = *function;
    family::family_of(function.driver.as_deref(), Numbers { vendor, device, class })
}

/// What was read once, for all modules.
struct Host<'a> {
    kernel_release: Option<&'a str>,
    disk: Disk,
    kernel: Kernel<'a>,
    configuration: Configuration,
    look: Look,
}

impl Host<'_> {
    fn module(&self, reader: &mut Reader<'_>, name: &str) -> Module {
        let (state, source) = self.state(name);
        let mut notes = Vec::new();
        let in_kernel = matches!(state, ModuleState::Loaded | ModuleState::BuiltIn);
        let loaded_version = if in_kernel { self.loaded_version(reader, name) } else { None };
        let disk_path = self.disk.file(name).map(str::to_owned);
        let is_compared = self.look == Look::Whole || state != ModuleState::Loaded || loaded_version.is_some();
        let compared = disk_path.as_deref().filter(|_| is_compared);
        let disk_version = compared.and_then(|path| self.disk_version(reader.root, path, &mut notes));
        let version_differs = match (&loaded_version, &disk_version) {
            (Some(loaded), Some(disk)) => differs(loaded, disk),
            _ => None,
        };
        let blocked_by = self.configuration.blocks(name);
        match state {
            ModuleState::BuiltIn if !blocked_by.is_empty() => notes.push("part of the kernel, so the block has no effect".to_owned()),
            ModuleState::NotLoaded => notes.push(self.unseen()),
            ModuleState::Unknown => {
                notes.push("neither /proc/kallsyms nor modules.builtin can be read, so it may be part of the kernel".to_owned())
            }
            _ => {}
        }
        if let Some(phase) = reader.attribute(format!("/sys/module/{name}/initstate")).filter(|phase| phase != "live") {
            notes.push(format!("the kernel says `{phase}`: it is still being loaded or removed, or hangs there"));
        }
        if let Some(command) = self.configuration.command(name) {
            notes.push(format!("modprobe runs a command in its stead: {} ({}:{})", command.text, command.file, command.line));
        }
        let why_it_matters = known::find(name).map_or("asked for", |known| &*known.why).to_owned();
        let parameters = known::find(name).map(|known| self.parameters(reader, known, in_kernel)).unwrap_or_default();
        Module {
            name: name.to_owned(),
            why_it_matters,
            state,
            source,
            loaded_version,
            disk_version,
            disk_path,
            version_differs,
            blocked_by,
            parameters,
            notes,
        }
    }

    /// The state and what shows it.
    fn state(&self, name: &str) -> (ModuleState, Option<String>) {
        let built_in = self.disk.is_built_in(name);
        if let Some((running, source)) = self.kernel.running(name, built_in) {
            return (if running == Running::Loaded { ModuleState::Loaded } else { ModuleState::BuiltIn }, Some(source));
        }
        let directory = self.disk.directory.as_deref().unwrap_or_default();
        if built_in == Some(true) {
            return (ModuleState::BuiltIn, Some(format!("{directory}/modules.builtin")));
        }
        if self.disk.file(name).is_some() {
            return (ModuleState::OnDisk, Some(format!("{directory}/modules.dep")));
        }
        let is_not_built_in = built_in == Some(false) || self.kernel.excludes_built_in(name);
        match (is_not_built_in, self.disk.is_indexed()) {
            (true, true) => (ModuleState::Absent, None),
            (true, false) => (ModuleState::NotLoaded, None),
            (false, _) => (ModuleState::Unknown, None),
        }
    }

    /// Why modules on disk cannot be seen.
    fn unseen(&self) -> String {
        match (&self.disk.directory, self.kernel_release) {
            (Some(directory), _) => format!("{directory} has no modules.dep, so modprobe finds nothing there: `depmod -a` makes one"),
            (None, Some(release)) => {
                format!("there is no /lib/modules/{release} here; in a container, mount the host's /lib/modules to see what is on disk")
            }
            (None, None) => "the running kernel is not known, so neither is the directory of its modules".to_owned(),
        }
    }

    fn loaded_version(&self, reader: &mut Reader<'_>, name: &str) -> Option<ModuleVersion> {
        let version = reader.attribute(format!("/sys/module/{name}/version"));
        let srcversion = reader.attribute(format!("/sys/module/{name}/srcversion"));
        if version.is_none() && srcversion.is_none() {
            return self.disk.built_in_version(name).filter(|version| *version != ModuleVersion::default());
        }
        Some(ModuleVersion { version, srcversion })
    }

    /// The version on disk. A file that was built for another kernel, or cannot be read, gets a note.
    fn disk_version(&self, root: &Root, path: &str, notes: &mut Vec<String>) -> Option<ModuleVersion> {
        let info = disk::information(root, path).map_err(|why| notes.push(why)).ok()?;
        let built_for = info.vermagic.as_deref().and_then(|vermagic| vermagic.split(' ').next());
        if let (Some(built_for), Some(release)) = (built_for, self.kernel_release)
            && built_for != release
        {
            notes.push(format!(
                "{path} was built for kernel {built_for}, not {release}: it loads only if the two keep the same symbol versions"
            ));
        }
        Some(info.version)
    }

    fn parameters(&self, reader: &mut Reader<'_>, known: &Known, in_kernel: bool) -> Vec<Parameter> {
        let mut parameters = Vec::new();
        for parameter in known.parameters.iter() {
            let configured = self.configuration.values(&known.name, &parameter.name);
            let path = Path::new("/sys/module").join(&*known.name).join("parameters").join(&*parameter.name);
            let value = if in_kernel { reader.attribute(path) } else { None };
            if in_kernel || !configured.is_empty() {
                let (name, meaning) = (parameter.name.clone().into_owned(), parameter.meaning.clone().into_owned());
                parameters.push(Parameter { name, meaning, value, configured });
            }
        }
        parameters
    }
}

/// Whether two versions are of different modules; the checksum of the sources tells more than the authors' number.
fn differs(loaded: &ModuleVersion, disk: &ModuleVersion) -> Option<bool> {
    match (&loaded.srcversion, &disk.srcversion, &loaded.version, &disk.version) {
        (Some(loaded), Some(disk), _, _) | (_, _, Some(loaded), Some(disk)) => Some(loaded != disk),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
