//! Credit: a sender sends no more than the other side has posted receive requests for.
//!
//! Without it a fast sender overruns the receiver. RoCE and InfiniBand then answer "receiver not ready", wait and try again; iWARP ends the
//! connection (Linux drivers/infiniband/sw/siw/siw_qp_rx.c, siw_proc_send: DDP_ECODE_UT_INVALID_MSN_NOBUF), and eRDMA is built on it.
//!
//! Ends of one process look at each other's counts. Otherwise the receiver writes its count into the sender's memory by RDMA, now and
//! then: queues are several times deeper than what is under way, so a sender seldom waits and no message pays for it. Counts go over all
//! runs of a link and never back, so it does no harm if one comes late.

use super::plan::{LinkPlan, RemoteCounter};
use super::{TransferError, Transport};
use crate::verbs::{ProtectionDomain, QueuePair, Region, SendKind, SendRing, SendRingInit};

/// Bytes of a count in memory: the number, and all its bits turned over, since one that is half written must not count.
const WORD: usize = 16;
/// Bytes of a queue pair's counts: the one that the other side writes, and the one that it is sent.
const STRIDE: usize = 2 * WORD;
/// Marks the completion of a count that was sent.
const TOLD: u64 = 1 << 63;

/// What one end knows of its queue pairs.
pub struct Credit {
    accounts: Vec<Account>,
    wire: Option<Wire>,
}

#[derive(Default, Clone)]
struct Account {
    /// Messages sent.
    sent: u64,
    /// Messages that the other side has, or had, receive requests for.
    granted: u64,
    /// The own receive requests that the other side was told of.
    announced: u64,
    /// Whether a count is under way to it.
    is_telling: bool,
}

/// Where counts go over the wire.
struct Wire {
    words: Region,
    rings: Vec<SendRing>,
}

/// How receive requests of a link are posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steps {
    /// How many are posted at once.
    pub chain: usize,
    /// How many there are to begin with: whole chains.
    pub first: u32,
    /// After how many new ones the other side is told.
    pub step: u64,
}

/// What is held back of a queue is always less than what it has beyond the sender's: a sender gets what it needs for a whole queue of its own.
pub fn steps(plan: &LinkPlan) -> Option<Steps> {
    let receive_depth = plan.receive.as_ref()?.depth.max(1);
    let beyond = receive_depth.saturating_sub(plan.send_depth);
    // Posted again in eighths, so that there are always many left.
    let chain = (receive_depth / 8).min(beyond / 4).clamp(1, 32);
    Some(Steps { chain: chain as usize, first: receive_depth - receive_depth % chain, step: u64::from(beyond / 2).max(1) })
}

impl Credit {
    /// Of a link's queue pairs.
    pub fn new(pd: &ProtectionDomain, plan: &LinkPlan) -> Result<Self, TransferError> {
        let count = plan.queue_pairs as usize;
        let wire = match plan.tells_credit {
            false => None,
            true => Some(Wire { words: pd.register_pages((count * STRIDE).next_multiple_of(4096))?, rings: Vec::new() }),
        };
        Ok(Self { accounts: vec![Account::default(); count], wire })
    }

    /// Where the other side writes its counts.
    pub fn words(&self) -> Option<RemoteCounter> {
        let words = &self.wire.as_ref()?.words;
        Some(RemoteCounter { address: words.address(), key: words.remote_key() })
    }

    /// The other side is known: where its words are, and how many receive requests each of its queue pairs has to begin with.
    pub fn begin(&mut self, remote: Option<RemoteCounter>, receives: u32) -> Result<(), TransferError> {
        self.accounts.iter_mut().for_each(|account| account.granted = receives.into());
        let Some(wire) = &mut self.wire else { return Ok(()) };
        let Some(remote) = remote else {
            return Err(TransferError::Unusable { why: "the other side does not say where it is told of receive requests".to_owned() });
        };
        if remote.address.checked_add((self.accounts.len() * STRIDE) as u64).is_none() {
            return Err(TransferError::Unusable { why: "the other side's counts go beyond all addresses".to_owned() });
        }
        wire.rings = (0..self.accounts.len())
            .map(|index| {
                SendRing::new(&SendRingInit {
                    kind: SendKind::Write,
                    local: &wire.words,
                    remote: (remote.address, remote.key),
                    size: WORD as u32,
                    offsets: &[(index * STRIDE + WORD, (index * STRIDE) as u64)],
                    batch: 1,
                    signal_chains: 1,
                    inline: false,
                    id: TOLD | index as u64,
                    datagrams: None,
                })
            })
            .collect();
        Ok(())
    }

    /// Whether so many more messages may be sent.
    #[inline]
    pub fn allows(&mut self, index: usize, count: u64) -> bool {
        let account = &self.accounts[index];
        account.sent + count <= account.granted || self.look(index, count)
    }

    #[cold]
    fn look(&mut self, index: usize, count: u64) -> bool {
        let Some(wire) = &self.wire else { return false };
        let account = &mut self.accounts[index];
        if let Some(granted) = read(&wire.words, index * STRIDE) {
            account.granted = account.granted.max(granted);
        }
        account.sent + count <= account.granted
    }

    /// So many were sent.
    #[inline]
    pub fn spend(&mut self, index: usize, count: u64) {
        self.accounts[index].sent += count;
    }

    /// The other side, in this process, has posted so many.
    pub fn grant(&mut self, index: usize, posted: u64) {
        self.accounts[index].granted = posted;
    }

    /// Tells the other side how many receive requests there have been, if that is news enough and it is on the wire.
    #[inline]
    pub fn announce(&mut self, index: usize, queue_pair: &QueuePair, posted: u64, step: u64) -> Result<(), TransferError> {
        let account = &mut self.accounts[index];
        let Some(wire) = &mut self.wire else { return Ok(()) };
        if account.is_telling || posted - account.announced < step {
            return Ok(());
        }
        let Some(ring) = wire.rings.get_mut(index) else { return Ok(()) };
        write(&wire.words, index * STRIDE + WORD, posted);
        ring.post(queue_pair, 1)?;
        (account.announced, account.is_telling) = (posted, true);
        Ok(())
    }

    /// The queue pair has begun with so many receive requests, of which the other side knows.
    pub fn began(&mut self, index: usize, posted: u64) {
        self.accounts[index].announced = posted;
    }

    /// Whether counts go over the wire, so that their completions have to be taken.
    pub fn is_on_wire(&self) -> bool {
        self.wire.is_some()
    }

    /// The queue pair of a count's completion; nothing for one of a message.
    #[inline]
    pub fn told(&mut self, id: u64) -> Option<usize> {
        if id & TOLD == 0 {
            return None;
        }
        let index = (id & !TOLD) as usize;
        self.accounts[index].is_telling = false;
        Some(index)
    }
}

/// Whether a link's messages are under credit: unreliable ones may be lost, and their receive requests never come back.
pub fn is_kept(transport: Transport) -> bool {
    transport == Transport::Rc
}

fn write(words: &Region, at: usize, count: u64) {
    for (offset, byte) in count.to_le_bytes().into_iter().chain((!count).to_le_bytes()).enumerate() {
        words.store(at + offset, byte);
    }
}

/// A count that was written wholly.
fn read(words: &Region, at: usize) -> Option<u64> {
    let number = |from: usize| u64::from_le_bytes(std::array::from_fn(|offset| words.load(from + offset)));
    let (count, turned) = (number(at), number(at + WORD / 2));
    (count == !turned).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::{AccessPattern, CompletionMode, ReceivePlan};
    use crate::verbs::Reliability;

    fn plan(send_depth: u32, depth: u32) -> LinkPlan {
        LinkPlan {
            transport: Transport::Rc,
            queue_pairs: 1,
            send_depth,
            inline_bytes: 0,
            completing: CompletionMode::Poll,
            gid_index: 0,
            mtu_bytes: 1024,
            is_global: true,
            reliability: Reliability { timeout: 14, retries: 7, receiver_retries: 7, reads: 1 },
            receive: Some(ReceivePlan { size_bytes: 1, shift_bytes: 0, touch: AccessPattern::Hot, depth }),
            tells_credit: true,
        }
    }

    #[test]
    fn a_sender_is_never_left_without_credit_for_a_whole_queue() {
        for send in 1..300 {
            for receive in [send, send + 1, send + 2, send + 5, 2 * send, 3 * send + 1, 4 * send] {
                let steps = steps(&plan(send, receive)).unwrap();
                // Requests that wait to be posted again, and such that are posted and not told of.
                let held_back = (steps.chain as u64 - 1) + (steps.step - 1);
                assert!(u64::from(steps.first) - held_back >= u64::from(send), "{receive} {send}: {steps:?}");
            }
        }
    }
}
