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
