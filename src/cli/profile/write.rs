//! `rdmadoctor profile write`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::super::progress::{Progress, say};
use super::super::session::Session;
use super::super::{exit, values};
use crate::catalog::Catalog;
use crate::profile;
use crate::profile::{Examination, save};

/// Arguments of `profile write`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Where to write it; `-` for standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print it as well, even where the file cannot be written.
    #[arg(long)]
    stdout: bool,
    /// Only this engine; may be repeated. Otherwise every known release of every engine.
    #[arg(long, value_name = "NAME[@VERSION]")]
    engine: Vec<String>,
    /// How much memory an engine registers at once, such as its whole cache. As much is registered, where half of the free memory has room
    /// for it.
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    kv_bytes: Option<u64>,
    /// Time at most for all attempts and measurements.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = values::duration)]
    budget: Duration,
    /// Measure each transfer for this long, three times; the median counts.
    #[arg(long, value_name = "TIME", default_value = "50ms", value_parser = values::duration)]
    duration: Duration,
    /// Time no transfers: the profile then lists them as not validated.
    #[arg(long, conflicts_with = "duration")]
    no_transfers: bool,
}

/// Tries, writes, tells.
pub fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<u8> {
    session.host.only_with_devices("profile write")?;
    let output = profile::place(&session.host, arguments.output.as_deref())?;
    let catalog = Catalog::load()?;
    let engines = profile::engines(&catalog, &arguments.engine)?;
    let examination = Examination {
        host: &session.host,
        catalog: &catalog,
        engines: &engines,
        kv_bytes: arguments.kv_bytes,
        budget: arguments.budget,
        duration: (!arguments.no_transfers).then_some(arguments.duration),
        done: None,
    };
    if !session.output.quiet {
        say(&format!("profile: {} engine releases; {}", engines.len(), examination.plan()));
    }
    let mut progress = Progress::new("profile", session.output.quiet);
    let profile = examination.run(&mut |detail| progress.at(detail))?;
    drop(progress);
    if session.host.interrupted() {
        say("rdmadoctor: interrupted; no profile was written");
        return Ok(exit::INTERRUPTED);
    }
    let text = profile::to_yaml(&profile)?;
    if output.as_os_str() == "-" {
        session.output.print_text(&text)?;
    } else {
        let saved = save(&output, &text);
        if arguments.stdout {
            session.output.print_text(&text)?;
        }
        saved?;
        if !arguments.stdout {
            session.output.print(&profile)?;
        }
        if !session.output.quiet {
            say(&format!("written to {}", output.display()));
        }
    }
    // A profile in which nothing was granted is no success, however well it was written.
    if profile.devices.iter().any(|port| !port.qp.limits.is_empty()) {
        return Ok(exit::OK);
    }
    for one in &profile.unvalidated {
        say(&format!("rdmadoctor: nothing was granted: {}: {}", one.entry, one.why));
    }
    Ok(exit::FAILED)
}
