//! What `ping` and `bw` share: the options of both, and how what comes of a request is shown.

use std::time::Duration;

use clap::Args;

use super::progress::Progress;
use super::session::Session;
use super::{UsageError, exit, values};
use crate::bench::{PeerAddress, Request};
use crate::checks;
use crate::gpu::MemoryKind;
use crate::survey::{Host, Onlooker, SurveyError};
use crate::transfer::{CompletionMode, Connect, Limit, Operation, Transport};

/// Options of `ping` and `bw`.
#[derive(Debug, Clone, Args)]
#[group(id = "ends")]
pub struct Arguments {
    /// Only this device; the first with an active port otherwise.
    #[arg(value_name = "DEV")]
    device: Option<String>,
    /// To this device, instead of back to the same one.
    #[arg(long, value_name = "DEV2")]
    to: Option<String>,
    /// To another host, where `rdmadoctor peer` runs; --to then names a device there.
    #[arg(long, value_name = "HOST[:PORT]")]
    peer: Option<String>,
    #[command(flatten)]
    secret: super::token::Arguments,
    /// What moves data; all that the type of queue pair has otherwise.
    #[arg(long, value_enum, value_name = "OPERATION,…", value_delimiter = ',')]
    op: Vec<Operation>,
    /// Type of the queue pairs; RC where the device has it.
    #[arg(long, value_enum, value_name = "TYPE")]
    transport: Option<Transport>,
    /// Writes and sends carry immediate data.
    #[arg(long)]
    immediate: bool,
    /// Measure for this long each time.
    #[arg(long, value_name = "TIME", default_value = "300ms", value_parser = values::duration, conflicts_with = "iterations")]
    duration: Duration,
    /// Measure so many messages on each queue pair each time.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    iterations: Option<u64>,
    /// Measure so often; the median counts.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeats: u32,
    /// Wait for completions by asking again and again, or by sleeping until an event; `bw` sleeps where a message takes 10 ms, and with one
    /// processor where that moves more, and both ask otherwise. No event tells of the writes of `ping` without `--immediate`: it asks.
    #[arg(long, value_enum, value_name = "HOW")]
    completion: Option<CompletionMode>,
    /// Connect by exchanged addresses or by rdma_cm; chosen from the device otherwise.
    #[arg(long, value_enum, value_name = "HOW")]
    connect: Option<Connect>,
    /// Index of the own address; chosen by type, scope and reachability otherwise.
    #[arg(long, value_name = "INDEX")]
    gid_index: Option<u8>,
    /// Path MTU; the smaller one of both ports otherwise.
    #[arg(long, value_name = "BYTES", value_parser = mtu)]
    mtu: Option<u32>,
    /// Which memory both ends have: host, host:huge, host:pinned, or cuda:GPU[:FORM][:PATH]. GPU is a number, a PCI address or a UUID; FORM is
    /// vmm, vmm-noflag, async or managed; PATH is auto, peermem, dmabuf, data-direct or staged.
    #[arg(long, value_name = "KIND", default_value = "host", add = super::complete::memory_kinds())]
    memory: MemoryKind,
    /// Which memory the other end has, where it is to be another kind.
    #[arg(long, value_name = "KIND", add = super::complete::memory_kinds())]
    to_memory: Option<MemoryKind>,
    /// Do not compare what arrives with what was sent before measuring.
    #[arg(long)]
    no_verify: bool,
}

/// The longest message: 1 GiB.
const LONGEST: u64 = 1 << 30;

fn mtu(text: &str) -> Result<u32, String> {
    let valid = [256, 512, 1024, 2048, 4096];
    text.parse()
        .ok()
        .filter(|bytes| valid.contains(bytes))
        .ok_or_else(|| format!("`{text}` is no path MTU; valid are 256, 512, 1024, 2048, 4096"))
}

/// A size of a message.
pub fn message_size(text: &str) -> Result<u64, String> {
    values::size(text).and_then(|size| {
        if (1..=LONGEST).contains(&size) { Ok(size) } else { Err(format!("`{text}` is out of range; messages have 1 byte to 1 GiB")) }
    })
}

impl Arguments {
    /// Whether it is said which ends, or which memory.
    pub fn names_an_end(&self) -> bool {
        let has_memory = self.memory != MemoryKind::Host || self.to_memory.is_some();
        self.device.is_some() || self.to.is_some() || self.peer.is_some() || has_memory
    }

    /// The request that they make; `rest` is what else there is to it.
    pub fn request(&self, rest: Request) -> anyhow::Result<Request> {
        let milliseconds = u64::try_from(self.duration.as_millis()).unwrap_or(u64::MAX);
        Ok(Request {
            device: self.device.clone(),
            to: self.to.clone(),
            peer: self.peer.as_ref().map(|host| self.peer_address(host)).transpose()?,
            memory: self.memory.clone(),
            to_memory: self.to_memory.clone(),
            gid_index: self.gid_index,
            mtu_bytes: self.mtu,
            connect: self.connect,
            transport: self.transport,
            operations: self.op.clone(),
            immediate: self.immediate,
            limit: self.iterations.map_or(Limit::TimeMs(milliseconds), Limit::Iterations),
            repeats: self.repeats,
            completion: self.completion,
            verify: !self.no_verify,
            ..rest
        })
    }

    fn peer_address(&self, host: &str) -> anyhow::Result<PeerAddress> {
        let token = self.secret.token()?.ok_or_else(|| {
            UsageError("--peer needs the token that `rdmadoctor peer` prints there: --token, --token-file or RDMADOCTOR_TOKEN".to_owned())
        })?;
        Ok(PeerAddress { host: host.to_owned(), token })
    }
}

/// Measures, and shows how far it is.
pub fn watched<D>(
    session: &Session,
    title: &str,
    measure: impl FnOnce(&mut Onlooker<'_>) -> Result<D, SurveyError>,
) -> Result<D, SurveyError> {
    let mut progress = Progress::new(title, session.output.quiet);
    measure(&mut Onlooker { say: &mut |detail| progress.at(detail), refused: checks::refusals })
}

/// Exit code of a document.
pub fn code(host: &Host, has_problems: bool, has_failed: bool) -> u8 {
    match () {
        () if host.interrupted() => exit::INTERRUPTED,
        () if has_problems || has_failed => exit::FAILED,
        () => exit::OK,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::bench::Request;
    use crate::cli::{bw, ping};

    #[derive(Parser)]
    #[command(no_binary_name = true)]
    struct Bw {
        #[command(flatten)]
        arguments: bw::Arguments,
    }

    #[derive(Parser)]
    #[command(no_binary_name = true)]
    struct Ping {
        #[command(flatten)]
        arguments: ping::Arguments,
    }

    #[test]
    fn without_options_a_request_is_the_default_one() {
        assert_eq!(Bw::parse_from([""; 0]).arguments.request().unwrap(), Request::default());
        assert_eq!(Ping::parse_from([""; 0]).arguments.request().unwrap(), Request::latency());
    }
}
