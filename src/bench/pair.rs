//! Both ends of a connection, wherever they are, and the order in which they are told what to do.

use super::counters::Snapshot;
use super::side::{BenchError, Endpoint, Who};
use crate::transfer::{
    Answer, Command, Connect, EndpointPlan, JoinPlan, LinkPlan, Mismatch, OrderFacts, OrderPlan, PatternSpan, Progress, RemoteEnd, RunPlan,
    RunResult, StageFacts,
};

/// What is chosen for an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndChoice {
    /// How it is opened.
    pub stage: EndpointPlan,
    /// Index of its address.
    pub gid_index: u8,
    /// Whether packets carry a global header.
    pub is_global: bool,
    /// Where rdma_cm finds it.
    pub address: Option<std::net::IpAddr>,
}

/// Two ends. With one side, both are in its process.
pub struct Pair<'a> {
    here: &'a mut dyn Endpoint,
    there: Option<&'a mut dyn Endpoint>,
    choices: [EndChoice; 2],
    facts: Option<[StageFacts; 2]>,
    connect: Connect,
    links: u64,
    mark: u64,
}

impl<'a> Pair<'a> {
    /// Nothing is opened yet. `mark` tells this pair's requests of rdma_cm from others'.
    pub fn new(
        here: &'a mut dyn Endpoint,
        there: Option<&'a mut dyn Endpoint>,
        choices: [EndChoice; 2],
        connect: Connect,
        mark: u64,
    ) -> Self {
        Self { here, there, choices, facts: None, connect, links: 0, mark }
    }

    /// Whether both ends are in one process.
    pub fn is_loopback(&self) -> bool {
        self.there.is_none()
    }

    fn who(&self, end: u8) -> Who {
        if end == 1 && self.there.is_some() { Who::There } else { Who::Here }
    }

    fn side(&mut self, who: Who) -> &mut dyn Endpoint {
        match (&mut self.there, who) {
            (Some(there), Who::There) => &mut **there,
            _ => self.here,
        }
    }

    /// The next answer that is no news of a run.
    fn answer(&mut self, who: Who, step: &'static str) -> Result<Answer, BenchError> {
        loop {
            match self.side(who).hear()? {
                Answer::Failed(failure) => return Err(BenchError::End { who, step, failure }),
                Answer::Ready | Answer::Running(_) => {}
                answer => return Ok(answer),
            }
        }
    }

    fn ask(&mut self, who: Who, command: &Command) -> Result<Answer, BenchError> {
        self.side(who).tell(command)?;
        self.answer(who, command.step())
    }

    /// Opens both ends.
    ///
    /// # Errors
    /// One of them cannot be opened.
    pub fn open(&mut self) -> Result<[StageFacts; 2], BenchError> {
        let mut facts = Vec::new();
        for end in [0, 1] {
            let command = Command::Open(end, self.choices[usize::from(end)].stage.clone());
            match self.ask(self.who(end), &command)? {
                Answer::Opened(opened) => facts.push(*opened),
                _ => return Err(BenchError::Unexpected { step: command.step() }),
            }
        }
        let facts: [StageFacts; 2] = facts.try_into().map_err(|_| BenchError::Unexpected { step: "opening" })?;
        self.facts = Some(facts.clone());
        Ok(facts)
    }

    /// Makes queue pairs on both ends and connects them. Both plans are alike but for what is each end's own.
    ///
    /// # Errors
    /// Queue pairs are refused, or do not connect.
    pub fn link(&mut self, plan: &LinkPlan, receives: [bool; 2]) -> Result<(), BenchError> {
        let Some(facts) = self.facts.clone() else { return Err(BenchError::Unexpected { step: "making queue pairs" }) };
        self.links += 1;
        let mut remotes = Vec::new();
        for end in [0_u8, 1] {
            let at = usize::from(end);
            let choice = &self.choices[at];
            let mut plan = LinkPlan { gid_index: choice.gid_index, is_global: choice.is_global, ..plan.clone() };
            plan.receive = plan.receive.filter(|_| receives[at]);
            plan.inline_bytes = plan.inline_bytes.min(facts[at].max_inline_bytes);
            plan.tells_credit &= !self.is_loopback();
            let command = Command::Link(end, plan);
            match self.ask(self.who(end), &command)? {
                Answer::Linked(linked) => remotes.push(RemoteEnd {
                    queue_pairs: linked.queue_pairs,
                    gid: linked.gid,
                    lid: facts[at].port.lid,
                    address: facts[at].address,
                    key: facts[at].key,
                    memory_bytes: facts[at].memory_bytes,
                    receives: linked.receives,
                    credit: linked.credit,
                }),
                _ => return Err(BenchError::Unexpected { step: command.step() }),
            }
        }
        let mark = self.mark.wrapping_add(self.links);
        let called = self.choices[1].address.zip(facts[1].manager_port).map(std::net::SocketAddr::from);
        let call = if self.connect == Connect::Cm { called } else { None };
        let mut remotes = remotes.into_iter();
        let (Some(first), Some(second)) = (remotes.next(), remotes.next()) else {
            return Err(BenchError::Unexpected { step: "making queue pairs" });
        };
        let (caller, callee) = (JoinPlan { remote: second, call, mark }, JoinPlan { remote: first, call: None, mark });
        if self.is_loopback() {
            return self.ask(Who::Here, &Command::Join(vec![(0, caller), (1, callee)])).map(|_| ());
        }
        // The side that is called listens before it is called.
        let (call, wait) = (Command::Join(vec![(0, caller)]), Command::Join(vec![(1, callee)]));
        self.side(Who::There).tell(&wait)?;
        let joined = self.ask(Who::Here, &call);
        let waited = self.answer(Who::There, wait.step());
        joined.and(waited).map(|_| ())
    }

    /// Runs both ends, or only the first where the second has nothing to do. `each` is told how far it is.
    ///
    /// # Errors
    /// Data does not move.
    pub fn run(&mut self, plans: [Option<RunPlan>; 2], each: &mut dyn FnMut(Progress)) -> Result<[RunResult; 2], BenchError> {
        const STEP: &str = "moving data";
        if self.is_loopback() {
            self.begin(plans)?;
            return self.end(each);
        }
        let [first, second] = plans;
        let Some(first) = first else { return Err(BenchError::Unexpected { step: STEP }) };
        let other_runs = second.is_some();
        if let Some(plan) = second {
            self.side(Who::There).tell(&Command::Run(vec![(1, plan)]))?;
            self.ready()?;
        }
        self.here.tell(&Command::Run(vec![(0, first)]))?;
        let ours = self.results(Who::Here, each);
        let theirs = if other_runs {
            self.side(Who::There).tell(&Command::Finish)?;
            self.results(Who::There, &mut |_| {})
        } else {
            Ok(Vec::new())
        };
        // The side that waits sees less of what went wrong than the one that sends; but if it is gone, that is why nothing arrives.
        let (ours, theirs) = match (ours, theirs) {
            (_, Err(gone @ BenchError::Peer(_))) => return Err(gone),
            (ours, theirs) => (ours?, theirs?),
        };
        Ok([ours.into_iter().next().unwrap_or_default(), theirs.into_iter().next().unwrap_or_default()])
    }

    /// Lets both ends of one process run, and does not wait for them.
    ///
    /// # Errors
    /// The process is lost, or the ends are in two.
    pub fn begin(&mut self, plans: [Option<RunPlan>; 2]) -> Result<(), BenchError> {
        let [Some(first), second] = plans else { return Err(BenchError::Unexpected { step: "moving data" }) };
        if !self.is_loopback() {
            return Err(BenchError::Unexpected { step: "moving data" });
        }
        let mut ends = vec![(0, first)];
        ends.extend(second.map(|plan| (1, plan)));
        self.here.tell(&Command::Run(ends))
    }

    /// What came of [`Pair::begin`].
    ///
    /// # Errors
    /// Data does not move.
    pub fn end(&mut self, each: &mut dyn FnMut(Progress)) -> Result<[RunResult; 2], BenchError> {
        let mut results = self.results(Who::Here, each)?.into_iter();
        Ok([results.next().unwrap_or_default(), results.next().unwrap_or_default()])
    }

    /// Waits until the other side is ready for messages.
    fn ready(&mut self) -> Result<(), BenchError> {
        loop {
            match self.side(Who::There).hear()? {
                Answer::Ready => return Ok(()),
                Answer::Running(_) => {}
                Answer::Failed(failure) => return Err(BenchError::End { who: Who::There, step: "moving data", failure }),
                _ => return Err(BenchError::Unexpected { step: "moving data" }),
            }
        }
    }

    fn results(&mut self, who: Who, each: &mut dyn FnMut(Progress)) -> Result<Vec<RunResult>, BenchError> {
        loop {
            match self.side(who).hear()? {
                Answer::Running(progress) => each(progress),
                Answer::Ready => {}
                Answer::Ran(results) => return Ok(results),
                Answer::Failed(failure) => return Err(BenchError::End { who, step: "moving data", failure }),
                _ => return Err(BenchError::Unexpected { step: "moving data" }),
            }
        }
    }

    /// Writes the pattern into an end's memory, or its opposite.
    ///
    /// # Errors
    /// The end is lost.
    pub fn prepare(&mut self, end: u8, what: PatternSpan, is_source: bool) -> Result<(), BenchError> {
        let command = if is_source { Command::Fill(end, what) } else { Command::Clear(end, what) };
        self.ask(self.who(end), &command).map(|_| ())
    }

    /// Looks whether the pattern has arrived.
    ///
    /// # Errors
    /// The end is lost.
    pub fn check(&mut self, end: u8, what: PatternSpan) -> Result<Option<Mismatch>, BenchError> {
        let command = Command::Check(end, what);
        match self.ask(self.who(end), &command)? {
            Answer::Checked(mismatch) => Ok(mismatch),
            _ => Err(BenchError::Unexpected { step: command.step() }),
        }
    }

    /// Lets both ends of one process look at the order of writes.
    ///
    /// # Errors
    /// Data does not move, or the ends are in two processes.
    pub fn order(&mut self, plan: OrderPlan) -> Result<OrderFacts, BenchError> {
        let command = Command::Order(plan);
        match self.ask(Who::Here, &command)? {
            Answer::Ordered(facts) => Ok(facts),
            _ => Err(BenchError::Unexpected { step: command.step() }),
        }
    }

    /// The counters of the other host's device; absent where both ends are here, or it tells nothing.
    ///
    /// # Errors
    /// It is lost.
    pub fn counters(&mut self) -> Result<Option<Snapshot>, BenchError> {
        self.there.as_mut().map_or(Ok(None), |there| there.counters())
    }

    /// Closes both ends. What cannot be told any more is closed by its process's end.
    pub fn close(&mut self) {
        for who in [Who::Here, Who::There] {
            if who == Who::Here || self.there.is_some() {
                let _ = self.ask(who, &Command::Close);
            }
        }
    }
}
