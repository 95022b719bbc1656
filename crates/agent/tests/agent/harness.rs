//! Runs tests by name, each with an agent of its own in each mode that it asks for.

use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use agent::{Agent, AgentConfig, Exit, InstanceEvent, LogLimits, Mode, ProcessSpec, What};
use base::{InstanceId, SystemClock};
use tokio::sync::mpsc::Receiver;

/// Long enough that only a defect reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Test {
    pub(crate) name: &'static str,
    pub(crate) modes: &'static [Mode],
    pub(crate) body: fn(Mode),
}

pub(crate) const EVERY: &[Mode] = &[Mode::Full, Mode::User, Mode::None];
pub(crate) const NAMESPACES: &[Mode] = &[Mode::Full, Mode::User];
pub(crate) const FULL: &[Mode] = &[Mode::Full];

/// Set for a process that runs one test without root.
const ONE: &str = "AGENT_TEST_ONE";

pub(crate) fn run(tests: Vec<Test>) -> ExitCode {
    if let Ok(one) = std::env::var(ONE) {
        let (name, mode) = one.split_once('/').unwrap();
        let test = tests.iter().find(|test| test.name == name).unwrap();
        (test.body)(mode_named(mode));
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let is_root = rustix::process::geteuid().is_root();
    let works = |command: &str, args: &[&str]| {
        let status = Command::new(command).args(args).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    let may_mount = is_root && works("unshare", &["-m", "true"]);
    let may_be_user = match is_root {
        true => works(
            "setpriv",
            &["--reuid=65534", "--regid=65534", "--clear-groups", "unshare", "-Um", "true"],
        ),
        false => works("unshare", &["-Um", "true"]),
    };
    let (mut failed, mut passed) = (Vec::new(), 0);
    for test in &tests {
        for mode in test.modes {
            let name = format!("{}/{mode:?}", test.name);
            if !wanted.is_empty() && !wanted.iter().any(|wanted| name.contains(wanted.as_str())) {
                continue;
            }
            let ok = match (mode, is_root) {
                (Mode::Full, _) if !may_mount => {
                    eprintln!("skip {name}: needs root that may mount");
                    continue;
                }
                (Mode::User, _) if !may_be_user => {
                    eprintln!("skip {name}: user namespaces are refused here");
                    continue;
                }
                (Mode::Full, _) | (_, false) => {
                    catch_unwind(AssertUnwindSafe(|| (test.body)(*mode))).is_ok()
                }
                // The other modes are for people who are not root.
                (_, true) => as_nobody(&name),
            };
            eprintln!("{} {name}", if ok { "ok  " } else { "FAIL" });
            if ok { passed += 1 } else { failed.push(name) }
        }
    }
    eprintln!("{passed} passed, {} failed {failed:?}", failed.len());
    ExitCode::from(u8::from(!failed.is_empty()))
}

fn mode_named(name: &str) -> Mode {
    *EVERY.iter().find(|mode| format!("{mode:?}") == name).unwrap()
}

/// Runs one test in a process without privileges. The executable is copied to where everybody
/// may read it.
fn as_nobody(name: &str) -> bool {
    let folder = tempfile::Builder::new().prefix("agent-test").tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let copy = folder.path().join("test");
    std::fs::copy("/proc/self/exe", &copy).unwrap();
    let mut command = Command::new(copy);
    command.env(ONE, name).env("TMPDIR", "/tmp").current_dir("/").uid(65_534).gid(65_534);
    command.status().unwrap().success()
}

/// An agent, its folder, and what it reported.
pub(crate) struct House {
    pub(crate) agent: Agent,
    pub(crate) folder: Arc<tempfile::TempDir>,
    events: Receiver<InstanceEvent>,
    seen: Vec<InstanceEvent>,
}

pub(crate) fn with_house<F: Future<Output = ()>>(mode: Mode, body: impl FnOnce(House) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let house = House::open(mode, Arc::new(tempfile::tempdir().unwrap()));
        let agent = house.agent.clone();
        let _reaper = Reaper(house.folder.clone());
        let done = tokio::time::timeout(PATIENCE, body(house)).await;
        for instance in agent.instances() {
            let _ended = agent.kill(&instance.id).await;
        }
        done.expect("the test takes too long");
    });
}

/// Ends what a failed test leaves running.
struct Reaper(Arc<tempfile::TempDir>);

impl Drop for Reaper {
    fn drop(&mut self) {
        for entry in std::fs::read_dir(self.0.path().join("instances")).unwrap().flatten() {
            let Ok(text) = std::fs::read(entry.path().join("run.json")) else { continue };
            let run: serde_json::Value = serde_json::from_slice(&text).unwrap();
            let pid = i32::try_from(run["shim_pid"].as_i64().unwrap()).unwrap();
            if !entry.path().join("exit.json").exists() {
                let pid = rustix::process::Pid::from_raw(pid).unwrap();
                let _gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
}

impl House {
    pub(crate) fn open(mode: Mode, folder: Arc<tempfile::TempDir>) -> House {
        House::open_with(mode, folder, LogLimits::default())
    }

    pub(crate) fn open_with(
        mode: Mode,
        folder: Arc<tempfile::TempDir>,
        limits: LogLimits,
    ) -> House {
        let pool = "127.64.0.0/16".parse().unwrap();
        let mut config = AgentConfig::new(folder.path().to_owned(), pool, Arc::new(SystemClock));
        config.mode = Some(mode);
        config.log_limits = limits;
        let (agent, events) = Agent::open(config).unwrap();
        House { agent, folder, events, seen: Vec::new() }
    }

    pub(crate) async fn event(&mut self) -> InstanceEvent {
        let event = self.events.recv().await.expect("the agent is there");
        self.seen.push(event.clone());
        event
    }

    pub(crate) async fn exit_of(&mut self, id: &InstanceId) -> Exit {
        loop {
            let event = self.event().await;
            if let What::Exited(exit) = event.what
                && event.id == *id
            {
                return exit;
            }
        }
    }

    pub(crate) async fn healthy(&mut self, id: &InstanceId) {
        loop {
            let event = self.event().await;
            if event.id == *id {
                assert!(!matches!(event.what, What::Exited(_)), "{event:?}");
                if event.what == What::Healthy {
                    return;
                }
            }
        }
    }

    /// Starts and waits for the end.
    pub(crate) async fn run(&mut self, spec: ProcessSpec) -> Exit {
        let id = spec.id.clone();
        self.agent.start(spec).await.unwrap();
        self.exit_of(&id).await
    }

    /// All text that an instance printed, by line, without time and stream.
    pub(crate) fn output(&self, id: &InstanceId) -> Vec<String> {
        let path = self.folder.path().join("logs").join(id.to_string()).join("current.log");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|line| line.splitn(4, ' ').nth(3).unwrap().to_owned()).collect()
    }

    /// Waits until an instance has printed this line.
    pub(crate) async fn printed(&self, id: &InstanceId, wanted: &str) {
        while !self.output(id).iter().any(|line| line == wanted) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

pub(crate) fn id(name: &str) -> InstanceId {
    name.parse().unwrap()
}

pub(crate) fn spec(name: &str, argv: &[&str]) -> ProcessSpec {
    let mut spec = ProcessSpec::new(id(name), argv.iter().map(|a| (*a).to_owned()).collect());
    let path = "/usr/local/bin:/usr/bin:/bin:/usr/local/go/bin";
    spec.env.push(("PATH".to_owned(), path.to_owned()));
    spec
}

pub(crate) fn sh(name: &str, script: &str) -> ProcessSpec {
    spec(name, &["/bin/sh", "-c", script])
}
