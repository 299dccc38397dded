//! What a server does for a client at most.

use crate::transfer::{Command, EndpointPlan, JoinPlan, Limit, LinkPlan, MOST_MESSAGE_BYTES, PatternSpan, RunPlan, Transport, fits};

/// Entries of a completion queue: what devices publish at most (mlx5, hns: 2^22).
const COMPLETIONS: u64 = 1 << 22;
/// Bytes inline in a request: no device that is known takes more than a part of it.
const INLINE: u32 = 4096;
/// The longest path MTU of RDMA (`enum ibv_mtu`).
const MTU: u32 = 4096;
/// Bytes of a datagram, which is one packet.
const DATAGRAM: u32 = 65536;
/// Bytes of names and addresses.
const NAME: usize = 128;
/// A queue pair's number has 24 bits.
const QUEUE_PAIR: u32 = (1 << 24) - 1;

/// Bounds of what a client may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Memory to register.
    pub memory_bytes: u64,
    /// Queue pairs of a link.
    pub queue_pairs: u32,
    /// Requests on a queue.
    pub depth: u32,
    /// Length of a run.
    pub run_ms: u64,
    /// Bytes to fill or compare at once.
    pub compared_bytes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        // Twice 1 GiB, the longest message, and what lies around it.
        Self { memory_bytes: (2 << 30) + (1 << 20), queue_pairs: 1024, depth: 65536, run_ms: 600_000, compared_bytes: 64 << 20 }
    }
}

impl Limits {
    /// Why a command is not done, if it is not.
    #[must_use]
    pub fn refusal(&self, command: &Command) -> Option<String> {
        let end = match command {
            Command::Open(end, _)
            | Command::Link(end, _)
            | Command::Fill(end, _)
            | Command::Clear(end, _)
            | Command::Check(end, _)
            | Command::Unlink(end) => Some(*end),
            Command::Join(ends) => ends.first().filter(|_| ends.len() == 1).map(|(end, _)| *end),
            Command::Run(ends) => ends.first().filter(|_| ends.len() == 1).map(|(end, _)| *end),
            // Both ends would have to be here.
            Command::Order(_) => None,
            Command::Finish | Command::Close => Some(1),
        };
        if end != Some(1) {
            return Some("a peer has one end, of number 1".to_owned());
        }
        match command {
            Command::Open(_, plan) => self.open_refusal(plan),
            Command::Link(_, plan) => self.link_refusal(plan),
            Command::Join(ends) => ends.iter().find_map(|(_, plan)| self.join_refusal(plan)),
            Command::Fill(_, what) | Command::Clear(_, what) | Command::Check(_, what) => {
                over("bytes to compare", what.length_bytes.into(), self.compared_bytes.into())
                    .or_else(|| over("bytes before a message", what.shift_bytes.into(), MOST_MESSAGE_BYTES.into()))
            }
            Command::Run(ends) => ends.iter().find_map(|(_, plan)| self.run_refusal(plan)),
            Command::Order(_) | Command::Unlink(_) | Command::Finish | Command::Close => None,
        }
    }

    fn open_refusal(&self, plan: &EndpointPlan) -> Option<String> {
        over("memory in bytes", plan.memory_bytes, self.memory_bytes)
            .or_else(|| over("bytes of a device's name", plan.device.len() as u64, NAME as u64))
            // Any other port could be one that somebody else's clients call.
            .or_else(|| over("port for rdma_cm", plan.manager.map_or(0, |address| address.port()).into(), 0))
            .or_else(|| plan.with_staged.then(|| "memory is staged only where both ends are in one process".to_owned()))
    }

    fn link_refusal(&self, plan: &LinkPlan) -> Option<String> {
        let receive = plan.receive.as_ref();
        let receive_depth = receive.map_or(0, |receive| receive.depth);
        let longest = if plan.transport == Transport::Ud { DATAGRAM } else { MOST_MESSAGE_BYTES };
        between("queue pairs", plan.queue_pairs, 1, self.queue_pairs)
            .or_else(|| between("depth of the send queue", plan.send_depth, 1, self.depth))
            .or_else(|| over("depth of the receive queue", receive_depth.into(), self.depth.into()))
            // One queue for each direction.
            .or_else(|| {
                let deepest = receive_depth.max(plan.send_depth);
                over("entries of a completion queue", u64::from(plan.queue_pairs).saturating_mul(deepest.into()), COMPLETIONS)
            })
            .or_else(|| over("bytes inline", plan.inline_bytes.into(), INLINE.into()))
            .or_else(|| over("path MTU in bytes", plan.mtu_bytes.into(), MTU.into()))
            .or_else(|| over("exponent of the timeout", plan.reliability.timeout.into(), 31))
            .or_else(|| over("retries", plan.reliability.retries.into(), 7))
            .or_else(|| over("retries of a receiver that is not ready", plan.reliability.receiver_retries.into(), 7))
            .or_else(|| receive.and_then(|receive| between("bytes of a receive request", receive.size_bytes, 1, longest)))
            .or_else(|| receive.and_then(|receive| over("bytes before a message", receive.shift_bytes.into(), MOST_MESSAGE_BYTES.into())))
    }

    fn join_refusal(&self, plan: &JoinPlan) -> Option<String> {
        let remote = &plan.remote;
        let words = remote.credit.map_or(0, |credit| credit.address);
        over("queue pairs", remote.queue_pairs.len() as u64, self.queue_pairs.into())
            .or_else(|| remote.queue_pairs.iter().find_map(|number| over("a queue pair's number", (*number).into(), QUEUE_PAIR.into())))
            .or_else(|| over("bytes of an address", remote.gid.len() as u64, NAME as u64))
            .or_else(|| over("end of the other side's memory", remote.address.saturating_add(remote.memory_bytes), u64::MAX - 1))
            // The page that they are on ends before the addresses do.
            .or_else(|| over("address of the other side's counts", words, u64::MAX - (1 << 20)))
            .or_else(|| over("receive requests of the other side", remote.receives.into(), self.depth.into()))
            // It would be made to call others in this host's name.
            .or_else(|| plan.call.map(|_| "a peer is called, and calls nobody".to_owned()))
    }

    fn run_refusal(&self, plan: &RunPlan) -> Option<String> {
        let long =
            |what: &str, asked: u64| (asked > self.run_ms).then(|| format!("{what}: {asked} ms asked, {} at most here", self.run_ms));
        match plan.limit {
            Limit::TimeMs(ms) => long("a run's length", ms),
            Limit::Iterations(_) | Limit::UntilTold => None,
        }
        .or_else(|| long("patience", plan.patience_ms))
        .or_else(|| long("lingering", plan.linger_ms))
        .or_else(|| between("bytes of a message", plan.size_bytes, 1, MOST_MESSAGE_BYTES))
        .or_else(|| over("bytes before a message", plan.shift_bytes.into(), MOST_MESSAGE_BYTES.into()))
        .or_else(|| over("requests under way", plan.depth.into(), self.depth.into()))
        .or_else(|| over("requests posted at once", plan.batch.into(), self.depth.into()))
        .or_else(|| over("bytes of a chunk", plan.staged.chunk_bytes.into(), MOST_MESSAGE_BYTES.into()))
    }
}

/// Why a command is not done with so much memory open, if it is not: messages lie within one half of it.
#[must_use]
pub fn beyond(command: &Command, memory_bytes: u64) -> Option<String> {
    let of = |size: u32, shift: u32| {
        (!fits(memory_bytes, size, shift))
            .then(|| format!("{size} bytes at {shift} do not fit into a half of the {memory_bytes} bytes that are open"))
    };
    match command {
        Command::Link(_, plan) => plan.receive.as_ref().and_then(|receive| of(receive.size_bytes, receive.shift_bytes)),
        Command::Fill(_, PatternSpan { length_bytes, shift_bytes, .. })
        | Command::Clear(_, PatternSpan { length_bytes, shift_bytes, .. })
        | Command::Check(_, PatternSpan { length_bytes, shift_bytes, .. }) => of(*length_bytes, *shift_bytes),
        Command::Run(ends) => ends.iter().find_map(|(_, plan)| of(plan.size_bytes, plan.shift_bytes)),
        _ => None,
    }
}

/// Why so much is too much, if it is.
pub fn over(what: &str, asked: u64, most: u64) -> Option<String> {
    (asked > most).then(|| format!("{what}: {asked} asked, {most} at most here"))
}

fn between(what: &str, asked: u32, least: u32, most: u32) -> Option<String> {
    if asked < least { Some(format!("{what}: {asked} asked, {least} at least")) } else { over(what, asked.into(), most.into()) }
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
