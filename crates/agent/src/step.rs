//! One command run to its end, as an instance runs: how a step of a build is carried out, whose
//! changes to the files are kept, and what comes before an instance, whose are not.
//!
//! Not here: what is run and what becomes of the changes. A step is no instance: nobody lists or
//! adopts it, and it ends with its watcher's patience.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::agent::Agent;
use crate::exit::{self, Exit};
use crate::instance::open_pidfd;
use crate::isolation::Addressing;
use crate::shim::LogLimits;
use crate::spec::ProcessSpec;
use crate::start::{self, Place, Setting, StartError};
use crate::wire::RunRecord;

/// How often output is looked for.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// How much output may lie between two looks before some is lost.
const LOG_LIMITS: LogLimits = LogLimits { file_bytes: 32 << 20, files_kept: 1 };

/// Who watches a step.
pub trait StepWatch {
    /// A line that the command wrote.
    fn line(&mut self, line: &str);
    /// Whether nobody wants it any more; it is killed then.
    fn is_unwanted(&self) -> bool;
}

/// How a step ended.
#[derive(Debug)]
pub struct StepEnd {
    /// How the command ended.
    pub exit: Exit,
    /// It was killed because nobody wanted it.
    pub cancelled: bool,
    /// What it changed: a folder as the upper layer of an overlay. Absent when its view was the
    /// host's.
    pub changes: PathBuf,
}

impl Agent {
    /// Runs a command to its end with `folder`, which is made anew, as its place. Blocks.
    ///
    /// Its output goes to `watch` and to nobody else. `spec.id` names its cgroup, so no instance
    /// and no other step may have it at the same time.
    pub fn run_step(
        &self,
        spec: &ProcessSpec,
        folder: &Path,
        watch: &mut dyn StepWatch,
    ) -> Result<StepEnd, StartError> {
        let logs = folder.join("logs");
        let mut output = Output::new(logs.join("current.log"));
        let kept = Kept { logs, log_limits: LOG_LIMITS, changes: true };
        let (exit, cancelled) = self.run_once(spec, folder, kept, &mut output, watch)?;
        Ok(StepEnd { exit, cancelled, changes: folder.join("upper") })
    }

    /// Runs a command to its end in place of the instance of `spec.id`, which does not run: with
    /// its cgroup, its address and its log. What it changes outside mounts goes with it. `None`
    /// when nobody wanted it any more. Blocks.
    ///
    /// `folder` is made anew and removed; what an engine that died left in it is ended first.
    pub fn run_before(
        &self,
        spec: &ProcessSpec,
        folder: &Path,
        is_unwanted: &dyn Fn() -> bool,
    ) -> Result<Option<Exit>, StartError> {
        let io = |cause| StartError::Io {
            id: spec.id.clone(),
            what: format!("removing {}", folder.display()),
            cause,
        };
        self.remove_step(folder).map_err(io)?;
        fs::create_dir_all(folder.parent().unwrap_or(folder)).map_err(io)?;
        let setting = self.setting();
        let (logs, log_limits) = (setting.logs(&spec.id), setting.log_limits);
        let kept = Kept { logs, log_limits, changes: false };
        let ran = self.run_once(spec, folder, kept, &mut Unheard, &mut Asked(is_unwanted));
        let _next_time = self.remove_step(folder);
        ran.map(|(exit, cancelled)| (!cancelled).then_some(exit))
    }

    fn run_once(
        &self,
        spec: &ProcessSpec,
        folder: &Path,
        kept: Kept,
        output: &mut dyn Follow,
        watch: &mut dyn StepWatch,
    ) -> Result<(Exit, bool), StartError> {
        let setting = self.setting();
        let own = spec.address.filter(|_| setting.addressing == Addressing::Own);
        let hosts = crate::hosts::text(spec.hostname.as_deref(), own, &spec.hosts);
        let (logs, log_limits, hosts) = (kept.logs.clone(), kept.log_limits, hosts.as_str());
        let place = Place { folder, logs, log_limits, hosts, kept: kept.changes };
        let name = spec.id.to_string();
        let started = start::try_start(setting, spec, place);
        let run = started.inspect_err(|_| start::end_cgroup(setting, &name))?;
        let cancelled = wait(setting, &name, &run, output, watch);
        start::end_cgroup(setting, &name);
        output.read(watch);
        crate::shim::view::parts::gather(folder).map_err(|cause| {
            let what = format!("gathering what it changed in {}", folder.display());
            StartError::Io { id: spec.id.clone(), what, cause }
        })?;
        let recorded = fs::read(folder.join("exit.json"));
        let recorded = recorded.ok().and_then(|text| serde_json::from_slice(&text).ok());
        let exit = recorded.unwrap_or_else(|| Exit {
            left: Vec::new(),
            code: None,
            signal: None,
            out_of_memory: false,
            last_lines: exit::last_lines(&kept.logs),
            at: run.started_at,
            ran_for: std::time::Duration::ZERO,
        });
        Ok((exit, cancelled))
    }

    /// Ends a step that an engine left behind when it died, and removes its folder.
    pub fn remove_step(&self, folder: &Path) -> io::Result<()> {
        let setting = self.setting();
        let read = fs::read(folder.join("run.json")).ok();
        if let Some(run) = read.and_then(|text| serde_json::from_slice::<RunRecord>(&text).ok())
            && let Some(shim) = open_pidfd(&run)
        {
            kill(&shim);
            let mut fds = [PollFd::new(&shim, PollFlags::IN)];
            let patience = Timespec { tv_sec: 5, tv_nsec: 0 };
            let _gone = rustix::event::poll(&mut fds, Some(&patience));
        }
        setting.trash.take(folder)
    }
}

/// What is kept of a step, and where.
struct Kept {
    logs: PathBuf,
    log_limits: LogLimits,
    /// What it changed in its view of the files.
    changes: bool,
}

/// Who hears what a step says while it runs.
trait Follow {
    fn read(&mut self, watch: &mut dyn StepWatch);
}

/// Nobody: it is in a log.
struct Unheard;

impl Follow for Unheard {
    fn read(&mut self, _: &mut dyn StepWatch) {}
}

/// A watch that is only asked whether the step is wanted.
struct Asked<'a>(&'a dyn Fn() -> bool);

impl StepWatch for Asked<'_> {
    fn line(&mut self, _: &str) {}

    fn is_unwanted(&self) -> bool {
        (self.0)()
    }
}

/// Until the step has ended; whether it was killed.
fn wait(
    setting: &Setting,
    name: &str,
    run: &RunRecord,
    output: &mut dyn Follow,
    watch: &mut dyn StepWatch,
) -> bool {
    let mut cancelled = false;
    let Some(shim) = open_pidfd(run) else { return false };
    loop {
        let mut fds = [PollFd::new(&shim, PollFlags::IN)];
        let ended = rustix::event::poll(&mut fds, Some(&LOOK)).is_ok_and(|ready| ready > 0);
        output.read(watch);
        if ended {
            return cancelled;
        }
        if watch.is_unwanted() && !std::mem::replace(&mut cancelled, true) {
            setting.cgroups.kill(name);
            kill(&shim);
        }
    }
}

/// The shim is PID 1 of the step: everything in it ends with it.
fn kill(shim: &OwnedFd) {
    let _gone = rustix::process::pidfd_send_signal(shim, rustix::process::Signal::KILL);
}

/// Reads what the shim writes, while it writes.
struct Output {
    path: PathBuf,
    open: Option<(File, u64)>,
    /// A line whose end is not written yet.
    part: Vec<u8>,
    /// The text of an entry that goes on in the next.
    text: String,
}

impl Follow for Output {
    fn read(&mut self, watch: &mut dyn StepWatch) {
        loop {
            let same = |(_, inode): &(File, u64)| {
                fs::metadata(&self.path).is_ok_and(|now| now.ino() == *inode)
            };
            let is_current = self.open.as_ref().is_some_and(same);
            if let Some((file, _)) = &mut self.open {
                let mut bytes = Vec::new();
                // What could not be read now is read with the next look.
                let _rest = file.read_to_end(&mut bytes);
                self.part.extend_from_slice(&bytes);
                self.entries(watch);
            }
            if is_current {
                return;
            }
            let Ok(mut file) = File::open(&self.path) else { return };
            let inode = file.metadata().map_or(0, |metadata| metadata.ino());
            let _start = file.seek(SeekFrom::Start(0));
            self.open = Some((file, inode));
        }
    }
}

impl Output {
    fn new(path: PathBuf) -> Output {
        Output { path, open: None, part: Vec::new(), text: String::new() }
    }

    /// Time, stream, whole or part, text.
    fn entries(&mut self, watch: &mut dyn StepWatch) {
        let end = self.part.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let whole: Vec<u8> = self.part.drain(..end).collect();
        for line in String::from_utf8_lossy(&whole).lines() {
            let mut fields = line.splitn(4, ' ').skip(2);
            let (Some(kind), Some(text)) = (fields.next(), fields.next()) else { continue };
            self.text.push_str(text);
            if kind == "F" || self.text.len() > crate::wire::MESSAGE_BYTES_MAX {
                watch.line(&std::mem::take(&mut self.text));
            }
        }
    }
}
