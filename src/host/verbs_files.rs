//! The files of RDMA's user space: the verbs library, its providers, which of them it is told to load, and the nodes that it opens.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::part::Look;
use super::reader::Reader;
use super::{Kind, Metadata, ReadError, Root, rdma};

/// Where rdma-core looks for what to load (`IBV_CONFIG_DIR`).
const DRIVER_FILES: &str = "/etc/libibverbs.d";
const NODES: &str = "/dev/infiniband";

/// Debian's name of the directory of this program's kind of libraries (wiki.debian.org/Multiarch/Tuples), where it is known.
const OWN_TRIPLET: Option<&str> = if cfg!(all(target_arch = "x86_64", target_pointer_width = "64")) {
    Some("x86_64-linux-gnu")
} else if cfg!(all(target_arch = "aarch64", target_endian = "little")) {
    Some("aarch64-linux-gnu")
} else {
    None
};

/// The files of RDMA's user space.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VerbsFilesFacts {
    /// Files of /etc/libibverbs.d. Absent where the directory is.
    pub driver_files: Option<Vec<DriverFile>>,
    /// Copies of libibverbs in the directories that the dynamic linker searches. Those that programs bring along are not seen.
    pub libraries: Vec<Library>,
    /// Copies of librdmacm there.
    pub connection_libraries: Vec<Library>,
    /// Providers beside them.
    pub providers: Vec<Provider>,
    /// What is in /dev/infiniband. Absent where the directory is.
    pub nodes: Option<Vec<NodeFile>>,
    /// Whether every network namespace sees all RDMA devices; absent where ib_core does not say.
    pub devices_shared_between_namespaces: Option<bool>,
    /// What could not be read or understood.
    pub problems: Vec<ReadError>,
}

impl VerbsFilesFacts {
    /// Providers of a family.
    pub fn providers_of<'a>(&'a self, family: &'a str) -> impl Iterator<Item = &'a Provider> {
        self.providers.iter().filter(move |provider| provider.family == family)
    }

    /// Whether a file of /etc/libibverbs.d names a family.
    #[must_use]
    pub fn is_configured(&self, family: &str) -> bool {
        self.driver_files.iter().flatten().any(|file| file.names(family))
    }
}

/// A file of /etc/libibverbs.d.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DriverFile {
    /// The file.
    pub path: String,
    /// What its `driver` lines name: a family, or a path before `-rdmavNN.so`.
    pub drivers: Vec<String>,
    /// Whether a brief look left out to read it, since the devices that are here have files of their own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_unread: bool,
}

impl DriverFile {
    fn names(&self, family: &str) -> bool {
        let drivers = self.drivers.iter().filter_map(|driver| driver.rsplit('/').next());
        drivers.map(|name| name.strip_prefix("lib").unwrap_or(name)).any(|name| name == family)
    }
}

/// A copy of a library.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Library {
    /// Where programs find it.
    pub path: String,
    /// The file that it is, without links.
    pub file: String,
    /// What stands after `.so.` in that file's name: `1.14.50.0`.
    pub version: Option<String>,
    /// The release of rdma-core that it says: 50.
    pub rdma_core: Option<u32>,
}

/// A provider: what libibverbs loads for a family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Provider {
    /// The file.
    pub path: String,
    /// Such as `mlx5`.
    pub family: String,
    /// The generation that its name carries; libibverbs loads only its own (`IBVERBS_PABI_VERSION`).
    pub generation: u32,
}

/// A node of /dev/infiniband.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeFile {
    pub path: String,
    /// What it is and who may use it.
    pub metadata: Metadata,
}

impl NodeFile {
    /// Whether everybody may open it, which is what the rules of rdma-core give uverbs and rdma_cm.
    #[must_use]
    pub fn is_open_to_all(&self) -> bool {
        self.metadata.mode & 0o006 == 0o006
    }
}

/// Reads them. What fails is among the problems.
#[must_use]
pub fn read(root: &Root) -> VerbsFilesFacts {
    read_at(root, Look::Whole)
}

/// As [`read`]; a brief look leaves out the drivers of families of which no device is here.
#[must_use]
pub fn read_at(root: &Root, look: Look) -> VerbsFilesFacts {
    let mut reader = Reader::new(root);
    let listed = root.names(DRIVER_FILES);
    let driver_files = reader.keep(listed).map(|names| driver_files(&mut reader, &names, look));
    let dirs = library_dirs(&mut reader);
    let libraries = libraries(&mut reader, &dirs, "libibverbs.so.1");
    let connection_libraries = self::libraries(&mut reader, &dirs, "librdmacm.so.1");
    let mut places: Vec<PathBuf> = dirs.iter().map(|dir| dir.join("libibverbs")).collect();
    // A driver named by its path can be anywhere.
    let named = driver_files.iter().flatten().flat_map(|file: &DriverFile| &file.drivers).filter(|driver| driver.starts_with('/'));
    places.extend(named.filter_map(|driver| Path::new(driver).parent()).map(Path::to_owned));
    let providers = providers(&mut reader, &places);
    let nodes = nodes(&mut reader);
    let shared = |text: &str| match text {
        "Y" | "1" => Some(true),
        "N" | "0" => Some(false),
        _ => None,
    };
    let devices_shared_between_namespaces = reader.parsed("/sys/module/ib_core/parameters/netns_mode", "Y or N", shared);
    VerbsFilesFacts {
        driver_files,
        libraries,
        connection_libraries,
        providers,
        nodes,
        devices_shared_between_namespaces,
        problems: reader.problems,
    }
}

/// The files with these names, as far as the look goes.
fn driver_files(reader: &mut Reader<'_>, names: &[String], look: Look) -> Vec<DriverFile> {
    let families = if look == Look::Brief { rdma::families(&mut Reader::new(reader.root)) } else { Vec::new() };
    let is_wanted = |stem: &str| look == Look::Whole || families.iter().any(|family| family == stem);
    let mut files = Vec::new();
    for name in names {
        let Some(stem) = name.strip_suffix(".driver") else { continue };
        files.push(match is_wanted(stem) {
            true => driver_file(reader, format!("{DRIVER_FILES}/{name}")),
            false => DriverFile { path: format!("{DRIVER_FILES}/{name}"), drivers: Vec::new(), is_unread: true },
        });
    }
    // What its own file does not name, any other may.
    if !families.iter().all(|family| files.iter().any(|file| file.names(family))) {
        for file in files.iter_mut().filter(|file| file.is_unread) {
            *file = driver_file(reader, std::mem::take(&mut file.path));
        }
    }
    files
}

/// Lines `driver NAME`; what is not one is left alone, as libibverbs does (libibverbs/dynamic_driver.c, `read_config_file`).
fn driver_file(reader: &mut Reader<'_>, path: String) -> DriverFile {
    let text = reader.text(&path).unwrap_or_default();
    let drivers = text.lines().filter_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        (words.next()? == "driver").then(|| words.next().map(str::to_owned)).flatten()
    });
    DriverFile { drivers: drivers.collect(), path, is_unread: false }
}

/// Directories of libraries, each once: the usual ones, those of architectures, and what ld.so.conf names.
fn library_dirs(reader: &mut Reader<'_>) -> Vec<PathBuf> {
    let mut dirs: Vec<String> =
        ["/usr/local/lib", "/usr/local/lib64", "/lib64", "/usr/lib64", "/lib", "/usr/lib", "/opt/amazon/efa/lib", "/opt/amazon/efa/lib64"]
            .map(str::to_owned)
            .to_vec();
    // What cannot be followed is no place of libraries; /lib and /usr/lib are one on most hosts.
    let mut followed: BTreeMap<String, Option<PathBuf>> = BTreeMap::new();
    let mut real = |reader: &Reader<'_>, dir: &str| {
        followed.entry(dir.to_owned()).or_insert_with(|| reader.root.canonical(dir).ok().flatten()).clone()
    };
    let mut seen = BTreeSet::new();
    for above in ["/usr/local/lib", "/lib", "/usr/lib"] {
        let Some(above) = real(reader, above).filter(|real| seen.insert(real.clone())) else { continue };
        // Debian's: x86_64-linux-gnu and the like. Of this host's own only one is of use, and need not be looked for among all that is there.
        let names = match OWN_TRIPLET {
            Some(own) if reader.root.is_host() => vec![own.to_owned()],
            _ => reader.names(&above).into_iter().filter(|name| name.contains("-linux-gnu")).collect(),
        };
        dirs.extend(names.into_iter().map(|name| above.join(name).to_string_lossy().into_owned()));
    }
    let mut files = vec!["/etc/ld.so.conf".to_owned()];
    files.extend(
        reader
            .names("/etc/ld.so.conf.d")
            .into_iter()
            .filter(|name| name.ends_with(".conf"))
            .map(|name| format!("/etc/ld.so.conf.d/{name}")),
    );
    for file in files {
        let text = reader.text(file).unwrap_or_default();
        dirs.extend(text.lines().map(str::trim).filter(|line| line.starts_with('/')).map(str::to_owned));
    }
    let mut seen = BTreeSet::new();
    dirs.into_iter().filter_map(|dir| real(reader, &dir)).filter(|real| seen.insert(real.clone())).collect()
}

/// Copies of a library in these directories, each file once.
fn libraries(reader: &mut Reader<'_>, dirs: &[PathBuf], name: &str) -> Vec<Library> {
    let mut seen = BTreeSet::new();
    let mut libraries = Vec::new();
    for dir in dirs {
        let path = dir.join(name);
        let Some(real) = reader.canonical(&path).filter(|real| seen.insert(real.clone())) else { continue };
        let file_name = real.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let version = file_name.split_once(".so.").map(|(_, version)| version.to_owned());
        // Interface, its minor version, then the package's: CMake's `rdma_library` gives 1.14.50.0 to release 50.0.
        let rdma_core = version.as_deref().and_then(|version| version.split('.').nth(2)?.parse().ok());
        libraries.push(Library {
            path: path.to_string_lossy().into_owned(),
            file: real.to_string_lossy().into_owned(),
            version,
            rdma_core,
        });
    }
    libraries
}

/// Files `libmlx5-rdmav34.so`.
fn providers(reader: &mut Reader<'_>, dirs: &[PathBuf]) -> Vec<Provider> {
    let mut seen = BTreeSet::new();
    let mut providers = Vec::new();
    for dir in dirs {
        // /lib and /usr/lib are one on most hosts.
        let Some(dir) = reader.root.canonical(dir).ok().flatten().filter(|real| seen.insert(real.clone())) else { continue };
        for name in reader.names(&dir) {
            let stem = name.strip_suffix(".so").and_then(|stem| stem.split_once("-rdmav"));
            let Some((family, generation)) = stem.and_then(|(family, generation)| Some((family, generation.parse().ok()?))) else {
                continue;
            };
            let family = family.strip_prefix("lib").unwrap_or(family).to_owned();
            providers.push(Provider { path: dir.join(&name).to_string_lossy().into_owned(), family, generation });
        }
    }
    providers
}

fn nodes(reader: &mut Reader<'_>) -> Option<Vec<NodeFile>> {
    let listed = reader.root.names(NODES);
    let names = reader.keep(listed)?;
    let mut nodes = Vec::new();
    for name in names {
        let path = format!("{NODES}/{name}");
        // by-ibdev and by-path are directories of links to the nodes.
        if let Some(metadata) = reader.metadata(&path).filter(|metadata| metadata.kind != Kind::Dir) {
            nodes.push(NodeFile { path, metadata });
        }
    }
    Some(nodes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::host::Node;

    fn host() -> BTreeMap<PathBuf, Node> {
        let mut nodes: BTreeMap<PathBuf, Node> = [
            ("/etc/libibverbs.d/mlx5.driver", "driver mlx5\n"),
            ("/etc/libibverbs.d/own.driver", "# driver rxe\ndriver /opt/vendor/libown\ngarbage\n"),
            ("/etc/libibverbs.d/README", "driver none\n"),
            ("/etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n/opt/ofed/lib\n"),
            ("/usr/lib/x86_64-linux-gnu/libibverbs.so.1.14.50.0", ""),
            ("/opt/ofed/lib/libibverbs.so.1.14.2501.0", ""),
            ("/usr/lib/x86_64-linux-gnu/libibverbs/libmlx5-rdmav34.so", ""),
            ("/usr/lib/x86_64-linux-gnu/libibverbs/libbnxt_re-rdmav34.so", ""),
            ("/usr/lib/x86_64-linux-gnu/libibverbs/notes", ""),
            ("/opt/ofed/lib/libibverbs/libmlx5-rdmav57.so", ""),
            ("/opt/vendor/libown-rdmav34.so", ""),
            ("/sys/module/ib_core/parameters/netns_mode", "N\n"),
        ]
        .into_iter()
        .map(|(path, text)| (PathBuf::from(path), Node::text(text)))
        .collect();
        for (path, target) in [
            ("/lib", "usr/lib"),
            ("/usr/lib/x86_64-linux-gnu/libibverbs.so.1", "libibverbs.so.1.14.50.0"),
            ("/opt/ofed/lib/libibverbs.so.1", "libibverbs.so.1.14.2501.0"),
            ("/dev/infiniband/by-ibdev/uverbs-rocep3s0", "../uverbs0"),
        ] {
            nodes.insert(path.into(), Node::Link(target.into()));
        }
        nodes.insert("/dev/infiniband/uverbs0".into(), Node::CharDevice { major: 231, minor: 192, mode: 0o666 });
        nodes.insert("/dev/infiniband/issm0".into(), Node::CharDevice { major: 231, minor: 64, mode: 0o600 });
        nodes
    }

    #[test]
    fn the_user_space_is_read() {
        let facts = read(&Root::tree(host()));
        assert_eq!(facts.problems, []);
        assert!(facts.is_configured("mlx5") && facts.is_configured("own") && !facts.is_configured("rxe"));
        let copies: Vec<_> = facts.libraries.iter().map(|library| (library.path.as_str(), library.rdma_core)).collect();
        assert_eq!(copies, [("/usr/lib/x86_64-linux-gnu/libibverbs.so.1", Some(50)), ("/opt/ofed/lib/libibverbs.so.1", Some(2501))]);
        let generations: Vec<_> = facts.providers_of("mlx5").map(|provider| provider.generation).collect();
        assert_eq!(generations, [34, 57]);
        assert_eq!((facts.providers.len(), facts.providers_of("own").count()), (4, 1));
        let nodes: Vec<_> = facts.nodes.iter().flatten().map(|node| (node.path.as_str(), node.is_open_to_all())).collect();
        assert_eq!(nodes, [("/dev/infiniband/issm0", false), ("/dev/infiniband/uverbs0", true)]);
        assert_eq!(facts.devices_shared_between_namespaces, Some(false));
    }

    #[test]
    fn a_brief_look_reads_what_the_devices_need() {
        let mut nodes = host();
        let unread = |nodes: &BTreeMap<PathBuf, Node>| -> Vec<bool> {
            let facts = read_at(&Root::tree(nodes.clone()), Look::Brief);
            facts.driver_files.unwrap().iter().map(|file| file.is_unread).collect()
        };
        assert_eq!(unread(&nodes), [true, true]);
        for (path, text) in [("parent", "eth0\n"), ("node_type", "1: CA\n")] {
            nodes.insert(format!("/sys/devices/virtual/infiniband/rxe0/{path}").into(), Node::text(text));
        }
        nodes.insert("/sys/class/infiniband/rxe0".into(), Node::Link("../../devices/virtual/infiniband/rxe0".into()));
        // Without a file of its own the family may be named by any.
        assert_eq!(unread(&nodes), [false, false]);
        nodes.insert("/etc/libibverbs.d/rxe.driver".into(), Node::text("driver rxe\n"));
        assert_eq!(unread(&nodes), [true, true, false]);
        nodes.insert("/etc/libibverbs.d/rxe.driver".into(), Node::text("# driver rxe\n"));
        assert_eq!(unread(&nodes), [false, false, false]);
    }

    #[test]
    fn what_is_absent_is_none() {
        assert_eq!(read(&Root::tree(BTreeMap::new())), VerbsFilesFacts::default());
        let mut nodes = host();
        nodes.insert("/etc/libibverbs.d/mlx5.driver".into(), Node::Denied);
        nodes.insert("/sys/module/ib_core/parameters/netns_mode".into(), Node::text("maybe"));
        assert_eq!(read(&Root::tree(nodes)).problems.len(), 2);
    }
}
