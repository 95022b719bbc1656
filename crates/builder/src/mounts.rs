//! `--mount` of RUN: files, caches, memory and secrets for one step.
//!
//! Invariants: what a step writes to files of a context or stage goes with it; a secret is in no
//! layer and no key; nothing that was made only to mount on stays.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use agent::{Mount, MountSource};
use spec::dockerfile::{Copy, Run, RunMount, RunMountKind, Step};

use crate::build::Secret;
use crate::error::{BuildError, step as failed};
use crate::store;
use crate::tree::{Hash, Tree, at};
use crate::view::View;
use crate::work::{Work, short};

impl Work<'_> {
    /// What is mounted for a step, and secrets that are variables. `trees` are the files of its
    /// bind mounts; `beside` is a folder of the step's own.
    pub(crate) fn mounts(
        &self,
        run: &Run,
        step: &Step,
        beside: &Path,
        trees: Vec<(Tree, bool)>,
    ) -> Result<(Vec<Mount>, BTreeMap<String, String>), BuildError> {
        fs::create_dir_all(beside).map_err(at(beside))?;
        let mut mounts = Vec::new();
        let mut secrets = BTreeMap::new();
        let mut trees = trees.into_iter();
        for (at_mount, mount) in run.mounts.iter().enumerate() {
            let place = beside.join(at_mount.to_string());
            match mount.kind {
                RunMountKind::Bind => {
                    let Some((tree, is_file)) = trees.next() else { continue };
                    tree.write(&place, self.store.owners)?;
                    let from = if is_file { place.join("file") } else { place };
                    mounts.push(mounted(MountSource::Path(from), &mount.target, mount.read_only));
                }
                RunMountKind::Cache => {
                    let from = self.cache(mount)?;
                    mounts.push(mounted(MountSource::Path(from), &mount.target, mount.read_only));
                }
                RunMountKind::Tmpfs => {
                    let memory = MountSource::Tmpfs {
                        size_bytes: mount.size_bytes,
                        mode: mount.mode,
                        owner: (None, None),
                        no_exec: false,
                    };
                    mounts.push(mounted(memory, &mount.target, false));
                }
                RunMountKind::Secret => {
                    self.secret(mount, step, &place, &mut mounts, &mut secrets)?;
                }
                RunMountKind::Ssh => {
                    let Some(socket) = self.agent_socket(mount, step)? else { continue };
                    let target = match mount.target.as_os_str().is_empty() {
                        true => PathBuf::from(format!("/run/buildkit/ssh_agent.{at_mount}")),
                        false => mount.target.clone(),
                    };
                    let shown = target.to_string_lossy().into_owned();
                    secrets.entry("SSH_AUTH_SOCK".to_owned()).or_insert(shown);
                    mounts.push(mounted(MountSource::Path(socket), &target, false));
                }
            }
        }
        Ok((mounts, secrets))
    }

    /// The files of a bind mount, and whether it is one file, which then is called `file`.
    pub(crate) fn bind(
        &mut self,
        mount: &RunMount,
        step: &Step,
    ) -> Result<(Tree, bool), BuildError> {
        let from = if mount.source.is_empty() { "." } else { mount.source.as_str() };
        let source = self.source(&mount.from, &step.place)?;
        let found =
            source.view.find(&Path::new("/").join(from), true).map_err(at(Path::new(from)))?;
        let is_file = found.is_some_and(|found| !found.is_folder());
        let copy = Copy {
            sources: vec![from.to_owned()],
            from: mount.from.clone(),
            dest: PathBuf::from(if is_file { "/file" } else { "/" }),
            ..Copy::default()
        };
        let nothing = self.builder.builds.join("nothing");
        fs::create_dir_all(&nothing).map_err(at(&nothing))?;
        Ok((self.plan_copy(&copy, step, &View::of(&nothing))?, is_file))
    }

    fn cache(&self, mount: &RunMount) -> Result<PathBuf, BuildError> {
        let mut name = Hash::default();
        name.text(mount.id.as_deref().unwrap_or(&mount.target.to_string_lossy()));
        let path = self.builder.caches.join(name.finish());
        // Noted as used.
        if let Ok(folder) = fs::File::open(&path) {
            store::touch(&folder);
        } else {
            fs::create_dir_all(&path).map_err(at(&path))?;
            let mode = Permissions::from_mode(mount.mode.unwrap_or(0o755));
            fs::set_permissions(&path, mode).map_err(at(&path))?;
            self.store.give(&path, mount.uid, mount.gid)?;
        }
        Ok(path)
    }

    /// The socket of the agent that a mount asks for.
    fn agent_socket(&self, mount: &RunMount, step: &Step) -> Result<Option<PathBuf>, BuildError> {
        let name = mount.id.as_deref().unwrap_or("default");
        let bad = |what: String, cause: String| {
            let next = format!("name its socket under `build.ssh`: `{name}=/path`");
            failed("build-ssh", what, &step.place, cause, next)
        };
        let Some(path) = self.order.build.ssh.get(name) else {
            if mount.required {
                let what = format!("the build has no agent `{name}` for SSH keys");
                return Err(bad(what, format!("`{}` requires it", short(&step.text))));
            }
            return Ok(None);
        };
        let kind = fs::metadata(path).map(|metadata| metadata.file_type());
        if kind.as_ref().is_ok_and(FileTypeExt::is_socket) {
            return Ok(Some(path.clone()));
        }
        let cause = kind.map_or_else(|e| e.to_string(), |_| "it is no socket".to_owned());
        Err(bad(format!("{} is no agent for SSH keys", path.display()), cause))
    }

    fn secret(
        &self,
        mount: &RunMount,
        step: &Step,
        place: &Path,
        mounts: &mut Vec<Mount>,
        variables: &mut BTreeMap<String, String>,
    ) -> Result<(), BuildError> {
        let id = mount.id.clone().unwrap_or_else(|| {
            mount.target.file_name().unwrap_or_default().to_string_lossy().into_owned()
        });
        let text = match self.order.secrets.get(&id) {
            None if mount.required => {
                let what = format!("the build has no secret `{id}`");
                let cause = format!("`{}` requires it", short(&step.text));
                let next = "name it under `build.secrets` and `secrets`".to_owned();
                return Err(failed("build-secret", what, &step.place, cause, next));
            }
            None => return Ok(()),
            Some(Secret::Text(text)) => text.clone().into_bytes(),
            Some(Secret::File(path)) => fs::read(path).map_err(at(path))?,
        };
        if let Some(name) = &mount.env {
            variables.insert(name.clone(), String::from_utf8_lossy(&text).trim_end().to_owned());
        }
        if mount.env.is_some() && mount.target.as_os_str().is_empty() {
            return Ok(());
        }
        fs::write(place, &text).map_err(at(place))?;
        let mode = Permissions::from_mode(mount.mode.unwrap_or(0o400));
        fs::set_permissions(place, mode).map_err(at(place))?;
        self.store.give(place, mount.uid, mount.gid)?;
        let target = match mount.target.as_os_str().is_empty() {
            true => Path::new("/run/secrets").join(&id),
            false => mount.target.clone(),
        };
        mounts.push(mounted(MountSource::Path(place.to_owned()), &target, true));
        Ok(())
    }
}

fn mounted(source: MountSource, target: &Path, read_only: bool) -> Mount {
    Mount { source, target: target.to_owned(), read_only }
}

/// What has to be made so that something can be mounted on it, deepest first.
pub(crate) fn stubs(mounts: &[Mount], view: &View) -> Vec<PathBuf> {
    let mut stubs: Vec<PathBuf> = Vec::new();
    for mount in mounts {
        let missing = |path: &&Path| matches!(view.find(path, true), Ok(None));
        let target = view.resolve(&mount.target).unwrap_or_else(|_| mount.target.clone());
        stubs.extend(target.ancestors().take_while(missing).map(Path::to_owned));
    }
    stubs.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    stubs.dedup();
    stubs
}

/// Removes a folder or file that nothing was put into.
pub(crate) fn remove_stub(path: &Path) {
    let Ok(metadata) = fs::symlink_metadata(path) else { return };
    // What is not empty is the step's own.
    let _in_use = match metadata.is_dir() {
        true => fs::remove_dir(path),
        false if metadata.len() == 0 => fs::remove_file(path),
        false => Ok(()),
    };
}
