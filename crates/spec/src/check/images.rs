//! What runs: images whose version moves, and apps whose parts come from different places.

use std::path::Path;

use crate::Finding;
use crate::dockerfile::ImageRecipe;
use crate::model::{MountKind, Service};
use crate::report::Report;
use crate::tree::Node;

/// A tag that moves, or none: the same file gives another program tomorrow.
pub(super) fn versions(
    service: &Service,
    recipe: Option<&ImageRecipe>,
    tree: &Node,
    report: &mut Report,
) {
    let moving = |image: &str| {
        let name = crate::stand_in::name(image);
        !image.contains('@') && (name.len() == image.len() || image.ends_with(":latest"))
    };
    let cause = "what it names changes over time, so a release cannot be repeated";
    let node = tree.get("services").and_then(|s| s.get(service.name.as_str()));
    let node = node.and_then(|s| s.get("image"));
    let run = service.build.is_none() && !service.extension.native;
    if let (Some(image), Some(node)) = (&service.image, node)
        && run
        && moving(image)
    {
        let what =
            format!("service `{}` names the image `{image}` without a version", service.name);
        let next = format!("name one: `{}:1.2`", crate::stand_in::name(image));
        report.warn("image-no-version", node.at, what, cause, next);
    }
    let base = recipe.map(|r| r.base.as_str()).filter(|b| *b != "scratch" && moving(b));
    if let (Some(base), Some(build)) = (base, &service.build) {
        let what = format!("the Dockerfile of `{}` begins with `{base}`", service.name);
        let finding = Finding::warning("image-no-version", what).at(&build.place);
        report.push(finding.cause(cause).next(format!("name a version: `FROM {base}:1.2`")));
    }
}

/// Profiles in which code is mounted on purpose.
const WORKSHOPS: [&str; 8] =
    ["dev", "develop", "development", "debug", "local", "test", "tests", "watch"];

/// Where images keep the code that they run.
const CODE: [&str; 8] =
    ["/app", "/src", "/code", "/workspace", "/usr/src", "/var/www", "/srv", "/opt/app"];

/// Commands that fetch parts of the app when it starts.
const FETCHES: [&str; 16] = [
    "git pull",
    "git clone",
    "pip install",
    "pip3 install",
    "poetry install",
    "uv sync",
    "npm install",
    "npm ci",
    "yarn install",
    "pnpm install",
    "apt install",
    "apt-get install",
    "apk add",
    "bundle install",
    "composer install",
    "go mod download",
];

/// An app in two pieces: the image is not all that runs, so that it cannot be run elsewhere.
pub(super) fn pieces(service: &Service, project_dir: &Path, report: &mut Report) {
    let workshop = service.profiles.iter().any(|p| WORKSHOPS.contains(&p.as_str()));
    let imaged = !service.extension.native && (service.image.is_some() || service.build.is_some());
    if workshop || !imaged {
        return;
    }
    for mount in &service.volumes {
        let MountKind::Bind { source, .. } = &mount.kind else { continue };
        let is_folder = source.extension().is_none();
        let code = CODE.iter().any(|dir| mount.target.starts_with(dir))
            || service.working_dir.as_ref().is_some_and(|dir| mount.target == *dir);
        if source.starts_with(project_dir) && is_folder && code {
            let what = format!(
                "service `{}` runs code that is mounted at {}",
                service.name,
                mount.target.display()
            );
            let finding = Finding::warning("code-mounted", what).at(&mount.place);
            let cause = "the image alone is not the app, so that a release is not what was tried";
            let next = "copy the code in the Dockerfile, or mount it in a service of the profile \
                        `dev` only";
            report.push(finding.cause(cause).next(next));
        }
    }
    let words = service.command.iter().chain(&service.entrypoint).flatten();
    let line = words.map(String::as_str).collect::<Vec<_>>().join(" ");
    if let Some(fetch) = FETCHES.iter().find(|fetch| holds_words(&line, fetch)) {
        let what = format!("service `{}` runs `{fetch}` each time it starts", service.name);
        let finding = Finding::warning("install-at-start", what).at(&service.place);
        let cause = "every start is slower, needs the network, and may bring another version";
        report.push(finding.cause(cause).next("do it in a RUN step of the Dockerfile"));
    }
}

/// Whether the words stand in a line, as words.
fn holds_words(line: &str, words: &str) -> bool {
    let inside = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    line.match_indices(words)
        .any(|(i, _)| !line[..i].ends_with(inside) && !line[i + words.len()..].starts_with(inside))
}
