//! Moves data between ends of connections.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::child::State;
use super::question::{Message, Notes, Question, Request};
use super::{Failure, OpenError, Worker};
use crate::sim::Simulation;
use crate::transfer::{self, Answer, Command};
use crate::verbs::ConnectionManager;

/// How often the parent is told how far a run or a reading is. It runs then, and may take the processor from what is measured.
pub(super) const TELL_EVERY: Duration = Duration::from_millis(250);

/// Something to do with the ends of connections.
#[derive(Debug, Serialize, Deserialize)]
pub struct Transfer(Command);

impl Transfer {
    pub(super) fn is_finish(&self) -> bool {
        matches!(self.0, Command::Finish)
    }
}

impl Question for Transfer {
    type Answer = Answer;
    type Note = Answer;

    fn answer(self, state: &mut State, notes: &mut Notes<'_, Answer>) -> Result<Answer, OpenError> {
        let verbs = state.verbs()?;
        let simulation = state.simulation;
        let manager = || connection_manager(simulation);
        let mut answer = state.ends.obey(&verbs, &manager, &self.0, &mut Onlooker { notes, told: Instant::now() });
        if let Answer::Opened(facts) = &mut answer {
            facts.simulated = state.target.simulated();
        }
        Ok(answer)
    }
}

/// librdmacm, or the simulation's, or why there is none.
fn connection_manager(simulation: Option<Simulation>) -> Result<Arc<ConnectionManager>, String> {
    match simulation {
        // The real one knows nothing of simulated devices, and must not be touched.
        Some(simulation) => Ok(Arc::new(simulation.connection_manager())),
        None => ConnectionManager::load().map(Arc::new).map_err(|error| error.to_string()),
    }
}

/// Tells the parent how far a run is, and listens whether it is to end.
struct Onlooker<'a, 'b> {
    notes: &'a mut Notes<'b, Answer>,
    told: Instant,
}

impl transfer::RunObserver for Onlooker<'_, '_> {
    fn ready(&mut self) {
        // A parent that is gone is noticed soon.
        self.notes.note(Answer::Ready);
    }

    fn told(&mut self, progress: transfer::Progress) -> transfer::Control {
        if self.told.elapsed() >= TELL_EVERY {
            self.told = Instant::now();
            if !self.notes.note(Answer::Running(progress)) {
                return transfer::Control::Abandon;
            }
        }
        match self.notes.next() {
            Ok(None) => transfer::Control::GoOn,
            Ok(Some(Request::Transfer(command))) if command.is_finish() => transfer::Control::Finish,
            _ => transfer::Control::Abandon,
        }
    }
}

impl Worker {
    /// Tells the child to do something with its ends of connections. [`Worker::hear`] gives the answer.
    ///
    /// # Errors
    /// The child is lost, and with it all ends.
    pub fn tell(&mut self, command: &Command) -> Result<(), Failure> {
        self.send(Transfer(command.clone()))
    }

    /// The next answer to what the child was told.
    ///
    /// # Errors
    /// The child gave none in time, or died.
    pub fn hear(&mut self) -> Result<Answer, Failure> {
        match self.receive::<Transfer>(false)? {
            Message::Note(answer) | Message::Answer(answer) => Ok(answer),
            Message::CannotStart(error) => Err(Failure::CannotStart(error)),
        }
    }
}
