//! The command line: one file a subcommand, from arguments to a validated request, a call and a report.

mod bw;
mod caps;
mod capture;
mod catalog;
mod compat;
mod complete;
mod devices;
mod ends;
mod engines;
mod explain;
mod formats;
mod gpu;
mod modules;
mod narration;
mod output;
mod peer;
mod ping;
mod preflight;
mod probe;
mod profile;
mod progress;
mod qp_matrix;
mod report;
mod session;
mod token;
mod topo;
mod values;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use clap::{Args, ColorChoice, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};

use crate::report::Format;
use crate::survey::SurveyError;
use session::Session;

/// Exit codes, a contract with scripts.
pub mod exit {
    /// Nothing failed.
    pub const OK: u8 = 0;
    /// Something that was examined failed.
    pub const FAILED: u8 = 1;
    /// The command line is wrong: an unknown name, a value that is no value, a damaged input file.
    pub const USAGE: u8 = 2;
    /// rdmadoctor itself could not do its work.
    pub const BROKEN: u8 = 3;
    /// Nothing failed, and under `--strict` there were warnings.
    pub const WARNED: u8 = 4;
    /// The user interrupted; what was known is printed.
    pub const INTERRUPTED: u8 = 130;
}

/// A mistake of the caller's: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// Says why RDMA does not work on this host, and what would.
#[derive(Debug, Parser)]
#[command(name = "rdmadoctor", version, max_term_width = 100, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
struct Global {
    /// Output for people or for programs.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,
    /// Examine a modelled host instead of this one, by name or file; nothing of this host is read or touched.
    #[arg(long, global = true, value_name = "NAME|FILE", add = complete::hosts_or_files())]
    host_model: Option<String>,
    /// More families, device models, engines and hosts, or replacements for those that are built in: DIR/families, DIR/devices, DIR/engines,
    /// DIR/hosts, or engines in DIR itself.
    #[arg(long, global = true, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    catalog: Option<PathBuf>,
    /// Whose GPUs hold the data that the modelled host moves: `local` for this machine's; without it no GPU does.
    #[arg(long, global = true, value_enum, value_name = "WHOSE")]
    gpus: Option<GpusOf>,
    /// The directory in which modelled hosts meet: processes that are given the same one are hosts of one network, and exchange data.
    #[arg(long, global = true, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    sim_network: Option<PathBuf>,
    /// Which host of the modelled network it is: its addresses, GUIDs and name depend on the number; the first that is free otherwise.
    #[arg(long, global = true, value_name = "N")]
    sim_host: Option<u16>,
    /// Let something go wrong on the modelled host, such as `errno:ibv_create_qp:ENOMEM@3`.
    #[arg(long, global = true, value_name = "FAULT", value_parser = |text: &str| text.parse::<crate::catalog::Fault>())]
    fault: Vec<crate::catalog::Fault>,
    /// Examine the host of which `rdmadoctor capture` wrote this file (`-` for standard input); nothing of this host is read.
    #[arg(long, global = true, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Read sysfs, procfs and configuration below this directory instead of /.
    #[arg(long, global = true, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Use this verbs library instead of the one that the dynamic linker finds.
    #[arg(long, global = true, value_name = "PATH")]
    libibverbs: Option<PathBuf>,
    /// Longest wait for one answer of the verbs library.
    #[arg(long, global = true, value_name = "TIME", default_value = "5s", value_parser = values::duration)]
    answer_within: Duration,
    /// Colour the output.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: ColorChoice,
    /// Show all evidence.
    #[arg(short, long, global = true)]
    verbose: bool,
    /// Show no progress.
    #[arg(short, long, global = true)]
    quiet: bool,
}

/// Whose GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum GpusOf {
    /// This machine's.
    Local,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// RDMA devices, ports, addresses, driver, PCI, NUMA.
    Devices(devices::Arguments),
    /// Every published capability, decoded, with what it limits.
    Caps(caps::Arguments),
    /// Kernel modules: loaded, built in, on disk, wrong version, blocked.
    Modules(modules::Arguments),
    /// How near GPUs and NICs are to each other, from the PCIe tree.
    Topo,
    /// GPUs: each kind of their memory, tried by each way with each NIC; what each way needs; copies.
    Gpu(gpu::Arguments),
    /// All checks: the cause, the evidence, the command that mends it.
    Probe(probe::Arguments),
    /// All that `probe` looks at, in one file to hand on or to keep; what tells which host it is of is replaced.
    Capture(capture::Arguments),
    /// What a check means, offline.
    Explain(explain::Arguments),
    /// Limits of queue pairs, found by trying, and verdicts on what engines ask.
    QpMatrix(qp_matrix::Arguments),
    /// One gate before a deployment: probe, queue pairs of engines, ping and bw of every device, profile; one verdict.
    Preflight(preflight::Arguments),
    /// A transfer profile of this host: proven values, in each engine's own configuration language.
    Profile(profile::Arguments),
    /// Latency of write, read and send, with every percentile.
    Ping(ping::Arguments),
    /// Bandwidth of write, read and send, verified and explained.
    Bw(bw::Arguments),
    /// The other side of ping and bw: serves clients that know the token.
    Peer(peer::Arguments),
    /// Engines against device families, offline, from models.
    Compat(compat::Arguments),
    /// Device, engine and host files.
    Catalog(catalog::Arguments),
    /// Saved documents as one HTML page, several hosts side by side.
    Report(report::Arguments),
    /// The script that completes commands, devices and engines in a shell.
    Completions(complete::CompletionsArguments),
    /// The manual page, as roff: `rdmadoctor man probe | man -l -`.
    Man(complete::ManArguments),
}

/// The definition of the command line.
#[must_use]
pub fn command() -> clap::Command {
    formats::offered(Cli::command())
}

/// Reads the process's arguments.
fn parse() -> Result<Cli, clap::Error> {
    let mut command = command();
    let mut matches = command.try_get_matches_from_mut(std::env::args_os())?;
    formats::check(&command, &matches)?;
    Cli::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
}

/// Runs the program with the process's arguments and gives its exit code.
#[must_use]
pub fn run() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == crate::worker::SUBCOMMAND) {
        // The parent has read it without a fault.
        let _ = std::env::args_os().nth(2).map(|directory| crate::catalog::added::add(directory.as_ref()));
        return ExitCode::from(if crate::worker::serve().is_ok() { exit::OK } else { exit::BROKEN });
    }
    if complete::answer() {
        return ExitCode::from(exit::OK);
    }
    let cli = match parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors. A reader that has gone away is none either.
            return match error.print().and_then(|()| std::io::stdout().flush()) {
                Err(failed) if !error.use_stderr() && failed.kind() != std::io::ErrorKind::BrokenPipe => {
                    ended(Err(anyhow::Error::new(failed).context("cannot write to standard output")))
                }
                _ => ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(exit::USAGE)),
            };
        }
    };
    let result = Session::new(cli.global).and_then(|session| {
        let is_about_no_host = match cli.command {
            Command::Explain(_) => Some("explain"),
            Command::Compat(_) => Some("compat"),
            Command::Catalog(_) => Some("catalog"),
            _ => None,
        };
        is_about_no_host.map_or(Ok(()), |command| session.host.no_capture(command, "looks at no host"))?;
        let code = match cli.command {
            Command::Devices(arguments) => devices::run(&session, &arguments),
            Command::Caps(arguments) => caps::run(&session, &arguments),
            Command::Modules(arguments) => modules::run(&session, &arguments),
            Command::Topo => topo::run(&session),
            Command::Gpu(arguments) => gpu::run(&session, &arguments),
            Command::Probe(arguments) => probe::run(&session, &arguments, *STARTED),
            Command::Capture(arguments) => capture::run(&session, &arguments),
            Command::Explain(arguments) => explain::run(&session, &arguments),
            Command::QpMatrix(arguments) => qp_matrix::run(&session, &arguments),
            Command::Preflight(arguments) => preflight::run(&session, &arguments),
            Command::Profile(arguments) => profile::run(&session, &arguments),
            Command::Ping(arguments) => ping::run(&session, &arguments),
            Command::Bw(arguments) => bw::run(&session, &arguments),
            Command::Peer(arguments) => peer::run(&session, &arguments),
            Command::Compat(arguments) => compat::run(&session, &arguments),
            Command::Catalog(arguments) => catalog::run(&session, &arguments),
            Command::Report(arguments) => report::run(&session, &arguments),
            Command::Completions(arguments) => complete::completions(&session, &arguments),
            Command::Man(arguments) => complete::man(&session, &arguments),
        }?;
        // Whatever was printed then is what was known by then.
        Ok(if session.host.interrupted() { exit::INTERRUPTED } else { code })
    });
    ended(result)
}

/// The exit code of a command; why there is none of its own is told.
fn ended(result: anyhow::Result<u8>) -> ExitCode {
    ExitCode::from(result.unwrap_or_else(|error| {
        progress::say(&format!("rdmadoctor: {error:#}"));
        match error.downcast_ref() {
            Some(SurveyError::Unsuited(_) | SurveyError::Catalog(_)) => exit::USAGE,
            Some(SurveyError::Interrupted(_)) => exit::INTERRUPTED,
            _ if error.is::<UsageError>() || error.is::<crate::catalog::CatalogError>() => exit::USAGE,
            _ => exit::BROKEN,
        }
    }))
}

/// When this process began its work.
static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_definitions_are_sound() {
        super::command().debug_assert();
    }
}
