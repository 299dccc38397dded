//! Questions of `ethtool` by ioctl(2).

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;

/// include/uapi/linux/sockios.h.
const SIOCETHTOOL: u32 = 0x8946;

/// Asks an interface's driver. What it answers is written over the question, which has room for it.
pub(crate) fn ask<T>(socket: &OwnedFd, netdev: &str, question: &mut [T]) -> nix::Result<()> {
    // SAFETY: all zeros is a request without a name.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero.
    if netdev.len() >= request.ifr_name.len() {
        return Err(Errno::ENODEV);
    }
    for (to, from) in request.ifr_name.iter_mut().zip(netdev.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = question.as_mut_ptr().cast();
    // SAFETY: the request names a buffer that lives as long as the call, and has room for what this command writes; the socket is open.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) };
    Errno::result(answer).map(drop)
}
