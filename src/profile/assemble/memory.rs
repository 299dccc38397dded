//! Memory regions and transfers of a profile.

use super::Draft;
use crate::facts::HostMemory;
use crate::profile::{EvidenceKind, Measurement, Memory, Proven};

impl Draft<'_> {
    pub(super) fn memory(&mut self, entry: &str, device: &str) -> Option<Memory> {
        let attributes = self.material.seen.verbs(device)?.attributes.as_ref()?;
        let max_region_bytes = attributes.max_mr_size_bytes;
        let memlock_bytes = self.material.seen.limits.memlock_bytes();
        let asked_bytes = self.material.kv_bytes;
        let tried = self.material.host_memory.iter().find(|tried| tried.device == device);
        if let Some(why) = unregistered(asked_bytes, memlock_bytes, tried) {
            self.lack(&format!("{entry}/memory"), why);
        }
        let limit = memlock_bytes.map_or_else(|| "no limit on locked memory".to_owned(), |bytes| format!("{bytes} bytes may be locked"));
        let summary = format!("ibv_query_device on {device}: max_mr_size {max_region_bytes}; /proc/self/limits: {limit}");
        let evidence = self.book.add_of(device, EvidenceKind::Query, summary);
        let registered_evidence = tried
            .filter(|tried| tried.largest_bytes.is_some() || tried.refused.is_some())
            .map(|tried| self.book.add_of(device, EvidenceKind::Registration, registered(device, tried)));
        Some(Memory {
            max_region_bytes,
            asked_bytes,
            regions: asked_bytes.map(|asked| asked.div_ceil(max_region_bytes.max(1))),
            memlock_bytes,
            evidence,
            registered_bytes: tried.and_then(|tried| tried.largest_bytes),
            refused_bytes: tried.and_then(|tried| Some(tried.refused.as_ref()?.bytes)),
            registered_evidence,
        })
    }

    pub(super) fn measurements(&mut self, entry: &str, device: &str, port: u32) -> (Vec<Measurement>, Option<Proven<u32>>) {
        let mut measurements = Vec::new();
        for measured in self.material.measured.iter().filter(|one| one.device == device && one.port == port) {
            let evidence = self.book.add_of(device, EvidenceKind::Measurement, measured.how.clone());
            measurements.push(Measurement { evidence, ..measured.measurement.clone() });
        }
        let entry = format!("{entry}/measurements");
        let of_port = |known: Option<u32>| known.is_none_or(|known| known == port);
        let of_device = |known: Option<&String>| known.is_none_or(|known| known == device);
        let own = self.material.unmeasured.iter().filter(|lack| of_device(lack.device.as_ref()) && of_port(lack.port));
        let mut reasons: Vec<String> = own.map(|lack| lack.why.clone()).collect();
        for op in ["write", "read"] {
            let of_op = || measurements.iter().filter(|one| one.op == op);
            let figures =
                [("throughput", of_op().any(|one| one.bytes_per_second.is_some())), ("latency", of_op().any(|one| one.p50_us.is_some()))];
            // Where a reason is given already it need not be given for each.
            if reasons.is_empty() {
                let lacking = figures.iter().filter(|(_, is_there)| !is_there);
                reasons.extend(lacking.map(|(figure, _)| format!("no {figure} of {op} was measured")));
            }
        }
        for why in reasons {
            self.lack(&entry, why);
        }
        let best = fewest_queue_pairs(&measurements);
        (measurements, best)
    }
}

/// Why the memory that is wanted counts as not registered, if it does.
fn unregistered(asked: Option<u64>, memlock: Option<u64>, tried: Option<&HostMemory>) -> Option<String> {
    let Some(tried) = tried else { return Some("no memory was registered".to_owned()) };
    let largest = tried.largest_bytes.unwrap_or(0);
    if asked.map_or(largest > 0, |asked| largest >= asked) {
        return None;
    }
    let what =
        asked.map_or_else(String::new, |asked| format!("of {asked} bytes that are asked for, {largest} were registered in one piece: "));
    let over = memlock.zip(asked).filter(|(limit, asked)| limit < asked);
    let why = match (&tried.refused, &tried.failure, &tried.stopped) {
        (Some(refused), ..) => format!("{} bytes: {}", refused.bytes, refused.error),
        (None, Some(failure), _) => failure.clone(),
        (None, None, Some(stopped)) => stopped.clone(),
        (None, None, None) => format!("no more than {} bytes are tried, so that half of the free memory stays free", tried.most_bytes),
    };
    let next =
        over.map_or_else(String::new, |(limit, _)| format!("; this process may lock {limit} bytes only: raise LimitMEMLOCK= (ulimit -l)"));
    Some(format!("{what}{why}{next}"))
}

fn registered(device: &str, tried: &HostMemory) -> String {
    let largest = tried.largest_bytes.zip(tried.largest_us);
    let largest =
        largest.map_or_else(|| "nothing was granted".to_owned(), |(bytes, us)| format!("{bytes} bytes of host memory in {us} us"));
    let refused =
        tried.refused.as_ref().map_or_else(String::new, |refused| format!("; {} bytes were refused: {}", refused.bytes, refused.error));
    format!("ibv_reg_mr on {device}: {largest}{refused}")
}

/// From how many queue pairs on more of them add less than a twentieth; of the throughput of the largest writes to host memory that were
/// measured on several numbers of them.
fn fewest_queue_pairs(measurements: &[Measurement]) -> Option<Proven<u32>> {
    let writes = || measurements.iter().filter(|one| one.op == "write" && one.memory == "host" && one.bytes_per_second.is_some());
    let largest = writes().map(|one| one.size_bytes).max()?;
    let rates: Vec<(&Measurement, f64)> =
        writes().filter(|one| one.size_bytes == largest).filter_map(|one| Some((one, one.bytes_per_second?))).collect();
    if rates.len() < 2 {
        return None;
    }
    let best = rates.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
    let enough = rates.iter().filter(|(_, rate)| *rate >= 0.95 * best).min_by_key(|(one, _)| one.queue_pairs)?;
    Some(Proven { value: enough.0.queue_pairs, evidence: enough.0.evidence.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::RefusedMemory;
    use crate::verbs::{CallError, ErrorNumber};

    #[test]
    fn what_keeps_memory_from_being_proven_is_told() {
        let granted = |bytes| HostMemory { largest_bytes: Some(bytes), most_bytes: bytes, ..HostMemory::default() };
        assert_eq!(unregistered(None, None, Some(&granted(4096))), None);
        assert_eq!(unregistered(Some(4096), Some(4096), Some(&granted(4096))), None);
        assert_eq!(unregistered(None, None, None).unwrap(), "no memory was registered");
        let why = unregistered(Some(1 << 30), None, Some(&granted(4096))).unwrap();
        assert!(why.contains("of 1073741824 bytes that are asked for, 4096 were") && why.contains("half of the free memory"), "{why}");
        let error = CallError { call: "ibv_reg_mr".to_owned(), object: "mlx5_0".to_owned(), errno: ErrorNumber(libc::ENOMEM) };
        let refused = HostMemory { refused: Some(RefusedMemory { bytes: 8192, error }), ..granted(4096) };
        let why = unregistered(Some(1 << 20), Some(65536), Some(&refused)).unwrap();
        assert!(why.contains("8192 bytes: ibv_reg_mr on mlx5_0: ENOMEM") && why.contains("may lock 65536 bytes only"), "{why}");
        // Nobody asked for more than was granted before the refusal.
        assert_eq!(unregistered(None, Some(65536), Some(&refused)), None);
    }

    #[test]
    fn more_queue_pairs_are_taken_only_where_they_bring_something() {
        let row = |size_bytes, queue_pairs, rate| Measurement {
            op: "write".to_owned(),
            memory: "host".to_owned(),
            size_bytes,
            queue_pairs,
            bytes_per_second: Some(rate),
            p50_us: None,
            p99_us: None,
            verified: true,
            evidence: format!("e{queue_pairs}"),
        };
        let count = |rows: &[Measurement]| fewest_queue_pairs(rows).map(|proven| (proven.value, proven.evidence));
        assert_eq!(count(&[row(65536, 1, 9e9), row(1 << 20, 1, 10e9), row(1 << 20, 4, 10.2e9)]), Some((1, "e1".to_owned())));
        assert_eq!(count(&[row(1 << 20, 1, 10e9), row(1 << 20, 4, 24e9)]), Some((4, "e4".to_owned())));
        // A twentieth less is enough, more is not.
        assert_eq!(count(&[row(1 << 20, 1, 9.5e9), row(1 << 20, 4, 10e9)]), Some((1, "e1".to_owned())));
        assert_eq!(count(&[row(1 << 20, 1, 9.49e9), row(1 << 20, 4, 10e9)]), Some((4, "e4".to_owned())));
        assert_eq!(count(&[row(1 << 20, 8, 10e9), row(1 << 20, 2, 10e9), row(1 << 20, 4, 10e9)]), Some((2, "e2".to_owned())));
        // Reads, GPU memory and smaller messages do not count.
        let read = Measurement { op: "read".to_owned(), ..row(1 << 20, 1, 50e9) };
        let gpu = Measurement { memory: "cuda:0".to_owned(), ..row(1 << 20, 1, 50e9) };
        assert_eq!(count(&[read, gpu, row(65536, 1, 50e9), row(1 << 20, 2, 1e9), row(1 << 20, 4, 10e9)]), Some((4, "e4".to_owned())));
        // One number of them says nothing of another.
        assert_eq!(count(&[row(1 << 20, 1, 10e9)]), None);
        assert_eq!(count(&[]), None);
    }
}
