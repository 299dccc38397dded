//! What programs exchange with rdmadoctor: the types of a transfer profile, with serde alone, so that an engine can read a profile
//! without the rest of the program. `schema` adds JSON Schemas (schemars).

pub mod profile;
mod states;
mod word;

pub use states::{LinkLayer, NodeType, OutcomeKind, PortState, QpState, Transport};
pub use word::{Named, Word};
