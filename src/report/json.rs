//! JSON, for programs; `profiles/schema/` has what it looks like.

use std::io;

use schemars::JsonSchema;
use serde::Serialize;

use super::{Captured, Document, Kind, Modelled, Origin, Renderer, View};
use crate::text;

pub(super) struct Json;

impl Renderer for Json {
    fn documents(&self) -> &'static [Kind] {
        Kind::ALL
    }

    fn draw(&self, document: Document<'_>, view: &View<'_>) -> io::Result<Option<String>> {
        document.json(view.origin).map(Some)
    }

    /// It has keys for that.
    fn marked(&self, text: String, _: &str) -> String {
        text
    }
}

/// A document as JSON has it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "{D}Document")]
pub(super) struct Envelope<D> {
    /// The document itself.
    #[serde(flatten)]
    document: D,
    /// The modelled host that it is about; absent where it is about this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    host_model: Option<Modelled>,
    /// The capture that it is about; absent where it is about this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    from_capture: Option<Captured>,
}

/// A document with what it is about.
pub(super) fn write<D: Serialize>(document: &D, origin: Option<&Origin>) -> io::Result<String> {
    let (host_model, from_capture) = match origin {
        None => (None, None),
        Some(Origin::Model(model)) => (Some(model.clone()), None),
        Some(Origin::Capture(capture)) => (None, Some(capture.clone())),
    };
    // By way of a value, which has its keys in order.
    let value = serde_json::to_value(Envelope { document, host_model, from_capture }).map_err(io::Error::other)?;
    Ok(text::in_json(serde_json::to_string_pretty(&value).map_err(io::Error::other)?) + "\n")
}
