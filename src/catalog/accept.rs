//! The rules: whether a model grants a request, what it writes back, and with which errno it refuses.

use super::device::DeviceModel;
use super::rules::{AccessFlag, Capacity, Rounding, SrqWriteBack, Step, Zero, ZeroRule};
use super::{Certainty, Errno, Figure};
use crate::request::{Parameter, QpRequest, QpType, SrqRequest};
use crate::verbs::QueuePairCaps;

/// What of a request a model refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aspect {
    /// A parameter of the matrix.
    Of(Parameter),
    /// Work requests in a shared receive queue.
    SrqMaxWr,
    /// Scatter-gather entries in a request of a shared receive queue.
    SrqMaxSge,
    /// Length of a memory region.
    Length,
    /// Access flags of a memory region.
    Access,
    /// State of a queue pair.
    State,
}

impl Aspect {
    /// The name, such as `max_recv_sge`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Of(parameter) => parameter.name(),
            Self::SrqMaxWr => "srq_max_wr",
            Self::SrqMaxSge => "srq_max_sge",
            Self::Length => "length",
            Self::Access => "access",
            Self::State => "state",
        }
    }

    /// The parameter of the matrix that it belongs to, if there is one.
    #[must_use]
    pub fn parameter(self) -> Option<Parameter> {
        match self {
            Self::Of(parameter) => Some(parameter),
            Self::SrqMaxWr | Self::SrqMaxSge => Some(Parameter::Srq),
            Self::Length | Self::Access | Self::State => None,
        }
    }
}

/// A granted queue pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The capacities written back.
    pub caps: QueuePairCaps,
    /// How sure the grant is: as sure as the least sure limit that the request was held against.
    pub certainty: Certainty,
    /// The parameters whose limit is not from source.
    pub unsure: Vec<Aspect>,
}

/// A refused request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The errno; 0 where the call fails without setting one.
    pub errno: i32,
    /// The signal that the provider dies of instead.
    pub signal: Option<i32>,
    /// What was refused.
    pub parameter: Option<Aspect>,
    /// How sure that is.
    pub certainty: Certainty,
    /// Where it is from.
    pub source: String,
}

impl Refusal {
    pub(super) fn new(errno: Errno, parameter: Aspect, certainty: Certainty, source: &str) -> Self {
        Self { errno: errno.0, signal: None, parameter: Some(parameter), certainty, source: source.to_owned() }
    }

    pub(super) fn of(errno: &Figure<Errno>, parameter: Aspect) -> Self {
        Self::new(errno.value, parameter, errno.certainty, &errno.source)
    }
}

/// Collects what a grant rests on.
#[derive(Default)]
struct Evidence {
    certainty: Certainty,
    unsure: Vec<Aspect>,
}

impl Evidence {
    /// A limit bears on the grant, unless what is asked is so small that no limit can be in question.
    fn rest_on(&mut self, parameter: Aspect, certainty: Certainty, asked: u32, rule: &Capacity) {
        let base = QpRequest::base(QpType::RC);
        let modest = match parameter {
            Aspect::Of(Parameter::MaxSendWr) | Aspect::Of(Parameter::MaxRecvWr) | Aspect::SrqMaxWr => base.max_send_wr,
            Aspect::Of(Parameter::CqDepth) => base.cq_depth,
            Aspect::Of(Parameter::MaxInlineData) => base.max_inline_data,
            _ => base.max_send_sge,
        };
        if asked > rule.sure_up_to.as_ref().map_or(modest, |figure| figure.value.max(modest)) {
            self.add(parameter, certainty);
        }
    }

    fn add(&mut self, parameter: Aspect, certainty: Certainty) {
        if certainty > Certainty::Source && !self.unsure.contains(&parameter) {
            self.unsure.push(parameter);
        }
        self.certainty = self.certainty.max(certainty);
    }
}

/// One capacity under check.
struct Checked<'a> {
    parameter: Aspect,
    rule: &'a Capacity,
    over_limit: &'a Figure<Errno>,
    with_srq: bool,
    /// Whether the queue is to take work requests at all.
    has_requests: bool,
}

impl Checked<'_> {
    /// Holds `value` against limit and rule of zero, and gives the value with which the request goes on.
    fn check(&self, value: u32, evidence: &mut Evidence) -> Result<u32, Refusal> {
        let (asked, mut value) = (value, value);
        if let Some(limit) = &self.rule.limit {
            if value > limit.value {
                if self.rule.lowered.is_none() {
                    let errno = self.rule.errno.as_ref().unwrap_or(self.over_limit);
                    let certainty = limit.certainty.max(errno.certainty);
                    return Err(Refusal::new(errno.value, self.parameter, certainty, &limit.source));
                }
                value = limit.value;
            }
            evidence.rest_on(self.parameter, limit.certainty, asked, self.rule);
        }
        match &self.rule.zero {
            Some(zero) if value == 0 => self.zero(zero),
            _ => Ok(value),
        }
    }

    fn zero(&self, zero: &Zero) -> Result<u32, Refusal> {
        let certainty = if zero.inferred { Certainty::Inferred } else { Certainty::Source };
        let refusal = || Refusal::new(zero.errno.unwrap_or(Errno::EINVAL), self.parameter, certainty, &zero.source);
        match zero.rule {
            ZeroRule::Refused => Err(refusal()),
            ZeroRule::RefusedWithoutSrq if !self.with_srq => Err(refusal()),
            ZeroRule::RefusedWithRequests if self.has_requests && !self.with_srq => Err(refusal()),
            ZeroRule::RaisedToOne if !self.with_srq => Ok(1),
            ZeroRule::DividesByZero => Err(Refusal { signal: Some(libc::SIGFPE), ..refusal() }),
            _ => Ok(0),
        }
    }
}

impl Capacity {
    /// The value written back for one that was granted.
    fn write_back(&self, value: u32) -> u32 {
        let value = match &self.minimum {
            Some(minimum) if value > 0 => value.max(minimum.value),
            _ => value,
        };
        let Some(rounding) = &self.written_back else { return value };
        let power = |value: u32| value.checked_next_power_of_two().unwrap_or(value);
        match rounding.value {
            Rounding::PowerOfTwo if value > 0 => power(value),
            Rounding::PowerOfTwoLessOne if value > 0 => power(value) - 1,
            Rounding::BelowPowerOfTwo if value > 0 => power(value.saturating_add(1)) - 1,
            Rounding::Limit => self.limit.as_ref().map_or(value, |limit| limit.value),
            _ => value,
        }
    }
}

impl DeviceModel {
    /// What `ibv_create_qp` answers. `srq` says whether a shared receive queue is attached. A type that only a call of the provider's own
    /// makes is taken as made by that call; [`DeviceModel::standard_call_refuses`] tells which.
    ///
    /// # Errors
    /// The refusal, with the errno of the first check that fails.
    pub fn create_qp(&self, qp_type: QpType, caps: QueuePairCaps, srq: bool) -> Result<Grant, Refusal> {
        const CORE: &str = "[6.1] core/uverbs_std_types_qp.c, UVERBS_METHOD_QP_CREATE";
        let rules = &self.queue_pairs;
        let mut evidence = Evidence::default();
        let (mut caps, mut granted) = (caps, caps);
        let mut packed = false;
        for step in &rules.order {
            match step {
                Step::Core if qp_type == QpType::XrcSend => {
                    if srq {
                        return Err(Refusal::new(Errno::EINVAL, Aspect::Of(Parameter::Srq), Certainty::Source, CORE));
                    }
                    // It has no receive queue ([core] libibverbs/cmd_qp.c, ibv_icmd_create_qp).
                    (caps.max_recv_wr, caps.max_recv_sge) = (0, 0);
                    granted = caps;
                }
                Step::Core => {}
                Step::QpType => self.check_type(qp_type, &mut evidence)?,
                Step::Srq => match &rules.with_srq.errno {
                    Some(errno) if srq => return Err(Refusal::of(errno, Aspect::Of(Parameter::Srq))),
                    _ => {}
                },
                Step::MaxSendWr => {
                    granted.max_send_wr = self.checked(*step, &caps, srq).check(granted.max_send_wr, &mut evidence)?;
                }
                Step::MaxRecvWr if srq && !rules.with_srq.checks_recv_wr => {}
                Step::MaxRecvWr => {
                    granted.max_recv_wr = self.checked(*step, &caps, srq).check(granted.max_recv_wr, &mut evidence)?;
                }
                Step::MaxSendSge => {
                    granted.max_send_sge = self.checked(*step, &caps, srq).check(granted.max_send_sge, &mut evidence)?;
                }
                Step::MaxRecvSge if srq && !rules.with_srq.checks_recv_sge => {}
                Step::MaxRecvSge => {
                    granted.max_recv_sge = self.checked(*step, &caps, srq).check(granted.max_recv_sge, &mut evidence)?;
                }
                Step::MaxInlineData => {
                    granted.max_inline_data = self.checked(*step, &caps, srq).check(granted.max_inline_data, &mut evidence)?;
                }
                Step::Packing => {
                    if let Some(packing) = &rules.packing {
                        for (parameter, certainty) in packing.certainties() {
                            let (asked, rule) = match parameter {
                                Aspect::Of(Parameter::MaxRecvWr) => (caps.max_recv_wr, &rules.max_recv_wr),
                                Aspect::Of(Parameter::MaxSendSge) => (caps.max_send_sge, &rules.max_send_sge),
                                Aspect::Of(Parameter::MaxRecvSge) => (caps.max_recv_sge, &rules.max_recv_sge),
                                Aspect::Of(Parameter::MaxInlineData) => (caps.max_inline_data, &rules.max_inline_data),
                                _ => (caps.max_send_wr, &rules.max_send_wr),
                            };
                            evidence.rest_on(parameter, certainty, asked, rule);
                        }
                        granted = packing.pack(qp_type, granted, srq).map_err(|parameter| {
                            let certainty = packing.certainty_of(parameter).max(rules.over_limit.certainty);
                            Refusal::new(rules.over_limit.value, parameter, certainty, packing.source())
                        })?;
                        packed = true;
                    }
                }
            }
        }
        // Packing has rounded by its own arithmetic.
        if !packed {
            granted = self.write_back(granted);
        }
        if srq {
            match rules.with_srq.writes_back {
                SrqWriteBack::Asked => (granted.max_recv_wr, granted.max_recv_sge) = (caps.max_recv_wr, caps.max_recv_sge),
                SrqWriteBack::Zero => (granted.max_recv_wr, granted.max_recv_sge) = (0, 0),
            }
        }
        Ok(Grant { caps: granted, certainty: evidence.certainty, unsure: evidence.unsure })
    }

    fn checked(&self, step: Step, caps: &QueuePairCaps, with_srq: bool) -> Checked<'_> {
        let rules = &self.queue_pairs;
        let (parameter, rule) = match step {
            Step::MaxRecvWr => (Aspect::Of(Parameter::MaxRecvWr), &rules.max_recv_wr),
            Step::MaxSendSge => (Aspect::Of(Parameter::MaxSendSge), &rules.max_send_sge),
            Step::MaxRecvSge => (Aspect::Of(Parameter::MaxRecvSge), &rules.max_recv_sge),
            Step::MaxInlineData => (Aspect::Of(Parameter::MaxInlineData), &rules.max_inline_data),
            _ => (Aspect::Of(Parameter::MaxSendWr), &rules.max_send_wr),
        };
        let has_requests = if step == Step::MaxRecvSge { caps.max_recv_wr > 0 } else { caps.max_send_wr > 0 };
        Checked { parameter, rule, over_limit: &rules.over_limit, with_srq, has_requests }
    }

    fn check_type(&self, qp_type: QpType, evidence: &mut Evidence) -> Result<(), Refusal> {
        let Some(rule) = self.queue_pairs.types.iter().find(|rule| rule.qp_type == qp_type) else {
            return Err(Refusal::of(&self.queue_pairs.other_types, Aspect::Of(Parameter::QpType)));
        };
        let certainty = if rule.inferred { Certainty::Inferred } else { Certainty::Source };
        match rule.errno {
            Some(errno) => Err(Refusal::new(errno, Aspect::Of(Parameter::QpType), certainty, &rule.source)),
            None => {
                evidence.add(Aspect::Of(Parameter::QpType), certainty);
                Ok(())
            }
        }
    }

    fn write_back(&self, caps: QueuePairCaps) -> QueuePairCaps {
        let rules = &self.queue_pairs;
        let mut granted = QueuePairCaps {
            max_send_wr: rules.max_send_wr.write_back(caps.max_send_wr),
            max_recv_wr: rules.max_recv_wr.write_back(caps.max_recv_wr),
            max_send_sge: rules.max_send_sge.write_back(caps.max_send_sge),
            max_recv_sge: rules.max_recv_sge.write_back(caps.max_recv_sge),
            max_inline_data: rules.max_inline_data.write_back(caps.max_inline_data),
        };
        if rules.max_inline_data.written_back.as_ref().is_some_and(|rule| rule.value == Rounding::SharedWithInline) {
            granted.max_inline_data = caps.max_inline_data.max(caps.max_send_sge.saturating_mul(16));
            granted.max_send_sge = granted.max_inline_data / 16;
        }
        granted
    }

    /// The errno with which `ibv_create_qp` refuses a type that only a call of the provider's own makes.
    #[must_use]
    pub fn standard_call_refuses(&self, qp_type: QpType) -> Option<Errno> {
        let rule = self.queue_pairs.types.iter().find(|rule| rule.qp_type == qp_type)?;
        rule.only_by.as_ref().map(|_| rule.standard_call.unwrap_or(self.queue_pairs.other_types.value))
    }

    /// What `ibv_create_cq` answers: the entries written back.
    ///
    /// # Errors
    /// The refusal.
    pub fn create_cq(&self, entries: i64) -> Result<u32, Refusal> {
        self.check_cq(entries, &mut Evidence::default())
    }

    fn check_cq(&self, entries: i64, evidence: &mut Evidence) -> Result<u32, Refusal> {
        let rules = &self.completion_queues;
        let errno = rules.entries.errno.as_ref().unwrap_or(&rules.over_limit);
        // The call takes an int, and drivers compare it as an unsigned number or refuse what is not positive.
        let Ok(entries) = u32::try_from(entries) else { return Err(Refusal::of(errno, Aspect::Of(Parameter::CqDepth))) };
        let checked = Checked {
            parameter: Aspect::Of(Parameter::CqDepth),
            rule: &rules.entries,
            over_limit: &rules.over_limit,
            with_srq: false,
            has_requests: true,
        };
        let entries = checked.check(entries, evidence)?;
        let raised = rules.entries.minimum.as_ref().map_or(entries, |minimum| entries.max(minimum.value));
        Ok(rules.entries.write_back(raised))
    }

    /// What `ibv_create_srq` answers: the request as written back.
    ///
    /// # Errors
    /// The refusal.
    pub fn create_srq(&self, max_wr: u32, max_sge: u32) -> Result<SrqRequest, Refusal> {
        self.check_srq(max_wr, max_sge, &mut Evidence::default())
    }

    fn check_srq(&self, max_wr: u32, max_sge: u32, evidence: &mut Evidence) -> Result<SrqRequest, Refusal> {
        let rules = &self.shared_receive_queues;
        if let Some(errno) = &rules.errno {
            return Err(Refusal::of(errno, Aspect::Of(Parameter::Srq)));
        }
        let over_limit = rules.over_limit.as_ref().unwrap_or(&self.queue_pairs.over_limit);
        let mut check = |parameter, rule: &Capacity, value| {
            Checked { parameter, rule, over_limit, with_srq: false, has_requests: true }
                .check(value, evidence)
                .map(|value| rule.write_back(value))
        };
        Ok(SrqRequest {
            max_wr: check(Aspect::SrqMaxWr, &rules.max_wr, max_wr)?,
            max_sge: check(Aspect::SrqMaxSge, &rules.max_sge, max_sge)?,
        })
    }

    /// What `ibv_reg_mr` answers to a region of `length` bytes with the bits of `enum ibv_access_flags`.
    ///
    /// # Errors
    /// The refusal.
    pub fn reg_mr(&self, length: u64, access: u32) -> Result<(), Refusal> {
        // Optional flags, such as relaxed ordering, are dropped where they have no effect (libibverbs/verbs.c, ibv_reg_mr_iova2).
        const OPTIONAL: u32 = 0x3ff0_0000;
        const KNOWN: u32 = 0xff;
        const CORE: &str = "include/rdma/ib_verbs.h, ib_check_mr_access";
        let access = access & !OPTIONAL;
        let has = |flag: AccessFlag| access & flag.bit() != 0;
        let refuse = |errno| Err(Refusal::new(errno, Aspect::Access, Certainty::Source, CORE));
        if (has(AccessFlag::RemoteWrite) || has(AccessFlag::RemoteAtomic)) && !has(AccessFlag::LocalWrite) {
            return refuse(Errno::EINVAL);
        }
        if access & !KNOWN != 0 {
            return refuse(Errno::EINVAL);
        }
        let rules = &self.memory_regions;
        if let Some(rule) = rules.refused_access.iter().find(|rule| has(rule.flag)) {
            return Err(Refusal::of(&rule.errno, Aspect::Access));
        }
        if has(AccessFlag::OnDemand) && !self.software.on_demand_paging.value {
            return refuse(Errno::EOPNOTSUPP);
        }
        match &rules.zero_length {
            Some(errno) if length == 0 => return Err(Refusal::of(errno, Aspect::Length)),
            _ => {}
        }
        if length > rules.max_length_bytes.value {
            let certainty = rules.max_length_bytes.certainty.max(rules.over_limit.certainty);
            return Err(Refusal::new(rules.over_limit.value, Aspect::Length, certainty, &rules.max_length_bytes.source));
        }
        Ok(())
    }

    /// What a whole request is answered, in the order in which a program makes the objects: completion queue, shared receive queue,
    /// queue pair. With the caps it gives the entries of the completion queue.
    ///
    /// # Errors
    /// The first refusal.
    pub fn answer(&self, request: &QpRequest) -> Result<(Grant, u32), Refusal> {
        let mut evidence = Evidence::default();
        let Ok(cq_depth) = i32::try_from(request.cq_depth) else {
            // No such call can be made; crate::verbs answers it.
            return Err(Refusal::new(Errno::EINVAL, Aspect::Of(Parameter::CqDepth), Certainty::Source, "ibv_create_cq(3): cqe is an int"));
        };
        let entries = self.check_cq(i64::from(cq_depth), &mut evidence)?;
        if let Some(srq) = request.srq {
            self.check_srq(srq.max_wr, srq.max_sge, &mut evidence)?;
        }
        let mut grant = self.create_qp(request.qp_type, request.caps(), request.srq.is_some())?;
        grant.certainty = grant.certainty.max(evidence.certainty);
        grant.unsure.extend(evidence.unsure);
        Ok((grant, entries))
    }
}
