//! The rooms of the program and their order: imports run downward only, and `unsafe` stands in a few rooms only. CONTRIBUTING.md says why.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;

/// From the roof to the ground. A room uses those below it; rooms of one line do not know each other.
const FLOORS: &[&[&str]] = &[
    &["cli"],
    &["report"],
    &["preflight"],
    &["profile", "compat"],
    &["checks"],
    &["survey"],
    &["capture"],
    &["facts"],
    &["qp", "bench"],
    &["devices"],
    &["worker"],
    &["transfer"],
    &["sim"],
    &["catalog"],
    &["request"],
    &["host", "gpu"],
    &["verbs"],
    &["sys", "schema", "units", "files", "text"],
];

/// Rooms in which something may be unsafe.
const UNSAFE: &[&str] = &["verbs", "sim", "gpu", "sys"];

/// An import: of which room, in which file and line.
struct Import {
    from: String,
    to: String,
    place: String,
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

/// The sources of the library, each with its room; tests are left out.
fn sources() -> Vec<(String, PathBuf)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") && name != "tests" && !name.ends_with("_tests") {
                let below = path.strip_prefix(&root).unwrap();
                let room = below.components().next().unwrap().as_os_str().to_string_lossy();
                found.push((room.trim_end_matches(".rs").to_owned(), path));
            }
        }
    }
    found.retain(|(room, _)| room != "lib" && room != "main");
    found.sort();
    found
}

/// A file without what only tests have.
fn shipped(text: &str) -> TokenStream {
    let file = syn::parse_file(text).unwrap();
    let is_for_tests = |attributes: &[syn::Attribute]| {
        attributes.iter().any(|attribute| attribute.path().is_ident("cfg") && attribute.to_token_stream().to_string().contains("test"))
    };
    let shipped = file.items.into_iter().filter(|item| match item {
        syn::Item::Mod(module) => !is_for_tests(&module.attrs),
        syn::Item::Fn(function) => !is_for_tests(&function.attrs),
        syn::Item::Use(import) => !is_for_tests(&import.attrs),
        syn::Item::Impl(block) => !is_for_tests(&block.attrs),
        _ => true,
    });
    shipped.map(ToTokens::into_token_stream).collect()
}

/// Each `crate::ROOM` of a text, `use crate::{ROOM, …}` included, with its line.
fn rooms_named(tokens: TokenStream, found: &mut Vec<(String, usize)>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (index, token) in tokens.iter().enumerate() {
        if let TokenTree::Group(group) = token {
            rooms_named(group.stream(), found);
        }
        let TokenTree::Ident(word) = token else { continue };
        let is_path = |at: usize| matches!(tokens.get(at), Some(TokenTree::Punct(point)) if point.as_char() == ':');
        if word != "crate" || !is_path(index + 1) || !is_path(index + 2) {
            continue;
        }
        match tokens.get(index + 3) {
            Some(TokenTree::Ident(room)) => found.push((room.to_string(), room.span().start().line)),
            Some(TokenTree::Group(group)) => {
                let mut is_first = true;
                for inner in group.stream() {
                    match inner {
                        TokenTree::Ident(room) if is_first => {
                            found.push((room.to_string(), room.span().start().line));
                            is_first = false;
                        }
                        TokenTree::Punct(point) if point.as_char() == ',' => is_first = true,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
}

fn imports_of(room: &str, path: &Path, text: &str) -> Vec<Import> {
    let mut found = Vec::new();
    rooms_named(shipped(text), &mut found);
    let name = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap_or(path).display().to_string();
    found
        .into_iter()
        .filter(|(to, _)| to != room && floor(to).is_some())
        .map(|(to, line)| Import { from: room.to_owned(), to, place: format!("{name}:{line}") })
        .collect()
}

/// What is wrong with these imports: each that does not run downward, beside one that runs the other way.
fn against_the_order(imports: &[Import]) -> String {
    let mut wrong = String::new();
    let is_upward = |import: &&Import| floor(&import.to) <= floor(&import.from);
    for import in imports.iter().filter(is_upward) {
        let back = imports.iter().find(|other| other.from == import.to && other.to == import.from);
        let because = back.map_or("is not below it".to_owned(), |back| format!("is above it: {} uses {}", back.place, back.to));
        writeln!(wrong, "{} uses {}, and `{}` {because}", import.place, import.to, import.to).unwrap();
    }
    wrong
}

fn all_imports() -> Vec<Import> {
    sources().iter().flat_map(|(room, path)| imports_of(room, path, &std::fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn imports_run_downward_only() {
    let wrong = against_the_order(&all_imports());
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn every_room_has_a_floor() {
    let rooms: Vec<String> = sources().into_iter().map(|(room, _)| room).collect();
    let without: Vec<&String> = rooms.iter().filter(|room| floor(room).is_none()).collect();
    assert!(without.is_empty(), "no floor: {without:?}");
    let empty: Vec<&&str> = FLOORS.iter().copied().flatten().filter(|room| !rooms.iter().any(|other| other == *room)).collect();
    assert!(empty.is_empty(), "no such room: {empty:?}");
}

#[test]
fn the_page_on_architecture_has_the_same_rooms_in_the_same_order() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md")).unwrap();
    let table = page.split("## Three requests").next().unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" | "));
    let told: Vec<Vec<&str>> = rows.map(|(rooms, _)| rooms.split(", ").map(|room| room.trim_matches('`')).collect()).collect();
    assert_eq!(told, FLOORS);
}

#[test]
fn a_planted_upward_import_is_told_with_both_lines() {
    let planted = "use std::fmt;\nuse crate::{\n    verbs::Verbs,\n    cli::run,\n};\n#[cfg(test)]\nmod tests { use crate::report; }\n";
    let mut imports = imports_of("host", Path::new("src/host/planted.rs"), planted);
    imports.extend(imports_of("cli", Path::new("src/cli/planted.rs"), "fn f() { crate::host::read(); }"));
    assert_eq!(against_the_order(&imports), "src/host/planted.rs:4 uses cli, and `cli` is above it: src/cli/planted.rs:1 uses host\n");
}

#[test]
fn commands_do_not_ask_which_host_it_is() {
    let asks = ["captured()", "model_name()", "is_modelled", "host_model"];
    // Where arguments become a host.
    let parses = ["src/cli/mod.rs", "src/cli/session.rs"];
    let of_commands = |path: &PathBuf| path.to_string_lossy().contains("src/cli/") && !parses.iter().any(|end| path.ends_with(end));
    for (_, path) in sources().into_iter().filter(|(_, path)| of_commands(path)) {
        let text = std::fs::read_to_string(&path).unwrap();
        let found = text.lines().enumerate().find(|(_, line)| asks.iter().any(|ask| line.contains(ask)));
        assert_eq!(found, None, "{}", path.display());
    }
}

/// The lines in which something is unsafe.
fn unsafe_lines(tokens: TokenStream, found: &mut Vec<usize>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => unsafe_lines(group.stream(), found),
            TokenTree::Ident(word) if word == "unsafe" => found.push(word.span().start().line),
            _ => {}
        }
    }
}

#[test]
fn unsafe_code_stands_in_few_rooms() {
    let mut places = Vec::new();
    for (room, path) in sources() {
        let mut lines = Vec::new();
        unsafe_lines(shipped(&std::fs::read_to_string(&path).unwrap()), &mut lines);
        if !UNSAFE.contains(&room.as_str()) {
            places.extend(lines.into_iter().map(|line| format!("{}:{line}", path.display())));
        }
    }
    assert!(places.is_empty(), "{places:#?}");
}
