//! Questions to the child. Each is written in one place: what is asked, what comes of it, and how the child finds that out. Questions and
//! answers are one JSON document a line over a socket. Both sides are always the same program, so there are no versions.

use std::io::{BufRead, BufReader, Write};
use std::marker::PhantomData;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::OpenError;
use super::attempts::{Attempts, Connect, Count};
use super::child::State;
use super::devices::{List, Query};
use super::files::Read;
use super::gpu::{MeasureCopies, ReadCuda, ReadNvml, ReadNvmlGpu, ReadUsableGpus};
use super::memory::{ReadObjects, Register, TryGpuMemory};
use super::moving::Transfer;

/// A question to the child.
pub trait Question: Serialize + DeserializeOwned + Into<Request> {
    /// What comes of it.
    type Answer: Serialize + DeserializeOwned;
    /// What is told before that.
    type Note: Serialize + DeserializeOwned;

    /// Finds it out, in the child.
    ///
    /// # Errors
    /// The library cannot be loaded, or the device not opened: nothing was done then.
    fn answer(self, state: &mut State, notes: &mut Notes<'_, Self::Note>) -> Result<Self::Answer, OpenError>;
}

/// The list of all questions.
macro_rules! questions {
    ($($name:ident),* $(,)?) => {
        /// A question on its way.
        #[derive(Debug, Serialize, Deserialize)]
        pub enum Request {
            $(#[doc(hidden)] $name($name)),*
        }

        $(impl From<$name> for Request {
            fn from(question: $name) -> Self {
                Self::$name(question)
            }
        })*

        impl Request {
            /// Answers it, in the child.
            pub(super) fn serve(self, state: &mut State, line: &mut Line) -> anyhow::Result<()> {
                match self {
                    // Came too late for the run that it was to end.
                    Self::Transfer(command) if command.is_finish() => Ok(()),
                    $(Self::$name(question) => serve(question, state, line)),*
                }
            }
        }
    };
}

questions!(
    Read,
    List,
    Query,
    Attempts,
    Count,
    Connect,
    Register,
    TryGpuMemory,
    ReadObjects,
    ReadNvml,
    ReadNvmlGpu,
    ReadCuda,
    ReadUsableGpus,
    MeasureCopies,
    Transfer,
);

fn serve<Q: Question>(question: Q, state: &mut State, line: &mut Line) -> anyhow::Result<()> {
    let answer = question.answer(state, &mut Notes { line, kind: PhantomData });
    line.send(&match answer {
        Ok(answer) => Message::<Q::Note, Q::Answer>::Answer(answer),
        Err(error) => Message::CannotStart(error),
    })
}

/// What the child says to a question.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Message<N, A> {
    /// Something before the answer.
    Note(N),
    /// The end of it.
    Answer(A),
    /// The device could not be opened, or the library not loaded: nothing of the question was done.
    CannotStart(OpenError),
}

/// The child's end of the socket.
pub struct Line {
    lines: BufReader<UnixStream>,
    socket: UnixStream,
    heard: String,
    said: Vec<u8>,
}

impl Line {
    pub(super) fn new(socket: UnixStream) -> std::io::Result<Self> {
        Ok(Self { lines: BufReader::new(socket.try_clone()?), socket, heard: String::new(), said: Vec::new() })
    }

    /// The same, for another thread.
    fn another(&self) -> std::io::Result<Self> {
        Self::new(self.socket.try_clone()?)
    }

    /// What the parent says next; nothing where it has gone away.
    pub(super) fn hear<T: DeserializeOwned>(&mut self) -> anyhow::Result<Option<T>> {
        self.heard.clear();
        Ok(if self.lines.read_line(&mut self.heard)? == 0 { None } else { Some(serde_json::from_str(&self.heard)?) })
    }

    /// Whether the parent has said something, or gone away.
    fn has_more(&self) -> bool {
        let mut files = [PollFd::new(self.lines.get_ref().as_fd(), PollFlags::POLLIN)];
        !self.lines.buffer().is_empty() || poll(&mut files, PollTimeout::ZERO) == Ok(1)
    }

    /// One write a message, so that what was done before a crash is known.
    fn send(&mut self, message: &impl Serialize) -> anyhow::Result<()> {
        self.said.clear();
        serde_json::to_writer(&mut self.said, message)?;
        self.said.push(b'\n');
        self.socket.write_all(&self.said)?;
        Ok(())
    }
}

/// Where a question's notes go.
pub struct Notes<'a, N> {
    line: &'a mut Line,
    kind: PhantomData<N>,
}

impl<N: Serialize> Notes<'_, N> {
    /// Whether the parent is still there to take it.
    pub(super) fn note(&mut self, note: N) -> bool {
        self.line.send(&Message::<N, ()>::Note(note)).is_ok()
    }

    /// The same place, for another thread.
    pub(super) fn another(&self) -> std::io::Result<OwnNotes<N>> {
        Ok(OwnNotes { line: self.line.another()?, kind: PhantomData })
    }

    /// The next question, where it has come already; an error where the parent has gone away, or said what is no question.
    pub(super) fn next(&mut self) -> Result<Option<Request>, ()> {
        if !self.line.has_more() {
            return Ok(None);
        }
        self.line.hear().ok().flatten().map(Some).ok_or(())
    }
}

/// [`Notes`] of a thread.
pub(super) struct OwnNotes<N> {
    line: Line,
    kind: PhantomData<fn(N)>,
}

impl<N: Serialize> OwnNotes<N> {
    /// As [`Notes::note`].
    pub(super) fn note(&mut self, note: N) -> bool {
        Notes { line: &mut self.line, kind: PhantomData }.note(note)
    }
}
