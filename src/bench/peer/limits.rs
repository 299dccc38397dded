//! What a server does for a client at most.

use crate::transfer::{Command, Limit, RunPlan};

/// Entries of a completion queue: what devices publish at most (mlx5, hns: 2^22).
const COMPLETIONS: u64 = 1 << 22;

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
        let over = |what: &str, asked: u64, most: u64| (asked > most).then(|| format!("{what}: {asked} asked, {most} at most here"));
        match command {
            Command::Open(_, plan) => over("memory in bytes", plan.memory_bytes, self.memory_bytes),
            Command::Link(_, plan) => over("queue pairs", plan.queue_pairs.into(), self.queue_pairs.into())
                .or_else(|| over("depth of the send queue", plan.send_depth.into(), self.depth.into()))
                .or_else(|| {
                    over("depth of the receive queue", plan.receive.as_ref().map_or(0, |receive| receive.depth).into(), self.depth.into())
                })
                .or_else(|| {
                    // One queue for each direction.
                    let deepest = plan.receive.as_ref().map_or(0, |receive| receive.depth).max(plan.send_depth);
                    over("entries of a completion queue", u64::from(plan.queue_pairs) * u64::from(deepest), COMPLETIONS)
                }),
            Command::Fill(_, what) | Command::Clear(_, what) | Command::Check(_, what) => {
                over("bytes to compare", what.length_bytes.into(), self.compared_bytes.into())
            }
            Command::Run(ends) => ends.iter().find_map(|(_, plan)| self.run_refusal(plan)),
            Command::Join(_) | Command::Order(_) | Command::Unlink(_) | Command::Finish | Command::Close => None,
        }
    }

    fn run_refusal(&self, plan: &RunPlan) -> Option<String> {
        let over =
            |what: &str, asked: u64| (asked > self.run_ms).then(|| format!("{what}: {asked} ms asked, {} at most here", self.run_ms));
        match plan.limit {
            Limit::TimeMs(ms) => over("a run's length", ms),
            Limit::Iterations(_) | Limit::UntilTold => None,
        }
        .or_else(|| over("patience", plan.patience_ms))
        .or_else(|| over("lingering", plan.linger_ms))
    }
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
