//! Whether what arrives is what was sent: a pass of its own, one message at a time, before anything is measured.

use super::document::Verification;
use super::pair::Pair;
use super::settings::Settings;
use super::side::BenchError;
use crate::transfer::{
    AccessPattern, BouncePlan, Limit, LinkPlan, Operation, PatternSpan, Progress, ReceivePlan, RunKind, RunPlan, Transport,
};

/// The longest message that is compared byte by byte; a second's worth.
const LONGEST: u64 = 64 << 20;
/// An odd distance from the beginning of a page, so that nothing is aligned.
const SHIFT: u32 = 65;

/// The lengths of messages that are compared, and whether each is posted inline: the size itself, one byte less, an odd one past its half, and a few
/// bytes. The payload of a read cannot be inline (ibv_post_send(3)).
fn lengths(operation: Operation, size: u32, inline_bytes: u32) -> Vec<(u32, bool)> {
    let mut lengths = vec![(size, false), (size, true), (size.saturating_sub(1), false), (size / 2 + 1, false), (size.min(3), true)];
    lengths.retain(|(length, is_inline)| {
        *length > 0 && *length <= size && (!is_inline || (*length <= inline_bytes && operation != Operation::Read))
    });
    lengths
}

/// Moves messages of a size and of lengths below it, and compares each with what was sent, the bytes around it included.
///
/// # Errors
/// They do not move.
pub fn verify(
    pair: &mut Pair<'_>,
    settings: &Settings,
    link: &LinkPlan,
    operation: Operation,
    size: u64,
) -> Result<Verification, BenchError> {
    let size = u32::try_from(size.min(LONGEST)).unwrap_or(u32::MAX);
    let arrives = operation == Operation::Send || (settings.immediate && operation == Operation::Write);
    let receive = ReceivePlan {
        size_bytes: size,
        shift_bytes: SHIFT,
        touch: AccessPattern::One,
        depth: link.receive.as_ref().map_or(1, |plan| plan.depth).min(16),
    };
    let mut link = LinkPlan { receive: arrives.then_some(receive), queue_pairs: 1, ..link.clone() };
    // A receiver that is never ready is named instead of waited for.
    link.reliability.receiver_retries = 6;
    pair.link(&link, [false, arrives])?;
    let mut verified = Verification { messages: 0, bytes: 0, mismatch: None };
    for (iteration, (length, is_inline)) in lengths(operation, size, link.inline_bytes).into_iter().enumerate() {
        let iteration = iteration as u64 + 1;
        let what = |receiving| PatternSpan { receiving, iteration, shift_bytes: SHIFT, length_bytes: length };
        // A read brings what the other side has.
        let (source, target) = if operation == Operation::Read { (1, 0) } else { (0, 1) };
        pair.prepare(source, what(false), true)?;
        pair.prepare(target, what(true), false)?;
        let plan = RunPlan {
            kind: RunKind::Bandwidth,
            operation,
            immediate: settings.immediate,
            size_bytes: length,
            shift_bytes: SHIFT,
            touch: AccessPattern::One,
            depth: 1,
            batch: 1,
            inline: is_inline,
            sends: true,
            receives: false,
            limit: Limit::Iterations(1),
            linger_ms: 0,
            patience_ms: settings.patience_ms,
            staged: BouncePlan::default(),
        };
        let other = RunPlan { sends: false, receives: true, limit: Limit::UntilTold, ..plan.clone() };
        let [_, arrived] = pair.run([Some(plan), arrives.then_some(other)], &mut |_: Progress| {})?;
        if arrives && arrived.received.messages == 0 && settings.transport != Transport::Rc {
            // An unreliable message may be lost; that is no wrong content.
            continue;
        }
        verified.messages += 1;
        verified.bytes = verified.bytes.max(length.into());
        verified.mismatch = pair.check(target, what(true))?;
        if verified.mismatch.is_some() {
            break;
        }
    }
    Ok(verified)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_several_lengths_are_compared_inline_where_that_is_possible() {
        let all = [(64, false), (64, true), (63, false), (33, false), (3, true)];
        assert_eq!(lengths(Operation::Write, 64, 64), all);
        assert_eq!(lengths(Operation::Write, 64, 63), [(64, false), (63, false), (33, false), (3, true)]);
        assert_eq!(lengths(Operation::Send, 64, 2), [(64, false), (63, false), (33, false)]);
        assert_eq!(lengths(Operation::Read, 64, 64), [(64, false), (63, false), (33, false)]);
        assert_eq!(lengths(Operation::Write, 1, 1), [(1, false), (1, true), (1, false), (1, true)]);
    }
}
