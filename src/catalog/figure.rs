//! A figure with its source, and how sure it is.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::verbs::ErrorNumber;

rdmadoctor_types::words! {
    /// How sure a figure is, or what rests on it. The order is from sure to unsure, so the largest of several is the one that counts.
    #[derive(Default, Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    pub enum Certainty {
        /// A driver's or a provider's source says it.
        #[default]
        Source = "source",
        /// Firmware sets it; the figure is one that somebody saw, and another card may have another.
        Firmware = "firmware",
        /// Neither: reasoned from something near.
        Inferred = "inferred",
    }
}

/// How a published figure follows from others of the same model. The figure is written out all the same; a test compares the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Derivation {
    /// The smaller of the send and the receive limit.
    SmallerOfSendAndReceive,
    /// The larger of the send and the receive limit.
    LargerOfSendAndReceive,
    /// The depth with the smallest entries, which deeper requests with larger entries do not get.
    BestCase,
    /// The depth with the largest entries, which smaller ones exceed.
    WorstCase,
}

/// A value with its source. In a file it stands under the key that says how sure it is: `value` (source says it), `observed` (firmware
/// sets it, and this was seen) or `inferred`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "RawFigure<T>", into = "RawFigure<T>")]
#[serde(bound(serialize = "T: Clone + Serialize", deserialize = "T: Deserialize<'de>"))]
pub struct Figure<T> {
    /// The value.
    pub value: T,
    /// Where it is from.
    pub source: String,
    /// How sure it is.
    pub certainty: Certainty,
    /// How it follows from others.
    pub derived: Option<Derivation>,
}

impl<T> Figure<T> {
    /// A value that source code states.
    pub fn new(value: T, source: &str) -> Self {
        Self { value, source: source.to_owned(), certainty: Certainty::Source, derived: None }
    }
}

/// serde's own `default` would ask for `T: Default`.
fn none<T>() -> Option<T> {
    None
}

/// A figure as files write it.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Figure_{T}")]
#[schemars(extend("oneOf" = [{"required": ["value"]}, {"required": ["observed"]}, {"required": ["inferred"]}]))]
pub(super) struct RawFigure<T> {
    /// The value, stated by source code.
    #[serde(default = "none::<T>")]
    value: Option<T>,
    /// A value that firmware set on some card.
    #[serde(default = "none::<T>")]
    observed: Option<T>,
    /// A value that is reasoned, not read.
    #[serde(default = "none::<T>")]
    inferred: Option<T>,
    /// Where it is from.
    #[schemars(regex(pattern = r"\S"))]
    source: String,
    /// How it follows from others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    derived: Option<Derivation>,
}

impl<T> TryFrom<RawFigure<T>> for Figure<T> {
    type Error = &'static str;

    fn try_from(raw: RawFigure<T>) -> Result<Self, Self::Error> {
        let (value, certainty) = match (raw.value, raw.observed, raw.inferred) {
            (Some(value), None, None) => (value, Certainty::Source),
            (None, Some(value), None) => (value, Certainty::Firmware),
            (None, None, Some(value)) => (value, Certainty::Inferred),
            _ => return Err("a figure has exactly one of `value`, `observed` and `inferred`"),
        };
        if raw.source.trim().is_empty() {
            return Err("a figure needs a source");
        }
        Ok(Self { value, source: raw.source, certainty, derived: raw.derived })
    }
}

impl<T> From<Figure<T>> for RawFigure<T> {
    fn from(figure: Figure<T>) -> Self {
        let mut raw = Self { value: None, observed: None, inferred: None, source: figure.source, derived: figure.derived };
        *match figure.certainty {
            Certainty::Source => &mut raw.value,
            Certainty::Firmware => &mut raw.observed,
            Certainty::Inferred => &mut raw.inferred,
        } = Some(figure.value);
        raw
    }
}

/// An error number, by its symbolic name in files. `none` is 0: the call fails and sets nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct Errno(pub i32);

impl Errno {
    /// Invalid argument: the usual answer to a request over a limit.
    pub const EINVAL: Self = Self(libc::EINVAL);
    /// Operation not supported.
    pub const EOPNOTSUPP: Self = Self(libc::EOPNOTSUPP);
    /// Out of memory, or of objects.
    pub const ENOMEM: Self = Self(libc::ENOMEM);
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { f.pad("none") } else { f.pad(&ErrorNumber(self.0).name()) }
    }
}

impl TryFrom<String> for Errno {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match (text.as_str(), ErrorNumber::named(&text)) {
            ("none", _) => Ok(Self(0)),
            (_, Some(errno)) => Ok(Self(errno.0)),
            _ => Err(format!("`{text}` is no errno; write a name such as ENOMEM, or none")),
        }
    }
}

impl From<Errno> for String {
    fn from(errno: Errno) -> Self {
        errno.to_string()
    }
}
