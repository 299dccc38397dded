//! Narration of what goes on for long and must not wait for whoever reads it: a queue, and a thread that writes.
//!
//! Standard error may be a pipe that nobody empties, or a terminal that is stopped. What has no place in the queue is counted, and the count is
//! told when something can be told again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use crate::text;

/// Lines that wait to be written.
const LINES: usize = 256;
/// How long the end waits for what is left to be written.
const END: Duration = Duration::from_millis(500);

/// Says lines without waiting.
pub struct Narration {
    lines: Option<SyncSender<String>>,
    left_out: Arc<AtomicU64>,
    ended: Receiver<()>,
}

/// Says lines of one narration.
pub struct Voice {
    lines: SyncSender<String>,
    left_out: Arc<AtomicU64>,
}

impl Narration {
    /// Starts the thread, which writes on standard error.
    pub fn start() -> std::io::Result<Self> {
        Self::onto(std::io::stderr())
    }

    fn onto(mut to: impl std::io::Write + Send + 'static) -> std::io::Result<Self> {
        let (lines, waiting) = sync_channel::<String>(LINES);
        let (end, ended) = sync_channel(1);
        let left_out = Arc::new(AtomicU64::new(0));
        let uncounted = left_out.clone();
        std::thread::Builder::new().name("narration".to_owned()).spawn(move || {
            // A closed standard error is nobody's loss.
            let tell_left_out = |to: &mut dyn std::io::Write| match uncounted.swap(0, Ordering::Relaxed) {
                0 => {}
                count => drop(writeln!(to, "{count} lines are left out here: they were not read in time")),
            };
            for line in waiting {
                let _ = writeln!(to, "{}", text::lines(&line));
                tell_left_out(&mut to);
            }
            let _ = to.flush();
            let _ = end.send(());
        })?;
        Ok(Self { lines: Some(lines), left_out, ended })
    }

    /// Somebody who says lines.
    pub fn voice(&self) -> Option<Voice> {
        Some(Voice { lines: self.lines.clone()?, left_out: self.left_out.clone() })
    }
}

impl Voice {
    /// Says a line, sooner or later.
    pub fn say(&self, line: &str) {
        if self.lines.try_send(line.to_owned()).is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Narration {
    fn drop(&mut self) {
        // Once all voices are gone the thread comes to its end; where nobody reads, it does not, and the process ends without it.
        self.lines = None;
        let _ = self.ended.recv_timeout(END);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn who_does_not_read_makes_nobody_wait_and_hears_how_much_was_left_out() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let narration = Narration::onto(writer).unwrap();
        let voice = narration.voice().unwrap();
        // More than a pipe and the queue take: the test ends only if nothing waits.
        let line = "x".repeat(1023);
        (0..2000).for_each(|_| voice.say(&line));
        let read = std::thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).map(|_| text)
        });
        drop(voice);
        drop(narration);
        let text = read.join().unwrap().unwrap();
        let said = text.lines().filter(|text| *text == line).count();
        let left_out: usize =
            text.lines().filter_map(|line| line.split_once(" lines are left out")).map(|(count, _)| count.parse::<usize>().unwrap()).sum();
        assert!(said >= LINES && left_out > 0 && said + left_out == 2000, "{said} and {left_out}");
    }
}
