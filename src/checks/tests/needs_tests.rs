//! What checks declare that they need is what they are judged from: no more and no less.

use super::*;
use crate::capture::parse_file;
use crate::facts::Source;

/// All but what is not gathered for any check.
const SOURCES: [Source; 16] = [
    Source::Rdma,
    Source::Counters,
    Source::Pcie,
    Source::Net,
    Source::Limits,
    Source::System,
    Source::VerbsFiles,
    Source::Log,
    Source::Modules,
    Source::Verbs,
    Source::QueuePairs,
    Source::Gpus,
    Source::HostMemory,
    Source::GpuMemory,
    Source::Objects,
    Source::Measured,
];

/// The facts without all that comes from other sources. What could not be read is known of every part.
fn only(facts: &Facts, sources: &[Source]) -> Facts {
    let has = |source| sources.contains(&source);
    let mut facts = facts.clone();
    macro_rules! forget {
        ($($source:ident: $part:expr;)*) => { $(
            if !has(Source::$source) {
                let read = std::mem::take(&mut $part);
                $part.problems = read.problems;
            }
        )* };
    }
    forget! {
        Rdma: facts.host.rdma;
        Counters: facts.host.counters;
        Pcie: facts.host.pcie;
        Net: facts.host.net;
        Limits: facts.host.limits;
        System: facts.host.system;
        VerbsFiles: facts.host.verbs_files;
        Log: facts.host.log;
        Modules: facts.modules;
    }
    let vpd = std::mem::take(&mut facts.host.vpd);
    facts.host.vpd.problems = vpd.problems;
    if ![Source::Rdma, Source::Pcie, Source::System].into_iter().all(has) {
        facts.host.topology = Default::default();
    }
    if ![Source::Rdma, Source::Verbs].into_iter().all(has) {
        facts.devices = facts::collect(&Default::default(), None);
    }
    facts.verbs = facts.verbs.filter(|_| has(Source::Verbs));
    facts.queue_pairs = facts.queue_pairs.filter(|_| has(Source::QueuePairs));
    facts.gpus = facts.gpus.filter(|_| has(Source::Gpus));
    facts.objects = facts.objects.filter(|_| has(Source::Objects));
    facts.measured = facts.measured.filter(|_| has(Source::Measured));
    facts.memory = facts.memory.filter(|_| has(Source::HostMemory) || has(Source::GpuMemory));
    for memory in &mut facts.memory {
        memory.host.retain(|_| has(Source::HostMemory));
        memory.gpu.retain(|_| has(Source::GpuMemory));
    }
    facts
}

/// Hosts on which each check has something to look at: models, every wound, what was captured, what was measured.
fn hosts() -> Vec<(String, Facts)> {
    let mut hosts: Vec<(String, Facts)> = HostModel::names().map(|name| (name.to_owned(), modelled(name))).collect();
    for (id, _, wound) in WOUNDS {
        let mut facts = healthy();
        wound(&mut facts);
        hosts.push((format!("{id}, number {}", hosts.len()), facts));
    }
    let captures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures");
    for name in ["1-erdma-a10x8", "bare-quick", "h200"] {
        let bytes = std::fs::read(captures.join(format!("{name}.json.gz"))).unwrap();
        hosts.push((name.to_owned(), parse_file(&bytes).unwrap().facts));
    }
    hosts.push(("measured".to_owned(), crate::checks::measured::tests::facts_of_one_device()));
    hosts
}

fn findings(facts: &Facts, check: &Check) -> Vec<Finding> {
    run(facts, [check])
}

#[test]
fn no_check_looks_at_what_it_does_not_declare() {
    let mut wrong = BTreeSet::new();
    for (host, facts) in hosts() {
        // Checks with the same needs share a copy of the facts.
        let mut left: Vec<&Check> = registry().collect();
        while let Some(needs) = left.first().map(|check| check.needs) {
            let (alike, others): (Vec<&Check>, Vec<&Check>) = left.into_iter().partition(|check| check.needs == needs);
            left = others;
            let declared = only(&facts, needs);
            for check in alike.into_iter().filter(|check| findings(&declared, check) != findings(&facts, check)) {
                let more = SOURCES.iter().filter(|source| !needs.contains(source));
                let culprits: Vec<&Source> = more
                    .filter(|more| {
                        let without: Vec<Source> = SOURCES.into_iter().filter(|source| source != *more).collect();
                        findings(&only(&facts, &without), check) != findings(&facts, check)
                    })
                    .collect();
                wrong.insert(format!("{} looks at {culprits:?} on {host}", check.page.id));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_check_declares_what_it_does_not_look_at() {
    let hosts = hosts();
    let mut wrong = Vec::new();
    for check in registry() {
        for need in check.needs {
            let without: Vec<Source> = SOURCES.into_iter().filter(|source| source != need).collect();
            // Its own wounds first: there it matters most likely.
            let (own, others): (Vec<_>, Vec<_>) = hosts.iter().partition(|(host, _)| host.starts_with(check.page.id));
            let matters = |(_, facts): &(String, Facts)| findings(&only(facts, &without), check) != findings(facts, check);
            if !own.into_iter().chain(others).any(matters) {
                wrong.push(format!("{} does without {need:?} on every host", check.page.id));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
