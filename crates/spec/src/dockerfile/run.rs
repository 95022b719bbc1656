//! What runs: the image's word and the Compose file's, by Docker's rules.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::ImageRecipe;
use crate::model::Service;

/// The program and its arguments; empty when nothing says what to run.
///
/// The service's `entrypoint` takes the place of ENTRYPOINT and clears CMD; its `command` takes
/// the place of CMD. What remains of both is one command line.
pub fn run_command(service: &Service, recipe: Option<&ImageRecipe>) -> Vec<String> {
    let image_entrypoint = recipe.and_then(|r| r.entrypoint.as_ref());
    let image_cmd = recipe.and_then(|r| r.cmd.as_ref());
    let entrypoint = service.entrypoint.as_ref().or(image_entrypoint);
    let kept_cmd = if service.entrypoint.is_some() { None } else { image_cmd };
    let command = service.command.as_ref().or(kept_cmd);
    let words = [entrypoint, command].into_iter().flatten();
    words.flatten().cloned().collect()
}

/// ENV, with the service's `environment` over it.
pub fn environment(service: &Service, recipe: Option<&ImageRecipe>) -> BTreeMap<String, String> {
    let mut env = recipe.map(|r| r.env.clone()).unwrap_or_default();
    env.extend(service.environment.clone());
    env
}

/// Where the program starts: the service's `working_dir`, else WORKDIR, else the project folder.
pub fn working_dir(service: &Service, recipe: Option<&ImageRecipe>, project_dir: &Path) -> PathBuf {
    let start = recipe.map_or(project_dir, |r| &r.workdir);
    match &service.working_dir {
        Some(dir) => crate::read::normal(&start.join(dir)),
        None => start.to_owned(),
    }
}
