//! Vital product data of NICs and GPUs: part and serial numbers as their maker wrote them (PCI Local Bus Specification 3.0, appendix I).
//!
//! Each word of it is asked of the device by itself and may take it milliseconds (Linux, drivers/pci/vpd.c), so it is read only where
//! effort is allowed, and not for longer than `TIME`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::reader::Reader;
use super::{ReadError, ReadFailure, Root, pci};

/// Most that is read of one function; the format goes up to 32 KiB, those of NICs have some 300 bytes.
const MOST_BYTES: u64 = 4096;

/// After this time no further function is asked.
const TIME: Duration = Duration::from_secs(2);

/// Vital product data of functions that have some.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VpdFacts {
    /// By PCI address; absent where it was not asked for.
    pub functions: Option<Vec<FunctionVpd>>,
    /// Whether time was over before all had answered.
    pub is_partial: bool,
    /// What could not be read or understood.
    pub problems: Vec<ReadError>,
}

/// Vital product data of one function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FunctionVpd {
    /// Its PCI address.
    pub address: String,
    /// What it says.
    #[serde(flatten)]
    pub data: Vpd,
}

/// What vital product data says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Vpd {
    /// The product's name.
    pub product: Option<String>,
    /// PN: the part number.
    pub part_number: Option<String>,
    /// EC: the engineering change level, so the board's revision.
    pub engineering_level: Option<String>,
    /// SN: the serial number.
    pub serial_number: Option<String>,
    /// MN: who made it.
    pub manufacturer: Option<String>,
    /// Fields of the maker's own, among them versions of firmware: `V1` and others. Their meaning differs from maker to maker.
    pub vendor_fields: Vec<VpdField>,
}

/// A field by its keyword.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VpdField {
    /// Two characters.
    pub keyword: String,
    /// The text.
    pub value: String,
}

/// Reads those of network controllers, displays and accelerators. What fails is among the problems, but that only root may read it.
#[must_use]
pub fn read(root: &Root) -> VpdFacts {
    let mut reader = Reader::new(root);
    let started = Instant::now();
    let mut facts = VpdFacts::default();
    let mut found = Vec::new();
    for function in pci::identities(&mut reader) {
        let is_of_interest = function.class.is_some_and(|class| matches!(class >> 16, 0x02 | 0x03 | 0x12));
        let dir = Path::new(pci::DEVICES).join(&function.address);
        // A virtual function shows its physical one's.
        let is_virtual = || root.link(dir.join("physfn")).is_ok_and(|target| target.is_some());
        if !is_of_interest || is_virtual() {
            continue;
        }
        if started.elapsed() >= TIME {
            facts.is_partial = true;
            break;
        }
        let path = dir.join("vpd");
        let understood = |bytes: Vec<u8>| parse(&bytes).map_err(|detail| ReadError::malformed(&path, "data", detail));
        match bytes(root, &path).and_then(|bytes| bytes.map(understood).transpose()) {
            Ok(None) => {}
            Ok(Some(data)) => found.push(FunctionVpd { address: function.address, data }),
            Err(error) if error.failure == ReadFailure::PermissionDenied => {}
            Err(error) => reader.problems.push(error),
        }
    }
    facts.functions = Some(found);
    // Problems of the functions themselves are told with the tree of functions.
    facts.problems = reader.problems.into_iter().filter(|problem| problem.path.ends_with("/vpd")).collect();
    facts
}

fn bytes(root: &Root, path: &Path) -> Result<Option<Vec<u8>>, ReadError> {
    let Some(source) = root.open(path)? else { return Ok(None) };
    let bytes = source.head(MOST_BYTES).map_err(|error| ReadError::new(path, ReadFailure::from_io(&error)))?;
    Ok(if bytes.is_empty() { None } else { Some(bytes) })
}

/// Reads the resources: a tag, a length of two bytes (or of three bits, of the tag that ends it), the content.
///
/// # Errors
/// A resource is of no kind that can be there, or longer than what is left.
pub fn parse(bytes: &[u8]) -> Result<Vpd, String> {
    let mut vpd = Vpd::default();
    let mut at = 0;
    while let Some(tag) = bytes.get(at) {
        // The end; zeros and ones are what an empty or absent memory gives.
        if tag & 0xf8 == 0x78 || *tag == 0 || (*tag == 0xff && at == 0) {
            return Ok(vpd);
        }
        let Some([low, high]) = bytes.get(at + 1..at + 3) else { return Err(format!("it ends within the tag at byte {at}")) };
        let length = usize::from(u16::from_le_bytes([*low, *high]));
        let Some(content) = bytes.get(at + 3..at + 3 + length) else {
            return Err(format!("the resource at byte {at} has {length} bytes, more than there are"));
        };
        match tag {
            0x82 => vpd.product = text(content),
            0x90 | 0x91 => vpd.take(&fields(content, at + 3)?),
            _ => return Err(format!("tag {tag:#04x} at byte {at} is none of an identifier, of data or of the end")),
        }
        at += 3 + length;
    }
    Ok(vpd)
}

impl Vpd {
    fn take(&mut self, fields: &BTreeMap<String, String>) {
        for (keyword, value) in fields {
            let value = value.clone();
            match keyword.as_str() {
                "PN" => self.part_number = Some(value),
                "EC" => self.engineering_level = Some(value),
                "SN" => self.serial_number = Some(value),
                "MN" => self.manufacturer = Some(value),
                _ if keyword.starts_with('V') => self.vendor_fields.push(VpdField { keyword: keyword.clone(), value }),
                _ => {}
            }
        }
    }
}

/// Two characters, a length, the text.
fn fields(content: &[u8], start: usize) -> Result<BTreeMap<String, String>, String> {
    let mut fields = BTreeMap::new();
    let mut at = 0;
    while let Some([first, second, length]) = content.get(at..at + 3) {
        let length = usize::from(*length);
        let Some(value) = content.get(at + 3..at + 3 + length) else {
            return Err(format!("the field at byte {} has {length} bytes, more than there are", start + at));
        };
        // RV and RW are a sum and room that is left, neither of them text.
        let keyword = [*first, *second];
        if keyword.iter().all(u8::is_ascii_alphanumeric)
            && !matches!(&keyword, b"RV" | b"RW")
            && let Some(value) = text(value)
        {
            fields.insert(keyword.map(char::from).iter().collect(), value);
        }
        at += 3 + length;
    }
    Ok(fields)
}

/// Text without what fills it up; `None` where nothing else is there.
fn text(bytes: &[u8]) -> Option<String> {
    let printable: String = bytes.iter().map(|byte| char::from(*byte)).filter(|c| c.is_ascii_graphic() || *c == ' ').collect();
    let trimmed = printable.trim();
    (!trimmed.is_empty()).then(|| trimmed.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Node;

    fn resource(tag: u8, content: &[u8]) -> Vec<u8> {
        [&[tag][..], &u16::try_from(content.len()).unwrap().to_le_bytes(), content].concat()
    }

    fn field(keyword: &str, value: &[u8]) -> Vec<u8> {
        [keyword.as_bytes(), &[u8::try_from(value.len()).unwrap()], value].concat()
    }

    /// As an adapter has it, in short.
    fn adapter() -> Vec<u8> {
        let read_only = [
            field("PN", b"MCX75310AAS-NEAT "),
            field("EC", b"A5"),
            field("SN", b"MT2301X00001"),
            field("V2", b"MCX75310AAS-NEAT"),
            field("RV", &[0x8f, 0, 0]),
        ]
        .concat();
        let writable = [field("V1", b"\0\0"), field("RW", &[0; 20])].concat();
        [resource(0x82, b"ConnectX-7 adapter"), resource(0x90, &read_only), resource(0x91, &writable), vec![0x78]].concat()
    }

    #[test]
    fn an_adapter_says_what_it_is() {
        let vpd = parse(&adapter()).unwrap();
        assert_eq!(vpd.product.as_deref(), Some("ConnectX-7 adapter"));
        assert_eq!((vpd.part_number.as_deref(), vpd.serial_number.as_deref()), (Some("MCX75310AAS-NEAT"), Some("MT2301X00001")));
        assert_eq!(vpd.vendor_fields.len(), 1);
        assert_eq!(parse(&[]).unwrap(), Vpd::default());
        assert_eq!(parse(&[0; 64]).unwrap(), Vpd::default());
        assert_eq!(parse(&[0xff; 64]).unwrap(), Vpd::default());
    }

    #[test]
    fn damage_is_placed() {
        let good = adapter();
        assert!(parse(&good[..2]).unwrap_err().contains("within the tag at byte 0"));
        assert!(parse(&good[..40]).unwrap_err().contains("byte 21"));
        assert!(parse(&resource(0x83, b"")).unwrap_err().contains("0x83"));
        assert!(parse(&resource(0x90, b"PN\x09x")).unwrap_err().contains("byte 3"));
    }

    #[test]
    fn it_is_read_of_nics_where_it_is_readable() {
        let dir = "/sys/bus/pci/devices/0000:17:00.0";
        let of = |node: Node| {
            let nodes = [
                (format!("{dir}/class"), Node::text("0x020000")),
                (format!("{dir}/vendor"), Node::text("0x15b3")),
                (format!("{dir}/vpd"), node),
            ];
            read(&Root::tree(nodes.into_iter().map(|(path, node)| (path.into(), node)).collect()))
        };
        let facts = of(Node::File(adapter()));
        assert_eq!(facts.functions.unwrap()[0].data.engineering_level.as_deref(), Some("A5"));
        assert_eq!(of(Node::Denied), VpdFacts { functions: Some(vec![]), ..VpdFacts::default() });
        assert_eq!(of(Node::Fails(libc::EIO)).problems.len(), 1);
        assert_eq!(of(Node::text("garbage")).problems.len(), 1);
    }
}
