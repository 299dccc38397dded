//! Joint limits: a device that packs work-queue entries accepts less depth as their entries or inline bytes grow.
//!
//! The frontier is the largest depth for each value of the other parameter. It never rises, so where two ends agree everything between
//! them does, and only the steps are searched for.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AttemptReport, Outcome, Parameter, Prober, QpRequest, Value};

/// The largest accepted depth over another parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Frontier {
    /// The depth: `max_send_wr` or `max_recv_wr`.
    pub parameter: Parameter,
    /// What it depends on.
    pub over: Parameter,
    /// Whether the largest depth is accepted with the largest value of the other: then there is no joint limit.
    pub independent: bool,
    /// One point a step: up to this value of `over`, this depth.
    pub points: Vec<FrontierPoint>,
    /// Whether every point was found; not so when the search was stopped, or ended by a crash or a hang.
    pub complete: bool,
    /// The request that crashed the provider or hung, and so ended the search: neither accepted nor refused.
    pub broken: Option<AttemptReport>,
    /// Attempts that the search made.
    pub attempts: u64,
}

/// A step of a [`Frontier`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FrontierPoint {
    /// Largest value of the other parameter with this depth.
    pub up_to: u32,
    /// Largest accepted depth.
    pub accepted: u32,
    /// Whether one more was refused; otherwise only `--max-memory` or the parameter's own bound ended the search.
    pub refused_above: bool,
}

/// Largest accepted depth, and whether one more was refused.
type Depth = (u32, bool);

/// Finds the frontier of `parameter` (a depth, accepted up to `depth_bound`) over `over` (accepted up to `over_bound`).
pub fn frontier(
    prober: &mut Prober<'_>,
    base: &QpRequest,
    (parameter, depth_bound): (Parameter, u32),
    (over, over_bound): (Parameter, u32),
) -> Frontier {
    let before = prober.attempts();
    let start = over.get(base).number().unwrap_or(0);
    let floor = parameter.get(base).number().unwrap_or(1);
    let mut search = Search { prober, base, parameter, over, depth_bound, floor, depths: BTreeMap::new(), broken: None };
    let complete = search.between(start, over_bound.max(start)).is_some();
    let points = search.steps();
    let independent = complete && points.iter().all(|point| !point.refused_above);
    let broken = search.broken;
    Frontier { parameter, over, independent, points, complete, broken, attempts: prober.attempts() - before }
}

struct Search<'a, 'b> {
    prober: &'a mut Prober<'b>,
    base: &'a QpRequest,
    parameter: Parameter,
    over: Parameter,
    depth_bound: u32,
    /// A depth that is small enough to be accepted with anything.
    floor: u32,
    depths: BTreeMap<u32, Depth>,
    broken: Option<AttemptReport>,
}

impl Search<'_, '_> {
    fn request(&self, over: u32, depth: u32) -> QpRequest {
        let request = self.over.with(self.base, Value::Number(over));
        self.parameter.with(&request, Value::Number(depth))
    }

    /// Whether the point is accepted; `None` when the search has to end.
    fn accepts(&mut self, over: u32, depth: u32) -> Option<bool> {
        let request = self.request(over, depth);
        match self.prober.attempt(&request) {
            Outcome::Granted { .. } => Some(true),
            Outcome::Refused { .. } => Some(false),
            Outcome::NotRun { .. } => None,
            // No limit of the device's, and each further one costs a child process or a deadline.
            outcome @ (Outcome::Crashed { .. } | Outcome::Hung { .. }) => {
                self.broken = Some(AttemptReport { request, outcome });
                None
            }
        }
    }

    /// The largest depth worth trying: the bound, or what memory allows.
    fn ceiling(&self, over: u32) -> u32 {
        let fits = |depth: u32| !self.prober.is_beyond_memory(&self.request(over, depth));
        if fits(self.depth_bound) {
            return self.depth_bound;
        }
        let (mut low, mut high) = (0, self.depth_bound);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if fits(middle) { low = middle } else { high = middle }
        }
        low
    }

    /// The depth at `over`, known to lie between `low` (accepted) and the ceiling; `likely` is tried first.
    fn depth(&mut self, over: u32, low: u32, likely: Option<u32>) -> Option<Depth> {
        if let Some(known) = self.depths.get(&over) {
            return Some(*known);
        }
        let ceiling = self.ceiling(over);
        let found = if ceiling < low || self.accepts(over, ceiling)? {
            (ceiling, false)
        } else {
            let (mut low, mut high) = (low.min(ceiling), ceiling);
            // A neighbour's depth is often the same; one look at it and one past it settle that.
            for guess in likely.into_iter().flat_map(|likely| [likely, likely.saturating_add(1)]) {
                if low < guess && guess < high {
                    if self.accepts(over, guess)? { low = guess } else { high = guess }
                }
            }
            while high - low > 1 {
                let middle = low + (high - low) / 2;
                if self.accepts(over, middle)? { low = middle } else { high = middle }
            }
            (low, true)
        };
        self.depths.insert(over, found);
        Some(found)
    }

    /// Finds every step from `left` to `right`, both included.
    fn between(&mut self, left: u32, right: u32) -> Option<()> {
        let floor = self.floor;
        let at_right = self.depth(right, floor, None)?;
        let at_left = self.depth(left, at_right.0.min(self.depth_bound), None)?;
        self.split((left, at_left), (right, at_right))
    }

    fn split(&mut self, left: (u32, Depth), right: (u32, Depth)) -> Option<()> {
        // Depths that memory ended are no steps of the device.
        if right.0 - left.0 <= 1 || left.1 == right.1 || (!left.1.1 && !right.1.1) {
            return Some(());
        }
        let middle = left.0 + (right.0 - left.0) / 2;
        let depth = self.depth(middle, right.1.0, Some(left.1.0))?;
        self.split(left, (middle, depth))?;
        self.split((middle, depth), right)
    }

    fn steps(&self) -> Vec<FrontierPoint> {
        let mut points: Vec<FrontierPoint> = Vec::new();
        for (up_to, (accepted, refused_above)) in &self.depths {
            match points.last_mut() {
                Some(last) if (last.accepted, last.refused_above) == (*accepted, *refused_above) => last.up_to = *up_to,
                _ => points.push(FrontierPoint { up_to: *up_to, accepted: *accepted, refused_above: *refused_above }),
            }
        }
        points
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rdmadoctor_types::OutcomeKind;

    use super::super::QpType;
    use super::super::prober::tests::{ENDLESS, Model};
    use super::*;

    /// mlx5's send queue (rdma-core providers/mlx5/verbs.c): entries of 64 bytes' multiples in a queue of at most 32768 * 64 bytes.
    fn mlx5(request: &QpRequest) -> Option<i32> {
        let inline = 4 + request.max_inline_data.next_multiple_of(16) - u32::from(request.max_inline_data == 0) * 4;
        let entry = (192 + (16 * request.max_send_sge).max(inline)).next_multiple_of(64);
        let queue = u64::from(request.max_send_wr) * u64::from(entry);
        (entry > 1024 || queue > 32768 * 64).then_some(22)
    }

    fn run(model: fn(&QpRequest) -> Option<i32>, depth_bound: u32, over: (Parameter, u32)) -> Frontier {
        let mut model = Model(model);
        let mut progress = |_| {};
        let mut prober = Prober::new(&mut model, ENDLESS, &mut progress);
        frontier(&mut prober, &QpRequest::base(QpType::RC), (Parameter::MaxSendWr, depth_bound), over)
    }

    #[test]
    fn the_steps_of_a_packed_queue_are_found() {
        let found = run(mlx5, 8192, (Parameter::MaxSendSge, 52));
        assert!(found.complete && !found.independent);
        for (sge, depth) in [(4, 8192), (5, 6553), (8, 6553), (9, 5461), (16, 4681), (30, 2978), (52, 2048)] {
            let point = found.points.iter().find(|point| point.up_to >= sge).unwrap();
            assert_eq!(point.accepted, depth, "{sge} entries: {found:?}");
        }
        // A bisection of the depth and one of the place for each of the 13 steps.
        assert!(found.attempts < 13 * 24, "{}", found.attempts);
    }

    #[test]
    fn a_device_without_joint_limit_costs_two_attempts() {
        let found = run(|request| (request.max_send_wr > 8192 || request.max_send_sge > 6).then_some(22), 8192, (Parameter::MaxSendSge, 6));
        assert!(found.independent && found.complete, "{found:?}");
        assert_eq!(found.attempts, 2);
    }

    /// Grants up to a depth, and dies of anything above it.
    struct Dying;

    impl super::super::Attempter for Dying {
        fn attempts(&mut self, requests: &[QpRequest], each: &mut dyn FnMut(usize, Outcome) -> bool) {
            for (index, request) in requests.iter().enumerate() {
                let outcome = if request.max_send_sge * request.max_send_wr > 4096 {
                    Outcome::Crashed { signal: "SIGSEGV".to_owned(), printed: Vec::new() }
                } else {
                    Outcome::Granted { caps: request.caps(), cq_depth: request.cq_depth }
                };
                if !each(index, outcome) {
                    return;
                }
            }
        }
    }

    #[test]
    fn a_crash_is_no_limit() {
        let (mut dying, mut progress) = (Dying, |_| {});
        let mut prober = Prober::new(&mut dying, ENDLESS, &mut progress);
        let found = frontier(&mut prober, &QpRequest::base(QpType::RC), (Parameter::MaxSendWr, 4096), (Parameter::MaxSendSge, 8));
        assert!(!found.complete && !found.independent, "{found:?}");
        let broken = found.broken.unwrap();
        assert_eq!((broken.request.max_send_sge, broken.request.max_send_wr, broken.outcome.kind()), (8, 4096, OutcomeKind::Crashed));
        assert_eq!(found.attempts, 1);
    }

    proptest! {
        #[test]
        fn any_frontier_that_never_rises_is_found_whole(mut drops in proptest::collection::vec(0u32..200, 1..40), bound in 9000u32..20000) {
            // depths[sge - 1] is the depth at that many entries.
            let mut depth = bound;
            let depths: Vec<u32> = drops.drain(..).map(|drop| { depth -= drop; depth }).collect();
            let largest = depths.len() as u32;
            let table = depths.clone();
            let mut model = Model(move |request: &QpRequest| {
                (request.max_send_wr > table[request.max_send_sge as usize - 1]).then_some(22)
            });
            let mut progress = |_| {};
            let mut prober = Prober::new(&mut model, ENDLESS, &mut progress);
            let found = frontier(&mut prober, &QpRequest::base(QpType::RC), (Parameter::MaxSendWr, depths[0]), (Parameter::MaxSendSge, largest));
            prop_assert!(found.complete);
            for (index, depth) in depths.iter().enumerate() {
                let point = found.points.iter().find(|point| point.up_to > index as u32).unwrap();
                prop_assert_eq!(point.accepted, *depth, "at {} entries", index + 1);
            }
        }
    }
}
