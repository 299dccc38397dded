//! The process that serves: the program started anew, or a copy of this one, which is there sooner and does for reading files.

use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Child, ExitStatus};

use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, dup2_stderr, dup2_stdout, getppid, setpgid};

use super::child::serve_on;
use crate::sys;

pub(super) enum Process {
    Program(Child),
    /// Made by fork(2).
    Copy(Pid),
}

impl Process {
    pub(super) fn id(&self) -> u32 {
        match self {
            Self::Program(child) => child.id(),
            Self::Copy(child) => child.as_raw().unsigned_abs(),
        }
    }

    /// How it ended, if it has.
    pub(super) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        let child = match self {
            Self::Program(child) => return child.try_wait(),
            Self::Copy(child) => *child,
        };
        // As wait(2) encodes it.
        let raw = match waitpid(child, Some(WaitPidFlag::WNOHANG))? {
            WaitStatus::Exited(_, code) => code << 8,
            WaitStatus::Signaled(_, signal, _) => signal as i32,
            _ => return Ok(None),
        };
        Ok(Some(ExitStatus::from_raw(raw)))
    }

    pub(super) fn kill(&mut self) {
        let _ = match self {
            Self::Program(child) => child.kill(),
            Self::Copy(child) => kill(*child, Signal::SIGKILL).map_err(io::Error::from),
        };
    }
}

/// What a copy does: it serves its parent, and ends with it.
pub(super) fn serve_as_copy(socket: UnixStream, printed: &File, parent: Pid) -> ! {
    let serve = || -> anyhow::Result<()> {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // What a panic says is the parent's to tell.
        dup2_stdout(printed)?;
        dup2_stderr(printed)?;
        anyhow::ensure!(getppid() == parent, "the parent has ended already");
        // Ctrl-C is for the parent, which then ends the copy.
        setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
        serve_on(socket)
    };
    let served = catch_unwind(AssertUnwindSafe(serve));
    sys::exit(i32::from(!matches!(served, Ok(Ok(())))))
}
