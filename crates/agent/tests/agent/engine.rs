//! Engines that come and go while instances run on.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use agent::{Agent, AgentConfig, Mode, Phase, What};
use base::SystemClock;

use crate::harness::{EVERY, House, NAMESPACES, Test, id, sh, with_house};

/// Set for a process that is an engine: the mode and the state folder.
pub(crate) const ENGINE: &str = "AGENT_TEST_ENGINE";

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test { name: "a_new_agent_adopts", modes: EVERY, body: a_new_agent_adopts },
        Test { name: "a_killed_engine_loses_nothing", modes: EVERY, body: a_killed_engine },
        Test { name: "what_ended_meanwhile_is_reported", modes: EVERY, body: ended_meanwhile },
        Test { name: "a_reused_number_is_no_instance", modes: EVERY, body: a_reused_number },
        Test { name: "a_killed_shim_is_an_end", modes: EVERY, body: a_killed_shim },
        Test {
            name: "root_of_a_user_namespace",
            modes: NAMESPACES,
            body: root_of_a_user_namespace,
        },
        Test { name: "files_go_beside_everything_else", modes: EVERY, body: files_go_beside },
        Test { name: "descriptors_stay_open", modes: EVERY, body: descriptors_stay_open },
    ]
}

/// Set for a process that is root of a user namespace.
pub(crate) const FALSE_ROOT: &str = "AGENT_TEST_FALSE_ROOT";

fn root_of_a_user_namespace(_: Mode) {
    let own = std::env::current_exe().unwrap().display().to_string();
    for flags in ["-Ur", "-Urm", "-Urmpf"] {
        let unshare = |what: &str| {
            let mut command = Command::new("unshare");
            command.args([flags, what]).stderr(Stdio::inherit());
            command
        };
        if !unshare("true").status().is_ok_and(|status| status.success()) {
            eprintln!("skip: unshare {flags} is refused here");
            continue;
        }
        let run = unshare(&own).env(FALSE_ROOT, "").output().unwrap();
        let said = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success() && said.ends_with("runs\n"), "{flags}: {said}");
    }
}

/// An engine that is root in name: finds what it may do, and does that.
pub(crate) fn serve_as_false_root() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    runtime.block_on(async {
        let pool = "127.64.0.0/16".parse().unwrap();
        let config = AgentConfig::new(folder.path().into(), pool, Arc::new(SystemClock));
        let (agent, mut events) = Agent::open(config).unwrap();
        let isolation = agent.isolation();
        println!("{isolation:?}");
        let lacks = |what: &str| isolation.missing.iter().any(|line| line.starts_with(what));
        assert_eq!(lacks("files "), !isolation.own_files, "{isolation:?}");
        assert_eq!(lacks("users "), isolation.own_files && isolation.mode != Mode::Full);
        assert_eq!(lacks("addresses "), isolation.addressing != agent::Addressing::Own);
        assert!(!folder.path().join("trial").exists());
        let mut spec = sh("a.1", "id -u; sleep 0.2; echo runs");
        spec.view = agent::View::Overlay { layers: Vec::new() };
        spec.user = Some("1234:1234".to_owned());
        agent.start(spec).await.unwrap();
        let exit = loop {
            if let What::Exited(exit) = events.recv().await.unwrap().what {
                break exit;
            }
        };
        let warnings = agent.status(&id("a.1")).unwrap().warnings;
        println!("{warnings:?}\n{}", exit.last_lines.join("\n"));
        assert!(exit.success(), "{exit:?}");
        // Who it could not become is said.
        assert_eq!(exit.last_lines[0] != "1234", warnings.iter().any(|w| w.contains("not as")));
    });
}

/// An engine of its own process: starts one instance and waits to be killed.
pub(crate) fn serve(what: &str) {
    let (mode, folder) = what.split_once(':').unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let pool = "127.64.0.0/16".parse().unwrap();
        let mut config = AgentConfig::new(folder.into(), pool, Arc::new(SystemClock));
        config.mode = EVERY.iter().copied().find(|m| format!("{m:?}") == mode);
        let (agent, _events) = Agent::open(config).unwrap();
        agent.start(sh("a.1", COUNTS)).await.unwrap();
        println!("{}", agent.instances()[0].pid.unwrap());
        std::future::pending::<()>().await;
    });
}

/// Prints a line now and then, until it is told to end.
const COUNTS: &str = "trap 'echo told; exit 5' TERM; n=0; while :; do n=$((n+1)); echo line $n; \
    sleep 0.01; done";

fn a_new_agent_adopts(mode: Mode) {
    with_house(mode, async |house| {
        let a = id("a.1");
        house.agent.start(sh("a.1", COUNTS)).await.unwrap();
        let before = house.agent.status(&a).unwrap();
        let folder = house.folder.clone();
        drop(house);
        let mut house = House::open(mode, folder);
        let after = house.agent.status(&a).unwrap();
        assert!(after.adopted && after.phase == Phase::Running && !before.adopted);
        assert_eq!((after.pid, &after.spec), (before.pid, &before.spec));
        house.healthy(&a).await;
        let said = house.agent.exec(&a, vec!["true".to_owned()], Duration::from_secs(20)).await;
        assert_eq!(said.unwrap().code, Some(0));
        let exit = house.agent.stop(&a, 15, Duration::from_secs(20)).await.unwrap();
        assert_eq!(exit.code, Some(5));
        assert_eq!(exit.last_lines.last().unwrap(), "told");
    });
}

fn a_killed_engine(mode: Mode) {
    with_house(mode, async |house| {
        let folder = house.folder.clone();
        drop(house);
        let mut engine = Command::new("/proc/self/exe")
            .env(ENGINE, format!("{mode:?}:{}", folder.path().display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(engine.stdout.take().unwrap()).read_line(&mut line).unwrap();
        engine.kill().unwrap();
        engine.wait().unwrap();
        let house = House::open(mode, folder);
        let a = id("a.1");
        assert_eq!(house.agent.status(&a).unwrap().pid, Some(line.trim().parse().unwrap()));
        let lines_then = house.output(&a).len();
        house.printed(&a, &format!("line {}", lines_then + 5)).await;
        house.agent.stop(&a, 15, Duration::from_secs(20)).await.unwrap();
        let output = house.output(&a);
        let expected = (1..output.len()).map(|n| format!("line {n}"));
        assert_eq!(output[..output.len() - 1], expected.collect::<Vec<_>>());
    });
}

fn ended_meanwhile(mode: Mode) {
    with_house(mode, async |house| {
        let a = id("a.1");
        house.agent.start(sh("a.1", "sleep 0.05; echo bye; exit 3")).await.unwrap();
        let folder = house.folder.clone();
        drop(house);
        while !folder.path().join("instances/a.1/exit.json").exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut house = House::open(mode, folder);
        let exit = house.exit_of(&a).await;
        assert_eq!((exit.code, exit.last_lines), (Some(3), vec!["bye".to_owned()]));
        house.agent.remove(&a).await.unwrap();
    });
}

/// When a process began, in clock ticks since boot; its name has neither space nor parenthesis.
fn start_of(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.split(' ').nth(21).unwrap().parse().unwrap()
}

fn a_reused_number(mode: Mode) {
    with_house(mode, async |house| {
        let a = id("a.1");
        house.agent.start(sh("a.1", "sleep 1000")).await.unwrap();
        let folder = house.folder.clone();
        house.agent.kill(&a).await.unwrap();
        drop(house);
        let path = folder.path().join("instances/a.1/run.json");
        let mut run: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        // As if an innocent process had been given the number of the shim. A number comes back
        // only after all the others, which takes longer than the tick that start times count in:
        // one that began in the shim's own tick would be the shim.
        let innocent = || Command::new("sleep").arg("1000").spawn().unwrap();
        let mut other = innocent();
        while run["shim_start"] == start_of(other.id()) {
            other.kill().unwrap();
            other.wait().unwrap();
            other = innocent();
        }
        run["shim_pid"] = other.id().into();
        std::fs::write(&path, run.to_string()).unwrap();
        std::fs::remove_file(folder.path().join("instances/a.1/exit.json")).unwrap();
        let mut house = House::open(mode, folder);
        let exit = house.exit_of(&a).await;
        assert_eq!((exit.code, exit.signal), (None, None));
        house.agent.kill(&a).await.unwrap();
        house.agent.remove(&a).await.unwrap();
        assert!(other.try_wait().unwrap().is_none());
        other.kill().unwrap();
        other.wait().unwrap();
    });
}

fn a_killed_shim(mode: Mode) {
    with_house(mode, async |mut house| {
        let a = id("a.1");
        house.agent.start(sh("a.1", "echo seen; sleep 1000")).await.unwrap();
        house.printed(&a, "seen").await;
        let program = house.agent.status(&a).unwrap().pid.unwrap();
        let text = std::fs::read(house.folder.path().join("instances/a.1/run.json")).unwrap();
        let run: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let shim = i32::try_from(run["shim_pid"].as_i64().unwrap()).unwrap();
        let shim = rustix::process::Pid::from_raw(shim).unwrap();
        rustix::process::kill_process(shim, rustix::process::Signal::KILL).unwrap();
        let exit = house.exit_of(&a).await;
        assert_eq!((exit.code, exit.signal), (None, None));
        assert_eq!(exit.last_lines, ["seen"]);
        // Nothing is left behind that would hold its port.
        while std::fs::read_to_string(format!("/proc/{program}/stat"))
            .is_ok_and(|stat| !stat.contains(") Z "))
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

fn files_go_beside(mode: Mode) {
    with_house(mode, async |mut house| {
        let a = id("a.1");
        let state = house.folder.path().to_owned();
        let trash = || std::fs::read_dir(state.join("trash")).map_or(0, Iterator::count);
        let mut writes = sh("a.1", "mkdir -p /tmp/x/y; chmod 500 /tmp/x; true");
        writes.view = agent::View::Overlay { layers: Vec::new() };
        house.run(writes).await;
        house.agent.remove(&a).await.unwrap();
        assert!(!state.join("instances/a.1").exists());
        for layer in ["kept", "old"] {
            std::fs::create_dir_all(state.join("layers").join(layer).join("usr/lib")).unwrap();
        }
        house.agent.discard(&state.join("layers/old")).unwrap();
        assert!(state.join("layers/kept").exists() && !state.join("layers/old").exists());
        house.agent.deleted().await;
        assert_eq!(trash(), 0);
        // What one engine leaves the next one deletes.
        house.agent.stop_deleting();
        house.agent.discard(&state.join("layers/kept")).unwrap();
        house.agent.deleted().await;
        assert!(!state.join("layers/kept").exists() && trash() == 1);
        let folder = house.folder.clone();
        drop(house);
        let house = House::open(mode, folder);
        while trash() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        drop(house);
    });
}

fn descriptors_stay_open(mode: Mode) {
    with_house(mode, async |house| {
        let folder = house.folder.clone();
        drop(house);
        let claim = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = claim.local_addr().unwrap();
        let pool = "127.64.0.0/16".parse().unwrap();
        let mut config = AgentConfig::new(folder.path().into(), pool, Arc::new(SystemClock));
        config.mode = Some(mode);
        config.inherit_fds = vec![claim.into()];
        let (agent, mut events) = Agent::open(config).unwrap();
        // Not in the program, whose sockets are its own.
        let mut spec = sh("a.1", "ls -l /proc/$$/fd | grep -c socket; sleep 1000");
        spec.hostname = None;
        agent.start(spec).await.unwrap();
        assert!(matches!(events.recv().await.unwrap().what, What::Started { .. }));
        drop((agent, events));
        assert!(std::net::TcpListener::bind(address).is_err());
        let house = House::open(mode, folder);
        house.printed(&id("a.1"), "0").await;
        assert!(std::net::TcpListener::bind(address).is_err());
        house.agent.kill(&id("a.1")).await.unwrap();
        assert!(std::net::TcpListener::bind(address).is_ok());
    });
}
