//! modprobe's configuration, as modprobe.d(5) says it is read, and what the kernel's command line adds.

use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::normal;
use crate::host::reader::{Reader, shorten};
use crate::host::{Kind, ReadError, ReadFailure};

/// Directories of modprobe.d(5), first wins for files of the same name.
const DIRECTORIES: [&str; 5] =
    ["/etc/modprobe.d", "/run/modprobe.d", "/usr/local/lib/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d"];

const COMMAND_LINE: &str = "/proc/cmdline";

/// What keeps a module from being loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Block {
    pub kind: BlockKind,
    /// File that says so.
    pub file: String,
    /// Line of the file, from 1.
    pub line: u32,
    /// The words themselves.
    pub text: String,
}

/// How a module is kept from being loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BlockKind {
    /// `blacklist`: not loaded for a device that is found; `modprobe NAME` still loads it.
    #[serde(rename = "not_by_device")]
    Blacklist,
    /// `install NAME /bin/false` and its kin: `modprobe` runs that instead; insmod still loads it.
    #[serde(rename = "not_by_modprobe")]
    Install,
    /// `module_blacklist=` on the kernel's command line: nothing loads it until the next start.
    #[serde(rename = "not_at_all")]
    CommandLine,
}

/// A value that configuration gives a parameter when the module is loaded next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfiguredValue {
    /// The value; `None` where a flag is named without one.
    pub value: Option<String>,
    /// File that says so.
    pub file: String,
    /// Line of the file, from 1.
    pub line: u32,
}

#[derive(Debug, Default)]
pub(super) struct Configuration {
    blocks: Vec<(String, Block)>,
    installs: Vec<(String, Block, bool)>,
    options: Vec<(String, String, ConfiguredValue)>,
    /// Where it is said that no module may be loaded any more.
    pub(super) loading_disabled_by: Option<String>,
}

impl Configuration {
    /// Reads every directory, the command line and the kernel's own switch.
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let mut all = Self::default();
        let mut files = BTreeMap::new();
        // Both are one where /lib is a link to /usr/lib.
        let lib = reader.root.link("/lib");
        let is_merged = reader.keep(lib).is_some_and(|target| Path::new("/").join(target) == Path::new("/usr/lib"));
        for directory in DIRECTORIES.into_iter().filter(|directory| !is_merged || !directory.starts_with("/lib/")) {
            for name in reader.names(directory) {
                if name.ends_with(".conf") {
                    files.entry(name).or_insert(directory);
                }
            }
        }
        for (name, directory) in files {
            let path = format!("{directory}/{name}");
            match reader.read(&path) {
                Ok(Some(text)) => reader.problems.extend(all.take_file(&path, &text)),
                Ok(None) => {}
                // A link to /dev/null hides a file of the same name in a later directory.
                Err(ReadError { failure: ReadFailure::NotAFile, .. })
                    if reader.metadata(&path).is_some_and(|found| matches!(found.kind, Kind::CharDevice { .. })) => {}
                Err(error) => reader.problems.push(error),
            }
        }
        if let Some(text) = reader.text(COMMAND_LINE) {
            all.take_command_line(&text);
        }
        let switch = "/proc/sys/kernel/modules_disabled";
        if reader.text(switch).is_some_and(|text| text.trim() == "1") {
            all.loading_disabled_by = Some(switch.to_owned());
        }
        all
    }

    /// What keeps a module from being loaded.
    pub(super) fn blocks(&self, module: &str) -> Vec<Block> {
        let mut blocks: Vec<Block> = self.blocks.iter().filter(|(name, _)| name == module).map(|(_, block)| block.clone()).collect();
        // libkmod runs the first `install` that matches, and no other.
        if let Some((_, block, true)) = self.install(module) {
            blocks.push(block.clone());
        }
        blocks
    }

    /// A command that runs in the module's stead and is not known to do nothing.
    pub(super) fn command(&self, module: &str) -> Option<&Block> {
        self.install(module).filter(|(_, _, does_nothing)| !does_nothing).map(|(_, block, _)| block)
    }

    fn install(&self, module: &str) -> Option<&(String, Block, bool)> {
        self.installs.iter().find(|(pattern, _, _)| matches(pattern, module))
    }

    /// The values configured for a parameter, in the order in which they are applied: the last one wins.
    pub(super) fn values(&self, module: &str, parameter: &str) -> Vec<ConfiguredValue> {
        let wanted = normal(parameter);
        self.options.iter().filter(|(name, of, _)| name == module && *of == wanted).map(|(_, _, value)| value.clone()).collect()
    }

    /// Takes one file of modprobe.d in; what its lines do not say right comes back.
    fn take_file(&mut self, path: &str, text: &str) -> Vec<ReadError> {
        let mut problems = Vec::new();
        let mut lines = text.lines().zip(1..);
        while let Some((first, line)) = lines.next() {
            let mut whole = first.to_owned();
            // A backslash at the end joins the next line on.
            while whole.ends_with('\\') {
                whole.pop();
                let Some((next, _)) = lines.next() else { break };
                whole.push_str(next);
            }
            let words: Vec<&str> = whole.split_whitespace().collect();
            let block = |kind| Block { kind, file: path.to_owned(), line, text: shorten(&words.join(" ")) };
            match words[..] {
                [] => {}
                [comment, ..] if comment.starts_with('#') => {}
                ["blacklist", name, ..] => self.blocks.push((normal(name).into_owned(), block(BlockKind::Blacklist))),
                ["install", name, command, ..] => {
                    self.installs.push((normal(name).into_owned(), block(BlockKind::Install), does_nothing(command)));
                }
                ["options", name, ref settings @ ..] => {
                    for setting in settings {
                        self.take_setting(name, setting, path, line);
                    }
                }
                ["alias" | "softdep" | "weakdep" | "remove" | "config" | "include", ..] => {}
                [command, ..] => {
                    let detail = format!("{:?} is no complete command of modprobe.d(5)", shorten(command));
                    problems.push(ReadError::malformed(path.as_ref(), &format!("line {line}"), detail));
                }
            }
        }
        problems
    }

    /// Takes the kernel's command line in, as the kernel and libkmod read it.
    fn take_command_line(&mut self, text: &str) {
        // Words after `--` are for the first program.
        for word in text.split_whitespace().take_while(|word| *word != "--") {
            let block = |kind| Block { kind, file: COMMAND_LINE.to_owned(), line: 1, text: shorten(word) };
            match word.split_once('=') {
                Some(("module_blacklist", names)) => {
                    self.blocks.extend(names.split(',').map(|name| (normal(name).into_owned(), block(BlockKind::CommandLine))));
                }
                Some(("modprobe.blacklist", names)) => {
                    self.blocks.extend(names.split(',').map(|name| (normal(name).into_owned(), block(BlockKind::Blacklist))));
                }
                None if word == "nomodule" => self.loading_disabled_by = Some(format!("nomodule in {COMMAND_LINE}")),
                _ => {
                    if let Some((module, setting)) = word.split_once('.') {
                        self.take_setting(module, setting, COMMAND_LINE, 1);
                    }
                }
            }
        }
    }

    fn take_setting(&mut self, module: &str, setting: &str, file: &str, line: u32) {
        let (name, value) =
            setting.split_once('=').map_or((setting, None), |(name, value)| (name, Some(value.trim_matches('"').to_owned())));
        self.options.push((normal(module).into_owned(), normal(name).into_owned(), ConfiguredValue { value, file: file.to_owned(), line }));
    }
}

/// Whether an install command does nothing: then it stands there to keep the module out.
fn does_nothing(command: &str) -> bool {
    matches!(command.rsplit('/').next(), Some("true" | "false" | ":" | "exit"))
}

/// Whether a name matches a pattern with `*` and `?`, as `install` may have it (fnmatch(3) without brackets).
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at_pattern, mut at_name, mut star) = (0, 0, None);
    while at_name < name.len() {
        match pattern.get(at_pattern) {
            Some(b'*') => {
                star = Some((at_pattern, at_name));
                at_pattern += 1;
            }
            Some(byte) if *byte == b'?' || *byte == name[at_name] => {
                at_pattern += 1;
                at_name += 1;
            }
            _ => {
                // The last star takes one more byte.
                let Some((pattern_of_star, taken)) = star else { return false };
                star = Some((pattern_of_star, taken + 1));
                at_pattern = pattern_of_star + 1;
                at_name = taken + 1;
            }
        }
    }
    pattern[at_pattern..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Node, Root};

    fn configuration(files: &[(&str, &str)]) -> (Configuration, Vec<String>) {
        let mut nodes: BTreeMap<_, _> = files.iter().map(|(path, text)| ((*path).into(), Node::text(text))).collect();
        nodes.insert("/etc/modprobe.d/masked.conf".into(), Node::Link("/dev/null".into()));
        nodes.insert("/dev/null".into(), Node::CharDevice { major: 1, minor: 3, mode: 0o666 });
        let root = Root::tree(nodes);
        let mut reader = Reader::new(&root);
        let read = Configuration::read(&mut reader);
        (read, reader.problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn blocks_name_file_and_line() {
        let (read, problems) = configuration(&[(
            "/etc/modprobe.d/a.conf",
            "# blacklist mlx5_ib\n\nblacklist nvidia-peermem\ninstall erdma \\\n  /bin/false\ninstall siw /sbin/modprobe --ignore-install siw\n",
        )]);
        assert_eq!(problems, [""; 0]);
        assert!(read.blocks("mlx5_ib").is_empty());
        let text = "blacklist nvidia-peermem".to_owned();
        let file = "/etc/modprobe.d/a.conf".to_owned();
        assert_eq!(read.blocks("nvidia_peermem"), [Block { kind: BlockKind::Blacklist, file, line: 3, text }]);
        let block = &read.blocks("erdma")[0];
        assert_eq!((block.kind, block.line, block.text.as_str()), (BlockKind::Install, 4, "install erdma /bin/false"));
        assert!(read.blocks("siw").is_empty());
        assert_eq!(read.command("siw").unwrap().line, 6);
    }

    #[test]
    fn an_earlier_directory_hides_a_file_of_the_same_name() {
        let (read, _) = configuration(&[
            ("/etc/modprobe.d/rdma.conf", "options erdma compat_mode=Y"),
            ("/usr/lib/modprobe.d/rdma.conf", "blacklist erdma"),
            ("/lib/modprobe.d/masked.conf", "blacklist erdma"),
            ("/lib/modprobe.d/not-read.txt", "blacklist erdma"),
            ("/run/modprobe.d/z.conf", "options erdma compat-mode=N"),
        ]);
        assert!(read.blocks("erdma").is_empty());
        let values: Vec<_> = read.values("erdma", "compat_mode").into_iter().map(|value| (value.value.unwrap(), value.file)).collect();
        assert_eq!(
            values,
            [("Y".to_owned(), "/etc/modprobe.d/rdma.conf".to_owned()), ("N".to_owned(), "/run/modprobe.d/z.conf".to_owned())]
        );
    }

    #[test]
    fn the_command_line_counts() {
        let line =
            "quiet module_blacklist=nvidia_uvm,gdrdrv modprobe.blacklist=siw ib_core.netns_mode=0 nomodule -- module_blacklist=ib_core";
        let (read, _) = configuration(&[("/proc/cmdline", line)]);
        assert_eq!(read.blocks("gdrdrv")[0].kind, BlockKind::CommandLine);
        assert_eq!(read.blocks("siw")[0].kind, BlockKind::Blacklist);
        assert!(read.blocks("ib_core").is_empty());
        assert_eq!(read.values("ib_core", "netns_mode")[0].value.as_deref(), Some("0"));
        assert_eq!(read.loading_disabled_by.as_deref(), Some("nomodule in /proc/cmdline"));
        let (read, _) = configuration(&[("/proc/sys/kernel/modules_disabled", "1\n")]);
        assert_eq!(read.loading_disabled_by.as_deref(), Some("/proc/sys/kernel/modules_disabled"));
    }

    #[test]
    fn the_first_install_that_matches_counts() {
        let (read, _) = configuration(&[("/etc/modprobe.d/a.conf", "install nvidia* /usr/bin/true\ninstall nvidia_uvm /sbin/other\n")]);
        assert_eq!(read.blocks("nvidia_uvm")[0].kind, BlockKind::Install);
        assert!(read.command("nvidia_uvm").is_none());
        assert!(read.blocks("gdrdrv").is_empty());
        assert!(matches("a*b?c*", "aXXbYcZ") && !matches("a*b?c", "aXXbYcZ") && matches("*", "") && !matches("", "x"));
    }

    #[test]
    fn a_line_that_says_nothing_is_named() {
        let (_, problems) = configuration(&[("/etc/modprobe.d/a.conf", "blacklist siw\nblaklist rxe\ninstall siw\n")]);
        assert_eq!(
            problems,
            [
                "/etc/modprobe.d/a.conf: malformed line 2: \"blaklist\" is no complete command of modprobe.d(5)",
                "/etc/modprobe.d/a.conf: malformed line 3: \"install\" is no complete command of modprobe.d(5)",
            ]
        );
    }
}
