//! Counters of devices around a measurement, and what growth of one means.

use super::document::CounterDelta;
use crate::host::Root;
use crate::host::rdma_counters::{self, CounterFacts};

/// Devices whose counters are read.
pub struct Watched<'a> {
    root: &'a Root,
    devices: Vec<String>,
}

impl<'a> Watched<'a> {
    /// Of these devices.
    pub fn new(root: &'a Root, devices: &[&str]) -> Self {
        let mut devices: Vec<String> = devices.iter().map(|device| (*device).to_owned()).collect();
        devices.dedup();
        Self { root, devices }
    }

    /// As they are now.
    pub fn read(&self) -> CounterFacts {
        rdma_counters::read(self.root)
    }

    /// What has grown.
    pub fn since(&self, before: &CounterFacts) -> Vec<CounterDelta> {
        let now = self.read();
        let mut deltas = Vec::new();
        for set in now.sets.iter().filter(|set| self.devices.contains(&set.device)) {
            let earlier = before.sets.iter().find(|other| (&other.device, other.port, other.group) == (&set.device, set.port, set.group));
            for counter in &set.counters {
                let from = earlier.and_then(|set| set.counters.iter().find(|other| other.name == counter.name));
                let delta = counter.value.saturating_sub(from.map_or(counter.value, |from| from.value));
                if delta > 0 {
                    let meaning = meaning(&counter.name).map(str::to_owned);
                    deltas.push(CounterDelta { device: set.device.clone(), name: counter.name.clone(), delta, meaning });
                }
            }
        }
        deltas
    }
}

/// What growth during a measurement means, for counters that should stand still. Names are those of the kernel's drivers
/// (drivers/infiniband/hw/mlx5/counters.c, sw/rxe/rxe_hw_counters.c, hw/bnxt_re/hw_counters.c, core/sysfs.c).
fn meaning(name: &str) -> Option<&'static str> {
    Some(match name {
        "local_ack_timeout_err"
        | "ack_deferred"
        | "retry_exceeded_err"
        | "completer_retry_err"
        | "retry_rnr_exceeded_err"
        | "to_retransmits" => "acknowledgements did not come in time: packets were lost, or the other side is overloaded",
        "packet_seq_err"
        | "out_of_sequence"
        | "seq_err_nak_rcvd"
        | "rcvd_out_of_seq_request"
        | "out_of_seq_request"
        | "duplicate_request"
        | "oos_drop_count" => "packets arrived out of order or twice: some were lost on the way and sent again",
        "rnr_nak_retry_err" | "out_of_buffer" | "rcvd_rnr_err" | "send_rnr_err" | "rnr_naks_rcvd" => {
            "the receiver had no receive request posted: it cannot keep up"
        }
        "np_cnp_sent" | "rp_cnp_handled" | "np_ecn_marked_roce_packets" | "rx_cnp_pkts" | "tx_cnp_pkts" | "cnpHandled" | "cnpSent" => {
            "the network signalled congestion, and senders slowed down"
        }
        "rx_icrc_encapsulated" | "symbol_error" | "port_rcv_errors" | "link_error_recovery" | "local_link_integrity_errors" => {
            "damaged packets: look at cable, transceiver and error correction"
        }
        "port_xmit_wait" => "the port had data and could not send: flow control, of the switch or the other side",
        "port_xmit_discards" | "rx_dct_connect" => "the port threw packets away",
        "implied_nak_seq_err" | "local_length_err" | "remote_access_err" | "req_remote_access_errors" | "resp_remote_access_errors" => {
            "requests were refused"
        }
        "link_downed" => "the link went down meanwhile",
        _ => return None,
    })
}
