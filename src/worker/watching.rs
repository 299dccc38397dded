//! Another thread tells the parent that the reading of files goes on, or which path takes long: the one that reads cannot, should it hang.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::files::Reading;
use super::moving::TELL_EVERY;
use super::question::OwnNotes;
use crate::host::being_read;

/// How often the reading is looked at, and after how many looks without another path it is slow.
const LOOK: Duration = Duration::from_millis(50);
const SLOW_LOOKS: u32 = 4;

/// A thread that watches reading; one for all parts, as long as the process lives.
pub(super) struct Watching(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Held while something is told, so that nothing is told of a reading after its end.
    state: Mutex<State>,
    begun: Condvar,
}

#[derive(Default)]
struct State {
    /// Whether something is being read.
    reads: bool,
    /// Whether the thread sleeps until something is. Between two parts it does not, and need not be woken.
    sleeps: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watching {
    /// Starts the thread, which tells what it sees by `notes`.
    pub(super) fn start(mut notes: OwnNotes<Reading>) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let watched = shared.clone();
        std::thread::Builder::new().name("watching".to_owned()).spawn(move || watch(&watched, &mut notes))?;
        Ok(Self(shared))
    }

    /// Runs `read` watched. What is sent after it comes after all that was told of it.
    pub(super) fn during<T>(&self, read: impl FnOnce() -> T) -> T {
        let mut state = self.0.lock();
        state.reads = true;
        let sleeps = state.sleeps;
        drop(state);
        if sleeps {
            self.0.begun.notify_one();
        }
        let result = read();
        self.0.lock().reads = false;
        result
    }
}

/// Watches until the parent is gone.
fn watch(shared: &Shared, notes: &mut OwnNotes<Reading>) {
    let mut state = shared.lock();
    loop {
        state.sleeps = true;
        state = shared.begun.wait_while(state, |state| !state.reads).unwrap_or_else(PoisonError::into_inner);
        state.sleeps = false;
        let (mut last, mut looks) = (being_read().0, 0);
        let (mut told, mut told_at) = (last, Instant::now());
        loop {
            state = shared.begun.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
            if !state.reads {
                break;
            }
            let (number, path) = being_read();
            looks = if number == last { looks + 1 } else { 0 };
            last = number;
            let note = match () {
                () if looks == SLOW_LOOKS => Reading::Slow(path),
                () if number != told && told_at.elapsed() >= TELL_EVERY => Reading::GoesOn,
                () => continue,
            };
            (told, told_at) = (number, Instant::now());
            if !notes.note(note) {
                return;
            }
        }
    }
}
