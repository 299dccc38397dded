//! GPU memory as a dma-buf: ranges of whole pages, since the driver takes no others.
#![allow(unsafe_code, reason = "calls a C interface and owns what it returns")]

use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

use cudarc::driver::sys::{self, CUmemRangeFlags_enum, CUmemRangeHandleType};
use nix::sys::stat::fstat;
use nix::unistd::{SysconfVar, sysconf};

use super::context::need;
use super::cuda::checked;
use super::{Buffer, GpuError, reach};

/// A descriptor of GPU memory.
pub struct DmaBuf {
    file: OwnedFd,
    identity: Option<(u64, u64)>,
    /// Where the buffer's first byte is, from the descriptor's first.
    offset: u64,
}

/// How a dma-buf is to be reached by other devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mapping {
    /// As the driver sees fit.
    Default,
    /// Through BAR1 over PCIe: what a data-direct device takes (CU_MEM_RANGE_FLAG_DMA_BUF_MAPPING_TYPE_PCIE, CUDA 12.8).
    Pcie,
}

/// The whole pages around a range: where they begin, their length, and where in them the range begins.
///
/// CUDA driver API, cuMemGetHandleForAddressRange: address and size must be aligned to the host's page size.
#[must_use]
pub fn whole_pages(address: u64, bytes: u64, page: u64) -> (u64, u64, u64) {
    let page = page.max(1);
    let start = address / page * page;
    let end = address.saturating_add(bytes).div_ceil(page).saturating_mul(page);
    (start, end - start, address - start)
}

impl Buffer {
    /// A dma-buf of all of it.
    ///
    /// # Errors
    /// `cuMemGetHandleForAddressRange` is not there (before CUDA 11.7) or refused.
    pub fn export(&self) -> Result<DmaBuf, GpuError> {
        self.export_as(Mapping::Default)
    }

    /// As [`Self::export`], for another way of being reached.
    ///
    /// # Errors
    /// As [`Self::export`].
    pub fn export_as(&self, mapping: Mapping) -> Result<DmaBuf, GpuError> {
        let call = "cuMemGetHandleForAddressRange";
        need(call)?;
        self.context().enter()?;
        let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|page| u64::try_from(page).ok()).unwrap_or(4096);
        let (start, length, offset) = whole_pages(self.address(), self.length() as u64, page);
        // An allocation begins on a page in all that was seen; where one did not, the driver says so itself.
        let length = if offset == 0 { length.min(self.allocated() as u64) } else { length };
        let mut file = -1;
        let kind = CUmemRangeHandleType::CU_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD;
        let flags = match mapping {
            Mapping::Default => 0,
            Mapping::Pcie => CUmemRangeFlags_enum::CU_MEM_RANGE_FLAG_DMA_BUF_MAPPING_TYPE_PCIE as u64,
        };
        // SAFETY: for this kind of handle an int is written; the range is of the allocation's own pages.
        let code = unsafe { sys::cuMemGetHandleForAddressRange((&raw mut file).cast(), start, length as usize, kind, flags) };
        checked(call, self.context().pci(), code)?;
        // SAFETY: a new descriptor, which nobody else closes.
        let file = unsafe { OwnedFd::from_raw_fd(file) };
        let identity = identity(file.as_fd());
        if let Some(identity) = identity {
            reach::exported(identity, start, length as usize);
        }
        Ok(DmaBuf { file, identity, offset })
    }
}

/// What tells a file from all others.
pub(super) fn identity(file: BorrowedFd<'_>) -> Option<(u64, u64)> {
    fstat(file).ok().map(|found| (found.st_dev, found.st_ino))
}

impl DmaBuf {
    /// Where the buffer's first byte is, from the descriptor's first.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }
}

impl AsFd for DmaBuf {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for DmaBuf {
    fn drop(&mut self) {
        if let Some(identity) = self.identity {
            reach::closed(identity);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::whole_pages;

    #[test]
    fn ranges_are_widened_to_whole_pages() {
        assert_eq!(whole_pages(0x20_0000, 4096, 4096), (0x20_0000, 4096, 0));
        assert_eq!(whole_pages(0x20_0200, 4096, 4096), (0x20_0000, 8192, 0x200));
        assert_eq!(whole_pages(0x20_0fff, 1, 4096), (0x20_0000, 4096, 0xfff));
        assert_eq!(whole_pages(0x21_0000, 100, 65536), (0x21_0000, 65536, 0));
    }
}
