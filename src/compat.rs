//! Engines against device families, offline: the queue-pair matrix run over the simulated provider.
//!
//! The same code judges here and on a real device. What differs is how much is known: a model's figure may be one that firmware sets or
//! that was only inferred, and then the verdict is `unknown`, with the word for it.

use std::sync::Arc;
use std::time::Instant;

use nix::sys::signal::Signal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::catalog::device::RdmaCm;
use crate::catalog::engine::Connect;
use crate::catalog::{Catalog, CatalogError, Certainty, DeviceModel};
use crate::devices::HostLimits;
use crate::qp::{
    AskReport, Attempter, Chosen, CulpritReport, DeviceAttempter, MatrixOptions, Remedy, Stop, ask_group, newer_than_known, run_device,
};
use crate::request::{Outcome, Parameter, QpRequest};
use crate::schema;
use crate::sim::{self, InstallError, ModelSource, SimConfig, SimDevice};
use crate::worker::{OpenDevice, OpenError, Target, Worker, WorkerOptions};

/// The document of `compat`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Compat {
    /// `rdmadoctor/compat/1`.
    pub schema: String,
    /// By engine, then by family.
    pub cells: Vec<Cell>,
    /// Attempts made on models.
    pub attempts_total: u64,
    /// Time taken, in microseconds.
    pub elapsed_us: u64,
}

/// An engine's release on a device family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cell {
    /// The engine.
    pub engine: String,
    /// Its version.
    pub version: String,
    /// The version that was asked for, where it is newer than any that the catalog knows: judged as `version`.
    pub asked_version: Option<String>,
    /// The device model.
    pub family: String,
    /// Whether its queue pairs are granted.
    pub verdict: Verdict,
    /// Whether it can connect them: refused where only one of engine and device takes rdma_cm.
    pub connects: Verdict,
    /// Each queue pair that the engine makes.
    pub queues: Vec<QueueCell>,
    /// What else stands in the way, or is worth knowing.
    pub notes: Vec<String>,
}

/// Whether an engine's queue pairs are granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All are, by figures from source.
    Granted,
    /// It rests on a figure that firmware sets or that was inferred.
    Unknown,
    /// At least one is refused, by figures from source.
    Refused,
}

/// A queue pair of a [`Cell`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QueueCell {
    /// The engine's name for it.
    pub queue: String,
    /// What is asked, after what the engine lowers by itself.
    pub request: QpRequest,
    /// What came of it.
    pub outcome: Outcome,
    /// `source`, `firmware` or `inferred`: what the outcome rests on.
    pub rests_on: String,
    /// Parameters whose limit is not from source.
    pub unsure: Vec<String>,
    /// The smallest change that makes it pass.
    pub culprits: Vec<CulpritReport>,
    /// What makes it pass.
    pub remedies: Vec<Remedy>,
    /// Whether the engine goes on without it.
    pub optional: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CompatError {
    /// The simulation cannot be set up.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// A simulated device cannot be opened.
    #[error("{0}")]
    Open(OpenError),
    /// The catalog lacks something.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// A model behind the simulated provider, in this process.
struct Modelled<'a> {
    model: &'a DeviceModel,
    bench: OpenDevice,
}

impl Attempter for Modelled<'_> {
    fn attempts(&mut self, requests: &[QpRequest], each: &mut dyn FnMut(usize, Outcome) -> bool) {
        for (index, request) in requests.iter().enumerate() {
            // A provider that dies is simulated by dying, which only a child process may do.
            let signal = self.model.answer(request).err().and_then(|refusal| refusal.signal);
            let outcome = match signal {
                Some(number) => Outcome::Crashed {
                    signal: Signal::try_from(number).map_or_else(|_| format!("signal {number}"), |signal| signal.to_string()),
                    printed: Vec::new(),
                },
                None => self.bench.attempt(request),
            };
            if !each(index, outcome) {
                return;
            }
        }
    }
}

/// Judges each of `engines` on each of `models`.
///
/// # Errors
/// The simulation cannot be set up, or an engine refers to one that the catalog lacks.
pub fn compare(catalog: &Catalog, engines: &[Chosen<'_>], models: &[&DeviceModel], child: &WorkerOptions) -> Result<Compat, CompatError> {
    let started = Instant::now();
    // What may crash or hang does so in a child process.
    let (faulty, sound): (Vec<&DeviceModel>, Vec<&DeviceModel>) = models.iter().partition(|model| !model.faults.is_empty());
    let verbs = Arc::new(sim::install(of_models(&sound))?);
    let mut worker = Worker::new(WorkerOptions { target: Target::Devices(of_models(&faulty)), ..child.clone() });
    let mut attempts_total = 0;
    let mut columns = Vec::new();
    for model in models {
        let (cells, attempts) = if model.faults.is_empty() {
            let mut attempter = Modelled { model, bench: OpenDevice::open(&verbs, &model.name).map_err(CompatError::Open)? };
            column(catalog, engines, model, &mut attempter)?
        } else {
            column(catalog, engines, model, &mut DeviceAttempter { worker: &mut worker, device: &model.name })?
        };
        attempts_total += attempts;
        columns.push(cells.into_iter());
    }
    // Found a model at a time, told an engine at a time.
    let cells = engines.iter().flat_map(|_| columns.iter_mut().filter_map(Iterator::next).collect::<Vec<_>>()).collect();
    let elapsed_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    Ok(Compat { schema: schema::COMPAT.to_owned(), cells, attempts_total, elapsed_us })
}

/// A device of each model, with its name.
fn of_models(models: &[&DeviceModel]) -> SimConfig {
    let device = |model: &&DeviceModel| SimDevice {
        name: model.name.clone(),
        model: ModelSource::Given(Box::new((*model).clone())),
        ports: Vec::new(),
        node_guid: 0,
        firmware: None,
        data_direct: false,
    };
    SimConfig { devices: models.iter().map(device).collect(), ..SimConfig::default() }
}

/// All engines on one model.
fn column(
    catalog: &Catalog,
    engines: &[Chosen<'_>],
    model: &DeviceModel,
    attempter: &mut dyn Attempter,
) -> Result<(Vec<Cell>, u64), CompatError> {
    let attributes = model.attributes();
    let asks = engines.iter().map(|chosen| ask_group(catalog, *chosen, Some(&attributes))).collect::<Result<Vec<_>, _>>()?;
    let counts: Vec<usize> = asks.iter().map(|group| group.asks.len()).collect();
    let options = MatrixOptions {
        asks,
        grid: Vec::new(),
        bounds: false,
        limits: HostLimits::default(),
        stop: Stop { budget: u64::MAX, deadline: None, max_memory_bytes: u64::MAX, max_asked_memory_bytes: u64::MAX },
    };
    let report = run_device(&model.name, Some(model.family.clone()), Some(&attributes), attempter, &options, &mut |_| {});
    let mut reports = report.asks.into_iter();
    let cells = engines
        .iter()
        .zip(counts)
        .map(|(chosen, count)| {
            let queues: Vec<QueueCell> = reports.by_ref().take(count).map(|ask| queue(ask, model)).collect();
            let verdict = queues.iter().filter(|queue| !queue.optional).map(verdict).max().unwrap_or(Verdict::Granted);
            let (connects, mut notes) = connection(chosen.connect(catalog), model);
            if chosen.release.inferred {
                notes.push("what this release asks was inferred, not read in its source".to_owned());
            }
            notes.extend(chosen.asked_version.map(|asked| newer_than_known(asked, &chosen.release.version)));
            notes.extend(model.faults.iter().map(|fault| format!("the model has the fault {fault}")));
            Cell {
                engine: chosen.engine.name.clone(),
                version: chosen.release.version.clone(),
                asked_version: chosen.asked_version.map(str::to_owned),
                family: model.name.clone(),
                verdict,
                connects,
                queues,
                notes,
            }
        })
        .collect();
    Ok((cells, report.attempts_total))
}

fn verdict(queue: &QueueCell) -> Verdict {
    match (&queue.outcome, queue.rests_on == Certainty::Source.name()) {
        (Outcome::NotRun { .. }, _) => Verdict::Unknown,
        (_, false) => Verdict::Unknown,
        (Outcome::Granted { .. }, true) => Verdict::Granted,
        (_, true) => Verdict::Refused,
    }
}

fn queue(ask: AskReport, model: &DeviceModel) -> QueueCell {
    let outcome =
        ask.attempts.into_iter().next().map_or_else(|| Outcome::NotRun { why: "not tried".to_owned() }, |attempt| attempt.outcome);
    let answer = model.answer(&ask.request);
    let (certainty, unsure) = match answer {
        // A fault, which is as sure as that somebody asked for it.
        _ if answer.is_ok() != outcome.is_granted() => (Certainty::Source, Vec::new()),
        Ok((grant, _)) => (grant.certainty, grant.unsure.iter().map(|aspect| aspect.name().to_owned()).collect()),
        Err(refusal) if refusal.certainty == Certainty::Source => (refusal.certainty, Vec::new()),
        Err(refusal) => (refusal.certainty, refusal.parameter.iter().map(|aspect| aspect.name().to_owned()).collect()),
    };
    QueueCell {
        queue: ask.queue,
        request: ask.request,
        outcome,
        rests_on: certainty.name().to_owned(),
        unsure,
        culprits: ask.culprits,
        remedies: ask.remedies,
        optional: ask.optional,
    }
}

/// Whether an engine can connect queue pairs of a model, and why not.
fn connection(connect: Connect, model: &DeviceModel) -> (Verdict, Vec<String>) {
    let rdma_cm = &model.connection.rdma_cm;
    let why = match (connect, rdma_cm.value) {
        (Connect::Oob, RdmaCm::Mandatory) => {
            "queue pairs of this device are connected by rdma_cm only; the engine exchanges addresses by itself"
        }
        (Connect::Cm, RdmaCm::None) => "the engine connects by rdma_cm, which this device does not take",
        _ => return (Verdict::Granted, Vec::new()),
    };
    let verdict = if rdma_cm.certainty == Certainty::Source { Verdict::Refused } else { Verdict::Unknown };
    (verdict, vec![why.to_owned()])
}

impl Cell {
    /// The worse of both verdicts: what becomes of the engine on the device.
    #[must_use]
    pub fn worst(&self) -> Verdict {
        self.verdict.max(self.connects)
    }

    /// What is refused, each once, with the queues that it is refused to where the engine has several; the errno where no change helps.
    #[must_use]
    pub fn refusals(&self) -> Vec<String> {
        let mut words: Vec<(String, Vec<&str>)> = Vec::new();
        for queue in self.queues.iter().filter(|queue| !queue.outcome.is_granted()) {
            let told: Vec<String> = queue
                .culprits
                .iter()
                .map(|culprit| match culprit.parameter {
                    Parameter::QpType => format!("no {}", culprit.asked),
                    Parameter::Srq => "no srq".to_owned(),
                    parameter => format!("{parameter} {}, takes {}", culprit.asked, culprit.accepted),
                })
                .collect();
            for word in if told.is_empty() { vec![queue.outcome.to_string()] } else { told } {
                match words.iter_mut().find(|(known, _)| *known == word) {
                    Some((_, queues)) => queues.push(&queue.queue),
                    None => words.push((word, vec![&queue.queue])),
                }
            }
        }
        let named = |(word, queues): (String, Vec<&str>)| {
            if self.queues.len() > 1 { format!("{word} ({})", queues.join(", ")) } else { word }
        };
        words.into_iter().map(named).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(engine: &str, family: &str) -> Vec<Cell> {
        let catalog = Catalog::load().unwrap();
        let (engine, _) = catalog.find(engine).unwrap();
        let chosen: Vec<_> = engine.releases.iter().map(|release| Chosen::of(engine, release)).collect();
        compare(&catalog, &chosen, &[DeviceModel::find(family).unwrap()], &no_child()).unwrap().cells
    }

    /// Models without faults need no child process.
    fn no_child() -> WorkerOptions {
        WorkerOptions {
            program: "/nowhere".into(),
            target: Target::live(),
            deadline: std::time::Duration::from_secs(1),
            interrupted: Arc::default(),
        }
    }

    #[test]
    fn the_history_of_dlslime_on_erdma_is_reproduced() {
        let cells = cells("dlslime", "erdma");
        let of = |version: &str| cells.iter().find(|cell| cell.version == version).unwrap();
        assert_eq!(of("0.0.1.post7").verdict, Verdict::Refused);
        assert_eq!(of("0.0.1.post7").refusals(), ["max_recv_sge 4, takes 1"]);
        assert_eq!(of("0.0.1.post10").verdict, Verdict::Granted);
        for version in ["0.0.2.post1", "0.1.0.post1", "0.1.23"] {
            assert_eq!(of(version).verdict, Verdict::Refused, "{version}");
            assert!(
                of(version).refusals().iter().any(|word| word.starts_with("max_inline_data 256, takes 96")),
                "{version}: {:?}",
                of(version).refusals()
            );
        }
        assert!(of("0.0.1.post10").notes[0].contains("rdma_cm"));
        assert_eq!((of("0.0.1.post10").connects, of("0.0.1.post10").worst()), (Verdict::Refused, Verdict::Refused));
    }

    #[test]
    fn an_engine_that_lowers_its_request_is_granted() {
        assert_eq!(cells("mooncake", "erdma").last().unwrap().verdict, Verdict::Granted);
    }

    #[test]
    fn every_engine_has_a_verdict_on_every_family() {
        let catalog = Catalog::load().unwrap();
        let chosen: Vec<_> = catalog.engines().iter().map(|engine| Chosen::of(engine, engine.release(None).unwrap())).collect();
        let models: Vec<_> = DeviceModel::embedded().iter().collect();
        let compat = compare(&catalog, &chosen, &models, &no_child()).unwrap();
        assert_eq!(compat.cells.len(), chosen.len() * models.len());
        for cell in &compat.cells {
            assert!(!cell.queues.is_empty());
            // A certain refusal is explained.
            if cell.verdict == Verdict::Refused {
                assert!(!cell.refusals().is_empty(), "{cell:?}");
            }
        }
        // The order is by engine, then by model.
        assert_eq!(
            (&cells_names(&compat)[0], &cells_names(&compat)[1]),
            (&(chosen[0].engine.name.clone(), models[0].name.clone()), &(chosen[0].engine.name.clone(), models[1].name.clone()))
        );
    }

    fn cells_names(compat: &Compat) -> Vec<(String, String)> {
        compat.cells.iter().map(|cell| (cell.engine.clone(), cell.family.clone())).collect()
    }
}
