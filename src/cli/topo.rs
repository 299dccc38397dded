//! `rdmadoctor topo`.

use super::exit;
use super::session::Session;
use crate::facts::{self, Problem, Topo};
use crate::host::part::Asked;
use crate::host::pcie::PcieFacts;
use crate::host::rdma::RdmaFacts;
use crate::host::system::SystemFacts;
use crate::host::topo::Topology;

/// Shows how near GPUs and NICs are to each other, from files alone.
pub fn run(session: &Session) -> anyhow::Result<u8> {
    let (topology, pcie) = match session.captured() {
        Some(capture) => (Topology::clone(&capture.facts.host.topology), PcieFacts::clone(&capture.facts.host.pcie)),
        None => {
            let mut reader = session.reader(Asked::default(), None)?;
            let (pcie, rdma, system) = (reader.get::<PcieFacts>()?, reader.get::<RdmaFacts>()?, reader.get::<SystemFacts>()?);
            (facts::host::topology(&pcie, &rdma, &system), pcie)
        }
    };
    let problems = pcie.problems.iter().map(|error| Problem { summary: error.to_string(), next_step: None }).collect();
    session.print(&Topo { schema: "rdmadoctor/topo/1".to_owned(), topology, problems })?;
    Ok(exit::OK)
}
