//! GPUs of a profile: their NICs, nearest first, and the way by which their memory reaches each.

use super::Draft;
use crate::host::topo::{Affinity, TopologyGpu};
use crate::profile::seen::NVIDIA;
use crate::profile::{EvidenceKind, FailedPath, GpuNic, GpuPath, ProfiledGpu, Proven, WorkingPath};
use crate::worker::{GpuMemory, Registration};

/// A way that was tried: its name, and how it came out.
struct Tried {
    kind: &'static str,
    evidence: String,
    failure: Option<String>,
}

impl Draft<'_> {
    pub(super) fn gpus(&mut self) -> Vec<ProfiledGpu> {
        let topology = &self.material.seen.topology;
        topology.gpus.iter().enumerate().map(|(index, gpu)| self.gpu(u32::try_from(index).unwrap_or(u32::MAX), gpu)).collect()
    }

    fn gpu(&mut self, index: u32, gpu: &TopologyGpu) -> ProfiledGpu {
        let topology = &self.material.seen.topology;
        let notes = if topology.is_hidden { ", which hides the real tree" } else { "" };
        let bridges: Vec<&str> = gpu.path.bridges.iter().chain([&gpu.address]).map(String::as_str).collect();
        let summary = format!("the PCI tree in /sys/bus/pci/devices: {}{notes}", bridges.join(" > "));
        let evidence = self.book.add(EvidenceKind::File, summary);
        let mut path = None;
        let mut nics = Vec::new();
        for nic in &gpu.nics {
            let affinity = topology.pair(&gpu.address, nic).map_or(Affinity::Unknown, |pair| pair.affinity);
            let found = self.path(&gpu.address, nic);
            let own = found.as_ref().map(|found| Proven { value: found.kind.clone(), evidence: found.evidence.clone() });
            // The nearest NIC with a direct way counts; where there is none, the nearest.
            let is_better = |old: &GpuPath, new: &GpuPath| old.kind == STAGED && new.kind != STAGED;
            if let Some(found) = found
                && path.as_ref().is_none_or(|old| is_better(old, &found))
            {
                path = Some(found);
            }
            nics.push(GpuNic { name: nic.clone(), affinity: affinity.name().to_owned(), path: own });
        }
        self.lacks_of(gpu, &nics);
        ProfiledGpu {
            index,
            pci: gpu.address.clone(),
            uuid: self.material.gpus.and_then(|gpus| gpus.gpu(&gpu.address)?.uuid.clone()),
            numa_node: gpu.numa_node,
            path,
            nics,
            evidence,
        }
    }

    /// What is not known of a GPU's ways, and why.
    fn lacks_of(&mut self, gpu: &TopologyGpu, nics: &[GpuNic]) {
        let entry = format!("gpus/{}/path", gpu.address);
        let lacking: Vec<&str> = nics.iter().filter(|nic| nic.path.is_none()).map(|nic| nic.name.as_str()).collect();
        if !lacking.is_empty() {
            let why = self.untried(gpu);
            self.lack(&entry, format!("its memory was not registered with {}: {why}", lacking.join(", ")));
        }
        let staged: Vec<&str> =
            nics.iter().filter(|nic| nic.path.as_ref().is_some_and(|path| path.value == STAGED)).map(|nic| nic.name.as_str()).collect();
        if !staged.is_empty() {
            let why = "no direct way works, so that copies through host memory are left, which were not tried";
            self.lack(&entry, format!("{}: {why}", staged.join(", ")));
        }
    }

    /// Why a GPU's memory was not registered.
    fn untried(&self, gpu: &TopologyGpu) -> String {
        let facts = self.material.gpus.and_then(|gpus| gpus.gpu(&gpu.address));
        let tried = self.material.gpu_memory.iter().filter(|tried| tried.gpu == gpu.address);
        let errors = tried.filter_map(|tried| tried.allocation_error.as_ref());
        let error =
            errors.chain(facts.and_then(|facts| facts.error.as_ref())).chain(self.material.gpus.and_then(|gpus| gpus.cuda.error.as_ref()));
        match error.map(ToString::to_string).next() {
            Some(error) => error,
            None if gpu.vendor_id != Some(NVIDIA) => "only memory of NVIDIA's GPUs can be tried".to_owned(),
            None if self.material.gpus.is_none() => "NVIDIA's driver is not loaded, or was not asked".to_owned(),
            None if facts.is_some_and(|facts| facts.cuda.is_none()) => "CUDA does not show this GPU (CUDA_VISIBLE_DEVICES?)".to_owned(),
            None => "the time for it was used up, or the device cannot be opened".to_owned(),
        }
    }

    /// The way from a GPU to a NIC; none where it was not tried.
    fn path(&mut self, gpu: &str, nic: &str) -> Option<GpuPath> {
        let found = self.material.gpu_memory.iter().find(|tried| tried.gpu == gpu && tried.device.as_deref() == Some(nic))?;
        if found.allocation_error.is_some() || found.device_error.is_some() {
            return None;
        }
        let mut tried = Vec::new();
        if found.by_dma_buf.is_some() || found.export_error.is_some() {
            tried.push(self.way("dmabuf", "ibv_reg_dmabuf_mr", found, found.by_dma_buf.as_ref(), nic));
        }
        if found.by_address.is_some() {
            tried.push(self.way("peermem", "ibv_reg_mr", found, found.by_address.as_ref(), nic));
        }
        let (works, fails): (Vec<Tried>, Vec<Tried>) = tried.into_iter().partition(|tried| tried.failure.is_none());
        let failed = fails
            .iter()
            .map(|one| FailedPath {
                kind: one.kind.to_owned(),
                why: one.failure.clone().unwrap_or_default(),
                evidence: one.evidence.clone(),
            })
            .collect();
        let mut works = works.into_iter();
        let (kind, evidence) = match works.next() {
            Some(best) => (best.kind.to_owned(), best.evidence),
            // What failed is what shows that nothing else is left.
            None => (STAGED.to_owned(), fails.first()?.evidence.clone()),
        };
        let also = works.map(|one| WorkingPath { kind: one.kind.to_owned(), evidence: one.evidence }).collect();
        Some(GpuPath { kind, nic: Some(nic.to_owned()), evidence, also, failed })
    }

    fn way(&mut self, kind: &'static str, call: &str, found: &GpuMemory, registration: Option<&Registration>, nic: &str) -> Tried {
        let failure = match registration {
            Some(Registration { error: Some(error), .. }) => Some(error.to_string()),
            Some(Registration { error: None, .. }) => None,
            None => Some(found.export_error.as_ref().map_or_else(|| "not tried".to_owned(), ToString::to_string)),
        };
        let elapsed = registration.and_then(|registration| registration.elapsed_us).unwrap_or(0);
        let outcome = failure.clone().unwrap_or_else(|| format!("registered in {elapsed} us"));
        let summary = format!("{call} on {nic}, {} bytes of GPU {}: {outcome}", found.bytes, found.gpu);
        let evidence = self.book.add_of(nic, EvidenceKind::Registration, summary);
        Tried { kind, evidence, failure }
    }
}

/// The way through host memory.
const STAGED: &str = "staged";
