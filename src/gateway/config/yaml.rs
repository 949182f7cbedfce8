//! A file in YAML as a tree that knows where each part stands, within bounds that no file of a
//! gateway comes near: this is where a hostile one ends.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, StrInput};

use super::mistake::Place;

/// Octets of a file.
pub(super) const LARGEST_FILE: usize = 1 << 20;
/// Mappings and lists within each other.
pub(super) const DEEPEST: usize = 32;
/// Octets of all texts with aliases written out, and [`PER_NODE`] for every node.
pub(super) const LARGEST_TREE: usize = 4 << 20;
const PER_NODE: usize = 32;

/// One node of the tree.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Where it begins; 0 for what does not come from a file.
    pub(super) line: usize,
    /// From 1, in characters.
    pub(super) column: usize,
    /// What it is.
    pub(super) value: Value,
}

impl Node {
    /// Whether nothing is written there, as where everything below a key is commented out.
    pub(super) fn is_empty(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if text.is_empty())
    }
}

/// What a node is.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// Text; `plain` where it stands without quotes, so that it may be a number or the like.
    Scalar {
        /// Without quotes and escapes.
        text: String,
        /// Without quotes, a block or a tag.
        plain: bool,
    },
    /// Items.
    List(Vec<Node>),
    /// Keys with values, as they stand: a key may be there twice.
    Map(Vec<(Entry, Node)>),
}

/// A key of a mapping.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// Its text.
    pub(super) name: String,
    /// Where it stands.
    pub(super) line: usize,
    /// From 1, in characters.
    pub(super) column: usize,
}

/// What is wrong, and where.
pub(super) type Mistake = (Place, String);

/// Reads a file with one document; an empty one is an empty mapping.
///
/// # Errors
/// The first mistake, as nothing behind it can be trusted.
pub(super) fn parse(text: &str) -> Result<Node, Mistake> {
    if text.len() > LARGEST_FILE {
        let message = format!("more than {LARGEST_FILE} octets");
        return Err(mistake(1, 1, message));
    }
    let mut tree = Tree {
        parser: Parser::new_from_str(text),
        anchors: HashMap::new(),
        size: 0,
    };
    let mut root = None;
    loop {
        let (event, mark) = tree.next()?;
        match event {
            Event::StreamEnd => break,
            Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
            _ if root.is_some() => {
                return Err(at(mark, "a second document; a gateway has one".to_owned()));
            }
            event => root = Some(tree.node(event, mark, 0)?.0),
        }
    }
    Ok(root.unwrap_or(Node {
        line: 1,
        column: 1,
        value: Value::Map(Vec::new()),
    }))
}

struct Tree<'a> {
    parser: Parser<'a, StrInput<'a>>,
    /// Complete nodes that aliases may stand for, each with how deep it is and its size.
    anchors: HashMap<usize, (Node, usize, usize)>,
    size: usize,
}

impl<'a> Tree<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Marker), Mistake> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, span.start)),
            Some(Err(error)) => Err(at(*error.marker(), format!("not YAML: {}", error.info()))),
            None => Ok((Event::StreamEnd, Marker::default())),
        }
    }

    /// The node that `event` begins, and how deep it is.
    fn node(
        &mut self,
        event: Event<'a>,
        mark: Marker,
        depth: usize,
    ) -> Result<(Node, usize), Mistake> {
        if depth > DEEPEST {
            return Err(at(mark, format!("nested more than {DEEPEST} deep")));
        }
        let before = self.size;
        self.grow(PER_NODE, mark)?;
        let (value, height, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let text_tag = tag.as_ref().is_some_and(|tag| tag.suffix == "str");
                if tag.is_some_and(|tag| !(tag.is_yaml_core_schema() && text_tag)) {
                    return Err(at(mark, "tags have no meaning here".to_owned()));
                }
                self.grow(text.len(), mark)?;
                let plain = style == ScalarStyle::Plain && !text_tag;
                let text = text.into_owned();
                (Value::Scalar { text, plain }, 0, anchor)
            }
            Event::SequenceStart(anchor, None) => {
                let (items, height) = self.items(depth)?;
                (Value::List(items), height, anchor)
            }
            Event::MappingStart(anchor, None) => {
                let (entries, height) = self.entries(depth)?;
                (Value::Map(entries), height, anchor)
            }
            Event::Alias(anchor) => return self.alias(anchor, mark, depth),
            _ => return Err(at(mark, "tags have no meaning here".to_owned())),
        };
        let node = Node {
            line: mark.line(),
            column: mark.col() + 1,
            value,
        };
        if anchor != 0 {
            let kept = (node.clone(), height, self.size - before);
            // The copy that waits here takes room, too.
            self.grow(kept.2, mark)?;
            self.anchors.insert(anchor, kept);
        }
        Ok((node, height))
    }

    fn items(&mut self, depth: usize) -> Result<(Vec<Node>, usize), Mistake> {
        let (mut items, mut height) = (Vec::new(), 0);
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok((items, height)),
                (event, mark) => {
                    let (item, below) = self.node(event, mark, depth + 1)?;
                    height = height.max(below + 1);
                    items.push(item);
                }
            }
        }
    }

    fn entries(&mut self, depth: usize) -> Result<(Vec<(Entry, Node)>, usize), Mistake> {
        let mut entries = Vec::new();
        let mut height = 0;
        loop {
            let (event, mark) = self.next()?;
            if event == Event::MappingEnd {
                return Ok((entries, height));
            }
            let key = self.node(event, mark, depth + 1)?.0;
            let Value::Scalar { text: name, .. } = key.value else {
                return Err(at(mark, "a key that is no text".to_owned()));
            };
            let (event, mark) = self.next()?;
            let (value, below) = self.node(event, mark, depth + 1)?;
            height = height.max(below + 1);
            let (line, column) = (key.line, key.column);
            entries.push((Entry { name, line, column }, value));
        }
    }

    fn alias(
        &mut self,
        anchor: usize,
        mark: Marker,
        depth: usize,
    ) -> Result<(Node, usize), Mistake> {
        let Some((_, height, size)) = self.anchors.get(&anchor) else {
            return Err(at(mark, "an alias within what it stands for".to_owned()));
        };
        let (height, size) = (*height, *size);
        if depth + height > DEEPEST {
            return Err(at(mark, format!("nested more than {DEEPEST} deep")));
        }
        self.grow(size, mark)?;
        let copy = self.anchors.get(&anchor).map(|kept| kept.0.clone());
        let mut copy = copy.ok_or_else(|| at(mark, String::new()))?;
        // What is wrong with it shows where it is used; what is wrong in it, where it is written.
        (copy.line, copy.column) = (mark.line(), mark.col() + 1);
        Ok((copy, height))
    }

    fn grow(&mut self, size: usize, mark: Marker) -> Result<(), Mistake> {
        self.size = self.size.saturating_add(size);
        if self.size > LARGEST_TREE {
            let reason =
                format!("too much with all aliases written out; allowed are {LARGEST_TREE} octets");
            return Err(at(mark, reason));
        }
        Ok(())
    }
}

fn at(mark: Marker, message: String) -> Mistake {
    mistake(mark.line(), mark.col() + 1, message)
}

fn mistake(line: usize, column: usize, message: String) -> Mistake {
    let place = Place {
        line: line.max(1),
        column,
        path: String::new(),
    };
    (place, message)
}
