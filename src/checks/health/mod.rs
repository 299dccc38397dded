//! 11: health: what counters and the kernel's log tell.

mod counters;
mod log;
mod reading;

use super::{Category, Check, Finding, Level};

pub(super) use reading::within;

/// Where the policy says nothing: half of the time that a quick look may take.
pub(super) const SLOW_READ_MS: u64 = 1000;

/// `at most 2 times (the policy's link_downs)`, or that it is a default.
fn bound(bound: String, threshold: &str, from_policy: bool) -> String {
    let origin = if from_policy { "the policy's" } else { "the default of the policy's" };
    format!("{bound}, {origin} {threshold}")
}

/// The check that tells of what was not read: why others could not judge.
pub const UNREAD: Check = Check {
    id: "RD-1117",
    title: "every part of the host could be read to its end",
    category: Category::Health,
    level: Level::Quick,
    why: "A file of sysfs or procfs whose reading never ends has a driver or firmware behind it that does not answer; every program that looks there hangs too.",
    confirm: "timeout 5 cat PATH; ps -eo pid,stat,wchan:32,comm | awk '$2 ~ /D/'",
    mend: "Look at the kernel's log for the driver; reset the device, or start the host anew.",
    sources: &["this run"],
    depends_on: &["RD-1107", "RD-1110", "RD-1104"],
    run: reading::read_to_the_end,
};

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "RD-1101",
        title: "links do not flap",
        category: Category::Health,
        level: Level::Quick,
        why: "A link that goes down again and again kills all queue pairs each time; engines mostly do not recover.",
        confirm: "dmesg -T | grep -i 'link.*down'; cat /sys/class/net/DEV/carrier_changes",
        mend: "Exchange cable or module; look at the switch port's own log.",
        sources: &["leptonai/gpud, InfiniBand component", "the drivers' own lines"],
        depends_on: &["RD-1113"],
        run: counters::flaps,
    },
    Check {
        id: "RD-1102",
        title: "no port alone counts link errors",
        category: Category::Health,
        level: Level::Quick,
        why: "Counters run since the start of the device, so a number alone says little; a port that counts errors where its siblings count none has a cable, module or switch port of its own to blame.",
        confirm: "grep . /sys/class/infiniband/*/ports/*/counters/{symbol_error,link_error_recovery,link_downed,port_rcv_errors}",
        mend: "Clean or exchange cable and module; look at the other end's counters.",
        sources: &[
            "InfiniBand Architecture Specification, volume 1, PortCounters",
            "Linux, Documentation/ABI/stable/sysfs-class-infiniband",
        ],
        depends_on: &["RD-1101"],
        run: counters::link_errors,
    },
    Check {
        id: "RD-1103",
        title: "no port alone counts retransmissions",
        category: Category::Health,
        level: Level::Quick,
        why: "Retransmissions and sequence errors on one port alone tell of loss on its way: a bad cable, or quality of service that differs.",
        confirm: "grep . /sys/class/infiniband/*/ports/*/hw_counters/{local_ack_timeout_err,out_of_sequence,packet_seq_err,rnr_nak_retry_err}",
        mend: "Compare cable, switch port and quality of service with those of the siblings.",
        sources: &["NVIDIA, Understanding mlx5 counters"],
        depends_on: &["RD-1001", "RD-1101"],
        run: counters::retransmissions,
    },
    Check {
        id: "RD-1104",
        title: "the PCI bus reports no errors of NICs and GPUs",
        category: Category::Health,
        level: Level::Quick,
        why: "Uncorrected errors mean lost requests; the device, the slot or the riser is failing. Corrected ones alone are no fault, many tell of a marginal link.",
        confirm: "grep . /sys/bus/pci/devices/*/aer_dev_{fatal,nonfatal,correctable}; dmesg | grep -i 'AER'",
        mend: "Seat the card anew; exchange riser or card when it comes again.",
        sources: &["Linux, Documentation/PCI/pcieaer-howto.rst"],
        depends_on: &[],
        run: log::bus_errors,
    },
    Check {
        id: "RD-1105",
        title: "the GPU driver logged no error (Xid)",
        category: Category::Health,
        level: Level::Quick,
        why: "After some errors a GPU is of no use until it is reset, and programs that touch it hang.",
        confirm: "dmesg -T | grep -E 'NVRM: (Xid|SXid)'",
        mend: "Look the number up in NVIDIA's table; reset the GPU (nvidia-smi --gpu-reset), start anew, or have it exchanged.",
        sources: &["docs.nvidia.com/deploy/xid-errors", "the incident: nvidia-smi hung after the crash"],
        depends_on: &["RD-1104"],
        run: log::xids,
    },
    Check {
        id: "RD-1106",
        title: "no GPU was lost",
        category: Category::Health,
        level: Level::Quick,
        why: "A GPU that its driver cannot bring up, or that has fallen off the bus, makes nvidia-smi and CUDA hang or fail.",
        confirm: "dmesg | grep -E 'RmInitAdapter|fallen off the bus'; nvidia-smi",
        mend: "Start the host anew with its power off; a GPU that is lost again has to be exchanged.",
        sources: &["NVIDIA/open-gpu-kernel-modules, src/nvidia/arch/nvalloc/unix/src/osinit.c"],
        depends_on: &["RD-0809"],
        run: log::lost_gpus,
    },
    Check {
        id: "RD-1107",
        title: "no process hangs in the kernel",
        category: Category::Health,
        level: Level::Quick,
        why: "A process that waits in the kernel for minutes cannot be killed and holds its devices, queue pairs and memory.",
        confirm: "dmesg | grep 'blocked for more than'; ps -eo pid,stat,wchan,comm | awk '$2 ~ /D/'",
        mend: "Find the device that it waits for in the kernel's log; mostly only a new start helps.",
        sources: &["Linux, kernel/hung_task.c", "the incident: nvidia-smi hung after the crash"],
        depends_on: &["RD-1105", "RD-1106", "RD-1110"],
        run: log::hung_tasks,
    },
    Check {
        id: "RD-1108",
        title: "what devices answer was read in good time",
        category: Category::Health,
        level: Level::Quick,
        why: "Files of sysfs come from the devices: one that takes a second to read has a driver or firmware that answers late.",
        confirm: "time cat /sys/class/infiniband/*/ports/*/counters/*",
        mend: "Look at the kernel's log for the device's driver.",
        sources: &["the times of this run"],
        depends_on: &["RD-1107", "RD-1110"],
        run: reading::slow_parts,
    },
    Check {
        id: "RD-1109",
        title: "no process was killed for memory",
        category: Category::Health,
        level: Level::Quick,
        why: "Pinned memory counts for the control group: an engine that registers much is killed there, which looks like a crash.",
        confirm: "dmesg | grep 'Killed process'",
        mend: "Raise the container's memory limit, or lower the engine's caches.",
        sources: &["Linux, mm/oom_kill.c"],
        depends_on: &[],
        run: log::killed,
    },
    Check {
        id: "RD-1110",
        title: "mlx5 devices are healthy",
        category: Category::Health,
        level: Level::Quick,
        why: "After a failure of its firmware an mlx5 device answers no command until it has recovered or was reset.",
        confirm: "dmesg | grep -E 'mlx5_core.*(health|assert)'; devlink health",
        mend: "devlink health recover, or reset the device; upgrade its firmware.",
        sources: &["Linux, drivers/net/ethernet/mellanox/mlx5/core/health.c"],
        depends_on: &["RD-0809", "RD-1104"],
        run: log::mlx5_health,
    },
    Check {
        id: "RD-1111",
        title: "mlx5 firmware refused no command for lack of resources",
        category: Category::Health,
        level: Level::Quick,
        why: "`no resources` and `limits exceeded` mean that objects ran out, mostly memory keys that crashed programs left behind.",
        confirm: "dmesg | grep -E 'mlx5_core.*(no resources|limits exceeded)'; rdma resource show",
        mend: "End the programs that hold objects; where none does, start the host anew.",
        sources: &["Mooncake documentation, troubleshooting, item 5 (CREATE_MKEY)", "ofiwg/libfabric issue 7368"],
        depends_on: &["RD-1110"],
        run: log::mlx5_commands,
    },
    Check {
        id: "RD-1112",
        title: "the IOMMU stopped no access",
        category: Category::Health,
        level: Level::Quick,
        why: "A stopped access of a NIC or GPU is a transfer that failed: memory that was not mapped for that device.",
        confirm: "dmesg | grep -E 'DMAR|AMD-Vi|IO_PAGE_FAULT'",
        mend: "Pass devices through (iommu=pt), and look for the program that used memory after it was freed.",
        sources: &["Linux, drivers/iommu", "NVIDIA/nccl issue 1737"],
        depends_on: &["RD-0805"],
        run: log::iommu_faults,
    },
    Check {
        id: "RD-1113",
        title: "cables and modules are well",
        category: Category::Health,
        level: Level::Quick,
        why: "mlx5 writes what it sees of a port's module to the kernel's log: unplugged, too hot, not readable.",
        confirm: "dmesg | grep 'Port module event'; ethtool -m DEV",
        mend: "Plug it in again, clean or exchange it.",
        sources: &["Linux, drivers/net/ethernet/mellanox/mlx5/core/events.c"],
        depends_on: &[],
        run: log::port_modules,
    },
    Check {
        id: "RD-1114",
        title: "RDMA drivers logged no error",
        category: Category::Health,
        level: Level::Quick,
        why: "Drivers explain refusals in the kernel's log, where the programs that met them never look.",
        confirm: "dmesg | grep -E 'mlx|bnxt_re|irdma|erdma|efa|infiniband'",
        mend: "Read the line; the finding gives the last one of each kind.",
        sources: &["Linux, drivers/infiniband/core/device.c, ibdev_err"],
        depends_on: &["RD-1110", "RD-0209"],
        run: log::driver_errors,
    },
    Check {
        id: "RD-1115",
        title: "everything could be read",
        category: Category::Health,
        level: Level::Quick,
        why: "What could not be read is not judged. Some files are for root only; garbage in others tells of a driver's fault.",
        confirm: "run it as root",
        mend: "Run as root for the whole picture.",
        sources: &["this run"],
        depends_on: &[],
        run: reading::unread,
    },
    super::leftovers::GPUS_ANSWER,
    UNREAD,
];

/// Findings of the log, or that there are none.
fn or_well(findings: Vec<Finding>, well: &str) -> Vec<Finding> {
    if findings.is_empty() { vec![Finding::pass("host", well)] } else { findings }
}
