//! Beginning, output and end.

use std::time::Duration;

use agent::{Exit, HealthSpec, HealthTest, LogLimits, Mode, OpError, StartError, View, What};

use crate::harness::{EVERY, FULL, House, Test, id, sh, spec, with_house};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test { name: "exit_codes_and_signals", modes: EVERY, body: exit_codes_and_signals },
        Test { name: "output_and_last_lines", modes: EVERY, body: output_and_last_lines },
        Test { name: "failures_name_the_program", modes: EVERY, body: failures_name_the_program },
        Test { name: "commands_beside_the_program", modes: EVERY, body: commands_beside },
        Test { name: "orphans_are_reaped", modes: EVERY, body: orphans_are_reaped },
        Test { name: "a_pipe_held_open_holds_nothing", modes: EVERY, body: a_pipe_held_open },
        Test { name: "logs_are_put_aside", modes: FULL, body: logs_are_put_aside },
        Test { name: "health_checks_run_inside", modes: EVERY, body: health_checks },
        Test { name: "healthy_when_it_listens", modes: EVERY, body: healthy_when_it_listens },
        Test { name: "many_at_once", modes: EVERY, body: many_at_once },
        Test { name: "one_of_a_name", modes: FULL, body: one_of_a_name },
        Test { name: "grace_then_the_whole_tree", modes: EVERY, body: grace_then_the_whole_tree },
    ]
}

fn exit_codes_and_signals(mode: Mode) {
    with_house(mode, async |mut house| {
        assert!(house.run(sh("a.1", "exit 0")).await.success());
        assert_eq!(house.run(sh("a.1", "exit 7")).await.code, Some(7));
        let exit = house.run(sh("b.1", "kill -SEGV $$")).await;
        assert_eq!((exit.code, exit.signal), (None, Some(11)));
        assert_eq!(exit.to_string(), "killed by SIGSEGV");
    });
}

fn output_and_last_lines(mode: Mode) {
    with_house(mode, async |mut house| {
        let exit = house
            .run(sh("a.1", "for i in $(seq 30); do echo out $i; done; echo err >&2; printf end"))
            .await;
        let output = house.output(&id("a.1"));
        assert_eq!(output.len(), 32, "{output:?}");
        assert!(output.contains(&"err".to_owned()) && output.contains(&"out 1".to_owned()));
        assert_eq!(exit.last_lines.len(), 20);
        assert!(exit.last_lines.contains(&"end".to_owned()));
    });
}

fn failures_name_the_program(mode: Mode) {
    with_house(mode, async |house| {
        let missing = house.agent.start(spec("a.1", &["no-such-thing"])).await.unwrap_err();
        assert!(matches!(missing, StartError::NotFound { .. }), "{missing}");
        assert!(missing.to_string().contains("no-such-thing"), "{missing}");
        let refused = house.agent.start(spec("a.1", &["/etc/passwd"])).await.unwrap_err();
        assert_eq!(refused.to_string(), "cannot run \"/etc/passwd\": Permission denied");
        let mut nowhere = sh("a.1", "true");
        nowhere.working_dir = "/no/such/place".into();
        let nowhere = house.agent.start(nowhere).await.unwrap_err();
        assert!(nowhere.to_string().contains("/no/such/place: No such file"), "{nowhere}");
        assert!(house.agent.instances().is_empty());
    });
}

fn grace_then_the_whole_tree(mode: Mode) {
    with_house(mode, async |house| {
        let script = "trap '' TERM; \
            (setsid sh -c 'trap \"\" TERM; (sleep 1000 & echo $! ready; wait) &'); \
            while :; do sleep 1000; done";
        house.agent.start(sh("a.1", script)).await.unwrap();
        let a = id("a.1");
        while house.output(&a).is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let exit = house.agent.stop(&a, 15, Duration::from_millis(200)).await.unwrap();
        assert_eq!(exit.signal, Some(9));
        assert!(exit.ran_for >= Duration::from_millis(200));
        house.agent.remove(&a).await.unwrap();
        assert!(!house.folder.path().join("instances/a.1").exists());
        assert!(house.folder.path().join("logs/a.1/current.log").exists());
    });
}

fn commands_beside(mode: Mode) {
    with_house(mode, async |house| {
        let a = id("a.1");
        let mut main = sh("a.1", "sleep 1000");
        main.env.push(("GREETING".to_owned(), "hello".to_owned()));
        main.working_dir = "/usr".into();
        house.agent.start(main).await.unwrap();
        let run = async |script: &str, millis| {
            let argv = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
            house.agent.exec(&a, argv, Duration::from_millis(millis)).await.unwrap()
        };
        let said = run("echo $GREETING from $(pwd); echo oops >&2; exit 4", 20_000).await;
        assert_eq!((said.code, said.output.as_str()), (Some(4), "hello from /usr\noops\n"));
        let slow = run("echo begun; sleep 1000", 300).await;
        assert!(slow.timed_out && slow.signal == Some(9), "{slow:?}");
        let loud = run("head -c 1000000 /dev/zero | tr '\\0' x", 20_000).await;
        assert!(loud.truncated && loud.output.len() == 64 << 10 && loud.code == Some(0));
        // Output closed early does not end it.
        let quiet = run("exec >&- 2>&-; sleep 0.05; exit 6", 20_000).await;
        assert_eq!(quiet.code, Some(6));
        let missing =
            house.agent.exec(&a, vec!["no-such".to_owned()], Duration::from_secs(20)).await;
        assert!(matches!(missing, Err(OpError::Refused { .. })), "{missing:?}");
    });
}

fn orphans_are_reaped(mode: Mode) {
    with_house(mode, async |house| {
        let script = "for i in $(seq 50); do (sh -c 'exit 0' &) ; done; echo ready; sleep 1000";
        house.agent.start(sh("a.1", script)).await.unwrap();
        let a = id("a.1");
        house.printed(&a, "ready").await;
        // The shim, the shell and its sleep.
        let count = async || {
            let argv = ["/bin/sh", "-c", "grep -l 'State:.Z' /proc/[0-9]*/status | wc -l"];
            let argv = argv.map(str::to_owned).to_vec();
            house.agent.exec(&a, argv, Duration::from_secs(20)).await.unwrap().output
        };
        if mode != Mode::None {
            while count().await.trim() != "0" {}
        }
        house.agent.kill(&a).await.unwrap();
    });
}

/// Ends once what it leaves is what it shall be.
const AWAY: &str =
    "setsid sleep 1000 & while [ \"$(cat /proc/$!/comm)\" != sleep ]; do :; done; exit 0";

fn a_pipe_held_open(mode: Mode) {
    with_house(mode, async |mut house| {
        // The daemon holds both pipes, in a session of its own, past the program's end.
        let exit = house.run(sh("a.1", "setsid sleep 1000 & echo last words; exit 9")).await;
        assert_eq!((exit.code, exit.last_lines), (Some(9), vec!["last words".to_owned()]));
        // One that goes into the background says nothing more itself.
        let exit = house.run(sh("a.1", AWAY)).await;
        assert_eq!((exit.code, exit.left), (Some(0), vec!["sleep".to_owned()]));
    });
}

fn logs_are_put_aside(mode: Mode) {
    with_house(mode, async |house| {
        let folder = house.folder.clone();
        drop(house);
        let limits = LogLimits { file_bytes: 64 << 10, files_kept: 2 };
        let mut house = House::open_with(mode, folder, limits);
        let exit =
            house.run(sh("a.1", "seq 100000; head -c 100000 /dev/zero | tr '\\0' x; echo")).await;
        assert!(exit.success(), "{exit:?}");
        let logs = house.folder.path().join("logs/a.1");
        let files: Vec<_> = std::fs::read_dir(logs).unwrap().map(|e| e.unwrap().path()).collect();
        assert_eq!(files.len(), 3, "{files:?}");
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            for line in text.lines() {
                let parts: Vec<_> = line.splitn(4, ' ').collect();
                assert!(parts[0].len() == 30 && parts[1] == "stdout", "{line}");
                assert!(["F", "P"].contains(&parts[2]) && parts[3].len() <= 16 << 10, "{line}");
            }
        }
    });
}

fn check(test: HealthTest) -> HealthSpec {
    HealthSpec {
        test,
        interval: Duration::from_millis(20),
        timeout: Duration::from_secs(20),
        retries: 2,
        start_period: Duration::ZERO,
        start_interval: Duration::from_millis(20),
    }
}

fn health_checks(mode: Mode) {
    with_house(mode, async |mut house| {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("mark");
        let mut main = sh("a.1", "sleep 1000");
        let line = format!("cat {} || exit 3", mark.display());
        main.health = Some(check(HealthTest::Shell(line)));
        let a = id("a.1");
        house.agent.start(main).await.unwrap();
        assert!(matches!(house.event().await.what, What::Started { .. }));
        let What::Unhealthy { detail } = house.event().await.what else {
            panic!("unhealthy first")
        };
        assert!(detail.starts_with("exit code 3: cat: "), "{detail}");
        std::fs::write(&mark, "").unwrap();
        assert_eq!(house.event().await.what, What::Healthy);
        assert_eq!(house.agent.status(&a).unwrap().healthy, Some(true));
        std::fs::remove_file(&mark).unwrap();
        assert!(matches!(house.event().await.what, What::Unhealthy { .. }));
        house.agent.kill(&a).await.unwrap();
    });
}

fn healthy_when_it_listens(mode: Mode) {
    with_house(mode, async |mut house| {
        let port = agent::free_port([127, 0, 0, 1].into()).unwrap();
        let script = format!(
            "import socket, time\ntime.sleep(0.1)\n\
             s = socket.create_server(('127.0.0.1', {port}))\n\
             print('listens', flush=True)\ntime.sleep(1000)"
        );
        let mut main = spec("a.1", &["python3", "-c", &script]);
        main.ports = vec![port];
        let a = id("a.1");
        house.agent.start(main).await.unwrap();
        assert_eq!(house.agent.status(&a).unwrap().healthy, None);
        house.healthy(&a).await;
        house.printed(&a, "listens").await;
        let address = ([127, 0, 0, 1], port).into();
        assert_eq!(house.agent.listening(&a), [address]);
        house.agent.kill(&a).await.unwrap();
        assert!(house.agent.listening(&a).is_empty());
    });
}

fn one_of_a_name(mode: Mode) {
    with_house(mode, async |house| {
        let a = id("a.1");
        let unknown = house.agent.kill(&a).await;
        assert!(matches!(unknown, Err(OpError::Unknown(_))));
        house.agent.start(sh("a.1", "sleep 1000")).await.unwrap();
        let second = house.agent.start(sh("a.1", "true")).await;
        assert!(matches!(second, Err(StartError::Exists(_))));
        assert!(matches!(house.agent.remove(&a).await, Err(OpError::Running(_))));
        let exit: Exit = house.agent.kill(&a).await.unwrap();
        assert_eq!(house.agent.kill(&a).await.unwrap(), exit);
        let late = house.agent.exec(&a, vec!["true".to_owned()], Duration::ZERO).await;
        assert!(matches!(late, Err(OpError::NotRunning(_))));
    });
}

fn many_at_once(mode: Mode) {
    with_house(mode, async |mut house| {
        let name = |n: usize| format!("many.{n}");
        let starts = (1..=24).map(|n| {
            let (agent, mut spec) = (house.agent.clone(), sh(&name(n), "echo here; sleep 1000"));
            spec.view = View::Overlay { layers: Vec::new() };
            async move { agent.start(spec).await.unwrap() }
        });
        let mut tasks = tokio::task::JoinSet::new();
        starts.for_each(|start| drop(tasks.spawn(start)));
        tasks.join_all().await;
        for n in 1..=24 {
            house.printed(&id(&name(n)), "here").await;
        }
        assert_eq!(house.agent.usage().len(), 24);
        let kills = (1..=24).map(|n| {
            let agent = house.agent.clone();
            async move { agent.kill(&id(&name(n))).await.unwrap() }
        });
        let mut tasks = tokio::task::JoinSet::new();
        kills.for_each(|kill| drop(tasks.spawn(kill)));
        assert!(tasks.join_all().await.iter().all(|exit| exit.signal == Some(9)));
        for n in 1..=24 {
            house.agent.remove(&id(&name(n))).await.unwrap();
        }
        let left = std::fs::read_dir(house.folder.path().join("instances")).unwrap().count();
        assert_eq!(left, 0);
        assert!(matches!(house.event().await.what, What::Started { .. }));
    });
}
