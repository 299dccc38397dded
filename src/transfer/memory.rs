//! An end's memory: of which kind it is, which ways into the NIC were tried, and which one it is.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::layout::LEAST_BYTES;
use super::{EndpointPlan, TransferError};
use crate::gpu::{AllocKind, Buffer, Context, GpuError, GpuName, Kernels, Mapping, MemoryKind, Path, Pinned};
use crate::request::{PathTried, Refusal};
use crate::verbs::{CallError, ErrorNumber, ProtectionDomain, Region, Route};

/// What an end's memory is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StageMemory {
    /// As it was asked.
    #[schemars(with = "String")]
    pub kind: MemoryKind,
    pub gpu: Option<GpuIdentity>,
    /// The way into the NIC, where it is a GPU's.
    pub path: Option<Path>,
    /// How much was to be registered.
    #[serde(default)]
    pub bytes: u64,
    /// The ways that were tried, in this order.
    pub tried: Vec<PathTried>,
    /// Who writes and compares its contents, where it is a GPU's.
    #[serde(default)]
    pub comparing: Option<VerifySide>,
}

/// Who writes and compares the contents of GPU memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum VerifySide {
    /// The GPU, by kernels of this program.
    Gpu,
    /// The processor, by copies.
    Copies {
        /// Why the GPU does not.
        why: GpuError,
    },
}

/// A GPU by all of its names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GpuIdentity {
    /// Its number among those that CUDA shows.
    pub ordinal: u32,
    /// Its PCI address.
    pub pci: String,
    pub uuid: String,
}

impl StageMemory {
    /// Whether both are of one kind and GPU, and the same ways were refused for the same reasons: times may differ.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        let refused = |memory: &Self| memory.tried.iter().map(|tried| (tried.path, tried.refusal.clone())).collect::<Vec<_>>();
        (&self.kind, &self.gpu, self.path) == (&other.kind, &other.gpu, other.path) && refused(self) == refused(other)
    }

    /// For people: what it is and how the NIC gets at it.
    #[must_use]
    pub fn label(&self) -> String {
        match (&self.kind, self.path) {
            (MemoryKind::Gpu { gpu, form, .. }, Some(path)) => MemoryKind::Gpu { gpu: gpu.clone(), form: *form, path }.to_string(),
            (kind, _) => kind.to_string(),
        }
    }
}

/// Memory that patterns are written into and looked for in.
pub trait Bytes {
    fn length(&self) -> usize;
    /// Copies bytes out of it.
    fn read(&self, offset: usize, bytes: &mut [u8]);
    /// Copies bytes into it.
    fn write(&self, offset: usize, bytes: &[u8]);
}

impl Bytes for Region {
    fn length(&self) -> usize {
        Region::length(self)
    }

    fn read(&self, offset: usize, bytes: &mut [u8]) {
        Region::read(self, offset, bytes);
    }

    fn write(&self, offset: usize, bytes: &[u8]) {
        Region::write(self, offset, bytes);
    }
}

/// GPU memory that is copied through registered, locked host memory.
pub struct Staging {
    pub buffer: Buffer,
    pub pinned: Arc<Pinned>,
}

impl Bytes for Staging {
    fn length(&self) -> usize {
        self.buffer.length()
    }

    // What cannot be copied shows as wrong contents.
    fn read(&self, offset: usize, bytes: &mut [u8]) {
        let _ = self.buffer.read(offset, bytes);
    }

    fn write(&self, offset: usize, bytes: &[u8]) {
        let _ = self.buffer.write(offset, bytes);
    }
}

/// Memory of an end, registered.
pub struct Placed {
    pub region: Region,
    /// Where the region is only the way to the GPU's memory. Before it in the order of dropping goes the region.
    pub staging: Option<Staging>,
    /// What the GPU does itself with its memory.
    pub kernels: Option<Kernels>,
    /// The context of a GPU that has the memory.
    pub context: Option<Context>,
    pub memory: StageMemory,
}

/// Where memory comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Supply {
    Machine,
    /// A modelled host has it, and this machine's ordinary memory stands for it.
    Modelled {
        /// How many huge pages of 2 MiB are free.
        huge_pages: u64,
        /// Whether this machine's GPUs may be used.
        has_gpus: bool,
    },
}

/// Size of a huge page.
pub const HUGE_PAGE: usize = 2 << 20;

impl Supply {
    /// Whether it has no memory of a kind at all.
    fn lacks(self, kind: &MemoryKind) -> bool {
        kind.needs_cuda() && matches!(self, Self::Modelled { has_gpus: false, .. })
    }
}

/// Huge pages of a modelled host.
fn modelled_pages(pd: &ProtectionDomain, length: usize, free: u64) -> Result<Region, CallError> {
    let length = length.next_multiple_of(HUGE_PAGE);
    if (length / HUGE_PAGE) as u64 > free {
        let object = format!("{length} bytes in huge pages of 2 MiB");
        return Err(CallError { call: "mmap".to_owned(), object, errno: ErrorNumber(libc::ENOMEM) });
    }
    pd.register_pages(length)
}

/// Allocates what a plan asks for and registers it.
pub fn place(pd: &ProtectionDomain, plan: &EndpointPlan, supply: Supply) -> Result<Placed, TransferError> {
    if supply.lacks(&plan.memory) {
        let why = "the modelled host's GPU memory cannot be allocated; `--gpus local` takes this machine's".to_owned();
        return Err(TransferError::Unusable { why });
    }
    let length = usize::try_from(plan.memory_bytes).unwrap_or(0).max(LEAST_BYTES);
    let memory = StageMemory { kind: plan.memory.clone(), bytes: length as u64, ..StageMemory::default() };
    let of_host = |region| Placed { region, staging: None, kernels: None, context: None, memory: memory.clone() };
    match &plan.memory {
        MemoryKind::Host => shrinking(length, plan, |length| pd.register_pages(length)).map(of_host),
        MemoryKind::HostHuge => shrinking(length, plan, |length| match supply {
            Supply::Machine => pd.register_huge_pages(length),
            Supply::Modelled { huge_pages, .. } => modelled_pages(pd, length, huge_pages),
        })
        .map(of_host),
        MemoryKind::HostPinned => {
            // Which GPU's context allocates it makes no difference.
            let context = open(&GpuName::Ordinal(0), &memory)?;
            let pinned = context.allocate_pinned(length).map_err(|error| no_memory(&memory, error))?;
            Ok(of_host(pd.register_memory(Box::new(pinned), Route::Address)?))
        }
        MemoryKind::Gpu { gpu, form, path } => of_gpu(pd, plan, length, (gpu, *form, *path), memory),
    }
}

/// Registers as much as goes: locked memory may be short, and half of it may still do, down to what messages can lie in at all.
fn shrinking(
    mut length: usize,
    plan: &EndpointPlan,
    register: impl Fn(usize) -> Result<Region, CallError>,
) -> Result<Region, TransferError> {
    let least = plan.least_bytes.max(LEAST_BYTES as u64);
    loop {
        match register(length) {
            Err(error) if error.errno.0 == libc::ENOMEM && error.call == "ibv_reg_mr" && (length / 2) as u64 >= least => {
                length = (length / 2).next_multiple_of(8192);
            }
            registered => return Ok(registered?),
        }
    }
}

fn no_memory(memory: &StageMemory, error: GpuError) -> TransferError {
    TransferError::Memory { memory: Box::new(memory.clone()), error: Some(Box::new(error)) }
}

fn open(gpu: &GpuName, memory: &StageMemory) -> Result<Context, TransferError> {
    Context::open_named(gpu).map_err(|error| no_memory(memory, error))
}

fn of_gpu(
    pd: &ProtectionDomain,
    plan: &EndpointPlan,
    length: usize,
    (gpu, form, asked): (&GpuName, AllocKind, Path),
    mut memory: StageMemory,
) -> Result<Placed, TransferError> {
    let context = open(gpu, &memory)?;
    memory.gpu = Some(GpuIdentity { ordinal: context.ordinal(), pci: context.pci().to_owned(), uuid: context.uuid().to_owned() });
    let paths: Vec<Path> = Path::TRIED.into_iter().filter(|path| asked == Path::Auto || asked == *path).collect();
    for path in paths {
        let started = Instant::now();
        let refusal = match try_path(pd, plan, length, &context, form, path) {
            Ok((region, staging)) => {
                let elapsed_us = u64::try_from(started.elapsed().as_micros()).ok();
                memory.tried.push(PathTried { path, elapsed_us, refusal: None });
                memory.path = Some(path);
                let kernels = match context.kernels() {
                    Ok(kernels) => {
                        memory.comparing = Some(VerifySide::Gpu);
                        Some(kernels)
                    }
                    Err(why) => {
                        memory.comparing = Some(VerifySide::Copies { why });
                        None
                    }
                };
                return Ok(Placed { region, staging, kernels, context: Some(context), memory });
            }
            // Without memory there is nothing to try other ways with.
            Err(TryError::NoMemory(error)) => return Err(no_memory(&memory, error)),
            Err(TryError::Refused(refusal)) => refusal,
        };
        memory.tried.push(PathTried { path, elapsed_us: None, refusal: Some(refusal) });
    }
    Err(TransferError::Memory { memory: Box::new(memory), error: None })
}

enum TryError {
    NoMemory(GpuError),
    Refused(Refusal),
}

impl<E: Into<Refusal>> From<E> for TryError {
    fn from(error: E) -> Self {
        Self::Refused(error.into())
    }
}

fn try_path(
    pd: &ProtectionDomain,
    plan: &EndpointPlan,
    length: usize,
    context: &Context,
    form: AllocKind,
    path: Path,
) -> Result<(Region, Option<Staging>), TryError> {
    if path == Path::Staged && !plan.with_staged {
        let why = "the other end is another process, and a staged transfer copies on both sides in step".to_owned();
        return Err(TryError::Refused(Refusal::NotTried { why }));
    }
    let buffer = context.allocate_as(form, length).map_err(TryError::NoMemory)?;
    buffer.set(0).map_err(TryError::NoMemory)?;
    if path == Path::Staged {
        let pinned = Arc::new(context.allocate_pinned(length)?);
        let region = pd.register_memory(Box::new(pinned.clone()), Route::Address)?;
        return Ok((region, Some(Staging { buffer, pinned })));
    }
    Ok((register(pd, buffer, path)?, None))
}

/// Registers GPU memory by a way that lets the NIC at it directly.
fn register(pd: &ProtectionDomain, buffer: Buffer, path: Path) -> Result<Region, Refusal> {
    let mapping = match path {
        Path::DataDirect => Mapping::Pcie,
        Path::Dmabuf => Mapping::Default,
        _ => return Ok(pd.register_memory(Box::new(buffer), Route::Address)?),
    };
    let file = buffer.export_as(mapping)?;
    // The registration holds the dma-buf; the descriptor is not needed after it.
    let route =
        if path == Path::DataDirect { Route::DataDirect(file.as_fd(), file.offset()) } else { Route::DmaBuf(file.as_fd(), file.offset()) };
    Ok(pd.register_memory(Box::new(buffer), route)?)
}

/// Tries each way of letting a NIC at a buffer directly, and gives it back.
pub fn try_paths(pd: &ProtectionDomain, buffer: &Buffer) -> Vec<PathTried> {
    let one = |path: Path| {
        let registered = || -> Result<u64, Refusal> {
            let mapping = match path {
                Path::DataDirect => Mapping::Pcie,
                Path::Dmabuf => Mapping::Default,
                _ => return Ok(micros(pd.try_route(buffer.address(), buffer.length(), Route::Address)?)),
            };
            let file = buffer.export_as(mapping)?;
            let route = if path == Path::DataDirect {
                Route::DataDirect(file.as_fd(), file.offset())
            } else {
                Route::DmaBuf(file.as_fd(), file.offset())
            };
            Ok(micros(pd.try_route(buffer.address(), buffer.length(), route)?))
        };
        match registered() {
            Ok(elapsed_us) => PathTried { path, elapsed_us: Some(elapsed_us), refusal: None },
            Err(refusal) => PathTried { path, elapsed_us: None, refusal: Some(refusal) },
        }
    };
    [Path::Peermem, Path::Dmabuf, Path::DataDirect].into_iter().map(one).collect()
}

fn micros(elapsed: std::time::Duration) -> u64 {
    u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)
}
