//! Instructions of a Dockerfile: lines joined, comments taken out, heredocs attached.
//!
//! Not here: what an instruction means.

use std::path::{Path, PathBuf};

use base::Place;

use crate::Finding;
use crate::suggest::nearest;

const INSTRUCTIONS_MAX: usize = 5000;

pub(super) const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// A Dockerfile as its instructions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dockerfile {
    pub(super) file: PathBuf,
    pub(super) first_line: u32,
    pub(super) escape: char,
    pub(super) instructions: Vec<Instruction>,
}

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Instruction {
    /// In capitals; one of [`KEYWORDS`].
    pub(super) keyword: &'static str,
    /// What stands behind the keyword, continued lines joined.
    pub(super) rest: String,
    /// Its first line, from 1.
    pub(super) line: u32,
    pub(super) heredocs: Vec<Heredoc>,
}

/// Text that stands in the lines behind its instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Heredoc {
    pub(super) name: String,
    pub(super) text: String,
    /// Variables in it are filled in.
    pub(super) expand: bool,
}

impl Dockerfile {
    pub(super) fn place(&self, line: u32) -> Place {
        let line = line.saturating_add(self.first_line);
        Place { file: self.file.clone(), line, column: 1 }
    }

    pub(super) fn error(
        &self,
        line: u32,
        what: impl Into<String>,
        cause: &str,
        next: impl Into<String>,
    ) -> Finding {
        Finding::error("dockerfile-syntax", what).at(&self.place(line)).cause(cause).next(next)
    }
}

/// Reads a Dockerfile. `file` is its name in places; `first_line` is added to every line, for a
/// text that stands in another file (0 otherwise).
///
/// # Errors
/// Everything that is not a Dockerfile's syntax.
pub fn parse(text: &str, file: &Path, first_line: u32) -> Result<Dockerfile, Vec<Finding>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut read = Dockerfile {
        file: file.to_owned(),
        first_line,
        escape: escape_directive(text),
        instructions: Vec::new(),
    };
    let mut findings = Vec::new();
    let mut lines = (1u32..).zip(text.lines());
    while let Some((line, first)) = lines.next() {
        if is_comment(first) || first.trim().is_empty() {
            continue;
        }
        let whole = joined(first, &mut lines, read.escape);
        let whole = whole.trim();
        let (word, rest) = whole.split_once([' ', '\t']).unwrap_or((whole, ""));
        let upper = word.to_ascii_uppercase();
        let Some(keyword) = KEYWORDS.iter().find(|k| **k == upper) else {
            let next = match nearest(&upper, KEYWORDS.into_iter()) {
                Some(meant) => format!("did you mean {meant}?"),
                None => "end the line before with a backslash if this belongs to it".to_owned(),
            };
            let word: String = word.chars().take(40).collect();
            let what = format!("`{word}` is not an instruction");
            findings.push(read.error(line, what, "a Dockerfile has no such word here", next));
            if findings.len() > 20 {
                break;
            }
            continue;
        };
        let mut instruction =
            Instruction { keyword, rest: rest.trim().to_owned(), line, heredocs: Vec::new() };
        if matches!(*keyword, "RUN" | "COPY" | "ADD") {
            for (name, expand, strip_tabs) in heredoc_starts(&instruction.rest) {
                match heredoc(&name, strip_tabs, &mut lines) {
                    Some(text) => instruction.heredocs.push(Heredoc { name, text, expand }),
                    None => findings.push(read.error(
                        line,
                        format!("the text behind `<<{name}` does not end"),
                        "no line consists of the word alone",
                        format!("add a line `{name}`"),
                    )),
                }
            }
        }
        read.instructions.push(instruction);
        if read.instructions.len() > INSTRUCTIONS_MAX {
            findings.push(read.error(
                line,
                "there are too many instructions",
                "a Dockerfile of this size is not read",
                "make it smaller",
            ));
            break;
        }
    }
    check_order(&read, &mut findings);
    if findings.is_empty() { Ok(read) } else { Err(findings) }
}

fn check_order(read: &Dockerfile, findings: &mut Vec<Finding>) {
    let first = read.instructions.iter().find(|i| i.keyword != "ARG");
    match first {
        Some(first) if first.keyword != "FROM" => findings.push(read.error(
            first.line,
            format!("{} stands before FROM", first.keyword),
            "only ARG may",
            "begin with `FROM image`",
        )),
        None if findings.is_empty() => findings.push(read.error(
            1,
            "the Dockerfile has no FROM",
            "every stage begins with one",
            "begin with `FROM image`",
        )),
        _ => {}
    }
}

/// The `# escape=` directive, which stands before everything else.
fn escape_directive(text: &str) -> char {
    for line in text.lines() {
        let Some(directive) = line.trim().strip_prefix('#') else { break };
        let Some((name, value)) = directive.split_once('=') else { break };
        match name.trim().to_ascii_lowercase().as_str() {
            "escape" if value.trim() == "`" => return '`',
            "escape" | "syntax" | "check" => {}
            _ => break,
        }
    }
    '\\'
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

/// A line with those that continue it; comments and empty lines between them do not count.
fn joined<'t>(
    first: &'t str,
    lines: &mut impl Iterator<Item = (u32, &'t str)>,
    escape: char,
) -> String {
    let mut whole = String::new();
    let mut line = first;
    loop {
        match line.trim_end_matches([' ', '\t', '\r']).strip_suffix(escape) {
            Some(front) => whole.push_str(front),
            None => {
                whole.push_str(line);
                return whole;
            }
        }
        match lines.find(|(_, l)| !is_comment(l) && !l.trim().is_empty()) {
            Some((_, next)) => line = next,
            None => return whole,
        }
    }
}

/// Words such as `<<EOF`, `<<-EOF` and `<<"EOF"`, as (name, expand, strip tabs).
fn heredoc_starts(rest: &str) -> Vec<(String, bool, bool)> {
    let mut starts = Vec::new();
    for word in rest.split_whitespace() {
        let unnumbered = word.trim_start_matches(|c: char| c.is_ascii_digit());
        let Some(name) = unnumbered.strip_prefix("<<") else { continue };
        let (name, strip) = match name.strip_prefix('-') {
            Some(name) => (name, true),
            None => (name, false),
        };
        let bare = name.trim_matches(['"', '\'']);
        let good = |c: char| c.is_alphanumeric() || "_-.".contains(c);
        if !bare.is_empty() && bare.chars().all(good) && starts.len() < 16 {
            starts.push((bare.to_owned(), bare == name, strip));
        }
    }
    starts
}

fn heredoc<'t>(
    name: &str,
    strip_tabs: bool,
    lines: &mut impl Iterator<Item = (u32, &'t str)>,
) -> Option<String> {
    let mut text = String::new();
    for (_, line) in lines {
        let line = if strip_tabs { line.trim_start_matches('\t') } else { line };
        if line == name {
            return Some(text);
        }
        text.push_str(line);
        text.push('\n');
    }
    None
}
