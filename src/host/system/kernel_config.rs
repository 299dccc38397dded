//! How the kernel was configured.

use std::io::Read;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::host::reader::Reader;
use crate::host::{ReadError, TEXT_LIMIT_BYTES};

/// Options that bear on RDMA and on GPU memory.
const OPTIONS: &[&str] = &[
    "CONFIG_AMD_IOMMU",
    "CONFIG_CGROUP_RDMA",
    "CONFIG_DMA_SHARED_BUFFER",
    "CONFIG_DMABUF_MOVE_NOTIFY",
    "CONFIG_HSA_AMD_P2P",
    "CONFIG_INTEL_IOMMU",
    "CONFIG_INTEL_IOMMU_DEFAULT_ON",
    "CONFIG_IOMMU_DEFAULT_DMA_LAZY",
    "CONFIG_IOMMU_DEFAULT_DMA_STRICT",
    "CONFIG_IOMMU_DEFAULT_PASSTHROUGH",
    "CONFIG_MLX4_INFINIBAND",
    "CONFIG_MLX5_CORE",
    "CONFIG_MLX5_INFINIBAND",
    "CONFIG_MODULE_SIG_FORCE",
    "CONFIG_MODULES",
    "CONFIG_PCI_P2PDMA",
    "CONFIG_PCIEAER",
    "CONFIG_RDMA_RXE",
    "CONFIG_RDMA_SIW",
    "CONFIG_ZONE_DEVICE",
];

/// The options that matter here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KernelConfig {
    /// The file.
    pub source: String,
    /// The options that it names.
    pub options: Vec<KernelOption>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KernelOption {
    /// Such as `CONFIG_PCI_P2PDMA`.
    pub name: String,
    /// `y`, `m`, `n` or a value.
    pub value: String,
}

impl KernelConfig {
    /// The value of an option that this program looks at; one that the file does not name is off, as its dependencies are.
    #[must_use]
    pub fn value(&self, name: &str) -> &str {
        self.options.iter().find(|option| option.name == name).map_or("n", |option| &option.value)
    }
}

/// Reads the first of the files that is there.
pub(super) fn read(reader: &mut Reader<'_>, release: Option<&str>) -> Option<KernelConfig> {
    if let Some(config) = packed(reader) {
        return Some(config);
    }
    let release = release?;
    let places = [
        format!("/boot/config-{release}"),
        format!("/lib/modules/{release}/config"),
        format!("/usr/lib/modules/{release}/config"),
        format!("/lib/modules/{release}/build/.config"),
    ];
    places.into_iter().find_map(|source| {
        let options = parse(&reader.text(&source)?);
        (!options.is_empty()).then_some(KernelConfig { source, options })
    })
}

/// /proc/config.gz, there with CONFIG_IKCONFIG_PROC.
fn packed(reader: &mut Reader<'_>) -> Option<KernelConfig> {
    let source = "/proc/config.gz";
    let read = reader.root.bytes(source);
    let bytes = reader.keep(read)?;
    let mut text = Vec::new();
    // Some 300 KB; more than the bound is not what the kernel writes.
    let unpacked = flate2::read::GzDecoder::new(&bytes[..]).take(TEXT_LIMIT_BYTES).read_to_end(&mut text);
    let options = parse(&String::from_utf8_lossy(&text));
    if let Err(error) = unpacked {
        reader.problems.push(ReadError::malformed(Path::new(source), "gzip", error.to_string()));
    }
    (!options.is_empty()).then(|| KernelConfig { source: source.to_owned(), options })
}

/// Lines `CONFIG_X=y` and `# CONFIG_X is not set`.
fn parse(text: &str) -> Vec<KernelOption> {
    let mut options = Vec::new();
    for line in text.lines() {
        let named = line.strip_prefix("# ").and_then(|rest| rest.strip_suffix(" is not set")).map(|name| (name, "n"));
        let Some((name, value)) = named.or_else(|| line.split_once('=')) else { continue };
        if OPTIONS.contains(&name) || name.starts_with("CONFIG_INFINIBAND") {
            options.push(KernelOption { name: name.to_owned(), value: value.trim_matches('"').to_owned() });
        }
    }
    options
}
