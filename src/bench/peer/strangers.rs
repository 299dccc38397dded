//! Connections that have proven nothing: how many there may be, what is told of them, and how fast tokens may be tried.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Connections that have proven nothing yet; one more puts the oldest out.
pub const STRANGERS: usize = 64;
/// How often it is told at most how many have proven nothing.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// From so many wrong proofs on in so long, all are answered late.
const GUESSES: usize = 20;
const GUESSED_IN: Duration = Duration::from_secs(60);
/// How late.
pub const LATE: Duration = Duration::from_secs(1);

/// All that a server knows of them.
#[derive(Default)]
pub struct Strangers(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// Those that are there, the oldest first.
    open: BTreeMap<u64, TcpStream>,
    /// Those that have gone, or were put out, since it was last told.
    gone: u64,
    /// The last of them, and why.
    last: String,
    told: Option<Instant>,
    /// When the last wrong proofs came.
    wrong: VecDeque<Instant>,
}

impl Strangers {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One has come.
    pub fn come(&self, number: u64, stream: TcpStream) {
        let mut known = self.known();
        if known.open.len() >= STRANGERS
            && let Some((_, oldest)) = known.open.pop_first()
        {
            let _ = oldest.shutdown(Shutdown::Both);
        }
        known.open.insert(number, stream);
    }

    /// One has gone, or is none any more.
    pub fn leave(&self, number: u64) {
        self.known().open.remove(&number);
    }

    /// One has gone without a proof. Gives what to tell, if it is time to.
    pub fn refused(&self, from: SocketAddr, why: &str, now: Instant) -> Option<String> {
        {
            let mut known = self.known();
            known.gone += 1;
            known.last = format!("{from}: {why}");
        }
        self.news(now, false)
    }

    /// What is to be told by now, or at the end.
    pub fn news(&self, now: Instant, is_end: bool) -> Option<String> {
        let mut known = self.known();
        let is_time = is_end || known.told.is_none_or(|told| now.saturating_duration_since(told) >= TELL_EVERY);
        if known.gone == 0 || !is_time {
            return None;
        }
        known.told = Some(now);
        Some(match std::mem::take(&mut known.gone) {
            1 => format!("1 connection did not prove the token, from {}", known.last),
            count => format!("{count} connections did not prove the token, the last from {}", known.last),
        })
    }

    /// A proof was wrong.
    pub fn guessed(&self, now: Instant) {
        let mut known = self.known();
        known.wrong.push_back(now);
        if known.wrong.len() > GUESSES {
            known.wrong.pop_front();
        }
    }

    /// Whether somebody tries tokens.
    pub fn are_guessing(&self, now: Instant) -> bool {
        let known = self.known();
        known.wrong.len() >= GUESSES && known.wrong.front().is_some_and(|first| now.saturating_duration_since(*first) < GUESSED_IN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_counted_and_told_of_now_and_then() {
        let strangers = Strangers::default();
        let begun = Instant::now();
        let from = SocketAddr::from(([192, 0, 2, 1], 9));
        let at = |ms: u64| begun + Duration::from_millis(ms);
        assert_eq!(strangers.news(begun, true), None);
        let first = strangers.refused(from, "it went", begun).unwrap();
        assert_eq!(first, "1 connection did not prove the token, from 192.0.2.1:9: it went");
        let told = (1..=1500).filter_map(|number| strangers.refused(from, "it went", at(number))).count();
        assert_eq!(told, 0);
        assert_eq!(strangers.news(at(4999), false), None);
        let rest = strangers.news(at(5000), false).unwrap();
        assert_eq!(rest, "1500 connections did not prove the token, the last from 192.0.2.1:9: it went");
        assert_eq!(strangers.news(at(20000), false), None, "nothing new");
        strangers.refused(from, "it went", at(20000)).unwrap();
        assert_eq!(strangers.refused(from, "it went", at(20001)), None);
        assert!(strangers.news(at(20002), true).is_some(), "the end tells the rest");
    }

    #[test]
    fn twenty_wrong_proofs_in_a_minute_are_guesses() {
        let strangers = Strangers::default();
        let begun = Instant::now();
        let at = |seconds: u64| begun + Duration::from_secs(seconds);
        (0..19).for_each(|_| strangers.guessed(begun));
        assert!(!strangers.are_guessing(begun));
        strangers.guessed(at(1));
        assert!(strangers.are_guessing(at(1)) && strangers.are_guessing(at(59)) && !strangers.are_guessing(at(60)));
        // As many, but in more than a minute.
        let slow = Strangers::default();
        (0..100).for_each(|number| slow.guessed(at(4 * number)));
        assert!(!slow.are_guessing(at(400)));
    }
}
