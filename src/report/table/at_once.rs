//! `bw --devices` for people.

use super::bench::{buffer, ending};
use super::{Style, Table};
use crate::bench::AtOnce;
use crate::units::size;

impl Table for AtOnce {
    fn table(&self, style: &Style) -> String {
        let mut out = String::new();
        for alone in &self.alone {
            out += &alone.table(style);
            out.push('\n');
        }
        let style = *style;
        let rows: Vec<Vec<String>> = self
            .together
            .iter()
            .map(|row| {
                let each: Vec<String> = row
                    .devices
                    .iter()
                    .map(|share| {
                        format!(
                            "{} {:.1} of {:.1}",
                            share.device,
                            share.together_bytes_per_second / 1e6,
                            share.alone_bytes_per_second / 1e6
                        )
                    })
                    .collect();
                vec![
                    row.operation.to_string(),
                    size(row.size_bytes),
                    buffer(row.buffer).to_owned(),
                    format!("{:.1}", row.alone_bytes_per_second / 1e6),
                    format!("{:.1}", row.together_bytes_per_second.median / 1e6),
                    format!("{:.1} %", row.together_bytes_per_second.spread_percent),
                    format!("{:.0} %", row.kept_percent),
                    each.join(", "),
                ]
            })
            .collect();
        if !rows.is_empty() {
            out += &format!("{}\n", style.bold("All at once"));
            let header = ["op", "size", "buffer", "sum alone MB/s", "at once MB/s", "spread", "kept", "each MB/s"];
            out += &style.columns(&header, &rows);
        }
        out + &ending(&self.notices, self.stopped.as_deref(), style) + &super::devices::problems(&self.problems, style)
    }
}
