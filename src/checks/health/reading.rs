//! What reading the host itself tells: what is slow, and what came to no end.

use super::{SLOW_READ_MS, bound, or_well};
use crate::checks::{Action, Finding};
use crate::facts::Facts;
use crate::host::part::TIME_IS_OVER;
use crate::units::counted;

/// Parts of the facts whose files devices and their drivers answer; what else is slow tells of a busy host.
const FROM_DEVICES: &[&str] = &["rdma", "counters", "pcie", "net"];

pub(super) fn slow_parts(facts: &Facts) -> Vec<Finding> {
    let most = facts.wanted.slow_read_ms.unwrap_or(SLOW_READ_MS);
    let slow: Vec<Finding> = facts
        .host
        .timings
        .iter()
        .filter(|timing| FROM_DEVICES.contains(&timing.part.as_str()) && timing.elapsed_us / 1000 > most)
        .filter(|timing| facts.unread().all(|(part, _)| part.name() != timing.part))
        .map(|timing| {
            let milliseconds = timing.elapsed_us / 1000;
            Finding::warn("host", format!("reading {} took {milliseconds} ms", timing.part))
                .saw_not(&timing.part, format!("{milliseconds} ms"), within(facts, most))
                .remedy(Action::None, "look at the kernel's log for a device that answers late", &["dmesg | tail -50"])
        })
        .collect();
    or_well(slow, "what devices answer was read in good time")
}

/// The bound on a wait, and who set it.
pub(in crate::checks) fn within(facts: &Facts, most_ms: u64) -> String {
    bound(format!("at most {most_ms} ms"), "slow_read_ms", facts.wanted.slow_read_ms.is_some())
}

pub(super) fn read_to_the_end(facts: &Facts) -> Vec<Finding> {
    let unread: Vec<Finding> = facts
        .unread()
        .map(|(part, problem)| {
            if problem.failure.to_string().contains(TIME_IS_OVER) {
                let title = format!("{} was not read to its end in the time that there was", part.name());
                return Finding::warn(part.name(), title).saw_not(&problem.path, problem.failure.to_string(), "its end").remedy(
                    Action::Tune,
                    "give it more time; what depends on it is not judged",
                    &["rdmadoctor probe --level quick --time-budget 60s"],
                );
            }
            Finding::fail(part.name(), format!("{} could not be read to its end", part.name()))
                .saw_not(&problem.path, problem.failure.to_string(), "an answer")
                .remedy(
                    Action::Reset,
                    "find out with the kernel's log what does not answer, and reset it or start the host anew; what depends on it is not judged",
                    &["dmesg | tail -50", "ps -eo pid,stat,wchan:32,comm | awk '$2 ~ /D/'"],
                )
        })
        .collect();
    or_well(unread, "every part was read to its end")
}

pub(super) fn unread(facts: &Facts) -> Vec<Finding> {
    let problems: Vec<_> = facts.host.problems().map(|(_, problem)| problem).chain(&facts.modules.problems).collect();
    if problems.is_empty() {
        return vec![Finding::pass("host", "everything could be read")];
    }
    let finding =
        Finding::skip("host", format!("{} could not be read or understood, so not judged", counted(problems.len() as u64, "path")));
    vec![problems.into_iter().fold(finding, |finding, problem| finding.saw(&problem.path, problem.failure.to_string()))]
}
