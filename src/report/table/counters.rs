//! Counters around a measurement, and where its data went, for people.

use super::Style;
use crate::bench::{Carried, CounterDelta, CounterKeeper, HostSide};

/// Counters whose growth means the same.
struct Grown<'a> {
    meaning: &'a str,
    keeper: CounterKeeper,
    /// Name of each, and by how much it grew.
    sums: Vec<(String, u64)>,
}

/// Counters that grew, a line for each meaning: of all measurements together, and with -v of each.
pub(super) fn counters(rows: &[(String, &[CounterDelta])], style: Style) -> String {
    let mut meanings: Vec<Grown<'_>> = Vec::new();
    for counter in rows.iter().flat_map(|(_, counters)| counters.iter()) {
        let Some(meaning) = counter.meaning.as_deref() else { continue };
        let at = meanings.iter().position(|grown| grown.meaning == meaning && grown.keeper == counter.keeper).unwrap_or_else(|| {
            meanings.push(Grown { meaning, keeper: counter.keeper, sums: Vec::new() });
            meanings.len() - 1
        });
        let name = format!("{}{} {}", whose(counter.side), counter.device, counter.name);
        match meanings[at].sums.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += counter.delta,
            None => meanings[at].sums.push((name, counter.delta)),
        }
    }
    let mut out = String::new();
    for Grown { meaning, keeper, sums } in meanings {
        let sums: Vec<String> = sums.iter().map(|(name, sum)| format!("{name} by {sum}")).collect();
        let text = format!("grew meanwhile: {}: {meaning}", sums.join(", "));
        // What the kernel counts of an interface is of all its users.
        out += &style.entry("counters", &if keeper == CounterKeeper::Kernel { text } else { style.warn(text) });
    }
    if style.verbose {
        for (name, counters) in rows {
            for side in [HostSide::Here, HostSide::There] {
                let of_side = counters.iter().filter(|counter| counter.side == side);
                let grown: Vec<String> = of_side
                    .map(|counter| match counter.keeper {
                        CounterKeeper::Rdma => format!("{} {}", counter.name, counter.delta),
                        CounterKeeper::Driver | CounterKeeper::Kernel => format!("{} {} {}", counter.device, counter.name, counter.delta),
                    })
                    .collect();
                if !grown.is_empty() {
                    out += &style.entry("counters", &format!("{}{name}: {}", whose(side), grown.join(", ")));
                }
            }
        }
    }
    out
}

fn whose(side: HostSide) -> &'static str {
    match side {
        HostSide::Here => "",
        HostSide::There => "the other side's ",
    }
}

/// Where data did not go over the device that it should have, and whether that deserves a warning: the first measurement of each device and
/// direction, and how many more.
pub(in crate::report) fn ways<'a>(rows: impl Iterator<Item = (&'a str, &'a [Carried])>) -> Vec<(String, bool)> {
    let mut all: Vec<(&str, &Carried, usize)> = Vec::new();
    let of_rows = rows.flat_map(|(name, carried)| carried.iter().map(move |carried| (name, carried)));
    for (name, carried) in of_rows.filter(|(_, carried)| carried.summary.is_some()) {
        let key = |carried: &Carried| (carried.side, carried.device.clone(), carried.direction, carried.way);
        match all.iter_mut().find(|(_, known, _)| key(known) == key(carried)) {
            Some((_, _, more)) => *more += 1,
            None => all.push((name, carried, 0)),
        }
    }
    let line = |(name, carried, more): (&str, &Carried, usize)| {
        let more = if more == 0 { String::new() } else { format!(" ({more} more such)") };
        let summary = carried.summary.as_deref().unwrap_or_default();
        let whose = if carried.side == HostSide::There { ", as the other side counts" } else { "" };
        (format!("{name}{whose}: {summary}{more}"), carried.is_bad())
    };
    all.into_iter().map(line).collect()
}

/// As [`ways`], for people.
pub(super) fn carried<'a>(rows: impl Iterator<Item = (&'a str, &'a [Carried])>, style: Style) -> String {
    let line = |(text, is_bad): (String, bool)| style.entry("way", &if is_bad { style.warn(text) } else { text });
    ways(rows).into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{CountUnit, Direction, Route};

    #[test]
    fn each_device_and_direction_is_told_once() {
        let carried = |side, way, summary: Option<&str>| Carried {
            side,
            device: "mlx5_0".to_owned(),
            port: 1,
            direction: Direction::Sent,
            way,
            unit: CountUnit::Bytes,
            expected: 9,
            counted: 0,
            evidence: Vec::new(),
            summary: summary.map(str::to_owned),
        };
        let here = [carried(HostSide::Here, Route::Less, Some("less")), carried(HostSide::There, Route::Unknown, Some("unknown"))];
        let well = [carried(HostSide::Here, Route::ThisDevice, None)];
        let rows: [(&str, &[Carried]); 3] = [("first", &here), ("second", &well), ("third", &here)];
        let told = ways(rows.into_iter());
        let expected = [("first: less (1 more such)", true), ("first, as the other side counts: unknown (1 more such)", false)];
        assert_eq!(told, expected.map(|(text, is_bad)| (text.to_owned(), is_bad)));
    }
}
