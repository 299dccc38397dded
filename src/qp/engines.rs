//! From engines of the catalog to asks.

use super::AskGroup;
use crate::catalog::engine::{self, Connect, Engine, Release};
use crate::catalog::{Catalog, CatalogError};
use crate::request::{Ask, AskOrigin, QpRequest};
use crate::verbs::DeviceAttributes;

/// An engine with one of its releases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chosen<'a> {
    pub engine: &'a Engine,
    /// The release that stands for what was asked.
    pub release: &'a Release,
    /// The version that was asked for, where it is newer than any that the catalog knows.
    pub asked_version: Option<&'a str>,
}

impl<'a> Chosen<'a> {
    /// A release that the catalog has.
    #[must_use]
    pub fn of(engine: &'a Engine, release: &'a Release) -> Self {
        Self { engine, release, asked_version: None }
    }

    /// How its queue pairs are connected: as the engine does whose queue pairs it makes.
    #[must_use]
    pub fn connect(&self, catalog: &Catalog) -> Connect {
        catalog.queues_of(self.engine, self.release).map_or(self.engine.connect, |(maker, _)| maker.connect)
    }
}

impl AskGroup {
    /// A request of the user's own.
    pub(crate) fn of_user(request: &QpRequest) -> Self {
        let ask = Ask {
            origin: AskOrigin::User,
            queue: "asked".to_owned(),
            request: request.clone(),
            probed: Vec::new(),
            clamped: Vec::new(),
            settings: Vec::new(),
            optional: false,
        };
        Self { asks: vec![ask], on_refusal: None, connect: None, asked_version: None, others: Vec::new() }
    }
}

/// What is said of a version that the catalog does not know yet.
#[must_use]
pub fn newer_than_known(asked: &str, judged_as: &str) -> String {
    format!("{asked} is newer than any release that the catalog knows; judged as {judged_as}, the newest of them")
}

/// Finds engines by `NAME` or `NAME@VERSION`; `all` stands for every engine's newest known release.
///
/// # Errors
/// A name or version is not known.
pub fn choose<'a>(catalog: &'a Catalog, wanted: &'a [String]) -> Result<Vec<Chosen<'a>>, CatalogError> {
    let mut chosen: Vec<Chosen<'a>> = Vec::new();
    let mut add = |one: Chosen<'a>| {
        if !chosen.contains(&one) {
            chosen.push(one);
        }
    };
    for name in wanted {
        if name == "all" {
            for engine in catalog.engines() {
                add(Chosen::of(engine, engine.release(None)?));
            }
        } else {
            let (engine, release) = catalog.find(name)?;
            let version = name.split_once('@').map(|(_, version)| version);
            add(Chosen { engine, release, asked_version: version.filter(|version| engine.is_newer(version)) });
        }
    }
    Ok(chosen)
}

/// All queue pairs of a release on a device that publishes `attributes`, with what other releases of the same engine ask.
///
/// # Errors
/// The release uses another engine's, which the catalog lacks.
pub fn ask_group(catalog: &Catalog, chosen: Chosen<'_>, attributes: Option<&DeviceAttributes>) -> Result<AskGroup, CatalogError> {
    let Chosen { engine, release, asked_version } = chosen;
    let asks_of = |release: &Release| -> Result<(Vec<Ask>, String), CatalogError> {
        let (maker, made) = catalog.queues_of(engine, release)?;
        let asks = made.queues.iter().map(|queue| queue.ask(engine::origin(engine, release), attributes)).collect();
        Ok((asks, made.on_refusal.as_ref().unwrap_or(&maker.on_refusal).summary.clone()))
    };
    let (asks, on_refusal) = asks_of(release)?;
    let others = engine
        .releases
        .iter()
        .filter(|other| other.version != release.version)
        .map(|other| asks_of(other).map(|(asks, _)| (other.version.clone(), asks)))
        .collect::<Result<_, _>>()?;
    Ok(AskGroup {
        asks,
        on_refusal: Some(on_refusal),
        connect: Some(chosen.connect(catalog)),
        asked_version: asked_version.map(str::to_owned),
        others,
    })
}
