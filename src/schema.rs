//! What each document says that it is, in its key `schema`. The number grows where an older reader would not understand it.
//!
//! `profiles/schema/` has their JSON Schemas. That of a profile stands beside its type, which engines read by itself.

// Printed.
pub const BW: &str = "rdmadoctor/bw/1";
pub const BW_AT_ONCE: &str = "rdmadoctor/bw-at-once/1";
pub const BW_PAIRS: &str = "rdmadoctor/bw-pairs/1";
pub const CAPS: &str = "rdmadoctor/caps/1";
pub const CAPTURE_WRITTEN: &str = "rdmadoctor/capture-written/1";
pub const CATALOG_CHECK: &str = "rdmadoctor/catalog-check/1";
pub const CATALOG_FILES: &str = "rdmadoctor/catalog-files/1";
pub const CATALOG_LIST: &str = "rdmadoctor/catalog-list/1";
pub const COMPAT: &str = "rdmadoctor/compat/1";
pub const DEVICES: &str = "rdmadoctor/devices/1";
pub const EXPLANATION: &str = "rdmadoctor/explanation/1";
pub const EXPLANATIONS: &str = "rdmadoctor/explanations/1";
pub const GPU: &str = "rdmadoctor/gpu/1";
pub const MODULES: &str = "rdmadoctor/modules/1";
pub const PEER: &str = "rdmadoctor/peer/1";
pub const PING: &str = "rdmadoctor/ping/1";
pub const PREFLIGHT: &str = "rdmadoctor/preflight/1";
pub const PROBE: &str = "rdmadoctor/probe/1";
pub const PROFILE_CHECK: &str = "rdmadoctor/profile-check/1";
pub const PROFILE_DIFF: &str = "rdmadoctor/profile-diff/1";
pub const PROFILE_EXPORT: &str = "rdmadoctor/profile-export/1";
pub const PROFILE_VALIDATION: &str = "rdmadoctor/profile-validation/1";
pub const QP_MATRIX: &str = "rdmadoctor/qp-matrix/1";
pub const TOPO: &str = "rdmadoctor/topo/1";

// Read.
pub const CAPTURE: &str = "rdmadoctor/capture/1";
pub const DEVICE: &str = "rdmadoctor/device/1";
pub const ENGINE: &str = "rdmadoctor/engine/1";
pub const FAMILY: &str = "rdmadoctor/family/1";
pub const HOST: &str = "rdmadoctor/host/1";
pub const POLICY: &str = "rdmadoctor/policy/1";
