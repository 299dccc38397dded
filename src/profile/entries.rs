//! A profile as a flat list of entries, for comparing: where each is, and its value in words, without evidence and times.

use super::{EngineVerdict, Profile};

#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Such as `devices/mlx5_0/1/gid`.
    pub path: String,
    pub value: String,
    /// The figure that it is, of a measurement: two of them are never quite alike.
    pub figure: Option<f64>,
}

/// How a verdict is written.
pub fn verdict_word(verdict: EngineVerdict) -> &'static str {
    match verdict {
        EngineVerdict::Works => "works",
        EngineVerdict::WorksWithSettings => "works with settings",
        EngineVerdict::Unknown => "unknown",
        EngineVerdict::Fails => "fails",
    }
}

/// All entries, in the order of the file.
pub fn entries(profile: &Profile) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut put = |path: String, value: String, figure: Option<f64>| entries.push(Entry { path, value, figure });
    let mut add = |path: String, value: String| put(path, value, None);
    for field in &profile.host.fingerprint {
        add(format!("host/fingerprint/{}", field.field), field.value.clone());
    }
    for port in &profile.devices {
        let at = |part: &str| format!("devices/{}/{}/{part}", port.name, port.port);
        if let Some(gid) = &port.gid {
            add(at("gid"), format!("{} {}", gid.value, gid.kind.as_deref().unwrap_or_default()).trim().to_owned());
        }
        let numbers = [
            ("mtu_bytes", &port.mtu_bytes),
            ("cq_depth", &port.cq_depth),
            ("queue_pairs_per_connection", &port.queue_pairs_per_connection),
            ("traffic_class", &port.traffic_class),
            ("max_rd_atomic", &port.max_rd_atomic),
        ];
        for (name, value) in numbers {
            if let Some(value) = value {
                add(at(name), value.value.to_string());
            }
        }
        for limit in &port.qp.limits {
            let refused = limit.refused.map_or_else(String::new, |refused| format!(", refuses {refused}"));
            add(at(&format!("qp/{}", limit.parameter)), format!("accepts {}{refused}", limit.accepted));
        }
        for joint in &port.qp.joint {
            let points: Vec<String> = joint.points.iter().map(|point| format!("{} up to {}", point.accepted, point.up_to)).collect();
            add(at(&format!("qp/joint/{}/{}", joint.parameter, joint.over)), points.join(", "));
        }
        if let Some(recommended) = &port.qp.recommended {
            let request = &recommended.value;
            add(
                at("qp/recommended"),
                format!(
                    "{} send {}x{} recv {}x{} inline {} cq {}",
                    request.qp_type,
                    request.max_send_wr,
                    request.max_send_sge,
                    request.max_recv_wr,
                    request.max_recv_sge,
                    request.max_inline_data,
                    request.cq_depth
                ),
            );
        }
        if let Some(connection) = &port.connection {
            add(at("connection"), connection.reached.to_string());
        }
        if let Some(memory) = &port.memory {
            let locked = memory.memlock_bytes.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
            add(at("memory"), format!("regions up to {} bytes, {locked} bytes may be locked", memory.max_region_bytes));
        }
        if let Some(bytes) = port.memory.as_ref().and_then(|memory| memory.registered_bytes) {
            add(at("memory/registered_bytes"), bytes.to_string());
        }
    }
    for port in &profile.devices {
        for one in &port.measurements {
            let rate = one.bytes_per_second.map(|rate| (format!("{rate:.0} bytes/s"), "throughput", rate));
            let latency = one.p50_us.map(|latency| (format!("{latency:.2} us"), "latency", latency));
            for (value, name, figure) in [rate, latency].into_iter().flatten() {
                let what = format!("measurements/{name}/{}/{}/{}x{}", one.op, one.memory, one.size_bytes, one.queue_pairs);
                put(format!("devices/{}/{}/{what}", port.name, port.port), value, Some(figure));
            }
        }
    }
    let mut add = |path: String, value: String| put(path, value, None);
    for gpu in &profile.gpus {
        if let Some(path) = &gpu.path {
            add(format!("gpus/{}/path", gpu.pci), path.kind.clone());
        }
        let way = |path: &Option<super::Proven<String>>| path.as_ref().map_or_else(String::new, |path| format!(" {}", path.value));
        let nics: Vec<String> = gpu.nics.iter().map(|nic| format!("{} {}{}", nic.name, nic.affinity, way(&nic.path))).collect();
        add(format!("gpus/{}/nics", gpu.pci), nics.join(", "));
    }
    for engine in &profile.engines {
        let settings: Vec<String> = engine.settings.iter().map(|setting| format!("{}={}", setting.name, setting.value)).collect();
        let devices: Vec<String> =
            engine.devices.iter().map(|device| format!("{} {}", device.name, verdict_word(device.verdict))).collect();
        add(format!("engines/{}/{}", engine.name, engine.version), [devices, settings].concat().join(", "));
    }
    entries
}
