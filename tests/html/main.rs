//! The HTML reports in a real browser: they load without complaint and from nowhere else, the filter works, the colours can be read, and
//! nothing that a host says is run. `make screenshots` keeps pictures of them in docs/.

mod browser;

use std::path::{Path, PathBuf};

use assert_cmd::cargo::CommandCargoExt as _;
use browser::Browser;

/// What rdmadoctor prints.
fn rdmadoctor(arguments: &[&str]) -> Vec<u8> {
    let output = std::process::Command::cargo_bin("rdmadoctor").unwrap().args(arguments).output().unwrap();
    assert!(output.status.code().is_some_and(|code| code < 2), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A file of what rdmadoctor prints.
fn saved(dir: &Path, name: &str, arguments: &[&str]) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, rdmadoctor(arguments)).unwrap();
    path
}

/// A page of what rdmadoctor prints, loaded.
fn page(dir: &Path, arguments: &[&str]) -> Browser {
    let mut browser = Browser::open(&saved(dir, "page.html", arguments));
    assert_eq!(browser.complaints, [""; 0]);
    assert_eq!(browser.evaluate("document.scripts.length"), 1);
    browser
}

/// Keeps a picture in docs/ where that is asked for.
fn keep(browser: &mut Browser, name: &str, (width, height): (u32, u32)) {
    let picture = browser.screenshot(width, height);
    if std::env::var_os("RDMADOCTOR_WRITE_SCREENSHOTS").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
        let decoded =
            std::process::Command::new("sh").args(["-c", "base64 -d > \"$0\""]).arg(path).stdin(std::process::Stdio::piped()).spawn();
        let mut child = decoded.unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), picture.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }
}

/// Text and backgrounds whose contrast is below 4.5 to 1 (WCAG 2.1, success criterion 1.4.3), by the formulas of that document.
const CONTRAST: &str = r#"
(() => {
  const numbers = (text) => text.match(/[\d.]+/g).map(Number);
  const linear = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const background = (element) => {
    for (; element; element = element.parentElement) {
      const color = numbers(getComputedStyle(element).backgroundColor);
      if (color.length === 3 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  const poor = new Set();
  for (const element of document.querySelectorAll("body *:not(svg, svg *, script)")) {
    if (![...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim())) continue;
    const [one, other] = [luminance(numbers(getComputedStyle(element).color)), luminance(background(element))].sort((a, b) => b - a);
    if ((one + 0.05) / (other + 0.05) < 4.5) poor.add(`${element.tagName}.${element.className}: ${(one + 0.05) / (other + 0.05)}`);
  }
  return [...poor].join("\n");
})()"#;

/// Headings that skip a level, and tables without a head.
const STRUCTURE: &str = r#"
(() => {
  const wrong = [];
  let level = 0;
  for (const heading of document.querySelectorAll("h1, h2, h3, h4")) {
    const own = Number(heading.tagName[1]);
    if (own > level + 1) wrong.push(heading.textContent);
    level = own;
  }
  for (const table of document.querySelectorAll("table:not(:has(thead))")) wrong.push(table.outerHTML);
  for (const svg of document.querySelectorAll("svg:not([aria-label])")) wrong.push(svg.outerHTML);
  return wrong.join("\n");
})()"#;

fn is_readable(browser: &mut Browser) {
    for (medium, scheme) in [("screen", "dark"), ("print", "light"), ("screen", "light")] {
        browser.media(medium, scheme);
        assert_eq!(browser.evaluate(CONTRAST), "", "{medium}, {scheme}");
    }
    assert_eq!(browser.evaluate(STRUCTURE), "");
}

/// How many findings of a status are to be seen.
fn visible(browser: &mut Browser, status: &str) -> u64 {
    browser
        .evaluate(&format!(
            "[...document.querySelectorAll('[data-status={status}]')].filter((finding) => finding.checkVisibility()).length"
        ))
        .as_u64()
        .unwrap()
}

#[test]
fn findings_can_be_filtered() {
    let dir = tempfile::tempdir().unwrap();
    let mut browser = page(dir.path(), &["--host-model", "erdma-a10x8", "--format", "html", "probe", "--engine", "dlslime@0.0.1.post7"]);
    // The two causes, one with its consequence; devices alike are told once.
    assert_eq!((visible(&mut browser, "fail"), visible(&mut browser, "pass")), (3, 0));
    let fits = browser.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth");
    assert_eq!(fits, true);
    keep(&mut browser, "report-incident.png", (1000, 900));
    browser.evaluate("document.querySelector('[data-shows=pass]').click()");
    assert!(visible(&mut browser, "pass") > 50);
    browser.evaluate("document.querySelector('[data-shows=fail]').click()");
    assert_eq!(visible(&mut browser, "fail"), 0);
    browser.evaluate("document.querySelector('[data-shows=fail]').click()");
    assert_eq!(visible(&mut browser, "fail"), 3);
    is_readable(&mut browser);
    assert_eq!(browser.evaluate("document.querySelectorAll('svg .gpu').length"), 8);
    assert_eq!(browser.complaints, [""; 0]);
}

#[test]
fn a_healthy_host_shows_its_tree() {
    let dir = tempfile::tempdir().unwrap();
    let mut browser = page(dir.path(), &["--host-model", "h100x8-cx7", "--format", "html", "probe", "--engine", "nccl"]);
    assert_eq!(
        (visible(&mut browser, "fail"), browser.evaluate("document.querySelector('.verdict .badge').textContent")),
        (0, "pass".into())
    );
    is_readable(&mut browser);
    browser.media("screen", "dark");
    keep(&mut browser, "report-healthy.png", (1000, 900));
}

#[test]
fn limits_are_drawn() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = [
        "--host-model",
        "h100x8-cx7",
        "--format",
        "html",
        "qp-matrix",
        "mlx5_0",
        "--bounds",
        "--engine",
        "all",
        "--grid",
        "max_send_wr=16,8192",
        "max_send_sge=1,40",
    ];
    let mut browser = page(dir.path(), &arguments);
    assert_eq!(browser.evaluate("document.querySelectorAll('svg .frontier').length"), 2);
    // Each engine's queue pair is a point in each plane.
    assert!(browser.evaluate("document.querySelectorAll('svg circle.mark-granted').length").as_u64().unwrap() > 20);
    assert_eq!(browser.evaluate("document.querySelectorAll('td.heat.refused').length"), 1);
    is_readable(&mut browser);
    keep(&mut browser, "report-limits.png", (1200, 1250));
    let mut browser =
        page(dir.path(), &["--host-model", "erdma-a10x8", "--format", "html", "qp-matrix", "--engine", "dlslime@0.0.1.post7"]);
    assert_eq!(browser.evaluate("document.querySelector('td.hit').textContent"), "4 → 1");
    is_readable(&mut browser);
}

#[test]
fn engines_and_families_are_a_plane() {
    let dir = tempfile::tempdir().unwrap();
    let mut browser = page(dir.path(), &["--format", "html", "compat"]);
    assert!(browser.evaluate("document.querySelectorAll('td.heat').length").as_u64().unwrap() > 100);
    is_readable(&mut browser);
}

#[test]
fn the_gate_shows_its_steps_and_charts() {
    let dir = tempfile::tempdir().unwrap();
    let gate = ["-q", "preflight", "--engine", "dlslime@0.0.1.post7", "--duration", "5ms", "--time-budget", "10m"];
    let arguments = |host: &'static str| [&["--host-model", host, "--format", "html"], &gate[..]].concat();
    let mut browser = page(dir.path(), &arguments("erdma-a10x8"));
    assert_eq!(browser.evaluate("document.querySelector('.verdict .badge').textContent"), "fail");
    // Both of each device.
    assert_eq!(browser.evaluate("document.querySelectorAll('figure svg').length"), 4);
    assert!(browser.evaluate("document.querySelectorAll('figure circle').length").as_u64().unwrap() >= 8);
    is_readable(&mut browser);
    browser.media("screen", "light");
    keep(&mut browser, "report-preflight.png", (1100, 900));
    browser.evaluate("document.querySelector('.charts').scrollIntoView()");
    keep(&mut browser, "report-charts.png", (1100, 700));
}

#[test]
fn saved_measurements_are_drawn() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for (name, command) in [("one", "ping"), ("one", "bw"), ("other", "bw")] {
        let words = ["--host-model", "e810", "--format", "json", "-q", command, "--duration", "5ms", "--sizes", "64,1k,64k"];
        files.push(saved(dir.path(), &format!("{name}.{command}.json"), &words).display().to_string());
    }
    let arguments: Vec<&str> = std::iter::once("report").chain(files.iter().map(String::as_str)).collect();
    let mut browser = page(dir.path(), &arguments);
    assert_eq!(browser.evaluate("document.querySelectorAll('figure svg').length"), 3);
    assert_eq!(browser.evaluate("document.querySelectorAll('polyline').length"), 12);
    is_readable(&mut browser);
}

#[test]
fn hosts_stand_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for host in ["erdma-a10x8", "h100x8-cx7"] {
        for command in ["probe", "devices", "topo"] {
            let path = saved(dir.path(), &format!("{host}.{command}.json"), &["--host-model", host, "--format", "json", command]);
            files.push(path.to_str().unwrap().to_owned());
        }
    }
    let arguments: Vec<&str> = std::iter::once("report").chain(files.iter().map(String::as_str)).collect();
    let mut browser = page(dir.path(), &arguments);
    assert_eq!(
        browser.evaluate("[...document.querySelectorAll('main > section > h2')].map((head) => head.textContent).join(' ')"),
        "Side by side erdma-a10x8 h100x8-cx7"
    );
    let differs = browser.evaluate("document.querySelector('main > section table').textContent");
    assert!(differs.as_str().unwrap().contains("RDMA deviceserdma_0 erdma_1mlx5_0"), "{differs}");
    is_readable(&mut browser);
}

/// Runs where it gets, and can be found.
const PLANTED: &str =
    "</title></code></script><script>window.owned = 1</script><img src=x onerror='window.owned = 1'>\"'><svg onload=\"window.owned = 1\">";

fn runs_nothing(browser: &mut Browser) {
    assert_eq!(browser.evaluate("typeof window.owned"), "undefined");
    assert_eq!(browser.evaluate("document.querySelectorAll('img, [onload], [onerror]').length"), 0);
    assert!(browser.evaluate("document.body.textContent").as_str().unwrap().contains("window.owned = 1"), "it should be shown as text");
    assert_eq!(browser.complaints, [""; 0]);
}

#[test]
fn what_a_host_says_is_not_run() {
    let dir = tempfile::tempdir().unwrap();
    let host = serde_json::json!({
        "schema": "rdmadoctor/host/1", "name": "hostile", "title": "a host that wants to run something", "extends": "erdma-a10x8",
        "files": {"/sys/module/erdma/parameters/compat_mode": PLANTED},
        "kernel_log": [format!("NVRM: Xid (PCI:0000:40:00): 79, pid=1, {PLANTED}")],
    });
    let path = dir.path().join("hostile.yaml");
    std::fs::write(&path, host.to_string()).unwrap();
    let mut browser = page(dir.path(), &["--host-model", path.to_str().unwrap(), "--format", "html", "probe"]);
    runs_nothing(&mut browser);
}

#[test]
fn what_a_document_says_is_not_run() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = vec!["report".to_owned()];
    for command in ["probe", "devices", "topo", "qp-matrix", "ping", "bw"] {
        let text = String::from_utf8(rdmadoctor(&["--host-model", "erdma-a10x8", "--format", "json", "-q", command])).unwrap();
        let mut document: serde_json::Value = serde_json::from_str(&text).unwrap();
        plant(&mut document, "");
        let path = dir.path().join(format!("{command}.json"));
        std::fs::write(&path, document.to_string()).unwrap();
        files.push(format!("<script>alert(1)</script>={}", path.display()));
    }
    let arguments: Vec<&str> = files.iter().map(String::as_str).collect();
    let mut browser = page(dir.path(), &arguments);
    runs_nothing(&mut browser);
}

/// Puts it wherever a document has text that is not one of a few words.
fn plant(value: &mut serde_json::Value, key: &str) {
    // Texts that stand for a choice, and would not be read otherwise.
    const CHOICES: [&str; 19] = [
        "schema",
        "status",
        "level",
        "action",
        "state",
        "affinity",
        "kind",
        "class",
        "result",
        "parameter",
        "over",
        "qp_type",
        "connect",
        "port_type",
        "operation",
        "completion",
        "buffer",
        "transport",
        "step",
    ];
    match value {
        serde_json::Value::String(text) if !CHOICES.contains(&key) => *text = format!("{text}{PLANTED}"),
        serde_json::Value::Array(items) => items.iter_mut().for_each(|item| plant(item, key)),
        serde_json::Value::Object(fields) => fields.iter_mut().for_each(|(key, item)| plant(item, key)),
        _ => {}
    }
}
