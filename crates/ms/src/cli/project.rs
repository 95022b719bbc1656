//! Which app a command is about: its Compose files, its state folder, its engine.
//!
//! Not here: what the files say (`compose`). Nothing here changes anything.

use std::path::{Path, PathBuf};

use base::Problem;

use super::api::Client;
use super::args::Shared;
use super::out::Out;
use super::stop::{Outcome, Stop};

/// Names that are looked for, in this order, with those that change each when they are there.
const NAMES: [(&str, [&str; 2]); 4] = [
    ("compose.yaml", ["compose.override.yaml", "compose.override.yml"]),
    ("compose.yml", ["compose.override.yml", "compose.override.yaml"]),
    ("docker-compose.yml", ["docker-compose.override.yml", "docker-compose.override.yaml"]),
    ("docker-compose.yaml", ["docker-compose.override.yaml", "docker-compose.override.yml"]),
];
/// Name of the state folder.
const STATE: &str = ".ms";

/// Where to look from: the process's own, given so that tests own it.
#[derive(Clone, Debug)]
pub(crate) struct Here {
    /// The current folder, absolute.
    pub(crate) folder: PathBuf,
}

impl Here {
    /// Where this process is.
    pub(crate) fn read() -> Outcome<Here> {
        let folder = std::env::current_dir().map_err(|e| {
            Stop::usage(
                Problem::new("no-folder", "cannot tell the current folder")
                    .with_cause(e.to_string())
                    .with_next("cd to a folder that exists"),
            )
        })?;
        Ok(Here { folder })
    }

    fn absolute(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }
}

/// The app's Compose files: those given, else those found here or in a folder above.
///
/// # Errors
/// `no-compose-file` when none is given and none is found, or one that is given is not there.
pub(crate) fn files(here: &Here, given: &[PathBuf]) -> Outcome<Vec<PathBuf>> {
    if !given.is_empty() {
        for path in given {
            if !here.absolute(path).is_file() {
                let problem =
                    Problem::new("no-compose-file", format!("`{}` is not a file", path.display()))
                        .with_cause(format!("looked from {}", here.folder.display()))
                        .with_next("name a file that exists with --file");
                return Err(Stop::usage(problem));
            }
        }
        return Ok(given.to_vec());
    }
    find(&here.folder).ok_or_else(|| {
        let looked = format!("looked in {} and in every folder above it", here.folder.display());
        let problem = Problem::new("no-compose-file", "no Compose file here")
            .with_cause(format!("{looked} for {}", NAMES.map(|(name, _)| name).join(", ")))
            .with_next("cd to the app, or name its file with --file");
        Stop::usage(problem)
    })
}

fn find(folder: &Path) -> Option<Vec<PathBuf>> {
    for folder in folder.ancestors() {
        for (name, overrides) in NAMES {
            let file = folder.join(name);
            if file.is_file() {
                let more =
                    overrides.map(|name| folder.join(name)).into_iter().find(|p| p.is_file());
                return Some(std::iter::once(file).chain(more).collect());
            }
        }
    }
    None
}

/// Splits what was typed after `ms up` into files and services.
///
/// What ends in `.yaml` or `.yml`, or is a file, is a file.
pub(crate) fn split_targets(here: &Here, targets: &[String]) -> (Vec<PathBuf>, Vec<String>) {
    let (mut files, mut services) = (Vec::new(), Vec::new());
    for target in targets {
        let yaml = target.ends_with(".yaml") || target.ends_with(".yml");
        if yaml || here.absolute(Path::new(target)).is_file() {
            files.push(PathBuf::from(target));
        } else {
            services.push(target.clone());
        }
    }
    (files, services)
}

/// The state folder of the app with these files; absolute.
pub(crate) fn state_of(here: &Here, shared: &Shared, files: &[PathBuf]) -> PathBuf {
    if let Some(state) = &shared.state {
        return here.absolute(state);
    }
    let beside = files.first().map(|file| here.absolute(file));
    let folder = beside.as_deref().and_then(Path::parent).unwrap_or(&here.folder);
    tidy(&folder.join(STATE))
}

/// The state folder that a command without Compose file of its own means.
///
/// In turn: `--state`, beside the files that are given or found, a `.ms` here or above. `None`
/// when there is nothing of the kind.
pub(crate) fn state_here(here: &Here, shared: &Shared) -> Outcome<Option<PathBuf>> {
    if shared.state.is_some() || !shared.file.is_empty() {
        if shared.state.is_none() {
            files(here, &shared.file)?;
        }
        return Ok(Some(state_of(here, shared, &shared.file)));
    }
    if let Some(found) = find(&here.folder) {
        return Ok(Some(state_of(here, shared, &found)));
    }
    Ok(here.folder.ancestors().map(|folder| folder.join(STATE)).find(|state| state.is_dir()))
}

/// The engine of a command that only looks: the app here, else the only one that runs.
pub(crate) async fn any_engine(here: &Here, shared: &Shared, out: &mut Out) -> Outcome<Client> {
    if let Some(state) = state_here(here, shared)? {
        return Ok(Client::new(&state));
    }
    let running = running().await;
    if let [state] = running.as_slice() {
        out.progress(&format!("the app of {}", state.display()))?;
        return Ok(Client::new(state));
    }
    Err(nothing_here(here, &running))
}

/// The engine of a command that changes things: the app here, never a guess.
pub(crate) async fn engine_here(here: &Here, shared: &Shared) -> Outcome<Client> {
    match state_here(here, shared)? {
        Some(state) => Ok(Client::new(&state)),
        None => Err(nothing_here(here, &running().await)),
    }
}

fn nothing_here(here: &Here, running: &[PathBuf]) -> Stop {
    let next: Vec<String> =
        running.iter().map(|state| format!("--state {}", state.display())).collect();
    let next = match next.as_slice() {
        [] => "cd to the app, or name its file with --file".to_owned(),
        some => format!("name one that runs: {}", some.join("   |   ")),
    };
    let looked = format!("looked in {} and in every folder above it", here.folder.display());
    let problem = Problem::new("no-app", "no app here")
        .with_cause(format!("{looked} for a Compose file or a {STATE} folder"))
        .with_next(next);
    Stop::usage(problem)
}

/// State folders of engines on this machine that answer us.
async fn running() -> Vec<PathBuf> {
    let sockets = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let mut answering = Vec::new();
    for state in sockets_in(&sockets) {
        if Client::new(&state).answers().await {
            answering.push(state);
        }
    }
    answering
}

/// Folders of the sockets called `engine.sock` in the kernel's table of Unix sockets. One that was
/// opened through a descriptor, its path being too long, stands there without its folder.
fn sockets_in(table: &str) -> Vec<PathBuf> {
    let paths = table.lines().filter_map(|line| line.find('/').map(|at| &line[at..]));
    let mut states: Vec<PathBuf> =
        paths.filter_map(|path| path.strip_suffix("/engine.sock")).map(PathBuf::from).collect();
    states.retain(|state| !state.starts_with("/proc"));
    states.sort();
    states.dedup();
    states
}

/// Takes `.` out of a path, which `join` leaves in.
fn tidy(path: &Path) -> PathBuf {
    path.components().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(paths: &[&str]) -> (tempfile::TempDir, Here) {
        let dir = tempfile::tempdir().unwrap();
        for path in paths {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let here = Here { folder: dir.path().join("a/b") };
        std::fs::create_dir_all(&here.folder).unwrap();
        (dir, here)
    }

    #[test]
    fn files_are_found_here_or_above_with_their_override() {
        for (there, expected) in [
            (vec!["a/b/compose.yaml"], vec!["a/b/compose.yaml"]),
            (vec!["a/b/compose.yml", "a/b/compose.yaml"], vec!["a/b/compose.yaml"]),
            (vec!["a/compose.yaml", "a/b/docker-compose.yml"], vec!["a/b/docker-compose.yml"]),
            (
                vec!["compose.yml", "compose.override.yaml", "a/compose.override.yaml"],
                vec!["compose.yml", "compose.override.yaml"],
            ),
            (
                vec!["docker-compose.yaml", "docker-compose.override.yml"],
                vec!["docker-compose.yaml", "docker-compose.override.yml"],
            ),
        ] {
            let (dir, here) = tree(&there);
            let expected: Vec<PathBuf> = expected.iter().map(|p| dir.path().join(p)).collect();
            assert_eq!(files(&here, &[]).unwrap(), expected, "{there:?}");
            let state = expected[0].parent().unwrap().join(".ms");
            assert_eq!(state_here(&here, &Shared::default()).unwrap(), Some(state));
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_a_bad_file() {
        let (_dir, here) = tree(&[]);
        for given in [vec![], vec![PathBuf::from("nowhere.yaml")]] {
            let stop = files(&here, &given).unwrap_err();
            assert_eq!(stop.exit(), super::super::stop::USAGE);
        }
    }

    #[test]
    fn targets_are_files_or_services() {
        let (_dir, here) = tree(&["a/b/stack", "a/b/x.yml"]);
        let targets = ["web", "x.yml", "gone.yaml", "stack", "api"].map(str::to_owned);
        let (files, services) = split_targets(&here, &targets);
        assert_eq!(files, ["x.yml", "gone.yaml", "stack"].map(PathBuf::from));
        assert_eq!(services, ["web", "api"]);
    }

    #[test]
    fn state_lies_beside_the_first_file_unless_it_is_named() {
        let (_dir, here) = tree(&["a/b/x/c.yaml"]);
        let mut shared = Shared { file: vec!["./x/c.yaml".into()], ..Shared::default() };
        assert_eq!(state_here(&here, &shared).unwrap(), Some(here.folder.join("x/.ms")));
        shared.state = Some("s".into());
        assert_eq!(state_here(&here, &shared).unwrap(), Some(here.folder.join("s")));
        let (_dir, here) = tree(&["a/.ms/engine.pid"]);
        let above = here.folder.parent().unwrap().join(".ms");
        assert_eq!(state_here(&here, &Shared::default()).unwrap(), Some(above));
    }

    #[test]
    fn running_engines_are_in_the_table_of_sockets() {
        let table = "Num       RefCount Protocol Flags    Type St Inode Path\n\
            00000000: 00000002 00000000 00010000 0001 01 123 /a b/.ms/engine.sock\n\
            00000000: 00000003 00000000 00000000 0001 03 124 /a b/.ms/engine.sock\n\
            00000000: 00000003 00000000 00000000 0001 03 125 @abstract\n\
            00000000: 00000003 00000000 00000000 0001 03 126\n\
            00000000: 00000002 00000000 00010000 0001 01 127 /run/other.sock\n\
            00000000: 00000002 00000000 00010000 0001 01 128 /proc/self/fd/9/engine.sock\n";
        assert_eq!(sockets_in(table), [PathBuf::from("/a b/.ms")]);
    }
}
