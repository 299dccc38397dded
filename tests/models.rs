//! What `qp-matrix` finds by trying, against what the model that it tries says outright.

mod plain;

use std::sync::Arc;

use nix::sys::signal::Signal;
use proptest::prelude::*;
use rdmadoctor::catalog::rules::{Capacity, Step, Zero, ZeroRule};
use rdmadoctor::catalog::{DeviceModel, Efa, Errno, Figure, Hns, Irdma, Mlx4, Mlx5, Packing};
use rdmadoctor::devices::HostLimits;
use rdmadoctor::qp::{
    Ask, AskGroup, AskOrigin, AskReport, Attempter, Bound, DeviceReport, Ending, Frontier, MatrixOptions, Outcome, Parameter, QpRequest,
    QpType, Reported, Shape, SrqRequest, Stop, Value, run_device,
};
use rdmadoctor::sim::{self, ModelSource, SimConfig, SimDevice};
use rdmadoctor::verbs::Verbs;
use rdmadoctor::worker::OpenDevice;

/// A model behind the simulated provider, in this process.
struct Simulated<'a> {
    model: &'a DeviceModel,
    bench: OpenDevice,
}

impl Attempter for Simulated<'_> {
    fn attempts(&mut self, requests: &[QpRequest], each: &mut dyn FnMut(usize, Outcome) -> bool) {
        for (index, request) in requests.iter().enumerate() {
            // A provider that dies would take this process with it.
            let outcome = match self.model.answer(request).err().and_then(|refusal| refusal.signal) {
                Some(signal) => Outcome::Crashed { signal: Signal::try_from(signal).unwrap().to_string(), printed: Vec::new() },
                None => self.bench.attempt(request),
            };
            if !each(index, outcome) {
                return;
            }
        }
    }
}

/// The model's own word.
fn accepts(model: &DeviceModel, request: &QpRequest) -> bool {
    // SRD is made by libefa's own call.
    let is_refused = model.standard_call_refuses(request.qp_type).is_some() && request.qp_type != QpType::Srd;
    model.answer(request).is_ok() && !is_refused
}

fn run(verbs: &Arc<Verbs>, model: &DeviceModel, bounds: bool, asked: Vec<QpRequest>) -> DeviceReport {
    let ask = |request| Ask {
        origin: AskOrigin::User,
        queue: "asked".to_owned(),
        request,
        probed: Vec::new(),
        clamped: Vec::new(),
        settings: Vec::new(),
        optional: false,
    };
    let options = MatrixOptions {
        asks: vec![AskGroup {
            asks: asked.into_iter().map(ask).collect(),
            on_refusal: None,
            others: Vec::new(),
            connect: None,
            asked_version: None,
        }],
        grid: Vec::new(),
        bounds,
        limits: HostLimits::default(),
        stop: Stop { budget: u64::MAX, deadline: None, max_memory_bytes: u64::MAX, max_asked_memory_bytes: u64::MAX },
    };
    let mut attempter = Simulated { model, bench: OpenDevice::open(verbs, &model.name).unwrap() };
    run_device(&model.name, Some(model.family.clone()), Some(&model.attributes()), &mut attempter, &options, &mut |_| {})
}

/// The largest value from `low`, which is accepted, to `high` before the first refusal.
fn largest(low: u32, high: u32, accepts: impl Fn(u32) -> bool) -> u32 {
    let (mut low, mut high) = (u64::from(low), u64::from(high) + 1);
    while high - low > 1 {
        let middle = u64::midpoint(low, high);
        if accepts(middle as u32) { low = middle } else { high = middle }
    }
    low as u32
}

/// Halvings that a search among values up to this one takes.
fn log2(value: u32) -> u64 {
    u64::from(u64::from(value.max(1)).next_power_of_two().ilog2())
}

/// Attempts for one bound: to double up to it, to halve down to it, 0, and one more than refused; then what the device publishes and
/// one more, where that is wrong, and again the refused value and the base, where something may have run out.
fn most_attempts(bound: &Bound) -> u64 {
    2 * log2(bound.accepted.unwrap()) + 4 + 2 * u64::from(bound.reported.is_some()) + u64::from(bound.ending == Ending::Resources)
}

fn check_bound(model: &DeviceModel, base: &QpRequest, reported: &Reported, bound: &Bound) -> Result<(), TestCaseError> {
    let with = |value| bound.parameter.with(base, Value::Number(value));
    let start = bound.parameter.get(base).number().unwrap();
    let truth = largest(start, u32::MAX, |value| accepts(model, &with(value)));
    prop_assert_eq!(bound.accepted, Some(truth), "{:?}", bound);
    prop_assert!(bound.exact && bound.shape == Shape::Monotone, "{:?}", bound);
    match truth.checked_add(1) {
        None => prop_assert_eq!(&bound.ending, &Ending::None),
        Some(next) => {
            let errno = model.answer(&with(next)).unwrap_err().errno;
            prop_assert_eq!((bound.refused, bound.errno.map(|errno| errno.0)), (Some(next), Some(errno)));
            let ran_out = [libc::ENOMEM, libc::EAGAIN, libc::ENOSPC].contains(&errno);
            prop_assert_eq!(&bound.ending, if ran_out { &Ending::Resources } else { &Ending::Limit });
        }
    }
    if start > 0 {
        prop_assert_eq!(bound.zero.as_ref().unwrap().is_granted(), accepts(model, &with(0)), "{:?}", bound);
    }
    prop_assert_eq!(bound.reported, reported.of(bound.parameter));
    prop_assert!(bound.attempts <= most_attempts(bound), "{:?}", bound);
    if let Some(hint) = bound.reported.and_then(|hint| u32::try_from(hint).ok())
        && hint == truth
    {
        // A device that tells the truth costs the doubling only, and is then asked once more, beyond, and for 0.
        prop_assert!(bound.attempts <= log2(truth) + 6, "{:?}", bound);
    }
    Ok(())
}

/// Each place that is looked at costs a look at the bound, two at what the neighbour has, and the halvings of the depth; looked at are
/// both ends, and for each step the halvings of the way.
fn most_attempts_of_frontier(frontier: &Frontier, over_bound: u32, depth_bound: u32) -> u64 {
    let steps = frontier.points.len() as u64 - 1;
    (2 + steps * (log2(over_bound) + 1)) * (log2(depth_bound) + 3)
}

fn check_frontier(model: &DeviceModel, report: &DeviceReport, frontier: &Frontier) -> Result<(), TestCaseError> {
    let base = &report.base.as_ref().unwrap().request;
    let bound = |parameter| report.bounds.iter().find(|bound| bound.parameter == parameter).unwrap().accepted.unwrap();
    let (depth_bound, over_bound) = (bound(frontier.parameter), bound(frontier.over));
    let truth = |over: u32| {
        let request = frontier.over.with(base, Value::Number(over));
        let fits = |depth| accepts(model, &frontier.parameter.with(&request, Value::Number(depth)));
        let depth = largest(frontier.parameter.get(base).number().unwrap(), depth_bound, fits);
        (depth, depth < depth_bound)
    };
    prop_assert!(frontier.complete);
    let mut from = frontier.over.get(base).number().unwrap();
    for point in &frontier.points {
        // Both ends of a step, and some places between.
        let width = point.up_to - from;
        for part in 0..=16 {
            let over = from + (u64::from(width) * part / 16) as u32;
            prop_assert_eq!((point.accepted, point.refused_above), truth(over), "at {} {}: {:?}", frontier.over, over, frontier);
        }
        from = point.up_to.saturating_add(1);
    }
    prop_assert_eq!(frontier.points.last().unwrap().up_to, over_bound.max(frontier.over.get(base).number().unwrap()));
    prop_assert_eq!(frontier.independent, truth(over_bound) == (depth_bound, false));
    prop_assert!(frontier.attempts <= most_attempts_of_frontier(frontier, over_bound, depth_bound), "{:?}", frontier);
    Ok(())
}

/// A number of any size, each as likely.
fn sized(least: u32) -> impl Strategy<Value = u32> {
    (0u32..32).prop_flat_map(move |bits| {
        let top = 1u32 << bits;
        top.max(least)..=top.saturating_mul(2).saturating_sub(1).max(least)
    })
}

fn given(value: u32) -> Figure<u32> {
    Figure::new(value, "given")
}

/// A capacity with a limit that lets the base through.
fn capacity(least: u32) -> impl Strategy<Value = Capacity> {
    let zero = prop_oneof![
        Just(None),
        Just(Some(ZeroRule::Refused)),
        Just(Some(ZeroRule::RefusedWithoutSrq)),
        Just(Some(ZeroRule::RefusedWithRequests)),
        Just(Some(ZeroRule::RaisedToOne))
    ];
    let errno = proptest::sample::select(vec![None, None, None, Some(0), Some(libc::EINVAL), Some(libc::ENOMEM), Some(libc::E2BIG)]);
    (sized(least), zero, errno).prop_map(move |(limit, zero, errno)| Capacity {
        limit: Some(given(limit)),
        errno: errno.map(|errno| Figure::new(Errno(errno), "given")),
        // The base asks for no inline bytes.
        zero: zero.filter(|_| least > 0).map(|rule| Zero { rule, errno: None, source: "given".to_owned(), inferred: false }),
        ..Capacity::default()
    })
}

fn packing() -> impl Strategy<Value = Packing> {
    let mlx5 = (4u32..80, 1u32..64, sized(1024), sized(16)).prop_map(|(send, recv, blocks, recv_wr)| Packing {
        mlx5: Some(Mlx5 {
            max_send_entry_bytes: given(64 * send),
            max_recv_entry_bytes: given(16 * recv),
            max_send_blocks: given(blocks),
            max_recv_wr: given(recv_wr),
        }),
        ..Packing::default()
    });
    let mlx4 = (6u32..13, sized(64)).prop_map(|(entry, entries)| Packing {
        mlx4: Some(Mlx4 { max_send_entry_bytes: given(1 << entry), max_entries: given(entries) }),
        ..Packing::default()
    });
    let quanta = (any::<bool>(), sized(1024), sized(1024), 0u32..64, (0u32..256, 0u32..256));
    let irdma = quanta.prop_map(|(first_generation, send, recv, least, reserved)| Packing {
        irdma: Some(Irdma {
            first_generation,
            max_send_quanta: given(send),
            max_recv_quanta: given(recv),
            min_entries: given(least),
            reserved_send_quanta: given(reserved.0),
            reserved_recv_quanta: given(reserved.1),
        }),
        ..Packing::default()
    });
    // The frontier of its receive queue has a step for each quotient, so its buffers are kept few.
    let efa = (sized(4096), 16u32..256, 16u32..256, 0u32..128, 0u32..256, 16u32..1 << 12).prop_map(
        |(memory, entry, wide, small, least, recv)| Packing {
            efa: Some(Efa {
                send_memory_bytes: given(memory),
                entry_bytes: given(entry),
                wide_entry_bytes: given(entry.max(wide)),
                small_inline_bytes: given(small),
                min_send_wr: given(least),
                max_recv_buffers: given(recv),
            }),
            ..Packing::default()
        },
    );
    let hns = (0u32..64, sized(16), 0u32..4, sized(1)).prop_map(|(least, most, reserved, inline)| Packing {
        hns: Some(Hns { min_wr: given(least), max_wr: given(most), reserved_recv_sge: given(reserved), max_inline_bytes: given(inline) }),
        ..Packing::default()
    });
    prop_oneof![3 => mlx5, 1 => mlx4, 2 => irdma, 2 => efa, 1 => hns]
}

/// Plain limits, packed queues, or both; what it publishes may be wrong.
fn model() -> impl Strategy<Value = DeviceModel> {
    let plain = (capacity(16), capacity(16), capacity(1), capacity(1), capacity(0));
    let kind = 0u32..3;
    (kind, plain, packing(), capacity(64), (sized(1), sized(1), sized(1)), any::<bool>()).prop_map(
        |(kind, plain, packing, entries, published, honest)| {
            let mut model = plain::unlimited("model");
            if kind != 0 {
                model.queue_pairs.packing = Some(packing);
                model.queue_pairs.order.push(Step::Packing);
            }
            let rules = &mut model.queue_pairs;
            if kind != 1 {
                (rules.max_send_wr, rules.max_recv_wr, rules.max_send_sge, rules.max_recv_sge, rules.max_inline_data) = plain;
            }
            let limit = |rule: &Capacity, otherwise: u32| rule.limit.as_ref().map_or(otherwise, |limit| limit.value);
            let smaller = |one: &Capacity, other: &Capacity, otherwise| limit(one, otherwise).min(limit(other, otherwise));
            let truth = (
                smaller(&rules.max_send_wr, &rules.max_recv_wr, published.0),
                smaller(&rules.max_send_sge, &rules.max_recv_sge, published.1),
                limit(&entries, published.2),
            );
            let told = if honest { truth } else { published };
            let fields = &mut model.published;
            for (figure, value) in [(&mut fields.max_qp_wr, told.0), (&mut fields.max_sge, told.1), (&mut fields.max_cqe, told.2)] {
                figure.value = i32::try_from(value).unwrap_or(i32::MAX);
            }
            model.completion_queues.entries = entries;
            model
        },
    )
}

proptest! {
    // A process has room for 256 simulations, one a case, those of shrinking included.
    #![proptest_config(ProptestConfig { cases: 128, max_shrink_iters: 120, ..ProptestConfig::default() })]

    #[test]
    fn what_is_found_of_a_random_model_is_true(model in model()) {
        prop_assume!(accepts(&model, &QpRequest::base(QpType::RC)));
        let device = SimDevice { model: ModelSource::Given(Box::new(model.clone())), ..SimDevice::new("model", "") };
        let verbs = Arc::new(sim::install(SimConfig { devices: vec![device], ..SimConfig::default() }).unwrap());
        let report = run(&verbs, &model, true, Vec::new());
        check_report(&model, &report)?;
    }
}

fn check_report(model: &DeviceModel, report: &DeviceReport) -> Result<(), TestCaseError> {
    let base = report.base.as_ref().unwrap();
    prop_assert_eq!(report.bounds.len(), Parameter::NUMERIC.len());
    for bound in &report.bounds {
        check_bound(model, &base.request, report.reported.as_ref().unwrap(), bound)?;
    }
    prop_assert_eq!(report.joint.len(), 3);
    for frontier in &report.joint {
        check_frontier(model, report, frontier)?;
    }
    Ok(())
}

fn embedded() -> Arc<Verbs> {
    Arc::new(sim::install(SimConfig::of_models(DeviceModel::names())).unwrap())
}

#[test]
fn what_is_found_of_every_embedded_model_is_true() {
    let verbs = embedded();
    for model in DeviceModel::embedded() {
        let report = run(&verbs, model, true, Vec::new());
        check_report(model, &report).unwrap_or_else(|error| panic!("{}: {error}", model.name));
    }
}

/// Modest values mostly, and some that many devices refuse.
fn asked() -> impl Strategy<Value = QpRequest> {
    let depth = || prop_oneof![2 => 16u32..=4096, 1 => sized(1), 1 => Just(0)];
    let entries = || prop_oneof![3 => 0u32..=8, 1 => 9u32..200];
    let inline = prop_oneof![2 => Just(0), 2 => 0u32..=300, 1 => sized(1)];
    let types = prop_oneof![6 => Just(QpType::RC), 1 => proptest::sample::select(QpType::ALL.to_vec())];
    let srq = proptest::option::weighted(0.2, (prop_oneof![3 => 1u32..=4096, 1 => sized(1)], 1u32..=2));
    (types, depth(), depth(), entries(), entries(), inline, prop_oneof![3 => 1u32..=8192, 1 => sized(1)], srq).prop_map(
        |(qp_type, max_send_wr, max_recv_wr, max_send_sge, max_recv_sge, max_inline_data, cq_depth, srq)| QpRequest {
            qp_type,
            max_send_wr,
            max_recv_wr,
            max_send_sge,
            max_recv_sge,
            max_inline_data,
            cq_depth,
            srq: srq.map(|(max_wr, max_sge)| SrqRequest { max_wr, max_sge }),
        },
    )
}

/// Every way to put the base's values for some parameters of `asked`: the parameters changed, and whether that passes.
fn exchanges(model: &DeviceModel, asked: &QpRequest, base: &QpRequest) -> Vec<(Vec<Parameter>, bool)> {
    let suspects: Vec<Parameter> = Parameter::ALL.into_iter().filter(|parameter| parameter.get(asked) != parameter.get(base)).collect();
    (0u32..1 << suspects.len())
        .map(|bits| {
            let chosen: Vec<Parameter> =
                suspects.iter().enumerate().filter(|(index, _)| bits >> index & 1 == 1).map(|(_, parameter)| *parameter).collect();
            let request = chosen.iter().fold(asked.clone(), |request, parameter| parameter.with(&request, parameter.get(base)));
            let passes = accepts(model, &request);
            (chosen, passes)
        })
        .collect()
}

fn check_ask(model: &DeviceModel, base: &QpRequest, ask: &AskReport) -> Result<(), TestCaseError> {
    if accepts(model, &ask.request) {
        prop_assert_eq!(ask.verdict.as_str(), "granted");
        prop_assert!(ask.culprits.is_empty());
        return Ok(());
    }
    prop_assert!(matches!(ask.verdict.as_str(), "refused" | "crashed"), "{}", ask.verdict);
    // The smallest exchanges that pass; or less, where another value than the base's makes a part of each unnecessary.
    let exchanges = exchanges(model, &ask.request, base);
    let smallest = exchanges.iter().filter(|(_, passes)| *passes).map(|(chosen, _)| chosen.len()).min().unwrap();
    let wanted: Vec<&Vec<Parameter>> =
        exchanges.iter().filter(|(chosen, passes)| *passes && chosen.len() == smallest).map(|(chosen, _)| chosen).collect();
    let sets: Vec<_> = std::iter::once(&ask.culprits).chain(&ask.alternatives).collect();
    let size = ask.culprits.len();
    prop_assert!(size > 0 && size <= smallest && sets.iter().all(|set| set.len() == size), "{:?}", ask);
    prop_assert!(if size == smallest { sets.len() == wanted.len() } else { ask.request.srq.is_some() }, "{:?} of {:?}", ask, wanted);
    for (index, set) in sets.iter().enumerate() {
        let named: Vec<Parameter> = set.iter().map(|culprit| culprit.parameter).collect();
        prop_assert!(wanted.iter().any(|wanted| named.iter().all(|one| wanted.contains(one))), "{:?} of {:?}", named, wanted);
        // What was tried as the proof is what is told, and it passes.
        let proof = &ask.attempts[index + 1];
        let told = set.iter().fold(ask.request.clone(), |request, culprit| culprit.parameter.with(&request, culprit.accepted));
        prop_assert_eq!(&proof.request, &told);
        prop_assert!(proof.outcome.is_granted() && accepts(model, &told), "{:?}", ask);
        for culprit in set.iter() {
            let restored = culprit.parameter.with(&told, culprit.parameter.get(&ask.request));
            prop_assert!(!accepts(model, &restored), "{} can stay: {:?}", culprit.parameter, ask);
            let (Value::Number(accepted), Value::Number(asked)) = (culprit.accepted, culprit.asked) else { continue };
            let next = if asked > accepted { accepted + 1 } else { accepted - 1 };
            prop_assert!(
                !accepts(model, &culprit.parameter.with(&told, Value::Number(next))),
                "{} could be {}: {:?}",
                culprit.parameter,
                next,
                ask
            );
        }
    }
    Ok(())
}

#[test]
fn culprits_are_enough_needed_and_extreme_on_every_embedded_model() {
    let verbs = embedded();
    let mut runner =
        proptest::test_runner::TestRunner::new(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() });
    let outcome = runner.run(&asked(), |asked| {
        for model in DeviceModel::embedded() {
            let report = run(&verbs, model, false, vec![asked.clone()]);
            let base = report.base.as_ref().unwrap();
            prop_assert!(base.outcome.is_granted(), "{} refuses every base", model.name);
            check_ask(model, &base.request, &report.asks[0]).map_err(|error| TestCaseError::fail(format!("{}: {error}", model.name)))?;
        }
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}
