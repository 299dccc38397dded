//! Attempts with a memory, a budget and a limit on what they may allocate.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use crate::verbs::ErrorNumber;
use crate::worker::Worker;

use super::{Outcome, QpRequest};

/// Whatever can try requests: a device behind a child process, or a model in a test.
pub trait Attempter {
    /// Tries `requests` in their order and hands each outcome to `each`, which says whether to go on.
    fn attempts(&mut self, requests: &[QpRequest], each: &mut dyn FnMut(usize, Outcome) -> bool);
}

/// A device behind a [`Worker`].
pub struct DeviceAttempter<'a> {
    /// The child process.
    pub worker: &'a mut Worker,
    /// The device's name.
    pub device: &'a str,
}

impl Attempter for DeviceAttempter<'_> {
    fn attempts(&mut self, requests: &[QpRequest], each: &mut dyn FnMut(usize, Outcome) -> bool) {
        self.worker.attempts(self.device, requests, each);
    }
}

/// When to stop trying.
#[derive(Debug, Clone, Copy)]
pub struct Stop {
    /// Attempts at most.
    pub budget: u64,
    /// Not after this moment.
    pub deadline: Option<Instant>,
    /// Requests of a search whose queues take more are not tried.
    pub max_memory_bytes: u64,
    /// The same for a request that an engine or the user asks: it would be made on this host anyway, so it may take more.
    pub max_asked_memory_bytes: u64,
}

/// Tries requests through an [`Attempter`], each of them once.
pub struct Prober<'a> {
    attempter: &'a mut dyn Attempter,
    stop: Stop,
    known: HashMap<QpRequest, Outcome>,
    attempts: u64,
    /// Why no further attempt is made: out of budget, past the deadline, or interrupted.
    stopped: Option<String>,
    progress: &'a mut dyn FnMut(u64),
}

impl<'a> Prober<'a> {
    /// A prober that has tried nothing. `progress` is told the number of attempts made so far.
    pub fn new(attempter: &'a mut dyn Attempter, stop: Stop, progress: &'a mut dyn FnMut(u64)) -> Self {
        Self { attempter, stop, known: HashMap::new(), attempts: 0, stopped: None, progress }
    }

    /// Attempts made on the device so far.
    #[must_use]
    pub fn attempts(&self) -> u64 {
        self.attempts
    }

    /// Why no further attempt is made, once that is so.
    #[must_use]
    pub fn stopped(&self) -> Option<&str> {
        self.stopped.as_deref()
    }

    /// Whether the request's queues are too large to be tried.
    #[must_use]
    pub fn is_beyond_memory(&self, request: &QpRequest) -> bool {
        request.memory_bytes() > self.stop.max_memory_bytes
    }

    /// Tries a request, or remembers what came of it.
    pub fn attempt(&mut self, request: &QpRequest) -> Outcome {
        if let Some(known) = self.known.get(request) {
            return known.clone();
        }
        self.attempt_all(std::slice::from_ref(request)).pop().unwrap_or_else(|| Outcome::NotRun { why: "no answer".to_owned() })
    }

    /// Tries a request that somebody asks, with the memory that such a request may take.
    pub fn attempt_asked(&mut self, request: &QpRequest) -> Outcome {
        if matches!(self.known.get(request), Some(Outcome::NotRun { .. })) {
            self.known.remove(request);
        }
        let of_searches = std::mem::replace(&mut self.stop.max_memory_bytes, self.stop.max_asked_memory_bytes);
        let outcome = self.attempt(request);
        self.stop.max_memory_bytes = of_searches;
        outcome
    }

    /// Tries a request again, whatever is known of it: for outcomes that may pass.
    pub fn attempt_again(&mut self, request: &QpRequest) -> Outcome {
        self.known.remove(request);
        self.attempt(request)
    }

    /// Tries many requests at one go; those that were tried before are not tried again.
    pub fn attempt_all(&mut self, requests: &[QpRequest]) -> Vec<Outcome> {
        let mut to_try: Vec<QpRequest> = Vec::new();
        let mut listed = HashSet::new();
        for request in requests {
            if self.known.contains_key(request) || !listed.insert(request) {
                continue;
            }
            if self.is_beyond_memory(request) {
                let why = format!(
                    "its queues would take about {} MiB, more than the {} MiB that --max-memory allows",
                    request.memory_bytes().div_ceil(1 << 20),
                    self.stop.max_memory_bytes >> 20
                );
                self.known.insert(request.clone(), Outcome::NotRun { why });
                continue;
            }
            to_try.push(request.clone());
        }
        let room = if self.stopped.is_some() { 0 } else { self.stop.budget.saturating_sub(self.attempts) };
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let is_over_budget = to_try.len() > room;
        to_try.truncate(room);
        if !to_try.is_empty() {
            let Self { attempter, stop, known, attempts, stopped, progress } = self;
            attempter.attempts(&to_try, &mut |index, outcome| {
                if let Outcome::NotRun { why } = &outcome {
                    stopped.get_or_insert_with(|| why.clone());
                    return false;
                }
                *attempts += 1;
                known.insert(to_try[index].clone(), outcome);
                progress(*attempts);
                if stop.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                    stopped.get_or_insert_with(|| "the time given by --deadline was over".to_owned());
                }
                stopped.is_none()
            });
        }
        if is_over_budget {
            self.stopped.get_or_insert_with(|| format!("the budget of {} attempts was used up", self.stop.budget));
        }
        let why = self.stopped.clone().unwrap_or_else(|| "not tried".to_owned());
        requests.iter().map(|request| self.known.get(request).cloned().unwrap_or_else(|| Outcome::NotRun { why: why.clone() })).collect()
    }
}

/// Errnos that say that something ran out rather than that a limit was passed (ibv_create_qp(3); mlx5 gives EAGAIN for want of keys,
/// erdma ENOSPC for want of domains).
#[must_use]
pub fn is_exhaustion(errno: ErrorNumber) -> bool {
    matches!(errno.0, libc::ENOMEM | libc::EAGAIN | libc::ENOSPC)
}

#[cfg(test)]
pub(super) mod tests {
    use rdmadoctor_types::OutcomeKind;

    use super::*;
    use crate::verbs::{CallError, QueuePairCaps};
    use crate::worker::QpType;

    /// A device that is a function from requests to an errno; `None` grants.
    pub struct Model<F: FnMut(&QpRequest) -> Option<i32>>(pub F);

    impl<F: FnMut(&QpRequest) -> Option<i32>> Attempter for Model<F> {
        fn attempts(&mut self, requests: &[QpRequest], each: &mut dyn FnMut(usize, Outcome) -> bool) {
            for (index, request) in requests.iter().enumerate() {
                let outcome = match (self.0)(request) {
                    None => Outcome::Granted { caps: QueuePairCaps { ..request.caps() }, cq_depth: request.cq_depth },
                    Some(errno) => Outcome::Refused {
                        error: CallError { call: "ibv_create_qp".to_owned(), object: "model".to_owned(), errno: ErrorNumber(errno) },
                    },
                };
                if !each(index, outcome) {
                    return;
                }
            }
        }
    }

    pub const ENDLESS: Stop = Stop { budget: u64::MAX, deadline: None, max_memory_bytes: u64::MAX, max_asked_memory_bytes: u64::MAX };

    #[test]
    fn nothing_is_tried_twice_and_the_budget_is_kept() {
        let mut calls = 0;
        let mut model = Model(|_| {
            calls += 1;
            None
        });
        let mut progress = |_| {};
        let mut prober = Prober::new(&mut model, Stop { budget: 2, ..ENDLESS }, &mut progress);
        let mut request = QpRequest::base(QpType::RC);
        assert!(prober.attempt(&request).is_granted());
        assert!(prober.attempt(&request).is_granted());
        let more: Vec<_> = (2..5)
            .map(|sge| {
                request.max_send_sge = sge;
                request.clone()
            })
            .collect();
        let verdicts: Vec<_> = prober.attempt_all(&more).iter().map(Outcome::kind).collect();
        assert_eq!(verdicts, [OutcomeKind::Granted, OutcomeKind::NotRun, OutcomeKind::NotRun]);
        assert!(prober.stopped().unwrap().contains("budget of 2"));
        assert_eq!(calls, 2);
    }

    /// A device that never answers.
    struct Silent;

    impl Attempter for Silent {
        fn attempts(&mut self, requests: &[QpRequest], each: &mut dyn FnMut(usize, Outcome) -> bool) {
            for index in 0..requests.len() {
                if !each(index, Outcome::Hung { deadline_ms: 1, held_in: None }) {
                    return;
                }
            }
        }
    }

    #[test]
    fn a_hang_does_not_end_the_rest() {
        let (mut silent, mut progress) = (Silent, |_| {});
        let mut prober = Prober::new(&mut silent, ENDLESS, &mut progress);
        let requests: Vec<_> = (1..10).map(|sge| QpRequest { max_send_sge: sge, ..QpRequest::base(QpType::RC) }).collect();
        let verdicts: Vec<_> = prober.attempt_all(&requests).iter().map(Outcome::kind).collect();
        assert_eq!(verdicts, [OutcomeKind::Hung; 9]);
        assert_eq!(prober.stopped(), None);
    }

    #[test]
    fn what_would_take_too_much_memory_is_not_tried() {
        let mut model = Model(|_: &QpRequest| panic!("tried"));
        let mut progress = |_| {};
        let mut prober = Prober::new(&mut model, Stop { max_memory_bytes: 1 << 20, ..ENDLESS }, &mut progress);
        let mut request = QpRequest::base(QpType::RC);
        request.max_send_wr = 1 << 20;
        assert!(matches!(prober.attempt(&request), Outcome::NotRun { why } if why.contains("--max-memory")));
        assert_eq!(prober.stopped(), None);
    }

    #[test]
    fn what_is_asked_may_take_more_memory_than_a_search() {
        let mut model = Model(|_: &QpRequest| None);
        let mut progress = |_| {};
        let mut prober = Prober::new(&mut model, Stop { max_memory_bytes: 1 << 20, ..ENDLESS }, &mut progress);
        let mut request = QpRequest::base(QpType::RC);
        request.max_send_wr = 1 << 20;
        assert!(!prober.attempt(&request).is_granted());
        assert!(prober.attempt_asked(&request).is_granted());
        request.max_send_wr = 2 << 20;
        assert!(!prober.attempt(&request).is_granted());
    }
}
