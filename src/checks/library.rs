//! 01: libraries and providers.

use super::facts::{family_of, is_iwarp, packages};
use super::{Action, Category, Check, Facts, Finding, Level};
use crate::host::rdma::SysfsDevice;
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
    Check {
        id: "RD-0101",
        title: "libibverbs is installed",
        category: Category::Library,
        level: Level::Quick,
        why: "Every engine reaches RDMA devices through libibverbs. Without it, engines fall back to TCP, often without saying so.",
        confirm: "ldconfig -p | grep libibverbs",
        mend: "Install rdma-core's libibverbs, or the vendor's package. In a container it belongs into the image.",
        sources: &["rdma-core, libibverbs/dynamic_driver.c", "byteps issue 313"],
        depends_on: &[],
        run: library_is_installed,
    },
    Check {
        id: "RD-0102",
        title: "librdmacm is installed where devices need it",
        category: Category::Library,
        level: Level::Quick,
        why: "Queue pairs of iWARP devices can only be connected by rdma_cm, whose library is librdmacm.",
        confirm: "ldconfig -p | grep librdmacm",
        mend: "Install librdmacm (Debian: librdmacm1).",
        sources: &["rdma-core, librdmacm/cma.c", "Linux, drivers/infiniband/core/iwcm.c"],
        depends_on: &[],
        run: connection_library_is_installed,
    },
    Check {
        id: "RD-0103",
        title: "each device has a provider library",
        category: Category::Library,
        level: Level::Quick,
        why: "libibverbs loads a provider for each family (libmlx5-rdmavNN.so). Without it the device is in sysfs and no program sees it; \
              libibverbs says so only with IBV_SHOW_WARNINGS set.",
        confirm: "ls /usr/lib/*/libibverbs /usr/lib64/libibverbs; IBV_SHOW_WARNINGS=1 ibv_devices",
        mend: "Install ibverbs-providers of the same rdma-core as libibverbs, or the vendor's user-space package.",
        sources: &["rdma-core, libibverbs/dynamic_driver.c", "NVIDIA/nccl issue 1044", "k8snetworkplumbingwg/sriov-cni issue 348"],
        depends_on: &["RD-0101"],
        run: provider_is_there,
    },
    Check {
        id: "RD-0104",
        title: "each device's provider is named in /etc/libibverbs.d",
        category: Category::Library,
        level: Level::Quick,
        why: "libibverbs learns from /etc/libibverbs.d which providers to load. Wheels and images that bring a library of their own often \
              lack these files.",
        confirm: "cat /etc/libibverbs.d/*.driver",
        mend: "Add a file with the line `driver NAME`. dpkg does not bring back a configuration file that was removed, unless it is told --force-confmiss.",
        sources: &["rdma-core, libibverbs/dynamic_driver.c, read_config_file"],
        depends_on: &["RD-0103"],
        run: provider_is_configured,
    },
    Check {
        id: "RD-0105",
        title: "providers are of the library's generation",
        category: Category::Library,
        level: Level::Quick,
        why: "A provider's file name carries the generation of libibverbs that it was built with; libibverbs loads only its own.",
        confirm: "ls /usr/lib/*/libibverbs; IBV_SHOW_WARNINGS=1 ibv_devices 2>&1 | grep \"couldn't load\"",
        mend: "Install library and providers from one source: both the distribution's, or both the vendor's.",
        sources: &["rdma-core, CMakeLists.txt, IBVERBS_PABI_VERSION", "rdma-core, libibverbs/dynamic_driver.c"],
        depends_on: &["RD-0103", "RD-0107"],
        run: generations_agree,
    },
    Check {
        id: "RD-0106",
        title: "providers fit the kernel drivers' ABI",
        category: Category::Library,
        level: Level::Standard,
        why: "Each kernel driver numbers its interface to its provider. A vendor's kernel module beside a distribution's provider, or a \
              container's rdma-core older than the host's kernel module, do not fit, and the device is left out.",
        confirm: "IBV_SHOW_WARNINGS=1 ibv_devices; cat /sys/class/infiniband_verbs/uverbs*/abi_version",
        mend: "Install the provider that belongs to the kernel driver.",
        sources: &["rdma-core, libibverbs/init.c", "k8snetworkplumbingwg/sriov-cni issue 348 (bnxt_re 6 against 1)"],
        depends_on: &["RD-0101"],
        run: abi_fits,
    },
    Check {
        id: "RD-0107",
        title: "there is one copy of libibverbs",
        category: Category::Library,
        level: Level::Quick,
        why: "With two copies of different releases, which one a program gets depends on its search path, and each sees only its own providers.",
        confirm: "ldconfig -p | grep libibverbs.so.1; ls -l /usr/lib*/libibverbs.so.1 /usr/lib/*/libibverbs.so.1",
        mend: "Remove the copy that is not the one of the installed kernel driver.",
        sources: &["rdma-core, libibverbs/dynamic_driver.c", "a public eRDMA guide: the NIXL wheel's own libibverbs finds no provider"],
        depends_on: &[],
        run: one_copy,
    },
    Check {
        id: "RD-0108",
        title: "the verbs library answers",
        category: Category::Library,
        level: Level::Standard,
        why: "A provider that crashes or hangs when devices are listed takes every engine with it; rdmadoctor asks in a child process.",
        confirm: "timeout 10 ibv_devinfo; echo $?",
        mend: "After a crash reinstall the provider's package; after a hang look at the kernel's log for the device that does not answer.",
        sources: &["rdma-core, libibverbs/init.c"],
        depends_on: &["RD-0101", "RD-1110"],
        run: library_answers,
    },
    Check {
        id: "RD-0109",
        title: "the kernel's verbs ABI is one that libibverbs speaks",
        category: Category::Library,
        level: Level::Quick,
        why: "libibverbs refuses a kernel whose interface has another number with ENOSYS.",
        confirm: "cat /sys/class/infiniband_verbs/abi_version",
        mend: "Upgrade rdma-core, or use the kernel's own ib_uverbs.",
        sources: &[
            "rdma-core, kernel-headers/rdma/ib_user_verbs.h, IB_USER_VERBS_ABI_VERSION (6)",
            "rdma-core, libibverbs/init.c, check_abi_version (3 to 6)",
        ],
        depends_on: &["RD-0202"],
        run: kernel_abi,
    },
];

fn library_is_installed(facts: &Facts) -> Vec<Finding> {
    let files = &facts.host.verbs_files;
    if let Some(inventory) = facts.inventory() {
        return vec![match &inventory.library_error {
            None => Finding::pass("host", "libibverbs is loaded"),
            Some(error @ LoadError::LibraryMissing { .. }) => Finding::fail("host", "libibverbs is not installed")
                .saw("dlopen", error.to_string())
                .mend(Action::Replace, "install it", &install(facts)),
            Some(error) => Finding::fail("host", "libibverbs cannot be loaded").saw("dlopen", error.to_string()).mend(
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
                .mend(Action::Replace, "install it", &install(facts)),
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
                .mend(
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
            None => Finding::fail(&device.name, format!("there is no provider for {family}"))
                .saw_not("directories of libibverbs", "none for this family", format!("lib{family}-rdmavNN.so"))
                .mend(Action::Replace, "install the provider, from the same source as libibverbs", &install(facts)),
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
            .mend(
                Action::Tune,
                "name the provider; the package's own file does not come back when it is installed anew",
                &[&format!("mkdir -p /etc/libibverbs.d && echo 'driver {family}' > /etc/libibverbs.d/{family}.driver")],
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
            return Finding::fail(&device.name, "libibverbs cannot load its provider").saw("IBV_SHOW_WARNINGS=1 ibv_devices", line).mend(
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
            .mend(Action::Replace, remedy, &install(facts))
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
                .mend(
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
            vec![finding.mend(Action::Replace, "keep the one that belongs to the kernel driver", &["ldconfig -p | grep libibverbs"])]
        }
    }
}

fn library_answers(facts: &Facts) -> Vec<Finding> {
    let Some(verbs) = &facts.verbs else {
        return vec![Finding::skip("host", "the verbs library was not asked")];
    };
    if let Some(failure) = &verbs.failure {
        return vec![
            Finding::fail("host", format!("the verbs library does not answer: {failure}")).saw("ibv_get_device_list", failure).mend(
                Action::Replace,
                "reinstall the provider's package; look at `dmesg` for a device that does not answer",
                &["dmesg | tail -50"],
            ),
        ];
    }
    match verbs.inventory.as_ref().and_then(|inventory| inventory.list_error.as_ref()) {
        Some(error) => vec![Finding::fail("host", "libibverbs cannot list devices").saw(&error.call, error.errno.to_string()).mend(
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
                .mend(Action::Replace, "upgrade rdma-core, or use the kernel's own ib_uverbs", &[]),
        ],
    }
}
