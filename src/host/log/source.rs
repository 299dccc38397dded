//! Where the kernel's log is, and its lines.

use std::borrow::Cow;
use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::LogFacts;
use crate::host::{ReadError, ReadFailure, Root};
use crate::sys::kernel_log;

const KMSG: &str = "/dev/kmsg";

/// Files of log daemons that have the kernel's lines, the purest first.
const FILES: [&str; 4] = ["/var/log/kern.log", "/var/log/messages", "/var/log/syslog", "/var/log/dmesg"];

/// How much of the end of a file is read.
const TAIL_BYTES: u64 = 8 << 20;

/// Records of /dev/kmsg that are read at most: a full buffer of 16 MiB has some 200 000.
const MOST_RECORDS: usize = 400_000;

/// Bytes that are taken of it at once at most.
const MOST_BYTES: usize = 64 << 20;

/// A line of the log.
pub(super) struct Line<'a> {
    pub(super) time_us: Option<u64>,
    pub(super) message: &'a str,
}

pub(super) fn read(root: &Root) -> LogFacts {
    let mut facts = LogFacts::default();
    if root.is_host() && kmsg(&mut facts) {
        return facts;
    }
    for path in FILES {
        match tail(root, path) {
            Ok(None) => {}
            Ok(Some((bytes, is_partial))) => {
                facts.source = Some(path.to_owned());
                facts.is_partial |= is_partial;
                let text = String::from_utf8_lossy(&bytes);
                // A file of all programs' lines has the kernel's among them.
                let is_mixed = !path.ends_with("dmesg") && !path.ends_with("kern.log");
                for line in text.lines().filter_map(|line| of_daemon(line, is_mixed)) {
                    facts.add(&line);
                }
                break;
            }
            Err(error) => facts.problems.push(error),
        }
    }
    facts
}

/// Reads /dev/kmsg record by record (Documentation/ABI/testing/dev-kmsg). Whether it could be read at all.
fn kmsg(facts: &mut LogFacts) -> bool {
    let fail = |error: &std::io::Error| ReadError::new(Path::new(KMSG), ReadFailure::from_io(error));
    let mut device = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(KMSG) {
        Ok(device) => device,
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return false,
        Err(error) => {
            facts.problems.push(fail(&error));
            return false;
        }
    };
    // One read gives one record, of at most 8 KiB (CONSOLE_EXT_LOG_MAX) in older kernels.
    let mut buffer = vec![0; 16 << 10];
    let mut first = true;
    for _ in 0..MOST_RECORDS {
        match device.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => {
                let bytes = &buffer[..length];
                let text = std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed);
                if let Some((sequence, line)) = record(&text) {
                    if std::mem::take(&mut first) {
                        // The buffer holds the newest records only.
                        facts.is_partial |= sequence > 0;
                        if let Some(text) = kernel_log(MOST_BYTES) {
                            text.lines().filter_map(of_syslog).for_each(|line| facts.add(&line));
                            break;
                        }
                    }
                    facts.add(&line);
                }
            }
            // Overwritten while it was read: the next read goes on with the oldest that is left.
            Err(error) if error.raw_os_error() == Some(libc::EPIPE) => facts.is_partial = true,
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => break,
            Err(error) => {
                facts.problems.push(fail(&error));
                break;
            }
        }
    }
    // An empty log of a container's own device tells nothing: a file may.
    if facts.lines > 0 {
        facts.source = Some(KMSG.to_owned());
    }
    facts.lines > 0
}

/// `<6>[  123.456789] message`, and between them `[  T12]` or `[  C0]` where the kernel names who wrote it (CONFIG_PRINTK_CALLER).
pub(super) fn of_syslog(line: &str) -> Option<Line<'_>> {
    let (_, text) = line.strip_prefix('<')?.split_once('>')?;
    let line = timed(text);
    let caller = line.message.strip_prefix('[').and_then(|rest| rest.split_once(']')).filter(|(caller, _)| {
        let number = caller.trim_start().strip_prefix(['T', 'C']);
        number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    });
    Some(Line { message: caller.map_or(line.message, |(_, rest)| rest.trim_start()), ..line })
}

/// `priority,sequence,microseconds,flags;message`, then lines of properties.
pub(super) fn record(text: &str) -> Option<(u64, Line<'_>)> {
    let (head, rest) = text.split_once(';')?;
    let mut fields = head.split(',').skip(1);
    let sequence = fields.next()?.parse().ok()?;
    let time_us = fields.next().and_then(|time| time.parse().ok());
    Some((sequence, Line { time_us, message: rest.lines().next().unwrap_or_default() }))
}

/// The end of a file, from the start of a line, and whether there was more before.
fn tail(root: &Root, path: &str) -> Result<Option<(Vec<u8>, bool)>, ReadError> {
    let fail = |error: &std::io::Error| ReadError::new(Path::new(path), ReadFailure::from_io(error));
    let Some(mut source) = root.open(path)? else { return Ok(None) };
    let length = source.seek(SeekFrom::End(0)).map_err(|error| fail(&error))?;
    let start = length.saturating_sub(TAIL_BYTES);
    source.seek(SeekFrom::Start(start)).map_err(|error| fail(&error))?;
    let mut bytes = source.head(TAIL_BYTES).map_err(|error| fail(&error))?;
    if start > 0 {
        let cut = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |newline| newline + 1);
        bytes.drain(..cut);
    }
    Ok(Some((bytes, start > 0)))
}

/// A line such as `Nov 24 00:18:02 host kernel: [  123.456789] message`, or one of dmesg without what stands before the bracket.
pub(super) fn of_daemon(line: &str, is_mixed: bool) -> Option<Line<'_>> {
    let message = match line.split_once(" kernel: ") {
        Some((_, message)) => message,
        None if is_mixed => return None,
        None => line,
    };
    Some(timed(message))
}

/// `[  123.456789] message`, or a message without a time.
fn timed(message: &str) -> Line<'_> {
    let message = message.trim_start();
    let Some((time, rest)) = message.strip_prefix('[').and_then(|rest| rest.split_once(']')) else {
        return Line { time_us: None, message };
    };
    match seconds(time.trim()) {
        Some(time_us) => Line { time_us: Some(time_us), message: rest.strip_prefix(" kernel:").unwrap_or(rest).trim_start() },
        // A bracket that is part of the message.
        None => Line { time_us: None, message },
    }
}

/// `123.456789` in microseconds.
fn seconds(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.')?;
    if fraction.len() != 6 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    whole.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(fraction.parse().ok()?)
}
