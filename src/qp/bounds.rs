//! The bound of one parameter while the others stay at a small base: doubling until something refuses, then bisection.
//!
//! With b the bound, doubling costs about log2(b) attempts and bisection as many. A published value is tried first inside the last
//! interval, and where it is right it ends the search at once.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::prober::is_exhaustion;
use super::{Outcome, Parameter, Prober, QpRequest, Value};

/// How sure a bound is, and what ended the search.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Ending {
    /// The device refuses the value after the largest accepted one, whatever else happens on the host.
    Limit,
    /// Larger values fail for want of memory or objects while the base is still granted: locked memory, or the device's own.
    Resources,
    /// Even the base failed when it was tried again: something ran out on the host, and the bound says nothing.
    Exhausted,
    /// Larger values were not tried, because of their memory.
    BeyondMemory,
    /// Larger values crashed the provider or did not come back.
    Broken {
        /// What happened.
        outcome: Outcome,
    },
    /// Every value of the type is accepted.
    None,
    /// The search was stopped.
    Stopped {
        /// Why.
        why: String,
    },
}

/// Whether everything up to the bound is accepted and everything above refused, as far as values were tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Shape {
    /// Yes.
    Monotone,
    /// No: this value was accepted although a smaller one was refused.
    AcceptedAbove {
        /// The accepted value.
        value: u32,
    },
}

/// What attempts proved of one parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Bound {
    /// Which.
    pub parameter: Parameter,
    /// Largest accepted value below which no tried value was refused.
    pub accepted: Option<u32>,
    /// Smallest refused value above it.
    pub refused: Option<u32>,
    /// The errno of that refusal.
    pub errno: Option<crate::verbs::ErrorNumber>,
    /// Its name, such as `EINVAL`.
    pub errno_name: Option<String>,
    /// What the device publishes for it; absent where verbs has no such field.
    pub reported: Option<i64>,
    /// Whether `refused` is `accepted` plus one.
    pub exact: bool,
    /// What ended the search.
    pub ending: Ending,
    /// Whether acceptance was monotone.
    pub shape: Shape,
    /// What became of the value 0.
    pub zero: Option<Outcome>,
    /// Attempts that the search made.
    pub attempts: u64,
}

/// Finds the bound of `parameter`, from a `base` that is granted. `reported` is what the device publishes for it.
pub fn bound(prober: &mut Prober<'_>, base: &QpRequest, parameter: Parameter, reported: Option<i64>) -> Bound {
    let before = prober.attempts();
    let mut search = Search { prober, base, parameter };
    let start = parameter.get(base).number().unwrap_or(0);
    let zero = (start != 0).then(|| search.try_value(0));
    let mut found = search.run(start, reported.and_then(|value| u32::try_from(value).ok()));
    found.zero = zero;
    found.reported = reported;
    found.attempts = prober.attempts() - before;
    found
}

struct Search<'a, 'b> {
    prober: &'a mut Prober<'b>,
    base: &'a QpRequest,
    parameter: Parameter,
}

impl Search<'_, '_> {
    fn request(&self, value: u32) -> QpRequest {
        self.parameter.with(self.base, Value::Number(value))
    }

    fn try_value(&mut self, value: u32) -> Outcome {
        let request = self.request(value);
        self.prober.attempt(&request)
    }

    fn is_beyond_memory(&self, value: u32) -> bool {
        self.prober.is_beyond_memory(&self.request(value))
    }

    /// The largest value whose memory may be taken.
    fn memory_ceiling(&self, from: u32) -> u32 {
        let (mut low, mut high) = (from, u32::MAX);
        if !self.is_beyond_memory(high) {
            return high;
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.is_beyond_memory(middle) { high = middle } else { low = middle }
        }
        low
    }

    fn run(&mut self, start: u32, hint: Option<u32>) -> Bound {
        let ceiling = self.memory_ceiling(start);
        let mut accepted = start;
        let mut refused: Option<(u32, Outcome)> = None;
        // Doubling. The last step goes to the ceiling itself, so that the whole allowed range is covered.
        while refused.is_none() && accepted < ceiling {
            let value = accepted.saturating_mul(2).clamp(1, ceiling);
            match self.try_value(value) {
                outcome if outcome.is_granted() => accepted = value,
                Outcome::NotRun { why } => return self.ended(accepted, None, Ending::Stopped { why }),
                outcome => refused = Some((value, outcome)),
            }
        }
        let Some((mut smallest, mut outcome)) = refused else {
            let ending = if ceiling == u32::MAX { Ending::None } else { Ending::BeyondMemory };
            return self.ended(accepted, None, ending);
        };
        // Bisection, by way of the published value where it lies inside.
        let mut guesses = hint.map(|hint| [hint.saturating_add(1), hint]).into_iter().flatten().collect::<Vec<_>>();
        while smallest - accepted > 1 {
            let guess = guesses.pop().filter(|guess| accepted < *guess && *guess < smallest);
            let value = match guess {
                Some(guess) => guess,
                None if guesses.is_empty() => accepted + (smallest - accepted) / 2,
                None => continue,
            };
            match self.try_value(value) {
                granted if granted.is_granted() => accepted = value,
                Outcome::NotRun { why } => return self.ended(accepted, Some((smallest, outcome)), Ending::Stopped { why }),
                other => {
                    smallest = value;
                    outcome = other;
                }
            }
        }
        self.judge(accepted, smallest, outcome, ceiling)
    }

    /// Says what the refusal after the bound means.
    fn judge(&mut self, accepted: u32, smallest: u32, outcome: Outcome, ceiling: u32) -> Bound {
        match &outcome {
            Outcome::Refused { error } if is_exhaustion(error.errno) => {
                // Something ran out. Whether that is a limit of this request or the state of the host, only trying again tells.
                let request = self.request(smallest);
                let again = self.prober.attempt_again(&request);
                let base = self.base.clone();
                let ending = match (again.is_granted(), self.prober.attempt_again(&base).is_granted()) {
                    (_, false) => Ending::Exhausted,
                    (true, true) => Ending::Stopped {
                        why: format!(
                            "{smallest} was first refused for want of resources, then granted: resources on this host come and go"
                        ),
                    },
                    (false, true) => Ending::Resources,
                };
                self.ended(accepted, Some((smallest, outcome)), ending)
            }
            Outcome::Refused { .. } => {
                // A look beyond: a device may accept larger values again, and then there is no bound to speak of.
                let above = smallest.saturating_mul(2).min(ceiling);
                let beyond = (above > smallest).then(|| self.try_value(above));
                let mut bound = self.ended(accepted, Some((smallest, outcome)), Ending::Limit);
                if beyond.is_some_and(|outcome| outcome.is_granted()) {
                    bound.shape = Shape::AcceptedAbove { value: above };
                    bound.exact = false;
                }
                bound
            }
            _ => self.ended(accepted, Some((smallest, outcome.clone())), Ending::Broken { outcome }),
        }
    }

    fn ended(&self, accepted: u32, refused: Option<(u32, Outcome)>, ending: Ending) -> Bound {
        let errno = refused.as_ref().and_then(|(_, outcome)| outcome.errno());
        let smallest = refused.map(|(value, _)| value);
        Bound {
            parameter: self.parameter,
            accepted: Some(accepted),
            refused: smallest,
            errno,
            errno_name: errno.map(|errno| errno.name()),
            reported: None,
            exact: ending == Ending::None || (smallest == accepted.checked_add(1) && matches!(ending, Ending::Limit | Ending::Resources)),
            ending,
            shape: Shape::Monotone,
            zero: None,
            attempts: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::prober::tests::{ENDLESS, Model};
    use super::super::{QpType, Stop};
    use super::*;

    fn find(limit: impl Fn(u32) -> Option<i32>, hint: Option<i64>, stop: Stop) -> Bound {
        let mut model = Model(|request: &QpRequest| limit(request.max_recv_wr));
        let mut progress = |_| {};
        let mut prober = Prober::new(&mut model, stop, &mut progress);
        let base = QpRequest { max_recv_wr: 1, ..QpRequest::base(QpType::RC) };
        bound(&mut prober, &base, Parameter::MaxRecvWr, hint)
    }

    fn most_attempts(bound: u32) -> u64 {
        u64::from(2 * u64::from(bound.max(1)).next_power_of_two().ilog2()) + 4
    }

    proptest! {
        #[test]
        fn any_limit_is_found_exactly_within_the_stated_attempts(limit in 1u32..=u32::MAX - 1, hint in proptest::option::of(0i64..10_000)) {
            let found = find(|value| (value > limit).then_some(22), hint, ENDLESS);
            prop_assert_eq!(found.accepted, Some(limit));
            prop_assert_eq!(found.refused, Some(limit + 1));
            prop_assert!(found.exact);
            prop_assert_eq!(found.shape, Shape::Monotone);
            let slack = u64::from(hint.is_some()) * 2;
            prop_assert!(found.attempts <= most_attempts(limit) + slack, "{} attempts for {}", found.attempts, limit);
        }

        #[test]
        fn a_true_hint_ends_the_bisection(limit in 2u32..1 << 30) {
            let found = find(|value| (value > limit).then_some(22), Some(i64::from(limit)), ENDLESS);
            prop_assert_eq!(found.accepted, Some(limit));
            prop_assert!(found.attempts <= u64::from(limit.next_power_of_two().ilog2()) + 6, "{} attempts for {}", found.attempts, limit);
        }

        #[test]
        fn any_acceptance_ends_without_a_false_exactness(accepted in proptest::collection::vec(any::<bool>(), 64)) {
            // Acceptance that follows no rule: whatever is claimed as exact must at least be true of the two values around it.
            let accepts = |value: u32| value <= 1 || accepted[value as usize % 64];
            let found = find(|value| (!accepts(value)).then_some(22), None, ENDLESS);
            if found.exact && found.ending == Ending::Limit {
                prop_assert!(accepts(found.accepted.unwrap()) && !accepts(found.refused.unwrap()));
            }
        }
    }

    proptest! {
        /// Every device that takes or refuses 0 to 31 one by one, and nothing above, with an errno of its own for each value.
        #[test]
        fn what_is_claimed_of_any_small_device_is_so(accepted: u32, hint in proptest::option::of(0_i64..40)) {
            let accepts = |value: u32| value == 1 || (value < 32 && accepted >> value & 1 == 1);
            let errno = |value: u32| 200 + i32::try_from(value.min(1000)).unwrap();
            let tried = std::cell::RefCell::new(Vec::new());
            let device = |value: u32| {
                tried.borrow_mut().push(value);
                (!accepts(value)).then(|| errno(value))
            };
            let found = find(device, hint, ENDLESS);
            let (most, refused) = (found.accepted.unwrap(), found.refused.unwrap());
            prop_assert!(accepts(most) && !accepts(refused) && most < refused, "{:?}", found);
            prop_assert_eq!(found.errno.map(|errno| errno.0), Some(errno(refused)));
            prop_assert_eq!((found.exact, &found.ending), (found.exact && refused == most + 1, &Ending::Limit));
            // Nothing that was tried says otherwise, and what is accepted above is told.
            let tried = tried.into_inner();
            prop_assert!(tried.iter().all(|value| *value == 0 || *value > most || accepts(*value)), "{:?} {:?}", found, tried);
            let above = tried.iter().copied().find(|value| *value > refused && accepts(*value));
            match found.shape {
                Shape::AcceptedAbove { value } => prop_assert!(above == Some(value) && !found.exact, "{:?}", found),
                Shape::Monotone => prop_assert!(above.is_none() && refused == most + 1 && found.exact, "{:?} {:?}", found, tried),
            }
            prop_assert_eq!(found.zero.map(|zero| zero.is_granted()), Some(accepts(0)));
            prop_assert_eq!((found.reported, found.attempts), (hint, tried.len() as u64));
        }
    }

    #[test]
    fn acceptance_with_a_hole_is_told() {
        let found = find(|value| (100..250).contains(&value).then_some(22), None, ENDLESS);
        assert!(matches!(found.shape, Shape::AcceptedAbove { .. }) || found.accepted == Some(99), "{found:?}");
        let found = find(|value| (100..190).contains(&value).then_some(22), None, ENDLESS);
        assert_eq!((found.accepted, found.exact), (Some(99), false), "{found:?}");
        assert!(matches!(found.shape, Shape::AcceptedAbove { value: 200 }));
    }

    #[test]
    fn zero_is_tried_apart() {
        let found = find(|value| (value == 0 || value > 8192).then_some(22), Some(8192), ENDLESS);
        assert_eq!(found.accepted, Some(8192));
        assert_eq!(found.zero.unwrap().errno().unwrap().0, 22);
    }

    #[test]
    fn want_of_memory_is_no_limit_of_the_device() {
        let found = find(|value| (value > 1000).then_some(libc::ENOMEM), None, ENDLESS);
        assert_eq!((found.accepted, found.ending, found.exact), (Some(1000), Ending::Resources, true));
    }

    #[test]
    fn exhaustion_is_told_from_a_limit_by_the_base() {
        let mut calls = 0;
        let mut model = Model(move |_| {
            calls += 1;
            (calls > 5).then_some(libc::ENOMEM)
        });
        let mut progress = |_| {};
        let mut prober = Prober::new(&mut model, ENDLESS, &mut progress);
        let found = bound(&mut prober, &QpRequest::base(QpType::RC), Parameter::MaxSendWr, None);
        assert_eq!(found.ending, Ending::Exhausted);
        assert!(!found.exact);
    }

    #[test]
    fn memory_and_budget_end_the_search_without_a_claim() {
        let found = find(|_| None, None, Stop { max_memory_bytes: 1 << 20, ..ENDLESS });
        assert_eq!((found.ending, found.exact, found.refused), (Ending::BeyondMemory, false, None));
        let found = find(|_| None, None, Stop { budget: 5, ..ENDLESS });
        assert!(matches!(found.ending, Ending::Stopped { .. }) && !found.exact);
    }
}
