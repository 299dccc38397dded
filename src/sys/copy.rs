//! A copy of this process by fork(2).

use std::num::NonZeroUsize;
use std::sync::atomic::AtomicU64;

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use nix::unistd::ForkResult;

/// Makes a copy of this process. `None` where that fails, or where there is another thread, which could hold a lock that the copy would
/// wait for.
pub(crate) fn fork() -> Option<ForkResult> {
    if std::fs::read_dir("/proc/self/task").ok()?.count() != 1 {
        return None;
    }
    // SAFETY: this process has no other thread that could hold a lock, so its copy may do all that it could itself.
    unsafe { nix::unistd::fork() }.ok()
}

/// A number that this process and its copies both have.
pub(crate) fn shared_counter() -> Option<&'static AtomicU64> {
    let length = NonZeroUsize::new(size_of::<AtomicU64>())?;
    // SAFETY: a mapping of its own, of zeros and at a page's beginning, that lasts as long as the process does.
    unsafe {
        let page = mmap_anonymous(None, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED).ok()?;
        Some(page.cast().as_ref())
    }
}

/// Ends a copy without what its parent has yet to do at its own end.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: ends this process.
    unsafe { libc::_exit(code) }
}
