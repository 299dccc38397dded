//! From engines of the catalog to asks.

use super::AskGroup;
use crate::catalog::engine::{self, Engine, Release};
use crate::catalog::{Catalog, CatalogError};
use crate::request::Ask;
use crate::verbs::DeviceAttributes;

/// An engine with one of its releases.
pub type Chosen<'a> = (&'a Engine, &'a Release);

/// Finds engines by `NAME` or `NAME@VERSION`; `all` stands for every engine's newest known release.
///
/// # Errors
/// A name or version is not known.
pub fn choose<'a>(catalog: &'a Catalog, wanted: &[String]) -> Result<Vec<Chosen<'a>>, CatalogError> {
    let mut chosen = Vec::new();
    for name in wanted {
        if name == "all" {
            for engine in catalog.engines() {
                chosen.push((engine, engine.release(None)?));
            }
        } else {
            chosen.push(catalog.find(name)?);
        }
    }
    Ok(chosen)
}

/// All queue pairs of a release on a device that publishes `attributes`, with what other releases of the same engine ask.
///
/// # Errors
/// The release uses another engine's, which the catalog lacks.
pub fn ask_group(
    catalog: &Catalog,
    (engine, release): Chosen<'_>,
    attributes: Option<&DeviceAttributes>,
) -> Result<AskGroup, CatalogError> {
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
    Ok(AskGroup { asks, on_refusal: Some(on_refusal), connect: Some(engine.connect), others })
}
