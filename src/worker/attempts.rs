//! Queue pairs that are tried: one after another, as many as there can be, and connected.

use rdmadoctor_types::QpState;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::child::State;
use super::question::{Message, Notes, Question};
use super::{Failure, OpenError, Outcome, QpRequest, Worker};
use crate::verbs::CallError;

/// Requests that are sent in one message: the first answer must not wait for the reading of a large grid.
const CHUNK: usize = 1024;
/// From how many outstanding answers on they are collected in portions.
const BATCH: usize = 32;

/// These requests, one after another; each has a note.
#[derive(Debug, Serialize, Deserialize)]
pub struct Attempts {
    device: String,
    requests: Vec<QpRequest>,
}

impl Question for Attempts {
    type Answer = ();
    type Note = Outcome;

    fn answer(self, state: &mut State, notes: &mut Notes<'_, Outcome>) -> Result<(), OpenError> {
        let open = state.device(&self.device)?;
        for request in &self.requests {
            if !notes.note(open.attempt(request)) {
                break;
            }
        }
        Ok(())
    }
}

/// Makes as many queue pairs as possible at once, up to `ceiling`, then frees them.
#[derive(Debug, Serialize, Deserialize)]
pub struct Count {
    /// On which device.
    pub device: String,
    /// Of what kind each is.
    pub request: QpRequest,
    /// How many at most.
    pub ceiling: u32,
}

/// How many queue pairs existed at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counted {
    /// Queue pairs that were granted.
    pub granted: u32,
    /// The refusal that ended it; absent when the ceiling did.
    pub refused: Option<CallError>,
}

impl Question for Count {
    type Answer = Counted;
    /// Now and then, so that a long count is not taken for a hang.
    type Note = ();

    fn answer(self, state: &mut State, notes: &mut Notes<'_, ()>) -> Result<Counted, OpenError> {
        Ok(state.device(&self.device)?.count(&self.request, self.ceiling, &mut || notes.note(())))
    }
}

/// Makes a queue pair and connects it with itself.
#[derive(Debug, Serialize, Deserialize)]
pub struct Connect {
    /// Of which device.
    pub device: String,
    /// By which port.
    pub port: u8,
    /// By which entry of the GID table; absent where the caller does not know which is best.
    pub gid_index: Option<u8>,
    /// Of what kind it is.
    pub request: QpRequest,
}

/// How far a queue pair came when it was connected with itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connected {
    /// The last state reached.
    pub reached: QpState,
    /// GID index used; absent where the port has no usable entry.
    pub gid_index: Option<u32>,
    /// The refusal that ended it; absent when RTS was reached.
    pub refused: Option<CallError>,
}

impl Question for Connect {
    type Answer = Connected;
    type Note = ();

    fn answer(self, state: &mut State, _: &mut Notes<'_, ()>) -> Result<Connected, OpenError> {
        Ok(state.device(&self.device)?.connect_to_itself(self.port, self.gid_index, &self.request))
    }
}

impl Worker {
    /// Tries requests one after another and hands each outcome to `each`, which says whether to go on.
    pub fn attempts(&mut self, device: &str, requests: &[QpRequest], each: &mut dyn FnMut(usize, Outcome) -> bool) {
        for (index, chunk) in requests.chunks(CHUNK).enumerate() {
            let mut goes_on = true;
            self.chunk(device, chunk, &mut |at, outcome| {
                goes_on = each(index * CHUNK + at, outcome);
                goes_on
            });
            if !goes_on {
                return;
            }
        }
    }

    fn chunk(&mut self, device: &str, requests: &[QpRequest], each: &mut dyn FnMut(usize, Outcome) -> bool) {
        let mut next = 0;
        while next < requests.len() {
            let mut failure = self.send(Attempts { device: device.to_owned(), requests: requests[next..].to_vec() }).err();
            while failure.is_none() {
                // Answers may come without a pause in which a wait would notice.
                if self.interrupted() {
                    self.stop();
                    failure = Some(Failure::Interrupted);
                    break;
                }
                match self.receive::<Attempts>(requests.len() - next >= BATCH) {
                    Ok(Message::Note(outcome)) => {
                        next += 1;
                        if !each(next - 1, outcome) {
                            // The child would go on with the rest.
                            self.stop();
                            return;
                        }
                    }
                    Ok(Message::Answer(())) => break,
                    Ok(Message::CannotStart(error)) => failure = Some(Failure::CannotStart(error)),
                    Err(error) => failure = Some(error),
                }
            }
            if next == requests.len() {
                return;
            }
            if let Some(failure) = failure {
                // A crash or a hang belongs to the request that was being tried; the others have a new child.
                let lost_one = matches!(failure, Failure::Lost(_));
                let outcome = Outcome::from(failure);
                loop {
                    next += 1;
                    if !each(next - 1, outcome.clone()) {
                        return;
                    }
                    if lost_one || next == requests.len() {
                        break;
                    }
                }
            }
        }
    }
}
