//! Which kernel modules matter, why, and which of their parameters do.

/// A module that rdmadoctor reports on.
pub(super) struct Known {
    pub(super) name: &'static str,
    /// One sentence for the reader of a report.
    pub(super) why: &'static str,
    /// A function that only this module has: in /proc/kallsyms it shows a module that is built in and has neither parameters nor a version.
    /// Empty where the module is never built in.
    pub(super) symbol: &'static str,
    pub(super) parameters: &'static [KnownParameter],
}

/// A parameter with what it decides.
pub(super) struct KnownParameter {
    pub(super) name: &'static str,
    pub(super) meaning: &'static str,
}

const fn plain(name: &'static str, symbol: &'static str, why: &'static str) -> Known {
    Known { name, why, symbol, parameters: &[] }
}

/// What every host is asked for.
pub(super) const ALWAYS: &[Known] = &[
    Known {
        name: "ib_core",
        why: "the kernel's RDMA core: without it there are no RDMA devices",
        symbol: "ib_register_device",
        parameters: &[KnownParameter {
            name: "netns_mode",
            meaning: "Y: every network namespace sees all RDMA devices; N: a device is seen only in the namespace that it was moved to",
        }],
    },
    plain("ib_uverbs", "ib_uverbs_open", "gives programs the device nodes /dev/infiniband/uverbsN, which libibverbs opens"),
    plain("iw_cm", "iw_cm_connect", "connection management for iWARP devices"),
    plain("rdma_cm", "rdma_resolve_addr", "connection management by IP address"),
    plain(
        "rdma_ucm",
        "ucma_open",
        "gives programs /dev/infiniband/rdma_cm, which librdmacm opens; iWARP devices cannot be used without it",
    ),
    plain("nvidia", "", "NVIDIA's GPU driver"),
    plain("nvidia_uvm", "", "NVIDIA's unified memory: CUDA does not start without it"),
    plain(
        "nvidia_peermem",
        "",
        "lets ibv_reg_mr take GPU memory, where dma-buf is not used; needs an ib_core with ib_register_peer_memory_client",
    ),
    plain("nv_peer_mem", "", "the older name of nvidia_peermem, from a package of its own"),
    plain("gdrdrv", "", "GDRCopy: lets the processor reach GPU memory for small copies"),
];

/// What is reported only on a host that has such a device or PCI function, or when asked for.
pub(super) const DRIVERS: &[Known] = &[
    plain("mlx5_core", "mlx5_cmd_exec", "base driver of NVIDIA ConnectX-4 and later, and BlueField"),
    plain("mlx5_ib", "mlx5_ib_create_qp", "makes a ConnectX function an RDMA device"),
    plain("mlx4_core", "mlx4_cmd_init", "base driver of ConnectX-3"),
    plain("mlx4_ib", "mlx4_ib_create_qp", "makes a ConnectX-3 function an RDMA device"),
    plain("bnxt_en", "bnxt_open", "base driver of Broadcom NetXtreme-E and Thor"),
    plain("bnxt_re", "bnxt_re_create_qp", "makes a Broadcom function an RDMA device"),
    plain("ice", "ice_open", "base driver of Intel E800"),
    Known {
        name: "irdma",
        why: "makes an Intel function an RDMA device",
        symbol: "irdma_create_qp",
        parameters: &[KnownParameter { name: "roce_ena", meaning: "protocol of each port in Intel's own package: RoCE v2 or iWARP" }],
    },
    Known {
        name: "erdma",
        why: "driver of Alibaba's elastic RDMA",
        symbol: "erdma_create_qp",
        parameters: &[
            KnownParameter {
                name: "compat_mode",
                meaning: "Y: queue pairs are connected as on RoCE, without rdma_cm; N: only rdma_cm connects them; both ends must agree. Absent: the kernel's own driver, which has no such mode",
            },
            KnownParameter { name: "legacy_mode", meaning: "behaviour of older packages" },
            KnownParameter { name: "reserve_ports_base", meaning: "first of 16 TCP ports that compat mode reserves" },
        ],
    },
    plain("efa", "efa_create_qp", "driver of AWS Elastic Fabric Adapter"),
    plain("mana", "mana_gd_probe", "base driver of Microsoft's Azure adapter"),
    plain("mana_ib", "mana_ib_create_qp", "makes an Azure function an RDMA device"),
    plain("hns3", "hns3_client_init", "base driver of HiSilicon's adapters"),
    plain("hns_roce_hw_v2", "hns_roce_create_qp", "makes a HiSilicon function an RDMA device"),
    plain("qede", "qede_open", "base driver of Marvell FastLinQ"),
    plain("qedr", "qedr_create_qp", "makes a FastLinQ function an RDMA device"),
    plain("cxgb4", "cxgb4_register_uld", "base driver of Chelsio T4 to T6"),
    plain("iw_cxgb4", "c4iw_create_qp", "makes a Chelsio function an RDMA device"),
    plain("ionic", "ionic_open", "base driver of AMD Pensando"),
    plain("ionic_rdma", "ionic_create_qp", "makes a Pensando function an RDMA device"),
    plain("vmw_pvrdma", "pvrdma_create_qp", "VMware's paravirtual RDMA device"),
    plain("be2net", "be_open", "base driver of Emulex OneConnect"),
    plain("ocrdma", "ocrdma_create_qp", "makes an Emulex function an RDMA device"),
    plain("rdma_rxe", "rxe_create_qp", "Soft-RoCE: RDMA in software over any network interface"),
    plain("siw", "siw_create_qp", "Soft-iWARP: RDMA in software over TCP"),
];

/// The entry of a name, with `-` and `_` alike.
pub(super) fn find(name: &str) -> Option<&'static Known> {
    let name = super::normal(name);
    ALWAYS.iter().chain(DRIVERS).find(|known| known.name == name)
}
