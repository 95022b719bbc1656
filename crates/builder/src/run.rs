//! RUN: a command in the view of its image, whose changes become a layer.
//!
//! Not here: keys and layers. What a step may reach of the network is what the host reaches.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use agent::{Agent, Mount, ProcessSpec, StartError, StepEnd, StepWatch};
use base::{InstanceId, ServiceName};
use spec::dockerfile::Run;

use crate::progress::{Progress, Watch};
use crate::tree::Owners;

/// Slots of steps: past those of any instance, so that none has the same name.
const SLOT: u32 = 1_000_000;

/// Variables of this process that say how others are reached; steps get them where the image says
/// nothing. What is made does not depend on them, nor does any layer's key.
const REACH: [&str; 13] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
];
/// Variables that say where packages are from, by how they begin. Steps get them too; what is made
/// depends on them, and so does its key.
const SOURCES: [&str; 10] = [
    "PIP_",
    "UV_",
    "NPM_CONFIG_",
    "npm_config_",
    "CARGO_REGISTRIES_",
    "GOPROXY",
    "GONOSUMDB",
    "GOSUMDB",
    "GOPRIVATE",
    "GONOPROXY",
];

/// Where a step is run.
pub(crate) struct Site<'a> {
    pub(crate) agent: &'a Agent,
    pub(crate) folder: PathBuf,
    pub(crate) layers: Vec<PathBuf>,
    pub(crate) base: agent::Base,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) secrets: BTreeMap<String, String>,
    pub(crate) home: String,
    pub(crate) service: ServiceName,
}

/// Runs it; what it changed is in the folder that the outcome names.
pub(crate) fn run(run: &Run, site: Site<'_>, watch: &mut dyn Watch) -> Result<StepEnd, StartError> {
    let mut env = of_engine(|name| REACH.contains(&name) || is_source(name));
    env.extend(run.proxies.clone());
    env.extend(run.env.clone());
    env.extend(site.secrets);
    env.entry("HOME".to_owned()).or_insert(site.home);
    env.entry("PATH".to_owned()).or_insert_with(|| spec::dockerfile::DEFAULT_PATH.to_owned());
    let id = InstanceId::new(site.service, SLOT);
    let mut spec = ProcessSpec::new(id, run.argv.clone());
    spec.env = env.into_iter().collect();
    spec.working_dir.clone_from(&run.workdir);
    spec.view = agent::View::Image { layers: site.layers, base: site.base };
    spec.mounts = site.mounts;
    spec.hostname = Some("build".to_owned());
    spec.hosts = hosts();
    spec.user.clone_from(&run.user);
    spec.offline = run.offline;
    site.agent.run_step(&spec, &site.folder, &mut Lines(watch))
}

struct Lines<'a>(&'a mut dyn Watch);

impl StepWatch for Lines<'_> {
    fn line(&mut self, line: &str) {
        self.0.told(&Progress::Output(line));
    }

    fn is_unwanted(&self) -> bool {
        self.0.is_unwanted()
    }
}

fn is_source(name: &str) -> bool {
    SOURCES.iter().any(|start| name.starts_with(start))
}

/// What a step gets of the engine's environment that decides what it makes.
pub(crate) fn sources() -> BTreeMap<String, String> {
    of_engine(is_source)
}

fn of_engine(counts: impl Fn(&str) -> bool) -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| counts(name))
        .collect()
}

/// Names that the host's own file has: a registry of the house may be known by it alone.
fn hosts() -> Vec<(IpAddr, Vec<String>)> {
    const LINES_MAX: usize = 1000;
    let text = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let line = |line: &str| {
        let mut words = line.split('#').next()?.split_whitespace();
        let address: IpAddr = words.next()?.parse().ok()?;
        let names: Vec<String> = words.map(str::to_owned).collect();
        (!names.is_empty() && !address.is_loopback()).then_some((address, names))
    };
    text.lines().take(LINES_MAX).filter_map(line).collect()
}

/// What may have gone wrong, by what the command said, and the way out.
pub(crate) fn hint(exit: &agent::Exit, alpine: bool, owners: Owners, text: &str) -> Option<String> {
    let last = exit.last_lines.join("\n");
    let uses = |word: &str| text.split([' ', ';', '&', '|', '(']).any(|w| w == word);
    // What the stand-in for it says, where there is one.
    let lacking = "apk: install on this machine ";
    if let Some(line) = exit.last_lines.iter().find_map(|line| line.strip_prefix(lacking)) {
        return Some(format!("install on this machine {line}"));
    }
    let unknown = ["apk: not found", "this machine is not Alpine's"];
    let unknown = unknown.iter().any(|said| last.contains(said));
    if uses("apk") && (exit.code == Some(127) || unknown) {
        return Some(
            "the image is Alpine's and this machine is not: install what `apk add` names on this \
             machine and take the step out, or base the stage on a Debian image"
                .to_owned(),
        );
    }
    if alpine && (uses("adduser") || uses("addgroup")) {
        return Some(
            "these options are BusyBox's: use `useradd` and `groupadd`, which every system has"
                .to_owned(),
        );
    }
    if exit.out_of_memory {
        return Some("it needed more memory than there is".to_owned());
    }
    // What the kernel says to who would change a file of the machine, and of another user.
    let refused = ["Operation not permitted", "Value too large for defined data type"];
    if owners == Owners::One && refused.iter().any(|words| last.contains(words)) {
        return Some(
            "files of this machine can be replaced but not changed without root, and all files of \
             an image belong to one user: run ms as root, or install on the machine what the step \
             would upgrade"
                .to_owned(),
        );
    }
    let missing = last.lines().rev().find_map(missing_program);
    let package = missing.as_deref().map(|program| match program {
        "pip" | "pip3" => "python3-pip".to_owned(),
        "mvn" => "maven".to_owned(),
        "javac" => "a JDK".to_owned(),
        "gcc" | "cc" | "make" | "g++" => "build-essential".to_owned(),
        "npm" | "npx" => "npm".to_owned(),
        "yarn" | "pnpm" => "corepack".to_owned(),
        other => other.to_owned(),
    });
    if let (Some(program), Some(package)) = (missing, package) {
        return Some(format!(
            "`{program}` is not on this machine: install {package} here, or in a step before"
        ));
    }
    last.contains("No module named venv").then(|| "install python3-venv on this machine".to_owned())
}

/// `sh: 1: foo: not found` and its like.
fn missing_program(line: &str) -> Option<String> {
    let before = line
        .strip_suffix(": not found")
        .or_else(|| line.strip_suffix(": command not found"))
        .or_else(|| line.strip_suffix(": No such file or directory"))?;
    let name = before.rsplit(": ").next()?.trim();
    (!name.is_empty() && !name.contains([' ', '/'])).then(|| name.to_owned())
}

/// Text of a program's script, put where its interpreter can read it.
pub(crate) const SCRIPT: &str = "/run/.step";

/// Mounts a script's file.
pub(crate) fn script_mount(file: &Path) -> Mount {
    Mount {
        source: agent::MountSource::Path(file.to_owned()),
        target: PathBuf::from(SCRIPT),
        read_only: true,
    }
}
