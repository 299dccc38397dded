//! `bw --all-pairs` for people: a row for each GPU, NIC and operation, a column for each way, and why cells are empty.

use super::bench::SIMULATED;
use super::{Style, Table, devices};
use crate::bench::{PairCell, Pairs};
use crate::gpu::Path;

impl Table for Pairs {
    fn table(&self, style: &Style) -> String {
        let style = *style;
        let mut rows: Vec<(String, Vec<&PairCell>)> = Vec::new();
        for cell in &self.cells {
            let name = format!("{} {} {}", cell.gpu, cell.device, cell.operation);
            match rows.iter_mut().find(|(known, _)| *known == name) {
                Some((_, cells)) => cells.push(cell),
                None => rows.push((name, vec![cell])),
            }
        }
        rows.sort_by(|one, other| one.0.cmp(&other.0));
        let paths = [Path::Peermem, Path::Dmabuf, Path::DataDirect, Path::Staged];
        // Reasons are numbered, since they are longer than any cell.
        let mut reasons: Vec<(&str, &[String])> = Vec::new();
        let table: Vec<Vec<String>> = rows
            .iter()
            .filter_map(|(_, cells)| {
                let first = cells.first()?;
                let mut row = vec![first.gpu.clone(), first.device.clone(), first.operation.to_string()];
                for path in paths {
                    row.push(cells.iter().find(|cell| cell.path == path).map_or_else(|| "-".to_owned(), |cell| draw(cell, &mut reasons)));
                }
                Some(row)
            })
            .collect();
        let mut out = String::new();
        if self.is_simulated {
            out += &style.entry("simulated", SIMULATED);
        }
        if !table.is_empty() {
            let size = self.size_bytes;
            out += &format!(
                "Messages of {size} bytes, MB/s. Write takes data out of GPU memory, read brings it there; the other end has host memory.\n"
            );
            out += &style.columns(&["GPU", "NIC", "op", "peermem", "dmabuf", "data-direct", "staged"], &table);
        }
        for (index, (reason, causes)) in reasons.iter().enumerate() {
            out += &style.entry(&format!("({})", index + 1), reason);
            let causes = if style.verbose { causes } else { &causes[..causes.len().min(2)] };
            for cause in causes {
                out += &style.entry("", cause);
            }
        }
        if let Some(why) = &self.stopped {
            out += &style.entry("stopped", why);
        }
        out + &devices::problems(&self.problems, style)
    }
}

fn draw<'a>(cell: &'a PairCell, reasons: &mut Vec<(&'a str, &'a [String])>) -> String {
    match (cell.bytes_per_second, cell.is_right) {
        (Some(_), Some(false)) => "WRONG".to_owned(),
        (Some(rate), _) => format!("{:.0}", rate.median / 1e6),
        (None, _) => {
            let reason = cell.reason.as_deref().unwrap_or("not measured");
            let index = reasons.iter().position(|(known, _)| *known == reason).unwrap_or_else(|| {
                reasons.push((reason, &cell.causes));
                reasons.len() - 1
            });
            format!("none ({})", index + 1)
        }
    }
}
