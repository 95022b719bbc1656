//! What this machine has: its system, its programs and their versions.
//!
//! Not here: what any image needs of it. Programs are asked outside of any isolation, as their
//! owner would ask them, and have a few seconds to answer.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::glob;
use crate::tree::{Hash, Owners};
use crate::view::View;

/// How long a program may take to say what it is. A Java runtime takes a while on a busy machine.
const PATIENCE: Timespec = Timespec { tv_sec: 20, tv_nsec: 0 };
/// How much of an answer is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// Where programs are beside the engine's PATH.
const ALSO: [&str; 4] = ["/usr/local/bin", "/usr/bin", "/usr/sbin", "/usr/local/go/bin"];

/// The machine.
#[derive(Debug, Default)]
pub(crate) struct Host {
    /// `ID` and `ID_LIKE` of `/etc/os-release`.
    pub(crate) systems: Vec<String>,
    /// Its name for people.
    pub(crate) name: String,
    /// To whom files of images belong.
    pub(crate) owners: Owners,
    /// What its package manager says it has, as of the last look.
    packages: Mutex<Option<Packages>>,
    /// Answers that were given, by command; a program that was replaced is another file.
    asked: Mutex<BTreeMap<Question, Option<String>>>,
}

/// A command, and which file its program was.
type Question = (Vec<String>, u64);

/// Files that change with every package that comes, goes or is upgraded.
const PACKAGES: [&str; 6] = [
    "/var/lib/dpkg/status",
    "/usr/lib/sysimage/rpm/rpmdb.sqlite",
    "/var/lib/rpm/rpmdb.sqlite",
    "/var/lib/rpm/Packages",
    "/lib/apk/db/installed",
    "/var/lib/pacman/local",
];

/// Which file of a package manager is in force, and a hash over what it says.
#[derive(Debug)]
struct Packages {
    file: PathBuf,
    changed: (i64, i64, u64),
    says: String,
}

/// A program of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// What it says of itself, such as `3.11.2`; empty when it says nothing of the kind.
    pub(crate) version: String,
    /// The folder that it is installed in.
    pub(crate) home: PathBuf,
}

impl Host {
    pub(crate) fn read(owners: Owners) -> Host {
        let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or_default().trim_matches('"').to_owned()
        };
        let like = value("ID_LIKE");
        let mut systems = vec![value("ID")];
        systems.extend(like.split_whitespace().map(str::to_owned));
        if systems[0] == "ubuntu" && systems.len() == 1 {
            systems.push("debian".to_owned());
        }
        Host {
            systems,
            name: value("PRETTY_NAME"),
            owners,
            packages: Mutex::default(),
            asked: Mutex::default(),
        }
    }

    /// A hash over the machine's packages and their versions; steps done with others are done
    /// again. Empty where none is known.
    pub(crate) fn packages(&self) -> String {
        self.packages_in(&PACKAGES.map(Path::new))
    }

    fn packages_in(&self, files: &[&Path]) -> String {
        use std::os::unix::fs::MetadataExt;
        let there = |path: &&Path| Some((path.to_path_buf(), std::fs::metadata(path).ok()?));
        let Some((file, metadata)) = files.iter().find_map(there) else { return String::new() };
        let changed = (metadata.mtime(), metadata.mtime_nsec(), metadata.size());
        let mut known = self.packages.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.as_ref().filter(|k| k.file == file && k.changed == changed) {
            return known.says.clone();
        }
        let mut hash = Hash::default();
        match std::fs::read(&file) {
            // What a package manager merely wrote again says the same.
            Ok(bytes) => hash.field(&bytes),
            // A folder changes with its entries, and what cannot be read with its size.
            Err(_) => hash.text(&format!("{changed:?}")),
        }
        let says = hash.finish();
        *known = Some(Packages { file, changed, says: says.clone() });
        says
    }

    pub(crate) fn is(&self, system: &str) -> bool {
        self.systems.iter().any(|own| own == system)
    }

    /// Where a program is: a name in PATH, or a path that may be a pattern.
    pub(crate) fn find(&self, name: &str) -> Option<PathBuf> {
        if name.contains('/') {
            let root = View::host();
            let found = glob::find(&root, Path::new(name)).ok()?;
            return found.into_iter().map(|found| found.place().to_owned()).find(|p| runs(p));
        }
        let path = std::env::var("PATH").unwrap_or_default();
        let folders = path.split(':').chain(ALSO).filter(|folder| folder.starts_with('/'));
        folders.map(|folder| Path::new(folder).join(name)).find(|path| runs(path))
    }

    /// Whether there is a file for a pattern.
    pub(crate) fn has(&self, pattern: &Path) -> bool {
        glob::find(&View::host(), pattern).is_ok_and(|found| !found.is_empty())
    }

    /// The first of these programs that is there and works.
    pub(crate) fn program(
        &self,
        names: &[String],
        version: &[String],
        home: &[String],
    ) -> Option<Program> {
        names.iter().find_map(|name| {
            let path = self.find(name)?;
            self.about(path, version, home)
        })
    }

    fn about(&self, path: PathBuf, version: &[String], home: &[String]) -> Option<Program> {
        let shown = path.to_string_lossy().into_owned();
        let mut question = vec![shown.clone()];
        match version {
            [] => question.push("--version".to_owned()),
            words => question.extend(words.iter().cloned()),
        }
        // What only looks like the program, such as a shim without a version, does not answer.
        let answer = self.ask(&question)?;
        let real = std::fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
        let two_above = real.parent().and_then(Path::parent).unwrap_or(Path::new("/usr"));
        let mut at = two_above.to_owned();
        if let Some(asked) = home.first() {
            let program = match asked.as_str() {
                "{program}" => Some(path.clone()),
                other => self.find(other),
            };
            let program = program?.to_string_lossy().into_owned();
            let question = std::iter::once(program).chain(home[1..].iter().cloned());
            at = PathBuf::from(self.ask(&question.collect::<Vec<_>>())?.trim());
        }
        // A shim stands in for a program that lies in its home.
        let own = path.file_name().map(|name| at.join("bin").join(name));
        let path = own.filter(|own| runs(own)).unwrap_or(path);
        Some(Program { path, version: numbers(&answer), home: at })
    }

    /// What a command prints, when it ends well and in time.
    fn ask(&self, argv: &[String]) -> Option<String> {
        let inode = std::fs::metadata(&argv[0]).map_or(0, |metadata| {
            use std::os::unix::fs::MetadataExt;
            metadata.ino() ^ metadata.mtime().cast_unsigned()
        });
        let key = (argv.to_vec(), inode);
        let known = || self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = known().get(&key) {
            return answer.clone();
        }
        let answer = answer(argv);
        known().insert(key, answer.clone());
        answer
    }
}

fn answer(argv: &[String]) -> Option<String> {
    let (mut output, end) = std::io::pipe().ok()?;
    let mut child = Command::new(&argv[0])
        .args(&argv[1..])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(end.try_clone().ok()?)
        .stderr(end)
        .spawn()
        .ok()?;
    let pid = rustix::process::Pid::from_child(&child);
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()?;
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    let ended = rustix::event::poll(&mut fds, Some(&PATIENCE)).is_ok_and(|ready| ready > 0);
    if !ended {
        let _gone = child.kill();
    }
    let status = child.wait().ok()?;
    let mut text = Vec::new();
    // What it left behind may hold the pipe open: what is there now is all that counts.
    rustix::io::ioctl_fionbio(&output, true).ok()?;
    let _until_empty = output.by_ref().take(ANSWER_BYTES_MAX).read_to_end(&mut text);
    (ended && status.success()).then(|| String::from_utf8_lossy(&text).into_owned())
}

/// The first version in a text: `Python 3.11.2` says `3.11.2`.
fn numbers(text: &str) -> String {
    let is_part = |c: char| c.is_ascii_digit() || c == '.';
    let runs = text.split(|c: char| !is_part(c)).map(|run| run.trim_matches('.'));
    let found: Vec<&str> = runs.filter(|run| !run.is_empty()).collect();
    let best = found.iter().find(|run| run.contains('.')).or(found.first());
    best.map(|run| (*run).to_owned()).unwrap_or_default()
}

fn runs(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_as_programs_say_them() {
        for (text, expected) in [
            ("Python 3.11.2\n", "3.11.2"),
            ("v22.9.0", "22.9.0"),
            ("go version go1.22.3 linux/amd64", "1.22.3"),
            ("openjdk version \"17.0.9\" 2023-10-17", "17.0.9"),
            ("nginx version: nginx/1.22.1", "1.22.1"),
            ("openjdk 21 2023", "21"),
            ("nothing", ""),
        ] {
            assert_eq!(numbers(text), expected, "{text}");
        }
    }

    #[test]
    fn packages_are_what_they_say_and_not_when_that_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let status = folder.path().join("status");
        let host = Host::default();
        let says = || host.packages_in(&[Path::new("/does/not/exist"), &status]);
        assert_eq!(says(), "");
        std::fs::write(&status, "a 1").unwrap();
        let first = says();
        std::fs::write(&status, "a 1").unwrap();
        assert_eq!(says(), first);
        std::fs::write(&status, "a 10").unwrap();
        assert_ne!(says(), first);
    }

    #[test]
    fn programs_are_asked_once() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("tool");
        let count = folder.path().join("count");
        let script = format!("#!/bin/sh\necho x >> {}\necho tool 1.2.3\n", count.display());
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let host = Host::default();
        let names = ["/does/not/exist".to_owned(), program.to_string_lossy().into_owned()];
        for _ in 0..2 {
            let found = host.program(&names, &[], &[]).unwrap();
            assert_eq!((found.path.as_path(), found.version.as_str()), (&*program, "1.2.3"));
        }
        assert_eq!(std::fs::read_to_string(count).unwrap(), "x\n");
    }
}
