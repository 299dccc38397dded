//! 01: libraries and providers.

use super::Source::{Rdma, System, Verbs, VerbsFiles};
use super::{Action, Check, Facts, Finding, page};
use crate::catalog::DeviceModel;
use crate::facts::{family_of, is_iwarp, packages};
use crate::host::rdma::SysfsDevice;
use crate::host::verbs_files::VerbsFilesFacts;
use crate::verbs::LoadError;

/// Library and providers; anew where the package is there and its files are not.
fn install(facts: &Facts) -> Vec<&'static str> {
    packages(
        facts,
        "apt-get install -y --reinstall libibverbs1 ibverbs-providers",
        "dnf install -y libibverbs && dnf reinstall -y libibverbs",
    )
}

pub(super) const CHECKS: &[Check] = &[
    Check { page: page("RD-0101"), needs: &[System, VerbsFiles, Verbs], depends_on: &[], run: library_is_installed },
    Check { page: page("RD-0102"), needs: &[Rdma, System, VerbsFiles], depends_on: &[], run: connection_library_is_installed },
    Check { page: page("RD-0103"), needs: &[Rdma, System, VerbsFiles, Verbs], depends_on: &["RD-0101"], run: provider_is_there },
    Check { page: page("RD-0104"), needs: &[Rdma, VerbsFiles, Verbs], depends_on: &["RD-0103"], run: provider_is_configured },
    Check { page: page("RD-0105"), needs: &[Rdma, System, VerbsFiles, Verbs], depends_on: &["RD-0103", "RD-0107"], run: generations_agree },
    Check { page: page("RD-0106"), needs: &[Rdma, Verbs], depends_on: &["RD-0101"], run: abi_fits },
    Check { page: page("RD-0107"), needs: &[VerbsFiles], depends_on: &[], run: one_copy },
    Check { page: page("RD-0108"), needs: &[Verbs], depends_on: &["RD-0101", "RD-1110"], run: library_answers },
    Check { page: page("RD-0109"), needs: &[Rdma], depends_on: &["RD-0202"], run: kernel_abi },
];

fn library_is_installed(facts: &Facts) -> Vec<Finding> {
    let files = &facts.host.verbs_files;
    if let Some(inventory) = facts.inventory() {
        return vec![match &inventory.library_error {
            None => Finding::pass("host", "libibverbs is loaded"),
            Some(error @ LoadError::LibraryMissing { .. }) => Finding::fail("host", "libibverbs is not installed")
                .saw("dlopen", error.to_string())
                .remedy(Action::Replace, "install it", &install(facts)),
            Some(error) => Finding::fail("host", "libibverbs cannot be loaded").saw("dlopen", error.to_string()).remedy(
                Action::Replace,
                error.next_step(),
                &[],
            ),
        }];
    }
    match files.libraries.first() {
        Some(library) => {
            vec![Finding::pass("host", "libibverbs is installed").saw(&library.path, library.version.clone().unwrap_or_default())]
        }
        None => vec![
            Finding::fail("host", "libibverbs is in no directory that the dynamic linker searches")
                .saw_not("/etc/ld.so.conf and the usual directories", "no libibverbs.so.1", "libibverbs.so.1")
                .remedy(Action::Replace, "install it", &install(facts)),
        ],
    }
}

fn connection_library_is_installed(facts: &Facts) -> Vec<Finding> {
    let libraries = &facts.host.verbs_files.connection_libraries;
    if let Some(library) = libraries.first() {
        return vec![Finding::pass("host", "librdmacm is installed").saw(&library.path, library.version.clone().unwrap_or_default())];
    }
    let iwarp: Vec<&SysfsDevice> = facts.rdma_devices().iter().filter(|device| is_iwarp(device)).collect();
    if iwarp.is_empty() {
        return vec![Finding::skip("host", "librdmacm is not installed, and only programs that use rdma_cm need it here")];
    }
    let wants = facts.wanted.engines.iter().any(|engine| !engine.connects_itself);
    iwarp
        .into_iter()
        .map(|device| {
            Finding::graded(wants, &device.name, "librdmacm is not installed, and iWARP queue pairs are connected by it")
                .saw_not("directories of the dynamic linker", "no librdmacm.so.1", "librdmacm.so.1")
                .remedy(
                    Action::Replace,
                    "install it",
                    &packages(facts, "apt-get install -y --reinstall librdmacm1", "dnf install -y librdmacm"),
                )
        })
        .collect()
}

/// Whether the verbs library lists a device, which settles all doubt about its provider.
fn is_listed(facts: &Facts, device: &SysfsDevice) -> bool {
    facts.verbs_device(&device.name).is_some()
}

/// Where rdma-core is of a release that has no provider for a family: the library, its release, the first that has one.
fn too_old_for<'a>(files: &'a VerbsFilesFacts, family: &str) -> Option<(&'a str, u32, u32)> {
    let library = files.libraries.first()?;
    let models = DeviceModel::names().into_iter().filter_map(DeviceModel::find).filter(|model| model.family == family);
    let first = models.map(|model| model.software.min_rdma_core.value).min()?;
    library.rdma_core.filter(|own| *own < first).map(|own| (library.path.as_str(), own, first))
}

fn provider_is_there(facts: &Facts) -> Vec<Finding> {
    let files = &facts.host.verbs_files;
    let judge = |device: &SysfsDevice| {
        let Some(family) = family_of(device) else {
            return Finding::skip(&device.name, "its family is not known, so neither is its provider");
        };
        if is_listed(facts, device) {
            return Finding::pass(&device.name, "libibverbs has its provider");
        }
        match files.providers_of(family).next() {
            Some(provider) => Finding::pass(&device.name, "its provider is installed").saw(&provider.path, family),
            None => {
                let finding = Finding::fail(&device.name, format!("there is no provider for {family}")).saw_not(
                    "directories of libibverbs",
                    "none for this family",
                    format!("lib{family}-rdmavNN.so"),
                );
                match too_old_for(files, family) {
                    Some((library, own, first)) => {
                        finding.saw_not(library, format!("rdma-core {own}"), format!("{first} or newer")).remedy(
                            Action::Replace,
                            format!("this release has none for {family}: install a newer rdma-core, or the vendor's user space"),
                            &[],
                        )
                    }
                    None => finding.remedy(Action::Replace, "install the provider, from the same source as libibverbs", &install(facts)),
                }
            }
        }
    };
    facts.rdma_devices().iter().map(judge).collect()
}

fn provider_is_configured(facts: &Facts) -> Vec<Finding> {
    let files = &facts.host.verbs_files;
    if files.driver_files.is_none() && facts.inventory().is_none() {
        return vec![Finding::skip("host", "there is no /etc/libibverbs.d; libibverbs may have been built with another directory")];
    }
    let judge = |device: &SysfsDevice| {
        let Some(family) = family_of(device) else {
            return Finding::skip(&device.name, "its family is not known");
        };
        if is_listed(facts, device) || files.is_configured(family) {
            return Finding::pass(&device.name, "its provider is configured");
        }
        if files.providers_of(family).next().is_none() {
            return Finding::skip(&device.name, "it has no provider that could be configured");
        }
        // libibverbs may have been built with another directory; where it was asked and does not list the device, it was not.
        Finding::graded(facts.inventory().is_some(), &device.name, format!("no file of /etc/libibverbs.d names {family}"))
            .saw_not("/etc/libibverbs.d", "no such line", format!("driver {family}"))
            .remedy(
                Action::Tune,
                "name the provider; the package's own file does not come back when it is installed anew",
                &[&command!("mkdir -p /etc/libibverbs.d && echo {} > /etc/libibverbs.d/{}.driver", format!("driver {family}"), family)],
            )
    };
    facts.rdma_devices().iter().map(judge).collect()
}

fn generations_agree(facts: &Facts) -> Vec<Finding> {
    let printed = facts.inventory().map(|inventory| inventory.printed.as_slice()).unwrap_or_default();
    let judge = |device: &SysfsDevice| {
        let Some(family) = family_of(device) else {
            return Finding::skip(&device.name, "its family is not known");
        };
        if is_listed(facts, device) {
            return Finding::pass(&device.name, "its provider was loaded");
        }
        let files = &facts.host.verbs_files;
        let Some(path) = files.providers_of(family).next().map(|provider| provider.path.clone()) else {
            return Finding::skip(&device.name, "it has no provider whose generation could be compared");
        };
        let remedy = "install libibverbs and its providers from one source";
        if let Some(line) = printed.iter().find(|line| line.contains("couldn't load driver") && line.contains(family)) {
            return Finding::fail(&device.name, "libibverbs cannot load its provider").saw("IBV_SHOW_WARNINGS=1 ibv_devices", line).remedy(
                Action::Replace,
                remedy,
                &install(facts),
            );
        }
        let own: Vec<u32> = files.providers_of(family).map(|provider| provider.generation).collect();
        let other: Vec<u32> =
            files.providers.iter().filter(|provider| provider.family != family).map(|provider| provider.generation).collect();
        if other.is_empty() || own.iter().any(|generation| other.contains(generation)) {
            return Finding::pass(&device.name, "its provider is of the same generation as the others");
        }
        let expected: Vec<String> = other.iter().map(|generation| format!("rdmav{generation}")).collect();
        let mut expected = expected;
        expected.sort();
        expected.dedup();
        Finding::warn(&device.name, "its provider is of another generation than all others")
            .saw_not(path, own.iter().map(|generation| format!("rdmav{generation}")).collect::<Vec<_>>().join(", "), expected.join(", "))
            .remedy(Action::Replace, remedy, &install(facts))
    };
    facts.rdma_devices().iter().map(judge).collect()
}

fn abi_fits(facts: &Facts) -> Vec<Finding> {
    let Some(inventory) = facts.inventory() else {
        return vec![Finding::skip("host", "the verbs library was not asked")];
    };
    let judge = |device: &SysfsDevice| {
        let uverbs = device.uverbs.as_ref().map(|uverbs| uverbs.name.as_str()).unwrap_or_default();
        // Driver bnxt_re does not support the kernel ABI of 6 (supports 1 to 1) for device /sys/class/infiniband_verbs/uverbs0
        let said = inventory.printed.iter().find(|line| {
            line.contains("does not support the kernel ABI")
                && (line.ends_with(&device.name) || (!uverbs.is_empty() && line.ends_with(uverbs)))
        });
        match said {
            Some(line) => Finding::fail(&device.name, "its provider does not speak the kernel driver's ABI")
                .saw("IBV_SHOW_WARNINGS=1 ibv_devices", line)
                .remedy(
                    Action::Replace,
                    "install the provider that belongs to the kernel driver: both from the vendor, or both from the distribution",
                    &[],
                ),
            None => Finding::pass(&device.name, "libibverbs complains about no ABI"),
        }
    };
    facts.rdma_devices().iter().map(judge).collect()
}

fn one_copy(facts: &Facts) -> Vec<Finding> {
    let libraries = &facts.host.verbs_files.libraries;
    let mut versions: Vec<_> = libraries.iter().map(|library| &library.version).collect();
    versions.sort();
    versions.dedup();
    match (libraries.len(), versions.len()) {
        (0, _) => vec![Finding::skip("host", "no copy of libibverbs was found")],
        (_, 1) => vec![Finding::pass("host", "there is one release of libibverbs")],
        _ => {
            let mut finding = Finding::warn("host", "there are several copies of libibverbs, of different releases");
            for library in libraries {
                finding = finding.saw(&library.path, library.version.clone().unwrap_or_else(|| "of unknown version".to_owned()));
            }
            vec![finding.remedy(Action::Replace, "keep the one that belongs to the kernel driver", &["ldconfig -p | grep libibverbs"])]
        }
    }
}

fn library_answers(facts: &Facts) -> Vec<Finding> {
    let Some(verbs) = &facts.verbs else {
        return vec![Finding::skip("host", "the verbs library was not asked")];
    };
    if let Some(failure) = &verbs.failure {
        return vec![
            Finding::fail("host", format!("the verbs library does not answer: {failure}")).saw("ibv_get_device_list", failure).remedy(
                Action::Replace,
                "reinstall the provider's package; look at `dmesg` for a device that does not answer",
                &["dmesg | tail -50"],
            ),
        ];
    }
    match verbs.inventory.as_ref().and_then(|inventory| inventory.list_error.as_ref()) {
        Some(error) => vec![Finding::fail("host", "libibverbs cannot list devices").saw(&error.call, error.errno.to_string()).remedy(
            Action::Reload,
            "load ib_uverbs",
            &["modprobe ib_uverbs"],
        )],
        None => vec![Finding::pass("host", "the verbs library answers")],
    }
}

fn kernel_abi(facts: &Facts) -> Vec<Finding> {
    match facts.host.rdma.uverbs_abi_version {
        None => vec![Finding::skip("host", "the kernel shows no verbs ABI, as ib_uverbs is not there")],
        Some(version @ 3..=6) => {
            vec![
                Finding::pass("host", "libibverbs speaks the kernel's ABI")
                    .saw("/sys/class/infiniband_verbs/abi_version", version.to_string()),
            ]
        }
        Some(version) => vec![
            Finding::fail("host", "libibverbs does not speak the kernel's verbs ABI")
                .saw_not("/sys/class/infiniband_verbs/abi_version", version.to_string(), "3 to 6")
                .remedy(Action::Replace, "upgrade rdma-core, or use the kernel's own ib_uverbs", &[]),
        ],
    }
}
