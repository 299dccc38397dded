//! Completions and manual pages: what lies in completions/ is what the program prints (`make completions` writes it anew), and real shells
//! complete with it.

use std::path::{Path, PathBuf};
use std::process::Command;

use assert_cmd::cargo::{CommandCargoExt as _, cargo_bin};
use libtest_mimic::{Arguments, Trial};

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
    let command = rdmadoctor::cli::command();
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

/// Whether there is such a shell here.
fn is_here(shell: &str) -> bool {
    Command::new(shell).arg(if shell == "elvish" { "-version" } else { "--version" }).output().is_ok()
}

/// What a shell's script prints.
fn shell(name: &str, script: &str) -> String {
    let path = format!("{}:{}", cargo_bin("rdmadoctor").parent().unwrap().display(), std::env::var("PATH").unwrap());
    // A shell that waits for a terminal waits for ever.
    let mut command = Command::new("timeout");
    command.args(["60", name]).args((name == "zsh").then_some("-f"));
    let output = command.args(["-c", script]).env("PATH", path).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
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
    shell("bash", &script).lines().map(str::to_owned).collect()
}

fn bash_completes_devices_engines_and_commands() {
    assert_eq!(bash(&["rdmadoctor", "--host-model", "erdma-a10x8", "qp-matrix", "erdma_"]), ["erdma_0", "erdma_1"]);
    assert_eq!(bash(&["rdmadoctor", "qp-matrix", "--engine", "dlsl"]), ["dlslime"]);
    assert!(bash(&["rdmadoctor", "probe", "--engine", "dlslime@0.0.1.post"]).contains(&"dlslime@0.0.1.post7".to_owned()));
    assert_eq!(bash(&["rdmadoctor", "--host-model", "erdma"]), ["erdma-a10x8"]);
    assert_eq!(bash(&["rdmadoctor", "explain", "RD-0602"]), ["RD-0602"]);
    assert_eq!(bash(&["rdmadoctor", "qp-m"]), ["qp-matrix"]);
    assert_eq!(bash(&["rdmadoctor", "bw", "--format", ""]), ["table", "json", "csv"]);
    assert_eq!(bash(&["rdmadoctor", "profile", "export", "--for", "nvs"]), ["nvshmem"]);
}

fn bash_calls_it_at_a_tab() {
    let registered = shell("bash", "source completions/rdmadoctor.bash; complete -p rdmadoctor");
    assert!(registered.contains("-F _clap_complete_rdmadoctor rdmadoctor"), "{registered}");
}

fn fish_completes_engines() {
    let offered = shell("fish", "source completions/rdmadoctor.fish; complete --do-complete 'rdmadoctor qp-matrix --engine dlsl'");
    assert_eq!(offered.trim(), "dlslime");
}

fn zsh_finds_the_script() {
    let script = "fpath=($PWD/completions $fpath); autoload -U compinit; compinit -u -D; echo $_comps[rdmadoctor]";
    assert_eq!(shell("zsh", script).trim(), "_rdmadoctor");
}

fn elvish_completes_devices_and_engines() {
    // The editor's module is there at a terminal only: the script's function is kept in a map of our own, and called as the editor would.
    let script = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("completions/rdmadoctor.elv")).unwrap();
    assert!(script.contains("set edit:completion:arg-completer[rdmadoctor] ="), "{script}");
    let ours = script.replace("edit:completion:arg-completer", "completer");
    let offered = |words: &str| shell("elvish", &format!("var completer = [&]\n{ours}\n$completer[rdmadoctor] rdmadoctor {words}"));
    assert_eq!(offered("qp-matrix --engine dlsl").trim(), "dlslime");
    assert_eq!(offered("--host-model erdma-a10x8 qp-matrix erdma_").lines().collect::<Vec<_>>(), ["erdma_0", "erdma_1"]);
}

/// Brackets outside strings, `$(` and comments included, of a PowerShell script; an error where they do not match.
fn powershell_brackets(script: &str) -> Result<usize, String> {
    let (mut open, mut pairs) = (Vec::new(), 0);
    let mut lines = script.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        // A here-string goes to a line that begins with its end (about_Quoting_Rules).
        if line.ends_with("@\"") {
            lines.by_ref().find(|(_, line)| line.starts_with("\"@")).ok_or_else(|| format!("line {number}: the here-string has no end"))?;
            continue;
        }
        let mut quoted = None;
        for letter in line.chars() {
            match (quoted, letter) {
                (Some(quote), _) if quote == letter => quoted = None,
                (Some(_), _) => {}
                (None, '\'' | '"') => quoted = Some(letter),
                (None, '(' | '[' | '{') => open.push(letter),
                (None, ')' | ']' | '}') => {
                    let opened = open.pop();
                    if !matches!((opened, letter), (Some('('), ')') | (Some('['), ']') | (Some('{'), '}')) {
                        return Err(format!("line {}: `{letter}` closes {opened:?}", number + 1));
                    }
                    pairs += 1;
                }
                _ => {}
            }
        }
        if let Some(quote) = quoted {
            return Err(format!("line {}: {quote} is not closed", number + 1));
        }
    }
    if open.is_empty() { Ok(pairs) } else { Err(format!("{open:?} are not closed")) }
}

fn powershell_would_be_answered() {
    // Debian has no PowerShell: the script's shape is looked at, and the program is asked what the script asks it.
    let script = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("completions/rdmadoctor.ps1")).unwrap();
    assert!(script.contains("Register-ArgumentCompleter -Native -CommandName rdmadoctor"), "{script}");
    assert!(script.contains("$env:RDMADOCTOR_COMPLETE = \"powershell\"") && script.contains("& rdmadoctor -- $args"), "{script}");
    assert!(powershell_brackets(&script).unwrap() > 10, "{script}");
    assert!(powershell_brackets(&script.replacen('}', "", 1)).is_err());
    let words = ["--", "rdmadoctor", "qp-matrix", "--engine", "dlsl"];
    let output = Command::cargo_bin("rdmadoctor").unwrap().env("RDMADOCTOR_COMPLETE", "powershell").args(words).output().unwrap();
    let answer = String::from_utf8(output.stdout).unwrap();
    // A candidate, and behind a tab what it is.
    assert_eq!(answer.lines().map(|line| line.split('\t').next().unwrap()).collect::<Vec<_>>(), ["dlslime"], "{answer}");
}

/// A test with its name and the shell that it needs.
type InShell = (&'static str, fn(), Option<&'static str>);

const TESTS: &[InShell] = &[
    ("the_files_are_what_the_program_prints", the_files_are_what_the_program_prints, None),
    ("bash_completes_devices_engines_and_commands", bash_completes_devices_engines_and_commands, Some("bash")),
    ("bash_calls_it_at_a_tab", bash_calls_it_at_a_tab, Some("bash")),
    ("fish_completes_engines", fish_completes_engines, Some("fish")),
    ("zsh_finds_the_script", zsh_finds_the_script, Some("zsh")),
    ("elvish_completes_devices_and_engines", elvish_completes_devices_and_engines, Some("elvish")),
    ("powershell_would_be_answered", powershell_would_be_answered, None),
];

fn main() -> std::process::ExitCode {
    let trial = |(name, test, needs): &InShell| {
        let test = *test;
        let run = move || {
            test();
            Ok(())
        };
        let lack = needs.filter(|shell| !is_here(shell)).map(|shell| format!("skipped: no {shell}"));
        Trial::test(*name, run).with_kind(lack.clone().unwrap_or_default()).with_ignored_flag(lack.is_some())
    };
    libtest_mimic::run(&Arguments::from_args(), TESTS.iter().map(trial).collect()).exit_code()
}
