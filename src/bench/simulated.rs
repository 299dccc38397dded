//! Simulated devices of two processes, which reach only those of their own network.

use crate::devices::Problem;
use crate::transfer::StageFacts;

/// Why ends in two processes do not reach each other, where one of them is simulated.
pub(crate) fn out_of_reach(facts: &[StageFacts; 2]) -> Option<Problem> {
    let problem = |summary: &str, next: &str| Some(Problem { summary: summary.to_owned(), next_step: Some(next.to_owned()) });
    let both = "give --sim-network DIR to both processes, with the same directory on this machine";
    match facts.each_ref().map(|facts| facts.simulated.as_ref()) {
        [None, None] => None,
        [Some(here), Some(there)] if here.network.is_some() && here.network == there.network => None,
        [Some(_), Some(_)] => problem("the devices of both sides are simulated, and are in no modelled network together", both),
        [Some(_), None] => {
            problem("the device here is simulated and the other side's is real: no data gets there", "leave --host-model out")
        }
        [None, Some(_)] => {
            let next = "leave --host-model out there, or give it here too, and --sim-network DIR to both";
            problem("the other side's device is simulated and the one here is real: no data gets there", next)
        }
    }
}
