//! Frames: a length of four bytes, big-endian, and as many bytes.

/// Longest frame of a handshake.
pub const HANDSHAKE_BYTES: usize = 1024;
/// Longest frame that a server takes.
pub const REQUEST_BYTES: usize = 64 << 10;
/// Longest frame that a client takes: a description of all devices with their addresses.
pub const REPLY_BYTES: usize = 4 << 20;

/// Why bytes are no frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// It claims to be longer than is allowed.
    #[error("a frame of {claimed} bytes; at most {limit} are allowed here")]
    TooLong {
        claimed: usize,
        /// What is allowed.
        limit: usize,
    },
}

/// Takes bytes as they come, and gives frames. It never holds more than one frame of the allowed length and what was pushed at once.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
}

impl Decoder {
    /// Adds what has come.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next frame, if all of it is there.
    ///
    /// # Errors
    /// It claims to be longer than `limit`.
    pub fn next(&mut self, limit: usize) -> Result<Option<Vec<u8>>, FrameError> {
        let Some(head) = self.bytes.first_chunk::<4>() else { return Ok(None) };
        let claimed = u32::from_be_bytes(*head) as usize;
        if claimed > limit {
            return Err(FrameError::TooLong { claimed, limit });
        }
        if self.bytes.len() < 4 + claimed {
            return Ok(None);
        }
        let frame = self.bytes[4..4 + claimed].to_vec();
        self.bytes.drain(..4 + claimed);
        Ok(Some(frame))
    }
}

/// The bytes of a frame.
#[must_use]
pub fn encode(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), payload].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_however_bytes_come_in() {
        let all = [encode(b"one"), encode(b""), encode(b"three")].concat();
        let mut decoder = Decoder::default();
        let mut frames = Vec::new();
        for byte in all {
            decoder.push(&[byte]);
            while let Some(frame) = decoder.next(16).unwrap() {
                frames.push(frame);
            }
        }
        assert_eq!(frames, [b"one".to_vec(), b"".to_vec(), b"three".to_vec()]);
    }

    #[test]
    fn the_longest_frame_is_taken_and_one_byte_more_is_not() {
        for (length, taken) in [(0, true), (1023, true), (1024, true), (1025, false)] {
            let mut decoder = Decoder::default();
            let payload = vec![7; length];
            decoder.push(&encode(&payload));
            let expected = if taken { Ok(Some(payload)) } else { Err(FrameError::TooLong { claimed: length, limit: 1024 }) };
            assert_eq!(decoder.next(1024), expected);
        }
    }

    #[test]
    fn a_giant_is_refused_by_its_head() {
        let mut decoder = Decoder::default();
        decoder.push(&u32::MAX.to_be_bytes());
        assert_eq!(decoder.next(1024), Err(FrameError::TooLong { claimed: u32::MAX as usize, limit: 1024 }));
    }
}
