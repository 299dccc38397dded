//! GPU memory of this process, found by its address: for code that is given addresses as a device is, which is what the simulated provider does.
#![allow(unsafe_code, reason = "calls a C interface with addresses")]

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cudarc::driver::sys;

use super::cuda::checked;
use super::{Context, GpuError, export};

#[derive(Default)]
struct Known {
    /// First address to length, GPU, and whether peer-memory clients can have it.
    ranges: BTreeMap<u64, (usize, Context, bool)>,
    /// Dma-bufs that are open: what they are of.
    exports: BTreeMap<(u64, u64), (u64, usize)>,
    /// What was written and is under way, for a simulation of a device whose writes come late: addresses and bytes.
    late: Vec<(u64, Vec<u8>)>,
}

static KNOWN: Mutex<Known> = Mutex::new(Known { ranges: BTreeMap::new(), exports: BTreeMap::new(), late: Vec::new() });

fn known() -> MutexGuard<'static, Known> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn add(address: u64, bytes: usize, context: &Context, is_for_peers: bool) {
    known().ranges.insert(address, (bytes, context.clone(), is_for_peers));
}

pub(super) fn remove(address: u64) {
    // Dropped after the lock is: the last clone releases the context.
    let gone = known().ranges.remove(&address);
    drop(gone);
}

pub(super) fn exported(identity: (u64, u64), address: u64, bytes: usize) {
    known().exports.insert(identity, (address, bytes));
}

pub(super) fn closed(identity: (u64, u64)) {
    known().exports.remove(&identity);
}

/// The GPU that has all of a range, and whether peer-memory clients can have it.
fn found(address: u64, bytes: usize) -> Option<(Context, bool)> {
    let known = known();
    let (start, (length, context, is_for_peers)) = known.ranges.range(..=address).next_back()?;
    let end = (address - start).checked_add(bytes as u64)?;
    (end <= *length as u64).then(|| (context.clone(), *is_for_peers))
}

fn context(address: u64, bytes: usize) -> Option<Context> {
    found(address, bytes).map(|(context, _)| context)
}

/// Whether a range is memory of a GPU that this process allocated; then, whether peer-memory clients can have it.
#[must_use]
pub fn gpu_memory(address: u64, bytes: usize) -> Option<bool> {
    found(address, bytes).map(|(_, is_for_peers)| is_for_peers)
}

/// What an open dma-buf is of: address and length.
#[must_use]
pub fn of_dma_buf(file: BorrowedFd<'_>) -> Option<(u64, usize)> {
    known().exports.get(&export::identity(file)?).copied()
}

/// Lets bytes be under way to GPU memory, until they arrive by [`arrive`] or a flush.
pub fn write_late(address: u64, bytes: &[u8]) {
    known().late.push((address, bytes.to_vec()));
}

/// Lets what is under way arrive. Memory that is gone by then is left alone.
pub fn arrive() {
    let late = std::mem::take(&mut known().late);
    for (address, bytes) in late {
        let _ = write(address, &bytes);
    }
}

/// Copies bytes to GPU memory.
///
/// # Errors
/// There is none at the address, or `cuMemcpyHtoD` failed.
pub fn write(address: u64, bytes: &[u8]) -> Result<(), GpuError> {
    let context = context(address, bytes.len()).ok_or_else(|| nowhere(address))?;
    context.enter()?;
    // SAFETY: within an allocation of this process.
    checked("cuMemcpyHtoD_v2", context.pci(), unsafe { sys::cuMemcpyHtoD_v2(address, bytes.as_ptr().cast(), bytes.len()) })?;
    // What a device has written is there when it says so.
    context.settle()
}

/// Copies bytes from GPU memory.
///
/// # Errors
/// As for writing.
pub fn read(address: u64, bytes: &mut [u8]) -> Result<(), GpuError> {
    let context = context(address, bytes.len()).ok_or_else(|| nowhere(address))?;
    context.enter()?;
    // SAFETY: within an allocation of this process.
    checked("cuMemcpyDtoH_v2", context.pci(), unsafe { sys::cuMemcpyDtoH_v2(bytes.as_mut_ptr().cast(), address, bytes.len()) })
}

fn nowhere(address: u64) -> GpuError {
    GpuError::NotAsked { why: format!("{address:#x} is no GPU memory of this process") }
}
