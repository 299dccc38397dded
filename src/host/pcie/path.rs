//! The way from a root port down to a function, and the link on it that is narrowest.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Link, PcieFacts, PcieFunction, PortType, bits_per_second};

/// The way from the processor to a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PciePath {
    /// The function.
    pub address: String,
    /// Bridges above it, the one at the processor first. Empty where it is directly on a root bus.
    pub bridges: Vec<String>,
    /// The links, from the processor down.
    pub segments: Vec<Segment>,
    /// What the whole way carries now in each direction: the least of its links; without bridges, what the function says of its own link.
    pub bits_per_second: Option<u64>,
    /// What it would carry with every link at the most that both its ends can do.
    pub capable_bits_per_second: Option<u64>,
    /// Index in `segments` of the link that carries least now; of several alike, one that is below its best, else the nearest to the function.
    pub bottleneck: Option<usize>,
}

impl PciePath {
    /// The link that carries least now.
    #[must_use]
    pub fn narrowest(&self) -> Option<&Segment> {
        self.segments.get(self.bottleneck?)
    }
}

/// One link of a way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Segment {
    /// Its end towards the processor.
    pub upper: String,
    /// Its end towards the function.
    pub lower: String,
    /// What it does now, and the most that both its ends can do.
    pub link: Link,
    /// What it carries now.
    pub bits_per_second: Option<u64>,
    /// What it could carry.
    pub capable_bits_per_second: Option<u64>,
    /// Fewer lanes than both ends have: a seating, riser or slot fault.
    pub is_narrowed: bool,
    /// Slower than both ends can: a signal fault, a setting, or an idle device that saves power, as NVIDIA's GPUs do.
    pub is_slowed: bool,
}

impl PcieFacts {
    /// The way to a function. `None` where there is no such function.
    #[must_use]
    pub fn path(&self, address: &str) -> Option<PciePath> {
        let mut chain = vec![self.function(address)?];
        // No real tree is deeper than its 256 buses.
        while let Some(parent) = chain.last().and_then(|last| last.parent.as_deref()).filter(|_| chain.len() < 256) {
            let Some(parent) = self.function(parent) else { break };
            chain.push(parent);
        }
        chain.reverse();
        let segments: Vec<Segment> = chain
            .windows(2)
            .enumerate()
            .filter(|(index, pair)| is_link(*index, pair[0], pair[1]))
            .map(|(_, pair)| self.segment(pair[0], pair[1]))
            .collect();
        let least = segments.iter().filter_map(|segment| segment.bits_per_second).min();
        let alike = |segment: &Segment| least.is_some() && segment.bits_per_second == least;
        // Where the tree is hidden, the function's own word is all there is.
        let own = chain.last().filter(|last| segments.is_empty() && !last.is_bridge()).map(|last| last.link).unwrap_or_default();
        let bottleneck = segments
            .iter()
            .rposition(|segment| alike(segment) && (segment.is_narrowed || segment.is_slowed))
            .or_else(|| segments.iter().rposition(alike));
        Some(PciePath {
            address: address.to_owned(),
            bridges: chain.iter().take(chain.len() - 1).map(|bridge| bridge.address().to_owned()).collect(),
            bits_per_second: least.or_else(|| own.current_bits_per_second()),
            // One end that tells nothing would make the whole look better than it is.
            capable_bits_per_second: segments
                .iter()
                .map(|segment| segment.capable_bits_per_second)
                .min()
                .unwrap_or_else(|| own.max_bits_per_second()),
            bottleneck,
            segments,
        })
    }

    fn segment(&self, upper: &PcieFunction, lower: &PcieFunction) -> Segment {
        // A virtual function's link is its physical function's.
        let own = lower.physical_function.as_deref().and_then(|address| self.function(address)).unwrap_or(lower).link;
        let least = |one: Option<u32>, other: Option<u32>| one.into_iter().chain(other).min();
        let link = Link {
            current_megatransfers_per_second: own.current_megatransfers_per_second.or(upper.link.current_megatransfers_per_second),
            current_lanes: own.current_lanes.or(upper.link.current_lanes),
            max_megatransfers_per_second: least(own.max_megatransfers_per_second, upper.link.max_megatransfers_per_second),
            max_lanes: least(own.max_lanes, upper.link.max_lanes),
        };
        let below = |now: Option<u32>, most: Option<u32>| now.zip(most).is_some_and(|(now, most)| now < most);
        let carried = |speed: Option<u32>, lanes: Option<u32>| Some(bits_per_second(speed?, lanes?));
        Segment {
            upper: upper.address().to_owned(),
            lower: lower.address().to_owned(),
            bits_per_second: carried(link.current_megatransfers_per_second, link.current_lanes),
            capable_bits_per_second: carried(link.max_megatransfers_per_second, link.max_lanes),
            is_narrowed: below(link.current_lanes, link.max_lanes),
            is_slowed: below(link.current_megatransfers_per_second, link.max_megatransfers_per_second),
            link,
        }
    }
}

/// Whether two neighbours on a way are the ends of a link. Inside a switch they are not: there, a downstream port is below an upstream
/// port. Where configuration spaces cannot be read, links and insides of switches alternate, beginning with the root port's link.
fn is_link(index: usize, upper: &PcieFunction, lower: &PcieFunction) -> bool {
    let port_type = |function: &PcieFunction| function.config.as_ref()?.express.as_ref().map(|express| express.port_type);
    match (port_type(upper), port_type(lower)) {
        (Some(PortType::UpstreamPort), _) | (_, Some(PortType::DownstreamPort)) => false,
        (Some(_), _) | (_, Some(_)) => true,
        (None, None) => index.is_multiple_of(2),
    }
}
