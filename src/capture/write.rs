//! The bytes of a capture's file.

use std::io;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::Capture;

/// The bytes of the file.
///
/// # Errors
/// The facts cannot be written down, which would be a mistake in this program.
pub fn compress(capture: &Capture) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    serde_json::to_writer(&mut encoder, capture)?;
    encoder.finish()
}
