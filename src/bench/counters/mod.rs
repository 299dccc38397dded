//! Counters of devices and of the interfaces below them around a measurement, and what growth of one means.

mod carried;
mod meaning;
mod snapshot;

use std::cell::Cell;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use carried::Carried;
#[cfg(test)]
pub(crate) use carried::{CountUnit, Direction};
pub use carried::{Flow, PortOf, Route};
pub use snapshot::{CounterKeeper, Routes, Snapshot};

use super::document::CounterDelta;
use super::pair::Pair;
use super::side::BenchError;
use crate::host::Root;
use crate::sim::CounterFile;

/// How long counters that lack data are read again: bnxt's firmware writes them once a second (drivers/net/ethernet/broadcom/bnxt/bnxt.h,
/// BNXT_DEF_STATS_COAL_TICKS).
const SETTLING: Duration = Duration::from_millis(2500);
const PAUSE: Duration = Duration::from_millis(250);

/// Of which host something is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HostSide {
    /// This one.
    #[default]
    Here,
    /// The one where `peer` runs.
    There,
}

/// Devices whose counters are read.
pub struct Watched<'a> {
    root: &'a Root,
    tallies: Option<&'a CounterFile>,
    ends: [PortOf; 2],
    /// Whether the second end is another host's.
    is_apart: bool,
    devices: Vec<String>,
    ways: Vec<Routes>,
    /// Whether waiting for counters was in vain.
    was_in_vain: Cell<bool>,
}

/// Counters of both sides, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// This host's.
    pub here: Snapshot,
    /// The other host's; absent where there is none, or it tells nothing.
    pub there: Option<Snapshot>,
}

impl<'a> Watched<'a> {
    /// Of both ends of a connection; of the first alone on this host where the second is another host's. What simulated devices have carried
    /// comes from `tallies`.
    #[must_use]
    pub fn new(root: &'a Root, tallies: Option<&'a CounterFile>, ends: [PortOf; 2], is_apart: bool) -> Self {
        let mut devices: Vec<String> = ends.iter().take(if is_apart { 1 } else { 2 }).map(|end| end.device.clone()).collect();
        devices.dedup();
        Self { root, tallies, ends, is_apart, devices, ways: Routes::of_host(root), was_in_vain: Cell::new(false) }
    }

    /// As they are now.
    ///
    /// # Errors
    /// The other side is lost.
    pub fn read(&self, pair: &mut Pair<'_>) -> Result<Reading, BenchError> {
        let there = pair.counters()?.map(Snapshot::bounded);
        Ok(Reading { here: self.here(), there })
    }

    fn here(&self) -> Snapshot {
        // Where data stays on the device nobody asks who else may have carried it.
        let with_others = self.is_apart || self.ends[0].device != self.ends[1].device;
        Snapshot::read(self.root, self.tallies, &self.ways, &self.devices, with_others)
    }

    /// What has grown since, and where the data went: `flows` from the first end to the second, and back. Counters that lack data are read again
    /// for a while.
    ///
    /// # Errors
    /// The other side is lost.
    pub fn since(
        &self,
        before: &Reading,
        pair: &mut Pair<'_>,
        flows: [Flow; 2],
        stop: &dyn Fn() -> bool,
    ) -> Result<(Vec<CounterDelta>, Vec<Carried>), BenchError> {
        let until = Instant::now() + SETTLING;
        loop {
            let now = match self.read(pair) {
                // Of an interrupted run what is known is shown.
                Err(_) if stop() => Reading { here: self.here(), there: None },
                now => now?,
            };
            let sides = [HostSide::Here, if self.is_apart { HostSide::There } else { HostSide::Here }];
            let carried = carried::judge([before, &now], &self.ends, sides, flows);
            let lacks = carried.iter().any(|carried| carried.is_bad() || (carried.way == Route::Unknown && !self.was_in_vain.get()));
            if lacks && Instant::now() < until && !stop() {
                std::thread::sleep(PAUSE);
                continue;
            }
            if lacks {
                self.was_in_vain.set(true);
            }
            return Ok((self.grown(before, &now), carried));
        }
    }

    fn grown(&self, before: &Reading, now: &Reading) -> Vec<CounterDelta> {
        let mut deltas = of_side(HostSide::Here, &before.here, &now.here, &self.devices);
        if let (Some(before), Some(now)) = (&before.there, &now.there) {
            deltas.extend(of_side(HostSide::There, before, now, &[self.ends[1].device.clone()]));
        }
        deltas
    }
}

/// What has grown of some devices and the interfaces below them. Of interfaces only what means something is told.
fn of_side(side: HostSide, before: &Snapshot, now: &Snapshot, devices: &[String]) -> Vec<CounterDelta> {
    let ways: Vec<&Routes> = devices.iter().filter_map(|device| now.ways(device)).collect();
    let mut deltas = Vec::new();
    for set in &now.sets {
        let is_own = match set.keeper {
            CounterKeeper::Rdma => devices.contains(&set.owner),
            CounterKeeper::Driver | CounterKeeper::Kernel => ways.iter().any(|ways| ways.netdevs.contains(&set.owner)),
        };
        if !is_own {
            continue;
        }
        let earlier = before.sets.iter().filter(|other| (&other.owner, other.port, other.keeper) == (&set.owner, set.port, set.keeper));
        let earlier: Vec<_> = earlier.flat_map(|set| &set.counters).collect();
        for counter in &set.counters {
            let from = earlier.iter().find(|other| other.name == counter.name).map_or(counter.value, |from| from.value);
            let meaning = meaning::meaning(set.keeper, &counter.name).map(str::to_owned);
            if counter.value > from && (set.keeper == CounterKeeper::Rdma || meaning.is_some()) {
                deltas.push(CounterDelta {
                    side,
                    keeper: set.keeper,
                    device: set.owner.clone(),
                    name: counter.name.clone(),
                    delta: counter.value - from,
                    meaning,
                });
            }
        }
    }
    deltas
}
