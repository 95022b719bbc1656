//! From the instructions of stages to a recipe.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::lines::{Dockerfile, Instruction};
use super::stage::Source;
use super::words::{Words, json, split};
use super::{Action, DEFAULT_PATH, ImageRecipe, Step};
use crate::Finding;
use crate::model::{Healthcheck, PortKind, Test};
use crate::read::{RETRIES_MAX, normal};

const ERRORS_MAX: usize = 50;
const EXPOSE_MAX: usize = 4096;
const VALUES_BYTES_MAX: usize = 1 << 20;

/// A stage in the making.
pub(super) struct Making<'f> {
    pub(super) file: &'f Dockerfile,
    pub(super) args: &'f BTreeMap<String, String>,
    /// ARG before the first FROM.
    global: &'f BTreeMap<String, String>,
    /// The stages before this one, which it may copy from.
    pub(super) earlier: &'f [Source<'f>],
    pub(super) recipe: ImageRecipe,
    pub(super) steps: Vec<Step>,
    errors: Vec<Finding>,
    /// ARG of the stage.
    pub(super) declared: BTreeMap<String, String>,
    /// CMD stands in the stage; one from below goes when ENTRYPOINT is set.
    cmd_here: bool,
    /// Ports that EXPOSE named, repeats included.
    exposed: usize,
}

impl<'f> Making<'f> {
    /// A stage that begins with `recipe`.
    pub(super) fn new(
        file: &'f Dockerfile,
        args: &'f BTreeMap<String, String>,
        global: &'f BTreeMap<String, String>,
        earlier: &'f [Source<'f>],
        mut recipe: ImageRecipe,
    ) -> Making<'f> {
        if recipe.workdir.as_os_str().is_empty() {
            recipe.workdir = PathBuf::from("/");
        }
        Making {
            file,
            args,
            global,
            earlier,
            recipe,
            steps: Vec::new(),
            errors: Vec::new(),
            declared: BTreeMap::new(),
            cmd_here: false,
            exposed: 0,
        }
    }

    pub(super) fn stage(
        mut self,
        body: &[Instruction],
    ) -> Result<(ImageRecipe, Vec<Step>), Vec<Finding>> {
        for instruction in body {
            let done = self.instruction(instruction).and_then(|()| self.bounded());
            if let Err(what) = done {
                self.errors.push(bad(self.file, instruction, what));
                if self.errors.len() >= ERRORS_MAX {
                    break;
                }
            }
        }
        if self.errors.is_empty() { Ok((self.recipe, self.steps)) } else { Err(self.errors) }
    }

    pub(super) fn lookup(&self, name: &str) -> Option<String> {
        let known = self.recipe.env.get(name).or_else(|| self.declared.get(name)).cloned();
        known.or_else(|| (name == "PATH").then(|| DEFAULT_PATH.to_owned()))
    }

    /// Values refer to values, so they could double with every line.
    fn bounded(&mut self) -> Result<(), String> {
        let maps = [&self.recipe.env, &self.recipe.labels, &self.declared];
        let size = maps.into_iter().flatten().map(|(k, v)| k.len() + v.len()).sum::<usize>();
        if size > VALUES_BYTES_MAX {
            self.recipe.env.clear();
            self.recipe.labels.clear();
            self.declared.clear();
            return Err("all values together are longer than 1 MiB".to_owned());
        }
        Ok(())
    }

    fn instruction(&mut self, instruction: &Instruction) -> Result<(), String> {
        let rest = instruction.rest.as_str();
        let escape = self.file.escape;
        let lookup = |name: &str| self.lookup(name);
        let words = Words { escape, lookup: &lookup };
        let filled = |text: &str| -> Result<Vec<String>, String> {
            split(text, escape).iter().map(|word| words.fill(word)).collect()
        };
        match instruction.keyword {
            "ARG" => {
                let declared = declared_args(instruction, &words, self.args, self.global)?;
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
                let dir = normal(&self.recipe.workdir.join(dir));
                self.recipe.workdir.clone_from(&dir);
                self.step(instruction, Action::Folder(dir));
            }
            "USER" => self.recipe.user = Some(words.fill(rest)?).filter(|u| !u.is_empty()),
            "STOPSIGNAL" => {
                let text = words.fill(rest)?;
                let signal = crate::signal::normal(&text);
                self.recipe.stop_signal = Some(signal.ok_or(format!("`{text}` is no signal"))?);
            }
            "EXPOSE" => {
                let all = filled(rest)?;
                self.expose(&all)?;
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
                self.recipe.shell = shell.ok_or("SHELL takes a list in JSON")?;
            }
            "HEALTHCHECK" => {
                let check = self.healthcheck(rest)?;
                self.recipe.healthcheck = Some(check);
            }
            "COPY" | "ADD" => {
                let copy = self.copy(instruction)?;
                self.step(instruction, Action::Copy(copy));
            }
            "RUN" => {
                let run = self.run(instruction)?;
                self.step(instruction, Action::Run(run));
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

    fn expose(&mut self, words: &[String]) -> Result<(), String> {
        let too_many = || Err(format!("EXPOSE names more than {EXPOSE_MAX} ports"));
        if words.len() > EXPOSE_MAX {
            return too_many();
        }
        for word in words {
            let ports = exposed(word).ok_or(format!("`{word}` is no port"))?;
            self.exposed += ports.len();
            if self.exposed > EXPOSE_MAX {
                return too_many();
            }
            for port in ports {
                if !self.recipe.expose.contains(&port) {
                    self.recipe.expose.push(port);
                }
            }
        }
        Ok(())
    }

    fn step(&mut self, instruction: &Instruction, action: Action) {
        let mut text = format!("{} {}", instruction.keyword, instruction.rest);
        // The text behind `<<EOF` says more than that word.
        if let ("RUN", Some(first)) = (instruction.keyword, instruction.heredocs.first()) {
            text.push(' ');
            text.push_str(&first.text);
        }
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let place = self.file.place(instruction.line);
        self.steps.push(Step { place, text, action });
    }

    pub(super) fn shell(&self) -> Vec<String> {
        match self.recipe.shell.as_slice() {
            [] => vec!["/bin/sh".to_owned(), "-c".to_owned()],
            shell => shell.to_vec(),
        }
    }

    /// The exec form as it is; the shell form through the shell.
    fn command(&self, rest: &str) -> Vec<String> {
        match json(rest) {
            Some(words) => words,
            None if rest.is_empty() => Vec::new(),
            None => self.shell().into_iter().chain([rest.to_owned()]).collect(),
        }
    }

    fn healthcheck(&self, rest: &str) -> Result<Healthcheck, String> {
        let defaults = Healthcheck::default();
        let mut check = defaults.clone();
        let mut rest = rest;
        while let Some(flag) = rest.strip_prefix("--") {
            let (flag, behind) = flag.split_once([' ', '\t']).unwrap_or((flag, ""));
            let (name, value) = flag.split_once('=').ok_or(format!("`--{flag}` has no value"))?;
            // Zero means the default, as in a Compose file.
            let time = |default| match crate::duration::parse(value) {
                Some(time) => Ok(if time.is_zero() { default } else { time }),
                None => Err(format!("`{value}` is not a duration such as `30s`")),
            };
            match name {
                "interval" => check.interval = time(defaults.interval)?,
                "timeout" => check.timeout = time(defaults.timeout)?,
                "start-period" => check.start_period = time(defaults.start_period)?,
                "start-interval" => check.start_interval = time(defaults.start_interval)?,
                "retries" => {
                    check.retries = match value.parse().ok().filter(|n| *n <= RETRIES_MAX) {
                        Some(0) => defaults.retries,
                        Some(retries) => retries,
                        None => return Err(format!("`{value}` is not a count up to 10,000")),
                    };
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
}

pub(super) fn bad(file: &Dockerfile, instruction: &Instruction, what: String) -> Finding {
    let cause = format!("{} is not written as Docker takes it", instruction.keyword);
    file.error(instruction.line, what, &cause, "mend the instruction")
}

/// `ARG name`, `ARG name=default`, several of them. Without a value there is no entry.
pub(super) fn declared_args(
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
