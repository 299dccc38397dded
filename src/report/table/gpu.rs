//! `gpu` for people.

use super::topo::word;
use super::{Style, Table, devices};
use crate::checks::{Cause, EnginePath, GpuReport, GpuSurvey, KindReport, Met, WayReport};
use crate::gpu::{GpuError, Path, WritesOrdering};
use crate::host::modules::NvidiaFlavour;
use crate::transfer::Refusal;
use crate::units::about_size;
use crate::worker::Contents;

impl Table for GpuSurvey {
    fn table(&self, style: &Style) -> String {
        let style = *style;
        let mut out = String::new();
        let driver = &self.driver;
        let flavour = match driver.flavour {
            Some(NvidiaFlavour::Open) => ", open modules",
            Some(NvidiaFlavour::Proprietary) => ", closed modules",
            None => "",
        };
        if let Some(version) = &driver.version {
            let cuda = driver.cuda_version.as_ref().map(|cuda| format!(", takes CUDA {cuda}")).unwrap_or_default();
            out += &style.entry("driver", &format!("{version}{flavour}{cuda}"));
        }
        for (library, error) in [("NVML", &driver.nvml_error), ("CUDA", &driver.cuda_error)] {
            if let Some(error) = error {
                out += &style.entry(library, &error.to_string());
            }
        }
        let mut told: Vec<(String, &GpuReport)> = Vec::new();
        for gpu in &self.gpus {
            // Hosts have many GPUs of a kind; what is the same of all is told once.
            let key = alike(gpu, style);
            let like = told.iter().find(|(known, _)| *known == key && !style.verbose).map(|(_, known)| *known);
            out += &draw_gpu(gpu, like, style);
            told.push((key, gpu));
        }
        for engine in &self.engines {
            out += &draw_engine(engine, style);
        }
        for what in &self.unknown {
            out += &style.entry("not known", what);
        }
        if let Some(why) = &self.stopped {
            out += &style.entry("stopped", why);
        }
        out + &devices::problems(&self.problems, style)
    }
}

/// By what people name it.
fn ordinal(gpu: &GpuReport) -> String {
    gpu.ordinal.map_or_else(|| "not shown by CUDA".to_owned(), |ordinal| format!("cuda:{ordinal}"))
}

/// What is told of a GPU below its figures, without its own name and those of its NICs.
fn alike(gpu: &GpuReport, style: Style) -> String {
    let needed = gpu.prerequisites.iter().map(|needed| {
        let needs = needed.needs.split(", for ").next().unwrap_or_default();
        format!("{} {needs} {:?} {:?}\n", needed.path, needed.met, needed.seen)
    });
    let mut text = attributes(gpu, style) + &needed.collect::<String>() + &refusals(gpu, style).replace(&ordinal(gpu), "");
    for nic in &gpu.nics {
        text = text.replace(&nic.device, "");
    }
    text
}

/// `like` is a GPU of which the same was told.
fn draw_gpu(gpu: &GpuReport, like: Option<&GpuReport>, style: Style) -> String {
    let facts = &gpu.facts;
    let name = facts.name.as_deref().unwrap_or("GPU");
    let ordinal = ordinal(gpu);
    let uuid = facts.uuid.as_deref().unwrap_or("UUID not known");
    let fits = format!("{name}  {ordinal}, {}, {uuid}", facts.pci).chars().count() <= style.width;
    let beside = if fits { format!(", {uuid}") } else { String::new() };
    let mut out = format!("\n{}  {ordinal}, {}{beside}\n", style.bold(name), facts.pci);
    if !fits {
        out += &style.entry("UUID", uuid);
    }
    if let Some(error) = &facts.error {
        out += &style.entry("NVML", &error.to_string());
    }
    let share = |used: Option<u64>, all: Option<u64>| match (used, all) {
        (Some(used), Some(all)) => format!("{}, {} used", about_size(all), about_size(used)),
        (None, Some(all)) => about_size(all),
        _ => "not known".to_owned(),
    };
    let window = share(facts.bar1_used_bytes, facts.bar1_bytes);
    out += &style.entry("memory", &format!("{}; window onto it (BAR1) {window}", share(facts.memory_used_bytes, facts.memory_bytes)));
    if let (Some(now), Some(most)) = (facts.link_generation.zip(facts.link_lanes), facts.link_generation_max.zip(facts.link_lanes_max)) {
        out += &style.entry("link", &format!("PCIe generation {} x{} now, generation {} x{} at most", now.0, now.1, most.0, most.1));
    }
    if like.is_none() {
        out += &attributes(gpu, style);
    }
    match (&gpu.copies, &gpu.copies_error) {
        (Some(copies), _) => {
            let way =
                |figures: &crate::gpu::CopyFigures| format!("{:.1} GB/s, {:.1} us", figures.bytes_per_second / 1e9, figures.latency_us);
            let text = format!(
                "to GPU {}; to host {} (locked memory, {} a copy, median of {} by CUDA events; 64 B by the host's clock)",
                way(&copies.to_gpu),
                way(&copies.to_host),
                about_size(copies.copy_bytes),
                copies.samples
            );
            out += &style.entry("copies", &text);
        }
        (None, Some(why)) => out += &style.entry("copies", &format!("not measured: {why}")),
        (None, None) => {}
    }
    if !gpu.nics.is_empty() {
        let nearest = gpu.nics[0].affinity;
        let best = gpu.nics.iter().filter(|nic| nic.affinity == nearest).map(|nic| nic.device.as_str()).collect::<Vec<_>>().join(" ");
        out += &style.entry("best NICs", &format!("{best} ({})", word(nearest)));
    }
    match like {
        Some(other) => out += &style.entry("the rest", &format!("as {}", self::ordinal(other))),
        None => out += &format!("\n{}", prerequisites(gpu, style)),
    }
    if !gpu.kinds.is_empty() {
        out += "\n";
        out += &kinds(gpu, style);
    }
    if like.is_none() {
        out += &refusals(gpu, style);
    }
    out
}

/// What CUDA says of it.
fn attributes(gpu: &GpuReport, style: Style) -> String {
    let Some(said) = &gpu.facts.cuda else { return String::new() };
    let yes = |value: Option<bool>| match value {
        Some(true) => "yes",
        Some(false) => "no",
        None => "not known",
    };
    let ordering = match said.writes_ordering {
        Some(WritesOrdering::None) => "in no order without a flush",
        Some(WritesOrdering::Owner) => "in order to this GPU",
        Some(WritesOrdering::AllDevices) => "in order to all GPUs",
        None => "in an order that is not told",
    };
    style.entry(
        "attributes",
        &format!(
            "GPUDirect RDMA {}, dma-buf {}, VMM with RDMA {}, flush by host {}, by stream {}; writes of NICs are seen {ordering}",
            yes(said.gpu_direct_rdma_supported),
            yes(said.dma_buf_supported),
            yes(said.with_vmm_supported),
            yes(said.flush_by_host),
            yes(said.flush_by_stream)
        ),
    )
}

fn prerequisites(gpu: &GpuReport, style: Style) -> String {
    // Equal NICs need the same, and are told of once unless all evidence is wanted.
    let mut seen = Vec::new();
    let rows = gpu.prerequisites.iter().filter(|needed| {
        let key = (needed.path, needed.needs.split(", for ").next().unwrap_or_default().to_owned(), needed.met);
        let is_new = !seen.contains(&key);
        seen.push(key);
        is_new || style.verbose
    });
    let rows: Vec<Vec<String>> = rows
        .map(|needed| {
            let met = match needed.met {
                Met::Present => "met",
                Met::Missing => "missing",
                Met::Unknown => "not known",
            };
            let seen = needed.seen.as_ref().map(|seen| format!(": {seen}")).unwrap_or_default();
            vec![needed.path.to_string(), met.to_owned(), format!("{}{seen}", needed.needs)]
        })
        .collect();
    style.columns(&["path", "", "what it needs: what was seen"], &rows)
}

fn kinds(gpu: &GpuReport, style: Style) -> String {
    let nics: Vec<&str> = {
        let mut names: Vec<&str> = gpu.kinds.iter().flat_map(|kind| &kind.ways).map(|way| way.device.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    };
    let of_nic = |kind: &KindReport, nic: &str| {
        let ways: Vec<String> = kind.ways.iter().filter(|way| way.device == nic).map(outcome).collect();
        if ways.is_empty() { "-".to_owned() } else { ways.join(", ") }
    };
    // Without NICs the table ends with what the GPU's driver says.
    let nearest = gpu.nics.iter().map(|nic| nic.device.as_str()).find(|nic| nics.contains(nic));
    let nics: Vec<&str> = if style.verbose { nics } else { nearest.or(nics.first().copied()).into_iter().collect() };
    let header: Vec<&str> = ["memory", "allocated", "contents", "dma-buf"].into_iter().chain(nics.iter().copied()).collect();
    let rows: Vec<Vec<String>> = gpu
        .kinds
        .iter()
        .map(|kind| {
            let allocated = match (&kind.allocation_error, kind.allocated_in_us) {
                (Some(error), _) => short(error),
                (None, Some(us)) => format!("{:.1} ms", us as f64 / 1000.0),
                (None, None) => "yes".to_owned(),
            };
            let contents = match &kind.contents {
                Some(Contents::Right) => "right".to_owned(),
                Some(Contents::Wrong { wrong_bytes }) => format!("{wrong_bytes} bytes wrong"),
                Some(Contents::Failed { error }) => short(error),
                None => "-".to_owned(),
            };
            let exported = match (&kind.export_error, &kind.allocation_error) {
                (_, Some(_)) => "-".to_owned(),
                (Some(error), None) => short(error),
                (None, None) => "made".to_owned(),
            };
            [kind.kind.clone(), allocated, contents, exported].into_iter().chain(nics.iter().map(|nic| of_nic(kind, nic))).collect()
        })
        .collect();
    style.columns(&header, &rows)
}

fn outcome(way: &WayReport) -> String {
    match (&way.refusal, way.path) {
        (None, path) => format!("{path} yes"),
        (Some(Refusal::Verbs { error }), path) => format!("{path} {}", error.errno),
        (Some(Refusal::Gpu { error }), path) => format!("{path} {}", short(error)),
        (Some(Refusal::NotTried { .. }), Path::Auto) => "not opened".to_owned(),
        (Some(Refusal::NotTried { .. }), path) => format!("{path} not tried"),
    }
}

/// An error's name alone.
fn short(error: &GpuError) -> String {
    match error {
        GpuError::Refused { name, .. } => name.clone(),
        other => other.to_string(),
    }
}

/// What was refused, of which kinds of memory, and why.
struct Told {
    kinds: Vec<String>,
    what: String,
    causes: Vec<String>,
}

/// Each refusal once, with its causes.
fn refusals(gpu: &GpuReport, style: Style) -> String {
    let mut told: Vec<Told> = Vec::new();
    let mut tell = |kind: &KindReport, what: String, causes: &[Cause]| {
        let causes: Vec<String> = causes.iter().map(Cause::line).collect();
        match told.iter_mut().find(|known| known.what == what && known.causes == causes) {
            Some(known) if known.kinds.contains(&kind.kind) => {}
            Some(known) => known.kinds.push(kind.kind.clone()),
            None => told.push(Told { kinds: vec![kind.kind.clone()], what, causes }),
        }
    };
    for kind in &gpu.kinds {
        if let Some(error) = &kind.export_error
            && kind.ways.is_empty()
        {
            tell(kind, format!("no dma-buf: {}", short(error)), &kind.export_causes);
        }
        for way in kind.ways.iter().filter(|way| way.refusal.is_some()) {
            tell(kind, outcome(way), &way.causes);
        }
    }
    let mut out = String::new();
    for Told { kinds, what, causes } in told {
        out += &style.entry("refused", &format!("{}: {what}", kinds.join(", ")));
        let most = if style.verbose { causes.len() } else { causes.len().min(2) };
        for cause in &causes[..most] {
            out += &style.entry("", cause);
        }
    }
    out
}

fn draw_engine(engine: &EnginePath, style: Style) -> String {
    let tries = engine.tries.iter().map(|path| path.name()).collect::<Vec<_>>().join(", then ");
    let verdict = match (engine.works, engine.takes) {
        (None, _) => "whether it works was not tried: there is no NIC".to_owned(),
        (Some(true), Some(Path::Staged)) => style.warn("it stages here: every byte goes through host memory"),
        (Some(_), Some(path)) => style.good(format!("it takes {path} here")),
        (Some(_), None) => style.bad("no way of it works here"),
    };
    style.entry("engine", &format!("{} on {}: {verdict}; it tries {tries}", engine.engine, engine.gpu))
        + &style.entry("", &format!("{}. Source: {}", engine.how, engine.source))
}
