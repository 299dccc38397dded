//! The gate before a deployment: everything that was found out in one run, one verdict, and what changed since an earlier run.

mod baseline;
mod compare;
mod document;
mod flight;
mod gpus;
mod measure;
mod proven;
mod steps;

pub(crate) use baseline::Baseline;
pub(crate) use compare::{Change, ChangeKind, Comparison};
pub use document::Step;
pub(crate) use document::{Preflight, ProfileStep, StepName, verdict};
pub(crate) use flight::{Request, run};

#[cfg(test)]
mod tests;
