use proptest::prelude::*;

use super::*;

#[test]
fn every_kind_reads_and_writes() {
    for (text, written) in [
        ("errno:ibv_create_qp:ENOMEM@3", "errno:ibv_create_qp:ENOMEM@3"),
        ("errno:ibv_create_qp:12", "errno:ibv_create_qp:ENOMEM"),
        ("errno:ibv_create_qp:ENOTSUP", "errno:ibv_create_qp:EOPNOTSUPP"),
        ("errno:ibv_create_qp:0", "errno:ibv_create_qp:0"),
        ("errno:ibv_create_qp:4000", "errno:ibv_create_qp:4000"),
        ("errno:ibv_modify_qp:ETIMEDOUT,state=RTR", "errno:ibv_modify_qp:ETIMEDOUT,state=2"),
        ("crash:ibv_create_qp@2", "crash:ibv_create_qp@2"),
        ("hang:ibv_create_qp@1+", "hang:ibv_create_qp"),
        ("short_completion@4", "short_completion:1@4"),
        ("corrupt_payload:17@3", "corrupt_payload:17@3"),
        ("late_writes@2+", "late_writes:8@2+"),
        ("detour:mlx5_1,device=mlx5_0", "detour:mlx5_1,device=mlx5_0"),
        ("port_down@5s", "port_down:1@5000ms"),
        ("port_down:2@7", "port_down:2@7"),
        ("device_removed@9+", "device_removed@9+"),
        ("exhaust:qp=100", "exhaust:qp=100"),
        ("crash:ibv_create_qp, device=erdma_0, max_recv_sge=4", "crash:ibv_create_qp,device=erdma_0,max_recv_sge=4"),
        ("errno:ibv_reg_mr:ENOMEM,length_bytes>8388608", "errno:ibv_reg_mr:ENOMEM,length_bytes>8388608"),
    ] {
        let fault: Fault = text.parse().unwrap();
        assert_eq!(fault.to_string(), written);
        assert_eq!(written.parse::<Fault>().unwrap(), fault);
        assert_eq!(serde_json::from_str::<Fault>(&serde_json::to_string(&fault).unwrap()).unwrap(), fault);
    }
}

#[test]
fn errors_say_what_would_be_right() {
    for (text, part) in [
        ("", "valid are errno, crash"),
        ("explode:ibv_create_qp", "valid are errno, crash"),
        ("errno:ibv_create_qp", "write errno:CALL:ERRNO"),
        ("errno:create_qp:ENOMEM", "valid are ibv_get_device_list"),
        ("errno:ibv_create_qp:EFOO", "`EFOO` is no errno"),
        ("errno:ibv_create_qp:-12", "-12 is no errno"),
        ("errno:ibv_create_qp:ENOMEM@0", "counts begin with 1"),
        ("errno:ibv_create_qp:ENOMEM@x", "a count, such as @3"),
        ("errno:ibv_create_qp:ENOMEM@5s", "only port_down"),
        ("crash", "write crash:CALL"),
        ("exhaust:cow=1", "valid are pd, mr, cq, srq, qp"),
        ("exhaust:qp=1@3", "takes no @"),
        ("crash:ibv_create_qp,max_recv_sge", "write PARAMETER=VALUE"),
        ("crash:ibv_create_qp,colour=4", "valid are device, max_send_wr"),
        ("crash:ibv_create_cq,max_recv_sge=4", "a parameter of ibv_create_qp"),
        ("device_removed,max_recv_sge=4", "a parameter of ibv_create_qp"),
        ("crash:ibv_create_qp,device=a,device=b", "one name, once"),
        ("device_removed:3", "takes no argument"),
        ("port_down:+1", "`+1` is not"),
    ] {
        let error = text.parse::<Fault>().unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}

fn faults() -> impl Strategy<Value = Fault> {
    let call = || prop::sample::select(CALLS);
    let kind = prop_oneof![
        (call(), 0..4096_i32).prop_map(|(call, errno)| FaultKind::Errno { call, errno }),
        call().prop_map(|call| FaultKind::Crash { call }),
        call().prop_map(|call| FaultKind::Hang { call }),
        any::<u32>().prop_map(|bytes| FaultKind::ShortCompletion { bytes }),
        any::<u64>().prop_map(|offset| FaultKind::CorruptPayload { offset }),
        any::<u8>().prop_map(|port| FaultKind::PortDown { port }),
        Just(FaultKind::DeviceRemoved),
        (0..5_usize, any::<u32>()).prop_map(|(object, limit)| FaultKind::Exhaust { object: ObjectKind::ALL[object], limit }),
    ];
    let when = prop_oneof![
        (1..u64::MAX).prop_map(When::Nth),
        (1..u64::MAX).prop_map(When::From),
        any::<u64>().prop_map(|ms| When::After(Duration::from_millis(ms)))
    ];
    let condition = (
        prop::sample::select(PARAMETERS),
        prop::sample::select(&[Comparison::Equal, Comparison::Above, Comparison::Below][..]),
        any::<u64>(),
    );
    (kind, when, prop::option::of("[a-z0-9_]{1,12}"), prop::collection::vec(condition, 0..4)).prop_map(
        |(kind, when, device, conditions)| {
            let timed = matches!(kind, FaultKind::PortDown { .. } | FaultKind::DeviceRemoved);
            let when = match when {
                _ if matches!(kind, FaultKind::Exhaust { .. }) => When::From(1),
                When::After(_) if !timed => When::From(2),
                when => when,
            };
            let conditions = conditions
                .into_iter()
                .filter(|((_, calls), _, _)| kind.call().is_some_and(|call| calls.contains(&call)))
                .map(|((parameter, _), comparison, value)| Condition { parameter, comparison, value })
                .collect();
            Fault { kind, when, device, conditions }
        },
    )
}

proptest! {
    #[test]
    fn any_fault_reads_back_as_it_was_written(fault in faults()) {
        prop_assert_eq!(fault.to_string().parse::<Fault>().unwrap(), fault);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,60}") {
        let _ = text.parse::<Fault>();
    }

    #[test]
    fn no_text_of_its_own_words_makes_it_panic(text in "(errno|crash|hang|exhaust|port_down|corrupt_payload)[:=@,+a-z_0-9]{0,40}") {
        if let Ok(fault) = text.parse::<Fault>() {
            prop_assert_eq!(fault.to_string().parse::<Fault>().unwrap(), fault);
        }
    }
}
