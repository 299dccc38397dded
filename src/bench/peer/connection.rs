//! A TCP connection that carries frames, with a deadline on each.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::frame::{Decoder, encode};
use super::handshake::Keys;
use crate::text;

/// How often a wait looks whether to go on.
const SLICE: Duration = Duration::from_millis(50);

/// Why nothing was received.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// The other side has gone.
    #[error("the other side closed the connection")]
    Closed,
    /// It said nothing in time.
    #[error("nothing came for {0} ms")]
    Silent(u128),
    /// It breaks the rules.
    #[error("{0}")]
    Broken(String),
    /// The user wants to stop.
    #[error("interrupted")]
    Interrupted,
}

/// Frames over TCP.
pub struct Connection {
    stream: TcpStream,
    decoder: Decoder,
    limit: usize,
    keys: Option<Keys>,
}

impl Connection {
    /// Over an open stream; nothing longer than `limit` is taken.
    pub fn new(stream: TcpStream, limit: usize) -> std::io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SLICE))?;
        stream.set_write_timeout(Some(Duration::from_secs(10)))?;
        // A host that vanishes without a word is noticed in half a minute.
        let _ = setsockopt(&stream, sockopt::KeepAlive, &true);
        let _ = setsockopt(&stream, sockopt::TcpKeepIdle, &10);
        let _ = setsockopt(&stream, sockopt::TcpKeepInterval, &5);
        let _ = setsockopt(&stream, sockopt::TcpKeepCount, &4);
        Ok(Self { stream, decoder: Decoder::default(), limit, keys: None })
    }

    /// From now on frames are sealed, and may be longer.
    pub fn seal(&mut self, keys: Keys, limit: usize) {
        self.keys = Some(keys);
        self.limit = limit;
    }

    /// Sends a frame as it is.
    pub fn send(&mut self, payload: &[u8]) -> Result<(), Lost> {
        let frame = match &mut self.keys {
            Some(keys) => encode(&keys.seal(payload)),
            None => encode(payload),
        };
        self.stream.write_all(&frame).map_err(|_| Lost::Closed)
    }

    /// Sends a message.
    pub fn say<T: Serialize>(&mut self, message: &T) -> Result<(), Lost> {
        let payload = serde_json::to_vec(message).map_err(|error| Lost::Broken(error.to_string()))?;
        self.send(&payload)
    }

    /// The next frame, waiting for it until `deadline`.
    pub fn receive(&mut self, deadline: Instant, goes_on: &dyn Fn() -> bool) -> Result<Vec<u8>, Lost> {
        let started = Instant::now();
        loop {
            if let Some(frame) = self.take()? {
                return Ok(frame);
            }
            if !goes_on() {
                return Err(Lost::Interrupted);
            }
            if Instant::now() >= deadline {
                return Err(Lost::Silent(started.elapsed().as_millis()));
            }
            self.read_some()?;
        }
    }

    /// The next frame, if it is there already.
    pub fn receive_now(&mut self) -> Result<Option<Vec<u8>>, Lost> {
        if let Some(frame) = self.take()? {
            return Ok(Some(frame));
        }
        let set = |stream: &TcpStream, waits: bool| stream.set_nonblocking(!waits).map_err(|error| Lost::Broken(error.to_string()));
        set(&self.stream, false)?;
        let read = self.read_some();
        set(&self.stream, true)?;
        read?;
        self.take()
    }

    /// The next message.
    pub fn hear<T: DeserializeOwned>(&mut self, deadline: Instant, goes_on: &dyn Fn() -> bool) -> Result<T, Lost> {
        let frame = self.receive(deadline, goes_on)?;
        parse(&frame)
    }

    fn take(&mut self) -> Result<Option<Vec<u8>>, Lost> {
        let Some(frame) = self.decoder.next(self.limit).map_err(|error| Lost::Broken(error.to_string()))? else { return Ok(None) };
        match &mut self.keys {
            None => Ok(Some(frame)),
            Some(keys) => match keys.open(&frame) {
                Some(payload) => Ok(Some(payload)),
                None => Err(Lost::Broken("a frame that was changed on the way, or is not of this session".to_owned())),
            },
        }
    }

    fn read_some(&mut self) -> Result<(), Lost> {
        let mut chunk = [0; 16 << 10];
        match self.stream.read(&mut chunk) {
            Ok(0) => Err(Lost::Closed),
            Ok(length) => {
                self.decoder.push(&chunk[..length]);
                Ok(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => Ok(()),
            Err(_) => Err(Lost::Closed),
        }
    }
}

/// A message from a frame.
pub fn parse<T: DeserializeOwned>(frame: &[u8]) -> Result<T, Lost> {
    text::from_json(frame).map_err(|error| Lost::Broken(format!("a message that is not understood: {error}")))
}
