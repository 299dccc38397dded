//! Memory regions: registering, checking keys, and copying in and out of registered memory.
//!
//! Addresses are those of the application, which keeps the memory alive while it is registered, as ibv_reg_mr(3) demands; a device would
//! hold the pages. Other threads may look at the memory while it is copied, which is how applications wait for a write without a
//! completion: so the last byte is stored after all others, in one atomic store.
#![allow(unsafe_code, reason = "entry points of a C interface, and memory named by number")]

use std::ffi::{c_int, c_void};
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::ptr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use rdma_sys::*;

use super::device::{Home, failed, null};
use super::world::{Mr, Piece, World};
use crate::catalog::ObjectKind;
use crate::gpu::reach;
use crate::verbs::DATA_DIRECT;

const LOCAL_WRITE: u32 = 1;
/// The peer may write.
pub const REMOTE_WRITE: u32 = 1 << 1;
/// The peer may read.
pub const REMOTE_READ: u32 = 1 << 2;
/// The peer may do atomic operations.
pub const REMOTE_ATOMIC: u32 = 1 << 3;
const ZERO_BASED: u32 = 1 << 5;

/// A stretch of memory that was checked.
#[derive(Clone, Copy)]
pub struct Span {
    host: usize,
    length: usize,
    is_gpu: bool,
}

impl World {
    fn in_region(&self, key: u32, pd: u32, addr: u64, length: u64, access: u32) -> Option<Span> {
        let mr = self.mrs.get(&key).filter(|mr| mr.pd == pd && mr.access & access == access)?;
        let offset = addr.checked_sub(mr.iova)?;
        (offset.checked_add(length)? <= mr.length).then_some(Span {
            host: mr.host + offset as usize,
            length: length as usize,
            is_gpu: mr.is_gpu,
        })
    }

    /// The memory of a work request, if keys, domain, bounds and access permit; empty pieces need none of it.
    pub fn spans(&self, pd: u32, pieces: &[Piece], is_written: bool) -> Option<Vec<Span>> {
        let access = if is_written { LOCAL_WRITE } else { 0 };
        let used = pieces.iter().filter(|piece| piece.length > 0);
        used.map(|piece| self.in_region(piece.lkey, pd, piece.addr, u64::from(piece.length), access)).collect()
    }

    /// The memory that a peer names.
    pub fn remote_span(&self, pd: u32, rkey: u32, addr: u64, length: u64, access: u32) -> Option<Span> {
        // No key is looked at where no byte is (IBTA 1.5, C9-88).
        if length == 0 {
            return Some(Span { host: 0, length: 0, is_gpu: false });
        }
        self.in_region(rkey, pd, addr, length, access)
    }
}

impl World {
    /// Lets bytes be under way to memory.
    pub fn write_late(&mut self, span: Span, bytes: Vec<u8>) {
        if span.is_gpu {
            reach::write_late(span.host as u64, &bytes);
        } else {
            self.late.push((span, bytes));
        }
    }

    /// Lets what is under way arrive.
    pub fn arrive(&mut self) {
        reach::arrive();
        for (span, bytes) in self.late.drain(..) {
            scatter(&[span], &bytes);
        }
    }
}

/// How many bytes there are.
pub fn length_of(spans: &[Span]) -> usize {
    spans.iter().map(|span| span.length).sum()
}

/// Reads them all.
pub fn gather(spans: &[Span]) -> Vec<u8> {
    let mut bytes = Vec::<u8>::with_capacity(length_of(spans));
    for span in spans {
        if span.is_gpu {
            let mut piece = vec![0; span.length];
            // What CUDA does not give is seen as wrong contents.
            let _ = reach::read(span.host as u64, &mut piece);
            bytes.extend_from_slice(&piece);
            continue;
        }
        // SAFETY: inside of a registered region, which the application keeps alive; the room was reserved.
        unsafe {
            let at = bytes.as_mut_ptr().add(bytes.len());
            ptr::copy_nonoverlapping(ptr::with_exposed_provenance::<u8>(span.host), at, span.length);
            bytes.set_len(bytes.len() + span.length);
        }
    }
    bytes
}

/// Writes as many bytes as there are, from the first span on.
pub fn scatter(spans: &[Span], mut bytes: &[u8]) {
    for span in spans {
        let (now, later) = bytes.split_at(span.length.min(bytes.len()));
        if span.is_gpu {
            let _ = reach::write(span.host as u64, now);
            bytes = later;
            continue;
        }
        let Some((last, rest)) = now.split_last() else { return };
        // SAFETY: inside of a registered region, which the application keeps alive and permits to be written to.
        unsafe {
            let at = ptr::with_exposed_provenance_mut::<u8>(span.host);
            ptr::copy_nonoverlapping(rest.as_ptr(), at, rest.len());
            AtomicU8::from_ptr(at.add(rest.len())).store(*last, Ordering::Release);
        }
        bytes = later;
    }
}

/// Changes eight bytes and gives what they were; `None` if they are not aligned.
pub fn atomic(span: Span, change: impl Fn(u64) -> u64) -> Option<u64> {
    // A NIC's atomic operations on GPU memory are PCIe's, which CUDA's copies are not.
    if span.length != 8 || !span.host.is_multiple_of(8) || span.is_gpu {
        return None;
    }
    // SAFETY: inside of a registered region, aligned, and changed by atomic operations.
    let value = unsafe { AtomicU64::from_ptr(ptr::with_exposed_provenance_mut(span.host)) };
    value.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |old| Some(change(old))).ok()
}

/// Whether every page is mapped. The kernel pins pages and answers EFAULT for one that is not there.
fn is_mapped(addr: usize, length: usize) -> bool {
    const PAGE: usize = 4096;
    const CHUNK: usize = 1 << 12;
    let mut resident = [0_u8; CHUNK];
    let (mut at, Some(end)) = (addr & !(PAGE - 1), addr.checked_add(length)) else { return false };
    while at < end {
        let bytes = (end - at).min(CHUNK * PAGE);
        // SAFETY: mincore looks at page tables only, and has a byte for each of at most CHUNK pages.
        if unsafe { libc::mincore(ptr::with_exposed_provenance_mut(at), bytes, resident.as_mut_ptr()) } != 0 {
            return false;
        }
        at += bytes;
    }
    true
}

/// Where a region's memory is.
struct Place {
    host: usize,
    is_mapped: bool,
    is_gpu: bool,
}

/// Makes the region; `place` gives where it is once all else is granted.
fn register(
    home: Home,
    call: &str,
    pd: u32,
    (iova, length, access): (u64, usize, u32),
    place: impl FnOnce() -> Result<Place, i32>,
) -> Result<u32, i32> {
    let parameters = [("length_bytes", length as u64), ("access", u64::from(access))];
    let mut locked = home.enter(call, &parameters)?;
    home.at().model.reg_mr(length as u64, access).map_err(|refusal| super::queues::errno_of(&refusal))?;
    locked.has_room(home.device, ObjectKind::MemoryRegion)?;
    if let Some(limit) = home.provider.memlock_bytes {
        let locked_bytes = locked.mrs.values().fold(length as u64, |sum, mr| sum.saturating_add(mr.length));
        // core/umem.c, ib_umem_get: EPERM where nothing can be locked at all.
        match limit {
            0 => return Err(libc::EPERM),
            limit if locked_bytes > limit => return Err(libc::ENOMEM),
            _ => {}
        }
    }
    let Place { host, is_mapped, is_gpu } = place()?;
    // Eight bits that change with every use of an index, as the keys of devices have (core/verbs.h, ib_inc_rkey).
    let key = locked.new_id() << 8 | 0x5a;
    let iova = if access & ZERO_BASED != 0 { 0 } else { iova };
    locked.mrs.insert(key, Mr { pd, iova, host, length: length as u64, access, is_mapped, is_gpu });
    locked.use_pd(pd);
    Ok(key)
}

unsafe fn publish(pd: *mut ibv_pd, addr: *mut c_void, length: usize, made: Result<u32, i32>) -> *mut ibv_mr {
    match made {
        Ok(key) => {
            // SAFETY: the domain is alive.
            let context = unsafe { (*pd).context };
            Box::into_raw(Box::new(ibv_mr { context, pd, addr, length, handle: key, lkey: key, rkey: key }))
        }
        Err(errno) => null(errno),
    }
}

pub unsafe extern "C" fn reg_mr(pd: *mut ibv_pd, addr: *mut c_void, length: usize, access: c_int) -> *mut ibv_mr {
    // SAFETY: a domain.
    let (home, id) = unsafe { (Home::of((*pd).context), (*pd).handle) };
    let host = addr.expose_provenance();
    let made = register(home, "ibv_reg_mr", id, (host as u64, length, access as u32), || {
        match reach::gpu_memory(host as u64, length) {
            // As nvidia_peermem answers; without a client the kernel finds no pages there.
            Some(is_for_peers) if is_for_peers && home.provider.takes_gpu_addresses => Ok(Place { host, is_mapped: false, is_gpu: true }),
            None if is_mapped(host, length) => Ok(Place { host, is_mapped: false, is_gpu: false }),
            _ => Err(libc::EFAULT),
        }
    });
    // SAFETY: the domain is alive.
    unsafe { publish(pd, addr, length, made) }
}

pub unsafe extern "C" fn reg_dmabuf_mr(pd: *mut ibv_pd, offset: u64, length: usize, iova: u64, fd: c_int, access: c_int) -> *mut ibv_mr {
    // SAFETY: passed on under the same terms.
    unsafe { register_dma_buf("ibv_reg_dmabuf_mr", pd, offset, length, iova, fd, access) }
}

/// libmlx5's call, which takes the data-direct device for its one flag. Devices that are not mlx5's are refused with EOPNOTSUPP
/// (mlx5dv_reg_dmabuf_mr(3)); the kernel's driver refuses with EINVAL where there is no data-direct device (drivers/infiniband/hw/mlx5/mr.c,
/// reg_user_mr_dmabuf_by_data_direct).
pub unsafe extern "C" fn mlx5dv_reg_dmabuf_mr(
    pd: *mut ibv_pd,
    offset: u64,
    length: usize,
    iova: u64,
    fd: c_int,
    access: c_int,
    mlx5_access: c_int,
) -> *mut ibv_mr {
    // SAFETY: a domain.
    let home = unsafe { Home::of((*pd).context) };
    if home.at().model.family != "mlx5" {
        return null(libc::EOPNOTSUPP);
    }
    if mlx5_access != DATA_DIRECT || !home.at().data_direct {
        return null(libc::EINVAL);
    }
    // SAFETY: passed on under the same terms.
    unsafe { register_dma_buf("mlx5dv_reg_dmabuf_mr", pd, offset, length, iova, fd, access) }
}

unsafe fn register_dma_buf(call: &str, pd: *mut ibv_pd, offset: u64, length: usize, iova: u64, fd: c_int, access: c_int) -> *mut ibv_mr {
    // SAFETY: a domain.
    let (home, id) = unsafe { (Home::of((*pd).context), (*pd).handle) };
    if !home.at().model.takes_dma_buf(&home.provider.kernel) {
        return null(libc::EOPNOTSUPP);
    }
    let map = || {
        if fd < 0 {
            return Err(libc::EBADF);
        }
        if (offset ^ iova) & 0xfff != 0 {
            return Err(libc::EINVAL);
        }
        // SAFETY: the number is the caller's open file.
        if let Some((start, bytes)) = reach::of_dma_buf(unsafe { BorrowedFd::borrow_raw(fd) }) {
            let fits = offset.checked_add(length as u64).is_some_and(|end| end <= bytes as u64);
            return if fits { Ok(Place { host: (start + offset) as usize, is_mapped: false, is_gpu: true }) } else { Err(libc::EINVAL) };
        }
        let skip = offset & 0xfff;
        let bytes = length.checked_add(skip as usize).and_then(NonZeroUsize::new).ok_or(libc::EINVAL)?;
        let start = libc::off_t::try_from(offset - skip).map_err(|_| libc::EINVAL)?;
        // SAFETY: a new mapping, whose memory is reached through registered regions only; the number is the caller's open file.
        let mapped = unsafe {
            let file = BorrowedFd::borrow_raw(fd);
            mmap(None, bytes, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED, file, start)
        };
        let host = mapped.map(|at| at.as_ptr().expose_provenance() + skip as usize).map_err(|error| error as i32)?;
        Ok(Place { host, is_mapped: true, is_gpu: false })
    };
    let made = register(home, call, id, (iova, length, access as u32), map);
    // SAFETY: the domain is alive.
    unsafe { publish(pd, ptr::without_provenance_mut(iova as usize), length, made) }
}

pub unsafe extern "C" fn dereg_mr(mr: *mut ibv_mr) -> c_int {
    // SAFETY: a region that was registered and nobody has freed.
    unsafe {
        match Home::of((*mr).context).enter_to_destroy("ibv_dereg_mr") {
            Ok(mut locked) => {
                // Memory goes with its registration.
                locked.arrive();
                if let Some(gone) = locked.mrs.remove(&(*mr).handle) {
                    locked.release_pd(gone.pd);
                    unmap(gone);
                }
                drop(Box::from_raw(mr));
            }
            Err(errno) => return failed(errno),
        }
    }
    0
}

fn unmap(mr: Mr) {
    let skip = mr.host & 0xfff;
    if mr.is_mapped
        && let Some(start) = ptr::NonNull::new(ptr::with_exposed_provenance_mut::<c_void>(mr.host - skip))
    {
        // SAFETY: the mapping of `reg_dmabuf_mr`, which no region reaches any more. It can only fail for arguments that are not one.
        let _ = unsafe { munmap(start, mr.length as usize + skip) };
    }
}
