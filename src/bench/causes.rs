//! What a failure comes from, likely, and what to do about it.

use super::document::FailureReport;
use super::side::BenchError;
use crate::transfer::{Failure, TransferError};
use crate::worker::{self, Lost};

/// What is known of the host that bears on failures: lines for people.
#[derive(Debug, Clone, Default)]
pub struct Hints {
    /// Of both ends' addresses.
    pub addresses: Vec<String>,
    /// Whether they are of two networks.
    pub needs_router: bool,
    /// Of memory, and of what stands between it and a device.
    pub memory: Vec<String>,
}

/// What of the host bears on a failure, so that no more of it has to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relevance {
    /// Nothing that is known.
    Nothing,
    /// Both ends' addresses.
    Addresses,
    Memory,
}

/// What bears on this failure.
#[must_use]
pub fn bears(error: &BenchError) -> Relevance {
    let BenchError::End { failure, .. } = error else { return Relevance::Nothing };
    match failure.trouble {
        TransferError::Completion { status: 12, .. } | TransferError::Stalled { .. } => Relevance::Addresses,
        TransferError::Completion { status: 4 | 10 | 11, .. } => Relevance::Memory,
        _ => Relevance::Nothing,
    }
}

/// A failure with its likely causes.
pub fn explain(error: &BenchError, known: &Hints) -> FailureReport {
    let (step, evidence) = match error {
        BenchError::End { step, failure, .. } => (*step, failure.evidence.clone()),
        BenchError::Unexpected { step } => (*step, Vec::new()),
        BenchError::Worker(worker::Failure::Lost(Lost::Crashed { printed, .. })) => ("moving data", printed.clone()),
        BenchError::Worker(worker::Failure::Lost(Lost::Hung { held_in: Some(place), .. })) => {
            ("moving data", vec![format!("the child is held in the kernel's {place}")])
        }
        _ => ("moving data", Vec::new()),
    };
    let mut report =
        FailureReport { step: step.to_owned(), summary: error.to_string(), status: None, evidence, causes: Vec::new(), next_step: None };
    if let BenchError::End { failure, .. } = error {
        of_trouble(failure, &mut report);
    }
    match bears(error) {
        Relevance::Nothing => {}
        Relevance::Addresses => {
            report.evidence.extend(known.addresses.iter().cloned());
            if known.needs_router {
                let cause = "both ends' addresses are of two networks: without a router that passes RoCE between them nothing arrives";
                report.causes.insert(0, cause.to_owned());
            }
        }
        Relevance::Memory => report.evidence.extend(known.memory.iter().cloned()),
    }
    report
}

fn of_trouble(failure: &Failure, report: &mut FailureReport) {
    let said = |word: &str| failure.evidence.iter().any(|line| line.contains(word));
    let mut add = |causes: &[&str], next: &str| {
        report.causes.extend(causes.iter().map(|cause| (*cause).to_owned()));
        report.next_step = Some(next.to_owned());
    };
    // What the device says of itself comes before what a status may mean.
    if said("DEVICE_FATAL") || said("EIO") {
        add(&["the device was removed or reset while data moved"], "look at `dmesg`");
    } else if said("PORT_ERR") || said("is down") {
        add(
            &["the port went down while data moved"],
            "look at cable, transceiver and switch port; `rdmadoctor devices` shows the port's state",
        );
    }
    match &failure.trouble {
        TransferError::Completion { status, .. } => {
            report.status = Some(*status);
            if report.causes.is_empty() {
                let (causes, next) = of_status(*status);
                report.causes.extend(causes.iter().map(|cause| (*cause).to_owned()));
                report.next_step = Some(next.to_owned());
            }
        }
        TransferError::ShortReceive { .. } => {
            report.causes.push("a message was cut short on the way, or the provider's completions tell less than arrived".to_owned());
            report.next_step = Some("do not use this path for data that matters; update firmware and driver".to_owned());
        }
        TransferError::Stalled { lacks_credit: true, .. } if report.causes.is_empty() => {
            report.causes.push("the receiving process was stopped, or its processor is taken by others".to_owned());
            report.next_step =
                Some("look at the processor load of the receiving side; `rdmadoctor ping` shows how far latencies spread".to_owned());
        }
        TransferError::Stalled { received, completed, .. } if report.causes.is_empty() => {
            report.causes.push(if *completed == 0 && *received == 0 {
                "nothing at all got through: a firewall (UDP port 4791 for RoCE v2), a GID of a network without a way to the other side, or a device that lost its interrupt".to_owned()
            } else {
                "it began and then stopped: packets of one kind or size are lost (a path MTU that a switch does not carry, missing flow control)".to_owned()
            });
            report.next_step = Some("try `--mtu 1024`, another `--gid-index`, and `rdmadoctor probe`".to_owned());
        }
        TransferError::Call { error } if error.call == "ibv_reg_mr" => {
            report.causes.push("memory cannot be registered: the limit of locked memory (RLIMIT_MEMLOCK), or the device's own".to_owned());
            report.next_step = Some("`ulimit -l unlimited`, or smaller --sizes; `rdmadoctor probe` names the limit".to_owned());
        }
        TransferError::Call { error } if error.call == "mmap" && error.object.contains("huge pages") => {
            report.causes.push("the host keeps no, or too few, free huge pages of 2 MiB".to_owned());
            report.next_step = Some("`sysctl vm.nr_hugepages=64`, as root; grep Huge /proc/meminfo".to_owned());
        }
        TransferError::Memory { error: Some(error), .. } => {
            report.causes.push(match error.kind() {
                crate::gpu::GpuErrorKind::Library => "the GPU driver's library libcuda.so.1 is not here".to_owned(),
                crate::gpu::GpuErrorKind::NoDevice => "there is no such GPU, or CUDA_VISIBLE_DEVICES hides it".to_owned(),
                _ => "the GPU's driver gave no memory".to_owned(),
            });
            report.next_step = Some("`rdmadoctor gpu` shows the GPUs and each kind of their memory".to_owned());
        }
        TransferError::Memory { error: None, .. } => {
            report.next_step =
                Some("`rdmadoctor gpu` tries each kind of memory by each way; `--memory cuda:N` takes the one that works".to_owned());
        }
        TransferError::Call { error } if error.call == "ibv_modify_qp" && error.object.ends_with("RTR") => {
            report.causes.push(
                "the way to the other side's address is not known: no neighbour answers (ARP), or the GID belongs to no usable interface"
                    .to_owned(),
            );
            report.next_step =
                Some("`ping` the other side's address from the interface of this GID; choose another with --gid-index".to_owned());
        }
        // An iWARP queue pair begins with a TCP connection, which rdma_cm makes: EINVAL without one (siw_qp.c, erdma_qp.c).
        TransferError::Call { error }
            if error.call == "ibv_modify_qp" && error.object.ends_with("RTS") && error.errno.0 == libc::EINVAL =>
        {
            report.causes.push("the device is connected by rdma_cm alone, as iWARP is, and eRDMA without its compat mode".to_owned());
            report.causes.push("the device does not take the numbers of retries and reads that were asked for".to_owned());
            report.next_step = Some("let rdma_cm connect: `--connect cm`".to_owned());
        }
        TransferError::Call { error } if error.call == "mmap" && error.errno.0 == libc::ENOMEM => {
            report.causes.push("the host has no memory for both ends' buffers".to_owned());
            report.next_step = Some("smaller --sizes; `free -m` shows what is free".to_owned());
        }
        TransferError::Call { error } if error.call == "ibv_create_qp" || error.call == "rdma_create_qp" => {
            report.causes.push("the device refuses such a queue pair".to_owned());
            report.next_step = Some("`rdmadoctor qp-matrix` shows what it takes".to_owned());
        }
        TransferError::Manager { event, .. } => {
            report.causes.push(match event.as_str() {
                "ADDR_ERROR" => "no RDMA device reaches the address: no route, or a route over an interface without RDMA".to_owned(),
                "UNREACHABLE" | "no event" => "the other side does not answer: nobody listens, or a firewall drops it".to_owned(),
                "REJECTED" => "the other side refused: it is not waiting for this connection".to_owned(),
                _ => "the connection could not be made".to_owned(),
            });
            report.next_step = Some("check the address with `ip route get`, and that both sides chose rdma_cm (`--connect`)".to_owned());
        }
        _ => {}
    }
}

/// Likely causes of a work completion's status, and the next step. What a status means is from ibv_poll_cq(3) and IBTA 1.5, 11.6.2.
fn of_status(status: u32) -> (&'static [&'static str], &'static str) {
    match status {
        1 => (&["a receive request was shorter than the message, or a message longer than the port allows"], "compare sizes on both sides"),
        2 => (
            &["a request that the queue pair does not allow: too many entries, an operation of another type"],
            "`rdmadoctor qp-matrix` shows the limits",
        ),
        4 => (
            &[
                "a local buffer is not, or no longer, registered where the request points",
                "the device cannot reach the memory: IOMMU or ACS settings block peer access, common with GPU memory",
            ],
            "run with host memory; `rdmadoctor probe` looks at IOMMU and ACS",
        ),
        5 => (
            &["the queue pair was already in error: an earlier request failed, or the other side has gone"],
            "look at the first failure, and at the other side",
        ),
        9 => (
            &["the other side refused the request as malformed: it is longer than the receive, or of a kind that it does not allow"],
            "compare both sides' versions and sizes",
        ),
        10 => (
            &[
                "the remote key or address is wrong, or the registration lacks the access",
                "the other side cannot reach its own memory: IOMMU or ACS, common with GPU memory",
            ],
            "run with host memory on the other side; `rdmadoctor probe` there",
        ),
        11 => (&["the other side's device could not do it"], "look at `dmesg` of the other side"),
        12 => (
            &[
                "no acknowledgement came: the other side's address is not reached with this GID (another subnet, RoCE version, VLAN)",
                "a firewall or a switch drops RoCE (UDP port 4791), or a path MTU that does not pass",
                "the other side's queue pair is gone or in error",
            ],
            "compare the GIDs of both ends above; try another --gid-index, and `--mtu 1024`",
        ),
        13 => (
            &[
                "the receiver's device had no receive request: rdmadoctor sends no more than were posted, so the device did not fetch them in time",
                "the other side's memory or PCIe is too slow or stalled, or its driver has lost requests",
            ],
            "look at the counters and `dmesg` of the other side; fewer requests under way (--depth 1) tell whether it keeps up at all",
        ),
        _ => (&["the device or the transport failed"], "look at `dmesg` on both sides"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Who;
    use crate::verbs::{CallError, ErrorNumber};

    fn report(status: u32, known: &Hints) -> FailureReport {
        let trouble = TransferError::Completion {
            request: "send request".to_owned(),
            status,
            name: String::new(),
            vendor_error: 0,
            after_messages: 7,
        };
        explain(
            &BenchError::End { who: Who::Here, step: "moving data", failure: Box::new(Failure { trouble, evidence: Vec::new() }) },
            known,
        )
    }

    #[test]
    fn each_status_brings_the_evidence_that_bears_on_it() {
        let known = Hints { addresses: vec!["GID".to_owned()], needs_router: false, memory: vec!["IOMMU".to_owned()] };
        assert_eq!(report(12, &known).evidence, ["GID"]);
        assert_eq!(report(10, &known).evidence, ["IOMMU"]);
        assert_eq!(report(4, &known).evidence, ["IOMMU"]);
        for status in [5, 13] {
            let report = report(status, &known);
            assert!(report.evidence.is_empty() && !report.causes.is_empty() && report.next_step.is_some(), "{report:?}");
        }
    }

    #[test]
    fn calls_that_fail_before_data_moves_bring_a_next_step() {
        for (call, object, errno, next) in [
            ("ibv_modify_qp", "siw0 to RTS", libc::EINVAL, "--connect cm"),
            ("ibv_modify_qp", "rxe0 to RTR", libc::EHOSTUNREACH, "--gid-index"),
            ("mmap", "rxe0, 2147508224 bytes", libc::ENOMEM, "--sizes"),
            ("mmap", "rxe0, 4194304 bytes in huge pages", libc::ENOMEM, "nr_hugepages"),
        ] {
            let error = CallError { call: call.to_owned(), object: object.to_owned(), errno: ErrorNumber(errno) };
            let failure = Failure { trouble: TransferError::Call { error }, evidence: Vec::new() };
            let error = BenchError::End { who: Who::Here, step: "connecting queue pairs", failure: Box::new(failure) };
            let report = explain(&error, &Hints::default());
            assert!(!report.causes.is_empty() && report.next_step.as_ref().is_some_and(|step| step.contains(next)), "{report:?}");
        }
    }

    fn of(trouble: TransferError, evidence: &[&str]) -> FailureReport {
        let evidence = evidence.iter().map(|line| (*line).to_owned()).collect();
        explain(
            &BenchError::End { who: Who::Here, step: "moving data", failure: Box::new(Failure { trouble, evidence }) },
            &Hints::default(),
        )
    }

    /// The statuses of `enum ibv_wc_status` by what ibv_poll_cq(3) and IBTA 11.6.2 say of them.
    #[test]
    fn each_status_of_a_completion_has_its_own_causes() {
        for (status, cause, next) in [
            (1, "a message longer than", "compare sizes"),
            (2, "does not allow", "qp-matrix"),
            (4, "a local buffer", "host memory"),
            (5, "already in error", "first failure"),
            (9, "refused the request as malformed", "compare both sides' versions"),
            (10, "the remote key or address", "there"),
            (11, "the other side's device could not", "of the other side"),
            (12, "no acknowledgement came", "compare the GIDs"),
            (13, "had no receive request", "--depth 1"),
            (3, "the device or the transport failed", "dmesg"),
            (14, "the device or the transport failed", "dmesg"),
        ] {
            let report = report(status, &Hints::default());
            assert!(report.causes[0].contains(cause) && report.next_step.as_ref().unwrap().contains(next), "{report:?}");
            assert_eq!(report.status, Some(status));
        }
    }

    /// What the device says of itself comes before what a status or a call may mean.
    #[test]
    fn a_device_that_went_away_and_a_port_that_went_down_come_first() {
        let completion = || TransferError::Completion {
            request: "send request".to_owned(),
            status: 12,
            name: String::new(),
            vendor_error: 0,
            after_messages: 7,
        };
        for (evidence, cause) in [
            ("mlx5_0: DEVICE_FATAL", "removed or reset"),
            ("ibv_query_port: EIO (5)", "removed or reset"),
            ("mlx5_0: PORT_ERR of port 1", "the port went down"),
            ("mlx5_0 port 1 is down", "the port went down"),
        ] {
            let report = of(completion(), &[evidence]);
            assert!(report.causes.len() == 1 && report.causes[0].contains(cause), "{report:?}");
        }
        let both = of(completion(), &["mlx5_0 port 1 is down", "mlx5_0: DEVICE_FATAL"]);
        assert!(both.causes.len() == 1 && both.causes[0].contains("removed or reset"), "{both:?}");
        assert!(of(completion(), &["mlx5_0: PORT_ACTIVE of port 1"]).causes[0].contains("no acknowledgement"));
    }

    /// Calls by their errno, object and what is left to do.
    #[test]
    fn each_call_that_fails_has_the_causes_of_its_errno() {
        for (call, object, errno, cause, next) in [
            ("ibv_reg_mr", "mlx5_0", libc::ENOMEM, "locked memory", "ulimit -l"),
            ("ibv_reg_mr", "mlx5_0", libc::EPERM, "locked memory", "ulimit -l"),
            ("mmap", "mlx5_0, 8 bytes", libc::ENOMEM, "no memory for both ends", "free -m"),
            ("mmap", "mlx5_0, 8 bytes in huge pages", libc::ENOMEM, "huge pages", "nr_hugepages"),
            ("mmap", "mlx5_0, 8 bytes in huge pages", libc::EINVAL, "huge pages", "nr_hugepages"),
            ("ibv_modify_qp", "e to RTR", libc::ETIMEDOUT, "no neighbour answers", "--gid-index"),
            ("ibv_modify_qp", "e to RTR", libc::EINVAL, "no neighbour answers", "--gid-index"),
            ("ibv_modify_qp", "e to RTS", libc::EINVAL, "by rdma_cm alone", "--connect cm"),
            ("ibv_create_qp", "e", libc::EINVAL, "refuses such a queue pair", "qp-matrix"),
            ("rdma_create_qp", "e", libc::ENOMEM, "refuses such a queue pair", "qp-matrix"),
        ] {
            let error = CallError { call: call.to_owned(), object: object.to_owned(), errno: ErrorNumber(errno) };
            let report = of(TransferError::Call { error }, &[]);
            assert!(report.causes[0].contains(cause) && report.next_step.as_ref().unwrap().contains(next), "{call} {errno}: {report:?}");
        }
        // Nothing is made up of what tells nothing.
        for (call, object, errno) in [
            ("ibv_modify_qp", "e to RTS", libc::ETIMEDOUT),
            ("ibv_modify_qp", "e to INIT", libc::EINVAL),
            ("mmap", "mlx5_0, 8 bytes", libc::EINVAL),
            ("ibv_alloc_pd", "mlx5_0", libc::ENOMEM),
        ] {
            let error = CallError { call: call.to_owned(), object: object.to_owned(), errno: ErrorNumber(errno) };
            let report = of(TransferError::Call { error }, &[]);
            assert!(report.causes.is_empty() && report.next_step.is_none(), "{report:?}");
        }
        for (event, cause) in [
            ("ADDR_ERROR", "no RDMA device reaches"),
            ("UNREACHABLE", "does not answer"),
            ("no event", "does not answer"),
            ("REJECTED", "the other side refused"),
            ("CONNECT_ERROR", "could not be made"),
        ] {
            let report = of(TransferError::Manager { event: event.to_owned(), during: String::new(), detail: String::new() }, &[]);
            assert!(report.causes[0].contains(cause), "{report:?}");
        }
    }

    #[test]
    fn addresses_of_two_networks_are_the_first_cause_of_silence() {
        let known = Hints { needs_router: true, ..Hints::default() };
        assert!(report(12, &known).causes[0].contains("two networks"));
        assert!(!report(13, &known).causes[0].contains("two networks"));
    }
}
