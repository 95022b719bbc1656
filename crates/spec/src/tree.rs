//! YAML as a tree that remembers where everything stood.
//!
//! Not here: what any of it means. Tags, quoting and places stay; aliases and merge keys are
//! resolved; a key that stands twice in one map is an error.
//!
//! Invariants: a tree has at most [`NODES_MAX`] nodes, [`TEXT_MAX`] bytes of text and
//! [`DEPTH_MAX`] levels, aliases counted as often as they are used; reading never recurses.

use std::collections::{BTreeMap, BTreeSet};

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag as YamlTag};

use crate::report::{At, Report};

pub(crate) const NODES_MAX: usize = 100_000;
pub(crate) const TEXT_MAX: usize = 8 << 20;
pub(crate) const DEPTH_MAX: usize = 64;

/// One value of the file.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) tag: Tag,
    pub(crate) at: At,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Null,
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A scalar that is not null.
#[derive(Clone, Debug)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    /// Written without quotes, and not the outcome of interpolation: `1.10` is a number.
    pub(crate) plain: bool,
    /// Stands in the file as it is: nothing was interpolated.
    pub(crate) literal: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) at: At,
    pub(crate) node: Node,
}

/// What Compose's own tags say to the merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    None,
    Reset,
    Override,
}

impl Node {
    pub(crate) fn new(value: Value, at: At) -> Node {
        Node { value, tag: Tag::None, at }
    }

    pub(crate) fn text(text: impl Into<String>, at: At) -> Node {
        Node::new(Value::Scalar(Scalar { text: text.into(), plain: false, literal: true }), at)
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|e| e.key == key).map(|e| &e.node),
            _ => None,
        }
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// How many values it holds, itself among them; recursion is bounded by [`DEPTH_MAX`].
    pub(crate) fn weight(&self) -> usize {
        match &self.value {
            Value::Null | Value::Scalar(_) => 1,
            Value::List(items) => 1 + items.iter().map(Node::weight).sum::<usize>(),
            Value::Map(entries) => 1 + entries.iter().map(|e| e.node.weight()).sum::<usize>(),
        }
    }

    /// What it is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Scalar(_) => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    /// Calls `each` on every scalar; recursion is bounded by [`DEPTH_MAX`].
    pub(crate) fn scalars(&mut self, each: &mut dyn FnMut(&mut Scalar, At)) {
        match &mut self.value {
            Value::Null => {}
            Value::Scalar(scalar) => each(scalar, self.at),
            Value::List(items) => items.iter_mut().for_each(|item| item.scalars(each)),
            Value::Map(entries) => entries.iter_mut().for_each(|e| e.node.scalars(each)),
        }
    }
}

/// Reads every document of `text`. `None` when it cannot be read; the report says why.
pub(crate) fn parse(text: &str, file: u32, report: &mut Report) -> Option<Vec<Node>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder { file, ..Builder::default() };
    if let Err(refusal) = builder.read(text, report) {
        let (cause, next) = match refusal.code {
            "yaml-syntax" => {
                ("the file is not valid YAML", "check indentation and quotes at this place")
            }
            "yaml-bounds" => ("files and what their aliases unfold to are bounded", "split it"),
            _ => ("only plain YAML with Compose's tags is read", "write it another way"),
        };
        report.error(refusal.code, refusal.at, refusal.what, cause, next);
        return None;
    }
    (!builder.failed).then_some(builder.documents)
}

struct Refusal {
    at: At,
    code: &'static str,
    what: String,
}

/// A node with what it weighs, so that an alias can be refused before it is copied.
#[derive(Clone)]
struct Weighed {
    node: Node,
    nodes: usize,
    text: usize,
    height: usize,
}

struct Frame {
    anchor: usize,
    tag: Tag,
    at: At,
    nodes: usize,
    text: usize,
    height: usize,
    kind: FrameKind,
}

enum FrameKind {
    List(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        seen: BTreeMap<String, At>,
        key: Option<(String, At, bool)>,
        merges: Vec<Node>,
    },
}

#[derive(Default)]
struct Builder {
    file: u32,
    documents: Vec<Node>,
    stack: Vec<Frame>,
    anchors: BTreeMap<usize, Weighed>,
    nodes: usize,
    text: usize,
    failed: bool,
}

impl Builder {
    fn read(&mut self, text: &str, report: &mut Report) -> Result<(), Refusal> {
        // The parser lets them through; YAML has them as escapes in double quotes only.
        let control = |c: char| c.is_ascii_control() && !matches!(c, '\t' | '\n' | '\r');
        for (line, text) in text.lines().enumerate() {
            if let Some((column, c)) = text.chars().enumerate().find(|(_, c)| control(*c)) {
                let at = At::new(self.file, line + 1, column + 1);
                let what = format!("the control character {:#04x} is no text", u32::from(c));
                return Err(Refusal { at, code: "yaml-syntax", what });
            }
        }
        for event in Parser::new_from_str(text) {
            let (event, span) = event.map_err(|error| Refusal {
                at: At::new(self.file, error.marker().line(), error.marker().col() + 1),
                code: "yaml-syntax",
                what: error.info().to_owned(),
            })?;
            self.event(event, span, report)?;
        }
        Ok(())
    }

    fn event(&mut self, event: Event<'_>, span: Span, report: &mut Report) -> Result<(), Refusal> {
        let at = At::new(self.file, span.start.line(), span.start.col() + 1);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let (tag, forced) = tag_of(tag.as_deref(), at)?;
                let plain = style == ScalarStyle::Plain && forced.is_none();
                let null = (style == ScalarStyle::Plain && forced != Some("str"))
                    && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let value = match null {
                    true => Value::Null,
                    false => {
                        Value::Scalar(Scalar { text: text.into_owned(), plain, literal: true })
                    }
                };
                let size = match &value {
                    Value::Scalar(scalar) => scalar.text.len(),
                    _ => 0,
                };
                self.charge(1, size, at)?;
                let node = Node { value, tag, at };
                self.place(Weighed { node, nodes: 1, text: size, height: 1 }, anchor, report)
            }
            Event::SequenceStart(anchor, tag) => {
                let tag = tag_of(tag.as_deref(), at)?.0;
                self.open(FrameKind::List(Vec::new()), anchor, tag, at)
            }
            Event::MappingStart(anchor, tag) => {
                let tag = tag_of(tag.as_deref(), at)?.0;
                let kind = FrameKind::Map {
                    entries: Vec::new(),
                    seen: BTreeMap::new(),
                    key: None,
                    merges: Vec::new(),
                };
                self.open(kind, anchor, tag, at)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(report),
            Event::Alias(anchor) => {
                let Some(known) = self.anchors.get(&anchor) else {
                    let what = "an alias refers to the value that it is part of".to_owned();
                    return Err(Refusal { at, code: "yaml-alias", what });
                };
                let (nodes, text) = (known.nodes, known.text);
                if self.stack.len() + known.height > DEPTH_MAX {
                    return Err(too_deep(at));
                }
                self.charge(nodes, text, at)?;
                let copy = self.anchors[&anchor].clone();
                self.place(copy, 0, report)
            }
            _ => Ok(()),
        }
    }

    fn charge(&mut self, nodes: usize, text: usize, at: At) -> Result<(), Refusal> {
        self.nodes = self.nodes.saturating_add(nodes);
        self.text = self.text.saturating_add(text);
        if self.nodes > NODES_MAX || self.text > TEXT_MAX {
            let what = format!("the file holds more than {NODES_MAX} values or {TEXT_MAX} bytes");
            return Err(Refusal { at, code: "yaml-bounds", what });
        }
        Ok(())
    }

    fn open(&mut self, kind: FrameKind, anchor: usize, tag: Tag, at: At) -> Result<(), Refusal> {
        if self.stack.len() >= DEPTH_MAX {
            return Err(too_deep(at));
        }
        self.charge(1, 0, at)?;
        self.stack.push(Frame { anchor, tag, at, nodes: 1, text: 0, height: 1, kind });
        Ok(())
    }

    fn close(&mut self, report: &mut Report) -> Result<(), Refusal> {
        let Some(frame) = self.stack.pop() else { return Ok(()) };
        let value = match frame.kind {
            FrameKind::List(items) => Value::List(items),
            FrameKind::Map { mut entries, merges, .. } => {
                if !merges.is_empty() {
                    merge_keys(&mut entries, merges);
                }
                Value::Map(entries)
            }
        };
        let node = Node { value, tag: frame.tag, at: frame.at };
        let Frame { nodes, text, height, anchor, .. } = frame;
        self.place(Weighed { node, nodes, text, height }, anchor, report)
    }

    /// Puts a finished value where it belongs: under its anchor, and into the value around it.
    fn place(&mut self, done: Weighed, anchor: usize, report: &mut Report) -> Result<(), Refusal> {
        if anchor != 0 {
            // The anchor's own copy lives beside the tree, so it counts too.
            self.charge(done.nodes, done.text, done.node.at)?;
            self.anchors.insert(anchor, done.clone());
        }
        let Some(frame) = self.stack.last_mut() else {
            self.documents.push(done.node);
            return Ok(());
        };
        frame.nodes += done.nodes;
        frame.text += done.text;
        frame.height = frame.height.max(done.height + 1);
        match &mut frame.kind {
            FrameKind::List(items) => items.push(done.node),
            FrameKind::Map { entries, seen, key, merges } => match key.take() {
                None => {
                    let at = done.node.at;
                    *key = Some(match done.node.value {
                        Value::Scalar(scalar) => (scalar.text, at, scalar.plain),
                        Value::Null => ("null".to_owned(), at, false),
                        _ => {
                            let what = "a key is a list or a map".to_owned();
                            return Err(Refusal { at, code: "yaml-key", what });
                        }
                    });
                }
                Some((name, at, true)) if name == "<<" => match done.node.value {
                    Value::Map(_) => merges.push(done.node),
                    Value::List(items)
                        if items.iter().all(|i| matches!(i.value, Value::Map(_))) =>
                    {
                        merges.extend(items);
                    }
                    _ => {
                        let what = "`<<` takes a map, or a list of maps".to_owned();
                        return Err(Refusal { at, code: "yaml-merge-key", what });
                    }
                },
                Some((name, at, _)) => match seen.get(&name) {
                    Some(first) => {
                        self.failed = true;
                        report.error(
                            "duplicate-key",
                            at,
                            format!("`{name}` stands twice in one map"),
                            format!("it is already at line {}", first.line),
                            "keep one of them",
                        );
                    }
                    None => {
                        seen.insert(name.clone(), at);
                        entries.push(Entry { key: name, at, node: done.node });
                    }
                },
            },
        }
        Ok(())
    }
}

/// What `<<` brings in comes after the map's own keys, which win; of several, the earlier win.
fn merge_keys(entries: &mut Vec<Entry>, merges: Vec<Node>) {
    let mut seen: BTreeSet<String> = entries.iter().map(|e| e.key.clone()).collect();
    for merge in merges {
        if let Value::Map(brought) = merge.value {
            entries.extend(brought.into_iter().filter(|e| seen.insert(e.key.clone())));
        }
    }
}

fn too_deep(at: At) -> Refusal {
    let what = format!("values are nested deeper than {DEPTH_MAX} levels");
    Refusal { at, code: "yaml-bounds", what }
}

/// Compose's tag, and the suffix of one of YAML's own.
fn tag_of(tag: Option<&YamlTag>, at: At) -> Result<(Tag, Option<&'static str>), Refusal> {
    let Some(tag) = tag else { return Ok((Tag::None, None)) };
    match (tag.handle.as_str(), tag.suffix.as_str()) {
        ("!", "reset") => Ok((Tag::Reset, None)),
        ("!", "override") => Ok((Tag::Override, None)),
        (_, "str") | ("!", "") if tag.is_yaml_core_schema() || tag.suffix.is_empty() => {
            Ok((Tag::None, Some("str")))
        }
        (_, "null" | "bool" | "int" | "float" | "seq" | "map") if tag.is_yaml_core_schema() => {
            Ok((Tag::None, None))
        }
        _ => Err(Refusal { at, code: "yaml-tag", what: format!("the tag `{tag}` is not known") }),
    }
}
