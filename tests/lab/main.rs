//! Tests on a real kernel's verbs: guests with Soft-RoCE, Soft-iWARP and a device of limited queue pairs.
//!
//! Where guests cannot be had these tests are skipped, with the reason; with CI=true that is a failure.

mod engines;
mod guest;
mod held;
mod models;
mod modules;
mod pcie;
mod preflight;
mod probe;
mod profile;
mod qp_matrix;
mod transfer;

use std::any::Any;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use guest::Guest;
use libtest_mimic::{Arguments, Trial};

type Body = fn(&mut Guest);
type Test = (&'static str, Body);

/// A guest and the tests that share it; each test leaves it as it found it.
struct Group {
    name: &'static str,
    options: &'static [&'static str],
    tests: &'static [Test],
}

const GROUPS: &[Group] = &[
    Group { name: "limited", options: &["--devices", "limited,siw", "--memory", "2048"], tests: qp_matrix::LIMITED },
    Group { name: "rxe", options: &["--devices", "rxe", "--memory", "2048"], tests: qp_matrix::RXE },
    Group { name: "engines", options: &["--devices", "rxe,limited"], tests: engines::DLSLIME },
    // An MTU from which all of a port's follow that a model states.
    Group { name: "models", options: &["--devices", "rxe,limited,siw", "--memory", "2048", "--mtu", "4500"], tests: models::MODELS },
    Group { name: "modules", options: &["--devices", "rxe,siw"], tests: modules::LOADED },
    Group { name: "preflight", options: &["--devices", "rxe", "--memory", "2048"], tests: preflight::RXE },
    Group { name: "probe", options: &["--devices", "rxe", "--memory", "2048"], tests: probe::RXE },
    Group { name: "probe_siw", options: &["--devices", "siw"], tests: probe::SIW },
    Group { name: "pcie", options: &["--devices", "none", "--qemu-args", pcie::TREE], tests: pcie::TREES },
    Group {
        name: "iommu",
        options: &["--devices", "none", "--qemu-args", pcie::IOMMU, "--append", "intel_iommu=on"],
        tests: pcie::TRANSLATED,
    },
    Group {
        name: "iommu_pt",
        options: &["--devices", "none", "--qemu-args", pcie::IOMMU, "--append", "intel_iommu=on iommu=pt"],
        tests: pcie::PASSED,
    },
    Group { name: "held", options: &["--devices", "rxe"], tests: held::HELD },
    Group { name: "profile", options: &["--devices", "rxe,limited"], tests: profile::PROFILE },
    Group { name: "profile-limited", options: &["--devices", "limited"], tests: profile::LIMITED },
    Group { name: "profile-pair", options: &["--devices", "none"], tests: profile::PAIR },
    Group { name: "transfer", options: &["--devices", "rxe,siw", "--memory", "2048"], tests: transfer::TRANSFERS },
    Group { name: "transfer-pair", options: &["--devices", "none"], tests: transfer::PAIR },
    Group { name: "none", options: &["--devices", "none"], tests: modules::NONE },
];

fn main() -> std::process::ExitCode {
    let words: Vec<String> = std::env::args().collect();
    if let [_, models::ASK, device, file] = words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        models::ask(device, file);
        return std::process::ExitCode::SUCCESS;
    }
    let arguments = Arguments::from_args();
    let wanted = |group: &Group, test: &str| {
        let name = format!("{}::{test}", group.name);
        let matches = |filter: &str| if arguments.exact { name == filter } else { name.contains(filter) };
        arguments.filter.as_deref().is_none_or(matches) && !arguments.skip.iter().any(|skip| matches(skip))
    };
    if !arguments.list
        && let Err(why) = guest::build()
    {
        let _ = writeln!(std::io::stderr(), "The lab cannot be had, so its tests are skipped: {why}");
        let required = std::env::var("CI").is_ok_and(|value| value == "true");
        return std::process::ExitCode::from(u8::from(required) * 101);
    }
    let queued = GROUPS.iter().map(|group| {
        let tests: Vec<Test> = group.tests.iter().filter(|(name, _)| wanted(group, name)).copied().collect();
        Queued::new(group, &tests)
    });
    let (groups, trials): (Vec<_>, Vec<_>) = queued.unzip();
    let at_once = if arguments.list { 0 } else { arguments.test_threads.unwrap_or(2) };
    let running = run(groups, at_once);
    // Trials only wait for what is run, and are told in the order of their groups.
    let arguments = Arguments { test_threads: Some(1), ..arguments };
    let conclusion = libtest_mimic::run(&arguments, trials.into_iter().flatten().collect());
    // The last guests go off.
    running.into_iter().for_each(|thread| drop(thread.join()));
    conclusion.exit_code()
}

/// What became of a test: nothing, or what it panicked with.
type Ended = Result<(), Box<dyn Any + Send>>;

/// A group's tests that are wanted, and where each tells how it ended.
struct Queued {
    options: &'static [&'static str],
    tests: Vec<(Body, Sender<Ended>)>,
}

impl Queued {
    /// The group to run, and the trials that wait for it.
    fn new(group: &Group, wanted: &[Test]) -> (Self, Vec<Trial>) {
        let (mut tests, mut trials) = (Vec::new(), Vec::new());
        for (name, test) in wanted {
            let (tell, told) = channel();
            tests.push((*test, tell));
            trials.push(Trial::test(format!("{}::{name}", group.name), move || match told.recv() {
                Ok(Ok(())) => Ok(()),
                Ok(Err(panic)) => resume_unwind(panic),
                Err(_) => Err("its group was not run".into()),
            }));
        }
        (Self { options: group.options, tests }, trials)
    }

    fn run(self) {
        let mut guest = None;
        for (test, tell) in self.tests {
            let ended = catch_unwind(AssertUnwindSafe(|| test(guest.get_or_insert_with(|| Guest::boot(self.options)))));
            if ended.is_err() {
                // It may have left its guest in any state; the next one gets a new one.
                guest = None;
            }
            let _ = tell.send(ended);
        }
    }
}

/// Runs so many groups at once; each guest is an emulated machine with one processor. Those with most tests begin, so that no long one is left
/// alone at the end.
fn run(mut groups: Vec<Queued>, at_once: usize) -> Vec<JoinHandle<()>> {
    groups.sort_by_key(|group| group.tests.len());
    let groups = Arc::new(Mutex::new(groups));
    let next = move || groups.lock().ok().and_then(|mut groups| groups.pop());
    let work = || {
        let next = next.clone();
        std::thread::spawn(move || {
            while let Some(group) = next() {
                group.run();
            }
        })
    };
    (0..at_once).map(|_| work()).collect()
}
