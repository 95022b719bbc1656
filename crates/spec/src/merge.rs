//! Several files as one tree, by Compose's rules for each key.
//!
//! Not here: what `ports` and `volumes` have in common with one another; they are appended here
//! and made unique where they are read.

use std::collections::{BTreeMap, BTreeSet};

use crate::tree::{Entry, Node, Tag, Value};

/// The tree of `over` laid on `base`. What it resets stays in it, marked, so that it also goes from
/// what this is laid on; [`settle`] takes it out.
pub(crate) fn merge(base: Node, over: Node) -> Node {
    merge_at(base, over, &mut Vec::new())
}

/// The same for one service, which `over` extends.
pub(crate) fn extend(base: Node, over: Node, service: &str) -> Node {
    merge_at(base, over, &mut vec!["services".to_owned(), service.to_owned()])
}

/// Whether two trees say the same, wherever they stand.
pub(crate) fn same(a: &Node, b: &Node) -> bool {
    match (&a.value, &b.value) {
        (Value::Null, Value::Null) => true,
        (Value::Scalar(a), Value::Scalar(b)) => a.shown() == b.shown(),
        (Value::List(a), Value::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Map(a), Value::Map(b)) => {
            a.len() == b.len()
                && a.iter().all(|a| b.iter().any(|b| a.key == b.key && same(&a.node, &b.node)))
        }
        _ => false,
    }
}

/// What `!reset` and `!override` leave when there is nothing below them: a reset value is gone.
pub(crate) fn settle(mut node: Node) -> Node {
    node.tag = Tag::None;
    node.value = match node.value {
        Value::Map(entries) => {
            let kept = entries.into_iter().filter(|e| e.node.tag != Tag::Reset);
            Value::Map(kept.map(|e| Entry { node: settle(e.node), ..e }).collect())
        }
        Value::List(items) => {
            let kept = items.into_iter().filter(|n| n.tag != Tag::Reset);
            Value::List(kept.map(settle).collect())
        }
        value => value,
    };
    node
}

fn merge_at(base: Node, over: Node, path: &mut Vec<String>) -> Node {
    if over.tag != Tag::None || base.tag == Tag::Reset || replaces(path) {
        return over;
    }
    if let ["services", _, "logging"] = words(path)[..]
        && let (Some(before), Some(after)) = (base.get("driver"), over.get("driver"))
        && !same(before, after)
    {
        // Options are a driver's own.
        return over;
    }
    let (base, over) = match shape(path) {
        Shape::Pairs => (pairs(base), pairs(over)),
        Shape::Hosts => (hosts(base), hosts(over)),
        Shape::Names => (names(base), names(over)),
        Shape::Waits => (waits(base), waits(over)),
        Shape::List => (listed(base), listed(over)),
        Shape::Build => (build(base), build(over)),
        Shape::AsIs => (base, over),
    };
    match (base.value, over.value) {
        (Value::Map(base_entries), Value::Map(over_entries)) => {
            let at = over.at;
            Node::new(Value::Map(merge_maps(base_entries, over_entries, path)), at)
        }
        (Value::List(mut items), Value::List(more)) => {
            items.extend(more);
            Node { value: Value::List(items), tag: base.tag, at: base.at }
        }
        // `key:` with nothing behind it leaves what was said before.
        (value, Value::Null) => Node { value, tag: base.tag, at: base.at },
        (_, value) => Node { value, tag: over.tag, at: over.at },
    }
}

fn merge_maps(base: Vec<Entry>, over: Vec<Entry>, path: &mut Vec<String>) -> Vec<Entry> {
    let mut places: BTreeMap<String, usize> =
        base.iter().enumerate().map(|(i, e)| (e.key.clone(), i)).collect();
    let mut base: Vec<Option<Entry>> = base.into_iter().map(Some).collect();
    for entry in over {
        let known = places.get(&entry.key).copied();
        let below = known.and_then(|i| base[i].take());
        let merged = match below {
            Some(below) => {
                path.push(entry.key.clone());
                let node = merge_at(below.node, entry.node, path);
                path.pop();
                Entry { node, key: entry.key, at: entry.at }
            }
            None => entry,
        };
        match known {
            Some(i) => base[i] = Some(merged),
            None => {
                places.insert(merged.key.clone(), base.len());
                base.push(Some(merged));
            }
        }
    }
    base.into_iter().flatten().collect()
}

fn words(path: &[String]) -> Vec<&str> {
    path.iter().map(String::as_str).collect()
}

/// Keys whose later value stands alone.
fn replaces(path: &[String]) -> bool {
    matches!(
        words(path)[..],
        ["services", _, "command" | "entrypoint"]
            | ["services", _, "healthcheck", "test"]
            | ["services", _, "x-mainspring", _]
    )
}

enum Shape {
    /// A map, or a list of `KEY=value`.
    Pairs,
    /// A map, or a list of its keys.
    Names,
    /// A map from names to addresses, or a list of `name=address`.
    Hosts,
    /// A map of dependencies, or a list of their names.
    Waits,
    /// A list, or its only item.
    List,
    /// A map, or its `context`.
    Build,
    AsIs,
}

fn shape(path: &[String]) -> Shape {
    match words(path)[..] {
        ["services", _, "environment" | "labels" | "annotations" | "sysctls"]
        | ["services", _, "build", "args" | "labels" | "additional_contexts"]
        | ["services", _, "deploy", "labels"]
        | ["volumes" | "networks" | "secrets" | "configs", _, "labels"] => Shape::Pairs,
        ["services", _, "networks"] => Shape::Names,
        ["services", _, "depends_on"] => Shape::Waits,
        ["services", _, "env_file" | "tmpfs" | "dns" | "dns_search" | "label_file"] => Shape::List,
        ["services", _, "build"] => Shape::Build,
        ["services", _, "extra_hosts"] => Shape::Hosts,
        _ => Shape::AsIs,
    }
}

/// A list of `KEY=value` as a map, so that it merges with one.
pub(crate) fn pairs(node: Node) -> Node {
    let Value::List(items) = node.value else { return node };
    let mut entries: Vec<Entry> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let mut rest = Vec::new();
    for item in items {
        let Value::Scalar(scalar) = &item.value else {
            rest.push(item);
            continue;
        };
        let (key, value) = match scalar.text.split_once('=') {
            Some((key, value)) => {
                let mut value = Node::text(value, item.at);
                if let Value::Scalar(inner) = &mut value.value {
                    inner.literal = scalar.literal;
                }
                (key.to_owned(), value)
            }
            None => (scalar.text.clone(), Node::new(Value::Null, item.at)),
        };
        let entry = Entry { key: key.clone(), at: item.at, node: value };
        match places.get(&key) {
            Some(i) => entries[*i] = entry,
            None => {
                places.insert(key, entries.len());
                entries.push(entry);
            }
        }
    }
    // What is no pair stays a list, so that the reader refuses it with its place.
    let value = if rest.is_empty() { Value::Map(entries) } else { Value::List(rest) };
    Node { value, tag: node.tag, at: node.at }
}

/// A list of names as a map of them.
pub(crate) fn names(node: Node) -> Node {
    let Value::List(items) = &node.value else { return node };
    let mut entries: Vec<Entry> = Vec::new();
    let mut seen = BTreeSet::new();
    for item in items {
        let Value::Scalar(scalar) = &item.value else { return node };
        if seen.insert(scalar.text.as_str()) {
            let nothing = Node::new(Value::Null, item.at);
            entries.push(Entry { key: scalar.text.clone(), at: item.at, node: nothing });
        }
    }
    Node { value: Value::Map(entries), tag: node.tag, at: node.at }
}

/// A list of dependencies as a map: a bare name says that it is waited for to start, and says so
/// over what was said before.
fn waits(node: Node) -> Node {
    let list = matches!(node.value, Value::List(_));
    let mut node = names(node);
    if let (true, Value::Map(entries)) = (list, &mut node.value) {
        for entry in entries {
            let said = |key: &str, text: &str| Entry {
                key: key.to_owned(),
                at: entry.at,
                node: Node::text(text, entry.at),
            };
            let pair = vec![said("condition", "service_started"), said("required", "true")];
            entry.node.value = Value::Map(pair);
        }
    }
    node
}

fn listed(node: Node) -> Node {
    match node.value {
        Value::List(_) | Value::Null => node,
        _ => {
            let (tag, at) = (node.tag, node.at);
            Node { value: Value::List(vec![Node { tag: Tag::None, ..node }]), tag, at }
        }
    }
}

/// Names and addresses as a list of `name=address`, whichever way they were written.
pub(crate) fn hosts(node: Node) -> Node {
    let Value::Map(entries) = node.value else { return node };
    let mut items = Vec::new();
    for entry in entries {
        let addresses = match entry.node.value {
            Value::List(addresses) => addresses,
            _ => vec![entry.node],
        };
        for address in addresses {
            let text = match &address.value {
                Value::Scalar(scalar) => format!("{}={}", entry.key, scalar.text),
                _ => entry.key.clone(),
            };
            items.push(Node::text(text, address.at));
        }
    }
    Node { value: Value::List(items), tag: node.tag, at: node.at }
}

/// `build: dir` as `build: {context: dir}`.
pub(crate) fn build(node: Node) -> Node {
    let Value::Scalar(_) = &node.value else { return node };
    let (tag, at) = (node.tag, node.at);
    let context = Entry { key: "context".to_owned(), at, node: Node { tag: Tag::None, ..node } };
    Node { value: Value::Map(vec![context]), tag, at }
}
