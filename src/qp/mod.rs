//! Ask, attempt, bound: what a device grants, where its limits are, and which part of a request it refuses.

mod bounds;
mod cause;
mod culprits;
mod engines;
mod joint;
mod matrix;
mod prober;

pub use crate::request::{Ask, AskOrigin, Outcome, Parameter, QpRequest, QpType, Setting, SrqRequest, Value};
pub use bounds::{Bound, Ending, Shape, bound};
pub use cause::{Cause, CauseClass, broken_connection, classify, classify_connection};
pub use culprits::{Culprit, CulpritSet, culprits};
pub use engines::{Chosen, ask_group, choose, newer_than_known};
pub use joint::{Frontier, FrontierPoint, frontier};
pub use matrix::{
    AskGroup, AskReport, AttemptReport, ConnectionReport, CountReport, CulpritReport, DeviceReport, Grid, GridCell, MatrixOptions,
    QpMatrix, Remedy, Reported, Support, remedies_of, run_device,
};
pub use prober::{Attempter, DeviceAttempter, Prober, Stop};
