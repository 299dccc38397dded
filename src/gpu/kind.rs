//! Kinds of memory and ways to a NIC, as people write them: `host:pinned`, `cuda:0`, `cuda:0000:06:00.0:vmm:dmabuf`.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which memory a transfer begins or ends in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum MemoryKind {
    /// Pages of this process.
    #[default]
    Host,
    /// The same in huge pages of 2 MiB.
    HostHuge,
    /// Pages that CUDA allocated and locked (cuMemHostAlloc).
    HostPinned,
    /// Memory of a GPU.
    Gpu {
        /// Which GPU.
        gpu: GpuName,
        /// How it is allocated.
        form: AllocKind,
        /// How the NIC gets at it.
        path: Path,
    },
}

/// A GPU, as people name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GpuName {
    /// Its number among those that CUDA shows, in CUDA's own order, which CUDA_VISIBLE_DEVICES changes.
    Ordinal(u32),
    /// Its PCI address as sysfs writes it.
    Pci(String),
    /// Its UUID, or enough of its beginning, such as `GPU-6f0c`.
    Uuid(String),
}

rdmadoctor_types::words! {
    /// How GPU memory is allocated.
    #[derive(Default, Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    pub enum AllocKind {
        /// cuMemAlloc, as cudaMalloc.
        #[default]
        Plain = "",
        /// cuMemCreate with `gpuDirectRDMACapable`, as caching allocators of engines should.
        Vmm = "vmm",
        /// cuMemCreate without it, as expandable segments and sleep modes of some engines did.
        VmmNoFlag = "vmm-noflag",
        /// cuMemAllocAsync, of the GPU's default pool.
        Async = "async",
        /// cuMemAllocManaged.
        Managed = "managed",
    }
}

rdmadoctor_types::words! {
    /// How a NIC gets at GPU memory.
    #[derive(Default, Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    pub enum Path {
        /// The best of those that work: data-direct, dma-buf, peer memory, staged.
        #[default]
        Auto = "auto",
        /// ibv_reg_mr of the GPU's address, which takes a peer-memory client in the kernel.
        Peermem = "peermem",
        /// ibv_reg_dmabuf_mr of a dma-buf.
        Dmabuf = "dmabuf",
        /// mlx5dv_reg_dmabuf_mr with the flag for the data-direct device.
        DataDirect = "data-direct",
        /// Copied through locked host memory, a chunk at a time.
        Staged = "staged",
    }
}

impl AllocKind {
    /// Whether the kernel's driver gives it to peer-memory clients, as far as is known: memory of cuMemCreate with the flag only (cuda.h,
    /// `gpuDirectRDMACapable`; vllm-project/vllm pull request 29569, kvcache-ai/Mooncake issue 351), and managed memory, which moves, not.
    /// Both are from what others report; no such client has been seen here.
    #[must_use]
    pub fn is_for_peers(self) -> bool {
        !matches!(self, Self::VmmNoFlag | Self::Managed)
    }

    /// What allocates it.
    #[must_use]
    pub fn call(self) -> &'static str {
        match self {
            Self::Plain => "cuMemAlloc",
            Self::Vmm => "cuMemCreate, gpuDirectRDMACapable",
            Self::VmmNoFlag => "cuMemCreate, without the flag",
            Self::Async => "cuMemAllocAsync",
            Self::Managed => "cuMemAllocManaged",
        }
    }
}

impl Path {
    /// Those that are tried one by one, the best first. Which of the first three is fastest differs; this is the order in which a copy by the
    /// processor, and what it needs of the kernel, grow.
    pub const TRIED: [Self; 4] = [Self::DataDirect, Self::Dmabuf, Self::Peermem, Self::Staged];

    fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|path| path.name() == word)
    }
}

impl fmt::Display for GpuName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ordinal(ordinal) => write!(f, "{ordinal}"),
            Self::Pci(text) | Self::Uuid(text) => f.write_str(text),
        }
    }
}

impl FromStr for GpuName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` names no GPU; write its number (0), its PCI address (0000:06:00.0) or its UUID (GPU-…)");
        if let Ok(ordinal) = text.parse() {
            return Ok(Self::Ordinal(ordinal));
        }
        if text.len() > 4 && text.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("gpu-")) {
            let rest = &text[4..];
            let is_hex = rest.chars().all(|letter| letter.is_ascii_hexdigit() || letter == '-');
            return if is_hex { Ok(Self::Uuid(format!("GPU-{}", rest.to_ascii_lowercase()))) } else { Err(wrong()) };
        }
        pci(text).map(Self::Pci).ok_or_else(wrong)
    }
}

/// A PCI address as sysfs writes it; the domain may be left out.
fn pci(text: &str) -> Option<String> {
    let hex = |part: &str, most: usize| {
        (1..=most).contains(&part.len()).then(|| u32::from_str_radix(part, 16).ok()).flatten().filter(|_| !part.starts_with('+'))
    };
    let (rest, function) = text.rsplit_once('.')?;
    let parts: Vec<&str> = rest.split(':').collect();
    let (domain, bus, device) = match parts[..] {
        [domain, bus, device] => (hex(domain, 8)?, hex(bus, 2)?, hex(device, 2)?),
        [bus, device] => (0, hex(bus, 2)?, hex(device, 2)?),
        _ => return None,
    };
    let function = hex(function, 1).filter(|function| *function < 8)?;
    (device < 32).then(|| format!("{domain:04x}:{bus:02x}:{device:02x}.{function:x}"))
}

impl MemoryKind {
    /// Whether it is a GPU's.
    #[must_use]
    pub fn gpu(&self) -> Option<(&GpuName, AllocKind, Path)> {
        match self {
            Self::Gpu { gpu, form, path } => Some((gpu, *form, *path)),
            _ => None,
        }
    }

    /// Whether CUDA is needed for it.
    #[must_use]
    pub fn needs_cuda(&self) -> bool {
        matches!(self, Self::HostPinned | Self::Gpu { .. })
    }
}

impl fmt::Display for MemoryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::HostHuge => f.write_str("host:huge"),
            Self::HostPinned => f.write_str("host:pinned"),
            Self::Gpu { gpu, form, path } => {
                write!(f, "cuda:{gpu}")?;
                if *form != AllocKind::Plain {
                    write!(f, ":{}", form.name())?;
                }
                if *path != Path::Auto {
                    write!(f, ":{path}")?;
                }
                Ok(())
            }
        }
    }
}

impl FromStr for MemoryKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let forms = "vmm, vmm-noflag, async, managed";
        let paths = "auto, peermem, dmabuf, data-direct, staged";
        match text {
            "host" => return Ok(Self::Host),
            "host:huge" => return Ok(Self::HostHuge),
            "host:pinned" => return Ok(Self::HostPinned),
            _ => {}
        }
        let Some(mut rest) = text.strip_prefix("cuda:") else {
            return Err(format!(
                "`{text}` is no kind of memory; write host, host:huge, host:pinned, or cuda:GPU[:FORM][:PATH] with FORM of {forms} and PATH of {paths}"
            ));
        };
        // From the end, since a PCI address has colons of its own.
        let (mut form, mut path) = (None, None);
        while let Some((before, word)) = rest.rsplit_once(':') {
            let as_form = AllocKind::ALL.into_iter().find(|known| known.name() == word && *known != AllocKind::Plain);
            match (as_form, Path::of_word(word)) {
                (Some(found), _) if form.is_none() => form = Some(found),
                (_, Some(found)) if path.is_none() && form.is_none() => path = Some(found),
                (Some(_), _) | (_, Some(_)) => {
                    return Err(format!("`{text}` says `{word}` where something else belongs; write cuda:GPU[:FORM][:PATH]"));
                }
                (None, None) => break,
            }
            rest = before;
        }
        let gpu = rest.parse().map_err(|_| {
            format!("`{rest}` in `{text}` names no GPU; write cuda:GPU[:FORM][:PATH]: its number, PCI address or UUID, FORM of {forms}, PATH of {paths}")
        })?;
        Ok(Self::Gpu { gpu, form: form.unwrap_or_default(), path: path.unwrap_or_default() })
    }
}

impl TryFrom<String> for MemoryKind {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<MemoryKind> for String {
    fn from(kind: MemoryKind) -> Self {
        kind.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for text in [
            "host",
            "host:huge",
            "host:pinned",
            "cuda:0",
            "cuda:12:vmm",
            "cuda:0:vmm-noflag:dmabuf",
            "cuda:0:staged",
            "cuda:0000:06:00.0",
            "cuda:0000:06:00.0:async:peermem",
            "cuda:GPU-6f0c1234-aa:managed:data-direct",
        ] {
            assert_eq!(text.parse::<MemoryKind>().unwrap().to_string(), text);
        }
        assert_eq!("cuda:06:00.0:auto".parse::<MemoryKind>().unwrap().to_string(), "cuda:0000:06:00.0");
        assert_eq!("cuda:00000000:1B:00.0".parse::<MemoryKind>().unwrap().to_string(), "cuda:0000:1b:00.0");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("gpu:0", "no kind of memory"),
            ("cuda:", "names no GPU"),
            ("cuda:0:vnm", "names no GPU"),
            ("cuda:0:dmabuf:vmm", "vmm"),
            ("cuda:0:vmm:async", "vmm"),
            ("cuda:0000:06:00.9", "names no GPU"),
            ("cuda:0000:06:40.0", "names no GPU"),
            ("cuda:GPU-xyz", "names no GPU"),
            ("host:fast", "no kind of memory"),
        ] {
            let error = text.parse::<MemoryKind>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
