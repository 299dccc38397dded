//! Tests of the log reader on lines as kernels write them.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::host::Node;

fn said(message: &str) -> Event {
    classify(message).unwrap_or_else(|| panic!("{message} says something"))
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn nvidia_lines_are_understood() {
    let xid = "NVRM: Xid (PCI:0000:03:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.";
    assert_eq!(said(xid), Event::NvidiaXid { xid: 79, pci: some("0000:03:00") });
    assert_eq!(said("NVRM: Xid (0000:03:00): 14, Channel 00000001"), Event::NvidiaXid { xid: 14, pci: some("0000:03:00") });
    assert_eq!(said("NVRM: GPU 0000:01:00.0: GPU has fallen off the bus."), Event::NvidiaDeviceLost { pci: some("0000:01:00.0") });
    assert_eq!(
        said("nvidia-nvswitch0: SXid (PCI:0000:c1:00.0): 20034, Fatal, Link 30"),
        Event::NvidiaSxid { sxid: 20034, pci: some("0000:c1:00.0") }
    );
    assert_eq!(
        said("nvidia-peermem nv_mem_client_init:480 nv_mem_client_init -- error while registering traditional client"),
        Event::PeerMemoryFailed
    );
    assert_eq!(said("NVRM: API mismatch: the client has the version 550.54.15, but"), Event::NvidiaVersionMismatch);
    assert_eq!(classify("NVRM: loading NVIDIA UNIX Open Kernel Module for x86_64  580.95.05"), None);
}

#[test]
fn modules_that_do_not_load_are_told() {
    let unknown = |module: &str, errno| Event::UnknownSymbol {
        module: module.to_owned(),
        symbol: "ib_register_peer_memory_client".to_owned(),
        errno,
    };
    assert_eq!(said("nvidia_peermem: Unknown symbol ib_register_peer_memory_client (err -2)"), unknown("nvidia_peermem", Some(-2)));
    assert_eq!(said("nv_peer_mem: Unknown symbol ib_register_peer_memory_client (err -22)"), unknown("nv_peer_mem", Some(-22)));
    assert_eq!(
        said("Lockdown: modprobe: unsigned module loading is restricted; see man kernel_lockdown.7"),
        Event::ModuleRefused { module: None }
    );
}

#[test]
fn pci_lines_are_understood() {
    let aer = |message: &str| match said(message) {
        Event::AerError { severity, pci } => (severity, pci),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        aer("pcieport 0000:00:01.0: PCIe Bus Error: severity=Corrected, type=Physical Layer, (Receiver ID)"),
        (AerSeverity::Corrected, some("0000:00:01.0"))
    );
    assert_eq!(
        aer("mlx5_core 0000:03:00.0: PCIe Bus Error: severity=Uncorrectable (Non-Fatal), type=Transaction Layer"),
        (AerSeverity::NonFatal, some("0000:03:00.0"))
    );
    assert_eq!(
        aer("pcieport 10000:00:02.0: PCIe Bus Error: severity=Uncorrectable (Fatal), type=Inaccessible"),
        (AerSeverity::Fatal, some("10000:00:02.0"))
    );
    let limited = "pci 0000:03:00.0: 63.008 Gb/s available PCIe bandwidth, limited by 8.0 GT/s PCIe x8 link at 0000:00:01.0 (capable of 252.048 Gb/s with 16.0 GT/s PCIe x16 link)";
    assert_eq!(said(limited), Event::PcieLimited { pci: some("0000:03:00.0"), limited_at: some("0000:00:01.0") });
    assert_eq!(
        said("pci 0000:03:00.0: BAR 1: no space for [mem size 0x2000000000 64bit pref]"),
        Event::BarUnassigned { pci: some("0000:03:00.0") }
    );
    assert_eq!(classify("pci 0000:00:1c.0: BAR 13: failed to assign [io  size 0x1000]"), None);
    assert_eq!(
        said("DMAR: [DMA Write NO_PASID] Request device [81:00.0] fault addr 0xffff0000 [fault reason 0x05]"),
        Event::IommuFault { pci: some("0000:81:00.0") }
    );
    assert_eq!(
        said("AMD-Vi: Event logged [IO_PAGE_FAULT device=0000:41:00.0 domain=0x0 address=0x0 flags=0x0]"),
        Event::IommuFault { pci: some("0000:41:00.0") }
    );
}

#[test]
fn links_that_come_and_go_are_counted() {
    let down = |driver: &str, netdev: &str| Event::LinkDown { driver: driver.to_owned(), netdev: netdev.to_owned() };
    let up = |driver: &str, netdev: &str| Event::LinkUp { driver: driver.to_owned(), netdev: netdev.to_owned() };
    assert_eq!(said("mlx5_core 0000:03:00.0 ens3np0: Link down"), down("mlx5_core", "ens3np0"));
    assert_eq!(said("mlx5_core 0000:03:00.0 ens3np0: Link up"), up("mlx5_core", "ens3np0"));
    assert_eq!(said("bnxt_en 0000:01:00.0 eth0: NIC Link is Down"), down("bnxt_en", "eth0"));
    assert_eq!(said("bnxt_en 0000:01:00.0 eth0: NIC Link is Up, 200000 Mbps full duplex, Flow control: none"), up("bnxt_en", "eth0"));
    assert_eq!(
        said("ice 0000:18:00.0 eth1: NIC Link is up 100 Gbps Full Duplex, Requested FEC: RS-FEC, Flow Control: None"),
        up("ice", "eth1")
    );
    assert_eq!(said("mlx4_en: eth4: Link Down"), down("mlx4_en", "eth4"));
    assert_eq!(classify("mlx5_core 0000:03:00.0: PCI Link up"), None);
    assert_eq!(classify("mlx5_core 0000:03:00.0: Link up"), None);
    assert_eq!(classify("r8169 0000:03:00.0 eth0: Link is Down"), None);
}

#[test]
fn drivers_say_what_they_refuse() {
    let command = "mlx5_core 0000:03:00.0: mlx5_cmd_out_err:808:(pid 1234): CREATE_MKEY(0x200) op_mod(0x0) failed, status no resources(0xf), syndrome (0x5c8bb5), err(-11)";
    assert_eq!(
        said(command),
        Event::Mlx5CommandFailed { pci: some("0000:03:00.0"), command: "CREATE_MKEY".to_owned(), status: "no resources".to_owned() }
    );
    // Of a scalable function.
    assert_eq!(
        said(&command.replace("mlx5_core 0000:03:00.0", "mlx5_core.sf mlx5_core.sf.4")),
        Event::Mlx5CommandFailed { pci: None, command: "CREATE_MKEY".to_owned(), status: "no resources".to_owned() }
    );
    assert_eq!(
        said("mlx5_core 0000:03:00.0: print_health_info:62:(pid 0): Health issue observed, firmware internal error"),
        Event::Mlx5Health { pci: some("0000:03:00.0") }
    );
    assert_eq!(
        said("mlx5_core 0000:03:00.0: Port module event: module 0, Cable unplugged"),
        Event::PortModule { pci: some("0000:03:00.0"), status: "Cable unplugged".to_owned() }
    );
    assert_eq!(
        said("infiniband erdma_0: Out of mr size: 80530636800, max 68719476736"),
        Event::ErdmaMemoryRegionTooLarge { asked_bytes: 80_530_636_800, limit_bytes: 64 << 30 }
    );
    let Event::BnxtQueuePairRefused { device, limits } =
        said("bnxt_en 0000:01:00.0 bnxt_re0: Create QP failed - max exceeded! 0x80/0x4000 0x80/0x4000 0x1e/0x6 0x4/0x6 0x100/0x60")
    else {
        panic!("refused")
    };
    assert_eq!((device, limits.len()), (some("bnxt_re0"), 5));
    assert_eq!((limits[2].parameter.as_str(), limits[2].asked, limits[2].limit), ("max_send_sge", 30, 6));
    assert_eq!(
        said("irdma 0000:18:00.0 rocep24s0f0: Request Reset failed"),
        Event::RdmaDriverError { driver: "irdma".to_owned(), device: some("rocep24s0f0") }
    );
    assert_eq!(classify("erdma 0000:00:06.0 erdma_0: registered"), None);
    assert_eq!(classify("mlx5_core: module verification failed: signature and/or required key missing - tainting kernel"), None);
}

#[test]
fn processes_that_end_badly_are_told() {
    assert_eq!(
        said("Out of memory: Killed process 123 (python3) total-vm:1kB"),
        Event::OutOfMemory { process: some("python3"), in_cgroup: false }
    );
    assert_eq!(
        said("Memory cgroup out of memory: Killed process 9 (a (b)) total-vm"),
        Event::OutOfMemory { process: some("a (b"), in_cgroup: true }
    );
    assert_eq!(said("INFO: task nvidia-smi:4242 blocked for more than 122 seconds."), Event::HungTask { process: "nvidia-smi".to_owned() });
}

#[test]
fn files_of_log_daemons_are_read() {
    let kernel = "Nov 24 00:18:02 gpu1 kernel: [  123.000001] mlx5_core 0000:03:00.0 ens3np0: Link down\n\
                  2026-11-24T00:18:03.1+00:00 gpu1 kernel: mlx5_core 0000:03:00.0 ens3np0: Link up\n\
                  Nov 24 00:18:04 gpu1 kernel: [  125.000000] mlx5_core 0000:03:00.0 ens3np0: Link down\n\
                  Nov 24 00:18:05 gpu1 app: NVRM: Xid (PCI:0000:03:00): 1, not the kernel\n";
    let facts = read(&Root::tree(BTreeMap::from([("/var/log/messages".into(), Node::text(kernel))])));
    assert_eq!((facts.source.as_deref(), facts.lines, facts.link_downs("ens3np0")), (Some("/var/log/messages"), 3, 2));
    assert_eq!((facts.events[0].first_us, facts.events[0].last_us), (Some(123_000_001), Some(125_000_000)));
    assert_eq!(facts.events[0].line, "mlx5_core 0000:03:00.0 ens3np0: Link down");
    assert_eq!(facts.events.len(), 2);
    let denied = read(&Root::tree(BTreeMap::from([
        ("/var/log/kern.log".into(), Node::Denied),
        ("/var/log/dmesg".into(), Node::text("[    1.000000] kernel: NVRM: Xid (PCI:0000:03:00): 31, pid=1\n")),
    ])));
    assert_eq!((denied.problems.len(), denied.events.len()), (1, 1));
    assert_eq!(serde_json::from_str::<LogFacts>(&serde_json::to_string(&denied).unwrap()).unwrap(), denied);
    assert_eq!(read(&Root::tree(BTreeMap::new())), LogFacts::default());
}

#[test]
fn records_of_the_kernel_are_read() {
    let (sequence, line) = source::record("6,1234,5678901,-,caller=T1;mlx5_core 0000:03:00.0 a: Link up\n SUBSYSTEM=pci\n").unwrap();
    assert_eq!((sequence, line.time_us, line.message), (1234, Some(5_678_901), "mlx5_core 0000:03:00.0 a: Link up"));
    assert!(source::record("nonsense").is_none());
    for (text, time_us, message) in [
        ("<6>[    5.678901] mlx5_core 0000:03:00.0 a kernel: Link up", Some(5_678_901), "mlx5_core 0000:03:00.0 a kernel: Link up"),
        ("<30>[    5.678901][    T1] systemd[1]: started", Some(5_678_901), "systemd[1]: started"),
        ("<4>[    5.678901][   C12] [drm] up", Some(5_678_901), "[drm] up"),
        ("<4>[    5.678901] [drm] up", Some(5_678_901), "[drm] up"),
        ("<6>no time", None, "no time"),
    ] {
        let line = source::of_syslog(text).unwrap();
        assert_eq!((line.time_us, line.message), (time_us, message), "{text}");
    }
    assert!(source::of_syslog("[    5.678901] without a priority").is_none());
    // Whatever this host allows.
    let _ = read(&Root::default());
}

proptest! {
    #[test]
    fn any_bytes_are_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let text = String::from_utf8_lossy(&bytes);
        let _ = (classify(&text), source::record(&text).map(|(sequence, _)| sequence), source::of_daemon(&text, false).map(|line| line.time_us));
    }

    /// Lines made of the pieces that are looked for, in any order.
    #[test]
    fn any_mixture_of_pieces_is_no_panic(pieces in proptest::collection::vec(prop_oneof![
        Just("NVRM: Xid ("), Just("PCI:0000:03:00"), Just("): "), Just("79"), Just(": SXid ("), Just(": Unknown symbol "), Just("(err "), Just("mlx5_core "), Just("0000:03:00.0"),
        Just(" failed, status "), Just("(0x"), Just("Port module event"), Just(", "), Just("Out of mr size: "), Just(", max "), Just("Create QP failed - max exceeded!"), Just(" 0x1/0x2"),
        Just(": Link is up"), Just(" İ: nic link is up"), Just("ice"), Just(" "), Just("é"), Just("irdma error "), Just("Out of memory: Killed process "), Just("("), Just(")"), Just("INFO: task "),
        Just(" blocked for more than "), Just("["), Just("]"), Just("1.000000"), Just(" kernel: "), Just("DMAR: fault addr device ["), Just("PCIe Bus Error: severity="),
    ], 0..12)) {
        let text = pieces.concat();
        if let Some(event) = classify(&text) {
            prop_assert!(serde_json::to_string(&event).is_ok());
        }
        let _ = source::of_daemon(&text, true).map(|line| line.time_us);
        let _ = source::of_syslog(&text).map(|line| line.time_us);
    }
}
