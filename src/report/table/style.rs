//! Words and colours that tables share.

use std::fmt::Display;

use comfy_table::{Cell, CellAlignment, ColumnConstraint, ContentArrangement, Table, Width, presets};

/// How text is drawn.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// Whether to use colour.
    pub color: bool,
    /// Columns of the terminal.
    pub width: usize,
    /// Whether to show all evidence.
    pub verbose: bool,
}

impl Style {
    fn paint(self, code: &str, text: impl Display) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }

    /// Emphasis.
    #[must_use]
    pub fn bold(self, text: impl Display) -> String {
        self.paint("1", text)
    }

    /// What is of less interest.
    #[must_use]
    pub fn dim(self, text: impl Display) -> String {
        self.paint("2", text)
    }

    /// What is well.
    #[must_use]
    pub fn good(self, text: impl Display) -> String {
        self.paint("32", text)
    }

    /// What is wrong.
    #[must_use]
    pub fn bad(self, text: impl Display) -> String {
        self.paint("1;31", text)
    }

    /// What deserves a look.
    #[must_use]
    pub fn warn(self, text: impl Display) -> String {
        self.paint("33", text)
    }

    /// A name and a text that is broken at spaces, with the following lines under the first.
    #[must_use]
    pub fn entry(self, name: &str, text: &str) -> String {
        const NAME: usize = 12;
        let room = self.width.saturating_sub(NAME + 2).max(30);
        let mut out = String::new();
        for (index, line) in wrap(text, room).iter().enumerate() {
            let head = if index == 0 { name } else { "" };
            // Padded before it is painted, so that colour codes do not count as columns.
            let head = format!("{head:<width$}", width = NAME - 2);
            out += &format!("  {} {line}\n", self.dim(head));
        }
        out
    }

    /// A table of plain columns, two spaces apart, the header dimmed; columns whose cells are all numbers are aligned right. The last
    /// column is broken where the terminal ends.
    #[must_use]
    pub fn columns(self, header: &[&str], rows: &[Vec<String>]) -> String {
        let mut out = String::new();
        for (index, line) in lay_out(Some(header), rows, 2, self.width).iter().enumerate() {
            out += &if index == 0 { self.dim(line) } else { line.clone() };
            out.push('\n');
        }
        out
    }

    /// As [`Style::columns`]; where the terminal is too narrow, the columns of these names are left out, the first of them first. All evidence
    /// has them all.
    #[must_use]
    pub fn columns_fitting(self, header: &[&str], rows: &[Vec<String>], spare: &[&str]) -> String {
        let (mut header, mut rows) = (header.to_vec(), rows.to_vec());
        let plain = Self { color: false, ..self };
        let fits =
            |header: &[&str], rows: &[Vec<String>]| plain.columns(header, rows).lines().all(|line| line.chars().count() <= self.width);
        for name in spare {
            if self.verbose || fits(&header, &rows) {
                break;
            }
            if let Some(at) = header.iter().position(|known| known == name) {
                header.remove(at);
                rows.iter_mut().filter(|row| at < row.len()).for_each(|row| drop(row.remove(at)));
            }
        }
        self.columns(&header, &rows)
    }

    /// As [`Style::columns`], without header and indented by `indent` columns.
    #[must_use]
    pub fn columns_plain(self, rows: &[Vec<String>], indent: u16) -> String {
        lay_out(None, rows, indent, self.width).into_iter().map(|line| line + "\n").collect()
    }
}

/// The lines of a table without rules.
fn lay_out(header: Option<&[&str]>, rows: &[Vec<String>], indent: u16, width: usize) -> Vec<String> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(u16::try_from(width).unwrap_or(u16::MAX));
    if let Some(header) = header {
        table.set_header(header.iter().map(Cell::new));
    }
    for row in rows {
        table.add_row(row.iter().map(Cell::new));
    }
    let last = table.column_count().saturating_sub(1);
    for (index, column) in table.column_iter_mut().enumerate() {
        if index < last {
            column.set_constraint(ColumnConstraint::ContentWidth);
        } else {
            // A line that is too long is better than a broken word.
            let cells = rows
                .iter()
                .filter_map(|row| row.get(index).map(String::as_str))
                .chain(header.and_then(|header| header.get(index).copied()));
            let longest = cells.flat_map(|cell| cell.split(' ')).map(|word| word.chars().count()).max().unwrap_or(0);
            let padding = if index == 0 { usize::from(indent) } else { 2 };
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(u16::try_from(longest + padding).unwrap_or(u16::MAX))));
        }
        column.set_padding((if index == 0 { indent } else { 2 }, 0));
        let is_number = |cell: &String| {
            let figure = cell.strip_suffix(" %").unwrap_or(cell);
            cell == "-" || figure.chars().all(|c| c.is_ascii_digit() || c == '.')
        };
        if index > 0 && rows.iter().filter_map(|row| row.get(index)).all(is_number) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.to_string().lines().map(|line| line.trim_end().to_owned()).collect()
}

/// Breaks at spaces so that no line is longer than `room` columns, except for a single longer word.
pub(super) fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let Some(line) = lines.last_mut() else { break };
        let length = line.chars().count() + word.chars().count() + usize::from(!line.is_empty());
        if line.is_empty() {
            line.push_str(word);
        } else if length <= room {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Style = Style { color: false, width: 60, verbose: false };

    #[test]
    fn entries_break_at_spaces() {
        let text = PLAIN.entry("remedy", "use another release of the engine, or a device that takes what it asks");
        assert!(text.lines().all(|line| line.len() <= 60), "{text}");
        assert!(text.starts_with("  remedy     use"), "{text}");
        assert_eq!(text.lines().nth(1).unwrap().find(|c| c != ' '), Some(13));
    }

    #[test]
    fn numbers_are_aligned_right() {
        let rows = [vec!["a".to_owned(), "1".to_owned()], vec!["b".to_owned(), "1000".to_owned()]];
        assert_eq!(PLAIN.columns(&["name", "value"], &rows), "  name  value\n  a         1\n  b      1000\n");
    }

    #[test]
    fn points_of_figures_are_below_each_other() {
        let rows =
            [vec!["a".to_owned(), "684.78".to_owned(), "9.3 %".to_owned()], vec!["b".to_owned(), "5767.15".to_owned(), "-".to_owned()]];
        assert_eq!(PLAIN.columns(&["", "MB/s", "spread"], &rows), "        MB/s  spread\n  a   684.78   9.3 %\n  b  5767.15       -\n");
    }

    #[test]
    fn a_narrow_terminal_has_fewer_columns() {
        let rows = [vec!["write".to_owned(), "1".to_owned(), "1 x 1, inline".to_owned(), "verified".to_owned()]];
        let header = ["op", "messages/s", "depth", "contents"];
        let drawn = |width, verbose| Style { width, verbose, ..PLAIN }.columns_fitting(&header, &rows, &["messages/s", "depth"]);
        assert!(drawn(80, false).contains("messages/s"));
        assert!(!drawn(40, false).contains("messages/s") && drawn(40, false).contains("depth"), "{}", drawn(40, false));
        assert!(drawn(40, true).contains("messages/s"));
    }

    #[test]
    fn no_word_is_broken() {
        let rows = [vec!["0016:3e00:0001:0000:0000:0000:0000:0000".to_owned(), "IB/RoCE v1".to_owned(), "link-local".to_owned()]];
        assert!(PLAIN.columns_plain(&rows, 13).ends_with("  IB/RoCE v1  link-local\n"), "{}", PLAIN.columns_plain(&rows, 13));
    }

    #[test]
    fn the_last_column_ends_where_the_terminal_does() {
        let long = "what does not fit into the rest of the line goes on in the next one, under itself".to_owned();
        let rows = [vec!["max_send_wr".to_owned(), "8192".to_owned(), long]];
        let text = PLAIN.columns(&["parameter", "accepted", ""], &rows);
        assert!(text.lines().all(|line| line.chars().count() <= 60), "{text}");
        assert!(text.lines().nth(1).unwrap().starts_with("  max_send_wr      8192  what does"), "{text}");
        assert!(text.lines().nth(2).unwrap().starts_with("                         "), "{text}");
    }
}
