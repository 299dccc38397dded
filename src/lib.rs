//! Says why RDMA does not work on a host, and what would.
//!
//! The program is [`cli::run`]; everything else is here for engines and tests that want the same answers. Data flows one way:
//!
//! * collect: [`host`] reads files under a root, [`verbs`] is the library loaded at run time, [`worker`] the child process in which it
//!   is called; [`facts`] brings them together, and [`mod@capture`] keeps them in a file;
//! * know: [`catalog`] holds device families, engines and modelled hosts, and [`sim`] is a provider made of them;
//! * judge: [`request`] is what somebody asks, [`qp`] tries it, [`checks`] come to findings, [`compat`] compares engines with families;
//! * draw: [`report`].
//!
//! What a device family would say to a request, from its model:
//!
//! ```
//! use rdmadoctor::catalog::DeviceModel;
//! use rdmadoctor::request::{QpRequest, QpType};
//!
//! let erdma = DeviceModel::find("erdma").unwrap();
//! let modest = QpRequest::base(QpType::RC);
//! assert!(erdma.answer(&modest).is_ok());
//! let refusal = erdma.answer(&QpRequest { max_recv_sge: 4, ..modest }).unwrap_err();
//! assert_eq!((refusal.errno, refusal.parameter.unwrap().to_string().as_str()), (22, "max_recv_sge")); // EINVAL
//! ```
//!
//! Documents are contracts: `profiles/schema/` has their JSON Schemas, and [`cli::exit`] the exit codes. The rest of the library changes
//! with the program.
//!
//! Without the default features there is [`profile`] alone: the types of a transfer profile, for engines that read one.

#[cfg(feature = "doctor")]
pub mod bench;
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
pub mod devices;
#[cfg(feature = "doctor")]
pub mod facts;
#[cfg(feature = "doctor")]
pub mod gpu;
#[cfg(feature = "doctor")]
pub mod host;
#[cfg(feature = "doctor")]
pub mod preflight;
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
pub mod survey;
#[cfg(feature = "doctor")]
mod sys;
#[cfg(feature = "doctor")]
pub mod transfer;
#[cfg(feature = "doctor")]
pub mod verbs;
#[cfg(feature = "doctor")]
pub mod worker;
