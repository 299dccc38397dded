//! `rdmadoctor topo`.

use super::exit;
use super::session::Session;
use crate::devices::Problem;
use crate::facts::Topo;
use crate::host::ReadFailure;
use crate::schema;

/// Shows how near GPUs and NICs are to each other, from files alone.
pub fn run(session: &Session) -> anyhow::Result<u8> {
    let (topology, errors) = session.host.topology()?;
    let is_unread = errors.iter().any(|error| matches!(error.failure, ReadFailure::NotRead { .. }));
    let problems = errors.iter().map(|error| Problem { summary: error.to_string(), next_step: None }).collect();
    session.output.print(&Topo { schema: schema::TOPO.to_owned(), topology, problems })?;
    Ok(if is_unread { exit::FAILED } else { exit::OK })
}
