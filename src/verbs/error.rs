//! Errors of this layer: a library that cannot be loaded, and a call that was refused.

use std::fmt;
use std::path::PathBuf;

use nix::errno::Errno;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why the verbs library cannot be used at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum LoadError {
    /// The dynamic linker found no such file.
    #[error("{} was not found: rdma-core's user-space library is not installed here", library.display())]
    LibraryMissing {
        /// What was asked for.
        library: PathBuf,
    },
    /// The file is there, but the dynamic linker refused it.
    #[error("{} cannot be loaded: {detail}", library.display())]
    LibraryUnusable {
        /// What was asked for.
        library: PathBuf,
        /// The dynamic linker's own words.
        detail: String,
    },
    /// The library lacks an entry point that rdmadoctor needs: an older rdma-core, or another library altogether.
    #[error("{} has no `{symbol}`: an older rdma-core than v13, or not this library", library.display())]
    SymbolMissing {
        /// What was loaded.
        library: PathBuf,
        /// The entry point that it lacks.
        symbol: String,
    },
}

impl LoadError {
    /// The command that mends it, where there is one.
    #[must_use]
    pub fn next_step(&self) -> &'static str {
        match self {
            Self::LibraryMissing { .. } => {
                "install it (Debian, Ubuntu: apt-get install libibverbs1 ibverbs-providers; RHEL: dnf install libibverbs), or name another with --libibverbs PATH"
            }
            Self::LibraryUnusable { .. } => "check the file with `ldd`, or name another with --libibverbs PATH",
            Self::SymbolMissing { .. } => "upgrade rdma-core, or name another library with --libibverbs PATH",
        }
    }
}

/// A system error number as a call left it. 0 says that the call failed without setting one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ErrorNumber(pub i32);

impl ErrorNumber {
    /// The symbolic name, as errno(3) lists it: `EINVAL`.
    #[must_use]
    pub fn name(self) -> String {
        match (self.0, Errno::from_raw(self.0)) {
            (0, _) => "no errno".to_owned(),
            // The kernel's name; glibc's EOPNOTSUPP and ENOTSUP are one number.
            (_, Errno::UnknownErrno) => format!("errno {}", self.0),
            (_, errno) => format!("{errno:?}"),
        }
    }

    /// The one of a symbolic name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        // glibc gives one number both names; the kernel's is the other one.
        let name = match name {
            "ENOTSUP" => "EOPNOTSUPP",
            "EWOULDBLOCK" => "EAGAIN",
            other => other,
        };
        let is_it = |errno: Errno| errno != Errno::UnknownErrno && format!("{errno:?}") == name;
        // include/uapi/asm-generic/errno.h ends with EHWPOISON.
        (1..=libc::EHWPOISON).find(|number| is_it(Errno::from_raw(*number))).map(Self)
    }
}

impl fmt::Display for ErrorNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => write!(f, "failed without setting errno"),
            number => write!(f, "{} ({number})", self.name()),
        }
    }
}

impl fmt::Debug for ErrorNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A verbs call that did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{call} on {object}: {errno}")]
pub struct CallError {
    /// The entry point, such as `ibv_create_qp`.
    pub call: String,
    /// On which object: a device name, mostly.
    pub object: String,
    /// What came back; 0 where the call failed and set nothing.
    pub errno: ErrorNumber,
}

impl CallError {
    /// The error of a call that returns a pointer; the errno must have been cleared before the call.
    pub(super) fn last(call: &str, object: &str) -> Self {
        Self { call: call.to_owned(), object: object.to_owned(), errno: ErrorNumber(Errno::last_raw()) }
    }

    /// Turns the result of a call that returns a number into an error or nothing.
    ///
    /// Verbs manual pages promise 0 or an errno value, older calls give -1 with errno set, and the providers of erdma and siw give a
    /// negated errno (rdma-core providers/erdma/erdma_verbs.c, providers/siw/siw.c): all three are understood.
    pub(super) fn check(call: &str, object: &str, returned: i32) -> Result<(), Self> {
        let errno = match returned {
            0 => return Ok(()),
            -1 if Errno::last_raw() != 0 => Errno::last_raw(),
            other => other.abs(),
        };
        Err(Self { call: call.to_owned(), object: object.to_owned(), errno: ErrorNumber(errno) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_names() {
        assert_eq!(ErrorNumber(22).to_string(), "EINVAL (22)");
        assert_eq!(ErrorNumber(95).name(), "EOPNOTSUPP");
        assert_eq!(
            ["ENOTSUP", "EHWPOISON", "none", "UnknownErrno"].map(ErrorNumber::named),
            [Some(ErrorNumber(95)), Some(ErrorNumber(133)), None, None]
        );
        assert_eq!(ErrorNumber(0).to_string(), "failed without setting errno");
        assert_eq!(ErrorNumber(4095).to_string(), "errno 4095 (4095)");
    }

    #[test]
    fn all_three_conventions_of_a_failed_call_are_understood() {
        Errno::clear();
        assert_eq!(CallError::check("c", "d", 22).unwrap_err().errno.0, 22);
        assert_eq!(CallError::check("c", "d", -22).unwrap_err().errno.0, 22);
        Errno::EACCES.set();
        assert_eq!(CallError::check("c", "d", -1).unwrap_err().errno.0, 13);
        assert!(CallError::check("c", "d", 0).is_ok());
    }
}
