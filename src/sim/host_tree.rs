//! The files of a modelled host, as its kernel and its packages would lay them.

mod kernel;
mod module;
mod net;
mod pci;
mod process;
mod rdma;

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::host::HostModel;
use crate::catalog::{Certainty, DeviceModel};
use crate::host::Node;

#[cfg(test)]
pub(crate) use module::module_file;
pub(super) use net::interface_mac;
pub(super) use rdma::{gids, guid};

/// Where a distribution for this processor keeps libraries.
pub(super) const LIBRARIES: &str = "/usr/lib/x86_64-linux-gnu";

/// Links that are followed on the way to a path of a host file.
const LINK_LIMIT: usize = 16;

/// Builds the tree.
pub(super) fn build(host: &HostModel) -> BTreeMap<PathBuf, Node> {
    let mut tree = Tree { nodes: BTreeMap::new() };
    kernel::build(&mut tree, host);
    module::build(&mut tree, host);
    process::build(&mut tree, host);
    let places = pci::build(&mut tree, host);
    rdma::build(&mut tree, host, &places);
    net::build(&mut tree, host, &places);
    user_space(&mut tree, host);
    tree.change(host);
    tree.nodes
}

struct Tree {
    nodes: BTreeMap<PathBuf, Node>,
}

impl Tree {
    fn file(&mut self, path: impl AsRef<Path>, node: Node) {
        self.nodes.insert(path.as_ref().to_owned(), node);
    }

    fn text(&mut self, path: impl AsRef<Path>, text: &str) {
        self.file(path, Node::text(&format!("{text}\n")));
    }

    fn dir(&mut self, path: impl AsRef<Path>) {
        self.nodes.entry(path.as_ref().to_owned()).or_insert(Node::Dir);
    }

    fn device_node(&mut self, path: impl AsRef<Path>, major: u64, minor: u64, mode: u32) {
        self.file(path, Node::CharDevice { major, minor, mode });
    }

    /// A link as sysfs has them: from the directory that it is in.
    fn link(&mut self, path: impl AsRef<Path>, target: impl AsRef<Path>) {
        let (path, target) = (path.as_ref(), target.as_ref());
        let above = path.parent().unwrap_or(Path::new("/"));
        let shared = above.components().zip(target.components()).take_while(|(one, other)| one == other).count();
        let mut relative: PathBuf = above.components().skip(shared).map(|_| "..").collect();
        relative.extend(target.components().skip(shared));
        self.file(path, Node::Link(relative));
    }

    /// What a host's file says about single paths, the removals last.
    fn change(&mut self, host: &HostModel) {
        for (path, text) in &host.files {
            let path = self.settle(path);
            self.file(path, Node::text(text));
        }
        for (path, target) in &host.links {
            let path = self.settle(path);
            self.file(path, Node::Link(target.clone()));
        }
        for path in &host.deny {
            let path = self.settle(path);
            self.nodes.retain(|other, _| !other.starts_with(&path));
            self.file(path, Node::Denied);
        }
        for path in &host.hang {
            let path = self.settle(path);
            self.file(path, Node::Hangs);
        }
        let nodes = host.container.iter().flat_map(|container| &container.missing_nodes).map(|name| Path::new("/dev").join(name));
        for path in host.remove.iter().cloned().chain(nodes) {
            let path = self.settle(&path);
            // What is above stays, as an empty directory does.
            if let Some(above) = path.parent().filter(|_| self.nodes.keys().any(|other| other.starts_with(&path))) {
                self.dir(above);
            }
            self.nodes.retain(|other, _| !other.starts_with(&path));
        }
    }

    /// The path with the links on its way followed, but not a link that it is itself.
    fn settle(&self, path: &Path) -> PathBuf {
        let mut settled = path.to_owned();
        for _ in 0..LINK_LIMIT {
            let mut above: Vec<&Path> = settled.ancestors().skip(1).collect();
            above.reverse();
            let found = above.into_iter().find_map(|dir| match self.nodes.get(dir) {
                Some(Node::Link(target)) => Some((dir, target)),
                _ => None,
            });
            let Some((dir, target)) = found else { break };
            let rest = settled.strip_prefix(dir).unwrap_or(Path::new(""));
            settled = plain(&dir.parent().unwrap_or(Path::new("/")).join(target).join(rest));
        }
        settled
    }
}

/// A path without `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => {
                plain.pop();
            }
            _ => {}
        }
    }
    plain
}

/// A number that differs from name to name and is always the same for one: the steps of FNV-1a.
pub(super) fn number_of(text: &str) -> u64 {
    text.bytes().fold(0x0002_c903, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

fn user_space(tree: &mut Tree, host: &HostModel) {
    let release = host.verbs.rdma_core;
    if release == 0 {
        return;
    }
    // Interface versions of rdma-core 44 and later; the third number is the release.
    for (name, version) in [("libibverbs.so.1", "14"), ("librdmacm.so.1", "3")] {
        let real = format!("{LIBRARIES}/{name}.{version}.{release}.0");
        tree.file(&real, Node::text(""));
        tree.link(format!("{LIBRARIES}/{name}"), &real);
    }
    let models = || host.nics.iter().filter_map(|nic| DeviceModel::find(&nic.model));
    // A release is without a provider only where that is known for certain.
    let has_provider = |model: &&DeviceModel| {
        let first = &model.software.min_rdma_core;
        first.value <= release || first.certainty != Certainty::Source
    };
    let of_nics = || models().filter(has_provider).map(|model| model.family.clone()).collect();
    let families: Vec<String> = host.verbs.providers.clone().unwrap_or_else(of_nics);
    let generation = host.verbs.provider_generation.unwrap_or(host.verbs.generation);
    tree.dir("/etc/libibverbs.d");
    for family in families {
        tree.file(format!("{LIBRARIES}/libibverbs/lib{family}-rdmav{generation}.so"), Node::text(""));
        tree.text(format!("/etc/libibverbs.d/{family}.driver"), &format!("driver {family}"));
    }
}
