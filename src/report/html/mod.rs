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

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::Origin;
use crate::bench::{BandwidthResult, Bench, LatencyResult};
use crate::checks::Probe;
use crate::compat::Compat;
use crate::devices::Devices;
use crate::facts::Topo;
use crate::preflight::Preflight;
use crate::qp::QpMatrix;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// SHA-256 of the script, as a content security policy names it (CSP level 3, section 2.3.1). A test says what it should be.
const SCRIPT_HASH: &str = "sha256-lLi6iMWbCF2hMZnv2L6/lQBcdZZ5YSvt7GjTwwUo9uo=";

/// What one file shows.
#[derive(Debug, Clone)]
pub struct Page {
    /// When it was made.
    pub created: String,
    /// Hosts, in the order of the report.
    pub hosts: Vec<HostPage>,
}

/// What is known of one host. What was not asked is absent.
#[derive(Debug, Clone, Default)]
pub struct HostPage {
    /// Its name, or that of the file that told of it.
    pub name: String,
    /// What it is, if not the machine that made the page.
    pub origin: Option<Origin>,
    /// What checks say.
    pub probe: Option<Probe>,
    /// RDMA devices.
    pub devices: Option<Devices>,
    /// GPUs, NICs and their distances.
    pub topo: Option<Topo>,
    /// What was tried.
    pub matrix: Option<QpMatrix>,
    /// Engines on device families; about no host.
    pub compat: Option<Compat>,
    /// Latencies, each with what was measured.
    pub pings: Vec<Bench<LatencyResult>>,
    /// Bandwidths.
    pub bws: Vec<Bench<BandwidthResult>>,
    /// The whole gate; what it holds is laid into the other parts before it is drawn.
    pub preflight: Option<Preflight>,
}

impl HostPage {
    /// Everything that a gate found out.
    #[must_use]
    pub fn of_preflight(mut document: Preflight) -> Self {
        let (pings, bws): (Vec<_>, Vec<_>) =
            document.measured.iter_mut().map(|measured| (measured.ping.take(), measured.bw.take())).unzip();
        Self {
            name: document.host_name.clone(),
            probe: document.probe.take(),
            devices: document.devices.take(),
            topo: document.topo.take(),
            matrix: document.qp_matrix.take(),
            pings: pings.into_iter().flatten().collect(),
            bws: bws.into_iter().flatten().collect(),
            preflight: Some(document),
            ..Self::default()
        }
    }
}

impl Page {
    /// The whole file.
    #[must_use]
    pub fn render(&self) -> String {
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
