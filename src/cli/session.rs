//! The options of every command, made into the two things that commands have: the host that the run is about, and the way to print.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::output::Output;
use super::{Global, GpusOf, UsageError};
use crate::capture::{self, Capture};
use crate::files;
use crate::report::{Captured, Modelled, Origin};
use crate::sim::{HostModel, Seat};
use crate::survey::{Host, Kind, Options, SurveyError};

/// One run of the program.
pub struct Session {
    /// The host that it is about.
    pub host: Host,
    /// The way to print.
    pub output: Output,
}

impl Session {
    /// Checks the options of all commands and listens for Ctrl-C.
    pub fn new(global: Global) -> anyhow::Result<Self> {
        // Options of every command may stand on either side of its name, where clap does not see them together.
        let is_elsewhere = global.root != Path::new("/") || global.libibverbs.is_some();
        let clash = match (&global.host_model, is_elsewhere) {
            (Some(_), true) => Some("--host-model shows a modelled host, --root and --libibverbs another one; give only one of them"),
            (Some(_), false) if global.from.is_some() => {
                Some("--host-model shows a modelled host, --from a captured one; give only one of them")
            }
            (None, true) if global.from.is_some() => {
                Some("--from shows a captured host, --root and --libibverbs another one; give only one of them")
            }
            (None, _) if !global.fault.is_empty() => {
                Some("--fault lets something go wrong on a modelled host; give --host-model NAME with it")
            }
            (None, _) if global.gpus.is_some() => Some("--gpus says whose GPUs a modelled host uses; give --host-model NAME with it"),
            (None, _) if global.sim_network.is_some() => {
                Some("--sim-network connects modelled hosts with each other; give --host-model NAME with it")
            }
            _ if global.sim_host.is_some() && global.sim_network.is_none() => {
                Some("--sim-host says which host of a modelled network it is; give --sim-network DIR with it")
            }
            _ if global.verbose && global.quiet => Some("--verbose and --quiet contradict each other"),
            _ => None,
        };
        if let Some(clash) = clash {
            return Err(UsageError(clash.to_owned()).into());
        }
        if let Some(directory) = &global.catalog {
            crate::catalog::added::add(directory)?;
        }
        let mut model = global.host_model.as_deref().map(HostModel::find).transpose()?;
        if let Some(model) = &mut model {
            let lacking = |fault: &crate::catalog::Fault| fault.devices().find_map(|device| model.lacks(device)).map(str::to_owned);
            if let Some((fault, device)) = global.fault.iter().find_map(|fault| Some((fault, lacking(fault)?))) {
                let known = model.nics.iter().map(|nic| nic.name.as_str()).collect::<Vec<_>>().join(", ");
                let known = if known.is_empty() { "it has no devices".to_owned() } else { format!("valid are {known}") };
                return Err(UsageError(format!("--fault {fault}: {} has no device `{device}`; {known}", model.name)).into());
            }
            model.faults.extend(global.fault.iter().cloned());
        }
        if !global.root.is_dir() {
            return Err(UsageError(format!("--root {} is no directory", global.root.display())).into());
        }
        let mut seat = None;
        if let Some(directory) = &global.sim_network
            && let Some(host) = model.take()
        {
            let (taken, host) = Seat::take(directory, global.sim_host, host).map_err(|error| UsageError(error.to_string()))?;
            (seat, model) = (Some(taken), Some(host));
        }
        let interrupted = Arc::new(AtomicBool::new(false));
        files::give_up_when(interrupted.clone());
        let hangup = (!ignores_hangup()).then_some(signal_hook::consts::SIGHUP);
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM].into_iter().chain(hangup) {
            // The first one asks for a report of what is known; the second one is obeyed at once.
            signal_hook::flag::register_conditional_shutdown(signal, super::exit::INTERRUPTED.into(), interrupted.clone())?;
            signal_hook::flag::register(signal, interrupted.clone())?;
        }
        let stopped = || interrupted.load(Ordering::Relaxed);
        let capture = global.from.as_deref().map(capture::load).transpose();
        let capture = match capture {
            Err(error) if stopped() => return Err(SurveyError::Interrupted(error.to_string()).into()),
            capture => capture.map_err(|error| UsageError(error.to_string()))?,
        };
        let kind = match (model, capture) {
            (Some(model), _) => Kind::Modelled(Box::new(model)),
            (None, Some(capture)) => Kind::Captured(Box::new(capture)),
            (None, None) if global.root == Path::new("/") => Kind::Live,
            (None, None) => Kind::Mounted(global.root),
        };
        let has_local_gpus = global.gpus == Some(GpusOf::Local);
        let origin = origin(&kind, global.from.as_deref(), has_local_gpus);
        let options = Options { libibverbs: global.libibverbs, answer_within: global.answer_within, interrupted, has_local_gpus, seat };
        let output = Output { format: global.format, color: global.color, verbose: global.verbose, quiet: global.quiet, origin };
        Ok(Self { host: Host::new(kind, options), output })
    }
}

/// Whether nohup(1) or a shell's trap started this, so that it is to outlive its terminal: SigIgn of proc_pid_status(5).
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask >> (signal_hook::consts::SIGHUP - 1) & 1 == 1)
}

/// What documents are about, where it is not this machine.
fn origin(kind: &Kind, file: Option<&Path>, has_local_gpus: bool) -> Option<Origin> {
    let captured = |capture: &Capture| Captured {
        file: file.iter().map(|path| path.display().to_string()).collect(),
        created: capture.created.clone(),
        tool_version: capture.tool_version.clone(),
        level: capture.level.name().to_owned(),
        is_redacted: capture.is_redacted,
        host_name: capture.host_name.clone(),
        host_model: capture.host_model.clone(),
    };
    match kind {
        Kind::Modelled(model) => Some(Origin::Model(Modelled { name: model.name.clone(), doubts: model.doubts(), has_local_gpus })),
        Kind::Captured(capture) => Some(Origin::Capture(captured(capture))),
        Kind::Live | Kind::Mounted(_) => None,
    }
}
