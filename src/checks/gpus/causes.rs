//! Why GPU memory cannot be registered: from who refused it, with which error, which kind of memory, which way, and what is known of the host,
//! to causes in the order in which they are likely, each with its evidence and with how to tell it from the others.

use nix::errno::Errno;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ways::{Feasibility, nic_way, peer_memory_way};
use crate::checks::modules::peer_memory_module;
use crate::facts::Facts;
use crate::gpu::{AllocKind, GpuError, GpuErrorKind, GpuFacts, Path};
use crate::host::limits::LimitValue;
use crate::host::log::Event;
use crate::host::modules::{NvidiaFlavour, SymbolPresence};
use crate::host::system::iommu::IommuMode;
use crate::transfer::Refusal;
use crate::units::about_size;
use crate::verbs::CallError;

/// A registration that was refused.
#[derive(Debug, Clone, Copy)]
pub struct RefusedMemory<'a> {
    /// How the memory was allocated.
    pub form: AllocKind,
    /// The way into the NIC.
    pub path: Path,
    pub refusal: &'a Refusal,
    /// The GPU's address.
    pub gpu: &'a str,
    /// The NIC, where one was asked.
    pub device: Option<&'a str>,
    /// How much memory.
    pub bytes: u64,
}

/// How sure a cause is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// Something seen on this host leaves no other explanation of its own.
    Shown,
    /// The error mostly means it, and nothing seen speaks against it.
    Likely,
    /// It can be, and nothing seen speaks for it.
    Possible,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cause {
    /// How sure it is.
    pub sureness: Confidence,
    pub summary: String,
    /// What speaks for it.
    pub evidence: Option<String>,
    /// How to tell it from the others.
    pub tell_apart: String,
    /// What mends it.
    pub remedy: String,
}

impl Cause {
    /// One line for people.
    #[must_use]
    pub fn line(&self) -> String {
        let sureness = match self.sureness {
            Confidence::Shown => "seen here",
            Confidence::Likely => "likely",
            Confidence::Possible => "possible",
        };
        let evidence = self.evidence.as_ref().map(|evidence| format!(" ({evidence})")).unwrap_or_default();
        format!("{sureness}: {}{evidence}. To tell: {}. Mend: {}", self.summary, self.tell_apart, self.remedy)
    }
}

/// The causes, the surest first. What is seen not to be so is left out.
#[must_use]
pub fn causes(facts: &Facts, refused: &RefusedMemory<'_>) -> Vec<Cause> {
    let mut found = Found { facts, refused, causes: Vec::new() };
    match refused.refusal {
        Refusal::Gpu { error } => found.of_gpu(error),
        Refusal::Verbs { error } => found.of_verbs(error),
        Refusal::NotTried { .. } => {}
    }
    // Equal ones stay in the order in which they were found, which is that of how often they are met.
    found.causes.sort_by_key(|cause| cause.sureness);
    found.causes
}

struct Found<'a> {
    facts: &'a Facts,
    refused: &'a RefusedMemory<'a>,
    causes: Vec<Cause>,
}

const BY_KIND: &str = "`rdmadoctor gpu` tries each kind of memory by each way";

impl Found<'_> {
    fn add(&mut self, sureness: Confidence, summary: &str, evidence: Option<String>, tell_apart: &str, remedy: &str) {
        self.causes.push(Cause {
            sureness,
            summary: summary.to_owned(),
            evidence,
            tell_apart: tell_apart.to_owned(),
            remedy: remedy.to_owned(),
        });
    }

    fn gpu(&self) -> Option<&GpuFacts> {
        self.facts.gpus.as_ref()?.gpu(self.refused.gpu)
    }

    /// A refusal by the GPU's driver.
    fn of_gpu(&mut self, error: &GpuError) {
        use Confidence::{Likely, Possible, Shown};
        let said = self.gpu().and_then(|gpu| gpu.cuda);
        let banner = self.facts.modules.nvidia.as_ref().map(|nvidia| nvidia.banner.clone());
        let flavour = self.facts.modules.nvidia.as_ref().and_then(|nvidia| nvidia.flavour);
        match error.kind() {
            GpuErrorKind::NotSupported | GpuErrorKind::Other if matches!(self.refused.path, Path::Dmabuf | Path::DataDirect) => {
                if flavour == Some(NvidiaFlavour::Proprietary) {
                    let how = "cat /proc/driver/nvidia/version says Open Kernel Module for the open one";
                    self.add(
                        Shown,
                        "the GPU's driver is the closed one, which exports no dma-buf",
                        banner,
                        how,
                        "install the open kernel modules",
                    );
                }
                if matches!(error, GpuError::SymbolMissing { .. }) {
                    let how = "the entry point came with CUDA 11.7";
                    self.add(Shown, "the driver is too old for dma-bufs", Some(error.to_string()), how, "install a current driver");
                }
                if said.is_some_and(|said| said.dma_buf_supported == Some(false)) {
                    let seen = Some("CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED is 0".to_owned());
                    let how = "the attribute is of the whole GPU: another kind of its memory is refused too";
                    self.add(
                        Shown,
                        "the driver makes no dma-bufs of this GPU",
                        seen,
                        how,
                        "install the open kernel modules, use peer memory",
                    );
                }
                match self.refused.form {
                    AllocKind::Managed => {
                        let how = "plain memory of the same GPU is exported";
                        self.add(Shown, "managed memory is not exported: only memory of cuMemAlloc and cuMemAddressReserve is (cuMemGetHandleForAddressRange)", None, how, "allocate by cuMemAlloc");
                    }
                    AllocKind::Async => {
                        let how = "plain memory of the same GPU is exported";
                        self.add(Likely, "memory of a pool is not exported: only memory of cuMemAlloc and cuMemAddressReserve is (cuMemGetHandleForAddressRange)", None, how, "allocate by cuMemAlloc, or cuMemCreate with the flag");
                    }
                    // Memory without gpuDirectRDMACapable was exported all the same (docs/gpu-validation.md).
                    AllocKind::Plain | AllocKind::Vmm | AllocKind::VmmNoFlag => {}
                }
                if self.refused.path == Path::DataDirect {
                    let how = "a dma-buf without the PCIe mapping is made";
                    self.add(
                        Likely,
                        "the driver or this platform has no dma-bufs that are mapped over PCIe (CUDA 12.8)",
                        None,
                        how,
                        "use dmabuf",
                    );
                } else {
                    let how = "both addresses are multiples of the host's page (getconf PAGESIZE)";
                    self.add(
                        Possible,
                        "the range does not begin or end on a page, or is of two allocations",
                        None,
                        how,
                        "export whole pages of one allocation",
                    );
                }
            }
            _ => {
                let used = self.gpu().and_then(|gpu| Some((gpu.memory_used_bytes?, gpu.memory_bytes?)));
                let used = used.map(|(used, all)| format!("{} of {} are used", about_size(used), about_size(all)));
                self.add(
                    Likely,
                    "the GPU's memory is used up, or the GPU is sick",
                    used,
                    "nvidia-smi; dmesg | grep -i nvrm",
                    "end what holds it",
                );
            }
        }
    }

    /// A refusal by the verbs library, the kernel or the NIC's driver.
    fn of_verbs(&mut self, error: &CallError) {
        let errno = Errno::from_raw(error.errno.0);
        match (errno, self.refused.path) {
            (Errno::EFAULT, Path::Peermem) => self.no_client(),
            (Errno::EOPNOTSUPP | Errno::EPROTONOSUPPORT | Errno::ENOSYS, Path::Dmabuf) => self.no_dma_buf(error),
            // The kernel's mlx5 driver answers EINVAL where there is no such device (drivers/infiniband/hw/mlx5/mr.c,
            // reg_user_mr_dmabuf_by_data_direct).
            (Errno::EINVAL | Errno::EOPNOTSUPP | Errno::EPROTONOSUPPORT | Errno::ENOSYS | Errno::ENODEV, Path::DataDirect) => self.add(
                Confidence::Likely,
                "this NIC has no data-direct device, or its library does not know of one",
                Some(error.object.clone()),
                "mlx5dv_get_data_direct_sysfs_path(3) names the device where there is one",
                "use dmabuf; data-direct is of ConnectX-8 and later beside few platforms",
            ),
            (Errno::ENOMEM | Errno::EPERM | Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOSPC, _) => self.no_room(errno),
            (Errno::EINVAL | Errno::EIO | Errno::EREMOTEIO | Errno::ENXIO, _) => self.not_mapped(errno),
            (Errno::EBADF | Errno::EFAULT, Path::Dmabuf) => self.add(
                Confidence::Possible,
                "the dma-buf is closed, or of another process",
                None,
                BY_KIND,
                "keep the descriptor open until the registration is made",
            ),
            _ => self.add(Confidence::Possible, "the kernel's log may say more", None, "dmesg", "see the log"),
        }
    }

    /// EFAULT: nobody in the kernel knew the address.
    fn no_client(&mut self) {
        use Confidence::{Likely, Possible, Shown};
        let loaded = peer_memory_module(self.facts);
        if self.facts.modules.peer_memory_api == SymbolPresence::Absent {
            let seen = Some("the kernel has no symbol ib_register_peer_memory_client".to_owned());
            let how = "grep ib_register_peer_memory_client /proc/kallsyms, as root";
            let remedy = "use dmabuf, or install DOCA-OFED, whose ib_core has it";
            self.add(Shown, "ib_core takes no peer-memory clients, so a GPU's address means nothing to it", seen, how, remedy);
        } else if loaded.is_none() && peer_memory_way(self.facts) == Feasibility::Closed {
            let seen = Some("neither nvidia_peermem nor nv_peer_mem is loaded".to_owned());
            self.add(
                Shown,
                "no peer-memory client is loaded",
                seen,
                "lsmod | grep -E 'nvidia_peermem|nv_peer_mem'",
                "modprobe nvidia_peermem",
            );
        } else if loaded.is_none() {
            self.add(
                Likely,
                "no peer-memory client is loaded",
                None,
                "lsmod | grep -E 'nvidia_peermem|nv_peer_mem'",
                "modprobe nvidia_peermem",
            );
        }
        let failed = self.facts.host.log.events.iter().find(|logged| {
            matches!(logged.event, Event::PeerMemoryFailed)
                || matches!(&logged.event, Event::UnknownSymbol { module, .. } if module.contains("peer"))
        });
        if let Some(logged) = failed {
            let seen = Some(logged.line.clone());
            self.add(
                Likely,
                "the client was built for another ib_core and is not bound to it",
                seen,
                "dmesg | grep -i peer",
                "build it anew, or use dmabuf",
            );
        }
        match self.refused.form {
            AllocKind::VmmNoFlag => self.add(
                Likely,
                "memory of cuMemCreate was made without gpuDirectRDMACapable, which the client does not get",
                None,
                "memory with the flag is registered (cuda:N:vmm), and plain memory (cuda:N)",
                "set the flag in the allocator, or turn its expandable segments or sleep mode off",
            ),
            AllocKind::Managed => {
                let how = "plain memory of the same GPU is registered (cuda:N)";
                self.add(Likely, "managed memory is given to no peer-memory client", None, how, "allocate by cuMemAlloc");
            }
            AllocKind::Async => {
                let how = "plain memory of the same GPU is registered (cuda:N)";
                self.add(Possible, "memory of this pool is not given to peer-memory clients", None, how, "allocate by cuMemAlloc");
            }
            AllocKind::Plain | AllocKind::Vmm => {}
        }
        if self.gpu().and_then(|gpu| gpu.cuda).is_some_and(|said| said.gpu_direct_rdma_supported == Some(false)) {
            let seen = Some("CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_SUPPORTED is 0".to_owned());
            self.add(
                Shown,
                "this GPU's memory is given to no peer-memory client",
                seen,
                "the attribute is of the whole GPU",
                "use dmabuf or staged",
            );
        }
        if let (Some(name), true) = (loaded, self.causes.is_empty()) {
            let seen = Some(format!("{name} is loaded"));
            let how = "cat /sys/kernel/mm/memory_peers/nv_mem/version shows a client that is bound; dmesg | grep -i peer";
            self.add(
                Likely,
                "the client that is loaded is not bound to ib_core, or not of this driver",
                seen,
                how,
                "load it anew after ib_core and nvidia",
            );
        }
    }

    /// EOPNOTSUPP: somebody on the way has no such operation.
    fn no_dma_buf(&mut self, error: &CallError) {
        use Confidence::{Likely, Possible, Shown};
        if error.object.contains("libibverbs") {
            self.add(
                Shown,
                "this libibverbs is too old for dma-bufs",
                Some(error.object.clone()),
                "ibv_reg_dmabuf_mr is in v34 and later",
                "install a newer rdma-core",
            );
            return;
        }
        let nic = self.refused.device.and_then(|name| self.facts.rdma_devices().iter().find(|nic| nic.name == name));
        let driver = nic.and_then(|nic| nic.driver.clone());
        let kernel = self.facts.host.system.kernel_release.clone().unwrap_or_default();
        let seen = driver.map(|driver| format!("{driver} on kernel {kernel}"));
        let how = "ibv_reg_dmabuf_mr with descriptor -1 answers EBADF where the driver has it, EOPNOTSUPP where not";
        match nic.map(|nic| nic_way(self.facts, nic)) {
            Some(Feasibility::Closed) => {
                self.add(Shown, "the NIC's driver takes no dma-bufs in this kernel", seen, how, "use a newer kernel, or peermem")
            }
            Some(Feasibility::Open) => {
                self.add(Possible, "the library's provider has no call for it", seen, how, "install a newer rdma-core")
            }
            _ => self.add(
                Likely,
                "the NIC's driver takes no dma-bufs in this kernel",
                seen,
                how,
                "use a newer kernel or the vendor's driver, or peermem",
            ),
        }
    }

    /// ENOMEM and its kin: something is used up.
    fn no_room(&mut self, errno: Errno) {
        use Confidence::{Likely, Possible, Shown};
        let own = &self.facts.host.limits.own;
        let limit = own.memlock().and_then(|limit| match limit.soft {
            LimitValue::Value(value) => Some(value),
            LimitValue::Unlimited => None,
        });
        // GPU memory is pinned by the GPU's driver, and counts in no limit of the host's but where it is staged.
        if own.has_ipc_lock() != Some(true)
            && let Some(limit) = limit
        {
            let seen = Some(format!("Max locked memory is {}, and CAP_IPC_LOCK is not in force", about_size(limit)));
            let sureness = match () {
                () if self.refused.path == Path::Staged && limit < self.refused.bytes => Shown,
                () if limit < self.refused.bytes => Likely,
                () => Possible,
            };
            self.add(
                sureness,
                "locked memory is limited",
                seen,
                "the same size of host memory is refused too (--memory host)",
                "ulimit -l unlimited, for a service LimitMEMLOCK=infinity",
            );
        }
        if errno == Errno::EPERM {
            self.add(Likely, "this process may lock no memory at all", None, "as root it works", "give it CAP_IPC_LOCK");
            return;
        }
        if self.refused.path == Path::Staged {
            return;
        }
        let window = self.gpu().and_then(|gpu| gpu.bar1_bytes.zip(gpu.bar1_used_bytes));
        if let Some((all, used)) = window {
            let left = all.saturating_sub(used);
            let seen = Some(format!("{} of {} of the window (BAR1) are used", about_size(used), about_size(all)));
            let how = "a smaller size is registered; nvidia-smi -q -d MEMORY shows BAR1";
            match () {
                () if all < self.refused.bytes => {
                    self.add(
                        Shown,
                        "the window onto the GPU's memory is smaller than what is registered",
                        seen,
                        how,
                        "turn on resizable BAR in the firmware",
                    );
                }
                () if left < self.refused.bytes => {
                    self.add(
                        Shown,
                        "the window onto the GPU's memory is full",
                        seen,
                        how,
                        "end what holds registrations, or register less at once",
                    );
                }
                () => {}
            }
        } else {
            let how = "a smaller size is registered; nvidia-smi -q -d MEMORY shows BAR1";
            self.add(
                Possible,
                "the window onto the GPU's memory is full or too small",
                None,
                how,
                "register less at once, or turn on resizable BAR",
            );
        }
        let how = "host memory of the same size is refused too; dmesg";
        self.add(
            Possible,
            "the NIC has no more memory regions or translation entries",
            None,
            how,
            "`rdma resource show mr`; end what holds them",
        );
    }

    /// EINVAL and EIO: it was understood, and could not be mapped for the NIC.
    fn not_mapped(&mut self, errno: Errno) {
        use Confidence::{Likely, Possible};
        let mode = self.facts.host.system.iommu.mode;
        if matches!(mode, IommuMode::Translated | IommuMode::Mixed) {
            let seen = Some("the IOMMU translates devices' addresses".to_owned());
            let how = "host memory of the same size is registered, GPU memory is not";
            self.add(
                Likely,
                "the IOMMU does not let the NIC at the GPU",
                seen,
                how,
                "start the kernel with iommu=pt, or with the IOMMU off",
            );
        }
        if errno == Errno::EREMOTEIO {
            let how = "rdmadoctor topo: GPU and NIC are under different host bridges";
            self.add(
                Likely,
                "the kernel knows no way from NIC to GPU over these bridges (P2PDMA)",
                None,
                how,
                "use a NIC under the same switch",
            );
        }
        if self.refused.path != Path::Peermem {
            let how = "offset and address agree in their last 12 bits, and whole pages are exported";
            self.add(
                Possible,
                "offset and address are not aligned alike, or the range is longer than the dma-buf",
                None,
                how,
                "export and register whole pages",
            );
        }
        if matches!(mode, IommuMode::Unknown) {
            self.add(
                Possible,
                "the IOMMU does not let the NIC at the GPU",
                None,
                "ls /sys/kernel/iommu_groups",
                "start the kernel with iommu=pt",
            );
        }
        let how = "a smaller size, or fewer rights, are granted";
        self.add(
            Possible,
            "the NIC's driver takes no registration of this size or with these rights",
            None,
            how,
            "`rdmadoctor caps` shows max_mr_size",
        );
    }
}

#[cfg(test)]
mod tests;
