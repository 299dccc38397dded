//! What figures say beside each other.

use super::document::{BandwidthResult, BenchReport, Buffer, LatencyResult, Notice, TogetherResult};
use crate::transfer::{CompletionMode, Operation};

/// From which factor between read and write on it deserves a look. Reads wait for answers, so small ones are slower anywhere.
const APART: f64 = 1.5;
const LARGE: u64 = 64 << 10;

impl BandwidthResult {
    /// Whether it failed, or what arrived was not what was sent.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        self.failure.is_some() || self.verification.as_ref().is_some_and(|verification| verification.mismatch.is_some())
    }
}

impl LatencyResult {
    #[must_use]
    pub fn is_bad(&self) -> bool {
        self.failure.is_some() || self.verification.as_ref().is_some_and(|verification| verification.mismatch.is_some())
    }
}

impl BenchReport<BandwidthResult> {
    /// Notes where reads and writes are far apart, and what is too noisy to quote.
    pub fn judge(&mut self) {
        if self.is_simulated() {
            return;
        }
        let rate = |operation: Operation, size: u64, buffer: Buffer| {
            let of = |result: &&BandwidthResult| (result.operation, result.size_bytes, result.buffer) == (operation, size, buffer);
            self.results.iter().find(of).and_then(|result| Some(result.bytes_per_second?.median))
        };
        let mut notices = Vec::new();
        for result in self.results.iter().filter(|result| result.operation == Operation::Write && result.size_bytes >= LARGE) {
            let (size, buffer) = (result.size_bytes, result.buffer);
            let (Some(write), Some(read)) = (rate(Operation::Write, size, buffer), rate(Operation::Read, size, buffer)) else { continue };
            notices.extend(apart(size, write / read));
        }
        let noisy = self.results.iter().filter_map(|result| {
            let spread = result.bytes_per_second.filter(|rate| rate.is_noisy)?.spread_percent;
            Some(format!("{} of {} bytes ({spread:.0} %)", result.operation, result.size_bytes))
        });
        notices.extend(noise(&noisy.collect::<Vec<_>>()));
        self.notices.extend(notices);
    }
}

impl BenchReport<LatencyResult> {
    /// Notes what is too noisy to quote.
    pub fn judge(&mut self) {
        if self.is_simulated() {
            return;
        }
        let noisy = self.results.iter().filter_map(|result| {
            let spread = result.p50_us.filter(|median| median.is_noisy)?.spread_percent;
            Some(format!("{} of {} bytes ({spread:.0} %)", result.operation, result.size_bytes))
        });
        let noise = noise(&noisy.collect::<Vec<_>>());
        self.notices.extend(noise);
    }
}

/// `factor` is how many times faster writes are than reads.
fn apart(size: u64, factor: f64) -> Option<Notice> {
    if (1.0 / APART..APART).contains(&factor) {
        return None;
    }
    let (faster, slower) = if factor > 1.0 { ("write", "read") } else { ("read", "write") };
    Some(Notice {
        summary: format!("{slower} is {:.1} times slower than {faster} at {size} bytes", factor.max(1.0 / factor)),
        causes: if slower == "read" {
            vec![
                "few reads may be under way at once (max_qp_rd_atom, max_qp_init_rd_atom)".to_owned(),
                "PCIe reads are slow on the way to memory: MaxReadReq, relaxed ordering, IOMMU, a GPU behind another socket".to_owned(),
            ]
        } else {
            vec!["writes are held up: flow control, a receiver whose memory is far (NUMA), posted-write ordering".to_owned()]
        },
    })
}

/// Says that figures are too noisy to quote.
fn noise(figures: &[String]) -> Option<Notice> {
    (!figures.is_empty()).then(|| Notice {
        summary: format!("too noisy to quote, by how much repeats differ: {}", figures.join(", ")),
        causes: vec!["something else uses the device or the processors; a longer --duration and more --repeats steady it".to_owned()],
    })
}

/// What all at once say beside each alone. Less than the sum, by more than repeats differ, means that they share something.
#[must_use]
pub fn judge_together(together: &[TogetherResult]) -> Option<Notice> {
    let is_less = |row: &&TogetherResult| row.together_bytes_per_second.max < row.alone_bytes_per_second;
    let worst = together.iter().filter(is_less).min_by(|left, right| left.kept_percent.total_cmp(&right.kept_percent))?;
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let count = worst.devices.len();
    let mut causes = Vec::new();
    if processors < count {
        let unit = if processors == 1 { "processor" } else { "processors" };
        let polls = worst.devices.iter().filter(|share| share.completion == CompletionMode::Poll).count();
        let asleep = if polls > 0 { format!(", or --completion event: {polls} of them poll") } else { String::new() };
        causes.push(format!("{count} processes move data, and may use {processors} {unit}: give them more{asleep}"));
    }
    causes.push("they share a PCIe switch, an uplink or memory of one NUMA node: `rdmadoctor topo` shows what hangs where".to_owned());
    causes.push("they are ports of one adapter, which has one bus and one engine for both".to_owned());
    Some(Notice {
        summary: format!(
            "all at once keep {:.0} % of what the devices reach alone ({} of {} bytes)",
            worst.kept_percent, worst.operation, worst.size_bytes
        ),
        causes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Spread;
    use crate::bench::document::Share;

    #[test]
    fn the_slower_of_reads_and_writes_is_named_from_half_as_much_again() {
        let summary = |factor| apart(65536, factor).map(|notice| notice.summary);
        assert_eq!((summary(1.0), summary(1.49), summary(0.67)), (None, None, None));
        for (factor, expected, cause) in [
            (1.5, "read is 1.5 times slower than write at 65536 bytes", "max_qp_rd_atom"),
            (4.0, "read is 4.0 times slower than write at 65536 bytes", "max_qp_rd_atom"),
            (0.66, "write is 1.5 times slower than read at 65536 bytes", "writes are held up"),
            (0.25, "write is 4.0 times slower than read at 65536 bytes", "writes are held up"),
        ] {
            let notice = apart(65536, factor).unwrap();
            assert!(notice.summary == expected && notice.causes[0].contains(cause), "{notice:?}");
        }
    }

    fn row(operation: &str, size_bytes: u64, repeats: &[f64]) -> BandwidthResult {
        serde_json::from_value(serde_json::json!({
            "operation": operation, "memory": "host", "buffer": "hot", "size_bytes": size_bytes, "bidirectional": false, "queue_pairs": 1,
            "depth": 1, "batch": 1, "inline": false, "completion": "poll", "messages": 1, "bytes_per_second": Spread::of(repeats),
            "messages_per_second": null, "cpu_us_per_gib": null, "lost_percent": null, "verification": null, "counters": [], "failure": null
        }))
        .unwrap()
    }

    fn notices(results: Vec<BandwidthResult>) -> Vec<String> {
        let mut report = BenchReport {
            schema: String::new(),
            connection: None,
            results,
            ordering: Vec::new(),
            notices: Vec::new(),
            problems: Vec::new(),
            stopped: None,
        };
        report.judge();
        report.notices.into_iter().map(|notice| notice.summary).collect()
    }

    #[test]
    fn only_large_messages_of_one_size_are_held_against_each_other() {
        // 64 KiB is large, a byte less is not.
        let both = |size| notices(vec![row("write", size, &[8e9]), row("read", size, &[2e9])]);
        assert_eq!(both(65536), ["read is 4.0 times slower than write at 65536 bytes"]);
        assert_eq!((both(65535), both(64)), (vec![], vec![]));
        assert_eq!(notices(vec![row("write", 65536, &[8e9]), row("read", 1 << 20, &[2e9])]), Vec::<String>::new());
        assert_eq!(
            notices(vec![row("write", 65536, &[9e9, 10e9, 11e9])]),
            ["too noisy to quote, by how much repeats differ: write of 65536 bytes (20 %)"]
        );
    }

    #[test]
    fn together_is_less_where_even_the_best_repeat_is() {
        let row = |repeats: &[f64], kept_percent| TogetherResult {
            operation: Operation::Write,
            size_bytes: 65536,
            buffer: Buffer::Hot,
            alone_bytes_per_second: 100.0,
            together_bytes_per_second: Spread::of(repeats).unwrap(),
            kept_percent,
            devices: vec![Share {
                device: "mlx5_0".to_owned(),
                completion: CompletionMode::Event,
                alone_bytes_per_second: 100.0,
                together_bytes_per_second: repeats[0],
            }],
        };
        assert_eq!(judge_together(&[]), None);
        assert_eq!(judge_together(&[row(&[50.0, 100.0], 75.0)]), None, "one repeat reached it");
        let notice = judge_together(&[row(&[90.0, 99.0], 95.0), row(&[60.0, 61.0], 60.0), row(&[70.0, 71.0], 70.0)]).unwrap();
        assert!(notice.summary.starts_with("all at once keep 60 %"), "{notice:?}");
    }
}
