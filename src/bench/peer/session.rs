//! What a client's frames mean at each moment of a session, without sockets and child processes.

use super::connection::{Lost, parse};
use super::limits::{Limits, beyond};
use super::message::Request;
use crate::transfer::Command;

/// What to do about a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// Answer with this host's devices.
    Describe,
    /// Answer with this device's counters.
    Counters(String),
    /// Have the end do this, and tell the session when it is done.
    Tell(Box<Command>),
    /// End the run that is under way.
    Finish,
    /// Answer that this is not done, and why.
    Refuse(String),
    /// Nothing: it came too late for its run.
    Nothing,
}

/// A client's session after the handshake.
#[derive(Debug, Clone)]
pub struct Session {
    limits: Limits,
    is_busy: bool,
    /// The device that is being opened.
    opening: Option<String>,
    /// The device that is open.
    open: Option<String>,
    /// The memory that it has, while it is open.
    memory_bytes: u64,
}

impl Session {
    /// Nothing is asked yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, is_busy: false, opening: None, open: None, memory_bytes: 0 }
    }

    /// Takes a frame's payload.
    ///
    /// # Errors
    /// The client breaks the rules, and the session is over.
    pub fn take(&mut self, payload: &[u8]) -> Result<Turn, Lost> {
        let request = parse::<Request>(payload)?;
        match (request, self.is_busy) {
            (Request::Tell(command), true) if *command == Command::Finish => Ok(Turn::Finish),
            (_, true) => Err(Lost::Broken("it asked for something else before the last answer".to_owned())),
            (Request::Describe, false) => Ok(Turn::Describe),
            (Request::Counters, false) => Ok(match &self.open {
                Some(device) => Turn::Counters(device.clone()),
                None => Turn::Refuse("no device is open, so there are no counters to tell".to_owned()),
            }),
            (Request::Tell(command), false) if *command == Command::Finish => Ok(Turn::Nothing),
            (Request::Tell(command), false) => match self.limits.refusal(&command).or_else(|| self.beyond_memory(&command)) {
                Some(why) => Ok(Turn::Refuse(why)),
                None => {
                    self.is_busy = true;
                    match &*command {
                        Command::Open(_, plan) => self.opening = Some(plan.device.clone()),
                        Command::Close => self.open = None,
                        _ => {}
                    }
                    Ok(Turn::Tell(command))
                }
            },
        }
    }

    /// Why a command is not done with the memory that is open. Without any, the end itself says so.
    fn beyond_memory(&self, command: &Command) -> Option<String> {
        self.open.as_ref().and_then(|_| beyond(command, self.memory_bytes))
    }

    /// The device that was to be opened is open, with so much memory.
    pub fn opened(&mut self, memory_bytes: u64) {
        (self.open, self.memory_bytes) = (self.opening.take(), memory_bytes);
    }

    /// Whether a device is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// What was to be opened is not tried: what was open before still is.
    pub fn refused(&mut self) {
        (self.is_busy, self.opening) = (false, None);
    }

    /// What was told has its last answer.
    pub fn answered(&mut self) {
        self.is_busy = false;
        // What was open was closed first.
        if self.opening.take().is_some() {
            self.open = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::EndpointPlan;

    fn said(request: &Request) -> Vec<u8> {
        serde_json::to_vec(request).unwrap()
    }

    #[test]
    fn while_a_command_is_under_way_only_its_end_may_be_asked() {
        let mut session = Session::new(Limits::default());
        let (close, finish) = (Command::Close, said(&Request::Tell(Box::new(Command::Finish))));
        assert_eq!(session.take(&finish).unwrap(), Turn::Nothing);
        assert_eq!(session.take(&said(&Request::Describe)).unwrap(), Turn::Describe);
        assert_eq!(session.take(&said(&Request::Tell(Box::new(close.clone())))).unwrap(), Turn::Tell(Box::new(close)));
        assert_eq!(session.take(&finish).unwrap(), Turn::Finish);
        assert!(session.take(&said(&Request::Describe)).is_err());
        session.answered();
        assert_eq!(session.take(&said(&Request::Describe)).unwrap(), Turn::Describe);
    }

    #[test]
    fn counters_are_told_of_the_device_that_is_open_and_of_no_other() {
        let stage = |device: &str| EndpointPlan {
            device: device.to_owned(),
            port: 1,
            memory_bytes: 4096,
            least_bytes: 4096,
            manager: None,
            memory: crate::gpu::MemoryKind::Host,
            with_staged: false,
        };
        let open = |device| said(&Request::Tell(Box::new(Command::Open(1, stage(device)))));
        let ask = said(&Request::Counters);
        let mut session = Session::new(Limits::default());
        assert!(matches!(session.take(&ask).unwrap(), Turn::Refuse(_)));
        session.take(&open("rxe0")).unwrap();
        assert!(session.clone().take(&ask).is_err(), "a command is under way");
        session.opened(1 << 20);
        session.answered();
        assert_eq!(session.take(&ask).unwrap(), Turn::Counters("rxe0".to_owned()));
        session.take(&open("nowhere")).unwrap();
        session.answered();
        assert!(matches!(session.take(&ask).unwrap(), Turn::Refuse(_)), "it could not be opened");
    }

    #[test]
    fn what_is_refused_is_not_under_way() {
        let mut session = Session::new(Limits::default());
        assert!(matches!(session.take(&said(&Request::Tell(Box::new(Command::Unlink(0))))).unwrap(), Turn::Refuse(_)));
        assert_eq!(session.take(&said(&Request::Describe)).unwrap(), Turn::Describe);
        assert!(session.take(b"{\"tell\":").is_err());
    }
}
