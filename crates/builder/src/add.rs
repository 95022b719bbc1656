//! ADD: archives of the context are unpacked and addresses fetched, each in a step of its own with
//! the host's `tar` and `curl`.
//!
//! Not here: what COPY does as well. Invariants: neither program sees more than an archive and an
//! empty folder, so that no name in an archive leads out; what they made is copied from there.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use agent::{Mount, MountSource};
use sha2::{Digest, Sha256};
use spec::dockerfile::{Copy, Ignore, Origin, Run, Step};

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

impl Work<'_> {
    /// Carries out ADD.
    pub(crate) fn add(
        &mut self,
        copy: &Copy,
        step: &Step,
        built: &mut Built,
    ) -> Result<Outcome, BuildError> {
        let mut plain = Copy { unpack: false, remote: Vec::new(), ..copy.clone() };
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
            Making::Fetched(url) => key.text(url),
        }
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
            let name = match making {
                Making::Unpacked(_) => ".".to_owned(),
                Making::Fetched(url) => name_of(url).to_owned(),
            };
            let sources = vec![name];
            let copy = Copy { sources, remote: Vec::new(), inline: Vec::new(), ..copy.clone() };
            let keeps_owner = matches!(making, Making::Unpacked(_));
            let (view_of, name) = (View::of(&filled), "what was unpacked".to_owned());
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

    /// Runs the program that fills a folder; gives the folder.
    fn fill(
        &mut self,
        copy: &Copy,
        step: &Step,
        making: &Making<'_>,
        (folder, beside): (&Path, &Path),
    ) -> Result<PathBuf, BuildError> {
        let filled = beside.join("filled");
        fs::create_dir_all(&filled).map_err(at(&filled))?;
        let mounted = |source: &Path, target: &str, read_only| Mount {
            source: MountSource::Path(source.to_owned()),
            target: PathBuf::from(target),
            read_only,
        };
        let mut mounts = vec![mounted(&filled, FILLED, false)];
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let argv: Vec<String> = match making {
            Making::Unpacked(archive) => {
                mounts.push(mounted(archive, ARCHIVE, true));
                words(&["tar", "--numeric-owner", "-xpf", ARCHIVE, "-C", FILLED])
            }
            Making::Fetched(url) => {
                let to = format!("{FILLED}/{}", name_of(url));
                words(&["curl", "-fsSL", "--max-filesize", FETCH_BYTES_MAX, "-o", &to, "--", url])
            }
        };
        let run = Run { argv, workdir: PathBuf::from("/"), ..Run::default() };
        let site = Site {
            agent: &self.builder.agent,
            folder: folder.to_owned(),
            layers: self.builder.system(&self.store)?.layers,
            base: agent::Base::Host,
            mounts,
            secrets: std::collections::BTreeMap::new(),
            home: "/root".to_owned(),
            service: self.order.service.clone(),
        };
        let program = run.argv[0].clone();
        let end = run::run(&run, site, self.watch).map_err(|error| {
            let what = format!("cannot carry out `{}`", short(&step.text));
            let next = format!("install {program} on this machine");
            failed("build-step", what, &step.place, error.to_string(), next)
        })?;
        if end.cancelled {
            return Err(BuildError::Cancelled);
        }
        if !end.exit.success() {
            let cause = format!("{program}: {}", end.exit.last_lines.join("\n"));
            return Err(self.copy_failed(step, &cause));
        }
        if let (Making::Fetched(url), Some(wanted)) = (making, &copy.checksum) {
            let file = filled.join(name_of(url));
            let is = format!("sha256:{}", digest(&file).map_err(at(&file))?);
            if is != *wanted {
                return Err(self.copy_failed(step, &format!("{url} has the checksum {is}")));
            }
        }
        Ok(filled)
    }
}

/// What fills a folder.
enum Making<'a> {
    Unpacked(&'a Path),
    Fetched(&'a str),
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
