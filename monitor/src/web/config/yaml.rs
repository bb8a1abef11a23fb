//! A YAML document as a tree whose nodes know their lines. What a configuration needs none of is refused: anchors with
//! their aliases, by which a small file can stand for a huge one, tags, and keys that are no words.

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use crate::config::Fault;

/// How deep lists and mappings may nest.
const DEPTH: usize = 8;

#[derive(Debug, PartialEq, Eq)]
pub struct Node {
    pub line: usize,
    pub value: Value,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Value {
    /// The text; and whether it was quoted, which makes a string of what could be something else.
    Scalar(String, bool),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: String,
    pub line: usize,
    pub value: Node,
}

impl Node {
    /// Nothing was written, or the word for it.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(text, false) if matches!(text.as_str(), "" | "~" | "null"))
    }
}

/// A list or a mapping that is not at its end yet; of a mapping, with the key whose value comes next.
struct Open {
    node: Node,
    key: Option<(String, usize)>,
}

/// The one document of this text; `None` where it holds nothing.
pub fn parse(text: &str) -> Result<Option<Node>, Fault> {
    let mut open: Vec<Open> = Vec::new();
    let mut root = None;
    for event in Parser::new_from_str(text) {
        let (event, span) =
            event.map_err(|error| fault(error.marker().line(), format!("no YAML: {}", error.info())))?;
        let done = match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => continue,
            Event::DocumentStart(_) if root.is_some() => {
                return Err(fault(line(&span), "a second document; one is read".into()));
            }
            Event::DocumentStart(_) => continue,
            Event::Alias(_) => return Err(unwanted(&span)),
            Event::Scalar(text, style, anchor, tag) => {
                if anchor != 0 || tag.is_some() {
                    return Err(unwanted(&span));
                }
                let quoted = style != ScalarStyle::Plain;
                Node { line: line(&span), value: Value::Scalar(text.into_owned(), quoted) }
            }
            Event::SequenceStart(anchor, tag) | Event::MappingStart(anchor, tag)
                if anchor != 0 || tag.is_some() || open.len() >= DEPTH =>
            {
                let deep = open.len() >= DEPTH;
                return Err(if deep {
                    fault(line(&span), format!("nested deeper than {DEPTH} levels"))
                } else {
                    unwanted(&span)
                });
            }
            Event::SequenceStart(..) => {
                open.push(Open::new(&span, Value::List(Vec::new())));
                continue;
            }
            Event::MappingStart(..) => {
                open.push(Open::new(&span, Value::Map(Vec::new())));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(closed) => closed.node,
                None => continue,
            },
        };
        match open.last_mut() {
            Some(parent) => parent.add(done)?,
            None => root = Some(done),
        }
    }
    Ok(root.filter(|root: &Node| !root.is_null()))
}

impl Open {
    fn new(span: &Span, value: Value) -> Open {
        Open { node: Node { line: line(span), value }, key: None }
    }

    fn add(&mut self, node: Node) -> Result<(), Fault> {
        match (&mut self.node.value, self.key.take()) {
            (Value::List(list), _) => list.push(node),
            (Value::Map(map), Some((key, line))) => map.push(Entry { key, line, value: node }),
            (Value::Map(map), None) => match node.value {
                Value::Scalar(key, _) if map.iter().any(|entry| entry.key == key) => {
                    return Err(fault(node.line, format!("{key}: a second time")));
                }
                Value::Scalar(key, _) => self.key = Some((key, node.line)),
                Value::List(_) | Value::Map(_) => {
                    return Err(fault(node.line, "a key that is no word".into()));
                }
            },
            (Value::Scalar(..), _) => {}
        }
        Ok(())
    }
}

fn line(span: &Span) -> usize {
    span.start.line()
}

fn fault(line: usize, what: String) -> Fault {
    Fault { line: Some(line), what }
}

fn unwanted(span: &Span) -> Fault {
    fault(line(span), "anchors (&), aliases (*) and tags (!) are not read; write the value itself, in quotes if it begins so".into())
}
