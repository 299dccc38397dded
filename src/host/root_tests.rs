//! Tests of the root over directories and over trees in memory: both must answer alike.

use std::os::unix::fs::symlink;

use proptest::prelude::*;

use super::*;

/// The same files in a directory and in memory.
fn both() -> (tempfile::TempDir, [Root; 2]) {
    let dir = tempfile::tempdir().unwrap();
    let nodes = BTreeMap::from([
        (PathBuf::from("/sys/a/value"), Node::text("4: ACTIVE\n")),
        (PathBuf::from("/sys/a/empty"), Node::text("")),
        (PathBuf::from("/sys/a/latin"), Node::File(vec![b'm', 0xfc, b'x', b'\n'])),
        (PathBuf::from("/sys/class/a"), Node::Link("../a".into())),
        (PathBuf::from("/sys/class/absolute"), Node::Link("/sys/a".into())),
        (PathBuf::from("/sys/class/dangling"), Node::Link("../b".into())),
        (PathBuf::from("/loop/one"), Node::Link("two".into())),
        (PathBuf::from("/loop/two"), Node::Link("/loop/one".into())),
        (PathBuf::from("/escape/up"), Node::Link("../../../../../../../../etc/passwd".into())),
        (PathBuf::from("/escape/absolute"), Node::Link("/etc/passwd".into())),
        (PathBuf::from("/etc/passwd"), Node::text("the root's own")),
    ]);
    for (path, node) in &nodes {
        let path = dir.path().join(path.strip_prefix("/").unwrap());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match node {
            Node::File(bytes) => fs::write(path, bytes).unwrap(),
            Node::Link(target) => symlink(target, path).unwrap(),
            _ => unreachable!(),
        }
    }
    let roots = [Root::dir(dir.path()), Root::tree(nodes)];
    (dir, roots)
}

#[test]
fn files_links_and_names_are_read() {
    let (_dir, roots) = both();
    for root in roots {
        assert_eq!(root.text("/sys/a/value").unwrap().unwrap(), "4: ACTIVE");
        assert_eq!(root.text("sys/class/a/value").unwrap().unwrap(), "4: ACTIVE");
        assert_eq!(root.text("/sys/class/absolute/value").unwrap().unwrap(), "4: ACTIVE");
        assert_eq!(root.text("/sys/a/empty").unwrap().unwrap(), "");
        assert_eq!(root.text("/sys/a/latin").unwrap().unwrap(), "m\u{fffd}x");
        assert_eq!(root.bytes("/sys/a/value").unwrap().unwrap(), b"4: ACTIVE\n");
        assert_eq!(root.names("/sys/class/a").unwrap().unwrap(), ["empty", "latin", "value"]);
        assert_eq!(root.names("/").unwrap().unwrap(), ["escape", "etc", "loop", "sys"]);
        assert_eq!(root.link("/sys/class/a").unwrap().unwrap(), Path::new("../a"));
        assert_eq!(root.link("/sys/a/value").unwrap(), None);
        assert_eq!(root.canonical("/sys/class/absolute/value").unwrap().unwrap(), Path::new("/sys/a/value"));
        assert_eq!(root.metadata("/sys/class/a").unwrap().unwrap().kind, Kind::Dir);
        assert_eq!(root.metadata("/sys/a/value").unwrap().unwrap().kind, Kind::File);
    }
}

#[test]
fn what_is_absent_is_none() {
    let (_dir, roots) = both();
    for root in roots {
        for path in ["/nowhere", "/sys/class/dangling", "/sys/class/dangling/value", "/sys/b/c"] {
            assert_eq!(root.text(path), Ok(None), "{path}");
            assert_eq!(root.names(path), Ok(None), "{path}");
            assert_eq!(root.canonical(path), Ok(None), "{path}");
            assert!(!root.exists(path), "{path}");
        }
        assert_eq!(root.link("/nowhere"), Ok(None));
    }
    assert_eq!(Root::dir("/no/such/root").text("/etc/passwd"), Ok(None));
}

#[test]
fn no_link_leaves_the_root() {
    let (_dir, roots) = both();
    for root in roots {
        for path in ["/escape/up", "/escape/absolute", "/../../../../etc/passwd", "/escape/../../etc/passwd"] {
            assert_eq!(root.text(path).unwrap().unwrap(), "the root's own", "{path}");
            assert_eq!(root.canonical(path).unwrap().unwrap(), Path::new("/etc/passwd"), "{path}");
        }
    }
}

#[test]
fn wrong_kinds_and_loops_are_named() {
    let (_dir, roots) = both();
    for root in roots {
        let failure = |result: Result<Option<String>, ReadError>| result.unwrap_err().failure;
        assert_eq!(failure(root.text("/loop/one")), ReadFailure::Loop);
        assert_eq!(failure(root.text("/sys/a")), ReadFailure::NotAFile);
        assert_eq!(failure(root.text("/sys/a/value/more")), ReadFailure::NotADirectory);
        assert_eq!(root.names("/sys/a/value").unwrap_err().failure, ReadFailure::NotADirectory);
        let error = root.bytes_to("/sys/a/value", 3).unwrap_err();
        assert_eq!(error.to_string(), "/sys/a/value: longer than 3 bytes");
        assert_eq!(root.bytes_to("/sys/a/value", 10).unwrap().unwrap().len(), 10);
    }
}

#[test]
fn refusals_of_a_model_keep_their_errno() {
    let root = Root::tree(BTreeMap::from([
        (PathBuf::from("/sys/denied"), Node::Denied),
        (PathBuf::from("/sys/empty_entry"), Node::Fails(libc::EINVAL)),
        (PathBuf::from("/dev/infiniband/uverbs0"), Node::CharDevice { major: 231, minor: 192, mode: 0o666 }),
    ]));
    assert_eq!(root.text("/sys/denied").unwrap_err().to_string(), "/sys/denied: permission denied");
    assert_eq!(root.names("/sys/denied").unwrap_err().failure, ReadFailure::PermissionDenied);
    assert_eq!(root.text("/sys/denied/below").unwrap_err().failure, ReadFailure::PermissionDenied);
    assert_eq!(root.text("/sys/empty_entry").unwrap_err().errno(), Some(Errno::EINVAL));
    assert_eq!(root.text("/sys/empty_entry").unwrap_err().to_string(), "/sys/empty_entry: EINVAL (22)");
    assert_eq!(root.text("/dev/infiniband/uverbs0").unwrap_err().failure, ReadFailure::NotAFile);
    let node = root.metadata("/dev/infiniband/uverbs0").unwrap().unwrap();
    assert_eq!((node.kind, node.mode), (Kind::CharDevice { major: 231, minor: 192 }, 0o666));
}

#[test]
fn a_pipe_does_not_block_the_reader() {
    let dir = tempfile::tempdir().unwrap();
    nix::unistd::mkfifo(&dir.path().join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(Root::dir(dir.path()).text("/pipe").unwrap_err().failure, ReadFailure::NotAFile);
}

#[test]
fn this_host_is_read_through_the_kernel() {
    let root = Root::default();
    assert!(root.text("/proc/sys/kernel/osrelease").unwrap().is_some());
    assert!(root.exists("/proc/self/status"));
    let Kind::CharDevice { major, minor } = root.metadata("/dev/null").unwrap().unwrap().kind else { panic!("a character device") };
    assert_eq!((major, minor), (1, 3));
}

proptest! {
    /// Whatever links there are, a path is found inside the root or not at all, and the walk ends.
    #[test]
    fn every_walk_ends_inside(links in proptest::collection::vec(("[abc](/[abc]){0,2}", "(\\.\\./|/|[abc]/){0,4}[abc.]{1,2}"), 0..12), path in "(/|[abc.]){1,12}") {
        let nodes: BTreeMap<PathBuf, Node> = links.into_iter().map(|(at, to)| (Path::new("/").join(at), Node::Link(to.into()))).collect();
        let root = Root::tree(nodes);
        if let Ok(Some(found)) = root.canonical(&path) {
            prop_assert!(found.is_absolute());
            prop_assert!(!found.components().any(|component| component == Component::ParentDir));
        }
        let _ = (root.text(&path), root.names(&path), root.link(&path), root.metadata(&path));
    }
}
