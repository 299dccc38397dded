//! What a host tells others that measure with it.

use super::{Host, SurveyError};
use crate::bench::peer::{Limits, ServerOptions, Talk};
use crate::bench::{Routes, Snapshot};
use crate::devices;
use crate::host;
use crate::worker::Worker;

impl Host {
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
