//! `rdmadoctor topo`.

use super::exit;
use super::session::Session;
use crate::devices::Problem;
use crate::facts::{self, Topo};
use crate::host::part::{Asked, unread_of};
use crate::host::pcie::PcieFacts;
use crate::host::rdma::RdmaFacts;
use crate::host::system::SystemFacts;
use crate::host::topo::Topology;
use crate::host::{ReadError, ReadFailure};
use crate::schema;

/// Shows how near GPUs and NICs are to each other, from files alone.
pub fn run(session: &Session) -> anyhow::Result<u8> {
    let (topology, errors) = match session.host.captured() {
        Some(capture) => {
            let host = &capture.facts.host;
            (Topology::clone(&host.topology), errors(&host.pcie, &host.rdma, &host.system))
        }
        None => {
            let mut reader = session.host.reader(Asked::default(), None)?;
            let (pcie, rdma, system) = (reader.get::<PcieFacts>()?, reader.get::<RdmaFacts>()?, reader.get::<SystemFacts>()?);
            (facts::host::topology(&pcie, &rdma, &system), errors(&pcie, &rdma, &system))
        }
    };
    let is_unread = errors.iter().any(|error| matches!(error.failure, ReadFailure::NotRead { .. }));
    let problems = errors.iter().map(|error| Problem { summary: error.to_string(), next_step: None }).collect();
    session.output.print(&Topo { schema: schema::TOPO.to_owned(), topology, problems })?;
    Ok(if is_unread { exit::FAILED } else { exit::OK })
}

/// What is wrong with the tree of functions, and what of the other parts came to no end.
fn errors(pcie: &PcieFacts, rdma: &RdmaFacts, system: &SystemFacts) -> Vec<ReadError> {
    let unread = [unread_of(&rdma.problems), unread_of(&system.problems)];
    pcie.problems.iter().chain(unread.into_iter().flatten()).cloned().collect()
}
