//! What growth of a counter during a measurement means, for counters that should stand still.

use super::CounterKeeper;

/// What it means that a counter grew; absent where that is no trouble, or nobody says what it counts.
pub(super) fn meaning(keeper: CounterKeeper, name: &str) -> Option<&'static str> {
    match keeper {
        CounterKeeper::Rdma => of_device(name),
        CounterKeeper::Driver => of_driver(name),
        CounterKeeper::Kernel => of_kernel(name),
    }
}

/// Of RDMA devices. Names are those of the kernel's drivers (drivers/infiniband: core/sysfs.c, hw/mlx5/counters.c, hw/bnxt_re/hw_counters.c,
/// hw/efa/efa_verbs.c, hw/erdma/erdma_verbs.c, hw/irdma/verbs.c, sw/rxe/rxe_hw_counters.c). What the standard ones mean is in
/// Documentation/ABI/stable/sysfs-class-infiniband, what mlx5's do in NVIDIA's "Understanding mlx5 Linux counters and status parameters", what
/// Soft-RoCE's do in sw/rxe/rxe_comp.c and rxe_resp.c, where they are counted. Not here, since they grow when all is well: Soft-RoCE's
/// `ack_deferred` (an answer came while another was worked on) and mlx5's `rx_dct_connect` (somebody connected to a DC target).
fn of_device(name: &str) -> Option<&'static str> {
    Some(match name {
        "local_ack_timeout_err"
        | "req_transport_retries_exceeded"
        | "to_retransmits"
        | "max_retry_exceeded"
        | "completer_retry_err"
        | "retry_exceeded_err"
        | "tcpRetransSegs"
        | "retrans_pkts"
        | "retrans_timeout_events" => {
            "requests were sent again: acknowledgements did not come in time, since packets were lost or the other side is overloaded"
        }
        // `implied_nak_seq_err`: an acknowledgement that skips the answer to a read, so that answer was lost.
        "packet_seq_err"
        | "implied_nak_seq_err"
        | "out_of_sequence"
        | "seq_err_naks_rcvd"
        | "rcvd_seq_err"
        | "out_of_seq_request"
        | "duplicate_request"
        | "dup_req"
        | "oos_drop_count" => "packets arrived out of order or twice: some were lost on the way and sent again",
        "rnr_nak_retry_err"
        | "req_rnr_retries_exceeded"
        | "retry_rnr_exceeded_err"
        | "out_of_buffer"
        | "rcvd_rnr_err"
        | "send_rnr_err"
        | "rnr_naks_rcvd"
        | "rx_out_of_buffer" => "the receiver had no receive request posted: it cannot keep up",
        "np_cnp_sent"
        | "rp_cnp_handled"
        | "np_ecn_marked_roce_packets"
        | "rx_cnp_pkts"
        | "tx_cnp_pkts"
        | "np_cnp_pkts"
        | "rx_ecn_marked_pkts"
        | "cc_rx_ce_pkts"
        | "cc_rx_cnp_pkts"
        | "cc_tx_cnp_pkts"
        | "cnpHandled"
        | "cnpSent"
        | "RxECNMrkd" => "the network signalled congestion, and senders slowed down",
        "symbol_error" | "port_rcv_errors" | "link_error_recovery" | "local_link_integrity_errors" => {
            "damaged packets: look at cable, transceiver and error correction"
        }
        "rx_icrc_encapsulated" => "RoCE packets with a wrong checksum of their own (ICRC): damaged or changed by what passed them on",
        "port_xmit_wait" => "the port had data and could not send: flow control, of the switch or the other side",
        "port_xmit_discards" => "the port threw packets away that it could not send: it is congested, or went down",
        "rx_roce_discards" | "rx_drops" | "ip4InDiscards" | "ip6InDiscards" => "the device threw packets away that arrived",
        "tx_bps_limit_drop_cnt"
        | "rx_bps_limit_drop_cnt"
        | "tx_pps_limit_drop_cnt"
        | "rx_pps_limit_drop_cnt"
        | "hw_bps_limit_drop_cnt"
        | "hw_pps_limit_drop_cnt"
        | "hw_rx_bps_limit_drop_cnt"
        | "hw_rx_pps_limit_drop_cnt" => "packets beyond the rate that this instance may have were thrown away",
        "resp_local_length_error" | "res_length_mismatch" => "a message was longer than the receive request that it met",
        "remote_access_err"
        | "req_remote_access_errors"
        | "resp_remote_access_errors"
        | "req_remote_invalid_request"
        | "remote_invalid_req_err" => "requests were refused",
        "link_downed" => "the link went down meanwhile",
        _ => return None,
    })
}

const PAUSED: &str = "the switch or the other side told this port to stop sending: congestion beyond it";
const PAUSES: &str = "this port told the other side to stop sending: this host does not take data fast enough (PCIe, memory)";
const NO_ROOM: &str = "packets that arrived found no room in the port's buffers: this host does not take data fast enough, and flow control did not stop them";
const DAMAGED: &str = "damaged packets: look at cable, transceiver and error correction";
const TOO_LONG: &str = "packets longer than this port takes: the other side has a larger MTU";

/// Of network drivers. mlx5's are from Documentation/networking/device_drivers/ethernet/mellanox/mlx5/counters.rst, bnxt_en's from
/// drivers/net/ethernet/broadcom/bnxt/bnxt_ethtool.c, ice's from drivers/net/ethernet/intel/ice/ice_ethtool.c.
fn of_driver(name: &str) -> Option<&'static str> {
    Some(match without_priority(name).as_str() {
        "rx_pause_ctrl_phy" | "rx_global_pause" | "rx_global_pause_duration" | "rx_prio#_pause" | "rx_prio#_pause_duration" => PAUSED,
        "tx_pause_ctrl_phy" | "tx_global_pause" | "tx_global_pause_duration" | "tx_prio#_pause" | "tx_prio#_pause_duration" => PAUSES,
        "rx_pause_frames" | "rx_pfc_frames" | "rx_pfc_ena_frames_pri#" | "link_xoff_rx.nic" | "rx_priority_#_xoff.nic" => PAUSED,
        "tx_pause_frames" | "tx_pfc_frames" | "tx_pfc_ena_frames_pri#" | "link_xoff_tx.nic" | "tx_priority_#_xoff.nic" => PAUSES,
        "tx_pause_storm_warning_events" | "tx_pause_storm_error_events" => {
            "this port told the other side to stop for so long that the device took notice: this host hardly takes data (PCIe, memory, a stuck driver)"
        }
        "rx_discards_phy"
        | "rx_prio#_discards"
        | "rx_prio#_buf_discard"
        | "rx_prio#_cong_discard"
        | "rx_stat_discard"
        | "rx_dropped.nic" => NO_ROOM,
        "outbound_pci_buffer_overflow" => "packets were thrown away on their way to memory: data arrives faster than PCIe takes it",
        "rx_out_of_buffer" => "packets of the network interface found no receive buffer: its rings are short, or its processors busy",
        "tx_discards_phy" | "tx_stat_discard" | "tx_dropped_link_down.nic" => {
            "the port threw packets away that it could not send: it is congested, or went down"
        }
        "rx_prio#_marked" => "the device marked packets, since this host does not take data fast enough: senders slow down",
        "rx_crc_errors_phy"
        | "rx_symbol_err_phy"
        | "rx_pcs_symbol_err_phy"
        | "rx_fcs_err_frames"
        | "rx_pcs_symbol_err"
        | "rx_crc_errors.nic" => DAMAGED,
        "rx_oversize_pkts_phy" | "rx_out_of_range_len_phy" | "rx_ovrsz_frames" | "rx_oversize.nic" => TOO_LONG,
        "link_down_events_phy" | "link_down_events" => "the link went down meanwhile",
        _ => return None,
    })
}

/// Of the kernel (include/uapi/linux/if_link.h, struct rtnl_link_stats64). Packets of RDMA hardware are mostly not among them.
fn of_kernel(name: &str) -> Option<&'static str> {
    Some(match name {
        "rx_dropped" => "the kernel threw packets away that arrived: a lack of memory, or protocols that nobody here speaks",
        "tx_dropped" => "the kernel threw packets away that were to be sent: queues were full",
        "rx_errors" => "packets arrived that were damaged or malformed",
        "tx_errors" => "packets could not be sent",
        "rx_missed_errors" => "packets that arrived found no buffer in the interface: its rings are short, or its processors busy",
        "rx_crc_errors" => DAMAGED,
        _ => return None,
    })
}

/// The name with a `#` for each priority: a digit of its own.
fn without_priority(name: &str) -> String {
    let bytes = name.as_bytes();
    let is_digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
    let one = |(at, letter): (usize, char)| {
        let is_alone = letter.is_ascii_digit() && !is_digit(at.checked_sub(1)) && !is_digit(Some(at + 1));
        if is_alone { '#' } else { letter }
    };
    name.char_indices().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_told_apart_by_direction_for_each_driver() {
        let of = |name| meaning(CounterKeeper::Driver, name);
        for name in ["rx_prio3_pause", "rx_prio0_pause_duration", "rx_pause_ctrl_phy", "rx_pfc_ena_frames_pri5", "rx_priority_3_xoff.nic"] {
            assert_eq!(of(name), Some(PAUSED), "{name}");
        }
        for name in ["tx_prio3_pause", "tx_global_pause", "tx_pfc_ena_frames_pri0", "tx_priority_7_xoff.nic", "link_xoff_tx.nic"] {
            assert_eq!(of(name), Some(PAUSES), "{name}");
        }
        for name in ["rx_prio3_packets", "rx_packets_phy", "rx_corrected_bits_phy", "rx_priority_3_xon.nic", "[3]: rx_discards"] {
            assert_eq!(of(name), None, "{name}");
        }
    }

    #[test]
    fn what_grows_when_all_is_well_means_nothing() {
        for name in ["ack_deferred", "rx_dct_connect", "rx_write_requests", "port_xmit_data", "sent_pkts", "rdma_sends"] {
            assert_eq!(meaning(CounterKeeper::Rdma, name), None, "{name}");
        }
        assert!(meaning(CounterKeeper::Rdma, "implied_nak_seq_err").unwrap().contains("lost"));
        assert!(meaning(CounterKeeper::Rdma, "rx_icrc_encapsulated").unwrap().contains("ICRC"));
    }
}
