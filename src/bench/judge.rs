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
