//! Where messages lie in an end's memory: two halves, each with room around its data.

use super::AccessPattern;

/// Bytes before and after the data of each half: guards, and the 40 bytes that precede a datagram (ibv_post_recv(3), UD).
pub const LEAD: usize = 4096;
/// The longest message.
pub const MOST_MESSAGE_BYTES: u32 = 1 << 30;
/// The least memory: halves with room for their leads and a page.
pub const LEAST_BYTES: usize = 4 * LEAD + 8192;
/// Most requests in a ring that walks over memory.
const MOST_PLACES: usize = 4096;

/// Bytes from the beginning of the memory to the data of a half.
pub fn start(memory_bytes: usize, receiving: bool) -> usize {
    LEAD + if receiving { memory_bytes / 2 } else { 0 }
}

/// Bytes of data that a half has.
pub fn room(memory_bytes: usize) -> usize {
    (memory_bytes / 2).saturating_sub(2 * LEAD)
}

/// Whether a message with so many bytes before it is within the data of a half.
#[must_use]
pub fn fits(memory_bytes: u64, size_bytes: u32, shift_bytes: u32) -> bool {
    let room = room(usize::try_from(memory_bytes).unwrap_or(usize::MAX)) as u64;
    size_bytes <= MOST_MESSAGE_BYTES && u64::from(size_bytes) + u64::from(shift_bytes) <= room
}

/// Places of messages relative to a half's data, a multiple of `unit` of them.
///
/// A hot buffer is one place; messages that are smaller than a page walk through it, so that the same cache line is not written over
/// and over. A spread buffer is as many places as there is room for, evenly over all of it.
pub fn places(size: usize, memory_bytes: usize, touch: AccessPattern, shift: usize, least: usize, unit: usize) -> Vec<usize> {
    let unit = unit.max(1);
    let size = size.max(1);
    let slot = size.next_multiple_of(64);
    let room = room(memory_bytes);
    let (distinct, stride) = match touch {
        AccessPattern::One => (1, slot),
        AccessPattern::Hot => ((4096 / slot).max(1), slot),
        AccessPattern::Spread => {
            let distinct = (room / slot).clamp(1, MOST_PLACES);
            (distinct, (room / distinct) & !63)
        }
    };
    let count = distinct.max(least).div_ceil(unit) * unit;
    (0..count)
        .map(|index| {
            let place = (index % distinct) * stride + shift;
            if place + size <= room { place } else { 0 }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_stay_within_the_half() {
        let memory = 2 * (1 << 20) + 4 * LEAD;
        for size in [1, 2, 63, 64, 65, 4096, 65536, 1 << 20] {
            for touch in [AccessPattern::One, AccessPattern::Hot, AccessPattern::Spread] {
                for shift in [0, 1] {
                    let places = places(size, memory, touch, shift, 16, 16);
                    assert_eq!(places.len() % 16, 0);
                    assert!(places.iter().all(|place| place + size <= room(memory)), "{size} {touch:?} {shift}");
                }
            }
        }
    }

    #[test]
    fn a_hot_buffer_is_small_and_a_spread_one_is_not() {
        let memory = 64 << 20;
        let far = |touch| places(64, memory, touch, 0, 1, 1).into_iter().max().unwrap();
        assert!(far(AccessPattern::Hot) < 4096);
        assert!(far(AccessPattern::Spread) > memory / 2 - (1 << 20));
        assert_eq!(places(1 << 20, memory, AccessPattern::Hot, 0, 4, 4), [0; 4]);
    }
}
