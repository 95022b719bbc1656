//! `ms explain`: a page for every error code.
//!
//! Pages are sections of `explain.md`, in order of their codes. A test asserts that every code
//! that any crate uses has one.

use base::Problem;
use serde::Serialize;

use super::out::Out;
use super::stop::{DONE, Outcome, Stop};

const PAGES: &str = include_str!("explain.md");

#[derive(Serialize)]
struct Page<'a> {
    code: &'a str,
    text: String,
}

/// Every code with its text, lines joined into paragraphs' own lines.
fn pages() -> impl Iterator<Item = (&'static str, &'static str)> {
    let sections = PAGES.split("# ").skip(1);
    sections.filter_map(|section| section.split_once('\n')).map(|(code, text)| (code, text.trim()))
}

/// The page of a code, in one line.
pub(crate) fn text(code: &str) -> Option<String> {
    pages().find(|(known, _)| *known == code).map(|(_, text)| text.replace('\n', " "))
}

/// Prints the page of a code, or every code with its first sentence.
pub(crate) fn run(code: Option<&str>, out: &mut Out) -> Outcome {
    let Some(code) = code else { return list(out) };
    let code = code.trim_start_matches("error").trim_matches(['[', ']', ':']);
    let Some((code, text)) = pages().find(|(known, _)| *known == code) else {
        let near =
            nearest(code).map_or_else(String::new, |near| format!("ms explain {near}   |   "));
        let problem = Problem::new("unknown-code", format!("no error has the code `{code}`"))
            .with_cause("codes are what stands in brackets, as in error[no-engine]")
            .with_next(format!("{near}ms explain lists all of them"));
        return Err(Stop::usage(problem));
    };
    if out.mode.json {
        out.json("ms.explain/1", &Page { code, text: text.replace('\n', " ") })?;
    } else {
        out.line(&format!("{code}\n\n{text}"))?;
    }
    out.flush()?;
    Ok(DONE)
}

fn list(out: &mut Out) -> Outcome {
    let width = pages().map(|(code, _)| code.len()).max().unwrap_or_default();
    for (code, text) in pages() {
        let text = text.replace('\n', " ");
        if out.mode.json {
            out.json("ms.explain/1", &Page { code, text })?;
            continue;
        }
        let sentence = text.split_once(". ").map_or(text.as_str(), |(first, _)| first);
        let line = format!("{code:width$}  {}", sentence.trim_end_matches('.'));
        let cut = out.mode.width.map(|width| super::style::cut(&line, width));
        out.line(&cut.unwrap_or(line))?;
    }
    out.flush()?;
    Ok(DONE)
}

/// The code that shares the longest run of words or letters with what was typed.
fn nearest(typed: &str) -> Option<&'static str> {
    let shared = |code: &str| {
        let words = code.split('-').filter(|word| typed.split('-').any(|t| t == *word)).count();
        let start = code.bytes().zip(typed.bytes()).take_while(|(a, b)| a == b).count();
        words * 4 + start
    };
    let best = pages().map(|(code, _)| code).max_by_key(|code| shared(code))?;
    (shared(best) >= 3).then_some(best)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::super::out::Mode;
    use super::super::testing::output;
    use super::*;

    /// Calls whose first text is a code.
    const MAKERS: [&str; 9] = [
        "Problem::new(",
        "Finding::error(",
        "Finding::warning(",
        "Finding::note(",
        "report.error(",
        "report.warn(",
        "code: ",
        "report.warning(",
        "report.note(",
    ];

    /// Codes in the sources below `folder`, tests left out.
    fn codes(folder: &Path, into: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                codes(&path, into);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let text = text.split("#[cfg(test)]").next().unwrap();
                for maker in MAKERS {
                    let calls = text.split(maker).skip(1);
                    let firsts = calls.filter_map(|call| call.trim_start().strip_prefix('"'));
                    into.extend(firsts.filter_map(|f| Some(f.split_once('"')?.0.to_owned())));
                }
            }
        }
    }

    #[test]
    fn every_code_has_a_page() {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut used = BTreeSet::new();
        for folder in std::fs::read_dir(crates).unwrap() {
            codes(&folder.unwrap().path().join("src"), &mut used);
        }
        assert!(used.contains("no-engine") && used.len() > 40, "the search is broken: {used:?}");
        let known: BTreeSet<String> = pages().map(|(code, _)| code.to_owned()).collect();
        let missing: Vec<&String> = used.difference(&known).collect();
        assert!(missing.is_empty(), "add to explain.md: {missing:?}");
    }

    #[test]
    fn pages_are_in_order_and_say_something() {
        let codes: Vec<&str> = pages().map(|(code, _)| code).collect();
        assert!(codes.is_sorted(), "{codes:?}");
        for (code, text) in pages() {
            assert!(text.len() > 40 && text.ends_with('.'), "{code}");
        }
    }

    #[test]
    fn takes_a_code_as_it_was_shown() {
        for typed in ["no-engine", "error[no-engine]:", "[no-engine]"] {
            let (mut out, stdout, _) = output(Mode::default());
            assert_eq!(run(Some(typed), &mut out).unwrap(), DONE);
            assert!(stdout.text().starts_with("no-engine\n\nNothing listens"), "{typed}");
        }
        let (mut out, _, _) = output(Mode::default());
        let Err(Stop::Failed { exit: 2, problems }) = run(Some("engine-started"), &mut out) else {
            panic!("an unknown code was found")
        };
        assert!(problems[0].next.as_ref().unwrap().starts_with("ms explain engine-start "));
    }
}
