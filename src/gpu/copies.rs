//! How fast a GPU copies from and to locked host memory: the ceiling of transfers that are staged.

use std::time::Instant;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Buffer, Context, Direction, GpuError, Pinned};

/// One copy, as nvbandwidth has them: large enough that starting it does not count.
const LARGE_BYTES: usize = 64 << 20;
/// Copies between two events, and how often.
const TIMES: usize = 4;
const SAMPLES: usize = 7;
/// A copy that is nothing but latency, and how often.
const SMALL_BYTES: usize = 64;
const SMALL_SAMPLES: usize = 400;

/// What was measured one way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CopyFigures {
    /// By CUDA events around several copies: the median of the samples.
    pub bytes_per_second: f64,
    /// The least of them.
    pub min_bytes_per_second: f64,
    /// The most of them.
    pub max_bytes_per_second: f64,
    /// Of a copy of 64 bytes, by the host's clock, from asking for it until it is known to be done: the median.
    pub latency_us: f64,
}

/// What was measured of a GPU.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Copies {
    pub copy_bytes: u64,
    /// Copies between two events.
    pub copies_a_sample: u32,
    pub samples: u32,
    /// From host to GPU.
    pub to_gpu: CopyFigures,
    /// From GPU to host.
    pub to_host: CopyFigures,
}

/// Measures both ways.
///
/// # Errors
/// There is no memory for it, or a copy failed.
pub fn measure(context: &Context) -> Result<Copies, GpuError> {
    let buffer = context.allocate(LARGE_BYTES)?;
    let pinned = context.allocate_pinned(LARGE_BYTES)?;
    buffer.set(0)?;
    Ok(Copies {
        copy_bytes: LARGE_BYTES as u64,
        copies_a_sample: TIMES as u32,
        samples: SAMPLES as u32,
        to_gpu: one_way(context, Direction::ToGpu, &buffer, &pinned)?,
        to_host: one_way(context, Direction::ToHost, &buffer, &pinned)?,
    })
}

fn one_way(context: &Context, direction: Direction, buffer: &Buffer, pinned: &Pinned) -> Result<CopyFigures, GpuError> {
    let stream = context.stream()?;
    let (begin, end) = (context.event()?, context.event()?);
    // The first copy finds pages and the link cold.
    stream.copy(direction, (buffer, 0), (pinned, 0), LARGE_BYTES)?;
    stream.finish()?;
    let mut rates = Vec::new();
    for _ in 0..SAMPLES {
        begin.record(&stream)?;
        for _ in 0..TIMES {
            stream.copy(direction, (buffer, 0), (pinned, 0), LARGE_BYTES)?;
        }
        end.record(&stream)?;
        stream.finish()?;
        rates.push((LARGE_BYTES * TIMES) as f64 / (f64::from(end.since(&begin)?).max(1e-6) / 1e3));
    }
    let mut latencies = Vec::new();
    for _ in 0..SMALL_SAMPLES {
        let started = Instant::now();
        stream.copy(direction, (buffer, 0), (pinned, 0), SMALL_BYTES)?;
        stream.finish()?;
        latencies.push(started.elapsed().as_secs_f64() * 1e6);
    }
    rates.sort_by(f64::total_cmp);
    latencies.sort_by(f64::total_cmp);
    Ok(CopyFigures {
        bytes_per_second: rates[rates.len() / 2],
        min_bytes_per_second: rates[0],
        max_bytes_per_second: rates[rates.len() - 1],
        latency_us: latencies[latencies.len() / 2],
    })
}
