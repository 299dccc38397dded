//! Says why RDMA does not work on a host, and what would.

pub mod catalog;
pub mod sim;
pub mod verbs;
pub mod worker;
