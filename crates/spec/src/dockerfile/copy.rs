//! COPY and ADD.

use std::path::Path;

use super::lines::Instruction;
use super::making::Making;
use super::words::{Words, json, split};
use super::{Copy, InlineFile};
use crate::Finding;
use crate::read::normal;

impl Making<'_> {
    pub(super) fn copy(&mut self, instruction: &Instruction) -> Result<Copy, String> {
        let place = self.file.place(instruction.line);
        let lookup = |name: &str| self.lookup(name);
        let words = Words { escape: self.file.escape, lookup: &lookup };
        let mut notes = Vec::new();
        let (mut from, mut chown, mut chmod) = (None, None, None);
        let mut rest = instruction.rest.as_str();
        while let Some(flag) = rest.strip_prefix("--") {
            let (flag, behind) = flag.split_once([' ', '\t']).unwrap_or((flag, ""));
            let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
            match name {
                "from" => from = Some(words.fill(value)?),
                "chown" => chown = Some(words.fill(value)?),
                "chmod" => chmod = Some(words.fill(value)?),
                "link" => {}
                "parents" | "exclude" | "keep-git-dir" | "checksum" | "unpack" => notes.push(
                    Finding::warning("copy-flag", format!("`--{name}` has no effect"))
                        .at(&place)
                        .cause("it is not yet part of this version")
                        .next("copy the files one by one"),
                ),
                _ => return Err(format!("`--{name}` is not an option of COPY")),
            }
            rest = behind.trim_start();
        }
        let mut paths = match json(rest) {
            Some(paths) => paths,
            None => split(rest, self.file.escape)
                .iter()
                .map(
                    |word| if word.starts_with("<<") { Ok(word.clone()) } else { words.fill(word) },
                )
                .collect::<Result<_, _>>()?,
        };
        let dest = paths.pop().filter(|d| !d.is_empty() && !paths.is_empty());
        let dest = dest.ok_or("it takes one or more sources and a destination")?;
        let mut inline = Vec::new();
        let mut heredocs = instruction.heredocs.iter();
        let mut sources = Vec::new();
        for path in paths {
            let heredoc = if path.starts_with("<<") { heredocs.next() } else { None };
            match heredoc {
                Some(doc) => {
                    let text =
                        if doc.expand { words.fill_text(&doc.text)? } else { doc.text.clone() };
                    inline.push(InlineFile { name: doc.name.clone(), text });
                }
                None => sources.push(path),
            }
        }
        let remote = |s: &String| s.contains("://") || s.starts_with("git@");
        if let Some(url) = sources.iter().find(|s| from.is_none() && remote(s)) {
            notes.push(
                Finding::warning("copy-remote", format!("`{url}` is not fetched"))
                    .at(&place)
                    .cause("nothing is downloaded to run a service; the file will be missing")
                    .next("fetch it once on the host, into the context"),
            );
        }
        if let Some(from) = &from {
            let stage =
                self.stages.iter().any(|s| s.is_called(from)) || from.parse::<usize>().is_ok();
            let kind = if stage { "stage" } else { "image" };
            notes.push(
                Finding::warning(
                    "copy-from-stage",
                    format!("`{}` is not copied from the {kind} `{from}`", sources.join(" ")),
                )
                .at(&place)
                .cause("only the last stage is read, and its RUN steps are not run")
                .next(
                    "make the files on the host with `x-mainspring: {prepare: …}`, and give the \
                     service a `command` that uses them with `native: true`",
                ),
            );
        }
        sources.retain(|s| from.is_some() || !remote(s));
        let dest_is_dir = dest.ends_with('/')
            || Path::new(&dest).file_name().is_none()
            || dest.ends_with("/.")
            || sources.len() + inline.len() > 1;
        let dest = normal(&self.recipe.workdir.join(dest));
        self.recipe.findings.extend(notes);
        let unpack = instruction.keyword == "ADD";
        Ok(Copy { sources, inline, dest, dest_is_dir, from, chown, chmod, unpack, place })
    }
}
