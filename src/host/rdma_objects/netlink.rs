//! RDMA netlink: the questions that iproute2's `rdma` asks, and its answers. Numbers are those of include/uapi/rdma/rdma_netlink.h.

use std::io;
use std::os::fd::AsFd;

use netlink_packet_core::{
    DecodeError, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable, NlasIterator,
};
use netlink_sys::protocols::NETLINK_RDMA;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt::ReceiveTimeout};
use nix::sys::time::{TimeVal, TimeValLike};

use super::{Object, ObjectCount, ObjectKind, ObjectsFacts, holders};

/// Longest wait for a part of an answer, in seconds.
const PATIENCE_S: i64 = 2;

/// Objects of one kind that are kept: a host with more holds too many whoever they are of.
const MOST: usize = 200_000;

/// Messages come in pages of the kernel, 32 KiB at most.
const BUFFER: usize = 64 << 10;

/// `RDMA_NL_NLDEV`, of which the commands are.
const CLIENT: u16 = 5 << 10;

/// `enum rdma_nldev_command`.
const GET: u16 = 1;
const SYS_GET: u16 = 6;
const RES_GET: u16 = 9;
const RES_QP_GET: u16 = 10;
const RES_CM_ID_GET: u16 = 11;
const RES_MR_GET: u16 = 13;

/// `enum rdma_nldev_attr`.
const DEV_INDEX: u16 = 1;
const DEV_NAME: u16 = 2;
const RES_SUMMARY: u16 = 15;
const RES_SUMMARY_ENTRY_NAME: u16 = 17;
const RES_SUMMARY_ENTRY_CURR: u16 = 18;
const RES_QP: u16 = 19;
const RES_STATE: u16 = 27;
const RES_PID: u16 = 28;
const RES_KERN_NAME: u16 = 29;
const RES_CM_ID: u16 = 30;
const RES_MR: u16 = 40;
const RES_MRLEN: u16 = 45;
const SYS_NETNS_MODE: u16 = 66;

/// A message with its attributes as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Message {
    command: u16,
    attributes: Vec<u8>,
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        CLIENT | self.command
    }

    fn buffer_len(&self) -> usize {
        self.attributes.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.attributes);
    }
}

impl NetlinkDeserializable for Message {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        Ok(Self { command: header.message_type & 0x3ff, attributes: payload.to_vec() })
    }
}

/// Asks for all of it. What the kernel refuses is told, with what was known by then.
pub(super) fn ask() -> ObjectsFacts {
    let mut facts = ObjectsFacts::default();
    facts.error = fill(&mut facts).err().map(|error| format!("RDMA netlink: {error}"));
    facts
}

fn fill(facts: &mut ObjectsFacts) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_RDMA)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    setsockopt(&socket.as_fd(), ReceiveTimeout, &TimeVal::seconds(PATIENCE_S))?;
    exchange(&socket, SYS_GET, NLM_F_ACK, None, &mut |attributes| {
        let mode = find(attributes, SYS_NETNS_MODE).and_then(|value| value.first().copied());
        facts.netns_mode = mode.map(|mode| if mode == 0 { "exclusive" } else { "shared" }.to_owned());
    })?;
    let mut devices: Vec<(u32, String)> = Vec::new();
    exchange(&socket, GET, NLM_F_DUMP, None, &mut |attributes| devices.extend(device(attributes)))?;
    let mut objects = Vec::new();
    for (index, name) in &devices {
        exchange(&socket, RES_GET, NLM_F_DUMP, Some(*index), &mut |attributes| {
            // A dump of counts tells of every device, whichever was asked about.
            if device(attributes).is_some_and(|(found, _)| found == *index) {
                facts.counts.extend(counts(attributes, name));
            }
        })?;
        let kinds = [
            (RES_QP_GET, RES_QP, ObjectKind::QueuePair),
            (RES_MR_GET, RES_MR, ObjectKind::MemoryRegion),
            (RES_CM_ID_GET, RES_CM_ID, ObjectKind::Connection),
        ];
        for (command, table, kind) in kinds {
            let mut found = Vec::new();
            exchange(&socket, command, NLM_F_DUMP, Some(*index), &mut |attributes| {
                if found.len() < MOST {
                    found.extend(entries(attributes, table, name, kind));
                }
            })?;
            objects.append(&mut found);
        }
    }
    facts.holders = holders(&objects);
    Ok(())
}

/// Sends a question and hands the attributes of each answer to `each`.
fn exchange(socket: &Socket, command: u16, flags: u16, device: Option<u32>, each: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let mut attributes = Vec::new();
    if let Some(index) = device {
        attributes.extend(8_u16.to_ne_bytes());
        attributes.extend(DEV_INDEX.to_ne_bytes());
        attributes.extend(index.to_ne_bytes());
    }
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(Message { command, attributes }));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let size = socket.recv(&mut &mut buffer[..], 0)?;
        let mut rest = buffer.get(..size).unwrap_or_default();
        while !rest.is_empty() {
            let message = NetlinkMessage::<Message>::deserialize(rest).map_err(io::Error::other)?;
            let length =
                usize::try_from(message.header.length).unwrap_or(usize::MAX).checked_next_multiple_of(4).unwrap_or(usize::MAX).max(16);
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(()),
                // The kernel's word for "done" after an answer that is not a dump.
                NetlinkPayload::Error(error) if error.code.is_none() => return Ok(()),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(inner) if inner.command == command => each(&inner.attributes),
                _ => {}
            }
            rest = rest.get(length..).unwrap_or_default();
        }
    }
}

/// The value of the first attribute of a kind.
fn find(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    all(attributes).find_map(|(found, value)| (found == kind).then_some(value))
}

/// Attributes one after another, until one that is damaged.
fn all(attributes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(attributes).map_while(Result::ok).map(|attribute| {
        let (kind, length) = (attribute.kind(), usize::from(attribute.length()));
        (kind, attribute.into_inner().get(4..length).unwrap_or_default())
    })
}

fn number(value: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(value.get(..4)?.try_into().ok()?))
}

fn long(value: &[u8]) -> Option<u64> {
    Some(u64::from_ne_bytes(value.get(..8)?.try_into().ok()?))
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

fn device(attributes: &[u8]) -> Option<(u32, String)> {
    Some((number(find(attributes, DEV_INDEX)?)?, text(find(attributes, DEV_NAME)?)))
}

fn counts(attributes: &[u8], device: &str) -> Vec<ObjectCount> {
    let Some(table) = find(attributes, RES_SUMMARY) else { return Vec::new() };
    let count = |entry: &[u8]| {
        let (kind, count) = (text(find(entry, RES_SUMMARY_ENTRY_NAME)?), long(find(entry, RES_SUMMARY_ENTRY_CURR)?)?);
        Some(ObjectCount { device: device.to_owned(), kind, count })
    };
    all(table).filter_map(|(_, entry)| count(entry)).collect()
}

fn entries(attributes: &[u8], table: u16, device: &str, kind: ObjectKind) -> Vec<Object> {
    let Some(table) = find(attributes, table) else { return Vec::new() };
    let object = |entry: &[u8]| Object {
        device: device.to_owned(),
        kind,
        pid: find(entry, RES_PID).and_then(number),
        kernel_name: find(entry, RES_KERN_NAME).map(text),
        state: find(entry, RES_STATE).and_then(|value| value.first().copied()),
        bytes: find(entry, RES_MRLEN).and_then(long).unwrap_or(0),
    };
    all(table).map(|(_, entry)| object(entry)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(u16::try_from(value.len() + 4).unwrap().to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn answers_are_read() {
        let named = [attribute(DEV_INDEX, &3_u32.to_ne_bytes()), attribute(DEV_NAME, b"rxe0\0")].concat();
        assert_eq!(device(&named), Some((3, "rxe0".to_owned())));
        let entry = |name: &[u8], count: u64| {
            attribute(
                16 | 0x8000,
                &[attribute(RES_SUMMARY_ENTRY_NAME, name), attribute(RES_SUMMARY_ENTRY_CURR, &count.to_ne_bytes())].concat(),
            )
        };
        let summary = attribute(RES_SUMMARY | 0x8000, &[entry(b"qp\0", 2), entry(b"mr\0", 7)].concat());
        let counted: Vec<_> = counts(&summary, "rxe0").into_iter().map(|count| (count.kind, count.count)).collect();
        assert_eq!(counted, [("qp".to_owned(), 2), ("mr".to_owned(), 7)]);
        let user = attribute(20, &[attribute(RES_PID, &4242_u32.to_ne_bytes()), attribute(RES_STATE, &[3])].concat());
        let kernel = attribute(20, &attribute(RES_KERN_NAME, b"ib_core\0"));
        let ended = attribute(20, &attribute(RES_STATE, &[6]));
        let objects = entries(&attribute(RES_QP, &[user, kernel, ended].concat()), RES_QP, "rxe0", ObjectKind::QueuePair);
        let shown: Vec<_> = objects.iter().map(|object| (object.pid, object.kernel_name.as_deref(), object.state)).collect();
        assert_eq!(shown, [(Some(4242), None, Some(3)), (None, Some("ib_core"), None), (None, None, Some(6))]);
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (device(&bytes), counts(&bytes, "d"), entries(&bytes, RES_QP, "d", ObjectKind::QueuePair));
        }

        #[test]
        fn no_table_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let objects = entries(&attribute(RES_MR, &bytes), RES_MR, "d", ObjectKind::MemoryRegion);
            prop_assert!(objects.len() <= bytes.len());
        }
    }
}
