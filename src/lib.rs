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
//! assert_eq!((refusal.errno, refusal.parameter.unwrap().name()), (22, "max_recv_sge")); // EINVAL
//! ```
//!
//! Documents are contracts: `profiles/schema/` has their JSON Schemas, and [`cli::exit`] the exit codes. The rest of the library changes
//! with the program.
//!
//! The types of a transfer profile are a crate of their own, `rdmadoctor-types`, for engines that read one.

pub mod bench;
pub mod capture;
pub mod catalog;
pub mod checks;
pub mod cli;
pub mod compat;
pub mod devices;
pub mod facts;
mod files;
pub mod gpu;
pub mod host;
pub mod preflight;
pub mod profile;
pub mod qp;
pub mod report;
pub mod request;
mod schema;
pub mod sim;
pub mod survey;
mod sys;
mod text;
pub mod transfer;
mod units;
pub mod verbs;
pub mod worker;
