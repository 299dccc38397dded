//! The key that both sides make of the token by SPAKE2 (RFC 9382; its Ed25519 group as the `spake2` crate has it).
//!
//! What is said shows nothing of the token that could be tried out later, whoever said it: a side that does not know it learns, for
//! each handshake that it takes part in, whether one token was right.

use curve25519_dalek::edwards::CompressedEdwardsY;
use rand_core::{CryptoRng, RngCore};
use spake2::{Ed25519Group, Identity, Password, Spake2};

use super::handshake::Refusal;

/// Who talks: fixed, so that what a client says is nothing that a server could say.
const IDENTITIES: [&[u8]; 2] = [b"rdmadoctor-peer client", b"rdmadoctor-peer server"];
/// Bytes of a message: the side's letter, and a point.
const BYTES: usize = 33;

/// A side of the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
}

/// One side's part, until the other's message is there.
pub struct Exchange(Spake2<Ed25519Group>);

/// The system's random numbers. That there are none is told once the crate is done with it: its interface has no error for that.
#[derive(Default)]
struct SystemRandom {
    failed: Option<String>,
}

impl RngCore for SystemRandom {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill_bytes(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        if let Err(error) = getrandom::fill(bytes) {
            self.failed = Some(error.to_string());
        }
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl CryptoRng for SystemRandom {}

impl Exchange {
    /// Begins, and gives what to say, in hexadecimal digits.
    ///
    /// # Errors
    /// `Refusal::Random`.
    pub fn begin(side: Side, token: &str) -> Result<(Self, String), Refusal> {
        let (password, [client, server]) = (Password::new(token), IDENTITIES.map(Identity::new));
        let mut random = SystemRandom::default();
        let (exchange, message) = match side {
            Side::Client => Spake2::start_a_with_rng(&password, &client, &server, &mut random),
            Side::Server => Spake2::start_b_with_rng(&password, &client, &server, &mut random),
        };
        match random.failed {
            Some(error) => Err(Refusal::Random(error)),
            None => Ok((Self(exchange), hex(&message))),
        }
    }

    /// The key, with the other side's message. Another token there makes another key.
    ///
    /// # Errors
    /// The message is none that a side of this protocol says.
    pub fn finish(self, message: &str) -> Result<[u8; 32], Refusal> {
        let message = bytes_of(message).ok_or(Refusal::Strange)?;
        if !is_sound(&message) {
            return Err(Refusal::Strange);
        }
        let key = self.0.finish(&message).map_err(|_| Refusal::Strange)?;
        key.try_into().map_err(|_| Refusal::Strange)
    }
}

/// Whether the point is one of the group of prime order, written the one way that it is written: of others the key would tell less than all.
fn is_sound(message: &[u8; BYTES]) -> bool {
    let Some(point) = message.last_chunk::<32>() else { return false };
    let written = CompressedEdwardsY(*point);
    written.decompress().is_some_and(|point| point.compress() == written && !point.is_small_order() && point.is_torsion_free())
}

/// Bytes in hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of as many small hexadecimal digits: one way to write them, so that nothing of a frame may change unnoticed.
fn bytes_of(digits: &str) -> Option<[u8; BYTES]> {
    let digit = |byte: u8| char::from(byte).to_digit(16).filter(|_| !byte.is_ascii_uppercase());
    let mut bytes = [0; BYTES];
    let (pairs, []) = digits.as_bytes().as_chunks::<2>() else { return None };
    if pairs.len() != BYTES {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "correct horse battery staple";

    fn both(client: &str, server: &str) -> [[u8; 32]; 2] {
        let (ours, from_client) = Exchange::begin(Side::Client, client).unwrap();
        let (theirs, from_server) = Exchange::begin(Side::Server, server).unwrap();
        [ours.finish(&from_server).unwrap(), theirs.finish(&from_client).unwrap()]
    }

    #[test]
    fn one_token_makes_one_key_and_another_two() {
        let [ours, theirs] = both(TOKEN, TOKEN);
        assert_eq!(ours, theirs);
        assert_ne!(both(TOKEN, TOKEN)[0], ours, "of this exchange only");
        let [ours, theirs] = both(TOKEN, "correct horse battery stapl");
        assert_ne!(ours, theirs);
    }

    /// Points whose multiples are few, such as an attacker would say to know the key whatever the token is.
    #[test]
    fn what_is_no_point_of_the_group_is_refused() {
        let (_, sound) = Exchange::begin(Side::Server, TOKEN).unwrap();
        let refused = |message: &str| {
            let (exchange, _) = Exchange::begin(Side::Client, TOKEN).unwrap();
            exchange.finish(message).err()
        };
        assert_eq!(refused(&sound), None);
        let mut order_two = [0xff; 32];
        (order_two[0], order_two[31]) = (0xec, 0x7f);
        let mut identity = [0; 32];
        identity[0] = 1;
        // The identity once more, as y = p + 1; and with the sign of an x that is 0.
        let mut beyond = [0xff; 32];
        (beyond[0], beyond[31]) = (0xee, 0x7f);
        let mut signed = identity;
        signed[31] = 0x80;
        for point in [[0; 32], order_two, identity, beyond, signed, [0xff; 32]] {
            assert_eq!(refused(&format!("42{}", hex(&point))), Some(Refusal::Strange), "{point:x?}");
        }
        // A sound point and one of order two, added: not of the prime order.
        let point = bytes_of(&sound).unwrap();
        let sum =
            CompressedEdwardsY(*point.last_chunk().unwrap()).decompress().unwrap() + CompressedEdwardsY(order_two).decompress().unwrap();
        assert_eq!(refused(&format!("42{}", hex(&sum.compress().to_bytes()))), Some(Refusal::Strange));
        // What a client says, and what is no message.
        let (_, own) = Exchange::begin(Side::Client, TOKEN).unwrap();
        let cases = [own, sound.to_uppercase(), sound[..64].to_owned(), format!("{sound}00"), String::new(), "zz".repeat(BYTES)];
        for message in cases {
            assert_eq!(refused(&message), Some(Refusal::Strange), "{message}");
        }
    }
}
