//! The earlier run that this one is compared with.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::compare::compare;
use super::steps::baseline_step;
use super::{Comparison, Preflight, Step, verdict};
use crate::bench::{BandwidthResult, LoopbackReport};
use crate::checks::Status;
use crate::files;
use crate::schema;
use crate::survey::{Host, SurveyError};
use crate::text;

/// More is no document of this program's: one of a large host has some megabytes.
const MOST_BYTES: u64 = 64 << 20;

/// An earlier run, and what to do with its file.
#[derive(Default)]
pub(crate) struct Baseline {
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
    host_model: Option<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

impl Baseline {
    /// Reads it. A file that a good run is to be kept in need not be there yet.
    pub(crate) fn load(baseline: Option<&Path>, compare: Option<&Path>) -> Result<Self, SurveyError> {
        let Some(file) = baseline.or(compare) else { return Ok(Self::default()) };
        let keeps = baseline.is_some();
        let wrong = |what: String| SurveyError::Unsuited(format!("{}: {what}", file.display()));
        let text = match files::bytes(file, MOST_BYTES) {
            Err(error) if keeps && error.kind() == ErrorKind::NotFound => {
                return Ok(Self { file: Some(file.to_owned()), keeps, ..Self::default() });
            }
            Err(error) => return Err(wrong(error.to_string())),
            Ok(text) => text,
        };
        let no_document = |error: serde_json::Error| {
            wrong(format!("no document of `rdmadoctor --format json preflight`, which an earlier run is kept as: {error}"))
        };
        let saved: Saved = text::from_json(&text).map_err(no_document)?;
        if saved.schema != schema::PREFLIGHT {
            return Err(wrong(format!("schema is `{}`, expected `{}`", saved.schema, schema::PREFLIGHT)));
        }
        let earlier: Preflight = text::from_json(&text).map_err(no_document)?;
        let host_model = saved.host_model.map(|model| model.name);
        Ok(Self { file: Some(file.to_owned()), earlier: Some(earlier), host_model, keeps })
    }

    /// What the earlier run had of the same device, and of the same GPU.
    pub(super) fn rates(&self, of: &LoopbackReport) -> Vec<BandwidthResult> {
        let is_same = |measured: &&LoopbackReport| (&measured.device, &measured.gpu) == (&of.device, &of.gpu);
        let measured = self.earlier.iter().flat_map(|run| &run.measured).filter(is_same);
        measured.filter_map(|measured| measured.bw.as_ref()).flat_map(|bw| bw.results.iter().cloned()).collect()
    }

    /// Compares this run with it, and keeps this one by `write` where it is good and whole.
    pub(crate) fn keep(&self, host: &Host, document: &mut Preflight, write: impl FnOnce(&Path, &Preflight) -> Result<(), String>) {
        let Some(file) = &self.file else { return };
        let shown = file.display().to_string();
        let mut comparison = match &self.earlier {
            Some(earlier) => compare(&shown, earlier, document),
            None => Comparison { file: shown, created: None, is_replaced: false, changes: Vec::new() },
        };
        let is_whole = !host.interrupted() && !document.steps.iter().any(|step| step.is_missing);
        if self.keeps && document.verdict != Status::Fail && is_whole {
            // What it was compared with is no part of what it is.
            match write(file, document) {
                Ok(()) => comparison.is_replaced = true,
                // The report is not lost with it.
                Err(error) => {
                    let failed = Step { status: Status::Fail, summary: error, ..baseline_step(&comparison) };
                    document.steps.push(failed);
                    document.verdict = verdict(document.probe.as_ref(), &document.steps);
                    document.comparison = Some(comparison);
                    return;
                }
            }
        }
        document.steps.push(baseline_step(&comparison));
        document.comparison = Some(comparison);
    }

    /// Refuses to compare a model with a host.
    pub(crate) fn fits(&self, host: &Host) -> Result<(), SurveyError> {
        let Some(file) = self.file.as_ref().filter(|_| self.earlier.is_some()) else { return Ok(()) };
        let unsuited = |why: String| Err(SurveyError::Unsuited(why));
        match (self.host_model.as_deref(), host.model_name()) {
            (was, is) if was == is => Ok(()),
            (Some(was), _) => unsuited(format!("{} is of the modelled host {was}: give --host-model {was}", file.display())),
            (None, _) => unsuited(format!("{} is of a real host, and --host-model shows another one", file.display())),
        }
    }
}
