//! A server that knows the token and then says whatever a test wants of it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use rdmadoctor::bench::peer::{Decoder, Keys, ServerHandshake, Step};

/// A session with one client.
pub struct Session {
    stream: TcpStream,
    decoder: Decoder,
    keys: Option<Keys>,
}

impl Session {
    /// The next frame, without its mark once frames have one.
    fn frame(&mut self) -> Option<Vec<u8>> {
        let frame = loop {
            if let Some(frame) = self.decoder.next(1 << 20).unwrap() {
                break frame;
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) | Err(_) => return None,
                Ok(length) => self.decoder.push(&bytes[..length]),
            }
        };
        match &mut self.keys {
            Some(keys) => keys.open(&frame),
            None => Some(frame),
        }
    }

    fn send(&mut self, payload: &[u8]) -> bool {
        self.stream.write_all(&[&u32::try_from(payload.len()).unwrap().to_be_bytes(), payload].concat()).is_ok()
    }

    /// Whether the client asks something more.
    pub fn is_asked(&mut self) -> bool {
        self.frame().is_some()
    }

    /// Says this. `false` once nobody listens.
    pub fn say(&mut self, reply: &str) -> bool {
        let sealed = self.keys.as_mut().map(|keys| keys.seal(reply.as_bytes())).unwrap_or_default();
        self.send(&sealed)
    }
}

/// Waits for a client, and talks with it as `talk` does.
pub fn serve(token: &'static str, talk: impl FnOnce(Session) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut session = Session { stream, decoder: Decoder::default(), keys: None };
        let (mut handshake, hello) = ServerHandshake::begin(token).unwrap();
        session.send(&hello);
        while session.keys.is_none() {
            let Some(frame) = session.frame() else { return };
            if let Step::Done(proof, keys, _) = handshake.step(&frame).unwrap() {
                session.send(&proof);
                session.keys = Some(keys);
            }
        }
        talk(session);
    });
    address
}
