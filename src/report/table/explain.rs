//! `explain` for people.

use super::{Style, Table};
use crate::checks::{Explanation, Explanations};

impl Table for Explanation {
    fn table(&self, style: &Style) -> String {
        let mut out = format!("{} {}\n", style.bold(&self.id), self.title);
        out += &style.entry("why", &self.why);
        out += &style.entry("by hand", &self.confirm);
        out += &style.entry("to mend", &self.remedy);
        out += &style.entry("level", &self.level);
        if !self.depends_on.is_empty() {
            out += &style.entry("follows", &format!("it can follow from {}", self.depends_on.join(", ")));
        }
        for source in &self.sources {
            out += &style.entry("source", source);
        }
        out
    }
}

impl Table for Explanations {
    fn table(&self, style: &Style) -> String {
        let rows: Vec<Vec<String>> =
            self.checks.iter().map(|check| vec![check.id.clone(), check.level.clone(), check.title.clone()]).collect();
        style.columns(&["check", "level", "holds where all is well"], &rows)
    }
}
