//! ADD: archives of the context are unpacked, addresses fetched and repositories cloned, each in a
//! step of its own with the host's `tar`, `curl` and `git`.
//!
//! Not here: what COPY does as well. Invariants: none of these programs sees more than an archive
//! and an empty folder, so that no name in an archive or repository leads out; what they made is
//! copied from there.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use agent::{Mount, MountSource};
use sha2::{Digest, Sha256};
use spec::dockerfile::{Copy, Ignore, Origin, Repository, Run, RunMount, RunMountKind, Step};

use crate::build::Built;
use crate::copy::{self, Source, within};
use crate::error::{BuildError, step as failed};
use crate::glob;
use crate::run::{self, Site};
use crate::tree::{Hash, at};
use crate::view::{Found, View};
use crate::work::{Outcome, Work, short};

/// Where an archive and the folder to fill are seen.
const ARCHIVE: &str = "/run/.archive";
const FILLED: &str = "/mnt";

/// Most bytes that are fetched from one address.
const FETCH_BYTES_MAX: &str = "4G";

/// Clones `$1` at `$2`; `$3` says whether `.git` stays. The commit is written beside. A server may
/// not give single commits, or not without all that came before.
const CLONE: &str = r#"
cd /mnt && git init -q tree && cd tree && git remote add origin "$1"
ref=${2:-HEAD}
if git fetch -q --depth=1 origin "$ref" 2>../said || git fetch -q origin "$ref" 2>../said; then
    git checkout -q FETCH_HEAD
elif git fetch -q --tags origin '+refs/heads/*:refs/remotes/origin/*'; then
    git checkout -q --detach "$ref" || git checkout -q --detach "origin/$ref"
else cat ../said >&2; exit 1
fi
git submodule --quiet update --init --recursive --depth=1
git rev-parse HEAD >../head
[ "$3" = keep ] || find . -name .git -prune -exec rm -rf {} +
"#;
/// Variables of `git`: nobody is there to be asked, and no setting of root's counts.
const GIT: [(&str, &str); 4] = [
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_ALLOW_PROTOCOL", "git:http:https:ssh"),
    ("GIT_SSH_COMMAND", "ssh -o BatchMode=yes -o StrictHostKeyChecking=accept-new"),
];

impl Work<'_> {
    /// Carries out ADD.
    pub(crate) fn add(
        &mut self,
        copy: &Copy,
        step: &Step,
        built: &mut Built,
    ) -> Result<Outcome, BuildError> {
        let mut plain = copy.clone();
        (plain.unpack, plain.remote, plain.repositories) = (false, Vec::new(), Vec::new());
        let mut archives = Vec::new();
        if copy.from == Origin::Context {
            let view = View::context(&self.order.build.context, &self.builder.state);
            let mut kept = Vec::new();
            for source in &copy.sources {
                let found = self.archives_of(&view, source);
                match found.is_empty() {
                    true => kept.push(source.clone()),
                    false => archives.extend(found),
                }
            }
            plain.sources = kept;
        }
        let mut outcome = Outcome::Cached;
        if !plain.sources.is_empty() || !plain.inline.is_empty() {
            let tree = self.plan_copy(&plain, step, &built.view())?;
            outcome = outcome.or(self.layer(&tree, built)?);
        }
        for archive in archives {
            let done = self.made(copy, step, built, &Making::Unpacked(archive.place()))?;
            outcome = outcome.or(done);
        }
        for url in &copy.remote {
            outcome = outcome.or(self.made(copy, step, built, &Making::Fetched(url))?);
        }
        for repository in &copy.repositories {
            outcome = outcome.or(self.made(copy, step, built, &Making::Cloned(repository))?);
        }
        Ok(outcome)
    }

    /// What a source names, when all of it is archives.
    fn archives_of(&self, view: &View, source: &str) -> Vec<Found> {
        let found = within(source).ok().and_then(|path| glob::find(view, &path).ok());
        let found = found.unwrap_or_default();
        let is_archive = |found: &Found| {
            let path = found.path.strip_prefix("/").unwrap_or(&found.path);
            !self.ignore.excluded(path, false) && !found.is_folder() && is_archive(found.place())
        };
        if found.iter().all(is_archive) { found } else { Vec::new() }
    }

    /// A layer of what a step of its own makes, or made before.
    fn made(
        &mut self,
        copy: &Copy,
        step: &Step,
        built: &mut Built,
        making: &Making<'_>,
    ) -> Result<Outcome, BuildError> {
        let mut key = Hash::default();
        match making {
            Making::Unpacked(archive) => key.text(&digest(archive).map_err(at(archive))?),
            Making::Fetched(url) => {
                key.text(url);
                key.field(&[u8::from(copy.unpack_remote)]);
            }
            Making::Cloned(Repository { url, reference, folder }) => {
                key.text(url);
                key.text(reference.as_deref().unwrap_or_default());
                key.text(&folder.to_string_lossy());
                key.field(&[u8::from(copy.keep_git_dir)]);
            }
        }
        key.text(&copy.exclude.join("\n"));
        for word in [&copy.chown, &copy.chmod, &copy.checksum] {
            key.text(word.as_deref().unwrap_or_default());
        }
        let view = built.view();
        let dest = view.resolve(&copy.dest).map_err(at(&copy.dest))?;
        key.text(&dest.to_string_lossy());
        key.field(&[u8::from(copy.dest_is_dir)]);
        // Owners by name, and folders above it, are those of what lies below.
        key.text(&built.key);
        let key = key.finish();
        if self.found(&key, built) {
            return Ok(Outcome::Cached);
        }
        let (folder, beside) = self.places(&key);
        let filled = self.fill(copy, step, making, (&folder, &beside));
        let kept = filled.and_then(|filled| {
            let (filled, name) = filled;
            let sources = vec![name];
            let copy = Copy { sources, inline: Vec::new(), ..copy.clone() };
            let keeps_owner = copy.sources[0] == "." && !matches!(making, Making::Cloned(_));
            let (view_of, name) = (View::of(&filled), making.what().to_owned());
            let ignore = Ignore::default();
            let source = Source { view: view_of, ignore: &ignore, keeps_owner, name };
            let tree = copy::plan(&copy, &source, &view)
                .map_err(|error| self.copy_failed(step, &error.to_string()))?;
            let aside = beside.join("layer");
            tree.write(&aside, self.store.owners)?;
            built.push(self.keep_changes(&aside, &key)?);
            Ok(Outcome::Done)
        });
        self.leave([folder, beside]);
        kept
    }

    /// Fills a folder; gives it, and what in it is meant.
    fn fill(
        &mut self,
        copy: &Copy,
        step: &Step,
        making: &Making<'_>,
        (folder, beside): (&Path, &Path),
    ) -> Result<(PathBuf, String), BuildError> {
        let filled = beside.join("filled");
        fs::create_dir_all(&filled).map_err(at(&filled))?;
        let mounts = vec![mounted(&filled, FILLED, false)];
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        match making {
            Making::Unpacked(archive) => {
                self.unpack(step, archive, (folder, &filled))?;
                Ok((filled, ".".to_owned()))
            }
            Making::Fetched(url) => {
                let name = name_of(url);
                let to = format!("{FILLED}/{name}");
                let argv = words(&[
                    "curl",
                    "-fsSL",
                    "--max-filesize",
                    FETCH_BYTES_MAX,
                    "-o",
                    &to,
                    "--",
                    url,
                ]);
                let run = Run { argv, workdir: PathBuf::from("/"), ..Run::default() };
                self.tool(step, "curl", run, (folder, mounts, BTreeMap::new()))?;
                let file = filled.join(name);
                if let Some(wanted) = &copy.checksum {
                    let is = format!("sha256:{}", digest(&file).map_err(at(&file))?);
                    if is != *wanted {
                        return Err(self.copy_failed(step, &format!("{url} has the checksum {is}")));
                    }
                }
                if !copy.unpack_remote || !is_archive(&file) {
                    return Ok((filled, name.to_owned()));
                }
                self.builder.agent.remove_step(folder).map_err(at(folder))?;
                let unpacked = beside.join("unpacked");
                fs::create_dir_all(&unpacked).map_err(at(&unpacked))?;
                self.unpack(step, &file, (folder, &unpacked))?;
                Ok((unpacked, ".".to_owned()))
            }
            Making::Cloned(repository) => {
                let keep = if copy.keep_git_dir { "keep" } else { "drop" };
                let reference = repository.reference.as_deref().unwrap_or_default();
                let argv = words(&["sh", "-ec", CLONE, "clone", &repository.url, reference, keep]);
                let env = GIT.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
                let keys = RunMount {
                    kind: RunMountKind::Ssh,
                    target: PathBuf::from("/run/.keys"),
                    ..RunMount::default()
                };
                let workdir = PathBuf::from("/");
                let run = Run { argv, env, workdir, mounts: vec![keys], ..Run::default() };
                let (shown, variables) =
                    self.mounts(&run, step, &beside.join("keys"), Vec::new())?;
                let mounts = mounts.into_iter().chain(shown).collect();
                self.tool(step, "git", run, (folder, mounts, variables))?;
                let head = filled.join("head");
                let commit = fs::read_to_string(&head).map_err(at(&head))?;
                let commit = commit.trim();
                let wanted = copy.checksum.as_deref().unwrap_or_default();
                if !commit.starts_with(wanted) {
                    let cause = format!("{} is at the commit {commit}", repository.url);
                    return Err(self.copy_failed(step, &cause));
                }
                let name = Path::new(".").join(&repository.folder);
                Ok((filled.join("tree"), name.to_string_lossy().into_owned()))
            }
        }
    }

    fn unpack(
        &mut self,
        step: &Step,
        archive: &Path,
        (folder, filled): (&Path, &Path),
    ) -> Result<(), BuildError> {
        let mounts = vec![mounted(filled, FILLED, false), mounted(archive, ARCHIVE, true)];
        let argv = ["tar", "--numeric-owner", "-xpf", ARCHIVE, "-C", FILLED].map(str::to_owned);
        let run = Run { argv: argv.into(), workdir: PathBuf::from("/"), ..Run::default() };
        self.tool(step, "tar", run, (folder, mounts, BTreeMap::new()))
    }

    /// Runs a program of the host in a step of its own.
    fn tool(
        &mut self,
        step: &Step,
        program: &str,
        run: Run,
        (folder, mounts, secrets): (&Path, Vec<Mount>, BTreeMap<String, String>),
    ) -> Result<(), BuildError> {
        let missing = |cause: String| {
            let what = format!("cannot carry out `{}`", short(&step.text));
            let next = format!("install {program} on this machine");
            failed("build-step", what, &step.place, cause, next)
        };
        let site = Site {
            agent: &self.builder.agent,
            folder: folder.to_owned(),
            layers: self.builder.system(&self.store)?.layers,
            base: agent::Base::Host,
            mounts,
            secrets,
            home: "/root".to_owned(),
            service: self.order.service.clone(),
        };
        let end = run::run(&run, site, self.watch).map_err(|error| missing(error.to_string()))?;
        if end.cancelled {
            return Err(BuildError::Cancelled);
        }
        let said = end.exit.last_lines.join("\n");
        match end.exit.code {
            Some(0) => Ok(()),
            // What a shell says of a program that is not there.
            Some(127) => Err(missing(said)),
            _ => Err(self.copy_failed(step, &format!("{program}: {said}"))),
        }
    }
}

fn mounted(source: &Path, target: &str, read_only: bool) -> Mount {
    let source = MountSource::Path(source.to_owned());
    Mount { source, target: PathBuf::from(target), read_only }
}

/// What fills a folder.
enum Making<'a> {
    Unpacked(&'a Path),
    Fetched(&'a str),
    Cloned(&'a Repository),
}

impl Making<'_> {
    /// What is copied from, for messages.
    fn what(&self) -> &'static str {
        match self {
            Making::Unpacked(_) => "what was unpacked",
            Making::Fetched(_) => "what was fetched",
            Making::Cloned(_) => "what was cloned",
        }
    }
}

/// The file name at the end of an address.
fn name_of(url: &str) -> &str {
    let path = url.split(['?', '#']).next().unwrap_or(url).trim_end_matches('/');
    match path.rsplit('/').next() {
        Some(name) if !name.is_empty() && name != "." && name != ".." => name,
        _ => "index",
    }
}

/// Whether a file is a tar archive, packed or not.
fn is_archive(path: &Path) -> bool {
    const PACKED: [&[u8]; 4] = [b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"];
    let mut head = Vec::new();
    let Ok(file) = File::open(path) else { return false };
    if file.take(512).read_to_end(&mut head).is_err() {
        return false;
    }
    let is_tar = head.get(257..262) == Some(b"ustar");
    is_tar || (PACKED.iter().any(|magic| head.starts_with(magic)) && holds_tar(path))
}

/// Whether a packed file holds an archive rather than one file.
fn holds_tar(path: &Path) -> bool {
    let name = path.to_string_lossy();
    let ends = [".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst"];
    ends.iter().any(|end| name.ends_with(end))
}

fn digest(path: &Path) -> std::io::Result<String> {
    let mut hash = Sha256::new();
    std::io::copy(&mut File::open(path)?, &mut hash)?;
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_at_the_end_of_addresses() {
        for (url, name) in [
            ("https://x/a/b.tgz", "b.tgz"),
            ("https://x/b?v=1#c", "b"),
            ("https://x/a/", "a"),
            ("https://x/..", "index"),
        ] {
            assert_eq!(name_of(url), name, "{url}");
        }
    }
}
