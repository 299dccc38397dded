//! The list of documents that commands print. It decides what `--format` of a command offers, and which JSON Schemas are published.

use std::io;

use schemars::{Schema, schema_for};

use super::json::{self, Envelope};
use super::table::Table;
use super::{Format, Origin};
use crate::bench::{AtOnce, BandwidthResult, BenchReport, LatencyResult, Listening, Pairs};
use crate::capture::Written;
use crate::catalog::check::CatalogCheck;
use crate::catalog::{CatalogFiles, CatalogList};
use crate::checks::{Explanation, Explanations, GpuSurvey, Probe};
use crate::compat::Compat;
use crate::devices::{Caps, Devices};
use crate::facts::{Modules, Topo};
use crate::preflight::Preflight;
use crate::profile::export::Export;
use crate::profile::{PROFILE_SCHEMA, Profile, ProfileCheck, ProfileDiff, ProfileValidation};
use crate::qp::QpMatrix;
use crate::{schema, text};

macro_rules! documents {
    (@read saved, $document:ty, $text:ident, $draw:ident) => {
        Some(text::from_json::<$document>($text).map(|document| $draw((&document).into())))
    };
    (@read , $document:ty, $text:ident, $draw:ident) => {
        None
    };
    ($($name:ident($document:ty) = $schema:expr, $commands:expr $(, $saved:ident)?;)+) => {
        /// Which document.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Kind { $($name),+ }

        impl Kind {
            pub(crate) const ALL: &[Self] = &[$(Self::$name),+];

            /// What it says that it is.
            pub(crate) fn schema(self) -> &'static str {
                match self { $(Self::$name => $schema),+ }
            }

            /// The commands that print it.
            pub(crate) fn commands(self) -> &'static [&'static str] {
                match self { $(Self::$name => &$commands),+ }
            }

            /// Reads a saved one and has it drawn; `None` where a page has no place for it.
            pub(crate) fn read(self, text: &[u8], draw: &mut dyn FnMut(Document<'_>) -> bool) -> Option<serde_json::Result<bool>> {
                match self { $(Self::$name => documents!(@read $($saved)?, $document, text, draw)),+ }
            }
        }

        /// A document, whichever.
        #[derive(Clone, Copy)]
        pub(crate) enum Document<'a> { $($name(&'a $document)),+ }

        impl<'a> Document<'a> {
            pub(super) fn kind(self) -> Kind {
                match self { $(Self::$name(_) => Kind::$name),+ }
            }

            pub(super) fn table(self) -> &'a dyn Table {
                match self { $(Self::$name(document) => document),+ }
            }

            pub(super) fn json(self, origin: Option<&Origin>) -> io::Result<String> {
                match self { $(Self::$name(document) => json::write(document, origin)),+ }
            }
        }

        $(impl<'a> From<&'a $document> for Document<'a> {
            fn from(document: &'a $document) -> Self { Self::$name(document) }
        })+

        /// The JSON Schema of each document that commands print, by what its key `schema` says.
        #[must_use]
        pub fn schemas() -> Vec<(&'static str, Schema)> {
            vec![$(($schema, schema_for!(Envelope<$document>))),+]
        }
    };
}

// `saved` are those that `report` draws.
documents! {
    Devices(Devices) = schema::DEVICES, ["devices"], saved;
    Caps(Caps) = schema::CAPS, ["caps"];
    Modules(Modules) = schema::MODULES, ["modules"];
    Topo(Topo) = schema::TOPO, ["topo"], saved;
    Gpu(GpuSurvey) = schema::GPU, ["gpu"];
    Probe(Probe) = schema::PROBE, ["probe"], saved;
    CaptureWritten(Written) = schema::CAPTURE_WRITTEN, ["capture"];
    Explanation(Explanation) = schema::EXPLANATION, ["explain"];
    Explanations(Explanations) = schema::EXPLANATIONS, ["explain"];
    QpMatrix(QpMatrix) = schema::QP_MATRIX, ["qp-matrix"], saved;
    Preflight(Preflight) = schema::PREFLIGHT, ["preflight"], saved;
    Profile(Profile) = PROFILE_SCHEMA, ["profile write", "profile show"];
    ProfileValidation(ProfileValidation) = schema::PROFILE_VALIDATION, ["profile validate"];
    ProfileCheck(ProfileCheck) = schema::PROFILE_CHECK, ["profile check"];
    ProfileDiff(ProfileDiff) = schema::PROFILE_DIFF, ["profile diff"];
    ProfileExport(Export) = schema::PROFILE_EXPORT, ["profile export"];
    Ping(BenchReport<LatencyResult>) = schema::PING, ["ping"], saved;
    Bw(BenchReport<BandwidthResult>) = schema::BW, ["bw"], saved;
    BwAtOnce(AtOnce) = schema::BW_AT_ONCE, ["bw"];
    BwPairs(Pairs) = schema::BW_PAIRS, ["bw"];
    Peer(Listening) = schema::PEER, ["peer"];
    Compat(Compat) = schema::COMPAT, ["compat"], saved;
    CatalogList(CatalogList) = schema::CATALOG_LIST, ["catalog list"];
    CatalogFiles(CatalogFiles) = schema::CATALOG_FILES, ["catalog show", "catalog new"];
    CatalogCheck(CatalogCheck) = schema::CATALOG_CHECK, ["catalog check"];
}

/// What lays saved documents on a page, and prints none itself.
const PAGES: &str = "report";

impl Kind {
    /// By what a document says that it is.
    pub(crate) fn of(schema: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.schema() == schema)
    }
}

impl Format {
    /// What a command's `--format` offers; nothing where it prints text in a language of its own. Of a command with others below it, what
    /// they offer.
    pub(crate) fn of_command(command: &str) -> Vec<Self> {
        let is_below = |other: &&str| *other == command || other.strip_prefix(command).is_some_and(|rest| rest.starts_with(' '));
        let kinds: Vec<Kind> = Kind::ALL.iter().copied().filter(|kind| kind.commands().iter().any(is_below)).collect();
        let draws = |format: &Self| match command {
            PAGES => *format == Self::Html,
            _ => kinds.iter().any(|kind| format.renderer().documents().contains(kind)),
        };
        Self::all().filter(draws).collect()
    }

    /// Whether each document has it.
    pub(crate) fn is_everywhere(self) -> bool {
        self.renderer().documents().len() == Kind::ALL.len()
    }

    /// The commands that offer it, for the help.
    pub(crate) fn commands(self) -> Vec<&'static str> {
        let documents = self.renderer().documents().iter();
        let mut commands: Vec<&str> = documents.flat_map(|kind| kind.commands()).copied().collect();
        commands.extend((self == Self::Html).then_some(PAGES));
        commands.dedup();
        commands
    }
}
