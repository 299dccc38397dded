//! Evidence as it is gathered: ids, and an attempt named once however many values rest on it.

use std::collections::HashMap;

use rdmadoctor_types::Word;

use super::{Evidence, EvidenceKind, QueuePairRequest};
use crate::request::{Outcome, QpRequest, SrqRequest};

/// Evidence with its ids.
pub struct Book {
    at: String,
    pages: Vec<Evidence>,
    attempts: HashMap<(String, QueuePairRequest), String>,
}

impl Book {
    /// An empty one; `at` is the time of all evidence.
    pub fn new(at: &str) -> Self {
        Self { at: at.to_owned(), pages: Vec::new(), attempts: HashMap::new() }
    }

    /// Something that was read or timed, and the id that it gets.
    pub fn add(&mut self, kind: EvidenceKind, summary: String) -> String {
        let id = format!("e{}", self.pages.len() + 1);
        let evidence = Evidence { id: id.clone(), kind, at: self.at.clone(), summary, device: None, request: None, outcome: None };
        self.pages.push(evidence);
        id
    }

    /// As [`Book::add`], of one device.
    pub fn add_of(&mut self, device: &str, kind: EvidenceKind, summary: String) -> String {
        let id = self.add(kind, summary);
        if let Some(page) = self.pages.last_mut() {
            page.device = Some(device.to_owned());
        }
        id
    }

    /// An attempt on a device.
    pub fn attempt(&mut self, device: &str, request: &QpRequest, outcome: &Outcome) -> String {
        let plain = QueuePairRequest::from(request);
        let key = (device.to_owned(), plain.clone());
        if let Some(id) = self.attempts.get(&key) {
            return id.clone();
        }
        let id = self.add_of(device, EvidenceKind::Attempt, format!("ibv_create_qp on {device}: {outcome}"));
        if let Some(page) = self.pages.last_mut() {
            page.request = Some(plain);
            page.outcome = Some(Word::Known(outcome.kind()));
        }
        self.attempts.insert(key, id.clone());
        id
    }

    pub fn into_pages(self) -> Vec<Evidence> {
        self.pages
    }
}

impl From<&QpRequest> for QueuePairRequest {
    fn from(request: &QpRequest) -> Self {
        Self {
            qp_type: request.qp_type.name().to_owned(),
            max_send_wr: request.max_send_wr,
            max_recv_wr: request.max_recv_wr,
            max_send_sge: request.max_send_sge,
            max_recv_sge: request.max_recv_sge,
            max_inline_data: request.max_inline_data,
            cq_depth: request.cq_depth,
            srq_wr: request.srq.map(|srq| srq.max_wr),
            srq_sge: request.srq.map(|srq| srq.max_sge),
        }
    }
}

/// The request to try; none where the type is not known to this program.
pub(super) fn to_request(request: &QueuePairRequest) -> Option<QpRequest> {
    Some(QpRequest {
        qp_type: request.qp_type.parse().ok()?,
        max_send_wr: request.max_send_wr,
        max_recv_wr: request.max_recv_wr,
        max_send_sge: request.max_send_sge,
        max_recv_sge: request.max_recv_sge,
        max_inline_data: request.max_inline_data,
        cq_depth: request.cq_depth,
        srq: request.srq_wr.map(|max_wr| SrqRequest { max_wr, max_sge: request.srq_sge.unwrap_or(1) }),
    })
}
