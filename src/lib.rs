//! Says why RDMA does not work on a host, and what would.

pub mod host;
pub mod verbs;
pub mod worker;
