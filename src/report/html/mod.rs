//! Reports as one HTML file: no network, light and dark, printable. Everything that a host said is escaped by the template engine, and a
//! content security policy lets no other script run than the one that is built in here.

mod charts;
mod compare;
mod compat;
mod findings;
mod matrix;
mod plane;
mod preflight;
mod tables;
mod topology;

use std::io;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{Document, Kind, Origin, Renderer, View};
use crate::bench::{BandwidthResult, BenchReport, LatencyResult};
use crate::checks::Probe;
use crate::compat::Compat;
use crate::devices::Devices;
use crate::facts::Topo;
use crate::preflight::Preflight;
use crate::qp::QpMatrix;
use crate::text;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// SHA-256 of the script, as a content security policy names it (CSP level 3, section 2.3.1). A test says what it should be.
const SCRIPT_HASH: &str = "sha256-lLi6iMWbCF2hMZnv2L6/lQBcdZZ5YSvt7GjTwwUo9uo=";

/// The documents that a page has room for; those of one host lie together.
pub(crate) const PARTS: [Kind; 8] =
    [Kind::Probe, Kind::QpMatrix, Kind::Devices, Kind::Topo, Kind::Compat, Kind::Ping, Kind::Bw, Kind::Preflight];

pub(super) struct Html;

impl Renderer for Html {
    fn documents(&self) -> &'static [Kind] {
        &[Kind::Probe, Kind::Preflight, Kind::QpMatrix, Kind::Compat]
    }

    fn draw(&self, document: Document<'_>, view: &View<'_>) -> io::Result<Option<String>> {
        if !self.documents().contains(&document.kind()) {
            return Ok(None);
        }
        let name = match document {
            // It is about no host.
            Document::Compat(_) => "engines on device families".to_owned(),
            _ => view.host_name.clone(),
        };
        let mut host = HostPage::of(name, view.origin.cloned());
        for part in std::iter::once(&document).chain(view.beside) {
            host.lay(*part);
        }
        Ok(Some(page(vec![host])))
    }

    /// Each host's part says it.
    fn marked(&self, text: String, _: &str) -> String {
        text
    }
}

/// What is known of these hosts, as a file that is made now.
pub(crate) fn page(hosts: Vec<HostPage>) -> String {
    let created = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string();
    text::lines(&Page { created, hosts }.render()).into_owned()
}

/// What one file shows.
struct Page {
    /// When it was made.
    created: String,
    /// Hosts, in the order of the report.
    hosts: Vec<HostPage>,
}

/// What is known of one host. What was not asked is absent.
#[derive(Default)]
pub(crate) struct HostPage {
    /// Its name, or that of the file that told of it.
    pub name: String,
    /// What it is, if not the machine that made the page.
    pub origin: Option<Origin>,
    probe: Option<Probe>,
    devices: Option<Devices>,
    topo: Option<Topo>,
    matrix: Option<QpMatrix>,
    /// About no host.
    compat: Option<Compat>,
    pings: Vec<BenchReport<LatencyResult>>,
    bws: Vec<BenchReport<BandwidthResult>>,
    /// The whole gate; what it holds is laid into the other parts before it is drawn.
    preflight: Option<Preflight>,
}

impl HostPage {
    /// An empty one.
    pub(crate) fn of(name: String, origin: Option<Origin>) -> Self {
        Self { name, origin, ..Self::default() }
    }

    /// Lays a document where it belongs. `false` where its place is taken, or the page has none for it.
    pub(crate) fn lay(&mut self, document: Document<'_>) -> bool {
        match document {
            Document::Probe(document) => put(&mut self.probe, document),
            Document::QpMatrix(document) => put(&mut self.matrix, document),
            Document::Devices(document) => put(&mut self.devices, document),
            Document::Topo(document) => put(&mut self.topo, document),
            Document::Compat(document) => put(&mut self.compat, document),
            Document::Ping(document) => {
                self.pings.push(document.clone());
                true
            }
            Document::Bw(document) => {
                self.bws.push(document.clone());
                true
            }
            Document::Preflight(document) => self.lay_gate(document.clone()),
            _ => false,
        }
    }

    /// Lays a gate's parts where they belong; it brings its own, so that nothing else of them may be there.
    fn lay_gate(&mut self, mut document: Preflight) -> bool {
        if self.probe.is_some() || self.matrix.is_some() || self.devices.is_some() || self.topo.is_some() || self.preflight.is_some() {
            return false;
        }
        self.probe = document.probe.take();
        self.devices = document.devices.take();
        self.topo = document.topo.take();
        self.matrix = document.qp_matrix.take();
        for measured in &mut document.measured {
            self.pings.extend(measured.ping.take());
            self.bws.extend(measured.bw.take());
        }
        self.preflight = Some(document);
        true
    }
}

fn put<D: Clone>(place: &mut Option<D>, document: &D) -> bool {
    let is_free = place.is_none();
    if is_free {
        *place = Some(document.clone());
    }
    is_free
}

impl Page {
    /// The whole file.
    fn render(&self) -> String {
        let names: Vec<&str> = self.hosts.iter().map(|host| host.name.as_str()).collect();
        let title = format!("rdmadoctor: {}", names.join(", "));
        let policy = format!(
            "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src '{SCRIPT_HASH}'; base-uri 'none'; form-action 'none'"
        );
        let has_findings = self.hosts.iter().any(|host| host.probe.is_some());
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta http-equiv="Content-Security-Policy" content=(policy);
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="generator" content=(concat!("rdmadoctor ", env!("CARGO_PKG_VERSION")));
                    // Without an icon of its own a browser asks a server for one.
                    link rel="icon" href="data:,";
                    title { (title) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    header {
                        h1 { "rdmadoctor" }
                        p.muted { "made " (self.created) " by rdmadoctor " (env!("CARGO_PKG_VERSION")) }
                        @if self.hosts.len() > 1 { (compare::contents(&self.hosts)) }
                    }
                    main {
                        @if self.hosts.len() > 1 { (compare::draw(&self.hosts)) }
                        @if has_findings { (findings::filter()) }
                        @for (index, host) in self.hosts.iter().enumerate() { (draw_host(host, index)) }
                    }
                    script { (PreEscaped(SCRIPT)) }
                }
            }
        };
        page.into_string() + "\n"
    }
}

fn draw_host(host: &HostPage, index: usize) -> Markup {
    html! {
        section id={ "host-" (index) } {
            h2 { (host.name) }
            @if let Some(origin) = &host.origin { (self::origin(origin)) }
            @if let Some(document) = &host.preflight { (preflight::draw(document, host.probe.as_ref())) }
            @if let Some(probe) = &host.probe { (findings::draw(probe)) }
            @if let Some(matrix) = &host.matrix { (matrix::draw(matrix)) }
            @let measured = host.preflight.as_ref().map(|document| document.measured.as_slice()).unwrap_or_default();
            (charts::bandwidth(&host.bws, measured))
            (charts::latency(&host.pings))
            @if let Some(devices) = &host.devices { (tables::devices(devices)) }
            @if let Some(topo) = &host.topo { (topology::draw(topo)) }
            @if let Some(compat) = &host.compat { (compat::draw(compat)) }
        }
    }
}

fn origin(origin: &Origin) -> Markup {
    let doubts = match origin {
        Origin::Model(model) => model.doubts.as_slice(),
        Origin::Capture(_) => &[],
    };
    html! {
        div.note {
            p { (origin.mark()) }
            @let doubtful: Vec<_> = doubts.iter().filter(|doubts| !doubts.inferred.is_empty() || !doubts.set_by_firmware.is_empty()).collect();
            @if !doubtful.is_empty() {
                details {
                    summary { "Figures of its devices that are not from source" }
                    @for doubts in doubtful {
                        @if !doubts.inferred.is_empty() { p { strong { (doubts.model) } ", only inferred: " (doubts.inferred.join(", ")) } }
                        @if !doubts.set_by_firmware.is_empty() {
                            p {
                                strong { (doubts.model) } ", set by firmware on a real device, one that was seen is used: "
                                (doubts.set_by_firmware.join(", "))
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A word on its colour.
fn badge(class: &str, word: &str) -> Markup {
    html! { span class={ "badge " (class) } { (word) } }
}

/// Commands that can be copied in one go.
fn commands(commands: &[String]) -> Markup {
    html! {
        @if !commands.is_empty() {
            div.commands {
                pre { code { (commands.join("\n")) } }
                button type="button" data-copy hidden { "copy" }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn the_policy_names_the_script() {
        let mut child = Command::new("sh")
            .args(["-c", "sha256sum | cut -c-64 | tr a-f A-F | basenc --base16 -d | base64 -w0"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(SCRIPT.as_bytes()).unwrap();
        let hash = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        assert_eq!(SCRIPT_HASH, format!("sha256-{hash}"));
    }

    #[test]
    fn nothing_is_loaded_from_elsewhere() {
        let page = Page {
            created: "today".to_owned(),
            hosts: vec![HostPage { name: "<script>alert(1)</script>".to_owned(), ..HostPage::default() }],
        };
        let text = page.render();
        assert!(!text.contains("http://") && !text.contains("https://") && !text.contains("src=") && !text.contains("url("), "{text}");
        assert_eq!(text.matches("<script").count(), 1);
        assert!(text.contains("&lt;script&gt;alert(1)"));
    }
}
