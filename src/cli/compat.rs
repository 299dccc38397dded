//! `rdmadoctor compat`.

use std::path::Path;

use clap::{Args, ValueEnum};

use super::engines;
use super::session::Session;
use super::{UsageError, exit};
use crate::catalog::{Catalog, DeviceModel, is_file};
use crate::compat::{Cell, Verdict, compare};
use crate::qp::{Chosen, choose};

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
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FailOn {
    /// A queue pair, or connecting it, is refused for certain.
    Refused,
    /// Or a verdict rests on a figure that is not from source.
    Unknown,
}

/// Judges engines on models.
pub fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<u8> {
    let (wanted, families) = match arguments.explain.as_slice() {
        [engine, family] => (vec![engine.clone()], vec![family.clone()]),
        _ => (arguments.engine.clone(), arguments.family.clone()),
    };
    let mut catalog = Catalog::load()?;
    let mut names = engines::with_files(&mut catalog, &wanted)?;
    if names.is_empty() {
        names.push("all".to_owned());
    }
    let chosen = releases(&catalog, &names, !arguments.explain.is_empty())?;
    let own = families
        .iter()
        .filter(|family| is_file(family))
        .map(|family| DeviceModel::load(Path::new(family)))
        .collect::<Result<Vec<_>, _>>()?;
    let mut models: Vec<&DeviceModel> = Vec::new();
    for (index, model) in own.iter().enumerate() {
        if own[..index].iter().any(|other| other.name == model.name && other != model) {
            return Err(UsageError(format!("two of the device files have the name `{}`", model.name)).into());
        }
        add(&mut models, model);
    }
    for family in families.iter().filter(|family| !is_file(family)) {
        let model = DeviceModel::find(family);
        let unknown = || UsageError(format!("unknown device model `{family}`; known are {}", DeviceModel::names().join(", ")));
        add(&mut models, model.ok_or_else(unknown)?);
    }
    if models.is_empty() {
        // `limited` is the lab's device, not one that anybody owns.
        models = DeviceModel::all().filter(|model| model.name != "limited").collect();
    }
    let compat = compare(&catalog, &chosen, &models, &session.host.worker_options()?)?;
    session.output.print(&compat)?;
    let worst = compat.cells.iter().map(Cell::worst).max();
    Ok(match (arguments.fail_on, worst) {
        (Some(FailOn::Refused), Some(Verdict::Refused)) | (Some(FailOn::Unknown), Some(Verdict::Refused | Verdict::Unknown)) => {
            exit::FAILED
        }
        _ => exit::OK,
    })
}

/// Each model once; a file stands for the built-in model of its name.
fn add<'a>(models: &mut Vec<&'a DeviceModel>, model: &'a DeviceModel) {
    if !models.iter().any(|other| other.name == model.name) {
        models.push(model);
    }
}

/// All releases of engines that are named without a version, or only the newest where one verdict is wanted.
fn releases<'a>(catalog: &'a Catalog, names: &'a [String], only_newest: bool) -> anyhow::Result<Vec<Chosen<'a>>> {
    let mut all: Vec<Chosen<'a>> = Vec::new();
    for name in names {
        let mut chosen = choose(catalog, std::slice::from_ref(name))?;
        if let [Chosen { engine, .. }] = chosen[..]
            && !name.contains('@')
            && !only_newest
        {
            chosen = engine.releases.iter().map(|release| Chosen::of(engine, release)).collect();
        }
        let fresh = chosen.into_iter().filter(|one| !all.contains(one)).collect::<Vec<_>>();
        all.extend(fresh);
    }
    Ok(all)
}
