//! `catalog` for people.

use super::{Style, Table};
use crate::catalog::check::{CatalogCheck, CheckedFile, FileVerdict};
use crate::catalog::{CatalogEntry, CatalogFiles, CatalogList, FileKind};

impl Table for CatalogList {
    fn table(&self, style: &Style) -> String {
        let mut out = String::new();
        for (kind, heading) in
            [(FileKind::Family, "families"), (FileKind::Device, "device models"), (FileKind::Engine, "engines"), (FileKind::Host, "hosts")]
        {
            let rows: Vec<Vec<String>> = self.files.iter().filter(|entry| entry.kind == kind).map(row).collect();
            out += &format!("{}\n{}", style.bold(heading), style.columns_plain(&rows, 2));
        }
        out
    }
}

fn row(entry: &CatalogEntry) -> Vec<String> {
    let mut text = entry.title.clone();
    if let Some(family) = entry.family.as_ref().filter(|family| **family != entry.name) {
        text += &format!("; family {family}");
    }
    if !entry.releases.is_empty() {
        text += &format!("; {}", entry.releases.join(", "));
    }
    if !entry.is_built_in {
        text += &format!(" [{}]", entry.file.display());
    }
    vec![entry.name.clone(), text]
}

/// Each file as it is, so that what is printed of one is a file again: where it is from stands in a comment.
impl Table for CatalogFiles {
    fn table(&self, _: &Style) -> String {
        let shown = self.files.iter().map(|file| {
            let from = file.file.as_ref().map(|path| format!("# {}\n", path.display())).unwrap_or_default();
            format!("{from}{}", file.text)
        });
        shown.collect::<Vec<_>>().join("---\n")
    }
}

impl Table for CatalogCheck {
    fn table(&self, style: &Style) -> String {
        self.files.iter().map(|file| lines(file, style)).collect()
    }
}

fn lines(file: &CheckedFile, style: &Style) -> String {
    let path = file.file.display();
    match file.verdict {
        FileVerdict::Valid => format!("{} {path} ({})\n", style.good("valid  "), file.declares.as_deref().unwrap_or_default()),
        FileVerdict::NotChecked => format!("{} {path}: not checked: interrupted\n", style.warn("skipped")),
        FileVerdict::Invalid | FileVerdict::Unreadable => {
            file.problems.iter().map(|problem| format!("{} {}\n", style.bad("invalid"), problem.in_file(&file.file))).collect()
        }
    }
}
