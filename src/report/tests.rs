//! Each format of the same documents.

use rdmadoctor_types::Word;

use super::*;
use crate::bench::{PairCell, Pairs, Spread};
use crate::checks::{Action, Counts, Finding, Probe, Status};
use crate::facts::Level;
use crate::gpu::Path;
use crate::schema;
use crate::transfer::Operation;

fn probe() -> Probe {
    let finding = |id: &str, finding: Finding| Finding { id: id.to_owned(), ..finding };
    let root = finding("RD-0204", Finding::fail("mlx5_ib", "mlx5_ib is \"not\" loaded, 100% <sure>"))
        .saw_not("/proc/modules", "absent | gone", "loaded")
        .remedy(Action::Reload, "load it", &["modprobe mlx5_ib"]);
    let mut consequence = finding("RD-0301", Finding::fail("host", "there is no RDMA device"));
    consequence.because = Some(root.key());
    let warning = finding("RD-0408", Finding::warn("host", "RDMA interfaces have different MTUs"));
    let mut suppressed = finding("RD-0213", Finding::warn("host", "exclusive"));
    suppressed.suppressed = Some("the plugin moves devices".to_owned());
    Probe {
        schema: schema::PROBE.to_owned(),
        verdict: Word::Known(Status::Fail),
        level: Level::Quick,
        findings: vec![root, suppressed, consequence, warning],
        counts: Counts { fail: 1, warn: 1, consequences: 1, suppressed: 1, ..Counts::default() },
        suppressions: Vec::new(),
        checks_not_run: 0,
        next_commands: vec!["rdmadoctor explain RD-0204".to_owned()],
        budget_us: 2_000_000,
        elapsed_us: 1_500_000,
        stopped: None,
    }
}

fn drawn(format: Format, origin: Option<&Origin>) -> String {
    let style = Style { color: false, width: 100, verbose: false };
    render((&probe()).into(), format, &View { style, origin, host_name: "node1".to_owned(), beside: &[] }).unwrap()
}

#[test]
fn a_table_has_consequences_under_their_root() {
    let table = drawn(Format::Table, None);
    let at = |text: &str| table.find(text).unwrap_or_else(|| panic!("{text} in {table}"));
    assert!(at("  FAIL RD-0204") < at("    FAIL RD-0301") && at("    FAIL RD-0301") < at("FAIL devices and ports"));
    assert!(!table.contains("RD-0213"), "{table}");
    assert!(table.contains("1 failure, 1 warning, 1 consequence"), "{table}");
}

#[test]
fn each_format_says_what_is_wrong_and_escapes_it() {
    let junit = drawn(Format::Junit, None);
    assert!(junit.contains("RD-0204") && junit.contains("&lt;sure&gt;") && junit.contains("failures=\"2\""), "{junit}");
    let github = drawn(Format::Github, None);
    assert!(github.contains("::error title=RD-0204 mlx5_ib::") && github.contains("100%25") && !github.contains("RD-0213"), "{github}");
    assert!(github.contains("::notice title=RD-0301 host::") && github.contains("::warning title=RD-0408 host::"), "{github}");
    let prometheus = drawn(Format::Prometheus, None);
    assert!(prometheus.contains("rdmadoctor_finding{id=\"RD-0204\",subject=\"mlx5_ib\",status=\"fail\"} 1"), "{prometheus}");
    assert!(prometheus.contains("rdmadoctor_verdict{verdict=\"fail\"} 1") && !prometheus.contains("RD-0301"), "{prometheus}");
    let markdown = drawn(Format::Markdown, None);
    assert!(markdown.contains("absent \\| gone") && markdown.contains("modprobe mlx5_ib") && markdown.contains("* RD-0301"), "{markdown}");
}

#[test]
fn pairs_are_lines_of_figures() {
    let cell = |path, bytes_per_second, is_right| PairCell {
        gpu: "0000:1b:00.0".to_owned(),
        device: "mlx5_0".to_owned(),
        operation: Operation::Write,
        path,
        bytes_per_second,
        is_right,
        reason: None,
        causes: Vec::new(),
    };
    let cells = vec![cell(Path::Dmabuf, Spread::of(&[1e9]), Some(true)), cell(Path::Peermem, None, None)];
    let document = Pairs { size_bytes: 4096, cells, ..Pairs::default() };
    let style = Style { color: false, width: 100, verbose: false };
    let view = View { style, origin: None, host_name: String::new(), beside: &[] };
    let csv = render((&document).into(), Format::Csv, &view).unwrap();
    let lines: Vec<&str> = csv.lines().skip(1).collect();
    assert_eq!(
        lines,
        [
            "0000:1b:00.0,mlx5_0,write,dmabuf,4096,1000000000.0,1000000000.0,1000000000.0,verified",
            "0000:1b:00.0,mlx5_0,write,peermem,4096,,,,not compared",
        ]
    );
}

#[test]
fn every_format_says_which_host_it_is_of() {
    let origin = Origin::Model(Modelled { name: "erdma-a10x8".to_owned(), doubts: Vec::new(), has_local_gpus: false });
    for format in Format::of_command("probe") {
        let text = drawn(format, Some(&origin));
        assert!(text.contains("erdma-a10x8"), "{format:?}: {text}");
        assert!(!drawn(format, None).contains("erdma-a10x8"), "{format:?}");
    }
}

#[test]
fn a_command_offers_what_its_documents_have() {
    let names = |command: &str| Format::of_command(command).into_iter().map(Format::name).collect::<Vec<_>>().join(" ");
    assert_eq!(names("bw"), "table json csv");
    assert_eq!(names("probe"), "table json junit github prometheus markdown html");
    assert_eq!(names("preflight"), "table json junit github markdown html");
    assert_eq!(
        (names("profile"), names("profile check"), names("profile exec")),
        ("table json".to_owned(), "table json".to_owned(), String::new())
    );
    assert_eq!((names("report"), names("man")), ("html".to_owned(), String::new()));
    // Which of a command's documents is printed, the rest of its arguments says; what it offers must not depend on that.
    for (format, kind) in Format::all().flat_map(|format| Kind::ALL.iter().map(move |kind| (format, *kind))) {
        for command in kind.commands() {
            let is_offered = Format::of_command(command).contains(&format);
            assert_eq!(format.renderer().documents().contains(&kind), is_offered, "{format:?} of {kind:?}");
        }
    }
}
