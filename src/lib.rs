//! Says why RDMA does not work on a host, and what would.

pub mod bench;
pub mod capture;
pub mod catalog;
pub mod checks;
pub mod cli;
pub mod compat;
pub mod facts;
pub mod host;
pub mod qp;
pub mod report;
pub mod request;
pub mod sim;
pub mod transfer;
pub mod verbs;
pub mod worker;
