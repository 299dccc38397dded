//! Errors of this layer: a library that cannot be loaded, a call that was refused, a library that gives no answer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a GPU's driver library gives no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum GpuError {
    /// The dynamic linker found no such file.
    #[error("{library} was not found")]
    LibraryMissing {
        /// What was looked for.
        library: String,
    },
    /// The file is there, and the dynamic linker refused it.
    #[error("{library} cannot be loaded: {detail}")]
    LibraryUnusable {
        /// What was looked for.
        library: String,
        /// The dynamic linker's own words.
        detail: String,
    },
    /// The library has no such entry point: an older driver.
    #[error("{library} has no `{symbol}`: an older driver")]
    SymbolMissing {
        /// What was loaded.
        library: String,
        /// What it lacks.
        symbol: String,
    },
    /// A call was refused.
    #[error("{call} on {object}: {name} ({code})")]
    Refused {
        /// The entry point.
        call: String,
        /// A GPU's address, or the host.
        object: String,
        /// The error as the library's header names it.
        name: String,
        code: u32,
    },
    /// The library took the child process with it.
    #[error("{library} crashed with {signal}")]
    Crashed {
        /// What was asked.
        library: String,
        /// The signal's name.
        signal: String,
    },
    /// The library did not answer in time.
    #[error("{library} gave no answer in {deadline_ms} ms{}", .held_in.as_ref().map(|place| format!(", held in the kernel's {place}")).unwrap_or_default())]
    Hung {
        /// What was asked.
        library: String,
        /// The deadline that passed.
        deadline_ms: u64,
        /// The function of the kernel that held it.
        held_in: Option<String>,
    },
    #[error("{why}")]
    NotAsked {
        /// Why not.
        why: String,
    },
}

/// What an error comes down to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GpuErrorKind {
    /// The library is not there, or cannot be loaded.
    Library,
    /// The kernel's driver is not loaded.
    NoDriver,
    /// Library and kernel module are of different versions.
    VersionMismatch,
    /// There is no GPU, or none for this process.
    NoDevice,
    /// This process may not.
    NoPermission,
    /// The GPU fell off the bus.
    Lost,
    /// The GPU waits for a reset.
    NeedsReset,
    /// The library was not initialised, or another part that it needs was not.
    NotInitialised,
    /// It crashed or hung.
    NoAnswer,
    /// It was not asked.
    NotAsked,
    /// This GPU or driver has no such thing.
    NotSupported,
    /// Anything else.
    Other,
}

impl GpuError {
    /// A refusal by NVML, whose numbers nvml.h names `nvmlReturn_t`.
    pub(super) fn nvml(call: &str, object: &str, code: u32) -> Self {
        let name = NVML
            .iter()
            .find(|(known, _)| *known == code)
            .map_or_else(|| format!("NVML error {code}"), |(_, name)| format!("NVML_ERROR_{name}"));
        Self::Refused { call: call.to_owned(), object: object.to_owned(), name, code }
    }

    /// A refusal by its name alone, for models of hosts.
    #[must_use]
    pub fn named(call: &str, object: &str, name: &str) -> Self {
        let nvml = name.strip_prefix("NVML_ERROR_").and_then(|short| NVML.iter().find(|(_, known)| *known == short));
        let cuda = CUDA.iter().find(|(_, known)| *known == name);
        let code = nvml.or(cuda).map_or(0, |(code, _)| *code);
        Self::Refused { call: call.to_owned(), object: object.to_owned(), name: name.to_owned(), code }
    }

    /// Whether a name is one that [`Self::named`] knows.
    #[must_use]
    pub fn is_name(name: &str) -> bool {
        matches!(Self::named("", "", name), Self::Refused { code, .. } if code != 0)
    }

    /// What the dynamic linker's words say of a library that it did not open.
    pub(super) fn not_loaded(library: &str, detail: String) -> Self {
        // glibc's words, for the library itself and for another one that it needs.
        if detail.starts_with(&format!("{library}: cannot open shared object file")) {
            Self::LibraryMissing { library: library.to_owned() }
        } else {
            Self::LibraryUnusable { library: library.to_owned(), detail }
        }
    }

    /// What it comes down to.
    #[must_use]
    pub fn kind(&self) -> GpuErrorKind {
        match self {
            Self::LibraryMissing { .. } | Self::LibraryUnusable { .. } => GpuErrorKind::Library,
            Self::SymbolMissing { .. } => GpuErrorKind::NotSupported,
            Self::Crashed { .. } | Self::Hung { .. } => GpuErrorKind::NoAnswer,
            Self::NotAsked { .. } => GpuErrorKind::NotAsked,
            Self::Refused { name, .. } => match name.as_str() {
                "NVML_ERROR_DRIVER_NOT_LOADED" => GpuErrorKind::NoDriver,
                "NVML_ERROR_LIB_RM_VERSION_MISMATCH"
                | "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"
                | "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE" => GpuErrorKind::VersionMismatch,
                "NVML_ERROR_NOT_FOUND" | "NVML_ERROR_GPU_NOT_FOUND" | "CUDA_ERROR_NO_DEVICE" | "CUDA_ERROR_INVALID_DEVICE" => {
                    GpuErrorKind::NoDevice
                }
                "NVML_ERROR_NO_PERMISSION" | "NVML_ERROR_OPERATING_SYSTEM" | "CUDA_ERROR_NOT_PERMITTED" => GpuErrorKind::NoPermission,
                "NVML_ERROR_GPU_IS_LOST" | "CUDA_ERROR_DEVICE_UNAVAILABLE" => GpuErrorKind::Lost,
                "NVML_ERROR_RESET_REQUIRED" | "CUDA_ERROR_ECC_UNCORRECTABLE" => GpuErrorKind::NeedsReset,
                "NVML_ERROR_UNINITIALIZED" | "CUDA_ERROR_NOT_INITIALIZED" | "CUDA_ERROR_SYSTEM_NOT_READY" => GpuErrorKind::NotInitialised,
                "NVML_ERROR_NOT_SUPPORTED" | "NVML_ERROR_FUNCTION_NOT_FOUND" | "CUDA_ERROR_NOT_SUPPORTED" => GpuErrorKind::NotSupported,
                _ => GpuErrorKind::Other,
            },
        }
    }
}

/// `nvmlReturn_t` of nvml.h, each without its `NVML_ERROR_`.
const NVML: &[(u32, &str)] = &[
    (1, "UNINITIALIZED"),
    (2, "INVALID_ARGUMENT"),
    (3, "NOT_SUPPORTED"),
    (4, "NO_PERMISSION"),
    (5, "ALREADY_INITIALIZED"),
    (6, "NOT_FOUND"),
    (7, "INSUFFICIENT_SIZE"),
    (8, "INSUFFICIENT_POWER"),
    (9, "DRIVER_NOT_LOADED"),
    (10, "TIMEOUT"),
    (11, "IRQ_ISSUE"),
    (12, "LIBRARY_NOT_FOUND"),
    (13, "FUNCTION_NOT_FOUND"),
    (14, "CORRUPTED_INFOROM"),
    (15, "GPU_IS_LOST"),
    (16, "RESET_REQUIRED"),
    (17, "OPERATING_SYSTEM"),
    (18, "LIB_RM_VERSION_MISMATCH"),
    (19, "IN_USE"),
    (20, "MEMORY"),
    (21, "NO_DATA"),
    (22, "VGPU_ECC_NOT_SUPPORTED"),
    (23, "INSUFFICIENT_RESOURCES"),
    (24, "FREQ_NOT_SUPPORTED"),
    (25, "ARGUMENT_VERSION_MISMATCH"),
    (26, "DEPRECATED"),
    (27, "NOT_READY"),
    (28, "GPU_NOT_FOUND"),
    (29, "INVALID_STATE"),
    (30, "RESET_TYPE_NOT_SUPPORTED"),
    (999, "UNKNOWN"),
];

/// Those of `CUresult` of cuda.h that a model of a host can name.
const CUDA: &[(u32, &str)] = &[
    (1, "CUDA_ERROR_INVALID_VALUE"),
    (2, "CUDA_ERROR_OUT_OF_MEMORY"),
    (3, "CUDA_ERROR_NOT_INITIALIZED"),
    (34, "CUDA_ERROR_STUB_LIBRARY"),
    (46, "CUDA_ERROR_DEVICE_UNAVAILABLE"),
    (100, "CUDA_ERROR_NO_DEVICE"),
    (101, "CUDA_ERROR_INVALID_DEVICE"),
    (214, "CUDA_ERROR_ECC_UNCORRECTABLE"),
    (304, "CUDA_ERROR_OPERATING_SYSTEM"),
    (800, "CUDA_ERROR_NOT_PERMITTED"),
    (801, "CUDA_ERROR_NOT_SUPPORTED"),
    (802, "CUDA_ERROR_SYSTEM_NOT_READY"),
    (803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"),
    (999, "CUDA_ERROR_UNKNOWN"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_names_and_kinds() {
        let mismatch = GpuError::nvml("nvmlInit_v2", "host", 18);
        assert_eq!(mismatch.to_string(), "nvmlInit_v2 on host: NVML_ERROR_LIB_RM_VERSION_MISMATCH (18)");
        assert_eq!(mismatch.kind(), GpuErrorKind::VersionMismatch);
        assert_eq!(GpuError::named("nvmlInit_v2", "host", "NVML_ERROR_LIB_RM_VERSION_MISMATCH"), mismatch);
        assert_eq!(GpuError::nvml("c", "host", 77).to_string(), "c on host: NVML error 77 (77)");
        assert!(GpuError::is_name("CUDA_ERROR_NO_DEVICE") && !GpuError::is_name("CUDA_ERROR_NO_DEVICES"));
    }

    #[test]
    fn a_missing_library_is_told_from_one_that_cannot_be_loaded() {
        let missing =
            GpuError::not_loaded("libcuda.so.1", "libcuda.so.1: cannot open shared object file: No such file or directory".to_owned());
        assert_eq!(missing, GpuError::LibraryMissing { library: "libcuda.so.1".to_owned() });
        let needs = GpuError::not_loaded("libcuda.so.1", "libz.so.1: cannot open shared object file: No such file or directory".to_owned());
        assert!(matches!(needs, GpuError::LibraryUnusable { .. }));
    }
}
