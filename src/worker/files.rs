//! Reads the files of a host, a part at a time.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::child::State;
use super::question::{Notes, Question};
use super::watching::Watching;
use super::{Failure, Lost, OpenError, Worker};
use crate::host::part::{Part, PartFacts, ReadOptions, TIME_IS_OVER};

/// How many deadlines a part of the files may take that is read on and on.
const MOST_WAITS: u32 = 10;

/// A part of the host's files.
#[derive(Debug, Serialize, Deserialize)]
pub struct Read {
    part: Part,
    asked: ReadOptions,
}

/// How far it is.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// A path takes long, in case that it never ends.
    Slow(Option<PathBuf>),
    /// Paths are read, one after another.
    GoesOn,
}

impl Question for Read {
    type Answer = PartFacts;
    type Note = Reading;

    fn answer(self, state: &mut State, notes: &mut Notes<'_, Reading>) -> Result<PartFacts, OpenError> {
        if state.watching.is_none() {
            state.watching = notes.another().and_then(Watching::start).ok();
        }
        let root = state.target.root();
        let facts = match &state.watching {
            Some(watching) => watching.during(|| self.part.read(&root, &self.asked)),
            None => self.part.read(&root, &self.asked),
        };
        // A large part takes its time to be written down too.
        notes.note(Reading::GoesOn);
        Ok(facts)
    }
}

impl Worker {
    /// Reads a part of a host's files. One that comes to no end, or whose reader dies, has that as its problem.
    /// `deadline` is the longest wait for one path from here on: a part that takes long because it is large is read to its end, or for as long as
    /// `longest`.
    ///
    /// # Errors
    /// The user interrupted, or there is no child to be had.
    pub fn read(&mut self, part: Part, asked: &ReadOptions, deadline: Duration, longest: Option<Duration>) -> Result<PartFacts, Failure> {
        self.wait_at_most(deadline);
        let deadline_ms = deadline.as_millis() as u64;
        let started = Instant::now();
        let (mut slow, mut moved, mut is_over) = (None, started, false);
        let answer = self.follow(Read { part, asked: asked.clone() }, &mut |note| {
            match note {
                Reading::Slow(path) => slow = path,
                Reading::GoesOn => (slow, moved) = (None, Instant::now()),
            }
            let is_late = moved.elapsed() >= deadline || started.elapsed() >= deadline * MOST_WAITS;
            is_over |= longest.is_some_and(|longest| started.elapsed() >= longest);
            if is_late || is_over { Err(Failure::Lost(Lost::Hung { deadline_ms, held_in: None })) } else { Ok(()) }
        });
        match answer {
            // What waits for one path hangs, whatever else is over.
            Err(Failure::Lost(Lost::Hung { .. })) if is_over && slow.is_none() => {
                let taken_ms = started.elapsed().as_millis();
                Ok(part.unread(slow, format!("not at its end after {taken_ms} ms, when {TIME_IS_OVER}")))
            }
            Err(Failure::Lost(Lost::Hung { deadline_ms, held_in })) => {
                let place = held_in.map(|place| format!("; the kernel held it in {place}")).unwrap_or_default();
                Ok(part.unread(slow, format!("no answer in {deadline_ms} ms{place}")))
            }
            Err(Failure::Lost(Lost::Crashed { signal, .. })) => Ok(part.unread(slow, format!("the process that read it died of {signal}"))),
            answer => answer,
        }
    }
}
