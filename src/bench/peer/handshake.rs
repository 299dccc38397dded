//! Proving to each other that both know the token, without telling it, and agreeing on keys that all later frames are marked with.
//!
//! Both make a key of the token first (`pake.rs`). Each proof is under that key and covers everything that was said before it, so nothing
//! of it can be changed, used again, or compared with guessed tokens later.

use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::pake::{Exchange, Side, hex};

/// Versions of the protocol that this program speaks. Versions 1 and 2 had proofs that could be compared with guessed tokens: who still spoke
/// them could be brought to.
pub const VERSIONS: (u32, u32) = (3, 3);
const NAME: &str = "rdmadoctor-peer";
/// Bytes of a nonce.
const NONCE: usize = 32;
/// Characters of a release at most.
const TOOL: usize = 32;

/// What every version's hello of a server has: by it a side learns that the other one speaks others.
#[derive(Deserialize)]
struct Spoken {
    protocol: String,
    oldest: u32,
    newest: u32,
    tool: String,
}

/// What a server says first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServerHello {
    protocol: String,
    oldest: u32,
    newest: u32,
    tool: String,
    nonce: String,
    /// Its message of SPAKE2.
    pake: String,
}

/// What every version's hello of a client has.
#[derive(Deserialize)]
struct Chosen {
    protocol: String,
    version: u32,
    tool: String,
}

/// What a client answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClientHello {
    protocol: String,
    version: u32,
    tool: String,
    nonce: String,
    /// Its message of SPAKE2.
    pake: String,
}

/// Why a handshake failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It speaks something else.
    #[error("the other side does not speak rdmadoctor's peer protocol")]
    Strange,
    /// Versions have nothing in common.
    #[error("the other side (rdmadoctor {tool}) speaks versions {oldest} to {newest} of the peer protocol, this one {} to {}", VERSIONS.0, VERSIONS.1)]
    Version {
        /// The other side's release.
        tool: String,
        /// Its oldest version.
        oldest: u32,
        /// Its newest version.
        newest: u32,
    },
    /// It does not know the token.
    #[error("the token is not the one that `rdmadoctor peer` there has printed or was given")]
    Token,
    /// There is no randomness.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
}

/// Marks and checks frames after the handshake: each has a number in its direction, so none can be changed, left out or said again.
pub struct Keys {
    key: [u8; 32],
    own: u8,
    sent: u64,
    received: u64,
}

/// Bytes of a frame's mark.
const MARK: usize = 32;

impl Keys {
    fn mac(&self, direction: u8, number: u64) -> Hmac<Sha256> {
        let mut mac = keyed(&self.key);
        mac.update(&[direction]);
        mac.update(&number.to_be_bytes());
        mac
    }

    /// A payload with its mark.
    pub fn seal(&mut self, payload: &[u8]) -> Vec<u8> {
        let mut mac = self.mac(self.own, self.sent);
        self.sent += 1;
        mac.update(payload);
        [payload, &mac.finalize().into_bytes()].concat()
    }

    /// The payload of a frame, if its mark is right.
    pub fn open(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        let (payload, mark) = frame.split_at_checked(frame.len().checked_sub(MARK)?)?;
        let mut mac = self.mac(1 - self.own, self.received);
        mac.update(payload);
        mac.verify_slice(mark).ok()?;
        self.received += 1;
        Some(payload.to_vec())
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    // Keys of any length are taken, so this has no error; the type has one for other algorithms.
    Hmac::<Sha256>::new_from_slice(key).unwrap_or_else(|_| Hmac::<Sha256>::new(&Default::default()))
}

fn proof(key: &[u8; 32], what: &str, transcript: &[u8]) -> Hmac<Sha256> {
    let mut mac = keyed(key);
    mac.update(what.as_bytes());
    mac.update(&[0]);
    mac.update(transcript);
    mac
}

fn keys(key: &[u8; 32], transcript: &[u8], own: u8) -> Keys {
    Keys { key: proof(key, "session", transcript).finalize().into_bytes().into(), own, sent: 0, received: 0 }
}

fn nonce() -> Result<String, Refusal> {
    let mut bytes = [0_u8; NONCE];
    getrandom::fill(&mut bytes).map_err(|error| Refusal::Random(error.to_string()))?;
    Ok(hex(&bytes))
}

fn is_nonce(text: &str) -> bool {
    text.len() == 2 * NONCE && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether a release is one: it is printed, and nobody has proven anything yet who says it.
fn is_release(text: &str) -> bool {
    (1..=TOOL).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".+-".contains(&byte))
}

/// Adds to what both have said; lengths keep what follows apart.
fn note(transcript: &mut Vec<u8>, said: &[u8]) {
    transcript.extend_from_slice(&(said.len() as u64).to_be_bytes());
    transcript.extend_from_slice(said);
}

/// Who the other side is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Other {
    pub release: String,
    /// The version of the protocol that both speak.
    pub version: u32,
}

/// What comes next.
pub enum Step {
    /// Wait for another frame.
    Wait,
    /// The other side is who it should be: say this, then frames are sealed. The rest is who it is.
    Done(Vec<u8>, Keys, Other),
}

/// A server's part.
pub struct ServerHandshake {
    versions: (u32, u32),
    transcript: Vec<u8>,
    /// Waits for the client's hello.
    exchange: Option<Exchange>,
    /// The key and the client, once it has said hello.
    agreed: Option<([u8; 32], Other)>,
}

impl ServerHandshake {
    /// Begins, and gives what to say first.
    ///
    /// # Errors
    /// `Refusal::Random`.
    pub fn begin(token: &str) -> Result<(Self, Vec<u8>), Refusal> {
        Self::speaking(token, VERSIONS)
    }

    /// As [`Self::begin`], of one that speaks these versions, the oldest and the newest.
    ///
    /// # Errors
    /// `Refusal::Random`.
    pub fn speaking(token: &str, versions: (u32, u32)) -> Result<(Self, Vec<u8>), Refusal> {
        let (exchange, pake) = Exchange::begin(Side::Server, token)?;
        let hello = ServerHello {
            protocol: NAME.to_owned(),
            oldest: versions.0,
            newest: versions.1,
            tool: env!("CARGO_PKG_VERSION").to_owned(),
            nonce: nonce()?,
            pake,
        };
        let said = serde_json::to_vec(&hello).unwrap_or_default();
        let mut transcript = Vec::new();
        note(&mut transcript, &said);
        Ok((Self { versions, transcript, exchange: Some(exchange), agreed: None }, said))
    }

    /// Takes a frame of the client's.
    ///
    /// # Errors
    /// The client is refused.
    pub fn step(&mut self, frame: &[u8]) -> Result<Step, Refusal> {
        let Some((key, client)) = &self.agreed else {
            self.agreed = Some(self.agree(frame)?);
            note(&mut self.transcript, frame);
            return Ok(Step::Wait);
        };
        proof(key, "client", &self.transcript).verify_slice(frame).map_err(|_| Refusal::Token)?;
        note(&mut self.transcript, frame);
        let own = proof(key, "server", &self.transcript).finalize().into_bytes().to_vec();
        Ok(Step::Done(own, keys(key, &self.transcript, 1), client.clone()))
    }

    /// The key, by the client's hello.
    fn agree(&mut self, frame: &[u8]) -> Result<([u8; 32], Other), Refusal> {
        let chosen: Chosen = serde_json::from_slice(frame).map_err(|_| Refusal::Strange)?;
        if chosen.protocol != NAME || !is_release(&chosen.tool) {
            return Err(Refusal::Strange);
        }
        if !(self.versions.0..=self.versions.1).contains(&chosen.version) {
            return Err(Refusal::Version { tool: chosen.tool, oldest: chosen.version, newest: chosen.version });
        }
        let hello: ClientHello = serde_json::from_slice(frame).map_err(|_| Refusal::Strange)?;
        if !is_nonce(&hello.nonce) {
            return Err(Refusal::Strange);
        }
        // One message for each exchange: a second hello is none.
        let exchange = self.exchange.take().ok_or(Refusal::Strange)?;
        Ok((exchange.finish(&hello.pake)?, Other { release: hello.tool, version: hello.version }))
    }
}

/// A client's part.
pub struct ClientHandshake {
    token: String,
    versions: (u32, u32),
    transcript: Vec<u8>,
    /// The key and the server, once it has said hello.
    agreed: Option<([u8; 32], Other)>,
}

impl ClientHandshake {
    /// Waits for the server's hello.
    #[must_use]
    pub fn begin(token: &str) -> Self {
        Self::speaking(token, VERSIONS)
    }

    /// As [`Self::begin`], of one that speaks these versions, the oldest and the newest.
    #[must_use]
    pub fn speaking(token: &str, versions: (u32, u32)) -> Self {
        Self { token: token.to_owned(), versions, transcript: Vec::new(), agreed: None }
    }

    /// Takes the server's hello, and gives the two frames to answer.
    ///
    /// # Errors
    /// The server speaks another protocol or other versions.
    pub fn answer(&mut self, frame: &[u8]) -> Result<[Vec<u8>; 2], Refusal> {
        let spoken: Spoken = serde_json::from_slice(frame).map_err(|_| Refusal::Strange)?;
        if spoken.protocol != NAME || !is_release(&spoken.tool) {
            return Err(Refusal::Strange);
        }
        if spoken.newest < self.versions.0 || spoken.oldest > self.versions.1 {
            return Err(Refusal::Version { tool: spoken.tool, oldest: spoken.oldest, newest: spoken.newest });
        }
        let hello: ServerHello = serde_json::from_slice(frame).map_err(|_| Refusal::Strange)?;
        if !is_nonce(&hello.nonce) {
            return Err(Refusal::Strange);
        }
        let version = hello.newest.min(self.versions.1);
        let (exchange, pake) = Exchange::begin(Side::Client, &self.token)?;
        let key = exchange.finish(&hello.pake)?;
        let own = ClientHello { protocol: NAME.to_owned(), version, tool: env!("CARGO_PKG_VERSION").to_owned(), nonce: nonce()?, pake };
        let said = serde_json::to_vec(&own).unwrap_or_default();
        note(&mut self.transcript, frame);
        note(&mut self.transcript, &said);
        let proven = proof(&key, "client", &self.transcript).finalize().into_bytes().to_vec();
        note(&mut self.transcript, &proven);
        self.agreed = Some((key, Other { release: hello.tool, version }));
        Ok([said, proven])
    }

    /// Takes the server's proof, and gives the keys and who the server is.
    ///
    /// # Errors
    /// The server does not know the token either.
    pub fn finish(self, frame: &[u8]) -> Result<(Keys, Other), Refusal> {
        let (key, server) = self.agreed.ok_or(Refusal::Token)?;
        proof(&key, "server", &self.transcript).verify_slice(frame).map_err(|_| Refusal::Token)?;
        Ok((keys(&key, &self.transcript, 0), server))
    }
}

#[cfg(test)]
#[path = "handshake_tests.rs"]
mod middle;

#[cfg(test)]
mod tests {
    use super::*;

    fn shake(server_token: &str, client_token: &str) -> Result<(Keys, Keys), Refusal> {
        let (mut server, hello) = ServerHandshake::begin(server_token)?;
        let mut client = ClientHandshake::begin(client_token);
        let [said, proven] = client.answer(&hello)?;
        assert!(matches!(server.step(&said)?, Step::Wait));
        let Step::Done(proof, server_keys, _) = server.step(&proven)? else { panic!("not done") };
        Ok((server_keys, client.finish(&proof)?.0))
    }

    #[test]
    fn who_knows_the_token_talks() {
        let (mut server, mut client) = shake("correct horse", "correct horse").unwrap();
        let first = client.seal(b"one");
        let second = client.seal(b"two");
        assert_eq!(server.open(&first).as_deref(), Some(&b"one"[..]));
        assert_eq!(server.open(&first), None, "said again");
        assert_eq!(server.open(&second).as_deref(), Some(&b"two"[..]));
        let mut back = server.seal(b"three");
        back[0] ^= 1;
        assert_eq!(client.open(&back), None, "changed");
        assert_eq!(client.open(b"short"), None);
    }

    #[test]
    fn who_does_not_know_the_token_is_refused() {
        assert_eq!(shake("correct horse", "wrong horse").err(), Some(Refusal::Token));
    }

    #[test]
    fn a_handshake_that_was_recorded_is_of_no_use() {
        let (_, hello) = ServerHandshake::begin("token").unwrap();
        let [said, proven] = ClientHandshake::begin("token").answer(&hello).unwrap();
        let (mut other, _) = ServerHandshake::begin("token").unwrap();
        other.step(&said).unwrap();
        assert_eq!(other.step(&proven).err(), Some(Refusal::Token));
    }

    #[test]
    fn strangers_and_other_versions_are_told_so() {
        let (mut server, _) = ServerHandshake::begin("token").unwrap();
        assert_eq!(server.step(b"GET / HTTP/1.1").err(), Some(Refusal::Strange));
        // A later release, whatever else its hello has; and one from before SPAKE2, which is not spoken any more.
        for (tool, oldest, newest) in [("9.0", 7, 9), ("0.0.9", 1, 2)] {
            let hello = format!(r#"{{"protocol":"rdmadoctor-peer","oldest":{oldest},"newest":{newest},"tool":"{tool}","nonce":"00"}}"#);
            let refusal = ClientHandshake::begin("token").answer(hello.as_bytes()).unwrap_err();
            assert_eq!(refusal, Refusal::Version { tool: tool.to_owned(), oldest, newest });
            let said = format!(r#"{{"protocol":"rdmadoctor-peer","version":{newest},"tool":"{tool}","nonce":"00"}}"#);
            let (mut server, _) = ServerHandshake::begin("token").unwrap();
            assert_eq!(server.step(said.as_bytes()).err(), Some(Refusal::Version { tool: tool.to_owned(), oldest: newest, newest }));
        }
    }

    #[test]
    fn both_speak_the_newest_version_that_both_know() {
        for (theirs, ours, both) in [
            ((3, 4), VERSIONS, 3),
            (VERSIONS, (3, 4), 3),
            ((3, 4), (3, 4), 4),
            (VERSIONS, VERSIONS, VERSIONS.1),
            ((1, 9), VERSIONS, VERSIONS.1),
        ] {
            let (mut server, hello) = ServerHandshake::speaking("token", theirs).unwrap();
            let mut client = ClientHandshake::speaking("token", ours);
            let [said, proven] = client.answer(&hello).unwrap();
            server.step(&said).unwrap();
            let Step::Done(proof, _, of_client) = server.step(&proven).unwrap() else { panic!("not done") };
            assert_eq!((client.finish(&proof).unwrap().1.version, of_client.version), (both, both));
        }
    }
}
