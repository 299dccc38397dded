//! The document of `preflight`.

use rdmadoctor_types::Word;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Comparison;
use crate::bench::LoopbackReport;
use crate::checks::{Probe, Status};
use crate::devices::Devices;
use crate::facts::Topo;
use crate::profile::{FingerprintField, Stale, Unvalidated};
use crate::qp::QpMatrix;

/// Whether a host can carry RDMA transfers, and what stands behind the answer.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Preflight {
    /// `rdmadoctor/preflight/1`.
    pub schema: String,
    /// `pass`, `warn` or `fail`. What was not run makes it `warn` at least.
    pub verdict: Word<Status>,
    /// When it was made, in UTC, as RFC 3339 writes it.
    pub created: String,
    /// Version of the program that made it.
    pub tool_version: String,
    /// The host; for people only.
    pub host_name: String,
    /// Versions, parameters, limits and identities that results depend on.
    pub fingerprint: Vec<FingerprintField>,
    /// What was done, in its order.
    pub steps: Vec<Step>,
    /// All findings, those on measurements included.
    pub probe: Option<Probe>,
    /// What was tried on each device.
    pub qp_matrix: Option<QpMatrix>,
    /// RDMA devices.
    pub devices: Option<Devices>,
    /// GPUs, NICs and their distances.
    pub topo: Option<Topo>,
    /// What was measured, device by device.
    pub measured: Vec<LoopbackReport>,
    /// The transfer profile.
    pub profile: Option<ProfileStep>,
    /// What changed since the run that was named.
    pub comparison: Option<Comparison>,
    /// The time that it might take.
    pub time_budget_us: u64,
    /// The time that it took.
    pub elapsed_us: u64,
    /// Why it ended early.
    pub stopped: Option<String>,
}

rdmadoctor_types::words! {
    /// What is done one after another.
    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    pub enum StepName {
        /// Checks of files, modules, devices, limits.
        Probe = "probe",
        /// Queue pairs of engines.
        QpMatrix = "qp-matrix",
        /// Latency.
        Ping = "ping",
        /// Bandwidth.
        Bw = "bw",
        /// The transfer profile, written and checked.
        Profile = "profile",
        /// An earlier run.
        Baseline = "baseline",
    }
}

/// A step and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// Which.
    pub step: StepName,
    /// The device that it is about, where it is about one.
    pub subject: Option<String>,
    /// How it came out; `skip` where it was not run.
    pub status: Status,
    /// What came of it, or why it was not run.
    pub summary: String,
    /// Whether time or an interruption kept it from being run, and not the host.
    pub is_missing: bool,
    /// The time that it took.
    pub elapsed_us: u64,
}

/// What became of the transfer profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProfileStep {
    /// Where it was written; absent where it was not.
    pub file: Option<String>,
    /// Whether every entry was attempted or measured on this host.
    pub is_validated: bool,
    /// Entries that were not, with why.
    pub unvalidated: Vec<Unvalidated>,
    /// Attempts that were made again when it was checked.
    pub attempts_repeated: usize,
    /// Entries that did not hold when they were.
    pub stale: Vec<Stale>,
}

/// The worst of checks and steps.
#[must_use]
pub fn verdict(probe: Option<&Probe>, steps: &[Step]) -> Word<Status> {
    let says = |status| probe.is_some_and(|probe| probe.verdict == status);
    let has = |wanted: &dyn Fn(&Step) -> bool| steps.iter().any(wanted);
    Word::Known(match () {
        () if says(Status::Fail) || has(&|step| matches!(step.status, Status::Fail | Status::Error)) => Status::Fail,
        () if probe.is_none() || says(Status::Warn) || has(&|step| step.status == Status::Warn || step.is_missing) => Status::Warn,
        () => Status::Pass,
    })
}
