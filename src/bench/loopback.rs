//! A plan whose ends are both in one child process, measured without a word to anybody: what a profile needs.

use super::document::ConnectionReport;
use super::measure::{Done, Measurement, measure};
use super::pair::Pair;
use super::plan::Plan;
use super::side::BenchError;
use super::{PortOf, Watched, common_pkey, explain};
use crate::host::Root;
use crate::transfer::RunKind;
use crate::worker::Worker;

/// What measuring needs of the caller.
pub struct LoopbackHooks<'a> {
    /// The host's files, for counters.
    pub root: &'a Root,
    /// Told what is under way.
    pub say: &'a mut dyn FnMut(&str),
    pub stop: &'a dyn Fn() -> bool,
}

impl Plan {
    /// Measures it in one process. `each` gets the figures. Tells whether all was measured.
    ///
    /// # Errors
    /// An end could not be opened; what fails later is told in the figures.
    pub fn measure(
        &self,
        kind: RunKind,
        worker: &mut Worker,
        hooks: &mut LoopbackHooks<'_>,
        each: &mut dyn FnMut(&ConnectionReport, Done),
    ) -> Result<bool, String> {
        let mut connection = self.connection.clone();
        let watched = Watched::new(hooks.root, None, connection.ports(), false);
        let explained = |error: &BenchError| explain(error, &self.hints);
        let mut pair = Pair::new(worker, None, self.ends.clone(), connection.connect, self.mark);
        let facts = pair.open().map_err(|error| {
            let report = explained(&error);
            format!("{}: {}", report.step, report.summary)
        })?;
        common_pkey(&facts[0].pkeys, &facts[1].pkeys)?;
        connection.memory_bytes = facts.each_ref().map(|facts| facts.memory_bytes).into_iter().min().unwrap_or(0);
        let mut measurement = Measurement {
            settings: &self.settings,
            facts,
            counters: &watched,
            say: &mut *hooks.say,
            stop: hooks.stop,
            explain: &explained,
            is_lost: false,
            left: String::new(),
        };
        let is_complete = measure(&mut pair, kind, &mut measurement, &mut |done| each(&connection, done));
        if !measurement.is_lost {
            pair.close();
        }
        Ok(is_complete)
    }
}

impl ConnectionReport {
    /// The ports of both ends.
    #[must_use]
    pub fn ports(&self) -> [PortOf; 2] {
        [&self.local, &self.remote].map(|end| PortOf { device: end.device.clone(), port: end.port.into() })
    }
}
