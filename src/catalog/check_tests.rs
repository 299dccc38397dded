use super::*;
use crate::catalog::{DEVICES, ENGINES, FAMILY_FILES, HOSTS};

/// Lines of what is wrong, without the file's name.
fn lines(text: &str) -> Vec<String> {
    check(Path::new("x.yaml"), text, &[(schema::HOST, crate::sim::HostModel::problems)]).problems.iter().map(ToString::to_string).collect()
}

const ENGINE: &str = "schema: rdmadoctor/engine/1
name: tiny
connect: pigeon
colour: red
on_refusal: {outcome: crashed, summary: dies}
releases:
  - version: 1.0
    sources: []
    queues:
      - {name: data, qp_type: RC, max_send_wr: 4k, max_recv_wr: -1, max_send: 4, max_recv_sge: 4, max_inline_data: 0, cq_depth: 4294967296}
  - {version: '2.0', queues: []}
";

#[test]
fn everything_is_told_in_one_run_with_its_place() {
    assert_eq!(
        lines(ENGINE),
        [
            "1:1: `title` is missing",
            "3:10: connect: `pigeon` is none of oob, cm",
            "4:1: unknown key `colour`; known are aliases, connect, gpu_paths, homepage, name, on_refusal, releases, schema, title",
            "7:14: releases[0].version: 1.0 is not text; put it in quotes",
            "8:14: releases[0].sources: the list is empty; it takes at least one",
            "10:48: releases[0].queues[0].max_send_wr: `4k` is not a whole number; units stand in the names of keys, so write 4096",
            "10:65: releases[0].queues[0].max_recv_wr: -1 is less than 0",
            "10:69: releases[0].queues[0]: unknown key `max_send`; did you mean `max_send_sge`?",
            "10:129: releases[0].queues[0].cq_depth: 4294967296 is more than 4294967295",
            "11:5: releases[1]: `sources` is missing: where is this known from?",
        ]
    );
}

#[test]
fn what_strict_readers_refuse_is_told_with_its_place() {
    assert_eq!(
        lines("schema: rdmadoctor/engine/1\nname: \"tiny\"# a comment\n"),
        ["2:13: strict readers of YAML refuse this: comments must be separated from other tokens by whitespace"]
    );
    assert_eq!(lines("# nothing\n"), ["1:1: it is empty, or no plain YAML"]);
}

#[test]
fn what_only_reading_finds_is_told_with_its_place() {
    let (_, text) = ENGINES.iter().find(|(name, _)| name.ends_with("dlslime.yaml")).unwrap();
    let text = text.replacen("qp_type: RC", "qp_type: XX", 1).replacen("        cq_depth: 16384\n", "", 1);
    let found = lines(&text);
    let line = text.lines().position(|line| line.contains("qp_type: XX")).unwrap() + 1;
    assert!(found[0].starts_with(&format!("{}:9: release 0.0.1.post6, queue data has no cq_depth", line - 1)), "{found:?}");
    assert!(found[1].starts_with(&format!("{line}:18: release 0.0.1.post6, queue data: `XX` is no queue-pair type")), "{found:?}");
}

#[test]
fn figures_need_one_value_and_a_source() {
    let (_, text) = DEVICES.iter().find(|(path, _)| path.ends_with("/erdma.yaml")).unwrap();
    let text =
        text.replacen("max_qp: {", "max_qp: {observed: 1, ", 1).replacen("vendor_id: {value: ", "vendor_id: {inferred: [], value: ", 1);
    let found = lines(&text);
    assert!(found.iter().any(|line| line.contains("published.max_qp: it has both") && line.contains("exactly one of value")), "{found:?}");
    assert!(found.iter().any(|line| line.contains("identity.vendor_id.inferred: a list is not a whole number")), "{found:?}");
}

#[test]
fn a_host_needs_a_kernel_and_sources() {
    assert_eq!(
        lines("schema: rdmadoctor/host/1\nname: x\ntitle: x\nsource: y\n"),
        ["1:1: `kernel` is missing", "4:1: unknown key `source`; did you mean `sources`?"]
    );
    assert_eq!(lines("schema: rdmadoctor/host/1\nname: x\ntitle: x\nextends: bare\n"), [""; 0]);
}

#[test]
fn the_schema_is_told_where_it_stands() {
    assert!(lines("a: 1\nschema: no")[0].starts_with("2:1: its schema is `no`; valid are rdmadoctor/engine/1"));
    assert!(lines("a: 1")[0].starts_with("1:1: its schema is missing"));
    assert!(lines("a: [1")[0].contains("did not find expected"));
}

#[test]
fn no_file_of_the_program_has_a_problem() {
    for (path, text) in ENGINES.iter().chain(HOSTS).chain(DEVICES).chain(FAMILY_FILES) {
        assert_eq!(check(Path::new(path), text, &[(schema::HOST, crate::sim::HostModel::problems)]).problems, [], "{path}");
    }
}
