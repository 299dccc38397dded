//! Completions and manual pages, from the definitions of the commands. The shells' scripts ask the program itself what can follow, so they
//! know this host's devices and the catalog's engines, and never go stale.

use std::ffi::{OsStr, OsString};

use anyhow::Context as _;
use clap::Args;
use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter as _};
use clap_complete::env::{CompleteEnv, Shells};

use super::session::Session;
use super::{UsageError, exit};
use crate::catalog::{Catalog, CatalogList, DeviceModel};
use crate::checks::{self, Category};
use crate::host::Root;
use crate::report;
use crate::sim::HostModel;

/// The variable by which a shell's script asks.
const VARIABLE: &str = "RDMADOCTOR_COMPLETE";

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArguments {
    /// The shell.
    #[arg(value_name = "SHELL", value_parser = ["bash", "elvish", "fish", "powershell", "zsh"])]
    shell: String,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
pub struct ManArguments {
    /// The page of this command, such as `probe`; the program's own otherwise.
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
}

/// Answers a shell that asks what can follow. `true` where one did.
pub fn answer() -> bool {
    if std::env::var_os(VARIABLE).is_some()
        && let Some(directory) = value_of("--catalog")
    {
        // Whatever is wrong with it is told when the command runs.
        let _ = crate::catalog::added::add(directory.as_ref());
    }
    let completion = CompleteEnv::with_factory(super::command).var(VARIABLE);
    match completion.try_complete(std::env::args_os(), std::env::current_dir().ok().as_deref()) {
        Ok(answered) => answered,
        Err(error) => {
            // On the terminal of somebody who is typing; the shell goes on without candidates.
            let _ = error.print();
            true
        }
    }
}

/// Prints the script for a shell.
pub fn completions(_: &Session, arguments: &CompletionsArguments) -> anyhow::Result<u8> {
    let mut script = Vec::new();
    let shells = Shells::builtins();
    let shell = shells.completer(&arguments.shell).ok_or_else(|| UsageError(format!("unknown shell `{}`", arguments.shell)))?;
    shell.write_registration(VARIABLE, "rdmadoctor", "rdmadoctor", "rdmadoctor", &mut script).context("cannot write the script")?;
    let mut script = String::from_utf8(script).context("the script is no text")?;
    if arguments.shell == "zsh" {
        // Where zsh loads the file at the first completion, that one has to be answered as well.
        script += "\nif [ \"$funcstack[1]\" = _rdmadoctor ]; then\n    _clap_dynamic_completer_rdmadoctor \"$@\"\nfi\n";
    }
    report::print_text(&script)?;
    Ok(exit::OK)
}

/// Prints a manual page.
pub fn man(_: &Session, arguments: &ManArguments) -> anyhow::Result<u8> {
    let mut command = super::command();
    command.build();
    let mut page = &command;
    for name in &arguments.command {
        page = page.find_subcommand(name).ok_or_else(|| {
            let known: Vec<&str> = page.get_subcommands().filter(|command| !command.is_hide_set()).map(clap::Command::get_name).collect();
            UsageError(format!("unknown command `{name}`; known are {}", known.join(", ")))
        })?;
    }
    let mut text = Vec::new();
    let source = concat!("rdmadoctor ", env!("CARGO_PKG_VERSION"));
    clap_mangen::Man::new(page.clone()).source(source).render(&mut text).context("cannot write the page")?;
    report::print_text(&String::from_utf8(text).context("the page is no text")?)?;
    Ok(exit::OK)
}

/// Kinds of memory.
pub fn memory_kinds() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let kinds = ["host", "host:huge", "host:pinned", "cuda:0", "cuda:0:vmm", "cuda:0:dmabuf", "cuda:0:peermem", "cuda:0:staged"];
        kinds.into_iter().map(CompletionCandidate::new).collect()
    })
}

/// Engines whose way to GPU memory is known.
pub fn gpu_engines() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let Ok(catalog) = Catalog::load() else { return Vec::new() };
        let known = catalog.engines().iter().filter(|engine| engine.gpu_paths.is_some());
        known.map(|engine| CompletionCandidate::new(engine.name.clone())).collect()
    })
}

/// RDMA devices: of the modelled host that the command line names, else of this one.
pub fn devices() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let root = modelled().map_or_else(Root::default, |model| model.root());
        let devices = crate::host::rdma::read(&root).devices.unwrap_or_default();
        devices.into_iter().map(|device| CompletionCandidate::new(device.name)).collect()
    })
}

/// The modelled host that the command line names.
fn modelled() -> Option<HostModel> {
    HostModel::find(&value_of("--host-model")?).ok()
}

/// What the command line that is completed gives an option.
fn value_of(option: &str) -> Option<String> {
    let words: Vec<OsString> = std::env::args_os().collect();
    let text = |word: &OsStr| word.to_str().map(str::to_owned);
    words.iter().enumerate().find_map(|(index, word)| match text(word)?.strip_prefix(option)? {
        "" => text(words.get(index + 1)?),
        value => value.strip_prefix('=').map(str::to_owned),
    })
}

/// Engines, and after an `@` their releases; or a file.
pub fn engines_or_files() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| or_files(current, engines_like(current)))
}

fn engines_like(current: &OsStr) -> Vec<CompletionCandidate> {
    let Ok(catalog) = Catalog::load() else { return Vec::new() };
    let wants_release = current.to_string_lossy().contains('@');
    let names = catalog.engines().iter().flat_map(|engine| {
        let releases = engine.releases.iter().filter(move |_| wants_release).map(|release| format!("{}@{}", engine.name, release.version));
        (!wants_release).then(|| engine.name.clone()).into_iter().chain(releases)
    });
    like(current, names)
}

/// Modelled hosts, or a file.
pub fn hosts_or_files() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| or_files(current, like(current, HostModel::names().map(str::to_owned))))
}

/// Device models, or a file.
pub fn models_or_files() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| or_files(current, like(current, DeviceModel::names().into_iter().map(str::to_owned))))
}

/// Names of the catalog's files.
pub fn catalog_names() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let files = CatalogList::new().map(|list| list.files).unwrap_or_default();
        files.into_iter().map(|entry| CompletionCandidate::new(entry.name).help(Some(entry.title.into()))).collect()
    })
}

/// What profiles are exported for.
pub fn exporters() -> ArgValueCandidates {
    ArgValueCandidates::new(|| crate::profile::export::names().map(CompletionCandidate::new).collect())
}

/// Checks.
pub fn checks() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        checks::registry().map(|check| CompletionCandidate::new(check.page.id).help(Some(check.page.title.into()))).collect()
    })
}

/// Checks and their categories.
pub fn checks_and_categories() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let categories = Category::ALL
            .into_iter()
            .map(|category| CompletionCandidate::new(format!("{:02}xx", category.number())).help(Some(category.title().into())));
        categories
            .chain(checks::registry().map(|check| CompletionCandidate::new(check.page.id).help(Some(check.page.title.into()))))
            .collect()
    })
}

fn or_files(current: &OsStr, mut names: Vec<CompletionCandidate>) -> Vec<CompletionCandidate> {
    names.extend(PathCompleter::file().complete(current));
    names
}

fn like(current: &OsStr, names: impl Iterator<Item = String>) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy().into_owned();
    names.filter(|name| name.starts_with(&current)).map(CompletionCandidate::new).collect()
}
