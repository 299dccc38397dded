//! Doing what is told: commands to the ends of this process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use super::end::End;
use super::flow::{Flow, drive};
use super::join::join;
use super::layout::fits;
use super::pingpong::Pong;
use super::watch::{RunObserver, Watch};
use super::{
    Answer, Command, Failure, Limit, Operation, PatternSpan, RunKind, RunPlan, RunResult, Supply, TransferError, Transport, ordering,
    pingpong, staged,
};
use crate::gpu::GpuError;
use crate::verbs::{ConnectionManager, Verbs};

/// How to get at librdmacm, which only connections by rdma_cm need.
pub type Manager<'a> = dyn Fn() -> Result<Arc<ConnectionManager>, String> + 'a;

/// The ends of connections in this process.
pub struct Ends {
    supply: Supply,
    ends: BTreeMap<u8, End>,
    manager: Option<Arc<ConnectionManager>>,
}

impl Ends {
    /// None yet; they will have memory of this supply.
    #[must_use]
    pub fn new(supply: Supply) -> Self {
        Self { supply, ends: BTreeMap::new(), manager: None }
    }

    /// What is left of the supply.
    fn left(&self) -> Supply {
        match self.supply {
            Supply::Machine => Supply::Machine,
            Supply::Modelled { huge_pages, has_gpus } => {
                let taken: u64 = self.ends.values().map(End::huge_pages).sum();
                Supply::Modelled { huge_pages: huge_pages.saturating_sub(taken), has_gpus }
            }
        }
    }

    /// Does one command. A failure leaves the ends open; the next link replaces broken queue pairs.
    pub fn obey(&mut self, verbs: &Arc<Verbs>, manager: &Manager<'_>, command: &Command, host: &mut dyn RunObserver) -> Answer {
        self.work(verbs, manager, command, host).unwrap_or_else(|trouble| {
            let mut evidence: Vec<String> = self.ends.values().flat_map(End::evidence).collect();
            evidence.sort();
            evidence.dedup();
            Answer::Failed(Box::new(Failure { trouble, evidence }))
        })
    }

    fn work(
        &mut self,
        verbs: &Arc<Verbs>,
        manager: &Manager<'_>,
        command: &Command,
        host: &mut dyn RunObserver,
    ) -> Result<Answer, TransferError> {
        match command {
            Command::Open(end, plan) => {
                self.ends.remove(end);
                if plan.manager.is_some() && self.manager.is_none() {
                    self.manager = Some(manager().map_err(|why| TransferError::Unusable { why })?);
                }
                let opened = End::open(verbs, self.manager.as_ref(), plan, self.left())?;
                let facts = opened.facts.clone();
                self.ends.insert(*end, opened);
                Ok(Answer::Opened(Box::new(facts)))
            }
            Command::Link(end, plan) => Ok(Answer::Linked(self.end(*end)?.link(plan)?)),
            Command::Join(plans) => {
                let mut ends: Vec<_> = self
                    .ends
                    .iter_mut()
                    .filter_map(|(number, end)| plans.iter().find(|(of, _)| of == number).map(|(_, plan)| (end, plan)))
                    .collect();
                join(&mut ends)?;
                Ok(Answer::Done)
            }
            Command::Fill(end, what) => {
                self.within(*end, what)?.ground().fill(what).map_err(of_gpu)?;
                Ok(Answer::Done)
            }
            Command::Clear(end, what) => {
                self.within(*end, what)?.ground().clear(what).map_err(of_gpu)?;
                Ok(Answer::Done)
            }
            Command::Check(end, what) => {
                let end = self.within(*end, what)?;
                let is_datagram = end.link.as_ref().is_some_and(|link| link.plan.transport == Transport::Ud);
                let header = if is_datagram { super::end::DATAGRAM_HEADER } else { 0 };
                Ok(Answer::Checked(end.ground().check(what, header).map_err(of_gpu)?))
            }
            Command::Run(ends) => self.run(ends, host).map(Answer::Ran),
            Command::Order(plan) => ordering::run(&mut self.ends, plan, host).map(Answer::Ordered),
            Command::Finish => Ok(Answer::Done),
            Command::Unlink(end) => {
                self.end(*end)?.link = None;
                Ok(Answer::Done)
            }
            Command::Close => {
                self.ends.clear();
                Ok(Answer::Done)
            }
        }
    }

    fn end(&mut self, number: u8) -> Result<&mut End, TransferError> {
        self.ends.get_mut(&number).ok_or_else(|| TransferError::Unusable { why: format!("end {number} is not open") })
    }

    /// An end whose memory has room for this: a plan may come from another host.
    fn within(&mut self, number: u8, what: &PatternSpan) -> Result<&mut End, TransferError> {
        let end = self.end(number)?;
        if fits(end.region.length() as u64, what.length_bytes, what.shift_bytes) {
            return Ok(end);
        }
        Err(TransferError::Unusable { why: format!("{} bytes at {} do not fit into the memory", what.length_bytes, what.shift_bytes) })
    }

    fn run(&mut self, plans: &[(u8, RunPlan)], host: &mut dyn RunObserver) -> Result<Vec<RunResult>, TransferError> {
        if self.ends.values().any(|end| end.staging.is_some()) {
            return staged::run(&mut self.ends, plans, host);
        }
        let mut ends: Vec<(&mut End, &RunPlan)> = self
            .ends
            .iter_mut()
            .filter_map(|(number, end)| plans.iter().find(|(of, _)| of == number).map(|(_, plan)| (end, plan)))
            .collect();
        for (end, plan) in &ends {
            check(end, plan)?;
        }
        let Some((_, first)) = ends.first() else { return Err(TransferError::Unusable { why: "no end is to run".to_owned() }) };
        let first = (*first).clone();
        let limit = ends.iter().find(|(_, plan)| plan.sends).map_or(Limit::UntilTold, |(_, plan)| plan.limit);
        let cpu_before = processor_ns();
        let mut results = match first.kind {
            RunKind::Bandwidth => {
                let mut flows = ends.iter_mut().map(|(end, plan)| Flow::new(end, plan)).collect::<Result<Vec<_>, _>>()?;
                host.ready();
                let mut watch = Watch::start(host, limit, first.patience_ms);
                drive(&mut flows, &mut watch, Duration::from_millis(first.linger_ms))?
            }
            RunKind::Latency => {
                let pongs: Result<Vec<Pong<'_>>, _> = ends.iter_mut().map(|(end, _)| Pong::new(end, &first)).collect();
                let mut pongs = pongs?;
                // The other side's first message may be here before anything else is done.
                host.ready();
                let mut watch = Watch::start(host, limit, first.patience_ms);
                match &mut pongs[..] {
                    [only] if first.sends => vec![pingpong::ping(only, None, &first, &mut watch)?],
                    [only] => vec![pingpong::pong(only, &first, &mut watch)?],
                    [a, b, ..] => vec![pingpong::ping(a, Some(b), &first, &mut watch)?, RunResult::default()],
                    [] => Vec::new(),
                }
            }
        };
        let cpu_ns = processor_ns().saturating_sub(cpu_before);
        results.iter_mut().for_each(|result| result.cpu_ns = cpu_ns);
        Ok(results)
    }
}

fn of_gpu(error: GpuError) -> TransferError {
    TransferError::Unusable { why: format!("the GPU writes or compares contents: {error}") }
}

/// Refuses a plan that memory or queues have no room for: it may come from another host.
pub(super) fn check(end: &End, plan: &RunPlan) -> Result<(), TransferError> {
    let unusable = |why: String| Err(TransferError::Unusable { why });
    let Some(link) = &end.link else { return unusable("there are no queue pairs".to_owned()) };
    let memory = (end.region.length() as u64).min(link.remote.2);
    if plan.size_bytes == 0 || !fits(memory, plan.size_bytes, plan.shift_bytes) {
        return unusable(format!("messages of {} bytes do not fit into a half of {memory} bytes of memory", plan.size_bytes));
    }
    if plan.sends && (plan.depth == 0 || plan.depth > link.plan.send_depth || plan.batch > plan.depth) {
        return unusable(format!(
            "{} requests in chains of {} do not fit into a queue of {}",
            plan.depth, plan.batch, link.plan.send_depth
        ));
    }
    if plan.receives && link.plan.receive.as_ref().is_none_or(|receive| receive.size_bytes < plan.size_bytes) {
        return unusable("there are no receive requests of this size".to_owned());
    }
    if plan.inline && plan.operation != Operation::Read && plan.size_bytes > link.plan.inline_bytes {
        return unusable(format!("{} bytes do not fit into {} inline", plan.size_bytes, link.plan.inline_bytes));
    }
    Ok(())
}

/// Processor time of this process so far.
pub(super) fn processor_ns() -> u64 {
    getrusage(UsageWho::RUSAGE_SELF).map_or(0, |usage| {
        let total = usage.user_time().num_nanoseconds() + usage.system_time().num_nanoseconds();
        u64::try_from(total).unwrap_or(0)
    })
}
