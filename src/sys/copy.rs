//! A copy of this process by fork(2).

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

/// Ends a copy without what its parent has yet to do at its own end.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: ends this process.
    unsafe { libc::_exit(code) }
}
