//! The earlier run that this one is compared with.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Deserialize;

use super::super::UsageError;
use super::super::session::Session;
use crate::bench::{BandwidthResult, LoopbackReport};
use crate::checks::Status;
use crate::cli::output::Output;
use crate::preflight::{Comparison, Preflight, Step, baseline_step, compare, verdict};
use crate::report::Modelled;
use crate::schema;

/// More is no document of this program's: one of a large host has some megabytes.
const MOST_BYTES: u64 = 64 << 20;

/// An earlier run, and what to do with its file.
#[derive(Default)]
pub struct Baseline {
    file: Option<PathBuf>,
    earlier: Option<Preflight>,
    host_model: Option<String>,
    /// Whether a good run takes its place.
    keeps: bool,
}

/// A saved document: as it was printed.
#[derive(Deserialize)]
struct Saved {
    schema: String,
    host_model: Option<Modelled>,
}

/// Writes it, and makes its directory where there is none.
fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    let directory = file.parent().filter(|directory| !directory.as_os_str().is_empty());
    directory.map(std::fs::create_dir_all).transpose().with_context(|| format!("cannot make the directory of {}", file.display()))?;
    Output::write_file(file, text)
}

impl Baseline {
    /// Reads it. A file that a good run is to be kept in need not be there yet.
    pub fn load(baseline: Option<&Path>, compare: Option<&Path>) -> Result<Self, UsageError> {
        let Some(file) = baseline.or(compare) else { return Ok(Self::default()) };
        let keeps = baseline.is_some();
        let wrong = |what: String| UsageError(format!("{}: {what}", file.display()));
        let mut text = Vec::new();
        match File::open(file).and_then(|opened| opened.take(MOST_BYTES).read_to_end(&mut text)) {
            Err(error) if keeps && error.kind() == ErrorKind::NotFound => {
                return Ok(Self { file: Some(file.to_owned()), keeps, ..Self::default() });
            }
            Err(error) => return Err(wrong(error.to_string())),
            Ok(_) => {}
        }
        let no_document = |error: serde_json::Error| {
            wrong(format!("no document of `rdmadoctor --format json preflight`, which an earlier run is kept as: {error}"))
        };
        let saved: Saved = serde_json::from_slice(&text).map_err(no_document)?;
        if saved.schema != schema::PREFLIGHT {
            return Err(wrong(format!("schema is `{}`, expected `{}`", saved.schema, schema::PREFLIGHT)));
        }
        let earlier: Preflight = serde_json::from_slice(&text).map_err(no_document)?;
        let host_model = saved.host_model.map(|model| model.name);
        Ok(Self { file: Some(file.to_owned()), earlier: Some(earlier), host_model, keeps })
    }

    /// What the earlier run had of the same device, and of the same GPU.
    pub fn rates(&self, of: &LoopbackReport) -> Vec<BandwidthResult> {
        let is_same = |measured: &&LoopbackReport| (&measured.device, &measured.gpu) == (&of.device, &of.gpu);
        let measured = self.earlier.iter().flat_map(|run| &run.measured).filter(is_same);
        measured.filter_map(|measured| measured.bw.as_ref()).flat_map(|bw| bw.results.iter().cloned()).collect()
    }

    /// Compares this run with it, and keeps this one where it is good and whole.
    pub fn keep(&self, session: &Session, document: &mut Preflight) {
        let Some(file) = &self.file else { return };
        let shown = file.display().to_string();
        let mut comparison = match &self.earlier {
            Some(earlier) => compare(&shown, earlier, document),
            None => Comparison { file: shown, created: None, is_replaced: false, changes: Vec::new() },
        };
        let is_whole = !session.host.interrupted() && !document.steps.iter().any(|step| step.is_missing);
        if self.keeps && document.verdict != "fail" && is_whole {
            // What it was compared with is no part of what it is.
            match session.output.json(&*document).and_then(|text| write(file, &text)) {
                Ok(()) => comparison.is_replaced = true,
                // The report is not lost with it.
                Err(error) => {
                    let failed = Step { status: Status::Fail, summary: format!("{error:#}"), ..baseline_step(&comparison) };
                    document.steps.push(failed);
                    document.verdict = verdict(document.probe.as_ref(), &document.steps).to_owned();
                    document.comparison = Some(comparison);
                    return;
                }
            }
        }
        document.steps.push(baseline_step(&comparison));
        document.comparison = Some(comparison);
    }

    /// Refuses to compare a model with a host.
    pub fn fits(&self, session: &Session) -> Result<(), UsageError> {
        let Some(file) = self.file.as_ref().filter(|_| self.earlier.is_some()) else { return Ok(()) };
        match (self.host_model.as_deref(), session.host.model_name()) {
            (was, is) if was == is => Ok(()),
            (Some(was), _) => Err(UsageError(format!("{} is of the modelled host {was}: give --host-model {was}", file.display()))),
            (None, _) => Err(UsageError(format!("{} is of a real host, and --host-model shows another one", file.display()))),
        }
    }
}
