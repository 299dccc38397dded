//! NVML: what the driver says of each GPU without a context on it.
#![allow(unsafe_code, reason = "one entry point that nvml-wrapper loads and does not wrap")]

use std::ffi::OsStr;
use std::fmt;
use std::time::Instant;

use nvml_wrapper::Device;
use nvml_wrapper::enum_wrappers::device::{EccCounter, MemoryError};
use nvml_wrapper::enums::device::SampleValue;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::structs::device::FieldId;
use nvml_wrapper::sys_exports::field_id::NVML_FI_DEV_GET_GPU_RECOVERY_ACTION;
use serde::{Deserialize, Serialize};

use super::facts::plain_address;
use super::{GpuError, GpuFacts, NvmlFacts};

/// The library's name as drivers install it; the name without a number comes with development packages only.
pub const LIBNVIDIA_ML: &str = "libnvidia-ml.so.1";

/// Which GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GpuId {
    /// By its address: NVML then opens this GPU only (nvml.h, nvmlDeviceGetHandleByPciBusId).
    Pci(String),
    /// By its number, where sysfs does not show the bus.
    Index(u32),
}

impl fmt::Display for GpuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pci(address) => f.write_str(address),
            Self::Index(index) => write!(f, "GPU {index}"),
        }
    }
}

/// NVML, loaded and initialised.
pub struct Nvml {
    library: nvml_wrapper::Nvml,
}

impl Nvml {
    /// Loads the library and initialises it. No GPU is opened yet.
    ///
    /// # Errors
    /// The library is missing or refuses.
    pub fn load() -> Result<Self, GpuError> {
        let library = nvml_wrapper::Nvml::builder().lib_path(OsStr::new(LIBNVIDIA_ML)).init();
        Ok(Self { library: library.map_err(|error| error_of("nvmlInit_v2", "host", error))? })
    }

    /// What it says of the host.
    #[must_use]
    pub fn host(loaded: Result<&Self, GpuError>, started: Instant) -> NvmlFacts {
        let mut facts = NvmlFacts::default();
        match loaded {
            Err(error) => facts.error = Some(error),
            Ok(nvml) => {
                facts.driver_version = nvml.library.sys_driver_version().ok();
                facts.library_version = nvml.library.sys_nvml_version().ok();
                match nvml.library.device_count() {
                    Ok(count) => facts.gpu_count = Some(count),
                    Err(error) => facts.error = Some(error_of("nvmlDeviceGetCount_v2", "host", error)),
                }
                facts.answered_in_us = Some(elapsed_us(started));
            }
        }
        facts
    }

    /// What it says of one GPU.
    #[must_use]
    pub fn gpu(&self, id: &GpuId) -> GpuFacts {
        let started = Instant::now();
        let object = id.to_string();
        let (found, call) = match id {
            GpuId::Pci(address) => (self.library.device_by_pci_bus_id(address.as_str()), "nvmlDeviceGetHandleByPciBusId_v2"),
            GpuId::Index(index) => (self.library.device_by_index(*index), "nvmlDeviceGetHandleByIndex_v2"),
        };
        let mut facts = GpuFacts { pci: object.clone(), ..GpuFacts::default() };
        match found {
            Ok(device) => fill(&mut facts, &device),
            Err(error) => facts.error = Some(error_of(call, &object, error)),
        }
        facts.answered_in_us = Some(elapsed_us(started));
        facts
    }
}

fn elapsed_us(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Asks one question after another. Most may go unanswered on some product or driver; the memory may not: that one tells whether the GPU is
/// well.
fn fill(facts: &mut GpuFacts, device: &Device<'_>) {
    if let Ok(pci) = device.pci_info() {
        facts.pci = plain_address(&pci.bus_id);
    }
    facts.uuid = device.uuid().ok();
    facts.name = device.name().ok();
    match device.memory_info() {
        Ok(memory) => {
            facts.memory_bytes = Some(memory.total);
            facts.memory_used_bytes = Some(memory.total.saturating_sub(memory.free));
        }
        // A driver before 510 has the older call only, which the wrapper does not know.
        Err(NvmlError::FailedToLoadSymbol(_) | NvmlError::NotSupported | NvmlError::FunctionNotFound) => {}
        Err(error) => {
            facts.error = Some(error_of("nvmlDeviceGetMemoryInfo_v2", &facts.pci, error));
            return;
        }
    }
    if let Ok(window) = device.bar1_memory_info() {
        facts.bar1_bytes = Some(window.total);
        facts.bar1_used_bytes = Some(window.used);
    }
    facts.link_generation = device.current_pcie_link_gen().ok();
    facts.link_generation_max = device.max_pcie_link_gen().ok();
    facts.link_lanes = device.current_pcie_link_width().ok();
    facts.link_lanes_max = device.max_pcie_link_width().ok();
    // A product that cannot be divided answers NOT_SUPPORTED.
    facts.is_divided = match device.mig_mode() {
        Ok(mode) => Some(mode.current != 0),
        Err(NvmlError::NotSupported) => Some(false),
        Err(_) => None,
    };
    facts.is_persistent = device.is_in_persistent_mode().ok();
    facts.has_ecc = device.is_ecc_enabled().ok().map(|ecc| ecc.currently_enabled);
    facts.uncorrected_errors = device.total_ecc_errors(MemoryError::Uncorrected, EccCounter::Volatile).ok();
    let remapped = remapped_rows(device);
    facts.has_remapping_failed = remapped.map(|(_, has_failed)| has_failed);
    facts.is_retirement_pending = remapped.map(|(is_pending, _)| is_pending).or_else(|| device.are_pages_pending_retired().ok());
    facts.recovery_action = recovery_action(device);
}

/// Whether rows are to be remapped, and whether one could not be: nvmlDeviceGetRemappedRows, of products since Ampere.
fn remapped_rows(device: &Device<'_>) -> Option<(bool, bool)> {
    let call = *device.nvml().lib().nvmlDeviceGetRemappedRows.as_ref().ok()?;
    let (mut corrected, mut uncorrected, mut is_pending, mut has_failed) = (0, 0, 0, 0);
    // SAFETY: the handle is valid while the device is borrowed, and each pointer is to a number of its own.
    let code = unsafe { call(device.handle(), &raw mut corrected, &raw mut uncorrected, &raw mut is_pending, &raw mut has_failed) };
    (code == 0).then_some((is_pending != 0, has_failed != 0))
}

fn recovery_action(device: &Device<'_>) -> Option<String> {
    let samples = device.field_values_for(&[FieldId(NVML_FI_DEV_GET_GPU_RECOVERY_ACTION)]).ok()?;
    let sample = samples.into_iter().next()?.ok()?;
    let code = match sample.value.ok()? {
        SampleValue::U32(code) => u64::from(code),
        SampleValue::U64(code) => code,
        SampleValue::F64(_) | SampleValue::I64(_) => return None,
    };
    // `nvmlDeviceGpuRecoveryAction_t`.
    let names = ["none", "gpu_reset", "node_reboot", "drain_p2p", "drain_and_reset"];
    Some(names.get(usize::try_from(code).ok()?).map_or_else(|| format!("action {code}"), |name| (*name).to_owned()))
}

fn error_of(call: &str, object: &str, error: NvmlError) -> GpuError {
    match error {
        NvmlError::LibloadingError(error) => GpuError::not_loaded(LIBNVIDIA_ML, error.to_string()),
        NvmlError::FailedToLoadSymbol(_) => GpuError::SymbolMissing { library: LIBNVIDIA_ML.to_owned(), symbol: call.to_owned() },
        error => GpuError::nvml(call, object, error.into()),
    }
}
