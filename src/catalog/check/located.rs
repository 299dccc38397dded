//! A YAML text as a tree in which everything has its place. serde tells of the first mistake only, and of nothing that is missing where
//! it should stand.

use std::collections::HashMap;
use std::fmt;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use serde_yaml::Value;

use super::Problem;

/// A place in a text, both numbers counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

impl Place {
    /// The beginning of a text.
    pub const START: Self = Self { line: 1, column: 1 };
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// As deep as serde_yaml goes; a text that goes deeper has no tree.
const DEEPEST: usize = 128;

/// A value and where it begins.
pub(super) struct Node {
    pub place: Place,
    pub content: Content,
}

pub(super) enum Content {
    /// What serde_yaml takes it for: a word, a number, a truth value, or nothing.
    Scalar(Value),
    List(Vec<Node>),
    /// In the order of the text.
    Map(Vec<Entry>),
    /// An alias or something with a tag: it may be anything.
    Opaque,
}

pub(super) struct Entry {
    pub key: String,
    pub place: Place,
    pub value: Node,
}

impl Node {
    /// The first document of a text, if the text is well formed.
    pub fn parse(text: &str) -> Option<Self> {
        let mut open: Vec<Open> = Vec::new();
        for event in Parser::new_from_str(text) {
            let (event, span) = event.ok()?;
            let node = match event {
                Event::SequenceStart(_, None) => {
                    open.push(Open { place: place(span), key: None, content: Content::List(Vec::new()) });
                    None
                }
                Event::MappingStart(_, None) => {
                    open.push(Open { place: place(span), key: None, content: Content::Map(Vec::new()) });
                    None
                }
                Event::SequenceStart(..) | Event::MappingStart(..) => {
                    open.push(Open { place: place(span), key: None, content: Content::Opaque });
                    None
                }
                Event::SequenceEnd | Event::MappingEnd => open.pop().map(|open| Self { place: open.place, content: open.content }),
                Event::Scalar(text, style, _, None) => Some(Self { place: place(span), content: Content::Scalar(scalar(&text, style)) }),
                Event::Scalar(..) | Event::Alias(_) => Some(Self { place: place(span), content: Content::Opaque }),
                _ => None,
            };
            if open.len() > DEEPEST {
                return None;
            }
            let Some(node) = node else { continue };
            match open.last_mut() {
                Some(parent) => parent.take(node),
                None => return Some(node),
            }
        }
        None
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        match &self.content {
            Content::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// Where each value stands, by a path such as `releases[0].queues`.
    pub fn places(&self) -> HashMap<String, Place> {
        let mut places = HashMap::new();
        let mut left = vec![(String::new(), self)];
        while let Some((path, node)) = left.pop() {
            match &node.content {
                Content::Map(entries) => left.extend(entries.iter().map(|entry| (below(&path, &entry.key), &entry.value))),
                Content::List(items) => left.extend(items.iter().enumerate().map(|(index, item)| (format!("{path}[{index}]"), item))),
                Content::Scalar(_) | Content::Opaque => {}
            }
            places.insert(path, node.place);
        }
        places
    }
}

/// Why a strict reader takes a text for no YAML, of which serde_yaml may take more: a comment that no space parts from a value.
pub(super) fn refused(text: &str) -> Option<Problem> {
    let error = Parser::new_from_str(text).find_map(Result::err)?;
    let place = Place { line: error.marker().line(), column: error.marker().col() + 1 };
    Some(Problem::at(place, format!("strict readers of YAML refuse this: {}", error.info())))
}

/// The path of a key below another path.
pub(super) fn below(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// A list or map whose end has not come yet.
struct Open {
    place: Place,
    /// A key whose value has not come yet.
    key: Option<(String, Place)>,
    content: Content,
}

impl Open {
    fn take(&mut self, node: Node) {
        match &mut self.content {
            Content::List(items) => items.push(node),
            Content::Map(entries) => match self.key.take() {
                Some((key, place)) => entries.push(Entry { key, place, value: node }),
                None => self.key = Some((key_of(&node.content), node.place)),
            },
            Content::Scalar(_) | Content::Opaque => {}
        }
    }
}

fn key_of(content: &Content) -> String {
    match content {
        Content::Scalar(Value::String(text)) => text.clone(),
        Content::Scalar(other) => serde_yaml::to_string(other).unwrap_or_default().trim_end().to_owned(),
        Content::List(_) | Content::Map(_) | Content::Opaque => "?".to_owned(),
    }
}

/// serde_yaml's own word on what a plain scalar is.
fn scalar(text: &str, style: ScalarStyle) -> Value {
    match style {
        ScalarStyle::Plain => serde_yaml::from_str(text).ok().filter(|value: &Value| !value.is_mapping() && !value.is_sequence()),
        _ => None,
    }
    .unwrap_or_else(|| Value::String(text.to_owned()))
}

fn place(span: Span) -> Place {
    Place { line: span.start.line(), column: span.start.col() + 1 }
}
