//! A joint limit as a plane: how deep a queue may be over another parameter, with what engines ask drawn in.

use std::fmt::Write as _;

use maud::{Markup, html};
use rdmadoctor_types::OutcomeKind;

use crate::qp::{AskReport, Bound, Frontier};

const LEFT: f64 = 80.0;
const TOP: f64 = 14.0;
const WIDTH: f64 = 620.0;
const HEIGHT: f64 = 260.0;

/// Steps drawn at most: more than the columns of the drawing show nothing.
const MOST_STEPS: usize = 600;
/// Requests drawn at most.
const MOST_MARKS: usize = 200;

/// The scales: the other parameter to the right, the depth upwards in powers of two.
struct Scale {
    right: f64,
    top: f64,
}

impl Scale {
    fn x(&self, value: f64) -> f64 {
        LEFT + WIDTH * (value / self.right).clamp(0.0, 1.0)
    }

    fn y(&self, depth: f64) -> f64 {
        TOP + HEIGHT * (1.0 - depth.max(1.0).log2() / self.top).clamp(0.0, 1.0)
    }
}

/// A request of an engine's in the plane.
struct Mark {
    x: f64,
    y: f64,
    label: String,
    is_granted: bool,
}

pub(super) fn draw(frontier: &Frontier, bounds: &[Bound], asks: &[AskReport]) -> Markup {
    let points = &frontier.points[..frontier.points.len().min(MOST_STEPS)];
    let Some(last) = points.last() else { return html! {} };
    let deepest = points.iter().map(|point| point.accepted).max().unwrap_or(1);
    let number = |value: crate::qp::Value| value.number().map(f64::from);
    let asked: Vec<(f64, f64, &AskReport)> = asks
        .iter()
        .filter(|ask| ask.verdict == OutcomeKind::Granted || ask.verdict == OutcomeKind::Refused)
        .filter_map(|ask| Some((number(frontier.over.get(&ask.request))?, number(frontier.parameter.get(&ask.request))?, ask)))
        .take(MOST_MARKS)
        .collect();
    let right = asked.iter().map(|(over, ..)| *over).fold(f64::from(last.up_to), f64::max).max(1.0) * 1.1;
    let top = asked.iter().map(|(_, depth, _)| *depth).fold(f64::from(deepest), f64::max).max(2.0).log2() + 1.0;
    let scale = Scale { right, top };
    let marks: Vec<Mark> = asked
        .into_iter()
        .map(|(over, depth, ask)| Mark {
            x: scale.x(over),
            y: scale.y(depth),
            label: format!(
                "{} {} {}: {}",
                ask.engine.as_deref().unwrap_or("the request"),
                ask.version.as_deref().unwrap_or_default(),
                ask.queue,
                ask.verdict
            ),
            is_granted: ask.verdict == OutcomeKind::Granted,
        })
        .collect();
    let floor = scale.y(1.0);
    let mut steps = Vec::new();
    let (mut line, mut from) = (String::new(), 0u32);
    for point in points {
        let (x, next, y) = (scale.x(f64::from(from)), scale.x(f64::from(point.up_to)), scale.y(f64::from(point.accepted)));
        let _ = write!(line, "{}{x:.1} {y:.1} H{next:.1}", if line.is_empty() { "M" } else { " L" });
        steps.push((x, next - x, y, point.refused_above));
        from = point.up_to;
    }
    let is_bound = bounds.iter().any(|bound| bound.parameter == frontier.over && bound.refused.is_some());
    let edge = scale.x(f64::from(last.up_to));
    let beyond = if is_bound { "region-refused" } else { "region-untried" };
    let powers: Vec<u32> = (0..=top as u32).filter(|power| power % 2 == 0 || top < 8.0).collect();
    let ticks: Vec<f64> = (0..=4).map(|tick| (f64::from(last.up_to) * f64::from(tick) / 4.0).round()).collect();
    let title = format!("{} over {}: {}", frontier.parameter, frontier.over, super::super::table::qp_matrix::describe_joint(frontier));
    html! {
        svg viewBox={ "0 0 " (LEFT + WIDTH + 20.0) " " (TOP + HEIGHT + 44.0) } width=(LEFT + WIDTH + 20.0) role="img" aria-label=(title) {
            @for (x, width, y, is_refused) in &steps {
                rect class=(if *is_refused { "region-refused" } else { "region-untried" }) x=(coordinate(*x)) y=(TOP) width=(coordinate(*width)) height=(coordinate(y - TOP)) {}
                rect.region-granted x=(coordinate(*x)) y=(coordinate(*y)) width=(coordinate(*width)) height=(coordinate(floor - y)) {}
            }
            rect class=(beyond) x=(coordinate(edge)) y=(TOP) width=(coordinate(LEFT + WIDTH - edge)) height=(HEIGHT) {}
            path.frontier d=(line) {}
            path.axis fill="none" d={ "M" (LEFT) " " (TOP) " V" (floor) " H" (LEFT + WIDTH) } {}
            @for power in powers {
                @let y = scale.y(f64::from(1u32 << power.min(31)));
                path.axis d={ "M" (LEFT - 4.0) " " (coordinate(y)) " H" (LEFT) } {}
                text.faint x=(LEFT - 8.0) y=(coordinate(y + 4.0)) text-anchor="end" { (1u64 << power.min(31)) }
            }
            @for tick in ticks {
                @let x = scale.x(tick);
                path.axis d={ "M" (coordinate(x)) " " (floor) " v4" } {}
                text.faint x=(coordinate(x)) y=(floor + 17.0) text-anchor="middle" { (tick) }
            }
            text.faint x=(LEFT + WIDTH) y=(floor + 34.0) text-anchor="end" { (frontier.over.name()) }
            text.faint x=(LEFT + 6.0) y=(TOP + 12.0) { (frontier.parameter.name()) ", refused" }
            text.faint x=(LEFT + 6.0) y=(floor - 8.0) { "granted" }
            @for mark in &marks {
                circle class=(if mark.is_granted { "mark-granted" } else { "mark-refused" }) cx=(coordinate(mark.x)) cy=(coordinate(mark.y)) r="5" { title { (mark.label) } }
            }
        }
    }
}

fn coordinate(value: f64) -> String {
    format!("{value:.1}")
}
