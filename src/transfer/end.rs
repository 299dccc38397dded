//! An end of connections: what it keeps while it is open, and the queue pairs of a step.

use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;

use rdma_sys::ibv_qp_type;

use super::credit::{Credit, steps};
use super::layout::{fits, places, start};
use super::memory::{Bytes, HUGE_PAGE, Placed, Staging, Supply, place};
use super::pattern::Ground;
use super::{CompletionMode, EndpointPlan, LinkFacts, LinkPlan, StageFacts, StageMemory, TransferError, Transport};
use crate::gpu::{Context as GpuContext, Kernels, MemoryKind};
use crate::verbs::{
    CompletionChannel, CompletionQueue, ConnectionId, ConnectionManager, Context, Datagrams, DeviceList, EventChannel, ProtectionDomain,
    QueuePair, QueuePairCaps, QueuePairInit, ReceiveRing, Region, Verbs,
};

/// Bytes of the header that precedes a datagram in memory (ibv_post_recv(3)).
pub const DATAGRAM_HEADER: usize = 40;
/// What is asked for inline, until it is granted: no device publishes its limit.
const INLINE_TRIED: [u32; 9] = [1024, 512, 256, 220, 128, 96, 64, 32, 0];

/// An open device, with memory.
pub struct End {
    pub plan: EndpointPlan,
    pub pd: ProtectionDomain,
    pub region: Region,
    /// GPU memory behind the region, where that is only the way to it.
    pub staging: Option<Staging>,
    /// What a GPU does itself with its memory.
    pub kernels: Option<Kernels>,
    /// The context of a GPU that has the memory.
    pub context: Option<GpuContext>,
    pub facts: StageFacts,
    pub manager: Option<ManagerEnd>,
    pub link: Option<Link>,
}

/// What an end has for connections by rdma_cm.
pub struct ManagerEnd {
    pub channel: EventChannel,
    /// Listens, and keeps the device open.
    pub listener: ConnectionId,
}

/// Queue pairs of a step.
pub struct Link {
    pub plan: LinkPlan,
    pub queue_pairs: Vec<QueuePair>,
    pub send_cq: CompletionQueue,
    pub recv_cq: CompletionQueue,
    pub channel: Option<CompletionChannel>,
    pub receives: Vec<Receives>,
    /// How many messages may be sent, and of how many receive requests the other side knows.
    pub credit: Credit,
    /// Set when joined: the other side's memory and key.
    pub remote: (u64, u32, u64),
    /// Where each queue pair's datagrams go.
    pub datagrams: Vec<Option<Datagrams>>,
    /// Requests that runs of single messages have left and that make no completion; a later one frees their places.
    pub left_without_completion: u32,
    /// Connections that made the queue pairs.
    pub ids: Vec<ConnectionId>,
}

/// Receive requests of a queue pair.
pub struct Receives {
    pub ring: ReceiveRing,
    /// Consumed and not posted again.
    pub owed: usize,
    /// Posted since the link began.
    pub posted: u64,
    /// After how many new ones the other side is told.
    pub step: u64,
}

impl Drop for Link {
    fn drop(&mut self) {
        for id in &self.ids {
            id.disconnect();
        }
    }
}

impl Transport {
    pub(super) fn code(self) -> u32 {
        match self {
            Self::Rc => ibv_qp_type::IBV_QPT_RC,
            Self::Uc => ibv_qp_type::IBV_QPT_UC,
            Self::Ud => ibv_qp_type::IBV_QPT_UD,
        }
    }
}

impl End {
    /// How many huge pages of 2 MiB its memory is.
    pub fn huge_pages(&self) -> u64 {
        if self.plan.memory == MemoryKind::HostHuge { (self.region.length() as u64).div_ceil(HUGE_PAGE as u64) } else { 0 }
    }

    /// Opens the device and registers memory.
    pub fn open(
        verbs: &Arc<Verbs>,
        manager: Option<&Arc<ConnectionManager>>,
        plan: &EndpointPlan,
        supply: Supply,
    ) -> Result<Self, TransferError> {
        let mut manager_end = None;
        let context = match plan.manager {
            None => {
                let list = DeviceList::new(verbs)?;
                let handle = list.iter().find(|device| device.name() == plan.device);
                handle
                    .ok_or_else(|| TransferError::Unusable { why: format!("libibverbs does not know the device {}", plan.device) })?
                    .open()?
            }
            Some(address) => {
                let Some(manager) = manager else {
                    return Err(TransferError::Unusable { why: "librdmacm cannot be used here".to_owned() });
                };
                let channel = EventChannel::new(manager)?;
                let listener = channel.create_id()?;
                listener.bind(address)?;
                let context = listener.context(verbs)?;
                if context.name() != plan.device {
                    let why = format!("rdma_cm gives {address} to {}, not to {}", context.name(), plan.device);
                    return Err(TransferError::Unusable { why });
                }
                listener.listen(64)?;
                manager_end = Some(ManagerEnd { channel, listener });
                context
            }
        };
        let facts = facts(&context, plan)?;
        let pd = context.alloc_pd()?;
        let Placed { region, staging, kernels, context: of_gpu, memory } = place(&pd, plan, supply)?;
        let mut end = Self { plan: plan.clone(), pd, region, staging, kernels, context: of_gpu, facts, manager: manager_end, link: None };
        // Inline payload is copied by the processor, which has no pages of a GPU's memory.
        end.facts.max_inline_bytes = if end.region.is_of_host() && end.staging.is_none() { end.most_inline() } else { 0 };
        (end.facts.address, end.facts.key) = (end.region.address(), end.region.remote_key());
        (end.facts.memory_bytes, end.facts.memory) = (end.region.length() as u64, memory);
        end.facts.manager_port = end.manager.as_ref().map(|manager| manager.listener.local_port());
        Ok(end)
    }

    /// Where messages begin and end: behind the region, where that is only the way there.
    pub fn ground(&self) -> Ground<'_> {
        let (bytes, address): (&dyn Bytes, u64) = match &self.staging {
            Some(staging) => (staging, staging.buffer.address()),
            None => (&self.region, self.region.address()),
        };
        Ground { bytes, gpu: self.kernels.as_ref().map(|kernels| (kernels, address)) }
    }

    fn most_inline(&self) -> u32 {
        let Ok(cq) = self.pd.context().create_cq(16) else { return 0 };
        let granted = INLINE_TRIED.into_iter().find(|bytes| {
            let caps = QueuePairCaps { max_send_wr: 16, max_recv_wr: 1, max_send_sge: 1, max_recv_sge: 1, max_inline_data: *bytes };
            self.pd.create_qp(&QueuePairInit { qp_type: Transport::Rc.code(), caps, cq: &cq, srq: None }).is_ok()
        });
        granted.unwrap_or(0)
    }

    /// Makes the queue pairs of a step. Those of rdma_cm are made when they join.
    pub fn link(&mut self, plan: &LinkPlan) -> Result<LinkFacts, TransferError> {
        let unusable = |why: String| TransferError::Unusable { why };
        if let Some(receive) = &plan.receive
            && !fits(self.region.length() as u64, receive.size_bytes, receive.shift_bytes)
        {
            return Err(unusable(format!("receive requests of {} bytes do not fit into the memory", receive.size_bytes)));
        }
        let receive_depth = plan.receive.as_ref().map_or(1, |receive| receive.depth.max(1));
        let entries = |depth: Option<u32>| depth.and_then(|depth| depth.checked_mul(plan.queue_pairs));
        let (Some(send_entries), Some(receive_entries)) =
            (entries(plan.send_depth.checked_add(plan.telling())), entries(Some(receive_depth)))
        else {
            return Err(unusable(format!("{} queue pairs with queues of {} are too many", plan.queue_pairs, plan.send_depth)));
        };
        // The last step's are gone before new ones are made: a device may have few.
        self.link = None;
        let context = self.pd.context();
        let channel = match plan.completing {
            CompletionMode::Poll => None,
            CompletionMode::Event => Some(context.create_channel()?),
        };
        let send_cq = context.create_cq_on(send_entries, channel.as_ref())?;
        let recv_cq = context.create_cq_on(receive_entries, channel.as_ref())?;
        let mut link = Link {
            plan: plan.clone(),
            queue_pairs: Vec::new(),
            send_cq,
            recv_cq,
            channel,
            receives: Vec::new(),
            credit: Credit::new(&self.pd, plan)?,
            remote: (0, 0, 0),
            datagrams: Vec::new(),
            left_without_completion: 0,
            ids: Vec::new(),
        };
        if self.manager.is_none() {
            for _ in 0..plan.queue_pairs {
                let mut queue_pair = self.pd.create_qp_on(&link.init(), &link.recv_cq)?;
                queue_pair.initialise(self.plan.port)?;
                link.add(queue_pair, &self.region)?;
            }
        }
        let gid = context.query_gid(self.plan.port, plan.gid_index.into()).map_or_else(|_| String::new(), |gid| gid.to_string());
        let numbers = link.queue_pairs.iter().map(QueuePair::number).collect();
        let credit = link.credit.words();
        self.link = Some(link);
        let receives = steps(plan).map_or(0, |steps| steps.first);
        Ok(LinkFacts { queue_pairs: numbers, gid, receives, credit })
    }

    /// What the device says that may explain trouble.
    pub fn evidence(&self) -> Vec<String> {
        let context = self.pd.context();
        let mut evidence: Vec<String> = context.take_events().into_iter().map(|event| format!("{}: {event}", context.name())).collect();
        match context.query_port(self.plan.port) {
            Ok(port) if port.is_active() => {}
            Ok(port) => evidence.push(format!("{} port {} is {}", context.name(), port.port, port.state)),
            Err(error) => evidence.push(error.to_string()),
        }
        evidence
    }
}

impl Link {
    pub fn init(&self) -> QueuePairInit<'_> {
        let plan = &self.plan;
        let caps = QueuePairCaps {
            max_send_wr: plan.send_depth + plan.telling(),
            max_recv_wr: plan.receive.as_ref().map_or(1, |receive| receive.depth.max(1)),
            max_send_sge: 1,
            max_recv_sge: 1,
            max_inline_data: plan.inline_bytes,
        };
        QueuePairInit { qp_type: plan.transport.code(), caps, cq: &self.send_cq, srq: None }
    }

    /// Adds a queue pair that can take receive requests, and posts those.
    pub fn add(&mut self, queue_pair: QueuePair, region: &Region) -> Result<(), TransferError> {
        if let (Some(receive), Some(steps)) = (&self.plan.receive, steps(&self.plan)) {
            let batch = steps.chain;
            let header = if self.plan.transport == Transport::Ud { DATAGRAM_HEADER } else { 0 };
            let base = start(region.length(), true) - header;
            let places = places(receive.size_bytes as usize, region.length(), receive.touch, receive.shift_bytes as usize, batch, batch);
            let places: Vec<usize> = places.into_iter().map(|place| place + base).collect();
            let id = self.queue_pairs.len() as u64;
            let size = receive.size_bytes + header as u32;
            let mut ring = ReceiveRing::new(region, size, &places, batch, id);
            for _ in 0..steps.first as usize / batch {
                ring.post(&queue_pair)?;
            }
            let posted = steps.first.into();
            self.credit.began(self.receives.len(), posted);
            self.receives.push(Receives { ring, owed: 0, posted, step: steps.step });
        }
        self.queue_pairs.push(queue_pair);
        self.datagrams.push(None);
        Ok(())
    }
}

fn facts(context: &Context, plan: &EndpointPlan) -> Result<StageFacts, TransferError> {
    let attributes = context.query_device()?;
    let port = context.query_port(plan.port)?;
    let pkeys = (0..u32::from(port.pkey_table_length).min(128)).filter_map(|index| context.query_pkey(plan.port, index).ok());
    let positive = |value: i32| u32::try_from(value).unwrap_or(0);
    Ok(StageFacts {
        pkeys: pkeys.filter(|pkey| *pkey != 0).collect(),
        max_qp_wr: positive(attributes.max_qp_wr),
        max_cqe: positive(attributes.max_cqe),
        max_reads: u8::try_from(attributes.max_qp_rd_atom.min(attributes.max_qp_init_rd_atom).clamp(0, 128)).unwrap_or(0),
        max_inline_bytes: 0,
        address: 0,
        key: 0,
        memory_bytes: 0,
        manager_port: None,
        memory: StageMemory::default(),
        processors: available_parallelism().ok().map(NonZero::get),
        simulated: None,
        port,
    })
}
