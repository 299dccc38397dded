//! The pattern by which a transfer is verified: it depends on place and iteration, so that a byte that is left from before, or moved, shows.

use super::layout::start;
use super::memory::Bytes;
use super::{Mismatch, PatternSpan};
use crate::gpu::{Differing, GpuError, Kernels};

/// Bytes around a message that must stay as they are.
const GUARD: usize = 64;

/// The byte at an offset of an iteration's message: of a mixer (SplitMix64's) in which neighbours and iterations have nothing in common.
/// `src/gpu/kernels.ptx` has the same.
fn expected(iteration: u64, offset: usize) -> u8 {
    let seed = (offset as u64).wrapping_add(iteration.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed >> 56) as u8
}

/// Where patterns are written and looked for: memory, and the GPU that can do both itself.
pub struct Ground<'a> {
    /// The memory.
    pub bytes: &'a dyn Bytes,
    /// The GPU's kernels, and the memory's address there.
    pub gpu: Option<(&'a Kernels, u64)>,
}

impl Ground<'_> {
    fn base(&self, what: &PatternSpan) -> usize {
        start(self.bytes.length(), what.receiving) + what.shift_bytes as usize
    }

    /// Writes the pattern.
    ///
    /// # Errors
    /// The GPU could not.
    pub fn fill(&self, what: &PatternSpan) -> Result<(), GpuError> {
        let base = self.base(what);
        match self.gpu {
            Some((kernels, address)) => kernels.fill(address + base as u64, what.length_bytes.into(), what.iteration, false),
            None => {
                self.bytes.write(base, &message(what).collect::<Vec<_>>());
                Ok(())
            }
        }
    }

    /// Writes the opposite of the pattern, and the guards.
    ///
    /// # Errors
    /// The GPU could not.
    pub fn clear(&self, what: &PatternSpan) -> Result<(), GpuError> {
        let base = self.base(what);
        let (before, after) = ((0..GUARD).rev().map(guard), (0..GUARD).map(guard));
        match self.gpu {
            Some((kernels, address)) => {
                kernels.fill(address + base as u64, what.length_bytes.into(), what.iteration, true)?;
                self.bytes.write(base - GUARD, &before.collect::<Vec<_>>());
                self.bytes.write(base + what.length_bytes as usize, &after.collect::<Vec<_>>());
            }
            None => {
                let bytes: Vec<u8> = before.chain(message(what).map(|byte| !byte)).chain(after).collect();
                self.bytes.write(base - GUARD, &bytes);
            }
        }
        Ok(())
    }

    /// Looks for the first byte that is wrong. `header` bytes before the message may have changed: those of a datagram's header.
    ///
    /// # Errors
    /// The GPU could not.
    pub fn check(&self, what: &PatternSpan, header: usize) -> Result<Option<Mismatch>, GpuError> {
        let (base, length) = (self.base(what), what.length_bytes as usize);
        let mut wrong = match self.gpu {
            Some((kernels, address)) => self.differing(kernels.compare(address + base as u64, length as u64, what.iteration)?, what),
            None => self.wrong_of_message(what),
        };
        let mut look = |offset: i64, expected: u8| {
            // The opposite of what is looked for, in case that nothing can be read.
            let mut found = [!expected];
            self.bytes.read(base.wrapping_add_signed(offset as isize), &mut found);
            if found[0] != expected {
                let first = Mismatch { offset_bytes: offset, expected, found: found[0], wrong_bytes: 0, is_guard: true };
                wrong.get_or_insert(first).wrong_bytes += 1;
            }
        };
        for distance in 0..GUARD {
            if distance >= header {
                look(-1 - distance as i64, guard(distance));
            }
            look((length + distance) as i64, guard(distance));
        }
        Ok(wrong)
    }

    fn wrong_of_message(&self, what: &PatternSpan) -> Option<Mismatch> {
        let mut found: Vec<u8> = message(what).map(|byte| !byte).collect();
        self.bytes.read(self.base(what), &mut found);
        let mut wrong: Option<Mismatch> = None;
        for (offset, (found, expected)) in found.into_iter().zip(message(what)).enumerate() {
            if found != expected {
                let first = Mismatch { offset_bytes: offset as i64, expected, found, wrong_bytes: 0, is_guard: false };
                wrong.get_or_insert(first).wrong_bytes += 1;
            }
        }
        wrong
    }

    /// What a GPU has found, with the byte that is there.
    fn differing(&self, found: Option<Differing>, what: &PatternSpan) -> Option<Mismatch> {
        let Differing { bytes, first } = found?;
        let expected = expected(what.iteration, first as usize);
        let mut byte = [!expected];
        self.bytes.read(self.base(what) + first as usize, &mut byte);
        Some(Mismatch { offset_bytes: first as i64, expected, found: byte[0], wrong_bytes: bytes, is_guard: false })
    }
}

fn message(what: &PatternSpan) -> impl Iterator<Item = u8> {
    let iteration = what.iteration;
    (0..what.length_bytes as usize).map(move |offset| expected(iteration, offset))
}

fn guard(distance: usize) -> u8 {
    0xa5 ^ distance as u8
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::transfer::layout::LEAD;

    /// Memory that nothing but the test writes into.
    struct Plain(RefCell<Vec<u8>>);

    impl Bytes for Plain {
        fn length(&self) -> usize {
            self.0.borrow().len()
        }

        fn read(&self, offset: usize, bytes: &mut [u8]) {
            bytes.copy_from_slice(&self.0.borrow()[offset..offset + bytes.len()]);
        }

        fn write(&self, offset: usize, bytes: &[u8]) {
            self.0.borrow_mut()[offset..offset + bytes.len()].copy_from_slice(bytes);
        }
    }

    const MEMORY: usize = 64 << 10;

    /// Memory in which a message has just arrived as it should.
    fn arrived(what: &PatternSpan) -> Plain {
        let plain = Plain(RefCell::new(vec![0; MEMORY]));
        let ground = Ground { bytes: &plain, gpu: None };
        ground.clear(what).unwrap();
        ground.fill(what).unwrap();
        plain
    }

    fn check(plain: &Plain, what: &PatternSpan, header: usize) -> Option<Mismatch> {
        Ground { bytes: plain, gpu: None }.check(what, header).unwrap()
    }

    /// Messages of both halves, at their beginning and further on.
    fn spans() -> impl Iterator<Item = PatternSpan> {
        let places = [(false, 0), (false, 1), (true, 0), (true, 4097)];
        let lengths = [1, 2, 63, 64, 65, 4096];
        places.into_iter().flat_map(move |(receiving, shift_bytes)| {
            lengths.map(|length_bytes| PatternSpan { receiving, iteration: 7, shift_bytes, length_bytes })
        })
    }

    /// The data of the first half begins after the lead, that of the second one after the lead behind the middle.
    fn place(what: &PatternSpan) -> usize {
        LEAD + if what.receiving { MEMORY / 2 } else { 0 } + what.shift_bytes as usize
    }

    #[test]
    fn one_wrong_byte_in_a_message_or_beside_it_is_found_where_it_is() {
        for what in spans() {
            let plain = arrived(&what);
            assert_eq!(check(&plain, &what, 0), None, "{what:?}");
            let length = i64::from(what.length_bytes);
            for offset in
                [-64, -63, -41, -40, -2, -1, 0, 1, length / 2, length - 2, length - 1, length, length + 1, length + 62, length + 63]
            {
                let at = place(&what).checked_add_signed(isize::try_from(offset).unwrap()).unwrap();
                let good = plain.0.borrow()[at];
                for flip in [1, 0x80, 0xff] {
                    plain.0.borrow_mut()[at] = good ^ flip;
                    let is_guard = offset < 0 || offset >= length;
                    let wrong = Mismatch { offset_bytes: offset, expected: good, found: good ^ flip, wrong_bytes: 1, is_guard };
                    assert_eq!(check(&plain, &what, 0), Some(wrong), "{what:?}");
                }
                plain.0.borrow_mut()[at] = good;
            }
            // What lies further away belongs to other messages.
            for at in [place(&what) - 65, place(&what) + what.length_bytes as usize + 64] {
                plain.0.borrow_mut()[at] ^= 0xff;
                assert_eq!(check(&plain, &what, 0), None, "{what:?}");
            }
        }
    }

    #[test]
    fn of_what_lies_before_a_datagram_only_its_header_may_change() {
        let what = PatternSpan { receiving: true, iteration: 3, shift_bytes: 0, length_bytes: 256 };
        let plain = arrived(&what);
        // The 40 bytes of a global routing header: ibv_post_recv(3).
        plain.0.borrow_mut()[place(&what) - 40..place(&what)].fill(0x11);
        assert_eq!(check(&plain, &what, 40), None);
        assert_eq!(check(&plain, &what, 0).map(|wrong| (wrong.is_guard, wrong.wrong_bytes)), Some((true, 40)));
        plain.0.borrow_mut()[place(&what) - 41] ^= 1;
        assert_eq!(check(&plain, &what, 40).map(|wrong| (wrong.offset_bytes, wrong.wrong_bytes)), Some((-41, 1)));
    }

    #[test]
    fn every_wrong_byte_counts_and_the_messages_own_are_told_first() {
        let what = PatternSpan { receiving: false, iteration: 9, shift_bytes: 3, length_bytes: 100 };
        let plain = arrived(&what);
        for offset in [0, 50, 99, 100, 163] {
            plain.0.borrow_mut()[place(&what) + offset] ^= 0x10;
        }
        plain.0.borrow_mut()[place(&what) - 1] ^= 0x10;
        let wrong = check(&plain, &what, 0).unwrap();
        assert_eq!((wrong.offset_bytes, wrong.is_guard, wrong.wrong_bytes), (0, false, 6));
    }

    #[test]
    fn what_did_not_arrive_is_wrong_in_every_byte() {
        for what in spans() {
            let plain = arrived(&what);
            Ground { bytes: &plain, gpu: None }.clear(&what).unwrap();
            // The opposite of the pattern has no byte in common with it.
            let wrong = check(&plain, &what, 0).unwrap();
            assert_eq!((wrong.wrong_bytes, wrong.offset_bytes, wrong.is_guard), (what.length_bytes.into(), 0, false), "{what:?}");
            assert_eq!(wrong.found, !wrong.expected);
        }
        // The message of the iteration before is not this one's, nor is one that was moved by a byte.
        let what = PatternSpan { receiving: true, iteration: 7, shift_bytes: 0, length_bytes: 4096 };
        let plain = arrived(&what);
        for other in [PatternSpan { iteration: 8, ..what }, PatternSpan { iteration: 6, ..what }, PatternSpan { shift_bytes: 1, ..what }] {
            assert!(check(&plain, &other, 0).unwrap().wrong_bytes > 4000, "{other:?}");
        }
    }

    #[test]
    fn iterations_and_places_differ() {
        let row = |iteration| (0..4096).map(|offset| expected(iteration, offset)).collect::<Vec<_>>();
        let same = |left: Vec<u8>, right: Vec<u8>| left.iter().zip(&right).filter(|(left, right)| left == right).count();
        // Unrelated bytes agree in one of 256 places.
        assert!(same(row(1), row(2)) < 60);
        assert!(same(row(1), row(1).split_off(1)) < 60);
    }
}
