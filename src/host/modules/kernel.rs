//! What the running kernel says of its modules: /sys/module, /proc/modules and, as the last resort, /proc/kallsyms.
//!
//! None of the three is always there. A kernel without loadable modules has no /proc/modules; a module that is built in has a
//! directory in /sys/module only if it has parameters, a version or a driver; kallsyms can be compiled out.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{known, normal};
use crate::host::reader::Reader;
use crate::host::{ReadError, Root, Source};

/// Function of an ib_core that takes peer-memory clients: MLNX_OFED's and DOCA's do, the kernel's own does not.
const PEER_MEMORY: &str = "ib_register_peer_memory_client";

/// Longest list of symbols that is read: a kernel has some 10 to 20 MB of them.
const SYMBOLS_LIMIT_BYTES: u64 = 256 << 20;

/// Whether the kernel has a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "presence", rename_all = "snake_case")]
pub enum SymbolPresence {
    Present {
        /// Module that it is in; absent where it is built in.
        module: Option<String>,
    },
    /// It has not.
    Absent,
    /// The list of symbols cannot be read.
    Unreadable { why: String },
}

impl Default for SymbolPresence {
    fn default() -> Self {
        Self::Unreadable { why: "nobody looked".to_owned() }
    }
}

/// How the kernel has a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Running {
    Loaded,
    BuiltIn,
}

/// What was read once, for all modules.
pub(super) struct Kernel<'a> {
    root: &'a Root,
    /// Modules of /proc/modules; absent where there is no such file.
    listed: Option<BTreeSet<String>>,
    /// Read when nothing else tells: the kernel takes a tenth of a second to write its list of symbols.
    symbols: OnceCell<Result<Symbols, Unread>>,
}

/// Why there are no symbols.
struct Unread {
    why: String,
    problem: Option<ReadError>,
}

/// What kallsyms says of the symbols and modules that matter here.
#[derive(Default)]
struct Symbols {
    /// Where each known symbol was seen: modules, or the kernel itself.
    owners: BTreeMap<String, Vec<Option<String>>>,
    /// Modules that have any symbol.
    modules: BTreeSet<String>,
}

impl<'a> Kernel<'a> {
    pub(super) fn read(reader: &mut Reader<'a>) -> Self {
        let text = reader.text("/proc/modules");
        let listed =
            text.map(|text| text.lines().filter_map(|line| line.split_whitespace().next()).map(|name| normal(name).into_owned()).collect());
        Self { root: reader.root, listed, symbols: OnceCell::new() }
    }

    fn symbols(&self) -> Result<&Symbols, &Unread> {
        self.symbols.get_or_init(|| symbols(self.root)).as_ref()
    }

    /// The file that could not be read, where it was needed.
    pub(super) fn problem(&self) -> Option<ReadError> {
        self.symbols.get()?.as_ref().err()?.problem.clone()
    }

    /// How the running kernel has a module, and what shows it. `None` where nothing does. `built_in` is what modules.builtin says.
    pub(super) fn running(&self, module: &str, built_in: Option<bool>) -> Option<(Running, String)> {
        let dir = format!("/sys/module/{module}");
        // Written for loadable modules only (kernel/module/sysfs.c).
        for attribute in ["initstate", "coresize"] {
            let path = format!("{dir}/{attribute}");
            if self.root.exists(&path) {
                return Some((Running::Loaded, path));
            }
        }
        if self.listed.as_ref().is_some_and(|listed| listed.contains(module)) {
            return Some((Running::Loaded, "/proc/modules".to_owned()));
        }
        // Where /proc/modules is, it lists them all.
        if self.listed.is_none() && self.symbols().is_ok_and(|symbols| symbols.modules.contains(module)) {
            return Some((Running::Loaded, format!("/proc/kallsyms: [{module}]")));
        }
        if self.root.exists(&dir) {
            return Some((Running::BuiltIn, dir));
        }
        if built_in.is_some() {
            return None;
        }
        let symbol = known::find(module)?.symbol.as_deref()?;
        let owners = self.symbols().ok()?.owners.get(symbol)?;
        owners.contains(&None).then(|| (Running::BuiltIn, format!("/proc/kallsyms: {symbol}")))
    }

    /// Whether the symbols tell that a module is not built in.
    pub(super) fn excludes_built_in(&self, module: &str) -> bool {
        let Some(known) = known::find(module) else { return false };
        // What has no symbol is never part of a kernel's own sources.
        known.symbol.as_deref().is_none_or(|symbol| self.symbols().is_ok_and(|symbols| !symbols.owners.contains_key(symbol)))
    }

    /// Whether ib_core takes peer-memory clients.
    pub(super) fn peer_memory(&self, ib_core_runs: bool) -> SymbolPresence {
        match self.symbols() {
            Err(unread) => SymbolPresence::Unreadable { why: unread.why.clone() },
            Ok(symbols) => match symbols.owners.get(PEER_MEMORY).and_then(|owners| owners.first()) {
                Some(module) => SymbolPresence::Present { module: module.clone() },
                // The symbol is ib_core's; of a module that is not loaded, kallsyms says nothing.
                None if !ib_core_runs => SymbolPresence::Unreadable { why: "ib_core is not loaded".to_owned() },
                None => SymbolPresence::Absent,
            },
        }
    }
}

/// Reads kallsyms line by line: it is long, and little of it is wanted.
fn symbols(root: &Root) -> Result<Symbols, Unread> {
    const PATH: &str = "/proc/kallsyms";
    let source = match root.open(PATH) {
        Ok(Some(source)) => source,
        Ok(None) => return Err(Unread { why: format!("{PATH} is absent"), problem: None }),
        Err(error) => return Err(Unread { why: error.to_string(), problem: Some(error) }),
    };
    scan(source).map_err(|why| Unread { why: format!("{PATH}: {why}"), problem: None })
}

fn scan(source: Source) -> Result<Symbols, String> {
    let wanted: BTreeSet<&str> = known::all().filter_map(|known| known.symbol.as_deref()).chain([PEER_MEMORY]).collect();
    let mut found = Symbols::default();
    let mut input = BufReader::with_capacity(1 << 16, source.take(SYMBOLS_LIMIT_BYTES));
    let mut line = Vec::new();
    let mut functions = 0_u64;
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line).map_err(|error| error.to_string())? == 0 {
            break;
        }
        // Address, type, name and, for a module's, its name in brackets.
        let Ok(text) = std::str::from_utf8(&line) else { continue };
        let mut fields = text.split_ascii_whitespace().skip(1);
        let (Some(_), Some(name)) = (fields.next(), fields.next()) else { continue };
        functions += 1;
        let module = fields.next().and_then(|field| field.strip_prefix('[')?.strip_suffix(']')).map(normal);
        let module = module.as_deref();
        // The compiler adds `.cold`, `.isra.0` and the like.
        let name = name.split('.').next().unwrap_or(name);
        if wanted.contains(name) {
            let owners = found.owners.entry(name.to_owned()).or_default();
            if !owners.iter().any(|owner| owner.as_deref() == module) {
                owners.push(module.map(str::to_owned));
            }
        }
        if let Some(module) = module.filter(|module| !found.modules.contains(*module)) {
            found.modules.insert(module.to_owned());
        }
    }
    if functions == 0 { Err("lists no symbol".to_owned()) } else { Ok(found) }
}
