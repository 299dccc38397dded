//! What a client takes of a server, which may say anything: figures that can be reckoned with, and no longer than was asked.

use std::time::{Duration, Instant};

use super::limits::{Limits, over};
use crate::transfer::{Answer, Command, Limit, LinkFacts, Progress, RunPlan, RunResult, StageFacts};

/// Figures: whole numbers that JSON readers agree on, and of which a thousand can be added. Ten minutes at 100 GB/s are 60 TB.
const FIGURE: u64 = 1 << 53;
/// Latencies that differ: more than a histogram of four digits has in use.
const LATENCIES: u64 = 1 << 18;
/// Texts of a failure.
const EVIDENCE: usize = 64;

/// What is wrong with an answer, if anything is.
pub fn strange(answer: &Answer) -> Option<String> {
    match answer {
        Answer::Opened(facts) => of_stage(facts),
        Answer::Linked(facts) => of_link(facts),
        Answer::Running(progress) => of_progress(progress),
        Answer::Ran(results) => over("ends", results.len() as u64, 1).or_else(|| results.iter().find_map(of_result)),
        Answer::Failed(failure) => over("lines of evidence", failure.evidence.len() as u64, EVIDENCE as u64),
        Answer::Checked(mismatch) => mismatch.as_ref().and_then(|mismatch| over("wrong bytes", mismatch.wrong_bytes, FIGURE)),
        Answer::Done | Answer::Ready | Answer::Ordered(_) => None,
    }
}

fn of_stage(facts: &StageFacts) -> Option<String> {
    over("end of its memory", facts.address.saturating_add(facts.memory_bytes), u64::MAX - 1)
        .or_else(|| over("memory in bytes", facts.memory_bytes, FIGURE))
        .or_else(|| over("partition keys", facts.pkeys.len() as u64, 1 << 16))
}

fn of_link(facts: &LinkFacts) -> Option<String> {
    // What is joined is refused by the same bounds on the other side.
    let most = Limits::default();
    over("queue pairs", facts.queue_pairs.len() as u64, most.queue_pairs.into())
        .or_else(|| over("receive requests", facts.receives.into(), most.depth.into()))
        .or_else(|| facts.credit.and_then(|credit| over("address of its counts", credit.address, u64::MAX - (1 << 20))))
}

fn of_progress(progress: &Progress) -> Option<String> {
    [progress.messages, progress.bytes, progress.elapsed_ns].into_iter().find_map(|figure| over("a figure", figure, FIGURE))
}

fn of_result(result: &RunResult) -> Option<String> {
    let counts = result.latencies.iter().fold(0_u64, |sum, (_, count)| sum.saturating_add(*count));
    of_progress(&result.sent)
        .or_else(|| of_progress(&result.received))
        .or_else(|| over("processor time", result.cpu_ns, FIGURE))
        .or_else(|| over("latencies", result.latencies.len() as u64, LATENCIES))
        .or_else(|| over("latencies in all", counts, FIGURE))
        .or_else(|| result.latencies.iter().find_map(|(ns, _)| over("a latency", *ns, FIGURE)))
}

/// How long what is under way may last, whatever the server says meanwhile.
pub struct Patience {
    /// How long any answer may take.
    answer: Duration,
    until: Instant,
    /// How long a run may last once it is ready, and once it is told to end.
    run: (Duration, Duration),
}

impl Patience {
    /// Nothing is under way.
    pub fn new(answer: Duration) -> Self {
        Self { answer, until: Instant::now() + answer, run: (Duration::ZERO, Duration::ZERO) }
    }

    /// Something is asked that has one answer.
    pub fn asked(&mut self) {
        self.until = Instant::now() + self.answer;
    }

    /// A command is told. The end of a run has the time of the run's own end; a run begins with an answer.
    pub fn told(&mut self, command: &Command) {
        match command {
            Command::Finish => self.until = Instant::now() + self.run.1,
            Command::Run(ends) => {
                let of = |length: &dyn Fn(&RunPlan) -> Duration| ends.iter().map(|(_, plan)| length(plan)).max().unwrap_or_default();
                self.run = (of(&|plan| whole(plan) + end(plan)) + self.answer, of(&end) + self.answer);
                self.asked();
            }
            _ => self.asked(),
        }
    }

    /// An answer has come.
    pub fn heard(&mut self, answer: &Answer) {
        if *answer == Answer::Ready {
            self.until = Instant::now() + self.run.0;
        }
    }

    /// When it is over.
    pub fn until(&self) -> Instant {
        self.until
    }
}

/// How long a run goes on by its plan; where that says nothing of it, as long as servers let it.
fn whole(plan: &RunPlan) -> Duration {
    Duration::from_millis(match plan.limit {
        Limit::TimeMs(ms) => ms,
        Limit::Iterations(_) | Limit::UntilTold => Limits::default().run_ms,
    })
}

/// How long it may take to end.
fn end(plan: &RunPlan) -> Duration {
    Duration::from_millis(plan.linger_ms.saturating_add(plan.patience_ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::Mismatch;

    fn ran(change: impl Fn(&mut RunResult)) -> Answer {
        let mut result = RunResult::default();
        change(&mut result);
        Answer::Ran(vec![result])
    }

    #[test]
    fn figures_that_cannot_be_reckoned_with_are_refused() {
        let progress = |figure| Progress { messages: figure, bytes: 1, elapsed_ns: 1 };
        let linked = |change: &dyn Fn(&mut LinkFacts)| {
            let mut facts = LinkFacts { queue_pairs: vec![1], gid: String::new(), receives: 1, credit: None };
            change(&mut facts);
            Answer::Linked(facts)
        };
        let words = |address: u64| serde_json::from_value(serde_json::json!({"address": address, "key": 1})).unwrap();
        let wrong = |wrong_bytes| Mismatch { offset_bytes: i64::MIN, expected: 0, found: 1, wrong_bytes, is_guard: false };
        for (border, beyond) in [
            (Answer::Running(progress(FIGURE)), Answer::Running(progress(FIGURE + 1))),
            (ran(|result| result.sent = progress(FIGURE)), ran(|result| result.sent = progress(u64::MAX))),
            (ran(|result| result.received.bytes = FIGURE), ran(|result| result.received.bytes = FIGURE + 1)),
            (ran(|result| result.received.elapsed_ns = FIGURE), ran(|result| result.received.elapsed_ns = FIGURE + 1)),
            (ran(|result| result.cpu_ns = FIGURE), ran(|result| result.cpu_ns = FIGURE + 1)),
            (ran(|result| result.latencies = vec![(FIGURE, 1)]), ran(|result| result.latencies = vec![(FIGURE + 1, 1)])),
            (
                ran(|result| result.latencies = vec![(1, FIGURE / 2), (2, FIGURE / 2)]),
                ran(|result| result.latencies = vec![(1, FIGURE / 2), (2, FIGURE / 2 + 1)]),
            ),
            (ran(|result| result.latencies = vec![(1, 1)]), ran(|result| result.latencies = vec![(1, u64::MAX), (1, u64::MAX)])),
            (ran(|result| result.latencies = vec![(1, 1); 1 << 18]), ran(|result| result.latencies = vec![(1, 1); (1 << 18) + 1])),
            (ran(|_| {}), Answer::Ran(vec![RunResult::default(); 2])),
            (linked(&|facts| facts.queue_pairs = vec![1; 1024]), linked(&|facts| facts.queue_pairs = vec![1; 1025])),
            (linked(&|facts| facts.receives = 65536), linked(&|facts| facts.receives = 65537)),
            (linked(&|facts| facts.credit = words(1 << 47)), linked(&|facts| facts.credit = words(u64::MAX))),
            (Answer::Checked(Some(wrong(FIGURE))), Answer::Checked(Some(wrong(u64::MAX)))),
        ] {
            assert_eq!(strange(&border), None, "{border:?}");
            assert!(strange(&beyond).is_some(), "{beyond:?}");
        }
    }
}
