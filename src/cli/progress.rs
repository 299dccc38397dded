//! Narration on standard error.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::text;

/// Prints one line of narration. A closed standard error is nobody's loss.
pub fn say(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{}", text::lines(line));
}

/// How often a step that takes long says so where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Shows that a step goes on: a spinner on a terminal, a line now and then elsewhere.
pub struct Progress {
    bar: Option<ProgressBar>,
    title: String,
    last: Instant,
    quiet: bool,
}

impl Progress {
    /// Starts a step.
    pub fn new(title: &str, quiet: bool) -> Self {
        use std::io::IsTerminal;
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
                bar.set_style(style);
            }
            bar
        });
        Self { bar, title: title.to_owned(), last: Instant::now(), quiet }
    }

    /// Tells how far the step is.
    pub fn at(&mut self, detail: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text::line(&format!("{}: {detail}", self.title)).into_owned());
            bar.tick();
        } else if !self.quiet && self.last.elapsed() >= LINE_EVERY {
            self.last = Instant::now();
            say(&format!("{}: {detail}", self.title));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
