//! `rdmadoctor peer`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::Context as _;
use clap::Args;

use super::narration::Narration;
use super::session::Session;
use super::{exit, token, values};
use crate::bench::Listening;
use crate::bench::peer::{Limits, PORT, Server};
use crate::schema;

/// Arguments of `peer`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Where to listen: one of this host's addresses, or 0.0.0.0 for all of them; otherwise 127.0.0.1, which no other host reaches.
    #[arg(long, value_name = "ADDRESS[:PORT]", value_parser = address)]
    listen: Option<SocketAddr>,
    #[command(flatten)]
    secret: token::Arguments,
    /// Register no more memory than this for all clients together.
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
    // Clients are served whether or not anybody reads what is said of them.
    let narration = if session.output.quiet { None } else { Some(Narration::start().context("cannot start the thread that narrates")?) };
    let voice = narration.as_ref().and_then(Narration::voice);
    let say = move |line: &str| {
        if let Some(voice) = &voice {
            voice.say(line);
        }
    };
    let options = session.host.serves(token.clone(), limits, arguments.once, Box::new(say))?;
    let listen = arguments.listen.unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT));
    let server = Server::bind(listen, options).with_context(|| format!("cannot listen on {listen}"))?;
    let address = server.address().context("cannot tell where it listens")?;
    session.output.print(&Listening {
        schema: schema::PEER.to_owned(),
        address: address.ip().to_string(),
        port: address.port(),
        token: given.is_none().then_some(token),
        sim_network: session.host.sim_network().map(|directory| directory.display().to_string()),
    })?;
    if let (None, Some(voice)) = (arguments.listen, narration.as_ref().and_then(Narration::voice))
        && session.host.has_own_files()
    {
        voice.say(&only_here(&session.host.own_addresses()));
    }
    let interrupted = session.host.interruption();
    server.serve(&interrupted);
    // With it goes the voice that it had.
    drop(server);
    Ok(exit::OK)
}

/// What to tell who has not said where to listen.
fn only_here(addresses: &[IpAddr]) -> String {
    const MOST: usize = 8;
    let mut known: Vec<String> = addresses.iter().take(MOST).map(ToString::to_string).collect();
    if addresses.len() > MOST {
        known.push("…".to_owned());
    }
    let known = if known.is_empty() { String::new() } else { format!(" ({})", known.join(", ")) };
    format!("no other host reaches this one: --listen ADDRESS listens on an address of this host{known}, --listen 0.0.0.0 on all of them")
}

fn random() -> anyhow::Result<String> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("the system gives no random numbers for a token: {error}"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
