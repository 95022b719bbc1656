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

    /// Calls whose first argument is a code.
    const MAKERS: [&str; 6] = [
        "Problem::new(",
        "Finding::error(",
        "Finding::warning(",
        "Finding::note(",
        "report.error(",
        "report.warn(",
    ];

    /// Files with such calls that are given no literal, and how many. Either who calls them gives
    /// one (`PASSED`), or the code is chosen there: everything in the file that looks like a code
    /// then counts as one.
    const CHOSEN: [(&str, usize); 8] = [
        ("builder/src/error.rs", 1),
        ("ms/src/cli/exec.rs", 1),
        ("ms/src/cli/settle.rs", 1),
        ("ms/src/engine/published.rs", 1),
        ("ms/src/engine/serve.rs", 1),
        ("spec/src/finding.rs", 3),
        ("spec/src/report.rs", 2),
        ("spec/src/tree.rs", 1),
    ];

    /// Files that are tests from end to end.
    const TESTS: [&str; 3] = ["session.rs", "testing.rs", "tests.rs"];

    /// Functions outside `MAKERS` that take a code first and pass it on.
    const PASSED: [(&str, &str); 1] = [("builder/src/", "failed(")];

    /// Every source of every crate, its tests left out, by its path below `crates`.
    fn sources() -> Vec<(String, String)> {
        fn walk(folder: &Path, into: &mut Vec<(String, String)>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                if path.is_dir() && name != "testing" && name != "fuzz" {
                    walk(&path, into);
                } else if name.ends_with(".rs") && !TESTS.contains(&&*name) {
                    let text = std::fs::read_to_string(&path).unwrap();
                    // What stands before a test module is not in it.
                    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned();
                    into.push((path.to_str().unwrap().to_owned(), text));
                }
            }
        }
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut found = Vec::new();
        for folder in std::fs::read_dir(crates).unwrap() {
            walk(&folder.unwrap().path().join("src"), &mut found);
        }
        let below = |(path, text): (String, String)| {
            (path.strip_prefix(&format!("{}/", crates.display())).unwrap().to_owned(), text)
        };
        found.into_iter().map(below).collect()
    }

    fn is_like_a_code(text: &str) -> bool {
        let mut words = text.split('-');
        let is_word = |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_lowercase());
        text.contains('-') && words.all(is_word)
    }

    /// The literals that calls of `maker` begin with, and how many begin with something else.
    fn firsts<'a>(text: &'a str, maker: &str) -> (Vec<&'a str>, usize) {
        let calls: Vec<&str> = text.split(maker).skip(1).map(str::trim_start).collect();
        let literal = |call: &&'a str| Some(call.strip_prefix('"')?.split_once('"')?.0);
        let literals: Vec<&str> = calls.iter().filter_map(literal).collect();
        let others = calls.len() - literals.len();
        (literals, others)
    }

    #[test]
    fn every_code_has_a_page_and_every_page_a_code() {
        let mut used = BTreeSet::new();
        for (path, text) in sources() {
            let mut others = 0;
            for maker in MAKERS {
                let (literals, more) = firsts(&text, maker);
                used.extend(literals.into_iter().map(str::to_owned));
                others += more;
            }
            let chosen = CHOSEN.iter().find(|(file, _)| *file == path).map_or(0, |(_, n)| *n);
            let hint = "a code is no literal here: name the file in CHOSEN, and codes in pages";
            assert_eq!(others, chosen, "{path}: {hint}");
            if chosen > 0 {
                let literals = text.split('"').skip(1).step_by(2);
                used.extend(literals.filter(|text| is_like_a_code(text)).map(str::to_owned));
            }
            for (_, maker) in PASSED.iter().filter(|(folder, _)| path.starts_with(folder)) {
                let literals = firsts(&text, maker).0.into_iter();
                used.extend(literals.filter(|text| is_like_a_code(text)).map(str::to_owned));
            }
        }
        assert!(used.contains("no-engine") && used.len() > 100, "the search is broken: {used:?}");
        let known: BTreeSet<String> = pages().map(|(code, _)| code.to_owned()).collect();
        let missing: Vec<&String> = used.difference(&known).collect();
        assert!(missing.is_empty(), "add to explain.md: {missing:?}");
        let stale: Vec<&String> = known.difference(&used).collect();
        assert!(stale.is_empty(), "no program says this any more: {stale:?}");
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
