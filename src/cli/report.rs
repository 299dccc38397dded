//! `rdmadoctor report`: saved documents as one page.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::session::Session;
use super::{UsageError, exit};
use crate::report::html::HostPage;
use crate::report::{Captured, Modelled, Origin};

/// Arguments of `report`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// What `--format json` of `preflight`, `probe`, `qp-matrix`, `ping`, `bw`, `devices`, `topo` or `compat` printed. Files that begin with the same word before their
    /// first dot (`node1.probe.json`, `node1.topo.json`) are of one host; NAME= says it otherwise.
    #[arg(required = true, value_name = "[NAME=]FILE")]
    files: Vec<String>,
}

/// A file at most: a probe of a large host has about a megabyte, a grid some more.
const MOST_BYTES: u64 = 64 << 20;

/// Files at most.
const MOST_FILES: usize = 256;

/// Reads them and prints the page.
pub fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<u8> {
    if arguments.files.len() > MOST_FILES {
        return Err(UsageError(format!("{} files are too many for one page; {MOST_FILES} are the most", arguments.files.len())).into());
    }
    let mut hosts: Vec<HostPage> = Vec::new();
    for argument in &arguments.files {
        let (name, path) = named(argument);
        let index = hosts.iter().position(|host| host.name == name).unwrap_or_else(|| {
            hosts.push(HostPage { name: name.clone(), ..HostPage::default() });
            hosts.len() - 1
        });
        if let Some(host) = hosts.get_mut(index) {
            add(host, &path)?;
        }
    }
    session.output.print_page(hosts)?;
    Ok(exit::OK)
}

/// The host's name and the file of an argument.
fn named(argument: &str) -> (String, PathBuf) {
    if let Some((name, path)) = argument.split_once('=').filter(|_| !Path::new(argument).exists()) {
        return (name.to_owned(), path.into());
    }
    let path = PathBuf::from(argument);
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    (file.split('.').find(|part| !part.is_empty()).unwrap_or(&file).to_owned(), path)
}

/// What every document says of itself.
#[derive(Deserialize)]
struct Head {
    schema: String,
    host_model: Option<Modelled>,
    from_capture: Option<Captured>,
}

fn add(host: &mut HostPage, path: &Path) -> anyhow::Result<()> {
    let text = read(path)?;
    let head: Head = parse(path, &text, "a document of rdmadoctor, which has a `schema`")?;
    let origin = head.host_model.map(Origin::Model).or_else(|| head.from_capture.map(Origin::Capture));
    host.origin = origin.or_else(|| host.origin.take());
    let name = head.schema.clone();
    match head.schema.as_str() {
        "rdmadoctor/probe/1" => put(&mut host.probe, &host.name, path, &text, &name),
        "rdmadoctor/qp-matrix/1" => put(&mut host.matrix, &host.name, path, &text, &name),
        "rdmadoctor/devices/1" => put(&mut host.devices, &host.name, path, &text, &name),
        "rdmadoctor/topo/1" => put(&mut host.topo, &host.name, path, &text, &name),
        "rdmadoctor/ping/1" => parse(path, &text, &name).map(|document| host.pings.push(document)).map_err(Into::into),
        "rdmadoctor/bw/1" => parse(path, &text, &name).map(|document| host.bws.push(document)).map_err(Into::into),
        "rdmadoctor/preflight/1" => preflight(host, path, &text, &name),
        "rdmadoctor/compat/1" => put(&mut host.compat, &host.name, path, &text, &name),
        other => Err(UsageError(format!(
            "{}: `report` cannot draw `{other}`; it draws rdmadoctor/probe/1, qp-matrix/1, devices/1, topo/1, compat/1, ping/1, bw/1 and preflight/1",
            path.display()
        ))
        .into()),
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let wrong = |error: std::io::Error| UsageError(format!("cannot read {}: {error}", path.display()));
    let mut text = Vec::new();
    File::open(path).map_err(wrong)?.take(MOST_BYTES + 1).read_to_end(&mut text).map_err(wrong)?;
    if u64::try_from(text.len()).context("a length that is no number")? > MOST_BYTES {
        return Err(
            UsageError(format!("{} is larger than {} MiB, so it is no document of rdmadoctor", path.display(), MOST_BYTES >> 20)).into()
        );
    }
    Ok(text)
}

fn parse<D: DeserializeOwned>(path: &Path, text: &[u8], what: &str) -> Result<D, UsageError> {
    serde_json::from_slice(text).map_err(|error| UsageError(format!("{} is not {what}: {error}", path.display())))
}

/// Lays a gate's parts where they belong; it brings its own, so that nothing else of them may be there.
fn preflight(host: &mut HostPage, path: &Path, text: &[u8], schema: &str) -> anyhow::Result<()> {
    let own = HostPage::of_preflight(parse(path, text, schema)?);
    if host.probe.is_some() || host.matrix.is_some() || host.devices.is_some() || host.topo.is_some() || host.preflight.is_some() {
        return Err(UsageError(format!(
            "{} is a whole {schema} of {}, which has its own probe, qp-matrix, devices and topo; tell hosts apart with NAME=FILE",
            path.display(),
            host.name
        ))
        .into());
    }
    let HostPage { probe, matrix, devices, topo, preflight, pings, bws, .. } = own;
    (host.probe, host.matrix, host.devices, host.topo, host.preflight) = (probe, matrix, devices, topo, preflight);
    host.pings.extend(pings);
    host.bws.extend(bws);
    Ok(())
}

/// Lays a document where it belongs.
fn put<D: DeserializeOwned>(place: &mut Option<D>, host: &str, path: &Path, text: &[u8], schema: &str) -> anyhow::Result<()> {
    if place.is_some() {
        return Err(UsageError(format!("{} is a second {schema} of {host}; tell hosts apart with NAME=FILE", path.display())).into());
    }
    *place = Some(parse(path, text, schema)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_one_host_begin_alike() {
        let name = |argument: &str| named(argument).0;
        assert_eq!((name("/tmp/node1.probe.json"), name("node1.topo.json")), ("node1".to_owned(), "node1".to_owned()));
        assert_eq!(named("left=/tmp/probe.json"), ("left".to_owned(), PathBuf::from("/tmp/probe.json")));
        assert_eq!(name(".hidden.json"), "hidden");
    }
}
