//! The gate before a deployment: everything that was found out in one run, one verdict, and what changed since an earlier run.

mod compare;
mod document;
mod steps;

pub use compare::{Change, ChangeKind, Comparison, compare};
pub use document::{Preflight, ProfileStep, Step, StepName, verdict};
pub use steps::{baseline_step, matrix_steps, measured_steps, no_gpu_step, probe_step, profile_step};

#[cfg(test)]
mod tests;
