//! Completions and manual pages: what lies in completions/ is what the program prints (`make completions` writes it anew), and real shells
//! complete with it.

use std::path::{Path, PathBuf};
use std::process::Command;

use assert_cmd::cargo::{CommandCargoExt as _, cargo_bin};
use clap::CommandFactory as _;

const SHELLS: [(&str, &str); 5] = [
    ("bash", "rdmadoctor.bash"),
    ("elvish", "rdmadoctor.elv"),
    ("fish", "rdmadoctor.fish"),
    ("powershell", "rdmadoctor.ps1"),
    ("zsh", "_rdmadoctor"),
];

fn printed(arguments: &[&str]) -> String {
    let output = Command::cargo_bin("rdmadoctor").unwrap().args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Every file with what it should hold.
fn files() -> Vec<(PathBuf, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("completions");
    let mut files: Vec<(PathBuf, String)> = SHELLS.map(|(shell, file)| (dir.join(file), printed(&["completions", shell]))).into();
    let mut pages = vec![Vec::new()];
    let command = rdmadoctor::cli::Cli::command();
    let mut open: Vec<(Vec<String>, &clap::Command)> = vec![(Vec::new(), &command)];
    while let Some((way, command)) = open.pop() {
        for below in command.get_subcommands().filter(|command| !command.is_hide_set()) {
            let way = [way.clone(), vec![below.get_name().to_owned()]].concat();
            pages.push(way.clone());
            open.push((way, below));
        }
    }
    files.extend(pages.into_iter().map(|way| {
        let words: Vec<&str> = std::iter::once("man").chain(way.iter().map(String::as_str)).collect();
        let name = [vec!["rdmadoctor".to_owned()], way.clone()].concat().join("-");
        (dir.join("man").join(format!("{name}.1")), printed(&words))
    }));
    files
}

#[test]
fn the_files_are_what_the_program_prints() {
    let writes = std::env::var_os("RDMADOCTOR_WRITE_COMPLETIONS").is_some();
    let files = files();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("completions/man");
    if writes {
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
    }
    for (path, text) in &files {
        if writes {
            std::fs::write(path, text).unwrap();
        } else {
            let kept = std::fs::read_to_string(path).unwrap_or_default();
            assert!(kept == *text, "{} is not what the program prints; run `make completions`", path.display());
        }
    }
    // A page of a command that is gone.
    for page in std::fs::read_dir(&dir).unwrap() {
        let path = page.unwrap().path();
        assert!(files.iter().any(|(other, _)| *other == path), "{} is of no command; run `make completions`", path.display());
    }
}

/// What a shell's script prints, or `None` where there is no such shell.
fn shell(name: &str, script: &str) -> Option<String> {
    let path = format!("{}:{}", cargo_bin("rdmadoctor").parent().unwrap().display(), std::env::var("PATH").unwrap());
    if Command::new(name).arg("--version").output().is_err() {
        return None;
    }
    // A shell that waits for a terminal waits for ever.
    let mut command = Command::new("timeout");
    command.args(["20", name]).args((name == "zsh").then_some("-f"));
    let output = command.args(["-c", script]).env("PATH", path).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

/// What bash offers for the last of these words.
fn bash(words: &[&str]) -> Vec<String> {
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let script = format!(
        "source completions/rdmadoctor.bash; COMP_WORDS=({}); COMP_CWORD={}; COMP_TYPE=9; _clap_complete_rdmadoctor rdmadoctor '{}' ''; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        quoted.join(" "),
        words.len() - 1,
        words.last().unwrap()
    );
    shell("bash", &script).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_devices_engines_and_commands() {
    assert_eq!(bash(&["rdmadoctor", "--host-model", "erdma-a10x8", "qp-matrix", "erdma_"]), ["erdma_0", "erdma_1"]);
    assert_eq!(bash(&["rdmadoctor", "qp-matrix", "--engine", "dlsl"]), ["dlslime"]);
    assert!(bash(&["rdmadoctor", "probe", "--engine", "dlslime@0.0.1.post"]).contains(&"dlslime@0.0.1.post7".to_owned()));
    assert_eq!(bash(&["rdmadoctor", "--host-model", "erdma"]), ["erdma-a10x8"]);
    assert_eq!(bash(&["rdmadoctor", "explain", "RD-0602"]), ["RD-0602"]);
    assert_eq!(bash(&["rdmadoctor", "qp-m"]), ["qp-matrix"]);
}

#[test]
fn bash_calls_it_at_a_tab() {
    let registered = shell("bash", "source completions/rdmadoctor.bash; complete -p rdmadoctor").unwrap();
    assert!(registered.contains("-F _clap_complete_rdmadoctor rdmadoctor"), "{registered}");
}

#[test]
fn fish_completes_engines() {
    let Some(offered) = shell("fish", "source completions/rdmadoctor.fish; complete --do-complete 'rdmadoctor qp-matrix --engine dlsl'")
    else {
        return;
    };
    assert_eq!(offered.trim(), "dlslime");
}

#[test]
fn zsh_finds_the_script() {
    let script = "fpath=($PWD/completions $fpath); autoload -U compinit; compinit -u -D; echo $_comps[rdmadoctor]";
    let Some(registered) = shell("zsh", script) else { return };
    assert_eq!(registered.trim(), "_rdmadoctor");
}
