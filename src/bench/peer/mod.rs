//! The session between two hosts: `docs/peer-protocol.md` describes it.
//!
//! One side serves ([`Server`]), the other plans ([`Client`]). Before a client has proven that it knows the token, it costs the server a
//! socket and a thread, is told nothing but versions, and has some seconds.

mod answers;
mod client;
mod connection;
mod frame;
mod handshake;
mod limits;
mod message;
mod pake;
mod server;
mod session;
mod shares;
mod strangers;

pub use client::Client;
pub use connection::Lost;
pub use frame::Decoder;
pub(crate) use handshake::Refusal;
pub use handshake::{ClientHandshake, Keys, ServerHandshake, Step};
pub use limits::Limits;
pub use message::{Reply, Request};
pub(crate) use server::Talk;
pub use server::{Server, ServerOptions};
pub use session::{Session, Turn};

/// The port that a server listens on if none is given: not assigned by IANA.
pub const PORT: u16 = 18516;
