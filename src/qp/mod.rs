//! Ask, attempt, bound: what a device grants, where its limits are, and which part of a request it refuses.

mod bounds;
mod cause;
mod culprits;
mod engines;
mod joint;
mod matrix;
mod prober;

pub(crate) use crate::request::Setting;
pub use crate::request::{Ask, AskOrigin, Outcome, Parameter, QpRequest, QpType, SrqRequest, Value};
pub(crate) use bounds::bound;
pub use bounds::{Bound, Ending, Shape};
pub use cause::classify;
pub(crate) use cause::{Cause, CauseClass, broken_connection, classify_connection};
pub(crate) use culprits::{Culprit, CulpritSet};
pub(crate) use engines::{Chosen, ask_group, choose, newer_than_known};
pub use joint::Frontier;
pub(crate) use joint::frontier;
pub use matrix::{AskGroup, AskReport, DeviceReport, MatrixOptions, Reported, run_device};
pub(crate) use matrix::{AttemptReport, ConnectionReport, CountReport, CulpritReport, Grid, QpMatrix, Remedy, remedies_of};
pub use prober::{Attempter, Stop};
pub(crate) use prober::{DeviceAttempter, Prober};
