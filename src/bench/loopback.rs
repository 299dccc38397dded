//! A port with itself: the shortest way to figures that need no second host.

use std::net::IpAddr;

use super::document::{ConnectionReport, EndReport};
use super::measure::{Done, Measurement, measure};
use super::pair::{EndChoice, Pair};
use super::settings::Settings;
use super::side::BenchError;
use super::{Choice, Known, PortOf, Watched, choose, common_pkey, explain};
use crate::devices::{Device, Port};
use crate::gpu::MemoryKind;
use crate::host::Root;
use crate::host::net::address::Address;
use crate::transfer::{Connect, LEAD, Limit, Operation, RunKind, StagePlan, Transport};
use crate::worker::Worker;

/// A port that writes to itself and reads from itself.
pub struct Loopback<'a> {
    device: &'a Device,
    port: &'a Port,
    gid: Choice,
    address: Option<IpAddr>,
}

/// What to measure of it. Each is a link of its own.
#[derive(Debug, Clone)]
pub struct LoopbackStep {
    /// Bandwidth or latency.
    pub kind: RunKind,
    /// What moves data.
    pub operations: Vec<Operation>,
    /// Sizes of messages.
    pub sizes: Vec<u64>,
    /// Queue pairs that send at once.
    pub queue_pairs: u32,
    /// Of each repeat.
    pub limit: Limit,
    /// How often each is measured.
    pub repeats: u32,
    /// Requests under way; found by trying if absent.
    pub depth: Option<u32>,
}

/// What measuring needs of the caller.
pub struct LoopbackHooks<'a> {
    /// The host's files, for counters.
    pub root: &'a Root,
    /// Longest time in which nothing moves.
    pub patience_ms: u64,
    /// Told what is under way.
    pub say: &'a mut dyn FnMut(&str),
    /// Whether to stop.
    pub stop: &'a dyn Fn() -> bool,
}

impl<'a> Loopback<'a> {
    /// Plans it. `gid_index` is the address to use, chosen as for another host otherwise; `addresses` are the host's, for rdma_cm.
    ///
    /// # Errors
    /// The port cannot move data by RDMA writes and reads, in words.
    pub fn plan(device: &'a Device, port: &'a Port, gid_index: Option<u32>, addresses: &[Address]) -> Result<Self, String> {
        if let Some(problem) = &device.problem {
            return Err(problem.summary.clone());
        }
        if port.state.as_deref() != Some("active") {
            return Err(format!("port {} is {}", port.port, port.state.as_deref().unwrap_or("in an unknown state")));
        }
        // EFA has datagrams and a type of its own only (rdma-core providers/efa/verbs.c, efa_create_qp).
        if device.transport == "unspecified" {
            return Err("the device has no reliable connections, which RDMA writes and reads are measured over here".to_owned());
        }
        let asked = gid_index.and_then(|index| u8::try_from(index).ok());
        let [gid, _] = choose([port, port], [asked, asked])?;
        let mut planned = Self { device, port, gid, address: None };
        if planned.connect() == Connect::Cm {
            let address = planned.own_address(addresses);
            planned.address = Some(address.ok_or("its interface has no address, which rdma_cm needs: ip address add …")?);
        }
        Ok(planned)
    }

    /// Takes the steps one after another. `each` gets the figures. Tells how both ends were connected, and whether all was measured.
    ///
    /// # Errors
    /// The port could not be opened; what fails later is told in the figures.
    pub fn measure(
        &self,
        worker: &mut Worker,
        steps: &[LoopbackStep],
        hooks: &mut LoopbackHooks<'_>,
        each: &mut dyn FnMut(&ConnectionReport, Done),
    ) -> Result<bool, String> {
        let port = PortOf { device: self.device.name.clone(), port: self.port.port };
        let watched = Watched::new(hooks.root, None, [port.clone(), port], false);
        let address = format!("{} port {} uses GID {} ({})", self.device.name, self.port.port, self.gid.index, self.gid.reason);
        let known = Known { addresses: vec![address], ..Known::default() };
        let explained = |error: &BenchError| explain(error, &known);
        for step in steps {
            if (hooks.stop)() {
                return Ok(false);
            }
            let settings = self.settings(step, hooks.patience_ms);
            let mut connection = self.connection(settings.mtu_bytes);
            let end = self.end(step);
            let mut pair = Pair::new(worker, None, [end.clone(), end], connection.connect, mark());
            let facts = pair.open().map_err(|error| {
                let report = explained(&error);
                format!("{}: {}", report.step, report.summary)
            })?;
            common_pkey(&facts[0].pkeys, &facts[1].pkeys)?;
            connection.memory_bytes = facts.each_ref().map(|facts| facts.memory_bytes).into_iter().min().unwrap_or(0);
            let mut measurement = Measurement {
                settings: &settings,
                facts,
                counters: &watched,
                say: &mut *hooks.say,
                stop: hooks.stop,
                explain: &explained,
                is_lost: false,
                left: String::new(),
            };
            let is_complete = measure(&mut pair, step.kind, &mut measurement, &mut |done| each(&connection, done));
            if !measurement.is_lost {
                pair.close();
            }
            if !is_complete {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn connect(&self) -> Connect {
        if self.device.transport == "iWARP" { Connect::Cm } else { Connect::Oob }
    }

    fn settings(&self, step: &LoopbackStep, patience_ms: u64) -> Settings {
        Settings {
            operations: step.operations.clone(),
            transport: Transport::Rc,
            staged: false,
            immediate: false,
            sizes: step.sizes.clone(),
            queue_pairs: step.queue_pairs,
            completing: None,
            hot: true,
            spread: false,
            bidirectional: false,
            limit: step.limit,
            repeats: step.repeats,
            verify: true,
            depth: step.depth,
            batch: None,
            mtu_bytes: self.port.active_mtu_bytes.unwrap_or(1024),
            patience_ms,
        }
    }

    fn end(&self, step: &LoopbackStep) -> EndChoice {
        let largest = step.sizes.iter().copied().max().unwrap_or(1);
        let memory_bytes = (largest + 3 * LEAD as u64).next_multiple_of(4096) * 2;
        EndChoice {
            stage: StagePlan {
                device: self.device.name.clone(),
                port: u8::try_from(self.port.port).unwrap_or(1),
                memory_bytes,
                memory: MemoryKind::default(),
                with_staged: false,
                least_bytes: memory_bytes,
                manager: self.address.map(|address| (address, 0).into()),
            },
            gid_index: self.gid.index,
            is_global: self.port.link_layer.as_deref().is_none_or(|layer| !layer.eq_ignore_ascii_case("infiniband")),
            address: self.address,
        }
    }

    fn connection(&self, mtu_bytes: u32) -> ConnectionReport {
        let end = EndReport {
            device: self.device.name.clone(),
            port: u8::try_from(self.port.port).unwrap_or(1),
            gid_index: self.gid.index,
            gid: self.gid.gid.clone(),
            reason: self.gid.reason.clone(),
            memory: None,
        };
        ConnectionReport {
            transport: Transport::Rc,
            connect: self.connect(),
            mtu_bytes,
            local: end.clone(),
            remote: end,
            memory_bytes: 0,
            peer: None,
        }
    }

    /// The address by which rdma_cm finds the port: that of its GID, or one of its interface that needs no interface beside it.
    fn own_address(&self, addresses: &[Address]) -> Option<IpAddr> {
        let of_gid = self.port.gids.iter().find(|entry| entry.gid == self.gid.gid).and_then(|entry| entry.ipv4.as_ref()?.parse().ok());
        let own = |address: &&Address| address.netdev.as_ref().is_some_and(|netdev| self.device.netdevs.contains(netdev));
        let is_plain = |address: &IpAddr| match address {
            IpAddr::V4(_) => true,
            IpAddr::V6(six) => six.segments()[0] & 0xffc0 != 0xfe80,
        };
        of_gid.or_else(|| {
            addresses.iter().filter(own).map(|address| address.address).filter(is_plain).min_by_key(|address| address.is_ipv6())
        })
    }
}

/// Tells this run's requests of rdma_cm from those of others.
fn mark() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    now ^ (u64::from(std::process::id()) << 40)
}
