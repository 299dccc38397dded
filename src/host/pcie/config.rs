//! The configuration space of a PCI function: a walk of its two lists of capabilities.
//!
//! Registers are read one at a time, as each read of sysfs is a read of the hardware. The lists come from the device, so a walk is
//! bounded and notes where a list leads astray. Offsets and bits: include/uapi/linux/pci_regs.h.

use std::io::{Read, Seek, SeekFrom};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much of the configuration space could be read. What lies beyond is not known, which does not mean absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Coverage {
    /// Nothing.
    #[default]
    Nothing,
    /// The header only, which is all that the kernel shows without CAP_SYS_ADMIN.
    Header,
    /// The first 256 bytes: all of a conventional function, or of one whose extended space the platform does not reach.
    Standard,
    /// All 4096 bytes.
    Extended,
}

/// What the configuration space says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Config {
    /// How far it was read: capabilities are known from `standard` on, extended ones (ACS, ATS) from `extended` on.
    pub coverage: Coverage,
    /// Whether the function answers; one that fell off the bus reads as ones.
    pub is_answering: bool,
    /// Whether it may read and write memory by itself (bus mastering).
    pub bus_master: Option<bool>,
    /// PCI Express capability.
    pub express: Option<Express>,
    /// Access Control Services.
    pub acs: Option<Acs>,
    /// Address Translation Services.
    pub ats: Option<Ats>,
    /// Whether it has vital product data; absent where the list could not be read.
    pub has_vpd: Option<bool>,
}

impl Config {
    /// Whether the absence of ACS or ATS means that the function has none.
    #[must_use]
    pub fn extended_known(&self) -> bool {
        // A conventional function has no extended space to look in.
        self.coverage == Coverage::Extended || (self.coverage == Coverage::Standard && self.express.is_none())
    }
}

/// What a function is in the PCI Express tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PortType {
    /// A device.
    Endpoint,
    /// A device of the old kind.
    LegacyEndpoint,
    /// A port of the processor.
    RootPort,
    /// A switch's port towards the processor.
    UpstreamPort,
    /// A switch's port towards devices.
    DownstreamPort,
    /// A bridge from PCI Express to PCI.
    ToPciBridge,
    /// A bridge from PCI to PCI Express.
    FromPciBridge,
    /// A device inside the processor, without a link.
    IntegratedEndpoint,
    /// Collects events inside the processor.
    EventCollector,
    /// A number that has no meaning yet.
    Reserved,
}

/// The PCI Express capability.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Express {
    /// What the function is.
    pub port_type: PortType,
    /// Largest payload of a packet that it could send.
    pub payload_supported_bytes: Option<u32>,
    /// MaxPayload: the largest that it may send.
    pub payload_bytes: Option<u32>,
    /// MaxReadRequest: the largest piece that it asks for at once.
    pub read_request_bytes: Option<u32>,
    /// Whether it may mark its packets as relaxed in order.
    pub relaxed_ordering: bool,
    /// Whether it may leave caches unsnooped.
    pub no_snoop: bool,
    /// Whether it may have 256 requests under way instead of 32.
    pub extended_tags: bool,
    /// Whether it may send atomic requests; absent in the first version of the capability.
    pub atomic_requests: Option<bool>,
}

/// What an ACS capability can do, or what of it is on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AcsBits {
    /// Checks who a packet says it is from.
    pub source_validation: bool,
    /// Stops translated packets.
    pub translation_blocking: bool,
    /// Sends requests between devices up to the processor.
    pub request_redirect: bool,
    /// Sends completions between devices up to the processor.
    pub completion_redirect: bool,
    /// Sends packets for its own side up to the processor.
    pub upstream_forwarding: bool,
    /// Asks a table which ports may be reached.
    pub egress_control: bool,
    /// Lets translated packets between devices pass directly.
    pub direct_translated: bool,
}

impl AcsBits {
    fn from_register(bits: u16) -> Self {
        let bit = |number: u16| bits >> number & 1 == 1;
        Self {
            source_validation: bit(0),
            translation_blocking: bit(1),
            request_redirect: bit(2),
            completion_redirect: bit(3),
            upstream_forwarding: bit(4),
            egress_control: bit(5),
            direct_translated: bit(6),
        }
    }
}

/// Access Control Services of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Acs {
    /// What it can do.
    pub supported: AcsBits,
    /// What is on.
    pub enabled: AcsBits,
}

impl Acs {
    /// Whether packets between devices below are sent through the processor: slow, and a failure where the IOMMU does not map them.
    #[must_use]
    pub fn redirects(&self) -> bool {
        self.enabled.request_redirect || self.enabled.completion_redirect
    }
}

/// Address Translation Services of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ats {
    /// Whether it is on.
    pub enabled: bool,
}

/// Walks a configuration space. The second value tells where a list is not what it should be.
pub fn parse(source: &mut (impl Read + Seek)) -> (Config, Vec<String>) {
    let mut space = Space { source, faults: Vec::new() };
    let config = space.walk();
    (config, space.faults)
}

struct Space<'a, S> {
    source: &'a mut S,
    faults: Vec<String>,
}

/// Capabilities start after the header and take at least four bytes.
const MOST_STANDARD: u32 = (0x100 - 0x40) / 4;
/// The kernel's own bound is one for each eight bytes (drivers/pci/pci.c, `pci_find_next_ext_capability`).
const MOST_EXTENDED: u32 = (4096 - 256) / 8;

impl<S: Read + Seek> Space<'_, S> {
    /// Four bytes at a multiple of four; nothing where the file ends before, or the read fails.
    fn dword(&mut self, at: u32) -> Option<u32> {
        let mut bytes = [0; 4];
        self.source.seek(SeekFrom::Start(u64::from(at & !3))).ok()?;
        self.source.read_exact(&mut bytes).ok()?;
        Some(u32::from_le_bytes(bytes))
    }

    fn word(&mut self, at: u32) -> Option<u16> {
        let shift = (at & 2) * 8;
        self.dword(at).map(|dword| (dword >> shift) as u16)
    }

    fn walk(&mut self) -> Config {
        let mut config = Config::default();
        let Some(id) = self.dword(0) else { return config };
        let Some(status) = self.dword(4) else { return config };
        config.coverage = Coverage::Header;
        // The vendor 0xffff is what nothing answers with.
        config.is_answering = id & 0xffff != 0xffff;
        if !config.is_answering {
            return config;
        }
        config.bus_master = Some(status & 0x4 != 0);
        // Only registers that have a meaning are read: some devices fall over reads of others. Without CAP_SYS_ADMIN the kernel shows
        // 64 bytes, or 128 of a CardBus bridge (drivers/pci/pci-sysfs.c, `pci_read_config`).
        if status >> 16 & 0x10 != 0 {
            let is_cardbus = self.dword(0x0c).is_some_and(|dword| dword >> 16 & 0x7f == 2);
            let start = self.dword(if is_cardbus { 0x14 } else { 0x34 }).unwrap_or(0) & 0xfc;
            if start >= 0x40 && self.dword(start).is_none() {
                return config;
            }
            self.standard(start, &mut config);
        }
        config.coverage = Coverage::Standard;
        config.has_vpd.get_or_insert(false);
        // Only PCI Express has the extended space.
        if config.express.is_some() && self.dword(0x100).is_some() {
            config.coverage = Coverage::Extended;
            self.extended(&mut config);
        }
        config
    }

    fn standard(&mut self, start: u32, config: &mut Config) {
        let mut at = start;
        let mut seen = [false; 64];
        for _ in 0..MOST_STANDARD {
            if at == 0 {
                return;
            }
            if at < 0x40 {
                return self.faults.push(format!("the capability list leads into the header, to {at:#x}"));
            }
            if std::mem::replace(&mut seen[at as usize / 4 % 64], true) {
                return self.faults.push(format!("the capability list turns in a circle at {at:#x}"));
            }
            let Some(head) = self.dword(at) else { return };
            match head & 0xff {
                0x03 => config.has_vpd = Some(true),
                0x10 => config.express = config.express.take().or_else(|| self.express(at)),
                0xff => return self.faults.push(format!("the capability at {at:#x} reads as ones")),
                _ => {}
            }
            at = head >> 8 & 0xfc;
        }
    }

    fn express(&mut self, at: u32) -> Option<Express> {
        let flags = self.word(at + 2)?;
        let capabilities = self.dword(at + 4)?;
        let control = self.word(at + 8)?;
        // The second device control register is there from version 2 on, and must lie inside the first 256 bytes.
        let control2 = if flags & 0xf >= 2 && at + 0x28 < 0x100 { self.word(at + 0x28) } else { None };
        Some(Express {
            port_type: port_type(flags >> 4 & 0xf),
            payload_supported_bytes: size(capabilities & 7),
            payload_bytes: size(u32::from(control >> 5 & 7)),
            read_request_bytes: size(u32::from(control >> 12 & 7)),
            relaxed_ordering: control & 0x10 != 0,
            no_snoop: control & 0x800 != 0,
            extended_tags: control & 0x100 != 0,
            atomic_requests: control2.map(|control2| control2 & 0x40 != 0),
        })
    }

    fn extended(&mut self, config: &mut Config) {
        let mut at = 0x100;
        let mut seen = vec![false; 1024];
        for _ in 0..MOST_EXTENDED {
            let Some(head) = self.dword(at) else { return };
            // No extended capability at all reads as zeros, or as ones where the platform does not reach them.
            if at == 0x100 && (head == 0 || head == u32::MAX) {
                if head == u32::MAX {
                    config.coverage = Coverage::Standard;
                }
                return;
            }
            if std::mem::replace(&mut seen[at as usize / 4 % 1024], true) {
                return self.faults.push(format!("the extended capability list turns in a circle at {at:#x}"));
            }
            match head & 0xffff {
                0x0d => {
                    if let Some(register) = self.dword(at + 4) {
                        let (supported, enabled) = (register as u16, (register >> 16) as u16);
                        config.acs = config
                            .acs
                            .or(Some(Acs { supported: AcsBits::from_register(supported), enabled: AcsBits::from_register(enabled) }));
                    }
                }
                0x0f => {
                    if let Some(control) = self.word(at + 6) {
                        config.ats = config.ats.or(Some(Ats { enabled: control & 0x8000 != 0 }));
                    }
                }
                _ => {}
            }
            at = head >> 20 & 0xffc;
            if at == 0 {
                return;
            }
            if at < 0x100 {
                return self.faults.push(format!("the extended capability list leads below 0x100, to {at:#x}"));
            }
        }
    }
}

fn port_type(number: u16) -> PortType {
    match number {
        0x0 => PortType::Endpoint,
        0x1 => PortType::LegacyEndpoint,
        0x4 => PortType::RootPort,
        0x5 => PortType::UpstreamPort,
        0x6 => PortType::DownstreamPort,
        0x7 => PortType::ToPciBridge,
        0x8 => PortType::FromPciBridge,
        0x9 => PortType::IntegratedEndpoint,
        0xa => PortType::EventCollector,
        _ => PortType::Reserved,
    }
}

/// A size of packets: 128 bytes doubled; the last two codes are reserved.
fn size(code: u32) -> Option<u32> {
    (code < 6).then(|| 128 << code)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    /// A configuration space with the PCI Express capability, VPD, ACS and ATS.
    pub(crate) fn space(port_type: u16, control: u16, acs_control: u16) -> Vec<u8> {
        let mut bytes = vec![0; 4096];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &[0xde, 0x10, 0x30, 0x23, 0x06, 0x00, 0x10, 0x00]);
        put(0x34, &[0x60]);
        put(0x60, &[0x03, 0x78]);
        put(0x78, &[0x10, 0x00]);
        put(0x7a, &(2 | port_type << 4).to_le_bytes());
        put(0x7c, &2_u32.to_le_bytes());
        put(0x80, &control.to_le_bytes());
        put(0xa0, &0x40_u16.to_le_bytes());
        put(0x100, &0x1501_000d_u32.to_le_bytes());
        put(0x104, &0x5f_u16.to_le_bytes());
        put(0x106, &acs_control.to_le_bytes());
        put(0x150, &0x0001_000f_u32.to_le_bytes());
        put(0x156, &0x8000_u16.to_le_bytes());
        bytes
    }

    fn parsed(bytes: &[u8]) -> (Config, Vec<String>) {
        parse(&mut Cursor::new(bytes))
    }

    #[test]
    fn capabilities_are_read() {
        let (config, faults) = parsed(&space(6, 0x2910 | 0x20, 0x1d));
        assert_eq!(faults, Vec::<String>::new());
        assert_eq!((config.coverage, config.is_answering, config.has_vpd), (Coverage::Extended, true, Some(true)));
        let express = config.express.unwrap();
        assert_eq!(express.port_type, PortType::DownstreamPort);
        assert_eq!((express.payload_supported_bytes, express.payload_bytes, express.read_request_bytes), (Some(512), Some(256), Some(512)));
        assert!(express.relaxed_ordering && express.extended_tags && express.no_snoop);
        assert_eq!(express.atomic_requests, Some(true));
        let acs = config.acs.unwrap();
        assert!(acs.redirects() && acs.enabled.upstream_forwarding && !acs.enabled.direct_translated && acs.supported.direct_translated);
        assert_eq!(config.ats, Some(Ats { enabled: true }));
    }

    #[test]
    fn what_was_not_shown_is_not_known() {
        let whole = space(0, 0, 0);
        let header = parsed(&whole[..64]).0;
        assert_eq!((header.coverage, header.express, header.has_vpd, header.bus_master), (Coverage::Header, None, None, Some(true)));
        let standard = parsed(&whole[..256]).0;
        assert_eq!((standard.coverage, standard.express.is_some(), standard.acs), (Coverage::Standard, true, None));
        assert_eq!(parsed(&[]).0, Config::default());
        let gone = parsed(&[0xff; 4096]).0;
        assert_eq!((gone.coverage, gone.is_answering, gone.bus_master), (Coverage::Header, false, None));
    }

    #[test]
    fn circles_end() {
        let mut bytes = space(0, 0, 0);
        bytes[0x79] = 0x60;
        assert_eq!(parsed(&bytes).1, ["the capability list turns in a circle at 0x60"]);
        let mut bytes = space(0, 0, 0);
        bytes[0x61] = 0x10;
        assert_eq!(parsed(&bytes).1, ["the capability list leads into the header, to 0x10"]);
        let mut bytes = space(0, 0, 0);
        bytes[0x150..0x154].copy_from_slice(&0x1001_000f_u32.to_le_bytes());
        assert_eq!(parsed(&bytes).1, ["the extended capability list turns in a circle at 0x100"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn any_bytes_are_walked_to_an_end(mut bytes in proptest::collection::vec(any::<u8>(), 0..4200)) {
            // Mostly with a list, or little is walked.
            if bytes.len() > 8 { bytes[6] |= 0x10; }
            let (config, faults) = parsed(&bytes);
            prop_assert!(faults.len() <= 2);
            prop_assert!(serde_json::to_string(&config).is_ok());
        }
    }
}
