//! The side that plans.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::answers::{Patience, strange};
use super::connection::{Connection, Lost};
use super::frame::{HANDSHAKE_BYTES, REPLY_BYTES};
use super::handshake::{ClientHandshake, Other};
use super::message::{Reply, Request};
use crate::bench::counters::Snapshot;
use crate::bench::{BenchError, Endpoint};
use crate::devices::Device;
use crate::host::net::address::Address;
use crate::transfer::{Answer, Command};

/// How long connecting may take, and each step of the handshake.
const STEP: Duration = Duration::from_secs(5);
/// How much longer than its own deadline an answer is waited for: the other side waits for its own child as long, then it says so.
const GRACE: Duration = Duration::from_secs(5);

/// A session with a server.
pub struct Client {
    connection: Connection,
    /// How it was called.
    name: String,
    /// Who the server is.
    pub server: Other,
    /// What is under way, for messages.
    step: &'static str,
    patience: Patience,
    interrupted: Arc<AtomicBool>,
}

impl Client {
    /// Connects to `host:port`, and shakes hands.
    ///
    /// # Errors
    /// The address is none, nobody answers, or the token is wrong; the text says which, and what to do.
    pub fn connect(host: &str, token: &str, deadline: Duration, interrupted: Arc<AtomicBool>) -> Result<Self, BenchError> {
        let with_port = if host.parse::<std::net::Ipv6Addr>().is_ok() {
            format!("[{host}]:{}", super::PORT)
        } else if host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
            host.to_owned()
        } else {
            format!("{host}:{}", super::PORT)
        };
        let addresses: Vec<_> = with_port
            .to_socket_addrs()
            .map_err(|error| BenchError::Peer(format!("{with_port} is no address: {error}; write --peer HOST or HOST:PORT")))?
            .collect();
        let mut last = String::from("it has no address");
        for address in addresses {
            match TcpStream::connect_timeout(&address, STEP) {
                Ok(stream) => return Self::shake(stream, with_port, token, deadline, interrupted),
                Err(error) => last = said(&error, address),
            }
        }
        Err(BenchError::Peer(last))
    }

    fn shake(stream: TcpStream, name: String, token: &str, deadline: Duration, interrupted: Arc<AtomicBool>) -> Result<Self, BenchError> {
        let lost = |step: &str, lost: Lost| BenchError::Peer(format!("{name}, {step}: {lost}"));
        let broken = |error: std::io::Error| BenchError::Peer(format!("{name}: {error}"));
        let mut connection = Connection::new(stream, HANDSHAKE_BYTES).map_err(broken)?;
        let goes_on = || !interrupted.load(Ordering::Relaxed);
        let until = || Instant::now() + STEP;
        let hello = connection.receive(until(), &goes_on).map_err(|error| lost("waiting for its hello", error))?;
        let mut handshake = ClientHandshake::begin(token);
        let refused = |refusal: super::Refusal| BenchError::Peer(format!("{name}: {refusal}"));
        for frame in handshake.answer(&hello).map_err(refused)? {
            connection.send(&frame).map_err(|error| lost("saying hello", error))?;
        }
        let proof = connection.receive(until(), &goes_on).map_err(|error| match error {
            // A server tells a client without the token nothing at all.
            Lost::Closed => refused(super::Refusal::Token),
            error => lost("waiting for its proof", error),
        })?;
        let (keys, server) = handshake.finish(&proof).map_err(refused)?;
        connection.seal(keys, REPLY_BYTES);
        Ok(Self { connection, name, server, step: "beginning", patience: Patience::new(deadline + GRACE), interrupted })
    }

    /// How it was called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The server's devices, and the addresses of its interfaces.
    ///
    /// # Errors
    /// It gives no answer.
    pub fn describe(&mut self) -> Result<(Vec<Device>, Vec<Address>), BenchError> {
        self.step = "asking for its devices";
        self.patience.asked();
        self.say(&Request::Describe)?;
        match self.reply()? {
            Reply::Devices(devices, addresses) => Ok((devices, addresses)),
            Reply::Refused(why) => Err(BenchError::Peer(format!("{}: {why}", self.name))),
            Reply::Answer(_) | Reply::Counters(_) => Err(BenchError::Unexpected { step: self.step }),
        }
    }

    fn say(&mut self, request: &Request) -> Result<(), BenchError> {
        self.connection.say(request).map_err(|lost| BenchError::Peer(format!("{}, {}: {lost}", self.name, self.step)))
    }

    fn reply(&mut self) -> Result<Reply, BenchError> {
        let interrupted = self.interrupted.clone();
        let until = self.patience.until();
        let trouble = |what: &dyn std::fmt::Display| BenchError::Peer(format!("{}, {}: {what}", self.name, self.step));
        // One that always has something more to say is given up as one that says nothing.
        if Instant::now() >= until {
            return Err(trouble(&"it lasts longer than was asked for"));
        }
        let reply = self.connection.hear(until, &|| !interrupted.load(Ordering::Relaxed)).map_err(|lost| match lost {
            Lost::Interrupted => BenchError::Worker(crate::worker::Failure::Interrupted),
            lost => trouble(&lost),
        })?;
        if let Reply::Answer(answer) = &reply {
            if let Some(strange) = strange(answer) {
                return Err(trouble(&format_args!("an answer beyond all bounds: {strange}")));
            }
            self.patience.heard(answer);
        }
        Ok(reply)
    }
}

impl Endpoint for Client {
    fn tell(&mut self, command: &Command) -> Result<(), BenchError> {
        self.step = command.step();
        self.patience.told(command);
        self.say(&Request::Tell(Box::new(command.clone())))
    }

    fn hear(&mut self) -> Result<Answer, BenchError> {
        match self.reply()? {
            Reply::Answer(answer) => Ok(*answer),
            Reply::Refused(why) => Err(BenchError::Peer(format!("{}, {}: {why}", self.name, self.step))),
            Reply::Devices(..) | Reply::Counters(_) => Err(BenchError::Unexpected { step: self.step }),
        }
    }

    fn counters(&mut self) -> Result<Option<Snapshot>, BenchError> {
        self.step = "asking for its counters";
        self.patience.asked();
        self.say(&Request::Counters)?;
        match self.reply()? {
            Reply::Counters(snapshot) => Ok(Some(*snapshot)),
            // It does not tell them; measuring goes on without.
            Reply::Refused(_) => Ok(None),
            Reply::Answer(_) | Reply::Devices(..) => Err(BenchError::Unexpected { step: self.step }),
        }
    }
}

/// Why nobody answers: refused, filtered and unreachable are three different things.
fn said(error: &std::io::Error, address: SocketAddr) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::ConnectionRefused if !address.ip().is_loopback() => format!(
            "{address} refuses the connection: is `rdmadoctor peer` running there, on this port, and with --listen? Without, only its own host reaches it"
        ),
        ErrorKind::ConnectionRefused => format!("{address} refuses the connection: is `rdmadoctor peer` running there, on this port?"),
        ErrorKind::TimedOut => format!("{address} does not answer: a firewall drops packets to this port, or the address is not in use"),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            format!("{address} is not reached from here: {error}; see `ip route get`")
        }
        _ => format!("{address}: {error}"),
    }
}
