//! NVIDIA's driver, as it shows itself in /proc/driver/nvidia.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::host::reader::{Reader, shorten};
use crate::host::{Kind, Metadata, ReadError};

const VERSION: &str = "/proc/driver/nvidia/version";
const PARAMETERS: &str = "/proc/driver/nvidia/params";

/// Parameters that bear on GPU memory under RDMA. /proc names them without the prefix `NVreg_` that they have in modprobe's configuration.
const WANTED: &[(&str, &str)] = &[
    ("EnableStreamMemOPs", "1: streams may wait on memory and write it, which GPU-initiated transfers use"),
    ("RegistryDwords", "keys of the driver; PeerMappingOverride=1 lets other devices map GPU memory where the driver would refuse"),
    ("RegistryDwordsPerDevice", "the same for single GPUs"),
    ("EnablePCIERelaxedOrderingMode", "1: relaxed ordering on all of the GPU's transfers"),
    ("EnableResizableBar", "1: the GPU's BAR1 may cover all of its memory"),
    ("GrdmaPciTopoCheckOverride", "1: GPUDirect RDMA also where the PCIe topology speaks against it"),
    ("DmaRemapPeerMmio", "1: peers' memory is mapped through the IOMMU"),
];

/// NVIDIA's driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NvidiaDriver {
    /// Such as `580.159.04`.
    pub version: Option<String>,
    /// Which of the two kinds of kernel modules; GPU memory becomes a dma-buf only with the open one.
    pub flavour: Option<NvidiaFlavour>,
    /// The line that both were read from.
    pub banner: String,
    /// Parameters that bear on RDMA.
    pub parameters: Vec<NvidiaParameter>,
    /// The nodes by which programs reach it.
    #[serde(default)]
    pub nodes: Vec<NvidiaNode>,
}

/// A node of /dev that the driver's libraries open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NvidiaNode {
    pub path: String,
    /// The GPU that it is of; absent for those of the whole driver.
    pub pci: Option<String>,
    /// The driver's number that /proc/devices tells.
    pub expected_major: Option<u64>,
    /// What is there; absent where nothing is.
    pub found: Option<Metadata>,
}

impl NvidiaNode {
    /// Whether it is a character device of the right driver; true for any driver's where /proc/devices says nothing.
    #[must_use]
    pub fn is_right_device(&self) -> bool {
        let major = self.found.and_then(|found| match found.kind {
            Kind::CharDevice { major, .. } => Some(major),
            _ => None,
        });
        major.is_some_and(|major| self.expected_major.is_none_or(|expected| expected == major))
    }
}

/// The kind of NVIDIA's kernel modules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NvidiaFlavour {
    /// The open GPU kernel modules.
    Open,
    /// The closed ones.
    Proprietary,
}

/// One parameter of NVIDIA's driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NvidiaParameter {
    /// As /proc names it.
    pub name: String,
    /// What it is set to.
    pub value: String,
    /// What it decides.
    pub meaning: String,
}

/// Reads it; `None` where the driver is not loaded.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<NvidiaDriver> {
    let text = reader.text(VERSION)?;
    let banner = text.lines().find_map(|line| line.strip_prefix("NVRM version:")).unwrap_or_default().trim().to_owned();
    let flavour = match () {
        () if banner.contains("Open Kernel Module") => Some(NvidiaFlavour::Open),
        () if banner.contains("Kernel Module") => Some(NvidiaFlavour::Proprietary),
        () => None,
    };
    let version = banner.split_whitespace().find(|word| is_version(word)).map(str::to_owned);
    if flavour.is_none() || version.is_none() {
        let detail = format!("{:?} names no kernel module with its version", shorten(&text));
        reader.problems.push(ReadError::malformed(VERSION.as_ref(), "NVRM version", detail));
    }
    let values = reader.text(PARAMETERS).unwrap_or_default();
    let parameters = WANTED.iter().filter_map(|(name, meaning)| {
        let value = values.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(NvidiaParameter { name: (*name).to_owned(), value: value.trim().trim_matches('"').to_owned(), meaning: (*meaning).to_owned() })
    });
    let parameters = parameters.collect();
    let nodes = nodes(reader);
    Some(NvidiaDriver { version, flavour, parameters, nodes, banner })
}

/// The control node, that of unified memory, and one for each GPU that the driver has.
fn nodes(reader: &mut Reader<'_>) -> Vec<NvidiaNode> {
    let devices = reader.text("/proc/devices").unwrap_or_default();
    let major = |names: &[&str]| {
        let mut lines = devices.lines().filter_map(|line| line.trim().split_once(' '));
        lines.find_map(|(number, name)| if names.contains(&name) { number.parse().ok() } else { None })
    };
    // Drivers before 470 or so name themselves `nvidia-frontend`.
    let (own, unified) = (major(&["nvidia", "nvidia-frontend"]), major(&["nvidia-uvm"]));
    let mut places = vec![("/dev/nvidiactl".to_owned(), None, own), ("/dev/nvidia-uvm".to_owned(), None, unified)];
    for address in reader.names("/proc/driver/nvidia/gpus") {
        let information = reader.text(format!("/proc/driver/nvidia/gpus/{address}/information")).unwrap_or_default();
        let minor =
            information.lines().find_map(|line| line.strip_prefix("Device Minor:")).and_then(|text| text.trim().parse::<u32>().ok());
        places.extend(minor.map(|minor| (format!("/dev/nvidia{minor}"), Some(address.to_ascii_lowercase()), own)));
    }
    places
        .into_iter()
        .map(|(path, pci, expected_major)| {
            let found = reader.metadata(&path);
            NvidiaNode { path, pci, expected_major, found }
        })
        .collect()
}

/// Whether a word is two or three numbers with dots between.
fn is_version(word: &str) -> bool {
    (2..=3).contains(&word.split('.').count())
        && word.split('.').all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::host::{Node, Root};

    fn driver(banner: &str) -> (Option<NvidiaDriver>, usize) {
        let parameters = "EnableMSI: 1\nEnableStreamMemOPs: 0\nRegistryDwords: \"PeerMappingOverride=1;\"\n";
        let root = Root::tree(BTreeMap::from([(VERSION.into(), Node::text(banner)), (PARAMETERS.into(), Node::text(parameters))]));
        let mut reader = Reader::new(&root);
        let read = read(&mut reader);
        (read, reader.problems.len())
    }

    #[test]
    fn both_flavours_are_known() {
        let (open, problems) = driver(
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build  (builder@)\nGCC version:  gcc version 15.3.0 (GCC)\n",
        );
        let open = open.unwrap();
        assert_eq!((open.version.as_deref(), open.flavour, problems), (Some("580.159.04"), Some(NvidiaFlavour::Open), 0));
        let parameters: Vec<_> = open.parameters.iter().map(|parameter| (parameter.name.as_str(), parameter.value.as_str())).collect();
        assert_eq!(parameters, [("EnableStreamMemOPs", "0"), ("RegistryDwords", "PeerMappingOverride=1;")]);
        let (closed, _) = driver("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\n");
        let closed = closed.unwrap();
        assert_eq!((closed.version.as_deref(), closed.flavour), (Some("535.104.05"), Some(NvidiaFlavour::Proprietary)));
    }

    #[test]
    fn nodes_are_those_that_the_driver_means() {
        let information = "Model: \t\t NVIDIA H200\nBus Location: \t 0000:01:00.0\nDevice Minor: \t 3\n";
        let node = |major| Node::CharDevice { major, minor: 0, mode: 0o666 };
        let root = Root::tree(BTreeMap::from([
            (VERSION.into(), Node::text("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04")),
            ("/proc/devices".into(), Node::text("Character devices:\n195 nvidia-frontend\n511 nvidia-uvm\n")),
            ("/proc/driver/nvidia/gpus/0000:01:00.0/information".into(), Node::text(information)),
            ("/dev/nvidiactl".into(), node(195)),
            ("/dev/nvidia-uvm".into(), node(510)),
        ]));
        let nodes = read(&mut Reader::new(&root)).unwrap().nodes;
        let shown: Vec<_> =
            nodes.iter().map(|node| (node.path.as_str(), node.pci.as_deref(), node.found.is_some(), node.is_right_device())).collect();
        assert_eq!(
            shown,
            [
                ("/dev/nvidiactl", None, true, true),
                ("/dev/nvidia-uvm", None, true, false),
                ("/dev/nvidia3", Some("0000:01:00.0"), false, false),
            ]
        );
    }

    #[test]
    fn a_banner_that_says_nothing_is_a_problem() {
        let (driver, problems) = driver("hello\n");
        assert_eq!((driver.unwrap().version, problems), (None, 1));
        assert_eq!(read(&mut Reader::new(&Root::tree(BTreeMap::new()))), None);
    }
}
