//! `rdmadoctor report`: saved documents as one page.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::Args;

use super::session::Session;
use super::{UsageError, exit};
use crate::files;
use crate::report::html::{self, HostPage, PARTS};
use crate::report::{Head, Kind};
use crate::text;

/// Arguments of `report`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[arg(required = true, value_name = "[NAME=]FILE", help = files_help())]
    files: Vec<String>,
}

fn files_help() -> String {
    let commands: Vec<String> = PARTS.iter().flat_map(|kind| kind.commands()).map(|command| format!("`{command}`")).collect();
    let commands = listed(&commands.iter().map(String::as_str).collect::<Vec<_>>(), "or");
    format!(
        "What `--format json` of {commands} printed. Files that begin with the same word before their first dot (`node1.probe.json`, \
         `node1.topo.json`) are of one host; NAME= says it otherwise"
    )
}

/// Names with a word before the last.
fn listed(names: &[&str], word: &str) -> String {
    match names {
        [before @ .., last] if !before.is_empty() => format!("{} {word} {last}", before.join(", ")),
        _ => names.concat(),
    }
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
            hosts.push(HostPage::of(name.clone(), None));
            hosts.len() - 1
        });
        if let Some(host) = hosts.get_mut(index) {
            add(host, &path)?;
        }
    }
    session.output.print_text(&html::page(hosts))?;
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

fn add(host: &mut HostPage, path: &Path) -> anyhow::Result<()> {
    let text = read(path)?;
    let head: Head = text::from_json(&text).map_err(|error| wrong(path, "a document of rdmadoctor, which has a `schema`", &error))?;
    let (schema, origin) = head.parts();
    let schema = schema.as_str();
    host.origin = origin.or_else(|| host.origin.take());
    let kind = Kind::of(schema);
    let Some(read) = kind.and_then(|kind| kind.read(&text, &mut |document| host.lay(document))) else {
        return Err(UsageError(format!("{}: `report` cannot draw `{schema}`; it draws {}", path.display(), drawn())).into());
    };
    let is_laid = read.map_err(|error| wrong(path, schema, &error))?;
    let what = match kind {
        _ if is_laid => return Ok(()),
        Some(Kind::Preflight) => format!("is a whole {schema} of {}, which has its own probe, qp-matrix, devices and topo", host.name),
        _ => format!("is a second {schema} of {}", host.name),
    };
    Err(UsageError(format!("{} {what}; tell hosts apart with NAME=FILE", path.display())).into())
}

/// What can be drawn, for people.
fn drawn() -> String {
    let names = PARTS.map(Kind::schema);
    let short = |(index, name): (usize, &&'static str)| if index == 0 { *name } else { name.trim_start_matches("rdmadoctor/") };
    listed(&names.iter().enumerate().map(short).collect::<Vec<_>>(), "and")
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    files::bytes(path, MOST_BYTES).map_err(|error| {
        let what = match error.kind() {
            ErrorKind::FileTooLarge => {
                format!("{} is larger than {} MiB, so it is no document of rdmadoctor", path.display(), MOST_BYTES >> 20)
            }
            _ => format!("cannot read {}: {error}", path.display()),
        };
        UsageError(what).into()
    })
}

fn wrong(path: &Path, what: &str, error: &serde_json::Error) -> UsageError {
    UsageError(format!("{} is not {what}: {error}", path.display()))
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
