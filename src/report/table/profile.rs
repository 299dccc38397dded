//! Documents of `profile` for people.

use rdmadoctor_types::Word;

use super::{Style, Table};
use crate::profile::export::Export;
use crate::profile::{
    EngineVerdict, GpuPath, Profile, ProfileCheck, ProfileDiff, ProfileValidation, ProfiledEngine, ProfiledPort, ValidatedFile,
};

impl Table for Profile {
    fn table(&self, style: &Style) -> String {
        let style = *style;
        let model = self.host.model.as_ref().map_or_else(String::new, |model| format!(", the modelled host {model}"));
        let mut out = format!("{}{model}  written {} by rdmadoctor {}\n", style.bold(&self.host.name), self.created, self.tool_version);
        out += &if self.validated {
            style.entry("validated", &style.good("every entry was attempted or measured on this host"))
        } else {
            let count = self.unvalidated.len();
            style.entry("validated", &style.warn(format!("no: {count} entries were neither attempted nor measured")))
        };
        for port in &self.devices {
            out += &port_lines(port, style);
        }
        for gpu in &self.gpus {
            let nics: Vec<String> = gpu.nics.iter().map(|nic| format!("{} {}", nic.name, nic.affinity)).collect();
            out += &format!("GPU {} {}\n{}", gpu.index, gpu.pci, style.entry("nics", &nics.join(", ")));
            out += &style.entry("path", &gpu.path.as_ref().map_or_else(|| "not known".to_owned(), gpu_path));
        }
        if !self.engines.is_empty() {
            let rows: Vec<Vec<String>> = self.engines.iter().map(|engine| engine_row(engine, style)).collect();
            out += &style.columns(&["engine", "version", "verdict", "devices and settings"], &rows);
        }
        let shown = if style.verbose { self.unvalidated.len() } else { 0 };
        for one in self.unvalidated.iter().take(shown) {
            out += &style.entry("unvalidated", &format!("{}: {}", one.entry, one.why));
        }
        if style.verbose {
            for evidence in &self.evidence {
                out += &style.entry(&evidence.id, &evidence.summary);
            }
        }
        out
    }
}

/// The way of a GPU's memory, with what became of the others.
fn gpu_path(path: &GpuPath) -> String {
    let nic = path.nic.as_ref().map_or_else(String::new, |nic| format!(" (tried with {nic})"));
    let also: String = path.also.iter().map(|way| format!(", {} too", way.kind)).collect();
    let failed: String = path.failed.iter().map(|way| format!("; {} fails: {}", way.kind, way.why)).collect();
    format!("{}{also}{nic}{failed}", path.kind)
}

fn port_lines(port: &ProfiledPort, style: Style) -> String {
    let family = port.family.as_ref().map_or_else(String::new, |family| format!(" ({family})"));
    let state = port.state.as_ref().map_or("state not known", Word::as_str);
    let mut out = format!("{}{family} port {}  {}, {state}\n", style.bold(&port.name), port.port, port.transport);
    let gid = port.gid.as_ref().map(|gid| format!("{} {}", gid.value, gid.kind.as_deref().unwrap_or_default()).trim().to_owned());
    out += &style.entry("gid", gid.as_deref().unwrap_or("none"));
    if let Some(mtu) = &port.mtu_bytes {
        out += &style.entry("mtu", &format!("{} bytes", mtu.value));
    }
    let limits: Vec<String> = port.qp.limits.iter().map(|limit| format!("{} {}", limit.parameter, limit.accepted)).collect();
    if !limits.is_empty() {
        out += &style.entry("limits", &limits.join(", "));
    }
    for joint in &port.qp.joint {
        let first = joint.points.first().zip(joint.points.last());
        let steps = first.map_or_else(String::new, |(first, last)| {
            format!("{} with {} {}, {} with {}", first.accepted, joint.over, first.up_to, last.accepted, last.up_to)
        });
        out += &style.entry("jointly", &format!("{} {steps}", joint.parameter));
    }
    if let Some(recommended) = &port.qp.recommended {
        let request = &recommended.value;
        out += &style.entry(
            "use",
            &format!(
                "{} max_send_wr {}, max_recv_wr {}, max_send_sge {}, max_recv_sge {}, max_inline_data {}, cq_depth {} (granted together)",
                request.qp_type,
                request.max_send_wr,
                request.max_recv_wr,
                request.max_send_sge,
                request.max_recv_sge,
                request.max_inline_data,
                request.cq_depth
            ),
        );
    }
    if let Some(connection) = &port.connection {
        let refused = connection.refused.as_ref().map_or_else(String::new, |refused| format!(": {refused}"));
        out += &style.entry("connects", &format!("with itself up to {}{refused}", connection.reached));
    }
    if let Some(memory) = &port.memory {
        let asked = match (memory.asked_bytes, memory.regions) {
            (Some(asked), Some(regions)) => format!("; {asked} bytes take {regions} regions"),
            _ => String::new(),
        };
        let granted = memory.registered_bytes.map_or_else(String::new, |bytes| format!("; {bytes} bytes were registered at once"));
        let refused = memory.refused_bytes.map_or_else(String::new, |bytes| format!("; {bytes} bytes were refused"));
        out += &style.entry("memory", &format!("regions up to {} bytes{asked}{granted}{refused}", memory.max_region_bytes));
    }
    if let Some(count) = &port.queue_pairs_per_connection {
        out += &style.entry("queue pairs", &format!("{} fill the link with itself", count.value));
    }
    for one in &port.measurements {
        let rate = one.bytes_per_second.map(|rate| format!("{:.3} GB/s", rate / 1e9));
        let latency = one.p50_us.map(|latency| format!("{latency:.2} us"));
        let contents = (rate.is_none() && latency.is_none()).then(|| "what was sent arrived".to_owned());
        let values: Vec<String> = [rate, latency, contents].into_iter().flatten().collect();
        out += &style
            .entry("measured", &format!("{} {} {} bytes x{}: {}", one.op, one.memory, one.size_bytes, one.queue_pairs, values.join(", ")));
    }
    out
}

fn engine_row(engine: &ProfiledEngine, style: Style) -> Vec<String> {
    let verdict = match engine.verdict {
        EngineVerdict::Works => style.good("works"),
        EngineVerdict::WorksWithSettings => style.good("works with settings"),
        EngineVerdict::Unknown => style.warn("unknown"),
        EngineVerdict::Fails => style.bad("fails"),
    };
    let works: Vec<&str> = engine
        .devices
        .iter()
        .filter(|device| matches!(device.verdict, EngineVerdict::Works | EngineVerdict::WorksWithSettings))
        .map(|device| device.name.as_str())
        .collect();
    let settings: Vec<String> = engine.settings.iter().map(|setting| format!("{}={}", setting.name, setting.value)).collect();
    let mut words = Vec::new();
    if !works.is_empty() {
        words.push(works.join(" "));
    }
    words.extend(settings);
    if engine.verdict == EngineVerdict::Fails
        && let Some(obstacle) = engine.devices.iter().flat_map(|device| &device.obstacles).next()
    {
        words.push(obstacle.summary.clone());
    }
    vec![engine.name.clone(), engine.version.clone(), verdict, words.join(", ")]
}

impl Table for ProfileCheck {
    fn table(&self, style: &Style) -> String {
        let mut out = if self.is_fresh {
            format!("{}  {} of {}\n", style.good("fresh"), self.file, self.created)
        } else {
            format!("{}  {} of {}: write it again with `rdmadoctor profile write`\n", style.bad("stale"), self.file, self.created)
        };
        for one in &self.stale {
            out += &format!("  {}\n", style.bold(&one.entry));
            out += &style.entry("was", &one.was);
            out += &style.entry("is", &one.is);
        }
        for one in &self.changed {
            let word = |value: &Option<String>| value.clone().unwrap_or_else(|| "absent".to_owned());
            out += &style.entry("changed", &format!("{}: {} -> {}", one.field, word(&one.was), word(&one.is)));
        }
        if style.verbose || self.attempts_left > 0 {
            out +=
                &style.entry("attempts", &format!("{} made again, {} left to the fingerprint", self.attempts_repeated, self.attempts_left));
        }
        out
    }
}

impl Table for ProfileDiff {
    fn table(&self, style: &Style) -> String {
        if self.differences.is_empty() {
            return format!("{}  {} and {} say the same\n", style.good("equal"), self.a, self.b);
        }
        let word = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        self.differences
            .iter()
            .map(|one| format!("{}\n{}{}", style.bold(&one.entry), style.entry("a", &word(&one.a)), style.entry("b", &word(&one.b))))
            .collect()
    }
}

impl Table for Export {
    fn table(&self, _: &Style) -> String {
        self.parts.first().map(|part| part.text.clone()).unwrap_or_default()
    }
}

impl Table for ProfileValidation {
    fn table(&self, style: &Style) -> String {
        let line = |file: &ValidatedFile| match &file.problem {
            Some(problem) => format!("{} {problem}\n", style.bad("invalid")),
            None => format!("{}   {}\n", style.good("valid"), file.file.display()),
        };
        self.files.iter().map(line).collect()
    }
}
