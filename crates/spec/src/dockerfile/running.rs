//! RUN: what is run, and what is mounted for it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Origin;
use super::lines::Instruction;
use super::making::Making;
use super::words::{Words, json};
use crate::read::normal;

/// Build arguments that need no ARG, and that are about where something is built rather than what.
const PROXIES: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// One RUN.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// The program and its arguments; the shell form is spelled out.
    pub argv: Vec<String>,
    /// A script with an interpreter of its own, to be run in place of `argv`.
    pub script: Option<String>,
    /// What is mounted while it runs.
    pub mounts: Vec<RunMount>,
    /// `--network=none`.
    pub offline: bool,
    /// ENV and ARG in force.
    pub env: BTreeMap<String, String>,
    /// Proxies that were given as build arguments; they do not change what is made.
    pub proxies: BTreeMap<String, String>,
    /// Where it starts; absolute.
    pub workdir: PathBuf,
    /// USER in force.
    pub user: Option<String>,
}

/// What kind of mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunMountKind {
    /// Files of the context, a stage or an image.
    #[default]
    Bind,
    /// A folder that stays from build to build.
    Cache,
    /// Memory.
    Tmpfs,
    /// A secret, as a file.
    Secret,
    /// The socket of an agent for keys.
    Ssh,
}

/// One `--mount` of a RUN.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunMount {
    /// What kind.
    pub kind: RunMountKind,
    /// Where; absolute. A secret has a place of its own when nothing is said.
    pub target: PathBuf,
    /// Path in what it is from.
    pub source: String,
    /// What it is from.
    pub from: Origin,
    /// Name of a cache or secret.
    pub id: Option<String>,
    /// Whether writing is refused.
    pub read_only: bool,
    /// The step fails without it.
    pub required: bool,
    /// Variable that holds a secret, in place of a file.
    pub env: Option<String>,
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Most bytes of memory.
    pub size_bytes: Option<u64>,
}

impl Making<'_> {
    pub(super) fn run(&self, instruction: &Instruction) -> Result<Run, String> {
        let lookup = |name: &str| self.lookup(name);
        let words = Words { escape: self.file.escape, lookup: &lookup };
        let mut run = Run {
            workdir: self.recipe.workdir.clone(),
            user: self.recipe.user.clone(),
            env: self.declared.clone(),
            ..Run::default()
        };
        run.env.extend(self.recipe.env.clone());
        for name in PROXIES {
            let given = self.args.get(name).filter(|_| !run.env.contains_key(name));
            run.proxies.extend(given.map(|value| (name.to_owned(), value.clone())));
        }
        let mut rest = instruction.rest.as_str();
        while let Some(flag) = rest.strip_prefix("--") {
            let (flag, behind) = flag.split_once([' ', '\t']).unwrap_or((flag, ""));
            let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
            match (name, value) {
                ("mount", value) => run.mounts.push(self.mount(&words.fill(value)?)?),
                ("network", "none") => run.offline = true,
                ("network", "host" | "default") | ("security", "sandbox") => {}
                ("security", _) => return Err("`--security=insecure` is not given".to_owned()),
                _ => return Err(format!("`--{flag}` is not an option of RUN")),
            }
            rest = behind.trim_start();
        }
        if rest.is_empty() {
            return Err("RUN takes a command".to_owned());
        }
        if let Some(argv) = json(rest) {
            run.argv = argv;
            return Ok(run);
        }
        run.argv = self.shell();
        match instruction.heredocs.as_slice() {
            // Nothing but the text: it is the script.
            [only] if rest.split_whitespace().count() == 1 => {
                if only.text.starts_with("#!") {
                    run.script = Some(only.text.clone());
                }
                run.argv.push(only.text.clone());
            }
            // The shell reads such texts itself.
            all => {
                let mut text = rest.to_owned();
                for heredoc in all {
                    text.push_str(&format!("\n{}{}", heredoc.text, heredoc.name));
                }
                run.argv.push(text);
            }
        }
        Ok(run)
    }

    fn mount(&self, text: &str) -> Result<RunMount, String> {
        let mut mount = RunMount::default();
        let mut writable = None;
        for field in text.split(',') {
            let (key, value) = field.split_once('=').unwrap_or((field, "true"));
            let number = || value.parse().map_err(|_| format!("`{field}` is not a number"));
            let yes = || match value {
                "true" | "1" => Ok(true),
                "false" | "0" => Ok(false),
                _ => Err(format!("`{field}` is neither true nor false")),
            };
            match key {
                "type" => {
                    mount.kind = match value {
                        "bind" => RunMountKind::Bind,
                        "cache" => RunMountKind::Cache,
                        "tmpfs" => RunMountKind::Tmpfs,
                        "secret" => RunMountKind::Secret,
                        "ssh" => RunMountKind::Ssh,
                        _ => return Err(format!("`{value}` is no type of mount")),
                    }
                }
                "target" | "dst" | "destination" => {
                    mount.target = normal(&self.recipe.workdir.join(value));
                }
                "source" | "src" => value.clone_into(&mut mount.source),
                "from" => mount.from = self.origin(value)?,
                "id" => mount.id = Some(value.to_owned()),
                "ro" | "readonly" => writable = Some(!yes()?),
                "rw" | "readwrite" => writable = Some(yes()?),
                "required" => mount.required = yes()?,
                "env" => mount.env = Some(value.to_owned()),
                "mode" => {
                    let mode = u32::from_str_radix(value, 8);
                    mount.mode = Some(mode.map_err(|_| format!("`{field}` is not octal"))?);
                }
                "uid" => mount.uid = Some(number()?),
                "gid" => mount.gid = Some(number()?),
                "size" => mount.size_bytes = base::units::parse_bytes(value),
                "sharing" => {}
                _ => return Err(format!("`{key}` is not an option of `--mount`")),
            }
        }
        // What is written to a bind mount goes when the step ends; it is refused unless asked for.
        let memory_or_cache = matches!(mount.kind, RunMountKind::Cache | RunMountKind::Tmpfs);
        mount.read_only = !writable.unwrap_or(memory_or_cache);
        let nameless = matches!(mount.kind, RunMountKind::Secret | RunMountKind::Ssh);
        if mount.target.as_os_str().is_empty() && !nameless {
            return Err("`--mount` takes a `target`".to_owned());
        }
        Ok(mount)
    }
}
