//! Stages of a Dockerfile: which one is meant, and on which others it builds.

use std::collections::BTreeMap;

use super::ImageRecipe;
use super::lines::{Dockerfile, Instruction};
use super::making::{Making, bad, declared_args};
use super::words::{Words, split};
use crate::Finding;
use crate::suggest::nearest;

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
    let (stages, global) = stages(file, args, &mut errors);
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
    let mut making = Making::new(file, args, &global, &stages, stages[root].image.clone());
    for index in chain.into_iter().rev() {
        making.stage(&stages[index]);
    }
    making.finish()
}

/// One stage.
pub(super) struct Stage<'f> {
    pub(super) image: String,
    pub(super) name: Option<String>,
    pub(super) body: &'f [Instruction],
}

impl Stage<'_> {
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

fn stages<'f>(
    file: &'f Dockerfile,
    args: &BTreeMap<String, String>,
    errors: &mut Vec<Finding>,
) -> (Vec<Stage<'f>>, BTreeMap<String, String>) {
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
                    Ok(image) if !image.is_empty() => {
                        stages.push(Stage { image, name: name.cloned(), body: &body[..end] })
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
