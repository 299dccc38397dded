//! What a client's frames mean at each moment of a session, without sockets and child processes.

use super::connection::{Lost, parse};
use super::limits::Limits;
use super::message::Request;
use crate::transfer::Command;

/// What to do about a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// Answer with this host's devices.
    Describe,
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
}

impl Session {
    /// Nothing is asked yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, is_busy: false }
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
            (Request::Tell(command), false) if *command == Command::Finish => Ok(Turn::Nothing),
            (Request::Tell(command), false) => match self.limits.refusal(&command) {
                Some(why) => Ok(Turn::Refuse(why)),
                None => {
                    self.is_busy = true;
                    Ok(Turn::Tell(command))
                }
            },
        }
    }

    /// What was told has its last answer.
    pub fn answered(&mut self) {
        self.is_busy = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn what_is_refused_is_not_under_way() {
        let mut session = Session::new(Limits::default());
        assert!(matches!(session.take(&said(&Request::Tell(Box::new(Command::Unlink(0))))).unwrap(), Turn::Refuse(_)));
        assert_eq!(session.take(&said(&Request::Describe)).unwrap(), Turn::Describe);
        assert!(session.take(b"{\"tell\":").is_err());
    }
}
