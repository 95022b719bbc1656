//! Stages of a Dockerfile: which one is meant, and on which others it builds.

use std::collections::BTreeMap;

use super::lines::{Dockerfile, Instruction};
use super::making::{Making, bad, declared_args};
use super::words::{Words, split};
use super::{Action, ImageRecipe, Origin, Step};
use crate::Finding;
use crate::suggest::nearest;

/// The stages that one of them needs, in the order of the file; that one is the last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Never empty.
    pub stages: Vec<Stage>,
}

impl Plan {
    /// A stage by its number in the file.
    pub fn stage(&self, number: usize) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.number == number)
    }
}

/// One stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Its number in the file, from 0.
    pub number: usize,
    /// Its name.
    pub name: Option<String>,
    /// What it begins with.
    pub start: Start,
    /// Where its FROM stands.
    pub place: base::Place,
    /// What is done, in order.
    pub steps: Vec<Step>,
    /// What it says at its end.
    pub recipe: ImageRecipe,
}

impl Stage {
    /// What people know it by.
    fn text(&self) -> String {
        let base = match &self.start {
            Start::Image(image) => image.clone(),
            Start::Stage(number) => format!("stage {number}"),
        };
        self.name.as_ref().map_or_else(|| format!("FROM {base}"), |n| format!("FROM {base} AS {n}"))
    }
}

/// What a stage begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// An image.
    Image(String),
    /// An earlier stage, by its number in the file.
    Stage(usize),
}

/// The recipe of a stage: the last, or the one called `target`. `args` are values of ARG.
///
/// A stage that builds on another of the file takes over what that one says; of images, only what
/// is known without having them.
///
/// # Errors
/// All problems, when something of the stage cannot be read or the target is not there.
pub fn final_stage(
    file: &Dockerfile,
    target: Option<&str>,
    args: &BTreeMap<String, String>,
) -> Result<ImageRecipe, Vec<Finding>> {
    let mut plan = plan(file, target, args, &crate::images::recipe)?;
    Ok(plan.stages.pop().map(|stage| stage.recipe).unwrap_or_default())
}

/// What is to be done for a stage: the last, or the one called `target`. `args` are values of ARG;
/// `image` says what an image brings along.
///
/// # Errors
/// All problems, when something of the stages cannot be read or the target is not there.
pub fn plan(
    file: &Dockerfile,
    target: Option<&str>,
    args: &BTreeMap<String, String>,
    image: &dyn Fn(&str) -> ImageRecipe,
) -> Result<Plan, Vec<Finding>> {
    let mut errors = Vec::new();
    let (sources, global) = sources(file, args, &mut errors);
    if !errors.is_empty() {
        return Err(errors);
    }
    let wanted = wanted(file, target, &sources)?;
    let mut made: BTreeMap<usize, Stage> = BTreeMap::new();
    // Only earlier stages can be meant, so this ends; a stage is made when those that it begins
    // with are, and those that it copies from are made afterwards.
    let mut next = vec![wanted];
    while let Some(number) = next.pop() {
        if made.contains_key(&number) {
            continue;
        }
        let source = &sources[number];
        let below = sources[..number].iter().rposition(|s| s.is_called(&source.image));
        if let Some(below) = below.filter(|below| !made.contains_key(below)) {
            next.extend([number, below]);
            continue;
        }
        let begin = match below {
            Some(below) => made[&below].recipe.clone(),
            None => ImageRecipe { base: source.image.clone(), ..image(&source.image) },
        };
        let earlier = &sources[..number];
        match Making::new(file, args, &global, earlier, begin).stage(source.body) {
            Ok((recipe, steps)) => {
                next.extend(steps.iter().flat_map(needed));
                let start = below.map_or_else(|| Start::Image(source.image.clone()), Start::Stage);
                let place = file.place(source.line);
                let name = source.name.clone();
                made.insert(number, Stage { number, name, start, place, steps, recipe });
            }
            Err(found) => return Err(found),
        }
    }
    let others = made.values().filter_map(|stage| {
        let asked = sources[stage.number].other.as_deref()?;
        let what = format!("`{}` is not built for {}", stage.text(), asked.escape_debug());
        let cause = "what is built are this machine's own programs, for its own processors";
        let finding = Finding::warning("from-platform", what).at(&stage.place).cause(cause);
        Some(finding.next("remove `--platform`, or leave it for Docker"))
    });
    let others: Vec<Finding> = others.collect();
    let mut stages: Vec<Stage> = made.into_values().collect();
    if let Some(last) = stages.last_mut() {
        last.recipe.findings.extend(others);
    }
    Ok(Plan { stages })
}

/// The stages that a step takes files from.
fn needed(step: &Step) -> Vec<usize> {
    let of = |origin: &Origin| match origin {
        Origin::Stage(number) => Some(*number),
        Origin::Context | Origin::Image(_) => None,
    };
    match &step.action {
        Action::Copy(copy) => of(&copy.from).into_iter().collect(),
        Action::Run(run) => run.mounts.iter().filter_map(|mount| of(&mount.from)).collect(),
        Action::Folder(_) => Vec::new(),
    }
}

fn wanted(
    file: &Dockerfile,
    target: Option<&str>,
    stages: &[Source<'_>],
) -> Result<usize, Vec<Finding>> {
    let named = |name: &str| stages.iter().rposition(|s| s.is_called(name));
    let wanted = match target {
        None => stages.len().checked_sub(1),
        Some(name) => named(name).or_else(|| name.parse().ok().filter(|i| *i < stages.len())),
    };
    wanted.ok_or_else(|| {
        let name = target.unwrap_or_default();
        let names = stages.iter().filter_map(|s| s.name.as_deref());
        let next = match nearest(name, names) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => "name a stage that a FROM … AS gives a name".to_owned(),
        };
        let what = format!("the Dockerfile has no stage `{name}`");
        let finding = Finding::error("dockerfile-stage", what).at(&file.place(1));
        vec![finding.cause("`build.target` names it").next(next)]
    })
}

/// A stage as it is written.
pub(super) struct Source<'f> {
    image: String,
    name: Option<String>,
    line: u32,
    /// The platform that it asks for, when that is not this machine's.
    other: Option<String>,
    body: &'f [Instruction],
}

impl Source<'_> {
    pub(super) fn is_called(&self, name: &str) -> bool {
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

/// The platform that a flag of FROM asks for.
fn asked(flag: &str, words: &Words<'_>) -> Result<Option<String>, String> {
    match flag.split_once('=') {
        Some(("--platform", value)) => words.fill(value).map(|p| Some(p).filter(|p| !p.is_empty())),
        _ => Err(format!("`{flag}` is not an option of FROM")),
    }
}

/// Whether `asked` is `here`, or says less; variants of processors are not told apart.
fn is_here(asked: &str, here: &str) -> bool {
    let asked = asked.to_ascii_lowercase();
    let mut parts = asked.split('/').zip(here.split('/'));
    match asked.contains('/') {
        true => parts.all(|(asked, here)| asked == here),
        false => here.split('/').any(|part| part == asked),
    }
}

fn sources<'f>(
    file: &'f Dockerfile,
    args: &BTreeMap<String, String>,
    errors: &mut Vec<Finding>,
) -> (Vec<Source<'f>>, BTreeMap<String, String>) {
    let mut global = platform();
    let platform = global.get("TARGETPLATFORM").cloned().unwrap_or_default();
    let mut stages: Vec<Source<'f>> = Vec::new();
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
                let (flags, parts): (Vec<&String>, Vec<&String>) =
                    parts.iter().partition(|word| word.starts_with("--"));
                let other = match flags.iter().try_fold(None, |_, flag| asked(flag, &words)) {
                    Ok(asked) => asked.filter(|asked| !is_here(asked, &platform)),
                    Err(what) => {
                        errors.push(bad(file, instruction, what));
                        continue;
                    }
                };
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
                    Ok(image) if !image.is_empty() => {
                        let (name, line) = (name.cloned(), instruction.line);
                        stages.push(Source { image, name, line, other, body: &body[..end] });
                    }
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
    (stages, global)
}
