//! Tests on a real kernel's verbs: guests with Soft-RoCE, Soft-iWARP and a device of limited queue pairs.
//!
//! Where guests cannot be had these tests are skipped, with the reason; with CI=true that is a failure. With RDMADOCTOR_LAB=one the first test
//! of each part runs alone.

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
use std::time::Instant;

use guest::Guest;
use libtest_mimic::{Arguments, Trial};

type Body = fn(&mut Guest);
type Test = (&'static str, Body);

/// A guest and the tests that share it; each test leaves it as it found it.
struct Group {
    options: &'static [&'static str],
    /// By the first part of their names.
    parts: &'static [(&'static str, &'static [Test])],
    /// Measured on two quiet processors: the longest begin, so that none is left alone at the end.
    seconds: u32,
}

const GROUPS: &[Group] = &[
    Group {
        options: &["--devices", "rxe", "--memory", "2048"],
        // Refused registrations stay in the kernel's log, where `probe` finds them.
        parts: &[("rxe", qp_matrix::RXE), ("preflight", preflight::RXE), ("probe", probe::RXE), ("held", held::HELD)],
        seconds: 320,
    },
    Group { options: &["--devices", "rxe,limited"], parts: &[("engines", engines::DLSLIME), ("profile", profile::PROFILE)], seconds: 270 },
    // The guests of a pair are booted by their tests.
    Group {
        options: &["--devices", "none"],
        parts: &[("none", modules::NONE), ("profile-pair", profile::PAIR), ("transfer-pair", transfer::PAIR)],
        seconds: 220,
    },
    Group {
        options: &["--devices", "rxe,siw", "--memory", "2048"],
        parts: &[("modules", modules::LOADED), ("transfer", transfer::TRANSFERS)],
        seconds: 160,
    },
    Group { options: &["--devices", "limited,siw", "--memory", "2048"], parts: &[("limited", qp_matrix::LIMITED)], seconds: 90 },
    Group { options: &["--devices", "none", "--qemu-args", pcie::TREE], parts: &[("pcie", pcie::TREES)], seconds: 65 },
    // An MTU from which all of a port's follow that a model states.
    Group {
        options: &["--devices", "rxe,limited,siw", "--memory", "2048", "--mtu", "4500"],
        parts: &[("models", models::MODELS)],
        seconds: 30,
    },
    Group { options: &["--devices", "siw"], parts: &[("probe_siw", probe::SIW)], seconds: 30 },
    Group { options: &["--devices", "limited"], parts: &[("profile-limited", profile::LIMITED)], seconds: 20 },
    Group {
        options: &["--devices", "none", "--qemu-args", pcie::IOMMU, "--append", "intel_iommu=on"],
        parts: &[("iommu", pcie::TRANSLATED)],
        seconds: 16,
    },
    Group {
        options: &["--devices", "none", "--qemu-args", pcie::IOMMU, "--append", "intel_iommu=on iommu=pt"],
        parts: &[("iommu_pt", pcie::PASSED)],
        seconds: 14,
    },
];

fn main() -> std::process::ExitCode {
    let words: Vec<String> = std::env::args().collect();
    if let [_, models::ASK, device, file] = words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        models::ask(device, file);
        return std::process::ExitCode::SUCCESS;
    }
    let arguments = Arguments::from_args();
    let first_only = std::env::var("RDMADOCTOR_LAB").is_ok_and(|value| value == "one");
    let wanted = |part: &str, test: &str| {
        let name = format!("{part}::{test}");
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
        let tests = group.parts.iter().flat_map(|(part, tests)| {
            let tests = if first_only { &tests[..1] } else { tests };
            tests.iter().filter(|(name, _)| wanted(part, name)).map(move |(name, test)| (format!("{part}::{name}"), *test))
        });
        Queued::new(group, tests.collect())
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
    seconds: u32,
    tests: Vec<(String, Body, Sender<Ended>)>,
}

impl Queued {
    /// The group to run, and the trials that wait for it.
    fn new(group: &Group, wanted: Vec<(String, Body)>) -> (Self, Vec<Trial>) {
        let (mut tests, mut trials) = (Vec::new(), Vec::new());
        for (name, test) in wanted {
            let (tell, told) = channel();
            tests.push((name.clone(), test, tell));
            trials.push(Trial::test(name, move || match told.recv() {
                Ok(Ok(())) => Ok(()),
                Ok(Err(panic)) => resume_unwind(panic),
                Err(_) => Err("its group was not run".into()),
            }));
        }
        (Self { options: group.options, seconds: group.seconds, tests }, trials)
    }

    fn run(self) {
        let mut guest = None;
        for (name, test, tell) in self.tests {
            let begun = Instant::now();
            let mut booted = begun;
            let ended = catch_unwind(AssertUnwindSafe(|| {
                let guest = guest.get_or_insert_with(|| Guest::boot(self.options));
                booted = Instant::now();
                test(guest);
            }));
            if ended.is_err() {
                // It may have left its guest in any state; the next one gets a new one.
                guest = None;
            }
            let (boot, test) = ((booted - begun).as_secs_f64(), booted.elapsed().as_secs_f64());
            let boot = if boot < 1.0 { String::new() } else { format!(" after {boot:.1} s for its guest") };
            let _ = writeln!(std::io::stderr(), "lab: {name}: {test:.1} s{boot}");
            let _ = tell.send(ended);
        }
    }
}

/// Runs so many groups at once; each guest is an emulated machine with one processor.
fn run(mut groups: Vec<Queued>, at_once: usize) -> Vec<JoinHandle<()>> {
    groups.sort_by_key(|group| group.seconds);
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
