//! 11: health: what counters and the kernel's log tell.

mod counters;
mod log;
mod reading;

use super::Source::{Counters, Gpus, Limits, Log, Modules, Pcie, Rdma, System};
use super::{Check, Finding, leftovers, page};

pub(super) use reading::within;

/// Where the policy says nothing: half of the time that a quick look may take.
pub(super) const SLOW_READ_MS: u64 = 1000;

/// `at most 2 times (the policy's link_downs)`, or that it is a default.
fn bound(bound: String, threshold: &str, from_policy: bool) -> String {
    let origin = if from_policy { "the policy's" } else { "the default of the policy's" };
    format!("{bound}, {origin} {threshold}")
}

/// The check that tells of what was not read: why others could not judge.
pub const UNREAD: Check =
    Check { page: page("RD-1117"), needs: &[], depends_on: &["RD-1107", "RD-1110", "RD-1104"], run: reading::read_to_the_end };

pub(super) const CHECKS: &[Check] = &[
    Check { page: page("RD-1101"), needs: &[Rdma, Log], depends_on: &["RD-1113"], run: counters::flaps },
    Check { page: page("RD-1102"), needs: &[Rdma, Counters], depends_on: &["RD-1101"], run: counters::link_errors },
    Check { page: page("RD-1103"), needs: &[Rdma, Counters], depends_on: &["RD-1001", "RD-1101"], run: counters::retransmissions },
    Check { page: page("RD-1104"), needs: &[Rdma, Pcie, System, Log], depends_on: &[], run: log::bus_errors },
    Check { page: page("RD-1105"), needs: &[Log], depends_on: &["RD-1104"], run: log::xids },
    Check { page: page("RD-1106"), needs: &[Log], depends_on: &["RD-0809"], run: log::lost_gpus },
    Check { page: page("RD-1107"), needs: &[Log], depends_on: &["RD-1105", "RD-1106", "RD-1110"], run: log::hung_tasks },
    Check { page: page("RD-1108"), needs: &[], depends_on: &["RD-1107", "RD-1110"], run: reading::slow_parts },
    Check { page: page("RD-1109"), needs: &[Log], depends_on: &[], run: log::killed },
    Check { page: page("RD-1110"), needs: &[Rdma, Log], depends_on: &["RD-0809", "RD-1104"], run: log::mlx5_health },
    Check { page: page("RD-1111"), needs: &[Rdma, Log], depends_on: &["RD-1110"], run: log::mlx5_commands },
    Check { page: page("RD-1112"), needs: &[Rdma, Pcie, Log], depends_on: &["RD-0805"], run: log::iommu_faults },
    Check { page: page("RD-1113"), needs: &[Rdma, Log], depends_on: &[], run: log::port_modules },
    Check { page: page("RD-1114"), needs: &[Log], depends_on: &["RD-1110", "RD-0209"], run: log::driver_errors },
    Check { page: page("RD-1115"), needs: &[], depends_on: &[], run: reading::unread },
    Check {
        page: page("RD-1116"),
        needs: &[Pcie, Limits, Modules, Gpus],
        depends_on: &["RD-0701", "RD-0715", "RD-1105", "RD-1106"],
        run: leftovers::gpus_answer,
    },
    UNREAD,
];

/// Findings of the log, or that there are none.
fn or_well(findings: Vec<Finding>, well: &str) -> Vec<Finding> {
    if findings.is_empty() { vec![Finding::pass("host", well)] } else { findings }
}
