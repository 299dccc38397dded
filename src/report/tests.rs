//! Each format of the same documents.

use rdmadoctor_types::Word;

use super::*;
use crate::bench::{PairCell, Pairs, Spread};
use crate::checks::{Action, Counts, Finding, Probe, Status};
use crate::facts::Level;
use crate::gpu::Path;
use crate::preflight::Preflight;
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

/// A finding of each status, alone, as a consequence, and suppressed.
fn of_each_status() -> Probe {
    let mut findings = Vec::new();
    for status in Status::ALL {
        let finding = |subject: &str| {
            let made = Finding::pass(format!("{subject}-{status}"), format!("title of {subject}-{status}"));
            Finding { id: "RD-0204".to_owned(), status, ..made.saw("/proc/x", "seen") }
        };
        let mut consequence = finding("follows");
        consequence.because = Some("RD-0204/alone-fail".to_owned());
        let mut suppressed = finding("left");
        suppressed.suppressed = Some(format!("reason of left-{status}"));
        findings.extend([finding("alone"), consequence, suppressed]);
    }
    Probe { findings, ..probe() }
}

fn drawn_of(document: Document<'_>, format: Format) -> String {
    let style = Style { color: false, width: 100, verbose: false };
    render(document, format, &View { style, origin: None, host_name: "node1".to_owned(), beside: &[] }).unwrap()
}

/// The element of JUnit's XML that a test case with this in its name has.
fn case_of<'a>(xml: &'a str, name: &str) -> &'a str {
    let start = xml.find(&format!("<testcase name=\"{name}\"")).unwrap_or_else(|| panic!("{name} in {xml}"));
    let rest = &xml[start..];
    let opening = rest.find('>').unwrap();
    if rest[..opening].ends_with('/') { &rest[..=opening] } else { &rest[..rest.find("</testcase>").unwrap()] }
}

/// Which of the elements that tell a status a test case has.
fn told_by(case: &str) -> Vec<&'static str> {
    ["failure", "error", "skipped"].into_iter().filter(|element| case.contains(&format!("<{element}"))).collect()
}

#[test]
fn junit_has_an_element_for_each_status_and_counts_them() {
    let probe = of_each_status();
    let xml = drawn_of((&probe).into(), Format::Junit);
    for (status, elements) in [
        (Status::Pass, &[][..]),
        (Status::Warn, &[]),
        (Status::Fail, &["failure"]),
        (Status::Skip, &["skipped"]),
        (Status::Error, &["error"]),
    ] {
        for subject in ["alone", "follows"] {
            let case = case_of(&xml, &format!("RD-0204 {subject}-{status}"));
            assert_eq!(told_by(case), elements, "{case}");
            // A warning passes and says what it is; what passed says nothing.
            assert_eq!(case.contains("<system-out>"), status == Status::Warn, "{case}");
            assert_eq!(case.contains(&format!("title of {subject}-{status}")), status != Status::Pass, "{case}");
        }
        // What the policy does not count is no failure, and says why.
        let case = case_of(&xml, &format!("RD-0204 left-{status}"));
        let is_left = status.is_bad() || status == Status::Skip;
        assert_eq!(told_by(case), if is_left { &["skipped"][..] } else { &[] }, "{case}");
        assert_eq!(case.contains(&format!("message=\"reason of left-{status}\"")), is_left, "{case}");
    }
    let suite = &xml[xml.find("<testsuite name").unwrap()..];
    let head = &suite[..suite.find('>').unwrap()];
    // Of 15: two of each status, and of those that are left out one each of warn, fail, error and skip.
    for count in ["tests=\"15\"", "failures=\"2\"", "errors=\"2\"", "skipped=\"6\""] {
        assert!(head.contains(count), "{count}: {head}");
    }
}

#[test]
fn github_has_a_command_for_each_status_that_is_bad() {
    let probe = of_each_status();
    let text = drawn_of((&probe).into(), Format::Github);
    for (status, command) in [
        (Status::Pass, None),
        (Status::Skip, None),
        (Status::Warn, Some("warning")),
        (Status::Fail, Some("error")),
        (Status::Error, Some("error")),
    ] {
        let line = |subject: &str| {
            let lines: Vec<&str> = text.lines().filter(|line| line.contains(&format!("RD-0204 {subject}-{status}::"))).collect();
            assert!(lines.len() <= 1, "{text}");
            lines.first().map(|line| line[2..].split(' ').next().unwrap())
        };
        assert_eq!(line("alone"), command, "{text}");
        // A consequence is told, and its cause is the error.
        assert_eq!(line("follows"), command.map(|_| "notice"), "{text}");
        assert_eq!(line("left"), None, "{text}");
    }
}

fn empty_gate() -> Preflight {
    Preflight {
        schema: schema::PREFLIGHT.to_owned(),
        verdict: Word::Known(Status::Fail),
        created: "2027-01-01T00:00:00Z".to_owned(),
        tool_version: "0".to_owned(),
        host_name: "node1".to_owned(),
        fingerprint: Vec::new(),
        steps: Vec::new(),
        probe: None,
        qp_matrix: None,
        devices: None,
        topo: None,
        measured: Vec::new(),
        profile: None,
        comparison: None,
        time_budget_us: 60_000_000,
        elapsed_us: 0,
        stopped: None,
    }
}

#[test]
fn steps_of_a_gate_have_an_element_and_a_command_for_each_status() {
    use crate::preflight::{Step, StepName};
    let step = |step: StepName, status: Status| Step {
        step,
        subject: Some(format!("{}-{status}", step.name())),
        status,
        summary: format!("summary of {}-{status}", step.name()),
        is_missing: false,
        elapsed_us: 1_500_000,
    };
    let steps = Status::ALL.into_iter().flat_map(|status| [step(StepName::Ping, status), step(StepName::Profile, status)]).collect();
    let gate = Preflight { steps, ..empty_gate() };
    let (xml, text) = (drawn_of((&gate).into(), Format::Junit), drawn_of((&gate).into(), Format::Github));
    for (status, elements) in [
        (Status::Pass, &[][..]),
        (Status::Warn, &[]),
        (Status::Fail, &["failure"]),
        (Status::Skip, &["skipped"]),
        (Status::Error, &["error"]),
    ] {
        for name in ["ping", "profile"] {
            let case = case_of(&xml, &format!("{name} {name}-{status}"));
            assert_eq!(told_by(case), elements, "{case}");
            assert_eq!(case.contains("<system-out>"), elements.is_empty(), "{case}");
            assert!(case.contains(&format!("summary of {name}-{status}")) && case.contains("time=\"1.500\""), "{case}");
        }
        // Checks tell what went wrong with a ping; nothing else tells of the profile.
        let is_told = |name: &str| text.contains(&format!("::error title={name} {name}-{status}::summary of {name}-{status}\n"));
        assert_eq!((is_told("ping"), is_told("profile")), (false, matches!(status, Status::Fail | Status::Error)), "{text}");
    }
    let head = &xml[xml.find("<testsuite name").unwrap()..];
    for count in ["tests=\"10\"", "failures=\"2\"", "errors=\"2\"", "skipped=\"2\""] {
        assert!(head[..head.find('>').unwrap()].contains(count), "{count}: {head}");
    }
    let missing = Preflight { steps: vec![Step { is_missing: true, ..step(StepName::Bw, Status::Skip) }], ..gate };
    let text = drawn_of((&missing).into(), Format::Github);
    assert!(text.contains("::warning title=bw bw-skip::summary of bw-skip\n"), "{text}");
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

/// Every figure of its own, so that none can stand for its neighbour.
#[test]
fn each_figure_stands_under_its_own_head() {
    let latencies = crate::bench::Latencies {
        samples: 11,
        min_us: 1.0,
        p50_us: 2.0,
        p90_us: 3.0,
        p99_us: 4.0,
        p999_us: 5.0,
        max_us: 6.0,
        mean_us: 7.0,
        deviation_us: 8.0,
    };
    let ping: crate::bench::BenchReport<crate::bench::LatencyResult> = serde_json::from_value(serde_json::json!({
        "schema": "", "connection": null, "notices": [], "problems": [], "stopped": null,
        "results": [{"operation": "write", "memory": "host", "size_bytes": 64, "inline": false, "completion": "poll",
            "is_half_round_trip": true, "latencies": latencies, "p50_us": null, "verification": null, "counters": [], "failure": null}]
    }))
    .unwrap();
    let csv = drawn_of((&ping).into(), Format::Csv);
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines[0], "operation,size_bytes,samples,min_us,p50_us,p90_us,p99_us,p999_us,max_us,mean_us,deviation_us,verified");
    assert!(lines[1].starts_with("write,64,11,1,2,3,4,5,6,7,8,"), "{csv}");

    let at_once: crate::bench::AtOnce = serde_json::from_value(serde_json::json!({
        "schema": "", "alone": [], "notices": [], "problems": [], "stopped": null,
        "together": [{"operation": "write", "size_bytes": 64, "buffer": "hot", "alone_bytes_per_second": 9.0,
            "together_bytes_per_second": Spread::of(&[8.0]), "kept_percent": 7.0,
            "devices": [{"device": "mlx5_0", "completion": "poll", "alone_bytes_per_second": 2.0, "together_bytes_per_second": 1.0}]}]
    }))
    .unwrap();
    let csv = drawn_of((&at_once).into(), Format::Csv);
    assert_eq!(csv, "operation,buffer,size_bytes,device,alone_bytes_per_second,together_bytes_per_second\nwrite,hot,64,mlx5_0,2.0,1.0\n");

    let counts = Counts { pass: 1, warn: 2, fail: 3, skip: 4, error: 5, consequences: 6, suppressed: 7 };
    let probe = Probe { counts, ..probe() };
    let text = drawn_of((&probe).into(), Format::Prometheus);
    for (status, number) in [("pass", 1), ("warn", 2), ("fail", 3), ("skip", 4), ("error", 5)] {
        assert!(text.contains(&format!("rdmadoctor_findings{{status=\"{status}\"}} {number}\n")), "{text}");
    }
    assert!(text.contains("rdmadoctor_probe_duration_seconds 1.5\n"), "{text}");
    for (verdict, is) in [("pass", 0), ("warn", 0), ("fail", 1)] {
        assert!(text.contains(&format!("rdmadoctor_verdict{{verdict=\"{verdict}\"}} {is}\n")), "{text}");
    }
}

#[test]
fn a_change_says_what_was_and_what_is() {
    use crate::preflight::{Change, ChangeKind};
    let told = |was: Option<&str>, is: Option<&str>| {
        let [was, is] = [was, is].map(|text| text.map(str::to_owned));
        gate::told(&Change { kind: ChangeKind::Worse, what: "x".to_owned(), was, is })
    };
    assert_eq!(told(Some("a"), Some("b")), "x: was a, is b");
    assert_eq!(told(Some("a"), None), "x: was a, is gone");
    assert_eq!(told(None, Some("b")), "x: new: b");
    assert_eq!([ChangeKind::Worse, ChangeKind::Other, ChangeKind::Better].map(gate::kind), ["worse", "other", "better"]);
}

#[test]
fn the_worst_is_of_what_the_policy_counts() {
    let probe = of_each_status();
    let worst = |of: &[Status], with_left: bool| {
        let is_of = |finding: &&Finding| of.contains(&finding.status) && (with_left || finding.suppressed.is_none());
        findings::worst(&probe.findings.iter().filter(is_of).collect::<Vec<_>>())
    };
    use Status::{Error, Fail, Pass, Skip, Warn};
    assert_eq!(worst(&[Pass, Warn, Fail, Skip, Error], true), Error);
    assert_eq!(worst(&[Pass, Warn, Fail, Skip], true), Fail);
    assert_eq!(
        (worst(&[Pass, Warn, Skip], true), worst(&[Pass, Skip], true), worst(&[Skip], true), worst(&[], true)),
        (Warn, Pass, Skip, Skip)
    );
    let left: Vec<&Finding> = probe.findings.iter().filter(|finding| finding.suppressed.is_some() || finding.status == Pass).collect();
    assert_eq!(findings::worst(&left), Pass);
    assert_eq!(findings::summary(&left), "2 passed");
    let all: Vec<&Finding> = probe.findings.iter().collect();
    assert_eq!(findings::summary(&all), "2 failed, 2 broken, 2 to look at, 2 passed, 2 skipped");
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

/// Whatever came in by a way that nobody thought of.
#[test]
fn no_format_shows_what_would_move_a_cursor() {
    const HOSTILE: &str = "a\u{1b}[2Jb\u{9b}c\u{202e}d\re";
    let finding = Finding { id: "RD-0204".to_owned(), ..Finding::fail(HOSTILE, HOSTILE).saw(HOSTILE, HOSTILE) };
    let mut made = Probe { findings: vec![finding], next_commands: vec![HOSTILE.to_owned()], ..probe() };
    for format in [Format::Table, Format::Json, Format::Junit, Format::Github, Format::Prometheus, Format::Markdown, Format::Html] {
        let drawn = drawn_of((&made).into(), format);
        let hidden = drawn.chars().find(|letter| letter.is_control() && *letter != '\n' || *letter == '\u{202e}');
        assert_eq!(hidden, None, "{}: {drawn}", format.name());
        if format == Format::Json {
            let document: serde_json::Value = serde_json::from_str(&drawn).unwrap();
            assert_eq!(document["findings"][0]["subject"], HOSTILE);
        }
    }
    // Colours are ours, and nothing else is.
    made.findings[0].title = "\u{1b}[2J\u{1b}]0;x\u{7}".to_owned();
    let style = Style { color: true, width: 100, verbose: false };
    let drawn = render((&made).into(), Format::Table, &View { style, origin: None, host_name: "node1".to_owned(), beside: &[] }).unwrap();
    assert!(drawn.contains("\u{1b}[1;31m") && !drawn.contains("\u{1b}[2J") && !drawn.contains("\u{1b}]"), "{drawn:?}");
}

#[test]
fn markdown_and_comments_are_not_left() {
    let hostile = "`` a | b <b> [x](y) *c* --> --- ``` ~~d~~ \\` &lt;";
    let finding = Finding::fail(hostile, hostile).saw(hostile, hostile).remedy(Action::Tune, hostile, &["echo '```'"]);
    let made = Probe { findings: vec![Finding { id: "RD-0204".to_owned(), ..finding }], ..probe() };
    let markdown = drawn_of((&made).into(), Format::Markdown);
    assert!(markdown.contains("## fail RD-0204 ``` `` a | b") || markdown.contains("```` `` a | b"), "{markdown}");
    assert!(
        markdown.contains("| \\`\\` a \\| b &lt;b> \\[x\\](y) \\*c\\* --> --- \\`\\`\\` \\~\\~d\\~\\~ \\\\\\` &amp;lt; |"),
        "{markdown}"
    );
    assert!(markdown.contains("\n````sh\necho '```'\n````\n"), "{markdown}");
    let captured = Captured {
        file: String::new(),
        created: "a-->b----c".to_owned(),
        tool_version: String::new(),
        level: "deep".to_owned(),
        is_redacted: false,
        host_name: None,
        host_model: None,
    };
    let junit = drawn(Format::Junit, Some(&Origin::Capture(captured.clone())));
    let comment = &junit[junit.find("<!--").unwrap() + 4..];
    assert!(!comment[..comment.find("-->").unwrap()].contains("--") && comment.contains("a- ->b- - - -c"), "{junit}");
    let github = drawn(Format::Github, Some(&Origin::Capture(Captured { created: "50%\r\n::error::x".to_owned(), ..captured })));
    assert!(github.starts_with("::notice::") && !github.lines().any(|line| line.starts_with("::error::x")), "{github}");
}

#[test]
fn a_name_in_a_line_of_figures_is_one_field() {
    use super::csv::field;
    for (name, expected) in [("mlx5_0", "mlx5_0"), ("a,b", "\"a,b\""), ("a\"b\n", "\"a\"\"b\n\""), ("=1+1", "'=1+1"), ("@x,", "\"'@x,\"")] {
        assert_eq!(field(name), expected);
    }
}

/// A gate brings its own parts, so a page on which one of them lies already has no room for it, nor for another gate.
#[test]
fn a_gate_is_laid_where_nothing_of_it_lies() {
    use crate::devices::Devices;
    use crate::facts::Topo;
    use crate::host::topo::Topology;
    use crate::qp::QpMatrix;
    let gate = empty_gate();
    let page = || html::HostPage::of("node1".to_owned(), None);
    let devices = Devices { schema: String::new(), devices: Vec::new(), problems: Vec::new() };
    let topo = Topo { schema: String::new(), topology: Topology::default(), problems: Vec::new() };
    let matrix: QpMatrix = serde_json::from_value(serde_json::json!({"schema": schema::QP_MATRIX, "devices": [], "problems": []})).unwrap();
    let probe = probe();
    for part in [Document::from(&probe), (&devices).into(), (&topo).into(), (&matrix).into(), (&gate).into()] {
        let mut host = page();
        assert!(host.lay(part) && !host.lay((&gate).into()), "{}", part.kind().schema());
    }
    let mut whole = page();
    assert!(whole.lay((&Preflight { probe: Some(probe.clone()), ..empty_gate() }).into()) && !whole.lay((&probe).into()));
}
