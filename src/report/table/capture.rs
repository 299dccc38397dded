//! `capture` for people.

use super::{Style, Table};
use crate::capture::Written;
use crate::text;

impl Table for Written {
    fn table(&self, style: &Style) -> String {
        let Self { file, size_bytes, level, is_redacted, .. } = self;
        let kind = if *is_redacted {
            "addresses, serial numbers and names of hosts are replaced".to_owned()
        } else {
            style.warn("nothing is replaced: it holds addresses, serial numbers and names of hosts")
        };
        format!(
            "{file}: level {}, {} KiB; {kind}\n{}",
            level.name(),
            size_bytes.div_ceil(1024),
            style.entry("next", &format!("rdmadoctor --from {} probe", text::word(file)))
        )
    }
}
