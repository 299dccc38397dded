//! The litmus of write order, for people.

use super::Style;
use crate::bench::OrderingResult;
use crate::gpu::WritesOrdering;
use crate::transfer::{OrderReader, Signal};
use crate::units::size;

/// A line for each size and way of knowing; nothing where nothing was looked at.
pub fn draw(results: &[OrderingResult], style: Style) -> String {
    if results.is_empty() {
        return String::new();
    }
    let row = |result: &OrderingResult| {
        let outcome = match (&result.not_tried, &result.failure) {
            (Some(why), _) => format!("not tried: {why}"),
            (None, Some(failure)) => style.bad(format!("failed: {}", failure.summary)),
            (None, None) if result.stale_iterations == 0 => "data first".to_owned(),
            (None, None) => {
                let text = format!("older data in {}, first in {}", result.stale_iterations, result.first_stale.unwrap_or_default());
                if result.is_permitted() { style.warn(format!("{text}; permitted")) } else { style.bad(text) }
            }
        };
        vec![
            result.memory.clone(),
            size(result.size_bytes),
            match result.signal {
                Signal::Flag => "flag",
                Signal::Completion => "completion",
            }
            .to_owned(),
            match (result.flush, result.relaxed_ordering) {
                (true, _) => "flush",
                (_, true) => "relaxed ordering",
                _ => "-",
            }
            .to_owned(),
            match result.reader {
                Some(OrderReader::Processor) => "processor",
                Some(OrderReader::Gpu) => "GPU",
                Some(OrderReader::Copies) => "copies",
                None => "-",
            }
            .to_owned(),
            result.iterations.to_string(),
            outcome,
        ]
    };
    let rows: Vec<Vec<String>> = results.iter().map(row).collect();
    let mut out = format!("\n{}\n", style.bold("Order of writes"));
    out += &style.columns(&["memory", "data", "known by", "with", "read by", "times", "seen"], &rows);
    if let Some(promised) = results.iter().find_map(|result| result.promised) {
        let text = match promised {
            WritesOrdering::None => "nothing: data is seen in order after a flush only",
            WritesOrdering::Owner => "order for what the GPU itself reads",
            WritesOrdering::AllDevices => "order for what any GPU reads",
        };
        out += &style.entry("promised", text);
    }
    out
}
