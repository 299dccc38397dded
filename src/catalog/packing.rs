//! Limits that depend on one another: devices that lay work requests into a queue of fixed size, so that depth falls as entries or
//! inline bytes grow. The arithmetic is here, its constants are in the device files.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Aspect, Certainty, Figure};
use crate::request::{Parameter, QpType};
use crate::verbs::QueuePairCaps;

/// Which arithmetic; exactly one is given.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Packing {
    /// Nvidia ConnectX-4 and later.
    #[serde(default)]
    pub mlx5: Option<Mlx5>,
    /// ConnectX-3.
    #[serde(default)]
    pub mlx4: Option<Mlx4>,
    /// Intel.
    #[serde(default)]
    pub irdma: Option<Irdma>,
    /// Amazon.
    #[serde(default)]
    pub efa: Option<Efa>,
    /// HiSilicon.
    #[serde(default)]
    pub hns: Option<Hns>,
}

/// Queue of 64-byte blocks; a send entry takes as many as its overhead and the larger of entries and inline bytes need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mlx5 {
    /// Largest send entry.
    pub max_send_entry_bytes: Figure<u32>,
    /// Largest receive entry.
    pub max_recv_entry_bytes: Figure<u32>,
    /// Blocks of 64 bytes in a send queue.
    pub max_send_blocks: Figure<u32>,
    /// Work requests in a receive queue.
    pub max_recv_wr: Figure<u32>,
}

/// Send entries of a power of two; the queue has headroom of 2 KiB and an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mlx4 {
    /// Largest send entry.
    pub max_send_entry_bytes: Figure<u32>,
    /// Entries in a queue, headroom included.
    pub max_entries: Figure<u32>,
}

/// Queues of 32-byte quanta; an entry takes 1, 2, 4 or 8 of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Irdma {
    /// Whether entries are laid out as X722 does.
    pub first_generation: bool,
    /// Quanta in a send queue.
    pub max_send_quanta: Figure<u32>,
    /// Quanta in a receive queue.
    pub max_recv_quanta: Figure<u32>,
    /// Fewest entries in a queue.
    pub min_entries: Figure<u32>,
    /// Quanta of a send queue that are kept free.
    pub reserved_send_quanta: Figure<u32>,
    /// Quanta of a receive queue that are kept free.
    pub reserved_recv_quanta: Figure<u32>,
}

/// Send entries in device memory of fixed size, receive buffers counted one by one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Efa {
    /// Device memory of a send queue.
    pub send_memory_bytes: Figure<u32>,
    /// Bytes of a send entry.
    pub entry_bytes: Figure<u32>,
    /// Bytes of a send entry whose inline data does not fit in the small one.
    pub wide_entry_bytes: Figure<u32>,
    /// Inline bytes that fit in a small entry.
    pub small_inline_bytes: Figure<u32>,
    /// Fewest work requests on a send queue.
    pub min_send_wr: Figure<u32>,
    /// Buffers on a receive queue.
    pub max_recv_buffers: Figure<u32>,
}

/// Queues of powers of two; beyond two entries a request reaches into a shared extension.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hns {
    /// Fewest work requests on a queue.
    pub min_wr: Figure<u32>,
    /// Work requests on a queue.
    pub max_wr: Figure<u32>,
    /// Receive entries that the device keeps for itself.
    pub reserved_recv_sge: Figure<u32>,
    /// Most inline bytes; more is lowered to this.
    pub max_inline_bytes: Figure<u32>,
}

/// Rounds up to a power of two, as drivers do; 0 stays 0.
fn power(value: u64) -> u64 {
    if value == 0 { 0 } else { value.next_power_of_two() }
}

fn align(value: u64, to: u64) -> u64 {
    value.div_ceil(to) * to
}

fn narrow(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

impl Packing {
    /// The capacities written back, or what does not fit.
    pub(super) fn pack(&self, qp_type: QpType, caps: QueuePairCaps, srq: bool) -> Result<QueuePairCaps, Aspect> {
        let mut caps = caps;
        if let Some(rule) = &self.mlx5 {
            caps = rule.pack(qp_type, caps, srq)?;
        }
        if let Some(rule) = &self.mlx4 {
            caps = rule.pack(qp_type, caps, srq)?;
        }
        if let Some(rule) = &self.irdma {
            caps = rule.pack(caps, srq)?;
        }
        if let Some(rule) = &self.efa {
            caps = rule.pack(caps)?;
        }
        if let Some(rule) = &self.hns {
            caps = rule.pack(caps);
        }
        Ok(caps)
    }

    /// How many arithmetics are given.
    pub(super) fn kinds(&self) -> usize {
        [self.mlx5.is_some(), self.mlx4.is_some(), self.irdma.is_some(), self.efa.is_some(), self.hns.is_some()]
            .into_iter()
            .filter(|given| *given)
            .count()
    }

    /// Where the arithmetic is from.
    pub(super) fn source(&self) -> &'static str {
        if self.mlx5.is_some() {
            "[core] providers/mlx5/verbs.c, mlx5_calc_wq_size"
        } else if self.mlx4.is_some() {
            "[core] providers/mlx4/qp.c, mlx4_calc_sq_wqe_size"
        } else if self.irdma.is_some() {
            "[core] providers/irdma/uk.c, irdma_uk_calc_depth_shift_sq and _rq"
        } else if self.efa.is_some() {
            "[core] providers/efa/verbs.c, efa_check_qp_limits"
        } else {
            "[core] providers/hns/hns_roce_u_verbs.c, hns_roce_set_qp_params"
        }
    }

    /// The parameters that the constants bear on, and how sure these are.
    pub(super) fn certainties(&self) -> Vec<(Aspect, Certainty)> {
        let send = |figure: &Figure<u32>| (Aspect::Of(Parameter::MaxSendWr), figure.certainty);
        let recv = |figure: &Figure<u32>| (Aspect::Of(Parameter::MaxRecvWr), figure.certainty);
        let mut all = Vec::new();
        if let Some(rule) = &self.mlx5 {
            let entry = (Aspect::Of(Parameter::MaxSendSge), rule.max_send_entry_bytes.certainty);
            let inline = (Aspect::Of(Parameter::MaxInlineData), rule.max_send_entry_bytes.certainty);
            let recv_entry = (Aspect::Of(Parameter::MaxRecvSge), rule.max_recv_entry_bytes.certainty);
            all.extend([entry, inline, recv_entry, send(&rule.max_send_blocks), recv(&rule.max_recv_wr)]);
        }
        if let Some(rule) = &self.mlx4 {
            let inline = (Aspect::Of(Parameter::MaxInlineData), rule.max_send_entry_bytes.certainty);
            all.extend([inline, send(&rule.max_entries), recv(&rule.max_entries)]);
        }
        if let Some(rule) = &self.irdma {
            all.extend([send(&rule.max_send_quanta), recv(&rule.max_recv_quanta)]);
        }
        if let Some(rule) = &self.efa {
            all.extend([send(&rule.send_memory_bytes), recv(&rule.max_recv_buffers)]);
        }
        if let Some(rule) = &self.hns {
            let inline = (Aspect::Of(Parameter::MaxInlineData), rule.max_inline_bytes.certainty);
            all.extend([inline, send(&rule.max_wr), recv(&rule.max_wr)]);
        }
        all
    }

    pub(super) fn certainty_of(&self, parameter: Aspect) -> Certainty {
        self.certainties().into_iter().filter(|(of, _)| *of == parameter).map(|(_, certainty)| certainty).max().unwrap_or_default()
    }
}

impl Mlx5 {
    /// What a send entry needs before its data (`_sq_overhead` with the default operations of each type).
    fn overhead(qp_type: QpType) -> u64 {
        // Control 16, and the largest of an RDMA address (16 more), an atomic (32 more) and a memory key update (176 more).
        match qp_type {
            QpType::RC | QpType::UC => 192,
            QpType::XrcSend => 192 + 16,
            // An address of 48 bytes; datagrams have no RDMA, but the dynamically connected transport does.
            QpType::UD => 16 + 48,
            QpType::Driver | QpType::Srd => 192 + 48,
            QpType::RawPacket => 16 + 16,
        }
    }

    fn pack(&self, qp_type: QpType, caps: QueuePairCaps, srq: bool) -> Result<QueuePairCaps, Aspect> {
        const BLOCK: u64 = 64;
        const INLINE_HEADER: u64 = 4;
        let mut granted = caps;
        let overhead = Self::overhead(qp_type);
        let max_entry = u64::from(self.max_send_entry_bytes.value);
        // Without a send queue nothing of it is checked.
        if caps.max_send_wr > 0 {
            let entries = overhead + 16 * u64::from(caps.max_send_sge);
            let inline = match caps.max_inline_data {
                0 => 0,
                bytes => overhead + align(INLINE_HEADER + u64::from(bytes), 16),
            };
            if entries > max_entry {
                return Err(Aspect::Of(Parameter::MaxSendSge));
            }
            let entry = align(entries.max(inline), BLOCK);
            if inline > max_entry || entry > max_entry {
                return Err(Aspect::Of(Parameter::MaxInlineData));
            }
            let queue = power(u64::from(caps.max_send_wr) * entry);
            if queue / BLOCK > u64::from(self.max_send_blocks.value) {
                return Err(Aspect::Of(Parameter::MaxSendWr));
            }
            granted.max_send_wr = narrow(queue / entry);
            // Where an entry has nothing but its overhead this is -4, kept in an int and written back as 4294967292.
            granted.max_inline_data = narrow(entry - overhead).wrapping_sub(INLINE_HEADER as u32);
        }
        // The depth is checked even where a shared receive queue takes the place (mlx5_calc_rq_size).
        granted.max_recv_sge = if caps.max_recv_wr == 0 { 0 } else { caps.max_recv_sge };
        if caps.max_recv_wr > 0 {
            if caps.max_recv_wr > self.max_recv_wr.value {
                return Err(Aspect::Of(Parameter::MaxRecvWr));
            }
            if !srq {
                let bytes = 16 * u64::from(caps.max_recv_sge.max(1));
                if bytes > u64::from(self.max_recv_entry_bytes.value) {
                    return Err(Aspect::Of(Parameter::MaxRecvSge));
                }
                let entry = power(bytes);
                let queue = (power(u64::from(caps.max_recv_wr)) * entry).max(BLOCK);
                granted.max_recv_wr = narrow(power(queue / entry));
                granted.max_recv_sge = narrow(entry / 16);
            }
        }
        Ok(granted)
    }
}

impl Mlx4 {
    fn pack(&self, qp_type: QpType, caps: QueuePairCaps, srq: bool) -> Result<QueuePairCaps, Aspect> {
        const INLINE_CHUNK: u64 = 64;
        const INLINE_HEADER: u64 = 4;
        const CONTROL: u64 = 16;
        let (address, smallest) = match qp_type {
            QpType::UD => (48, 0),
            // Room for an atomic operation: its segment, a remote address and an entry.
            QpType::RC | QpType::XrcSend => (16, 16 + 16 + 16),
            QpType::UC => (16, 0),
            QpType::RawPacket | QpType::Driver | QpType::Srd => (0, 0),
        };
        let inline = u64::from(caps.max_inline_data);
        let first = if qp_type == QpType::UD { (CONTROL + 48) % INLINE_CHUNK } else { (CONTROL + 16) % INLINE_CHUNK };
        let headers = (inline + first + INLINE_CHUNK - INLINE_HEADER - 1) / (INLINE_CHUNK - INLINE_HEADER);
        let entries = u64::from(caps.max_send_sge).max(align(inline + headers * INLINE_HEADER, 16) / 16);
        // A memory window's binding takes 32 bytes.
        let size = (entries * 16 + address).max(smallest).max(32) + CONTROL;
        let entry = size.next_power_of_two().max(64);
        if entry > u64::from(self.max_send_entry_bytes.value) {
            return Err(if inline > 16 * u64::from(caps.max_send_sge) {
                Aspect::Of(Parameter::MaxInlineData)
            } else {
                Aspect::Of(Parameter::MaxSendSge)
            });
        }
        let spare = 2048 / entry + 1;
        let count = power(u64::from(caps.max_send_wr) + spare);
        if count > u64::from(self.max_entries.value) {
            return Err(Aspect::Of(Parameter::MaxSendWr));
        }
        let data = entry - CONTROL - address;
        let mut granted = caps;
        granted.max_send_wr = narrow(count - spare);
        granted.max_send_sge = narrow(data / 16);
        granted.max_inline_data = narrow(data - INLINE_HEADER * data.div_ceil(INLINE_CHUNK));
        if !srq {
            granted.max_recv_wr = narrow(power(u64::from(caps.max_recv_wr.max(1))));
            granted.max_recv_sge = narrow(power(u64::from(caps.max_recv_sge.max(1))));
        }
        Ok(granted)
    }
}

impl Irdma {
    /// The power of two of quanta that an entry takes (`irdma_get_wqe_shift`).
    fn shift(&self, sge: u64, inline: u32) -> u32 {
        match (self.first_generation, sge, inline) {
            (false, 0..=1, 0..=8) | (true, 0..=1, 0..=16) => 0,
            (false, 0..=3, 0..=39) | (true, 0..=3, 0..=48) => 1,
            (false, 0..=7, 0..=101) | (true, ..) => 2,
            (false, ..) => 3,
        }
    }

    fn depth(&self, wr: u32, shift: u32, reserved: u32, most: u32) -> Option<u64> {
        let depth = power((u64::from(wr) << shift) + u64::from(reserved));
        let depth = depth.max(u64::from(self.min_entries.value) << shift);
        (depth <= u64::from(most)).then_some(depth)
    }

    fn pack(&self, caps: QueuePairCaps, srq: bool) -> Result<QueuePairCaps, Aspect> {
        // From the second generation on, a send entry has room for immediate data.
        let immediate = u64::from(!self.first_generation);
        let send_shift = self.shift(u64::from(caps.max_send_sge) + immediate, caps.max_inline_data);
        let recv_shift = if self.first_generation { 2 } else { self.shift(u64::from(caps.max_recv_sge), 0) };
        let reserved = (self.reserved_send_quanta.value, self.reserved_recv_quanta.value);
        let send =
            self.depth(caps.max_send_wr, send_shift, reserved.0, self.max_send_quanta.value).ok_or(Aspect::Of(Parameter::MaxSendWr))?;
        let recv_wr = if srq { 1 } else { caps.max_recv_wr };
        let recv = self.depth(recv_wr, recv_shift, reserved.1, self.max_recv_quanta.value).ok_or(Aspect::Of(Parameter::MaxRecvWr))?;
        let mut granted = caps;
        granted.max_send_wr = narrow(send.saturating_sub(u64::from(reserved.0)) >> send_shift);
        granted.max_recv_wr = narrow(recv.saturating_sub(u64::from(reserved.1)) >> recv_shift);
        Ok(granted)
    }
}

impl Efa {
    fn pack(&self, caps: QueuePairCaps) -> Result<QueuePairCaps, Aspect> {
        let entry = if caps.max_inline_data > self.small_inline_bytes.value { &self.wide_entry_bytes } else { &self.entry_bytes };
        let fit = self.send_memory_bytes.value / entry.value.max(1);
        let depth = fit.checked_ilog2().map_or(0, |log| 1 << log);
        if caps.max_send_wr > depth {
            return Err(Aspect::Of(Parameter::MaxSendWr));
        }
        if caps.max_recv_wr > self.max_recv_buffers.value / caps.max_recv_sge.max(1) {
            return Err(Aspect::Of(Parameter::MaxRecvWr));
        }
        let mut granted = caps;
        granted.max_send_wr = narrow(power(u64::from(caps.max_send_wr.max(self.min_send_wr.value).max(1))));
        let buffers = power(u64::from(caps.max_recv_sge) * u64::from(caps.max_recv_wr)).max(1);
        granted.max_recv_wr = narrow(buffers / u64::from(caps.max_recv_sge.max(1)));
        Ok(granted)
    }
}

impl Hns {
    fn pack(&self, caps: QueuePairCaps) -> QueuePairCaps {
        let depth = |wr: u32| narrow(power(u64::from(wr.max(self.min_wr.value))));
        let mut granted = caps;
        granted.max_send_wr = depth(caps.max_send_wr).min(self.max_wr.value);
        if caps.max_recv_wr > 0 {
            granted.max_recv_wr = depth(caps.max_recv_wr);
            granted.max_recv_sge = narrow(power(u64::from(caps.max_recv_sge) + u64::from(self.reserved_recv_sge.value)));
        } else {
            granted.max_recv_sge = 0;
        }
        if caps.max_inline_data > 0 {
            granted.max_inline_data = narrow(power(u64::from(caps.max_inline_data))).min(self.max_inline_bytes.value);
        }
        granted
    }
}

#[cfg(test)]
#[path = "packing_tests.rs"]
mod tests;
