//! From instructions to the recipe of one stage.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::lines::{Dockerfile, Instruction};
use super::words::{Words, json, split};
use super::{Copy, ImageRecipe, InlineFile, SkippedStep};
use crate::Finding;
use crate::model::{Healthcheck, PortKind, Test};
use crate::read::normal;
use crate::suggest::nearest;

/// What PATH is where an image does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The recipe of a stage: the last, or the one called `target`. `args` are values of ARG.
///
/// A stage that builds on another of the file takes over what that one says.
///
/// # Errors
/// All problems, when something of the stage cannot be read or the target is not there.
pub fn final_stage(
    file: &Dockerfile,
    target: Option<&str>,
    args: &BTreeMap<String, String>,
) -> Result<ImageRecipe, Vec<Finding>> {
    let mut errors = Vec::new();
    let stages = stages(file, args, &mut errors);
    if !errors.is_empty() {
        return Err(errors);
    }
    let named = |name: &str| stages.iter().rposition(|s| s.is_called(name));
    let wanted = match target {
        None => stages.len().checked_sub(1),
        Some(name) => named(name).or_else(|| name.parse().ok().filter(|i| *i < stages.len())),
    };
    let Some(wanted) = wanted else {
        let name = target.unwrap_or_default();
        let names = stages.iter().filter_map(|s| s.name.as_deref());
        let next = match nearest(name, names) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => "name a stage that a FROM … AS gives a name".to_owned(),
        };
        let what = format!("the Dockerfile has no stage `{name}`");
        let finding = Finding::error("dockerfile-stage", what).at(&file.place(1));
        return Err(vec![finding.cause("`build.target` names it").next(next)]);
    };
    // From the stage down to the image that it begins with; only earlier stages can be meant.
    let mut chain = vec![wanted];
    let mut root = wanted;
    while let Some(below) = (0..root).rev().find(|i| stages[*i].is_called(&stages[root].image)) {
        chain.push(below);
        root = below;
    }
    let mut making = Making::new(file, args, &stages, stages[root].image.clone());
    for index in chain.into_iter().rev() {
        making.stage(&stages[index]);
    }
    making.finish()
}

struct Stage<'f> {
    image: String,
    name: Option<String>,
    global: BTreeMap<String, String>,
    body: &'f [Instruction],
}

impl Stage<'_> {
    fn is_called(&self, name: &str) -> bool {
        self.name.as_ref().is_some_and(|n| n.eq_ignore_ascii_case(name))
    }
}

/// Arguments that Docker knows without an ARG before FROM.
fn platform() -> BTreeMap<String, String> {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let both = ["TARGET", "BUILD"].into_iter().flat_map(|side| {
        [
            (format!("{side}PLATFORM"), format!("linux/{arch}")),
            (format!("{side}OS"), "linux".to_owned()),
            (format!("{side}ARCH"), arch.to_owned()),
        ]
    });
    both.collect()
}

fn stages<'f>(
    file: &'f Dockerfile,
    args: &BTreeMap<String, String>,
    errors: &mut Vec<Finding>,
) -> Vec<Stage<'f>> {
    let mut global = platform();
    let mut stages: Vec<Stage<'f>> = Vec::new();
    let all = &file.instructions;
    for (i, instruction) in all.iter().enumerate() {
        let lookup = |name: &str| global.get(name).cloned();
        let words = Words { escape: file.escape, lookup: &lookup };
        match instruction.keyword {
            "ARG" if stages.is_empty() => {
                let declared = declared_args(instruction, &words, args, &BTreeMap::new());
                match declared {
                    Ok(declared) => global.extend(declared),
                    Err(what) => errors.push(bad(file, instruction, what)),
                }
            }
            "FROM" => {
                let parts = split(&instruction.rest, file.escape);
                let parts: Vec<&String> = parts.iter().filter(|w| !w.starts_with("--")).collect();
                let (image, name) = match parts[..] {
                    [image] => (image, None),
                    [image, by, name] if by.eq_ignore_ascii_case("as") => (image, Some(name)),
                    _ => {
                        let what = "FROM takes an image, and AS with a name".to_owned();
                        errors.push(bad(file, instruction, what));
                        continue;
                    }
                };
                let body = &all[i + 1..];
                let end = body.iter().position(|n| n.keyword == "FROM").unwrap_or(body.len());
                match words.fill(image) {
                    Ok(image) if !image.is_empty() => stages.push(Stage {
                        image,
                        name: name.cloned(),
                        global: global.clone(),
                        body: &body[..end],
                    }),
                    Ok(_) => {
                        let what = format!("FROM {image} names no image: an ARG has no value");
                        errors.push(bad(file, instruction, what));
                    }
                    Err(what) => errors.push(bad(file, instruction, what)),
                }
            }
            _ => {}
        }
    }
    stages
}

fn bad(file: &Dockerfile, instruction: &Instruction, what: String) -> Finding {
    let cause = format!("{} is not written as Docker takes it", instruction.keyword);
    file.error(instruction.line, what, &cause, "mend the instruction")
}

/// `ARG name`, `ARG name=default`, several of them. Without a value there is no entry.
fn declared_args(
    instruction: &Instruction,
    words: &Words<'_>,
    args: &BTreeMap<String, String>,
    global: &BTreeMap<String, String>,
) -> Result<Vec<(String, String)>, String> {
    let mut declared = Vec::new();
    for word in split(&instruction.rest, words.escape) {
        let (name, default) = match word.split_once('=') {
            Some((name, default)) => (name.to_owned(), Some(words.fill(default)?)),
            None => (word, None),
        };
        let given = args.get(&name).cloned().or(default).or_else(|| global.get(&name).cloned());
        declared.extend(given.map(|value| (name, value)));
    }
    Ok(declared)
}

/// A recipe in the making.
struct Making<'f> {
    file: &'f Dockerfile,
    args: &'f BTreeMap<String, String>,
    stages: &'f [Stage<'f>],
    recipe: ImageRecipe,
    errors: Vec<Finding>,
    /// ARG of the present stage.
    declared: BTreeMap<String, String>,
    shell: Vec<String>,
    /// CMD stands in the present stage; one from below goes when ENTRYPOINT is set.
    cmd_here: bool,
}

impl<'f> Making<'f> {
    fn new(
        file: &'f Dockerfile,
        args: &'f BTreeMap<String, String>,
        stages: &'f [Stage<'f>],
        base: String,
    ) -> Making<'f> {
        let recipe = ImageRecipe {
            base,
            workdir: PathBuf::from("/"),
            env: BTreeMap::new(),
            copies: Vec::new(),
            entrypoint: None,
            cmd: None,
            expose: Vec::new(),
            user: None,
            stop_signal: None,
            healthcheck: None,
            volumes: Vec::new(),
            labels: BTreeMap::new(),
            skipped_runs: Vec::new(),
            findings: Vec::new(),
        };
        Making {
            file,
            args,
            stages,
            recipe,
            errors: Vec::new(),
            declared: BTreeMap::new(),
            shell: vec!["/bin/sh".to_owned(), "-c".to_owned()],
            cmd_here: false,
        }
    }

    fn stage(&mut self, stage: &Stage<'f>) {
        self.declared.clear();
        self.cmd_here = false;
        for instruction in stage.body {
            if let Err(what) = self.instruction(instruction, &stage.global) {
                self.errors.push(bad(self.file, instruction, what));
            }
        }
    }

    fn finish(mut self) -> Result<ImageRecipe, Vec<Finding>> {
        if !self.errors.is_empty() {
            return Err(self.errors);
        }
        if let Some(first) = self.recipe.skipped_runs.first() {
            let steps: Vec<String> = self
                .recipe
                .skipped_runs
                .iter()
                .map(|s| {
                    format!("line {}: {}", s.line, s.text.chars().take(60).collect::<String>())
                })
                .collect();
            let what = match steps.len() {
                1 => "a RUN step is not run".to_owned(),
                n => format!("{n} RUN steps are not run"),
            };
            let finding = Finding::warning("run-skipped", what)
                .at(&self.file.place(first.line))
                .cause(steps.join("\n"))
                .next("do it once on the host, or name it as `x-mainspring: {prepare: …}`");
            self.recipe.findings.push(finding);
        }
        Ok(self.recipe)
    }

    fn lookup(&self, name: &str) -> Option<String> {
        let known = self.recipe.env.get(name).or_else(|| self.declared.get(name)).cloned();
        known.or_else(|| (name == "PATH").then(|| DEFAULT_PATH.to_owned()))
    }

    fn instruction(
        &mut self,
        instruction: &Instruction,
        global: &BTreeMap<String, String>,
    ) -> Result<(), String> {
        let rest = instruction.rest.as_str();
        let escape = self.file.escape;
        let lookup = |name: &str| self.lookup(name);
        let words = Words { escape, lookup: &lookup };
        let filled = |text: &str| -> Result<Vec<String>, String> {
            split(text, escape).iter().map(|word| words.fill(word)).collect()
        };
        match instruction.keyword {
            "ARG" => {
                let declared = declared_args(instruction, &words, self.args, global)?;
                self.declared.extend(declared);
            }
            "ENV" => {
                let pairs = key_values(rest, &words)?;
                self.recipe.env.extend(pairs);
            }
            "LABEL" => {
                let pairs = key_values(rest, &words)?;
                self.recipe.labels.extend(pairs);
            }
            "WORKDIR" => {
                let dir = words.fill(rest)?;
                if dir.is_empty() {
                    return Err("WORKDIR is empty".to_owned());
                }
                self.recipe.workdir = normal(&self.recipe.workdir.join(dir));
            }
            "USER" => self.recipe.user = Some(words.fill(rest)?).filter(|u| !u.is_empty()),
            "STOPSIGNAL" => {
                let text = words.fill(rest)?;
                let signal = crate::signal::normal(&text);
                self.recipe.stop_signal = Some(signal.ok_or(format!("`{text}` is no signal"))?);
            }
            "EXPOSE" => {
                for word in filled(rest)? {
                    let ports = exposed(&word).ok_or(format!("`{word}` is no port"))?;
                    for port in ports {
                        if !self.recipe.expose.contains(&port) {
                            self.recipe.expose.push(port);
                        }
                    }
                }
            }
            "VOLUME" => {
                let paths = match json(rest) {
                    Some(paths) => paths,
                    None => filled(rest)?,
                };
                let workdir = self.recipe.workdir.clone();
                self.recipe.volumes.extend(paths.iter().map(|p| normal(&workdir.join(p))));
            }
            "CMD" => {
                self.recipe.cmd = Some(self.command(rest));
                self.cmd_here = true;
            }
            "ENTRYPOINT" => {
                self.recipe.entrypoint = Some(self.command(rest));
                if !self.cmd_here {
                    self.recipe.cmd = None;
                }
            }
            "SHELL" => {
                let shell = json(rest).filter(|shell| !shell.is_empty());
                self.shell = shell.ok_or("SHELL takes a list in JSON")?;
            }
            "HEALTHCHECK" => {
                let check = self.healthcheck(rest)?;
                self.recipe.healthcheck = Some(check);
            }
            "COPY" | "ADD" => {
                let copy = self.copy(instruction)?;
                self.recipe.copies.push(copy);
            }
            "RUN" => {
                let body = instruction.heredocs.iter().map(|h| h.text.as_str());
                let text: Vec<&str> = [rest].into_iter().chain(body).collect();
                let text = text.join(" ");
                let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
                self.recipe.skipped_runs.push(SkippedStep { line: instruction.line, text });
            }
            "ONBUILD" => {
                let finding = Finding::warning("onbuild-ignored", "ONBUILD has no effect")
                    .at(&self.file.place(instruction.line))
                    .cause("no image is built that another could build on")
                    .next("nothing to do");
                self.recipe.findings.push(finding);
            }
            // MAINTAINER says who wrote it; FROM ends the stage before it gets here.
            _ => {}
        }
        Ok(())
    }

    /// The exec form as it is; the shell form through the shell.
    fn command(&self, rest: &str) -> Vec<String> {
        match json(rest) {
            Some(words) => words,
            None if rest.is_empty() => Vec::new(),
            None => self.shell.iter().cloned().chain([rest.to_owned()]).collect(),
        }
    }

    fn healthcheck(&self, rest: &str) -> Result<Healthcheck, String> {
        let mut check = Healthcheck::default();
        let mut rest = rest;
        while let Some(flag) = rest.strip_prefix("--") {
            let (flag, behind) = flag.split_once([' ', '\t']).unwrap_or((flag, ""));
            let (name, value) = flag.split_once('=').ok_or(format!("`--{flag}` has no value"))?;
            let time = || {
                let read = crate::duration::parse(value);
                read.ok_or(format!("`{value}` is not a duration such as `30s`"))
            };
            match name {
                "interval" => check.interval = time()?,
                "timeout" => check.timeout = time()?,
                "start-period" => check.start_period = time()?,
                "start-interval" => check.start_interval = time()?,
                "retries" => {
                    let retries = value.parse().ok().filter(|n| *n > 0);
                    check.retries = retries.ok_or(format!("`{value}` is not a count"))?;
                }
                _ => return Err(format!("`--{name}` is not an option of HEALTHCHECK")),
            }
            rest = behind.trim_start();
        }
        let (word, command) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
        let command = command.trim();
        check.test = match word.to_ascii_uppercase().as_str() {
            "NONE" if command.is_empty() => Test::None,
            "CMD" if !command.is_empty() => match json(command) {
                Some(words) => Test::Exec(words),
                None => Test::Shell(command.to_owned()),
            },
            _ => return Err("HEALTHCHECK takes CMD with a command, or NONE".to_owned()),
        };
        Ok(check)
    }

    fn copy(&mut self, instruction: &Instruction) -> Result<Copy, String> {
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

/// `key=value …`, or the old `key value`.
fn key_values(rest: &str, words: &Words<'_>) -> Result<Vec<(String, String)>, String> {
    let parts = split(rest, words.escape);
    if parts.first().is_some_and(|first| first.contains('=')) {
        let each = parts.iter().map(|part| {
            let (key, value) = part.split_once('=').ok_or(format!("`{part}` has no `=`"))?;
            Ok((words.fill(key)?, words.fill(value)?))
        });
        return each.collect();
    }
    let (key, value) = rest.split_once([' ', '\t']).ok_or("it takes `KEY=value`")?;
    Ok(vec![(words.fill(key)?, words.fill(value.trim_start())?)])
}

fn exposed(word: &str) -> Option<Vec<(u16, PortKind)>> {
    let (ports, kind) = match word.split_once('/') {
        Some((ports, kind)) if kind.eq_ignore_ascii_case("tcp") => (ports, PortKind::Tcp),
        Some((ports, kind)) if kind.eq_ignore_ascii_case("udp") => (ports, PortKind::Udp),
        Some(_) => return None,
        None => (word, PortKind::Tcp),
    };
    let (first, last) = crate::read::port_range(ports)?;
    (last - first < 1024).then(|| (first..=last).map(|port| (port, kind)).collect())
}
