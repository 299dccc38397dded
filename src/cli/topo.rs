//! `rdmadoctor topo`.

use super::exit;
use super::session::Session;
use crate::facts::{self, Problem, Topo};
use crate::host;

/// Shows how near GPUs and NICs are to each other, from files alone.
pub fn run(session: &Session) -> anyhow::Result<u8> {
    let (topology, pcie) = match session.captured() {
        Some(capture) => (capture.facts.host.topology.clone(), capture.facts.host.pcie.clone()),
        None => {
            let root = session.root();
            let (pcie, rdma, system) = (host::pcie::read(&root), host::rdma::read(&root), host::system::read(&root));
            (facts::host::topology(&pcie, &rdma, &system), pcie)
        }
    };
    let problems = pcie.problems.iter().map(|error| Problem { summary: error.to_string(), next_step: None }).collect();
    session.print(&Topo { schema: "rdmadoctor/topo/1".to_owned(), topology, problems })?;
    Ok(exit::OK)
}
