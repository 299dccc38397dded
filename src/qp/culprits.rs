//! The smallest change that makes a refused request pass, and how far each part of it may go: proven by attempts.

use std::collections::HashSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Bound, Outcome, Parameter, Prober, QpRequest, Value};

/// A parameter that must change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Culprit {
    pub parameter: Parameter,
    /// The refused value.
    pub asked: Value,
    /// The value nearest to it that was granted.
    pub accepted: Value,
}

/// Parameters that must change together; fewer do not suffice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CulpritSet {
    pub culprits: Vec<Culprit>,
    /// The changed request, which was granted.
    pub granted: QpRequest,
    /// Whether every `accepted` is the extreme: the next value towards `asked` was refused.
    pub exact: bool,
}

/// Finds the smallest sets of parameters of `asked`, which was refused, whose change makes it pass. `base` was granted; `bounds` are
/// what is known of the device already. Several sets of one size are alternatives. Nothing is found when the search was stopped, or
/// when nothing but the base itself passes.
pub fn culprits(prober: &mut Prober<'_>, asked: &QpRequest, base: &QpRequest, bounds: &[Bound]) -> Vec<CulpritSet> {
    let suspects: Vec<Parameter> = Parameter::ALL.into_iter().filter(|parameter| parameter.get(asked) != parameter.get(base)).collect();
    for size in 1..=suspects.len() {
        let subsets = subsets(&suspects, size);
        let requests: Vec<QpRequest> = subsets.iter().map(|subset| replaced(asked, base, subset)).collect();
        let outcomes = prober.attempt_all(&requests);
        let mut found: Vec<CulpritSet> = subsets
            .iter()
            .zip(&requests)
            .zip(&outcomes)
            .filter(|(_, outcome)| outcome.is_granted())
            .map(|((subset, request), _)| stretch(prober, asked, request, subset, bounds))
            .collect();
        // Stretching may have shown that less suffices.
        let least = found.iter().map(|set| set.culprits.len()).min();
        found.retain(|set| Some(set.culprits.len()) == least);
        // Sets that shrank may name the same parameters: one of them tells as much.
        let mut named = HashSet::new();
        found.retain(|set| named.insert(set.culprits.iter().map(|culprit| culprit.parameter).collect::<Vec<_>>()));
        if !found.is_empty() || outcomes.iter().any(|outcome| matches!(outcome, Outcome::NotRun { .. })) && prober.stopped().is_some() {
            return found;
        }
    }
    Vec::new()
}

/// `asked` with the values of `base` for the parameters of `subset`.
fn replaced(asked: &QpRequest, base: &QpRequest, subset: &[Parameter]) -> QpRequest {
    subset.iter().fold(asked.clone(), |request, parameter| {
        // A whole shared receive queue is one value, its depth, to `with`; without one nothing is left of it.
        parameter.with(&request, parameter.get(base))
    })
}

/// All subsets of `size`, in the order of `suspects`.
fn subsets(suspects: &[Parameter], size: usize) -> Vec<Vec<Parameter>> {
    if size == 0 {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (index, first) in suspects.iter().enumerate() {
        for mut rest in subsets(&suspects[index + 1..], size - 1) {
            rest.insert(0, *first);
            all.push(rest);
        }
    }
    all
}

/// `request` with another value for a parameter; a shared receive queue keeps the entries that `asked` gives it.
fn moved(asked: &QpRequest, request: &QpRequest, parameter: Parameter, value: Value) -> QpRequest {
    let mut moved = parameter.with(request, value);
    if let (Parameter::Srq, Some(asked), Some(srq)) = (parameter, asked.srq, &mut moved.srq) {
        srq.max_sge = asked.max_sge;
    }
    moved
}

/// Brings each parameter of a granted request as near to what was asked as the device accepts, one after another.
fn stretch(prober: &mut Prober<'_>, asked: &QpRequest, granted: &QpRequest, subset: &[Parameter], bounds: &[Bound]) -> CulpritSet {
    let mut request = granted.clone();
    let mut exact = true;
    for parameter in subset {
        if let (Value::Number(from), Value::Number(to)) = (parameter.get(&request), parameter.get(asked)) {
            let known = bounds.iter().find(|bound| bound.parameter == *parameter).and_then(|bound| bound.accepted);
            let nearest = nearest(from, to, known, |value| {
                let candidate = moved(asked, &request, *parameter, Value::Number(value));
                match prober.attempt(&candidate) {
                    Outcome::NotRun { .. } => None,
                    outcome => Some(outcome.is_granted()),
                }
            });
            exact &= nearest.1;
            request = moved(asked, &request, *parameter, Value::Number(nearest.0));
        }
    }
    // What the base's value of one parameter made necessary for another, its nearest value may not: without a shared receive queue the
    // depth of the receive queue counts, with a smaller one it does not. What is put back may make another needless in turn.
    let mut needed = subset.to_vec();
    while needed.len() > 1 {
        let needless = needed.iter().enumerate().find_map(|(place, parameter)| {
            let restored = moved(asked, &request, *parameter, parameter.get(asked));
            prober.attempt(&restored).is_granted().then_some((place, restored))
        });
        let Some((place, restored)) = needless else { break };
        request = restored;
        needed.remove(place);
    }
    // The others have moved since a parameter was brought near, and where acceptance follows no rule it may go further now.
    exact = exact && needed.iter().all(|parameter| is_extreme(prober, asked, &request, *parameter));
    let culprits = needed
        .iter()
        .map(|parameter| Culprit { parameter: *parameter, asked: parameter.get(asked), accepted: parameter.get(&request) })
        .collect();
    CulpritSet { culprits, granted: request, exact }
}

/// Whether the value of `parameter` that is next to that of a granted request, towards what was asked, is refused.
fn is_extreme(prober: &mut Prober<'_>, asked: &QpRequest, granted: &QpRequest, parameter: Parameter) -> bool {
    let (Value::Number(accepted), Value::Number(wanted)) = (parameter.get(granted), parameter.get(asked)) else { return true };
    let next = if wanted > accepted { accepted.saturating_add(1) } else { accepted.saturating_sub(1) };
    let outcome = prober.attempt(&moved(asked, granted, parameter, Value::Number(next)));
    !outcome.is_granted() && !matches!(outcome, Outcome::NotRun { .. })
}

/// The accepted value nearest to `to`, which is refused, starting from `from`, which is accepted; and whether its neighbour was refused.
/// `known` is tried first where it lies between.
fn nearest(from: u32, to: u32, known: Option<u32>, mut accepts: impl FnMut(u32) -> Option<bool>) -> (u32, bool) {
    let (mut good, mut bad) = (i64::from(from), i64::from(to));
    let step = (bad - good).signum();
    // One step from the asked value, or from zero, decides most cases at once.
    let mut guesses: Vec<i64> = known.into_iter().map(i64::from).flat_map(|known| [known + step, known]).collect();
    if to == 0 || from == 0 {
        guesses.push(1);
    }
    while (bad - good).abs() > 1 {
        let value = match guesses.pop() {
            Some(guess) if (guess - good) * step > 0 && (bad - guess) * step > 0 => guess,
            Some(_) => continue,
            None => good + (bad - good) / 2,
        };
        match u32::try_from(value).ok().and_then(&mut accepts) {
            Some(true) => good = value,
            Some(false) => bad = value,
            None => return (u32::try_from(good).unwrap_or(from), false),
        }
    }
    (u32::try_from(good).unwrap_or(from), true)
}

#[cfg(test)]
#[path = "culprits_brute_force.rs"]
mod brute_force;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::prober::tests::{ENDLESS, Model};
    use super::super::{QpType, SrqRequest};
    use super::*;

    /// eRDMA as drivers/infiniband/hw/erdma/erdma_verbs.c checks it.
    fn erdma(request: &QpRequest) -> Option<i32> {
        let is_over = request.max_send_wr > 8192
            || request.max_recv_wr > 8192
            || request.max_send_sge > 6
            || request.max_recv_sge > 1
            || request.max_inline_data > 96
            || request.max_send_wr == 0
            || request.max_recv_wr == 0;
        match () {
            () if is_over => Some(22),
            () if request.qp_type != QpType::RC || request.srq.is_some() => Some(95),
            () => None,
        }
    }

    fn find(model: impl FnMut(&QpRequest) -> Option<i32>, asked: &QpRequest) -> Vec<CulpritSet> {
        let mut model = Model(model);
        let mut progress = |_| {};
        let mut prober = Prober::new(&mut model, ENDLESS, &mut progress);
        culprits(&mut prober, asked, &QpRequest::base(QpType::RC), &[])
    }

    fn asked(change: impl FnOnce(&mut QpRequest)) -> QpRequest {
        let mut request = QpRequest { max_send_wr: 8192, max_recv_wr: 8192, cq_depth: 16384, ..QpRequest::base(QpType::RC) };
        change(&mut request);
        request
    }

    #[test]
    fn the_incident_has_one_culprit() {
        let sets = find(erdma, &asked(|r| (r.max_send_sge, r.max_recv_sge) = (4, 4)));
        assert_eq!(sets.len(), 1);
        let culprit = Culprit { parameter: Parameter::MaxRecvSge, asked: Value::Number(4), accepted: Value::Number(1) };
        assert_eq!(sets[0].culprits, [culprit]);
        assert_eq!(sets[0].granted.max_send_sge, 4);
        assert!(sets[0].exact);
    }

    #[test]
    fn two_wrongs_are_found_together_each_at_its_limit() {
        let sets = find(erdma, &asked(|r| (r.max_send_sge, r.max_recv_sge, r.max_inline_data) = (9, 4, 96)));
        assert_eq!(sets.len(), 1);
        let accepted: Vec<_> = sets[0].culprits.iter().map(|culprit| (culprit.parameter, culprit.accepted)).collect();
        assert_eq!(accepted, [(Parameter::MaxRecvSge, Value::Number(1)), (Parameter::MaxSendSge, Value::Number(6))]);
    }

    #[test]
    fn zero_is_raised_to_the_smallest_that_passes() {
        let sets = find(erdma, &asked(|r| r.max_recv_wr = 0));
        assert_eq!(sets[0].culprits[0].accepted, Value::Number(1));
    }

    #[test]
    fn a_shared_receive_queue_and_an_empty_receive_queue_go_together() {
        let sets = find(erdma, &asked(|r| (r.max_recv_wr, r.srq) = (0, Some(SrqRequest { max_wr: 4095, max_sge: 1 }))));
        let parameters: Vec<_> = sets[0].culprits.iter().map(|culprit| culprit.parameter).collect();
        assert_eq!(parameters, [Parameter::MaxRecvWr, Parameter::Srq]);
        assert_eq!(sets[0].culprits[1].accepted, Value::Number(0));
    }

    #[test]
    fn a_shared_receive_queue_that_is_too_deep_is_made_smaller_and_blames_nothing_else() {
        // Without a shared receive queue its own one would have to have requests; with a smaller one it need not.
        let deep = |r: &QpRequest| match r.srq {
            Some(srq) => (srq.max_wr > 2048 || srq.max_sge > 2).then_some(22),
            None => (r.max_recv_wr == 0).then_some(22),
        };
        let sets = find(deep, &asked(|r| (r.max_recv_wr, r.srq) = (0, Some(SrqRequest { max_wr: 4096, max_sge: 2 }))));
        let culprit = Culprit { parameter: Parameter::Srq, asked: Value::Number(4096), accepted: Value::Number(2048) };
        assert_eq!((sets.len(), &sets[0].culprits[..]), (1, &[culprit][..]));
        assert_eq!((sets[0].granted.max_recv_wr, sets[0].granted.srq), (0, Some(SrqRequest { max_wr: 2048, max_sge: 2 })));
        // Entries that no depth makes good: it must go.
        let sets = find(deep, &asked(|r| r.srq = Some(SrqRequest { max_wr: 16, max_sge: 3 })));
        assert_eq!((sets[0].culprits[0].accepted, sets[0].granted.srq), (Value::Number(0), None));
    }

    #[test]
    fn a_joint_limit_has_alternatives() {
        let packed = |r: &QpRequest| (u64::from(r.max_send_wr) * u64::from(r.max_send_sge) > 8192).then_some(22);
        let sets = find(packed, &asked(|r| (r.max_send_wr, r.max_send_sge) = (4096, 4)));
        assert_eq!(sets.len(), 2);
        assert_eq!(sets[0].culprits[0].accepted, Value::Number(2));
        assert_eq!(sets[1].culprits[0].accepted, Value::Number(2048));
    }

    #[test]
    fn another_type_is_a_culprit_of_its_own() {
        let sets = find(erdma, &asked(|r| r.qp_type = QpType::UD));
        assert_eq!(sets[0].culprits[0].accepted, Value::Type(QpType::RC));
    }

    proptest! {
        #[test]
        fn what_is_named_is_enough_needed_and_extreme(
            send_sge in 1u32..40, recv_sge in 1u32..40, inline in 0u32..600, send_wr in 16u32..20000, recv_wr in 16u32..20000,
        ) {
            let ask = asked(|r| (r.max_send_sge, r.max_recv_sge, r.max_inline_data, r.max_send_wr, r.max_recv_wr) = (send_sge, recv_sge, inline, send_wr, recv_wr));
            prop_assume!(erdma(&ask).is_some());
            let sets = find(erdma, &ask);
            prop_assert_eq!(sets.len(), 1);
            prop_assert_eq!(erdma(&sets[0].granted), None);
            for culprit in &sets[0].culprits {
                // Put back alone, it fails: needed. One more than accepted fails: extreme.
                prop_assert!(erdma(&culprit.parameter.with(&sets[0].granted, culprit.asked)).is_some());
                let next = Value::Number(culprit.accepted.number().unwrap() + 1);
                prop_assert!(erdma(&culprit.parameter.with(&sets[0].granted, next)).is_some());
            }
        }
    }
}
