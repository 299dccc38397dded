//! `rdmadoctor peer`.

use std::net::{IpAddr, SocketAddr};

use anyhow::Context as _;
use clap::Args;

use super::session::Session;
use super::{exit, progress, token, values};
use crate::bench::Listening;
use crate::bench::peer::{Limits, PORT, Server};
use crate::schema;

/// Arguments of `peer`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Where to listen.
    #[arg(long, value_name = "ADDRESS[:PORT]", default_value = "0.0.0.0", value_parser = address)]
    listen: SocketAddr,
    #[command(flatten)]
    secret: token::Arguments,
    /// Register no more memory than this for a client.
    #[arg(long, value_name = "SIZE", default_value = "2049M", value_parser = values::size)]
    max_memory: u64,
    /// End after the first client.
    #[arg(long)]
    once: bool,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let wrong = || format!("`{text}` is no address; write it as 192.0.2.1, 192.0.2.1:{PORT} or [2001:db8::1]:{PORT}");
    text.parse::<SocketAddr>().or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, PORT))).map_err(|_| wrong())
}

/// Serves clients until interrupted.
pub fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<u8> {
    let given = arguments.secret.token()?;
    let token = match &given {
        Some(token) => token.clone(),
        None => random()?,
    };
    let limits = Limits { memory_bytes: arguments.max_memory, ..Limits::default() };
    let quiet = session.output.quiet;
    let say = move |line: &str| {
        if !quiet {
            progress::say(line);
        }
    };
    let options = session.host.serves(token.clone(), limits, arguments.once, Box::new(say))?;
    let server = Server::bind(arguments.listen, options).with_context(|| format!("cannot listen on {}", arguments.listen))?;
    let address = server.address().context("cannot tell where it listens")?;
    session.output.print(&Listening {
        schema: schema::PEER.to_owned(),
        address: address.ip().to_string(),
        port: address.port(),
        token: given.is_none().then_some(token),
        sim_network: session.host.sim_network().map(|directory| directory.display().to_string()),
    })?;
    let interrupted = session.host.interruption();
    server.serve(&interrupted);
    Ok(exit::OK)
}

fn random() -> anyhow::Result<String> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("the system gives no random numbers for a token: {error}"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
