//! Rust for messages: a structure each, and how it is decoded and encoded in every version.
//!
//! What is made is only calls of `reader`, `writer` and `codec`; whatever is the same for all
//! fields is written there once.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::schema::{Field, Message, Versions};

/// The whole file.
pub(crate) fn all(messages: &[Message]) -> String {
    let mut out = String::new();
    let mut modules: BTreeMap<String, Vec<&Message>> = BTreeMap::new();
    for message in messages {
        modules.entry(snake(&message.name)).or_default().push(message);
    }
    for (module, messages) in &modules {
        let name = &messages[0].name;
        let _ = writeln!(out, "/// {name}.\npub mod {module} {{\nuse crate::prelude::*;");
        let mut made: BTreeMap<String, Structure> = BTreeMap::new();
        for message in messages {
            let name = match message.api {
                Some((_, true)) => "Request",
                Some((_, false)) => "Response",
                None => &message.name,
            };
            gather(&mut made, name, &message.fields, message.versions);
            if let (Some((key, true)), (min, max)) = (message.api, message.versions) {
                let flexible = message.flexible;
                let title = &message.name;
                let _ = writeln!(
                    out,
                    "impl crate::Request for Request {{ type Response = Response; const API: Api = \
                     Api {{ key: {key}, name: \"{title}\", min: {min}, max: {max}, flexible: {flexible} }}; }}"
                );
            }
        }
        // Who answers says what there is; what a version has no place for is left out.
        for message in messages.iter().filter(|message| matches!(message.api, Some((_, false)))) {
            ignore_all(&mut made, "Response", &message.fields);
        }
        for (name, structure) in &made {
            let flexible = match messages[0].flexible {
                i16::MAX => "false".to_owned(),
                first if first <= structure.within.0 => "true".to_owned(),
                first => format!("version >= {first}"),
            };
            let code = Code { flexible, within: structure.within, message: messages[0] };
            out.push_str(&code.structure(name, &structure.fields));
        }
        out.push_str("}\n");
    }
    let mut apis: Vec<(i16, String)> = messages
        .iter()
        .filter_map(|message| match message.api {
            Some((key, true)) => Some((key, snake(&message.name))),
            _ => None,
        })
        .collect();
    apis.sort();
    out.push_str(
        "/// Every API that has messages here, by key.\npub const APIS: &[crate::Api] = &[\n",
    );
    for (_, module) in &apis {
        let _ = writeln!(out, "<{module}::Request as crate::Request>::API,");
    }
    out.push_str("];\n");
    // For tests and fuzzing: every message by name.
    out.push_str(
        "#[cfg(any(test, fuzzing))]\npub(crate) const EVERY: &[crate::fuzzing::Every] = &[\n",
    );
    for (module, messages) in &modules {
        for message in messages {
            let (min, max) = message.versions;
            let name = match message.api {
                Some((_, true)) => "Request",
                Some((_, false)) => "Response",
                None => &message.name,
            };
            let again = format!("crate::fuzzing::again::<{module}::{name}>");
            let _ = writeln!(out, "(\"{module}::{name}\", {min}, {max}, {again}),");
        }
    }
    out.push_str("];\n");
    out
}

/// A structure, and the versions that it is in.
struct Structure {
    within: Versions,
    fields: Vec<Field>,
}

/// Adds a structure and those in it. One that is used in several places is in the versions of all.
fn gather(all: &mut BTreeMap<String, Structure>, name: &str, fields: &[Field], within: Versions) {
    for field in fields.iter().filter(|field| !field.fields.is_empty()) {
        gather(all, &field.kind, &field.fields, field.versions);
    }
    let Some(before) = all.get_mut(name) else {
        all.insert(name.to_owned(), Structure { within, fields: fields.to_vec() });
        return;
    };
    let union = |one: Versions, other: Versions| (one.0.min(other.0), one.1.max(other.1));
    assert!(before.fields.len() == fields.len(), "two structures `{name}` differ");
    before.within = union(before.within, within);
    for (field, same) in before.fields.iter_mut().zip(fields) {
        assert!(
            (&field.name, &field.kind, field.array) == (&same.name, &same.kind, same.array),
            "two structures `{name}` differ"
        );
        field.versions = union(field.versions, same.versions);
    }
}

fn ignore_all(all: &mut BTreeMap<String, Structure>, name: &str, fields: &[Field]) {
    for field in fields.iter().filter(|field| !field.fields.is_empty()) {
        ignore_all(all, &field.kind, &field.fields);
    }
    for field in all.get_mut(name).into_iter().flat_map(|structure| &mut structure.fields) {
        field.ignorable = true;
    }
}

struct Code<'a> {
    flexible: String,
    within: Versions,
    message: &'a Message,
}

impl Code<'_> {
    fn structure(&self, name: &str, fields: &[Field]) -> String {
        let (mut members, mut defaults) = (String::new(), String::new());
        let (mut decode, mut encode) = (String::new(), String::new());
        let (mut decode_tags, mut encode_tags) = (String::new(), String::new());
        let mut least = 0;
        for field in fields {
            let member = ident(&field.name);
            let _ = writeln!(members, "/// {}\npub {member}: {},", self.about(field), rust(field));
            let _ = writeln!(defaults, "{member}: {},", default(field));
            if let Some(tag) = field.tag {
                let read = self.read(field);
                let when =
                    self.condition(field.versions).map_or_else(String::new, |c| format!("if {c} "));
                let _ = writeln!(decode_tags, "{tag} {when}=> this.{member} = {read},");
                let write = self.write(field, &format!("self.{member}"));
                let is_default = is_default(field, &format!("self.{member}"));
                let condition =
                    self.condition(field.versions).map_or_else(String::new, |c| format!("{c} && "));
                let _ = writeln!(
                    encode_tags,
                    "if {condition}!({is_default}) {{ tags.add({tag}, |out| {{ {write}; Ok(()) }})?; }}"
                );
                continue;
            }
            let (read, write) = (self.read(field), self.write(field, &format!("self.{member}")));
            match self.condition(field.versions) {
                None => {
                    least += least_bytes(field);
                    let _ = writeln!(decode, "this.{member} = {read};");
                    let _ = writeln!(encode, "{write};");
                }
                Some(condition) => {
                    let _ = writeln!(decode, "if {condition} {{ this.{member} = {read}; }}");
                    let otherwise = match field.ignorable {
                        true => String::new(),
                        false => format!(
                            "else if !({}) {{ return Err(EncodeError::Absent {{ field: \"{}\", version }}); }}",
                            is_default(field, &format!("self.{member}")),
                            field.name
                        ),
                    };
                    let _ = writeln!(encode, "if {condition} {{ {write}; }} {otherwise}");
                }
            }
        }
        let flexible = &self.flexible;
        if flexible != "false" {
            let read = match decode_tags.is_empty() {
                true => "input.skip_tags()?;".to_owned(),
                false => format!(
                    "let mut tags = input.tags()?; while let Some(tag) = tags.next(input)? {{ \
                     match tag {{ {decode_tags} _ => tags.skip(input)? }} }}"
                ),
            };
            let write = match encode_tags.is_empty() {
                true => "out.no_tags();".to_owned(),
                false => {
                    format!("let mut tags = Tags::default(); {encode_tags} tags.write(out)?;")
                }
            };
            let when = |text: String| match flexible.as_str() {
                "true" => text,
                condition => format!("if {condition} {{ {text} }}"),
            };
            decode.push_str(&when(read));
            encode.push_str(&when(write));
        }
        let is_throttled =
            name == "Response" && fields.iter().any(|f| f.name == "throttle_time_ms");
        let throttled = match is_throttled {
            true => "fn throttle(&mut self, wait_ms: i32) { self.throttle_time_ms = wait_ms; }\n",
            false => "",
        };
        let unused = if fields.is_empty() { "let _ = &mut this;" } else { "" };
        format!(
            "/// Part of {title}.\n#[derive(Clone, Debug, PartialEq)]\npub struct {name} {{ {members} }}\n\
             impl Default for {name} {{ fn default() -> Self {{ Self {{ {defaults} }} }} }}\n\
             impl Codec for {name} {{ const LEAST_BYTES: usize = {least};\n\
             fn decode(input: &mut Reader, version: i16) -> Result<Self, DecodeError> {{\n\
             let _ = version; let mut this = Self::default(); {unused}\n{decode}\nOk(this) }}\n\
             fn encode(&self, out: &mut Writer, version: i16) -> Result<(), EncodeError> {{\n\
             let _ = version;\n{encode}\nOk(()) }}\n{throttled} }}\n",
            title = self.message.name,
        )
    }

    /// Versions of a field, for its comment.
    fn about(&self, field: &Field) -> String {
        let (first, last) = field.versions;
        if field.versions == self.message.versions {
            return format!("`{}`", field.name);
        }
        format!("`{}`, in versions {first} to {last}", field.name)
    }

    /// When a field is there; `None` for always.
    fn condition(&self, (first, last): Versions) -> Option<String> {
        let (from, to) = self.within;
        match (first > from, last < to) {
            (false, false) => None,
            (true, false) => Some(format!("version >= {first}")),
            (false, true) => Some(format!("version <= {last}")),
            (true, true) => Some(format!("({first}..={last}).contains(&version)")),
        }
    }

    fn compact(&self, field: &Field) -> &str {
        if field.classic { "false" } else { &self.flexible }
    }

    /// Whether a field may be null in a version.
    fn nullable(&self, field: &Field) -> Option<String> {
        let (first, last) = field.null?;
        let (from, to) = field.versions;
        Some(match (first > from, last < to) {
            (false, false) => "true".to_owned(),
            (true, false) => format!("version >= {first}"),
            (false, true) => format!("version <= {last}"),
            (true, true) => format!("({first}..={last}).contains(&version)"),
        })
    }

    fn read(&self, field: &Field) -> String {
        let compact = self.compact(field);
        let null = self.nullable(field);
        let element = format!("|input| {}", self.read_one(&field.kind, compact));
        let least = element_least(field);
        match (field.array, null) {
            (true, Some(null)) => {
                format!("input.array_or_null({compact}, {null}, {least}, {element})?")
            }
            (true, None) => format!("input.array({compact}, {least}, {element})?"),
            (false, Some(null)) => match field.kind.as_str() {
                "string" => format!("input.string_or_null({compact}, {null})?"),
                "bytes" | "records" => format!("input.bytes_or_null({compact}, {null})?"),
                kind => format!("input.structure_or_null(|input| {kind}::decode(input, version))?"),
            },
            (false, None) => format!("{}?", self.read_one(&field.kind, compact)),
        }
    }

    fn read_one(&self, kind: &str, compact: &str) -> String {
        match kind {
            "string" => format!("input.string({compact})"),
            "bytes" | "records" => format!("input.bytes({compact})"),
            "bool" | "i8" | "i16" | "u16" | "i32" | "i64" | "f64" | "uuid" => {
                format!("input.{kind}()")
            }
            structure => format!("{structure}::decode(input, version)"),
        }
    }

    fn write(&self, field: &Field, value: &str) -> String {
        let compact = self.compact(field);
        let null = self.nullable(field);
        let name = &field.name;
        let element = format!("|out, one| {}", self.write_one(&field.kind, "one", compact));
        match (field.array, null) {
            (true, Some(null)) => format!(
                "out.array_or_null({compact}, {null}, \"{name}\", {value}.as_deref(), {element})?"
            ),
            (true, None) => format!("out.array({compact}, &{value}, {element})?"),
            (false, Some(null)) => match field.kind.as_str() {
                "string" => {
                    format!("out.string_or_null({compact}, {null}, \"{name}\", {value}.as_ref())?")
                }
                "bytes" | "records" => {
                    format!("out.bytes_or_null({compact}, {null}, \"{name}\", {value}.as_ref())?")
                }
                _ => format!(
                    "out.structure_or_null({value}.as_ref(), |out, one| one.encode(out, version))?"
                ),
            },
            (false, None) => {
                format!("{}?", self.write_one(&field.kind, &format!("&{value}"), compact))
            }
        }
    }

    fn write_one(&self, kind: &str, value: &str, compact: &str) -> String {
        match kind {
            "string" => format!("out.string({compact}, {value})"),
            "bytes" | "records" => format!("out.bytes({compact}, {value})"),
            "bool" | "i8" | "i16" | "u16" | "i32" | "i64" | "f64" | "uuid" => {
                format!("out.{kind}({value})")
            }
            _ => format!("({value}).encode(out, version)"),
        }
    }
}

/// Fewest bytes that a field takes when it is there.
fn least_bytes(field: &Field) -> usize {
    if field.array || field.null.is_some() { 1 } else { kind_least(&field.kind, &field.fields) }
}

fn kind_least(kind: &str, fields: &[Field]) -> usize {
    match kind {
        "i16" | "u16" => 2,
        "i32" => 4,
        "i64" | "f64" => 8,
        "uuid" => 16,
        _ if fields.is_empty() => 1,
        _ => 0,
    }
}

/// Fewest bytes of one element of an array.
fn element_least(field: &Field) -> String {
    match field.fields.is_empty() {
        true => kind_least(&field.kind, &[]).to_string(),
        false => format!("{}::LEAST_BYTES", field.kind),
    }
}

fn rust(field: &Field) -> String {
    let one = match field.kind.as_str() {
        "string" => "Str",
        "bytes" | "records" => "Bytes",
        "uuid" => "Uuid",
        kind => kind,
    };
    let whole = if field.array { format!("Vec<{one}>") } else { one.to_owned() };
    if field.null.is_some() { format!("Option<{whole}>") } else { whole }
}

fn default(field: &Field) -> String {
    match (field.null.is_some(), field.default.as_deref()) {
        (true, Some("null")) => "None".to_owned(),
        // Absent data is null rather than a batch of nothing.
        (true, _) if field.kind == "records" => "None".to_owned(),
        (true, _) => "Some(Default::default())".to_owned(),
        (false, Some(value)) if field.kind == "string" => format!("Str::from_static(\"{value}\")"),
        (false, Some(value)) => value.to_owned(),
        (false, None) => "Default::default()".to_owned(),
    }
}

fn is_default(field: &Field, value: &str) -> String {
    match (field.null.is_some(), field.default.as_deref()) {
        (true, Some("null")) => format!("{value}.is_none()"),
        (true, _) => format!("{value}.as_ref().is_none_or(|value| value.is_empty())"),
        (false, _) if field.array => format!("{value}.is_empty()"),
        (false, Some(default)) if field.kind != "string" => format!("{value} == {default}"),
        (false, _) => format!(
            "{value} == {}",
            match field.kind.as_str() {
                "bool" => "false".to_owned(),
                "i8" | "i16" | "u16" | "i32" | "i64" => "0".to_owned(),
                "f64" => "0.0".to_owned(),
                _ => match field.default.as_deref() {
                    Some(text) => format!("Str::from_static(\"{text}\")"),
                    None => format!("<{}>::default()", rust(field)),
                },
            }
        ),
    }
}

fn ident(name: &str) -> String {
    match name {
        "type" | "match" | "loop" | "move" | "ref" | "where" | "in" => format!("r#{name}"),
        _ => name.to_owned(),
    }
}

fn snake(name: &str) -> String {
    let mut out = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.extend(letter.to_lowercase());
    }
    out
}
