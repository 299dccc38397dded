//! Says why RDMA does not work on a host, and what would.
//!
//! Without the default features there is [`profile`] alone: the types of a transfer profile, for engines that read one.

#[cfg(feature = "doctor")]
pub mod capture;
#[cfg(feature = "doctor")]
pub mod catalog;
#[cfg(feature = "doctor")]
pub mod checks;
#[cfg(feature = "doctor")]
pub mod cli;
#[cfg(feature = "doctor")]
pub mod compat;
#[cfg(feature = "doctor")]
pub mod facts;
#[cfg(feature = "doctor")]
pub mod host;
pub mod profile;
#[cfg(feature = "doctor")]
pub mod qp;
#[cfg(feature = "doctor")]
pub mod report;
#[cfg(feature = "doctor")]
pub mod request;
#[cfg(feature = "doctor")]
pub mod sim;
#[cfg(feature = "doctor")]
pub mod verbs;
#[cfg(feature = "doctor")]
pub mod worker;
