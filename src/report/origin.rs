//! What a document is about, where it is not this machine, and how it says so.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Style;
use crate::catalog::UncertainFigures;

/// What a document is about, where it is not this machine.
#[derive(Debug, Clone)]
pub enum Origin {
    /// A modelled host.
    Model(Modelled),
    /// A host whose facts were written to a file.
    Capture(Captured),
}

/// What every document says of itself.
#[derive(Deserialize)]
pub(crate) struct Head {
    schema: String,
    host_model: Option<Modelled>,
    from_capture: Option<Captured>,
}

impl Head {
    /// Its schema, and what the document is about, where it was not about the machine on which it was made.
    pub(crate) fn parts(self) -> (String, Option<Origin>) {
        (self.schema, self.host_model.map(Origin::Model).or_else(|| self.from_capture.map(Origin::Capture)))
    }
}

/// What a document of a capture says of that.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Captured {
    pub file: String,
    /// When it was written.
    pub created: String,
    /// By which release.
    pub tool_version: String,
    /// With how much effort.
    pub level: String,
    /// Whether addresses, serial numbers and names of hosts were replaced.
    pub is_redacted: bool,
    /// The host, where it has a name.
    pub host_name: Option<String>,
    /// The modelled host, where it is of one.
    pub host_model: Option<String>,
}

impl Origin {
    /// One sentence.
    pub(super) fn mark(&self) -> String {
        match self {
            Self::Model(model) if model.has_local_gpus => {
                format!("This is the modelled host {}, not this machine; GPUs that hold data are this machine's.", model.name)
            }
            Self::Model(model) => format!("This is the modelled host {}, not this machine.", model.name),
            Self::Capture(capture) => {
                let of = match (&capture.host_model, &capture.host_name) {
                    (Some(model), _) => format!(" of the modelled host {model}"),
                    (None, Some(name)) => format!(" of {name}"),
                    (None, None) => String::new(),
                };
                let kind = if capture.is_redacted { ", redacted" } else { "" };
                let Captured { created, tool_version, level, .. } = capture;
                format!("This is a capture{of} from {created} (rdmadoctor {tool_version}, level {level}{kind}), not this machine.")
            }
        }
    }

    /// Lines before and after the document, which shows figures whose paths begin with one of `shown`.
    pub(super) fn marks(&self, style: &Style, shown: &[&str]) -> (String, String) {
        let before = style.warn(self.mark()) + "\n";
        match self {
            Self::Model(model) => (before, model.after(style, shown)),
            Self::Capture(_) => (before, String::new()),
        }
    }
}

/// What a document about a modelled host says of that.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Modelled {
    /// The host's name.
    pub name: String,
    /// Figures of its devices that are not from source.
    pub doubts: Vec<UncertainFigures>,
    /// Whether GPUs that hold data are this machine's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_local_gpus: bool,
}

impl Modelled {
    /// Lines after a document that shows figures whose paths begin with one of `shown`.
    fn after(&self, style: &Style, shown: &[&str]) -> String {
        let mut after = String::new();
        for doubts in &self.doubts {
            let kinds = [("only inferred", &doubts.inferred), ("as firmware of one device had it", &doubts.set_by_firmware)];
            let mut told = Vec::new();
            for (what, paths) in kinds {
                let is_shown = |path: &&str| shown.iter().any(|prefix| path.starts_with(prefix)) && !path.ends_with("sure_up_to");
                let mut names: Vec<String> = Vec::new();
                for path in paths.iter().map(String::as_str).filter(is_shown) {
                    let name = if style.verbose { path.to_owned() } else { short_name(path) };
                    if !names.contains(&name) {
                        names.push(name);
                    }
                }
                if !names.is_empty() {
                    told.push(format!("{what}: {}", names.join(", ")));
                }
            }
            if !told.is_empty() {
                after += &style.entry("model", &format!("{}, {}", doubts.model, told.join("; ")));
            }
        }
        after
    }
}

/// A figure's name as its reader knows it, from its path in a device file.
fn short_name(path: &str) -> String {
    let path = [".limit", ".zero", ".written_back"].iter().find_map(|what| path.strip_suffix(what)).unwrap_or(path);
    if path == "completion_queues.entries" {
        return "cq_depth".to_owned();
    }
    let (place, name) = path.rsplit_once('.').unwrap_or(("", path));
    if place == "shared_receive_queues" { format!("srq {name}") } else { name.to_owned() }
}
