//! Measurements that are well, and those that are not.

use super::super::tests::healthy;
use super::super::{Facts, Finding, Status, run};
use super::CHECKS;
use crate::bench::{
    BandwidthResult, BenchReport, Buffer, ConnectionReport, CounterDelta, CounterKeeper, EndReport, FailureReport, HostSide,
    LoopbackReport, PathLimit, Spread, Verification,
};
use crate::devices::Problem;
use crate::gpu::Path;
use crate::schema;
use crate::transfer::{CompletionMode, Connect, Mismatch, Operation, PathTried, Refusal, StageMemory, Transport};
use crate::verbs::{CallError, ErrorNumber};

fn row(operation: Operation, rates: &[f64]) -> BandwidthResult {
    BandwidthResult {
        operation,
        memory: "host".to_owned(),
        buffer: Buffer::Hot,
        size_bytes: 1 << 20,
        bidirectional: false,
        queue_pairs: 1,
        depth: 16,
        batch: 4,
        inline: false,
        completion: CompletionMode::Poll,
        messages: 100,
        bytes_per_second: Spread::of(rates),
        messages_per_second: None,
        cpu_us_per_gib: None,
        staged: None,
        lost_percent: None,
        verification: Some(Verification { messages: 4, bytes: 1 << 20, mismatch: None }),
        counters: Vec::new(),
        carried: Vec::new(),
        failure: None,
    }
}

/// A device whose path carries 100 Gbit/s, and reads at 80 of them.
fn measured() -> LoopbackReport {
    let path = PathLimit { bits_per_second: 100_000_000_000, bounded_by: "the port's rate".to_owned() };
    let bw = BenchReport {
        schema: schema::BW.to_owned(),
        connection: None,
        results: vec![row(Operation::Write, &[11e9, 11.5e9, 12e9]), row(Operation::Read, &[9.2e9, 9.5e9, 10e9])],
        ordering: Vec::new(),
        notices: Vec::new(),
        problems: Vec::new(),
        stopped: None,
    };
    LoopbackReport { bw: Some(bw), ..LoopbackReport::new("mlx5_0", Some(path)) }
}

fn facts(measured: LoopbackReport) -> Facts {
    Facts { measured: Some(vec![measured]), ..healthy() }
}

/// A device and a GPU that are well.
pub(in crate::checks) fn all_well() -> Facts {
    Facts { measured: Some(vec![measured(), of_gpu(Path::Peermem)]), ..healthy() }
}

/// What a check says of the one device.
fn finding(facts: &Facts, id: &str) -> Finding {
    run(facts, CHECKS).into_iter().find(|finding| finding.id == id).unwrap()
}

#[test]
fn a_device_that_is_well_passes() {
    let mut facts = facts(measured());
    facts.wanted.bandwidth_percent_of_path = Some(80);
    let statuses: Vec<Status> = run(&facts, CHECKS).iter().map(|finding| finding.status).collect();
    // Nobody said what is wanted of an earlier run.
    assert_eq!(statuses, [Status::Pass, Status::Pass, Status::Pass, Status::Pass, Status::Skip, Status::Skip]);
}

#[test]
fn nothing_is_said_where_nothing_was_measured() {
    let nothing = Facts { measured: None, ..healthy() };
    assert!(run(&nothing, CHECKS).iter().all(|finding| finding.status == Status::Skip));
    let late = LoopbackReport { not_run: Some("no time was left".to_owned()), bw: None, ..measured() };
    // The last is of GPUs.
    let (checks, _) = CHECKS.split_at(5);
    assert!(run(&facts(late), checks).iter().all(|finding| finding.status == Status::Skip && finding.title.contains("no time was left")));
    let late = LoopbackReport { not_run: Some("no time was left".to_owned()), ..LoopbackReport::of_gpu("0000:1b:00.0", "mlx5_0") };
    assert!(run(&facts(late), CHECKS).iter().all(|finding| finding.status == Status::Skip && finding.title.contains("no time was left")));
}

#[test]
fn the_share_of_the_path_is_judged_by_the_policy_alone() {
    let mut facts = facts(measured());
    let unasked = finding(&facts, "RD-1203");
    assert_eq!(unasked.status, Status::Skip);
    // Its best repeat counts.
    assert!(unasked.title.contains("is 80 % of its path"), "{}", unasked.title);
    facts.wanted.bandwidth_percent_of_path = Some(81);
    let failed = finding(&facts, "RD-1203");
    assert_eq!(failed.status, Status::Fail);
    assert!(failed.title.contains("80 %") && failed.title.contains("81 %"), "{}", failed.title);
    // A software device has no path of its own.
    facts.measured.as_mut().unwrap()[0].path = None;
    assert_eq!(finding(&facts, "RD-1203").status, Status::Skip);
}

#[test]
fn an_earlier_run_is_compared_where_the_policy_says_so() {
    let mut slower = measured();
    slower.earlier = vec![row(Operation::Write, &[11.5e9]), row(Operation::Read, &[20e9])];
    let mut facts = facts(slower);
    assert_eq!(finding(&facts, "RD-1205").status, Status::Skip);
    facts.wanted.bandwidth_percent_of_baseline = Some(90);
    let failed = finding(&facts, "RD-1205");
    assert!(failed.status == Status::Fail && failed.title.contains("is 50 % of what it was"), "{}", failed.title);
    facts.wanted.bandwidth_percent_of_baseline = Some(50);
    assert_eq!(finding(&facts, "RD-1205").status, Status::Pass);
    facts.wanted.bandwidth_percent_of_baseline = Some(51);
    assert_eq!(finding(&facts, "RD-1205").status, Status::Fail);
    // What is too noisy to quote is too noisy to compare.
    facts.wanted.bandwidth_percent_of_baseline = Some(90);
    facts.measured.as_mut().unwrap()[0].earlier[1].bytes_per_second = Spread::of(&[10e9, 20e9, 30e9]);
    assert_eq!(finding(&facts, "RD-1205").status, Status::Pass);
    facts.measured.as_mut().unwrap()[0].earlier.remove(0);
    let noisy = finding(&facts, "RD-1205");
    assert!(noisy.status == Status::Skip && noisy.title.contains("too noisy"), "{}", noisy.title);
}

#[test]
fn what_arrived_wrong_fails_whatever_the_rate() {
    let mut wrong = measured();
    let mismatch = Mismatch { offset_bytes: 7, expected: 1, found: 2, wrong_bytes: 3, is_guard: false };
    wrong.bw.as_mut().unwrap().results[1].verification = Some(Verification { messages: 4, bytes: 64, mismatch: Some(mismatch) });
    let failed = finding(&facts(wrong), "RD-1202");
    assert!(failed.status == Status::Fail && failed.title.starts_with("bw, read of 1048576 bytes"), "{}", failed.title);
}

#[test]
fn what_does_not_move_names_what_came_back() {
    let mut stuck = measured();
    stuck.bw.as_mut().unwrap().results[0].failure = Some(FailureReport {
        step: "moving data".to_owned(),
        summary: "work completion 12".to_owned(),
        status: Some(12),
        evidence: vec!["GID 3".to_owned()],
        causes: vec!["another subnet".to_owned()],
        next_step: Some("try another --gid-index".to_owned()),
    });
    let failed = finding(&facts(stuck), "RD-1201");
    assert_eq!((failed.status, failed.remedy.summary.as_str()), (Status::Fail, "try another --gid-index"));
    assert_eq!(
        failed.evidence.iter().map(|evidence| evidence.value.as_str()).collect::<Vec<_>>(),
        ["work completion 12", "another subnet", "GID 3"]
    );
    let mut closed = measured();
    closed.bw.as_mut().unwrap().problems = vec![Problem { summary: "opening: EACCES".to_owned(), next_step: None }];
    assert_eq!(finding(&facts(closed), "RD-1201").evidence[0].value, "opening: EACCES");
}

fn counter(keeper: CounterKeeper, name: &str, delta: u64, meaning: Option<&str>) -> CounterDelta {
    let meaning = meaning.map(str::to_owned);
    CounterDelta { side: HostSide::Here, keeper, device: "mlx5_0".to_owned(), name: name.to_owned(), delta, meaning }
}

#[test]
fn counters_of_trouble_are_summed_over_measurements() {
    let mut noisy = measured();
    for row in &mut noisy.bw.as_mut().unwrap().results {
        row.counters = vec![
            counter(CounterKeeper::Rdma, "port_xmit_data", 9, None),
            counter(CounterKeeper::Driver, "rx_prio3_pause", 5, Some("flow control of others")),
            counter(CounterKeeper::Rdma, "out_of_sequence", 2, Some("lost packets")),
        ];
    }
    let warned = finding(&facts(noisy), "RD-1204");
    assert_eq!((warned.status, warned.evidence.len()), (Status::Warn, 1));
    assert!(warned.evidence[0].value.starts_with("grew by 4"), "{}", warned.evidence[0].value);
}

/// A GPU whose memory got to the NIC by this way, after another was refused.
fn of_gpu(path: Path) -> LoopbackReport {
    let refusal =
        Refusal::Verbs { error: CallError { call: "ibv_reg_dmabuf_mr".to_owned(), object: "mlx5_0".to_owned(), errno: ErrorNumber(95) } };
    let tried = vec![PathTried { path: Path::Dmabuf, elapsed_us: None, refusal: Some(refusal) }];
    let memory = StageMemory { path: Some(path), tried, ..StageMemory::default() };
    let local =
        EndReport { device: "mlx5_0".to_owned(), port: 1, gid_index: 3, gid: String::new(), reason: String::new(), memory: Some(memory) };
    let connection = ConnectionReport {
        transport: Transport::Rc,
        connect: Connect::Oob,
        mtu_bytes: 4096,
        remote: local.clone(),
        local,
        memory_bytes: 0,
        peer: None,
        is_simulated: false,
    };
    let bw = BenchReport { connection: Some(connection), ..measured().bw.unwrap() };
    LoopbackReport { bw: Some(bw), ..LoopbackReport::of_gpu("0000:1b:00.0", "mlx5_0") }
}

#[test]
fn the_speed_of_a_simulated_device_is_not_judged() {
    let mut simulated = LoopbackReport { path: measured().path, earlier: measured().bw.unwrap().results, ..of_gpu(Path::Dmabuf) };
    let connection = simulated.bw.as_mut().unwrap().connection.as_mut().unwrap();
    connection.is_simulated = true;
    let mut facts = facts(simulated);
    facts.wanted.bandwidth_percent_of_path = Some(99);
    facts.wanted.bandwidth_percent_of_baseline = Some(100);
    for id in ["RD-1203", "RD-1205"] {
        let skipped = finding(&facts, id);
        assert!(skipped.status == Status::Skip && skipped.title.contains("simulated"), "{}", skipped.title);
    }
    let moved = finding(&facts, "RD-1201");
    assert!(moved.status == Status::Pass && moved.title.starts_with("simulated: write of"), "{}", moved.title);
}

#[test]
fn a_gpu_whose_memory_is_copied_through_the_host_is_a_warning_with_what_was_refused() {
    let direct = facts(of_gpu(Path::Peermem));
    assert_eq!(finding(&direct, "RD-1206").status, Status::Pass);
    let staged = finding(&facts(of_gpu(Path::Staged)), "RD-1206");
    assert_eq!((staged.status, staged.subject.as_str()), (Status::Warn, "0000:1b:00.0/mlx5_0"));
    assert!(staged.evidence[0].value.contains("EOPNOTSUPP"), "{:?}", staged.evidence);
    assert_eq!(staged.remedy.commands[1], "rdmadoctor bw mlx5_0 --memory cuda:0000:1b:00.0 --to-memory host -v");
    // A policy's share of the path is no measure of it: its link is slow until it is used.
    let mut wanted = direct;
    wanted.wanted.bandwidth_percent_of_path = Some(99);
    assert_eq!(finding(&wanted, "RD-1203").status, Status::Skip);
    // Of host memory nothing is said.
    assert_eq!(finding(&facts(measured()), "RD-1206").status, Status::Skip);
}
