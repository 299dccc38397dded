//! Attempts in this very process. The child does these; so may a caller whose verbs cannot crash, which the simulated provider's do not.

use std::sync::Arc;

use rdmadoctor_types::QpState;

use super::{Connected, Counted, OpenError, Outcome, QpRequest, QpType};
use crate::verbs::{
    CallError, CompletionQueue, Context, DeviceList, Gid, GidPreference, ProtectionDomain, QueuePair, QueuePairInit, StateChange, Verbs,
};

/// After how many queue pairs a count shows that it goes on.
const COUNT_STEP: u32 = 64;

/// An open device with what attempts share. At most one attempt's objects are alive at a time.
pub struct OpenDevice {
    pd: ProtectionDomain,
    /// The last completion queue, used again while the depth stays the same.
    cq: Option<(u32, CompletionQueue)>,
}

impl OpenDevice {
    /// Opens a device.
    ///
    /// # Errors
    /// There is no such device, or it cannot be opened.
    pub fn open(verbs: &Arc<Verbs>, name: &str) -> Result<Self, OpenError> {
        let list = DeviceList::new(verbs).map_err(OpenError::Call)?;
        let handle = list.iter().find(|device| device.name() == name).ok_or_else(|| OpenError::Unknown(name.to_owned()))?;
        let pd = handle.open().and_then(|context| context.alloc_pd()).map_err(OpenError::Call)?;
        Ok(Self { pd, cq: None })
    }

    /// The device's name.
    #[must_use]
    pub fn device(&self) -> &str {
        self.pd.context().name()
    }

    /// Where memory is registered.
    pub(super) fn domain(&self) -> &ProtectionDomain {
        &self.pd
    }

    fn cq(&mut self, depth: u32) -> Result<CompletionQueue, CallError> {
        if let Some((at, cq)) = &self.cq
            && *at == depth
        {
            return Ok(cq.clone());
        }
        self.cq = None;
        let cq = self.pd.context().create_cq(depth)?;
        self.cq = Some((depth, cq.clone()));
        Ok(cq)
    }

    fn create(&mut self, request: &QpRequest) -> Result<(QueuePair, CompletionQueue), CallError> {
        let cq = self.cq(request.cq_depth)?;
        let srq = request.srq.map(|srq| self.pd.create_srq(srq.max_wr, srq.max_sge)).transpose()?;
        let init = QueuePairInit { qp_type: request.qp_type.code(), caps: request.caps(), cq: &cq, srq: srq.as_ref() };
        let queue_pair = if request.qp_type == QpType::Srd { self.pd.create_srd_qp(&init) } else { self.pd.create_qp(&init) };
        Ok((queue_pair?, cq))
    }

    /// Makes a queue pair and destroys it again.
    pub fn attempt(&mut self, request: &QpRequest) -> Outcome {
        match self.create(request) {
            Ok((queue_pair, cq)) => Outcome::Granted { caps: queue_pair.caps(), cq_depth: cq.entries() },
            Err(error) => Outcome::Refused { error },
        }
    }

    /// Makes up to `ceiling` queue pairs that exist together, then destroys them. `each` is called after every 64 of them, and
    /// says whether to go on.
    pub fn count(&mut self, request: &QpRequest, ceiling: u32, each: &mut dyn FnMut() -> bool) -> Counted {
        let mut alive = Vec::new();
        for granted in 0..ceiling {
            if granted % COUNT_STEP == COUNT_STEP - 1 && !each() {
                return Counted { granted, refused: None };
            }
            match self.create(request) {
                Ok((queue_pair, _)) => alive.push(queue_pair),
                Err(error) => return Counted { granted, refused: Some(error) },
            }
        }
        Counted { granted: ceiling, refused: None }
    }

    /// Walks a reliable connection through its states with itself as the other side: what an engine that exchanges addresses by
    /// itself will do. Nothing is sent. `gid_index` is the entry of the GID table to use; absent where the caller does not know the table.
    pub fn connect_to_itself(&mut self, port: u8, gid_index: Option<u8>, request: &QpRequest) -> Connected {
        let mut result = Connected { reached: QpState::Reset, gid_index: None, refused: None };
        result.refused = self.walk(port, gid_index, request, &mut result).err();
        result
    }

    fn walk(&mut self, port: u8, gid_index: Option<u8>, request: &QpRequest, result: &mut Connected) -> Result<(), CallError> {
        let (mut queue_pair, _cq) = self.create(request)?;
        let context = self.pd.context();
        let attributes = context.query_port(port)?;
        let is_ethernet = attributes.is_ethernet();
        let gid = match gid_index {
            Some(index) => filled(context, port, index.into()),
            None => best_gid(context, port, attributes.gid_table_length.unsigned_abs()),
        };
        result.gid_index = gid.map(|(index, _)| index);
        let (gid_index, remote_gid) = gid.unwrap_or((0, Gid([0; 16])));
        for change in [
            StateChange::Init { port },
            StateChange::ReadyToReceive {
                port,
                remote_qp_num: queue_pair.number(),
                remote_gid,
                gid_index: u8::try_from(gid_index).unwrap_or(0),
                remote_lid: attributes.lid,
                is_global: is_ethernet,
                mtu_bytes: attributes.active_mtu_bytes,
            },
            StateChange::ReadyToSend,
        ] {
            queue_pair.modify(change)?;
            result.reached = change.target();
        }
        Ok(())
    }
}

/// An entry of the GID table that holds something.
fn filled(context: &Context, port: u8, index: u32) -> Option<(u32, Gid)> {
    Some((index, context.query_gid(port, index).ok().filter(|gid| !gid.is_empty())?))
}

/// The GID to use, as far as verbs tells: types and interfaces are known to sysfs alone.
fn best_gid(context: &Context, port: u8, length: u32) -> Option<(u32, Gid)> {
    // A table is short in practice (256 on mlx5); the limit keeps a senseless length from costing minutes.
    let entries = (0..length.min(1024)).filter_map(|index| filled(context, port, index));
    entries.min_by_key(|(index, gid)| GidPreference::of(None, gid.scope(), None, *index))
}
