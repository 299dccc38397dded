//! Hosts of one modelled network. A process takes a number in the network's directory, by a lock that goes with it, and says there which
//! addresses the host of that number has. Its children are that host too.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _, Seek as _, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::host::{HostModel, NoAddress, with_prefix_length};
use super::{host_tree, link};
use crate::verbs::Gid;

/// A seat's file at most.
const MOST_BYTES: u64 = 64 << 10;

/// Numbers that are tried for a process that states none.
const NUMBERS: u16 = 1000;

/// Why a process is no host of a modelled network.
#[derive(Debug, thiserror::Error)]
pub enum SeatError {
    /// The directory cannot be used.
    #[error("the modelled network {}: {why}", directory.display())]
    Directory {
        directory: PathBuf,
        /// Why, and what to do.
        why: String,
    },
    /// Another process has the number.
    #[error(
        "host {number} of the modelled network {} is in use: process {pid} is it, with the model {model}; state another number, or none to get a free one",
        directory.display()
    )]
    InUse {
        number: u16,
        /// The network's directory.
        directory: PathBuf,
        /// The other process.
        pid: u32,
        model: String,
    },
    /// A host of another model has an address of this one.
    #[error(
        "host {number} of the modelled network {} would have the address {address}, which host {other} has; state another number",
        directory.display()
    )]
    Clash {
        number: u16,
        /// The network's directory.
        directory: PathBuf,
        address: String,
        /// The other host.
        other: u16,
    },
    /// There is no host of the number.
    #[error(transparent)]
    NoAddress(#[from] NoAddress),
}

/// A place in a modelled network, until it is dropped or its process ends.
pub struct Seat {
    directory: PathBuf,
    number: u16,
    file: Flock<File>,
}

/// What a seat's file says.
#[derive(Serialize, Deserialize)]
struct Sitting {
    pid: u32,
    model: String,
    addresses: Vec<String>,
}

impl Seat {
    /// Takes the number that is wanted, or the first that is free, for a host of a model; gives that host.
    ///
    /// # Errors
    /// [`SeatError`].
    pub fn take(directory: &Path, wanted: Option<u16>, model: HostModel) -> Result<(Self, HostModel), SeatError> {
        is_usable(directory)?;
        let unusable = |error: io::Error| refused(directory, format!("cannot use a file in it: {error}"));
        // Until the seat is taken, so that two processes do not both find it free.
        let _lock = link::lock_directory(directory).map_err(unusable)?;
        let living = living(directory).map_err(unusable)?;
        for number in wanted.map_or(0..=NUMBERS, |number| number..=number) {
            if let Some(Sitting { pid, model, .. }) = living.get(&number) {
                if wanted.is_some() {
                    return Err(SeatError::InUse { number, directory: directory.to_owned(), pid: *pid, model: model.clone() });
                }
                continue;
            }
            let host = model.clone().numbered(number)?;
            let addresses = addresses(&host);
            let has = |sitting: &Sitting, address: &String| sitting.addresses.contains(address);
            let clash = living.iter().find_map(|(other, sitting)| Some((*other, addresses.iter().find(|own| has(sitting, own))?)));
            if let Some((other, address)) = clash {
                if wanted.is_some() {
                    return Err(SeatError::Clash { number, directory: directory.to_owned(), address: address.clone(), other });
                }
                continue;
            }
            let sitting = Sitting { pid: std::process::id(), model: host.name.clone(), addresses };
            let file = sit(&path_of(directory, number), &sitting).map_err(unusable)?;
            return Ok((Self { directory: directory.to_owned(), number, file }, host));
        }
        Err(refused(directory, format!("each of the first {NUMBERS} numbers is in use")))
    }

    /// The network's directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The host's number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // A host that has gone is not reached. If this fails, it is as after a kill: packets to it are lost.
        let _ = self.file.set_len(0);
    }
}

/// Whether a host of a network has an address.
pub(super) fn has(directory: &Path, gid: Gid) -> bool {
    let text = gid.to_string();
    let seats = seats(directory).into_iter().flatten();
    seats.filter_map(|(_, path)| read(&path)).any(|sitting| sitting.addresses.contains(&text))
}

fn refused(directory: &Path, why: String) -> SeatError {
    SeatError::Directory { directory: directory.to_owned(), why }
}

fn is_usable(directory: &Path) -> Result<(), SeatError> {
    let why = match fs::metadata(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            format!("there is no such directory; make it first: mkdir {}", directory.display())
        }
        Err(error) => error.to_string(),
        Ok(metadata) if !metadata.is_dir() => "it is no directory".to_owned(),
        Ok(_) if !link::has_room_for_sockets(directory) => {
            "its path is too long for sockets in it (unix(7)); take a shorter one".to_owned()
        }
        Ok(_) => return Ok(()),
    };
    Err(refused(directory, why))
}

fn path_of(directory: &Path, number: u16) -> PathBuf {
    directory.join(format!("host-{number}.json"))
}

/// The files of all hosts that were ever there, by number.
fn seats(directory: &Path) -> io::Result<Vec<(u16, PathBuf)>> {
    let number = |path: &Path| path.file_name()?.to_str()?.strip_prefix("host-")?.strip_suffix(".json")?.parse().ok();
    let paths = fs::read_dir(directory)?.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    Ok(paths.filter_map(|path| Some((number(&path)?, path))).collect())
}

fn read(path: &Path) -> Option<Sitting> {
    said(&link::own_file(path, false).ok()?).ok()
}

/// What a seat's file says; anything else is none of this program's.
fn said(file: &File) -> io::Result<Sitting> {
    Ok(serde_json::from_reader(file.take(MOST_BYTES))?)
}

/// The hosts whose processes are there.
fn living(directory: &Path) -> io::Result<BTreeMap<u16, Sitting>> {
    let mut living = BTreeMap::new();
    for (number, path) in seats(directory)? {
        match Flock::lock(link::own_file(&path, false)?, FlockArg::LockExclusiveNonblock) {
            Ok(_) => {}
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
                let unknown = || Sitting { pid: 0, model: "unknown".to_owned(), addresses: Vec::new() };
                living.insert(number, read(&path).unwrap_or_else(unknown));
            }
            Err((_, error)) => return Err(error.into()),
        }
    }
    Ok(living)
}

/// Locks a seat's file, and writes it.
fn sit(path: &Path, sitting: &Sitting) -> io::Result<Flock<File>> {
    let file = link::own_file(path, true)?;
    if file.metadata()?.len() > 0 && said(&file).is_err() {
        return Err(link::foreign(path, "has something else in it"));
    }
    let mut file = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| io::Error::from(error))?;
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(&serde_json::to_vec(sitting)?)?;
    Ok(file)
}

/// All addresses of a host's RDMA devices, as GIDs: those of their ports, and those of their interfaces.
fn addresses(host: &HostModel) -> Vec<String> {
    let of_interface = |text: &String| match with_prefix_length(text)?.0 {
        IpAddr::V4(v4) => Some(Gid(v4.to_ipv6_mapped().octets())),
        IpAddr::V6(v6) => Some(Gid(v6.octets())),
    };
    let of_nic = |nic| host_tree::gids(nic).into_iter().map(|entry| entry.gid);
    let mut all: Vec<String> = host
        .nics
        .iter()
        .flat_map(|nic| of_nic(nic).chain(nic.addresses.iter().filter_map(of_interface)))
        .map(|gid| gid.to_string())
        .collect();
    all.sort();
    all.dedup();
    all
}
