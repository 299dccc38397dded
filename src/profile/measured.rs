//! Transfers that are timed for a profile: a port with itself, briefly.

use super::Measurement;
use crate::bench::{BandwidthResult, ConnectionReport, Done, Hosts, LatencyResult, LoopbackHooks, Obstacle, Request, Verification, plan};
use crate::devices::{Device, Port};
use crate::transfer::{Limit, Operation, RunKind, Transport};
use crate::worker::Worker;

/// A transfer that was timed.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    pub device: String,
    pub port: u32,
    /// The figure; its evidence is named when the profile is made.
    pub measurement: Measurement,
    /// One sentence about how.
    pub how: String,
}

/// Transfers that were not timed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmeasured {
    /// The device, or all of them.
    pub device: Option<String>,
    /// Its port, or all of them.
    pub port: Option<u32>,
    pub why: String,
}

/// How thoroughly ports are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Figures, each from some repeats of this length.
    Timed {
        /// In milliseconds.
        repeat_ms: u64,
    },
    /// Only whether bytes arrive as they were sent: the speed of a simulation says nothing of a device.
    Verified,
}

/// Bytes of a message whose latency is measured: a control message of an engine, and what most devices carry inline.
const SMALL: u64 = 64;
/// Bytes of messages whose throughput is measured: what a layer's blocks of a KV cache take, and what fills any link.
const BLOCK: u64 = 64 << 10;
const LARGE: u64 = 1 << 20;
/// Queue pairs beside one whose throughput is measured.
const QUEUE_PAIRS: u32 = 4;
/// Repeats, of which the median counts.
const REPEATS: u32 = 3;

impl Effort {
    /// What is measured of a port, by the address that the profile names: writes and reads of memory that stays in a cache.
    fn requests(self, device: &Device, port: &Port) -> Vec<Request> {
        let (limit, repeats, depth) = match self {
            Self::Timed { repeat_ms } => (Limit::TimeMs(repeat_ms.max(1)), REPEATS, None),
            Self::Verified => (Limit::Iterations(1), 1, Some(1)),
        };
        let request = |kind, sizes: &[u64], queue_pairs| Request {
            kind,
            device: Some(device.name.clone()),
            port: Some(port.port),
            operations: vec![Operation::Write, Operation::Read],
            sizes: sizes.to_vec(),
            queue_pairs,
            limit,
            repeats,
            depth,
            spread: false,
            ..Request::default()
        };
        match self {
            Self::Timed { .. } => vec![
                request(RunKind::Latency, &[SMALL], 1),
                request(RunKind::Bandwidth, &[BLOCK, LARGE], 1),
                request(RunKind::Bandwidth, &[LARGE], QUEUE_PAIRS),
            ],
            Self::Verified => vec![request(RunKind::Bandwidth, &[BLOCK], 1)],
        }
    }
}

impl Measured {
    /// A row of `bw`. Where it could not be measured, why.
    ///
    /// # Errors
    /// It holds no figure that can be trusted.
    pub fn bandwidth(connection: &ConnectionReport, row: &BandwidthResult) -> Result<Self, Unmeasured> {
        let what = format!("{} of {} bytes on {} queue pairs", row.operation, row.size_bytes, row.queue_pairs);
        let verified = verified(connection, &what, row.failure.as_ref().map(|failure| &failure.summary), row.verification.as_ref())?;
        let rate = row.bytes_per_second.map_or_else(String::new, |rate| {
            let noise = if rate.is_noisy { ", noisy" } else { "" };
            format!(": {:.0} bytes/s (repeats differ by {:.0} %{noise})", rate.median, rate.spread_percent)
        });
        let how = format!("bw, {what}, {} under way on each{}{rate}", row.depth, way(connection));
        Ok(Self::of(
            connection,
            Measurement {
                op: row.operation.to_string(),
                memory: row.memory.clone(),
                size_bytes: row.size_bytes,
                queue_pairs: row.queue_pairs,
                bytes_per_second: row.bytes_per_second.map(|rate| rate.median),
                p50_us: None,
                p99_us: None,
                verified,
                evidence: String::new(),
            },
            how,
        ))
    }

    /// A row of `ping`. Where it could not be measured, why.
    ///
    /// # Errors
    /// It holds no figure that can be trusted.
    pub fn latency(connection: &ConnectionReport, row: &LatencyResult) -> Result<Self, Unmeasured> {
        let what = format!("{} of {} bytes", row.operation, row.size_bytes);
        let verified = verified(connection, &what, row.failure.as_ref().map(|failure| &failure.summary), row.verification.as_ref())?;
        let half = if row.is_half_round_trip { "half of the way to and fro" } else { "the way to and fro" };
        let samples =
            row.latencies.map_or_else(String::new, |all| format!(": {} samples, {:.2} to {:.2} us", all.samples, all.min_us, all.max_us));
        let how = format!("ping, {what}, {half}{}{samples}", way(connection));
        Ok(Self::of(
            connection,
            Measurement {
                op: row.operation.to_string(),
                memory: row.memory.clone(),
                size_bytes: row.size_bytes,
                queue_pairs: 1,
                bytes_per_second: None,
                p50_us: row.p50_us.map(|spread| spread.median).or(row.latencies.map(|all| all.p50_us)),
                p99_us: row.latencies.map(|all| all.p99_us),
                verified,
                evidence: String::new(),
            },
            how,
        ))
    }

    fn of(connection: &ConnectionReport, measurement: Measurement, how: String) -> Self {
        Self { device: connection.local.device.clone(), port: connection.local.port.into(), measurement, how }
    }
}

/// The way that data took, in words.
fn way(connection: &ConnectionReport) -> String {
    let far = connection.peer.as_ref().map_or_else(
        || {
            if connection.local.device == connection.remote.device {
                "with itself".to_owned()
            } else {
                format!("to {}", connection.remote.device)
            }
        },
        |peer| format!("to {peer}"),
    );
    format!(
        ", {} port {} {far}, GID {}, path MTU {}",
        connection.local.device, connection.local.port, connection.local.gid, connection.mtu_bytes
    )
}

/// Whether contents were compared and right; a failure or a difference is no figure.
fn verified(
    connection: &ConnectionReport,
    what: &str,
    failure: Option<&String>,
    verification: Option<&Verification>,
) -> Result<bool, Unmeasured> {
    let bad = |why: String| Unmeasured {
        device: Some(connection.local.device.clone()),
        port: Some(connection.local.port.into()),
        why: format!("{what}: {why}"),
    };
    match (failure, verification) {
        (Some(failure), _) => Err(bad(failure.clone())),
        (None, Some(Verification { mismatch: Some(mismatch), .. })) => {
            Err(bad(format!("what arrived is not what was sent, from byte {} on", mismatch.offset_bytes)))
        }
        (None, verification) => Ok(verification.is_some()),
    }
}

/// Plans each request, and measures it; `each` gets the figures. Tells whether all was measured.
fn measure_all(
    worker: &mut Worker,
    requests: &[Request],
    hosts: &Hosts<'_>,
    hooks: &mut LoopbackHooks<'_>,
    each: &mut dyn FnMut(&ConnectionReport, Done),
) -> Result<bool, String> {
    for request in requests {
        let plan = plan(request, hosts).map_err(|obstacle| match obstacle {
            // Of which device it is, is said beside it.
            Obstacle::Unusable { problem, .. } => problem.summary,
            Obstacle::Inactive { states, .. } => states.join(", "),
            Obstacle::NoAddress { .. } => "its interface has no address, which rdma_cm needs: ip address add …".to_owned(),
            obstacle => obstacle.into_problem().summary,
        })?;
        if plan.settings.transport != Transport::Rc {
            return Err("the device has no reliable connections, which RDMA writes and reads are measured over here".to_owned());
        }
        if (hooks.stop)() || !plan.measure(request.kind, worker, hooks, each)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Measures a port with itself, by the address that the profile names.
pub fn measure(
    worker: &mut Worker,
    (device, port): (&Device, &Port),
    hosts: &Hosts<'_>,
    effort: Effort,
    hooks: &mut LoopbackHooks<'_>,
) -> (Vec<Measured>, Vec<Unmeasured>) {
    let (mut measured, mut unmeasured) = (Vec::new(), Vec::new());
    let lack = |why: String| Unmeasured { device: Some(device.name.clone()), port: Some(port.port), why };
    let ended = measure_all(worker, &effort.requests(device, port), hosts, hooks, &mut |connection, done| {
        let row = match done {
            Done::Bandwidth(row) => Measured::bandwidth(connection, &row),
            Done::Latency(row) => Measured::latency(connection, &row),
        };
        match row {
            Ok(row) => measured.push(row),
            Err(lack) => unmeasured.push(lack),
        }
    });
    match ended {
        Err(why) => unmeasured.push(lack(why)),
        Ok(false) => unmeasured.push(lack("the time for it was used up, or it was interrupted: give more with --budget".to_owned())),
        Ok(true) => {}
    }
    if effort == Effort::Verified {
        for row in &mut measured {
            (row.measurement.bytes_per_second, row.measurement.p50_us, row.measurement.p99_us) = (None, None, None);
            let how = row.how.split(": ").next().unwrap_or(&row.how).to_owned();
            row.how = format!("{how}: contents were compared; in a simulation, whose speed says nothing of the device");
        }
    }
    (measured, unmeasured)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{EndReport, FailureReport};
    use crate::transfer::{CompletionMode, Connect, Mismatch};

    fn connection() -> ConnectionReport {
        let end = EndReport {
            device: "mlx5_0".to_owned(),
            port: 1,
            gid_index: 3,
            gid: "0000:0000:0000:0000:0000:ffff:0a01:0001".to_owned(),
            reason: "RoCE v2 ipv4 10.1.0.1".to_owned(),
            memory: None,
        };
        ConnectionReport {
            transport: Transport::Rc,
            connect: Connect::Oob,
            mtu_bytes: 4096,
            local: end.clone(),
            remote: end,
            memory_bytes: 0,
            peer: None,
            is_simulated: false,
        }
    }

    fn row() -> BandwidthResult {
        BandwidthResult {
            operation: Operation::Write,
            memory: "host".to_owned(),
            buffer: crate::bench::Buffer::Hot,
            size_bytes: 65536,
            bidirectional: false,
            queue_pairs: 1,
            depth: 16,
            batch: 4,
            inline: false,
            completion: CompletionMode::Poll,
            messages: 100,
            bytes_per_second: crate::bench::Spread::of(&[1e9, 2e9, 3e9]),
            messages_per_second: None,
            cpu_us_per_gib: None,
            staged: None,
            lost_percent: None,
            verification: Some(Verification { messages: 1, bytes: 65536, mismatch: None }),
            counters: Vec::new(),
            carried: Vec::new(),
            failure: None,
        }
    }

    #[test]
    fn a_figure_says_how_it_was_had() {
        let measured = Measured::bandwidth(&connection(), &row()).unwrap();
        assert_eq!((measured.device.as_str(), measured.port, measured.measurement.bytes_per_second), ("mlx5_0", 1, Some(2e9)));
        assert!(measured.measurement.verified);
        for part in
            ["write of 65536 bytes on 1 queue pairs", "port 1 with itself", "0a01:0001", "path MTU 4096", "2000000000 bytes/s", "noisy"]
        {
            assert!(measured.how.contains(part), "{part}: {}", measured.how);
        }
    }

    #[test]
    fn damage_and_failure_are_no_figures() {
        let mismatch = Mismatch { offset_bytes: 7, expected: 1, found: 2, wrong_bytes: 1, is_guard: false };
        let damaged = BandwidthResult { verification: Some(Verification { messages: 1, bytes: 65536, mismatch: Some(mismatch) }), ..row() };
        let lack = Measured::bandwidth(&connection(), &damaged).unwrap_err();
        assert!(lack.why.contains("what arrived is not what was sent, from byte 7 on"), "{lack:?}");
        let failure = FailureReport {
            step: "moving data".to_owned(),
            summary: "RETRY_EXC_ERR".to_owned(),
            status: Some(12),
            evidence: Vec::new(),
            causes: Vec::new(),
            next_step: None,
        };
        let lack = Measured::bandwidth(&connection(), &BandwidthResult { failure: Some(failure), ..row() }).unwrap_err();
        assert_eq!((lack.device.as_deref(), lack.port), (Some("mlx5_0"), Some(1)));
        assert!(lack.why.ends_with("RETRY_EXC_ERR"), "{lack:?}");
    }
}
