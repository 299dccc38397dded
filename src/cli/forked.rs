//! A look that a forked copy of this process takes, which may hang or die in its stead.
//!
//! The usual child ([`crate::worker`]) is a program that is started and answers in messages. Starting it, writing down what it has read and reading
//! that again take longer than a brief look at files itself. A copy made by fork(2) has everything already, and hands back the words to print
//! and nothing else. It reads files only: libraries are loaded by the usual child.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, getppid, pipe2, setpgid};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::host::count_reading_by;
use crate::sys;

/// How long nothing more may be read before the copy is given up.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often a wait looks whether the copy goes on and the user has not interrupted it, in milliseconds.
const SLICE_MS: u8 = 100;
/// How often, and with which pause, it is looked whether a copy that was killed is gone.
const REAPS: u32 = 20;
const REAP_PAUSE: Duration = Duration::from_millis(5);

/// The words to print, and the exit code.
pub type Report = (String, u8);

/// Has `look` taken by a copy of this process, to be called before there are other threads; the sooner, the less both have to hold. `None` where
/// nothing came of it: it hung, died, failed, or the user interrupted. Then nothing was printed, and it can be taken in another way.
pub fn run(interrupted: &Arc<AtomicBool>, look: impl FnOnce() -> anyhow::Result<Report>) -> Option<Report> {
    let counter = sys::shared_counter()?;
    let (hears, tells) = pipe2(OFlag::O_CLOEXEC).ok()?;
    let parent = Pid::this();
    match sys::fork()? {
        ForkResult::Parent { child } => {
            drop(tells);
            for signal in [SIGINT, SIGTERM] {
                signal_hook::flag::register(signal, interrupted.clone()).ok()?;
            }
            let report = hear(&mut File::from(hears), counter, interrupted);
            if report.is_none() {
                end(child);
                return None;
            }
            matches!(waitpid(child, None), Ok(WaitStatus::Exited(_, 0))).then_some(report).flatten()
        }
        ForkResult::Child => {
            drop(hears);
            count_reading_by(counter);
            let is_told = catch_unwind(AssertUnwindSafe(|| tell(File::from(tells), parent, look))).unwrap_or(None).is_some();
            sys::exit(i32::from(!is_told))
        }
    }
}

/// Kills a copy and waits until it is gone; one that the kernel holds does not go, and is left to init.
fn end(child: Pid) {
    let _ = kill(child, Signal::SIGKILL);
    for _ in 0..REAPS {
        if waitpid(child, Some(WaitPidFlag::WNOHANG)) != Ok(WaitStatus::StillAlive) {
            return;
        }
        std::thread::sleep(REAP_PAUSE);
    }
}

/// The copy's part.
fn tell(mut tells: File, parent: Pid, look: impl FnOnce() -> anyhow::Result<Report>) -> Option<()> {
    // It ends with its parent, which may have ended already; and Ctrl-C is for the parent, which then ends it.
    prctl::set_pdeathsig(Signal::SIGKILL).ok()?;
    if getppid() != parent {
        return None;
    }
    setpgid(Pid::from_raw(0), Pid::from_raw(0)).ok()?;
    let (text, code) = look().ok()?;
    let mut report = vec![code];
    report.extend_from_slice(text.as_bytes());
    tells.write_all(&report).ok()
}

/// The parent's part: the report, when it has come whole. `counter` is whatever grows as long as the copy goes on.
fn hear(hears: &mut File, counter: &AtomicU64, interrupted: &AtomicBool) -> Option<Report> {
    let mut report = Vec::new();
    let mut chunk = [0; 4096];
    let (mut count, mut moved) = (0, Instant::now());
    loop {
        let came = poll(&mut [PollFd::new(hears.as_fd(), PollFlags::POLLIN)], PollTimeout::from(SLICE_MS));
        let is_there = came.is_ok_and(|files| files > 0);
        let now = counter.load(Ordering::Relaxed);
        if is_there || now != count {
            (count, moved) = (now, Instant::now());
        }
        if interrupted.load(Ordering::Relaxed) || moved.elapsed() >= PATIENCE {
            return None;
        }
        if is_there {
            match hears.read(&mut chunk) {
                Ok(0) => break,
                Ok(length) => report.extend_from_slice(&chunk[..length]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
    }
    let (code, text) = report.split_first()?;
    Some((String::from_utf8(text.to_vec()).ok()?, *code))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `hear` of what somebody tells, which is asked to go away after it.
    fn heard(counter: &'static AtomicU64, tell: impl FnOnce(&mut File) + Send + 'static) -> Option<Report> {
        let (hears, tells) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let teller = std::thread::spawn(move || tell(&mut File::from(tells)));
        let heard = hear(&mut File::from(hears), counter, &AtomicBool::new(false));
        teller.join().unwrap();
        heard
    }

    static STILL: AtomicU64 = AtomicU64::new(0);

    #[test]
    fn a_report_is_heard_whole() {
        assert_eq!(heard(&STILL, |tells| tells.write_all(b"\x01all = well\n").unwrap()), Some(("all = well\n".to_owned(), 1)));
        let long = "x".repeat(1 << 20);
        let told = format!("\0{long}");
        assert_eq!(heard(&STILL, move |tells| tells.write_all(told.as_bytes()).unwrap()), Some((long, 0)));
        assert_eq!(heard(&STILL, |_| ()), None);
    }

    #[test]
    fn what_goes_on_is_waited_for_and_what_hangs_is_not() {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let goes_on = |tells: &mut File| {
            for _ in 0..15 {
                std::thread::sleep(PATIENCE / 10);
                COUNTER.fetch_add(1, Ordering::Relaxed);
            }
            tells.write_all(b"\0late").unwrap();
        };
        assert_eq!(heard(&COUNTER, goes_on), Some(("late".to_owned(), 0)));
        let (hears, _tells) = pipe2(OFlag::O_CLOEXEC).unwrap();
        assert_eq!(hear(&mut File::from(hears), &STILL, &AtomicBool::new(false)), None);
        let (hears, _tells) = pipe2(OFlag::O_CLOEXEC).unwrap();
        assert_eq!(hear(&mut File::from(hears), &STILL, &AtomicBool::new(true)), None);
    }
}
