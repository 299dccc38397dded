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

use std::io::Write;

use guest::Guest;
use libtest_mimic::{Arguments, Trial};

type Test = (&'static str, fn(&mut Guest));

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
    let mut trials = Vec::new();
    for group in GROUPS {
        if !group.tests.iter().any(|(name, _)| wanted(group, name)) {
            continue;
        }
        // Booted by the first test that runs, and shared by all of the group.
        let guest = std::sync::Arc::new(std::sync::Mutex::new(None::<Guest>));
        let left =
            std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(group.tests.iter().filter(|(name, _)| wanted(group, name)).count()));
        for (name, test) in group.tests {
            let (guest, left) = (guest.clone(), left.clone());
            trials.push(Trial::test(format!("{}::{name}", group.name), move || {
                // A test that failed may have left its guest in any state; the next one gets a new one.
                let mut slot = guest.lock().unwrap_or_else(|poisoned| {
                    let mut slot = poisoned.into_inner();
                    *slot = None;
                    slot
                });
                guest.clear_poison();
                test(slot.get_or_insert_with(|| Guest::boot(group.options)));
                if left.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) == 1 {
                    *slot = None;
                }
                Ok(())
            }));
        }
    }
    // Each guest is an emulated machine; two at once fill two processors.
    let arguments = Arguments { test_threads: arguments.test_threads.or(Some(2)), ..arguments };
    libtest_mimic::run(&arguments, trials).exit_code()
}
