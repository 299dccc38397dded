//! What a client's frames mean at each moment of a session, without sockets and child processes.

use super::connection::{Lost, parse};
use super::handshake::TELLS_COUNTERS;
use super::limits::Limits;
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
    version: u32,
    is_busy: bool,
    /// The device that is being opened.
    opening: Option<String>,
    /// The device that is open.
    open: Option<String>,
}

impl Session {
    /// Nothing is asked yet. `version` is that of the protocol which both sides speak.
    #[must_use]
    pub fn new(limits: Limits, version: u32) -> Self {
        Self { limits, version, is_busy: false, opening: None, open: None }
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
            (Request::Counters, false) if self.version < TELLS_COUNTERS => {
                Ok(Turn::Refuse(format!("counters are told from version {TELLS_COUNTERS} of the peer protocol on")))
            }
            (Request::Counters, false) => Ok(match &self.open {
                Some(device) => Turn::Counters(device.clone()),
                None => Turn::Refuse("no device is open, so there are no counters to tell".to_owned()),
            }),
            (Request::Tell(command), false) if *command == Command::Finish => Ok(Turn::Nothing),
            (Request::Tell(command), false) => match self.limits.refusal(&command) {
                Some(why) => Ok(Turn::Refuse(why)),
                None => {
                    self.is_busy = true;
                    match &*command {
                        Command::Open(_, plan) => (self.opening, self.open) = (Some(plan.device.clone()), None),
                        Command::Close => self.open = None,
                        _ => {}
                    }
                    Ok(Turn::Tell(command))
                }
            },
        }
    }

    /// The device that was to be opened is open.
    pub fn opened(&mut self) {
        self.open = self.opening.take();
    }

    /// What was told has its last answer.
    pub fn answered(&mut self) {
        self.is_busy = false;
        self.opening = None;
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
        let mut session = Session::new(Limits::default(), 2);
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
        let mut session = Session::new(Limits::default(), 2);
        assert!(matches!(session.take(&ask).unwrap(), Turn::Refuse(_)));
        session.take(&open("rxe0")).unwrap();
        assert!(session.clone().take(&ask).is_err(), "a command is under way");
        session.opened();
        session.answered();
        assert_eq!(session.take(&ask).unwrap(), Turn::Counters("rxe0".to_owned()));
        session.take(&open("nowhere")).unwrap();
        session.answered();
        assert!(matches!(session.take(&ask).unwrap(), Turn::Refuse(_)), "it could not be opened");
        let mut older = Session::new(Limits::default(), 1);
        older.take(&open("rxe0")).unwrap();
        older.opened();
        older.answered();
        assert!(matches!(older.take(&ask).unwrap(), Turn::Refuse(why) if why.contains("version 2")));
    }

    #[test]
    fn what_is_refused_is_not_under_way() {
        let mut session = Session::new(Limits::default(), 2);
        assert!(matches!(session.take(&said(&Request::Tell(Box::new(Command::Unlink(0))))).unwrap(), Turn::Refuse(_)));
        assert_eq!(session.take(&said(&Request::Describe)).unwrap(), Turn::Describe);
        assert!(session.take(b"{\"tell\":").is_err());
    }
}
