//! The library's public surface, as docs/public-items.txt lists it (`make public` writes it anew): an item becomes public, or goes, on
//! purpose, and whoever reviews a change sees it in one line.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use syn::{Item, UseTree, Visibility};

/// A module's file or its text in a file, with the way to it.
struct Module {
    /// From the crate's root, such as `checks::gpus`.
    way: Vec<String>,
    /// Where its own modules lie.
    directory: PathBuf,
    items: Vec<Item>,
}

fn parse(file: &Path) -> Vec<Item> {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let items = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display())).items;
    items.into_iter().map(|item| declared(&item).unwrap_or(item)).collect()
}

/// The enum that `words!` declares.
fn declared(item: &Item) -> Option<Item> {
    let Item::Macro(call) = item else { return None };
    let mut tokens = call.mac.tokens.clone().into_iter().skip_while(|token| token.to_string() != "enum");
    let name = tokens.nth(1).filter(|_| call.mac.path.segments.last().is_some_and(|last| last.ident == "words"))?;
    syn::parse_str(&format!("pub enum {name} {{}}")).ok()
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

impl Module {
    fn root() -> Self {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        Self { way: Vec::new(), items: parse(&directory.join("lib.rs")), directory }
    }

    /// A module of this one.
    fn child(&self, name: &str) -> Option<Self> {
        let is_it = |item: &&Item| matches!(item, Item::Mod(module) if module.ident == name);
        let Some(Item::Mod(found)) = self.items.iter().find(is_it) else { return None };
        let way = self.way.iter().cloned().chain([name.to_owned()]).collect();
        let directory = self.directory.join(name);
        let items = match &found.content {
            Some((_, items)) => items.clone(),
            None => {
                let beside = self.directory.join(format!("{name}.rs"));
                parse(&if beside.exists() { beside } else { directory.join("mod.rs") })
            }
        };
        Some(Self { way, directory, items })
    }

    /// The kind of an item by its name; what is used from elsewhere once more has the kind that it has there.
    fn kind(&self, name: &str) -> Option<&'static str> {
        let own = self.items.iter().find_map(|item| named(item).filter(|(_, ident, _)| ident == name));
        own.map(|(kind, ..)| kind).or_else(|| {
            let mut uses = Vec::new();
            for item in &self.items {
                if let Item::Use(used) = item {
                    leaves(&used.tree, &mut Vec::new(), &mut uses);
                }
            }
            let (way, last, _) = uses.into_iter().find(|(_, _, renamed)| renamed == name)?;
            self.resolve(&way)?.kind(&last)
        })
    }

    /// The module that a use names: below this one, or from the root.
    fn resolve(&self, way: &[String]) -> Option<Self> {
        let (mut at, rest) = match way.split_first() {
            Some((first, rest)) if first == "crate" => (Self::root(), rest),
            Some((first, rest)) if first == "self" => (self.again(), rest),
            _ => (self.again(), way),
        };
        for name in rest {
            at = at.child(name)?;
        }
        Some(at)
    }

    fn again(&self) -> Self {
        Self { way: self.way.clone(), directory: self.directory.clone(), items: self.items.clone() }
    }

    /// Its public items and those of its public modules.
    fn list(&self, lines: &mut BTreeSet<String>) {
        let full = |name: &str| self.way.iter().map(String::as_str).chain([name]).collect::<Vec<_>>().join("::");
        for item in &self.items {
            match item {
                Item::Mod(module) if is_public(&module.vis) => {
                    let name = module.ident.to_string();
                    lines.insert(format!("{} mod", full(&name)));
                    self.child(&name).unwrap().list(lines);
                }
                Item::Use(used) if is_public(&used.vis) => {
                    let mut uses = Vec::new();
                    leaves(&used.tree, &mut Vec::new(), &mut uses);
                    for (way, last, renamed) in uses {
                        if way.first().is_some_and(|first| first == "rdmadoctor_types") {
                            // Another crate's: its own surface.
                            lines.insert(format!("{}::{last} use", full(&way.join("::"))));
                            continue;
                        }
                        if last == "*" {
                            // What is public there is public here.
                            let whole = self.resolve(&way).unwrap_or_else(|| panic!("`pub use {}::*` is of no module", way.join("::")));
                            Self { way: self.way.clone(), ..whole }.list(lines);
                            continue;
                        }
                        let kind = self.resolve(&way).and_then(|module| module.kind(&last));
                        lines.insert(format!("{} {}", full(&renamed), kind.unwrap_or("use")));
                    }
                }
                other => {
                    if let Some((kind, name, true)) = named(other) {
                        lines.insert(format!("{} {kind}", full(&name)));
                    }
                }
            }
        }
    }
}

/// Kind, name, and whether it is public.
fn named(item: &Item) -> Option<(&'static str, String, bool)> {
    let (kind, name, visibility) = match item {
        Item::Const(item) => ("const", &item.ident, &item.vis),
        Item::Enum(item) => ("enum", &item.ident, &item.vis),
        Item::Fn(item) => ("fn", &item.sig.ident, &item.vis),
        Item::Static(item) => ("static", &item.ident, &item.vis),
        Item::Struct(item) => ("struct", &item.ident, &item.vis),
        Item::Trait(item) => ("trait", &item.ident, &item.vis),
        Item::Type(item) => ("type", &item.ident, &item.vis),
        Item::Union(item) => ("union", &item.ident, &item.vis),
        Item::Mod(item) => ("mod", &item.ident, &item.vis),
        _ => return None,
    };
    Some((kind, name.to_string(), is_public(visibility)))
}

/// Each name of a use: the way to it, its last part, and what it is called here.
fn leaves(tree: &UseTree, way: &mut Vec<String>, found: &mut Vec<(Vec<String>, String, String)>) {
    match tree {
        UseTree::Path(path) => {
            way.push(path.ident.to_string());
            leaves(&path.tree, way, found);
            way.pop();
        }
        UseTree::Name(name) => found.push((way.clone(), name.ident.to_string(), name.ident.to_string())),
        UseTree::Rename(name) => found.push((way.clone(), name.ident.to_string(), name.rename.to_string())),
        UseTree::Group(group) => group.items.iter().for_each(|tree| leaves(tree, way, found)),
        UseTree::Glob(_) => found.push((way.clone(), "*".to_owned(), "*".to_owned())),
    }
}

#[test]
fn the_listing_is_the_public_surface() {
    let mut lines = BTreeSet::new();
    Module::root().list(&mut lines);
    let text = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/public-items.txt");
    if std::env::var_os("RDMADOCTOR_WRITE_PUBLIC").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    let known: BTreeSet<String> = kept.lines().map(str::to_owned).collect();
    let more: Vec<&String> = lines.difference(&known).collect();
    let gone: Vec<&String> = known.difference(&lines).collect();
    assert!(kept == text, "docs/public-items.txt lacks {more:#?}, and has still {gone:#?}; run `make public` if that is meant");
}
