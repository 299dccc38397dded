//! The kernel's log by syslog(2).

/// All records as text by one call of syslog(2), where it may be used (many containers forbid it): /dev/kmsg takes one for each record.
/// `None` where it is forbidden, empty, or longer than `most_bytes`.
pub(crate) fn read_all(most_bytes: usize) -> Option<String> {
    /// Actions of syslog(2).
    const READ_ALL: libc::c_int = 3;
    const SIZE_BUFFER: libc::c_int = 10;
    // SAFETY: this action takes no buffer.
    let size = unsafe { libc::klogctl(SIZE_BUFFER, std::ptr::null_mut(), 0) };
    // As text, records are longer than they are there.
    let mut bytes: Vec<u8> = Vec::with_capacity(usize::try_from(size).ok()?.checked_mul(2)?.min(most_bytes));
    let room = libc::c_int::try_from(bytes.capacity()).ok()?;
    // SAFETY: the buffer has that much room, and as much of it is filled as is returned.
    unsafe {
        let length = usize::try_from(libc::klogctl(READ_ALL, bytes.as_mut_ptr().cast(), room)).ok()?;
        bytes.set_len(length.min(bytes.capacity()));
    }
    // A full buffer may lack the first ones.
    (!bytes.is_empty() && bytes.len() < bytes.capacity()).then(|| String::from_utf8_lossy(&bytes).into_owned())
}
