//! What a host tells others that measure with it.

use std::net::IpAddr;

use super::{Host, SurveyError};
use crate::bench::peer::{Limits, ServerOptions, Talk};
use crate::bench::{Routes, Snapshot};
use crate::devices;
use crate::host;
use crate::worker::Worker;

impl Host {
    /// Addresses of this host by which others may reach it; none of a modelled one, which others reach by no network.
    pub(crate) fn own_addresses(&self) -> Vec<IpAddr> {
        if !self.has_own_files() {
            return Vec::new();
        }
        // One that is good on its own interface only needs that beside it.
        let is_reached = |address: &IpAddr| match address {
            IpAddr::V4(four) => !four.is_loopback() && !four.is_link_local(),
            IpAddr::V6(six) => !six.is_loopback() && six.segments()[0] & 0xffc0 != 0xfe80,
        };
        let mut addresses: Vec<IpAddr> = host::net::read(&self.root()).addresses.into_iter().map(|address| address.address).collect();
        addresses.retain(is_reached);
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }

    /// How clients that know the token are served.
    pub(crate) fn serves(&self, token: String, limits: Limits, once: bool, say: Box<Talk>) -> Result<ServerOptions, SurveyError> {
        self.only_with_devices("peer")?;
        let (tallies, worker) = (self.tallies()?, self.worker_options()?);
        let (root, counted, describing) = (self.root(), self.root(), worker.clone());
        let describe = move || {
            let inventory = Worker::new(describing.clone()).inventory(None);
            let devices = devices::collect(&host::rdma::read(&root), Some(&inventory)).devices;
            (devices, host::net::read(&root).addresses)
        };
        let counters =
            move |device: &str| Snapshot::read(&counted, tallies.as_ref(), &Routes::of_host(&counted), &[device.to_owned()], false);
        Ok(ServerOptions { token, limits, worker, describe: Box::new(describe), counters: Box::new(counters), say, once })
    }
}
