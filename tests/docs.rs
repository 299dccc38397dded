//! docs/checks: a page for each check and a check for each page, with the texts that `explain` prints; its index is what the registry
//! of checks says. `make docs` writes the index anew.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use rdmadoctor::checks::{Category, Explanation, Explanations, registry};
use serde::Deserialize;

fn pages() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/checks")
}

/// What stands before the text of a page.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FrontMatter {
    title: String,
    level: String,
    sources: Vec<String>,
}

#[test]
fn each_check_has_a_page_and_each_page_a_check() {
    let files = std::fs::read_dir(pages()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let files: BTreeSet<String> = files.filter(|name| name != "README.md").collect();
    assert_eq!(files, registry().map(|check| format!("{}.md", check.page.id)).collect());
}

/// build.rs knows but a little of YAML and Markdown.
#[test]
fn pages_are_read_as_yaml_and_markdown_have_them() {
    for Explanation { id, title, level, why, confirm, remedy, sources, .. } in Explanations::all().checks {
        let text = std::fs::read_to_string(pages().join(format!("{id}.md"))).unwrap();
        let (front, body) = text.strip_prefix("---\n").and_then(|text| text.split_once("---\n")).unwrap();
        let front: FrontMatter = serde_yaml::from_str(front).unwrap();
        assert_eq!((front.title, front.level, front.sources), (title, level, sources), "{id}");
        let in_one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let expected = format!("## Why {why} ## Confirm ```sh {confirm} ``` ## Remedy {remedy}");
        assert_eq!(in_one_line(body), in_one_line(&expected), "{id}");
    }
}

#[test]
fn the_index_is_what_the_registry_says() {
    let mut index = "# Checks\n\nA page for each, which `rdmadoctor explain ID` prints. `make docs` writes this index.\n".to_owned();
    for category in Category::ALL {
        writeln!(index, "\n## RD-{:02}xx: {}\n", category.number(), category.title()).unwrap();
        for page in registry().map(|check| check.page).filter(|page| page.category == category) {
            writeln!(index, "* [{0}]({0}.md): {1}", page.id, page.title).unwrap();
        }
    }
    let path = pages().join("README.md");
    if std::env::var_os("RDMADOCTOR_WRITE_DOCS").is_some() {
        return std::fs::write(&path, index).unwrap();
    }
    let published = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(published == index, "{} is not what the registry says; run `make docs`", path.display());
}
