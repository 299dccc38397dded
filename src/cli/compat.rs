//! `rdmadoctor compat`.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::session::Session;
use super::{UsageError, exit};
use crate::catalog::{Catalog, DeviceModel, Engine};
use crate::compat::{Verdict, compare};
use crate::qp::{Chosen, choose};
use crate::report::html::HostPage;

/// Arguments of `compat`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// An engine (all its releases), one release, or a file of your own in the catalog's form; all engines' newest otherwise.
    #[arg(long, value_name = "NAME[@VERSION]|FILE", add = super::complete::engines_or_files())]
    engine: Vec<String>,
    /// A device model, or a device file; all of them otherwise.
    #[arg(long, value_name = "NAME|FILE", add = super::complete::models_or_files())]
    family: Vec<String>,
    /// Exit with 1 when a verdict is this bad.
    #[arg(long, value_name = "VERDICT")]
    fail_on: Option<FailOn>,
    /// One verdict, with all that it rests on.
    #[arg(long, num_args = 2, value_names = ["ENGINE", "FAMILY"], conflicts_with_all = ["engine", "family"])]
    explain: Vec<String>,
    /// More engine files, or replacements for those that are built in.
    #[arg(long, value_name = "DIR")]
    catalog: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FailOn {
    /// A queue pair is refused for certain.
    Refused,
    /// Or the verdict rests on a figure that is not from source.
    Unknown,
}

/// Judges engines on models.
pub fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<u8> {
    let (engines, families) = match arguments.explain.as_slice() {
        [engine, family] => (vec![engine.clone()], vec![family.clone()]),
        _ => (arguments.engine.clone(), arguments.family.clone()),
    };
    let mut catalog = Catalog::load(arguments.catalog.as_deref())?;
    let mut names = Vec::new();
    for engine in &engines {
        names.push(if is_file(engine) { catalog.add(Path::new(engine))? } else { engine.clone() });
    }
    let chosen =
        if names.is_empty() { choose(&catalog, &["all".to_owned()])? } else { releases(&catalog, &names, !arguments.explain.is_empty())? };
    let own =
        families.iter().filter(|family| is_file(family)).map(|family| DeviceModel::load(Path::new(family))).collect::<Result<Vec<_>, _>>();
    let own = own.map_err(|error| UsageError(error.to_string()))?;
    let mut models: Vec<&DeviceModel> = own.iter().collect();
    for family in families.iter().filter(|family| !is_file(family)) {
        models.push(
            DeviceModel::find(family)
                .ok_or_else(|| UsageError(format!("unknown device model `{family}`; known are {}", DeviceModel::names().join(", "))))?,
        );
    }
    if models.is_empty() {
        // `limited` is the lab's device, not one that anybody owns.
        models = DeviceModel::embedded().iter().filter(|model| model.name != "limited").collect();
    }
    let compat = compare(&catalog, &chosen, &models)?;
    if session.wants_page() {
        let page = HostPage { name: "engines on device families".to_owned(), compat: Some(compat.clone()), ..HostPage::default() };
        session.print_page(vec![page])?;
    } else {
        session.print(&compat)?;
    }
    let worst = compat.cells.iter().map(|cell| cell.verdict).max();
    Ok(match (arguments.fail_on, worst) {
        (Some(FailOn::Refused), Some(Verdict::Refused)) | (Some(FailOn::Unknown), Some(Verdict::Refused | Verdict::Unknown)) => {
            exit::FAILED
        }
        _ => exit::OK,
    })
}

/// Whether a name is meant as a file: nothing in the catalog has a dot at its end or a slash.
fn is_file(name: &str) -> bool {
    name.contains('/') || name.ends_with(".yaml") || name.ends_with(".yml")
}

/// All releases of engines that are named without a version, or only the newest where one verdict is wanted.
fn releases<'a>(catalog: &'a Catalog, names: &[String], only_newest: bool) -> anyhow::Result<Vec<Chosen<'a>>> {
    let mut all = Vec::new();
    for name in names {
        let chosen = choose(catalog, std::slice::from_ref(name))?;
        match chosen.as_slice() {
            [(engine, _)] if !name.contains('@') && !only_newest => {
                let engine: &'a Engine = engine;
                all.extend(engine.releases.iter().map(|release| (engine, release)));
            }
            _ => all.extend(chosen),
        }
    }
    Ok(all)
}
