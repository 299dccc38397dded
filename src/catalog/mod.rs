//! What is known beforehand of device families: limits, order of checks, error numbers, and where each figure comes from.
//!
//! Read from `profiles/devices/*.yaml`, which are part of the binary; more can be loaded from a directory. Nothing here talks to a
//! device, and every answer is computed from the figures alone.

mod accept;
pub mod device;
mod embedded;
mod figure;
mod model;
mod packing;
pub mod rules;
mod state;
#[cfg(test)]
mod tests;

pub use accept::{Grant, Parameter, Refusal};
pub use device::DeviceModel;
pub use embedded::{CatalogError, load_directory};
pub use figure::{Certainty, Derivation, Errno, Figure};
pub use model::ObjectKind;
pub use packing::{Efa, Hns, Irdma, Mlx4, Mlx5, Packing};
pub use state::{AttributeMask, Effect, ModifyRequest, QpState};
