//! What tables put together and what they keep apart.

use super::{Style, Table};
use crate::bench::{PairCell, Pairs, Spread};
use crate::facts::Modules;
use crate::gpu::Path;
use crate::host::modules::{Module, ModuleState, ModulesFacts};
use crate::transfer::Operation;

const STYLE: Style = Style { color: false, width: 100, verbose: false };

fn module(name: &str, notes: &[&str]) -> Module {
    Module {
        name: name.to_owned(),
        why_it_matters: String::new(),
        state: ModuleState::Loaded,
        source: None,
        loaded_version: None,
        disk_version: None,
        disk_path: None,
        version_differs: None,
        blocked_by: Vec::new(),
        parameters: Vec::new(),
        notes: notes.iter().map(|note| (*note).to_owned()).collect(),
    }
}

fn drawn(modules: Vec<Module>) -> String {
    Modules { schema: String::new(), facts: ModulesFacts { modules, ..ModulesFacts::default() } }.table(&STYLE)
}

#[test]
fn a_note_is_told_once_with_the_modules_that_it_belongs_to() {
    let some = drawn(vec![module("ib_core", &["tainted"]), module("mlx5_ib", &["old"]), module("rdma_cm", &["tainted"])]);
    assert!(some.contains("ib_core, rdma_cm: tainted\n") && some.contains("mlx5_ib: old\n"), "{some}");
    assert_eq!((some.matches("tainted").count(), some.matches("old").count(), some.contains("all modules")), (1, 1, false), "{some}");
    let all = drawn(vec![module("ib_core", &["tainted"]), module("rdma_cm", &["tainted"])]);
    assert!(all.contains("all modules: tainted\n") && !all.contains("rdma_cm: tainted"), "{all}");
}

#[test]
fn the_ways_of_a_gpu_a_nic_and_an_operation_are_one_row() {
    let cell = |device: &str, operation, path, rate: f64| PairCell {
        gpu: "0000:1b:00.0".to_owned(),
        device: device.to_owned(),
        operation,
        path,
        bytes_per_second: Spread::of(&[rate]),
        is_right: Some(true),
        reason: None,
        causes: Vec::new(),
    };
    let cells = vec![
        cell("mlx5_1", Operation::Write, Path::Dmabuf, 1e9),
        cell("mlx5_0", Operation::Write, Path::Dmabuf, 2e9),
        cell("mlx5_0", Operation::Read, Path::Dmabuf, 3e9),
        cell("mlx5_0", Operation::Write, Path::Peermem, 4e9),
    ];
    let text = Pairs { size_bytes: 4096, cells, ..Pairs::default() }.table(&STYLE);
    let rows: Vec<Vec<&str>> =
        text.lines().filter(|line| line.contains("0000:1b:00.0")).map(|line| line.split_whitespace().skip(1).collect()).collect();
    // A column for each way: peer memory, dma-buf, Data Direct, staged.
    let expected = [
        ["mlx5_0", "read", "-", "3000", "-", "-"],
        ["mlx5_0", "write", "4000", "2000", "-", "-"],
        ["mlx5_1", "write", "-", "1000", "-", "-"],
    ];
    assert_eq!(rows, expected, "{text}");
}
