//! docs/examples/slurm under a real Slurm of one machine, where Debian's packages of it are installed.

use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};

/// What tests/slurm/run starts; slurmctld, slurmd, slurm-client and munge have them.
const PROGRAMS: [&str; 6] = ["slurmctld", "slurmd", "sbatch", "sinfo", "munged", "setpriv"];

/// Why it cannot run here.
fn lack() -> Option<String> {
    let is_there = |program: &&str| ["/usr/sbin", "/usr/bin"].iter().any(|dir| std::path::Path::new(dir).join(program).exists());
    if let Some(program) = PROGRAMS.iter().find(|program| !is_there(program)) {
        return Some(format!("skipped: no {program}; apt-get install slurmctld slurmd slurm-client munge"));
    }
    (!nix::unistd::geteuid().is_root()).then(|| "skipped: slurmd needs root".to_owned())
}

fn prolog_and_epilog() -> Result<(), Failed> {
    let ran = Command::new("tests/slurm/run").arg(env!("CARGO_BIN_EXE_rdmadoctor")).output()?;
    if ran.status.success() {
        return Ok(());
    }
    Err(format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr)).into())
}

fn main() -> ExitCode {
    let lack = lack();
    let trial = Trial::test("prolog_and_epilog_drain_what_is_sick_and_nothing_else", prolog_and_epilog);
    let trial = trial.with_kind(lack.clone().unwrap_or_default()).with_ignored_flag(lack.is_some());
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit_code()
}
