//! The pattern by which a transfer is verified: it depends on place and iteration, so that a byte that is left from before, or moved, shows.

use super::layout::start;
use super::memory::Bytes;
use super::{Filled, Mismatch};

/// Bytes around a message that must stay as they are.
const GUARD: usize = 64;

/// The byte at an offset of an iteration's message: of a mixer (SplitMix64's) in which neighbours and iterations have nothing in common.
fn expected(iteration: u64, offset: usize) -> u8 {
    let seed = (offset as u64).wrapping_add(iteration.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed >> 56) as u8
}

fn base(memory: &dyn Bytes, what: &Filled) -> usize {
    start(memory.length(), what.receiving) + what.shift_bytes as usize
}

fn message(what: &Filled) -> impl Iterator<Item = u8> {
    let iteration = what.iteration;
    (0..what.length_bytes as usize).map(move |offset| expected(iteration, offset))
}

/// Writes the pattern.
pub fn fill(memory: &dyn Bytes, what: &Filled) {
    memory.write(base(memory, what), &message(what).collect::<Vec<_>>());
}

/// Writes the opposite of the pattern, and the guards.
pub fn clear(memory: &dyn Bytes, what: &Filled) {
    let before = (0..GUARD).rev().map(guard);
    let bytes: Vec<u8> = before.chain(message(what).map(|byte| !byte)).chain((0..GUARD).map(guard)).collect();
    memory.write(base(memory, what) - GUARD, &bytes);
}

fn guard(distance: usize) -> u8 {
    0xa5 ^ distance as u8
}

/// Looks for the first byte that is wrong. `header` bytes before the message may have changed: those of a datagram's header.
pub fn check(memory: &dyn Bytes, what: &Filled, header: usize) -> Option<Mismatch> {
    let base = base(memory, what);
    let length = what.length_bytes as usize;
    // The opposite of what is looked for, in case that nothing can be read.
    let mut found = vec![0; length + 2 * GUARD];
    for (byte, expected) in found[GUARD..].iter_mut().zip(message(what)) {
        *byte = !expected;
    }
    memory.read(base - GUARD, &mut found);
    let mut first: Option<Mismatch> = None;
    let mut wrong = 0;
    let mut look = |offset: i64, expected: u8, is_guard: bool| {
        let found = found[GUARD.wrapping_add_signed(offset as isize)];
        if found != expected {
            wrong += 1;
            first.get_or_insert(Mismatch { offset_bytes: offset, expected, found, wrong_bytes: 0, is_guard });
        }
    };
    for (offset, expected) in message(what).enumerate() {
        look(offset as i64, expected, false);
    }
    for distance in 0..GUARD {
        if distance >= header {
            look(-1 - distance as i64, guard(distance), true);
        }
        look((length + distance) as i64, guard(distance), true);
    }
    first.map(|mismatch| Mismatch { wrong_bytes: wrong, ..mismatch })
}

#[cfg(test)]
mod tests {
    use super::expected;

    #[test]
    fn iterations_and_places_differ() {
        let row = |iteration| (0..4096).map(|offset| expected(iteration, offset)).collect::<Vec<_>>();
        let same = |left: Vec<u8>, right: Vec<u8>| left.iter().zip(&right).filter(|(left, right)| left == right).count();
        // Unrelated bytes agree in one of 256 places.
        assert!(same(row(1), row(2)) < 60);
        assert!(same(row(1), row(1).split_off(1)) < 60);
    }
}
