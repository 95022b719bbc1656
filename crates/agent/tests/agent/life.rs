//! Beginning, output and end.

use std::time::Duration;

use agent::{Mode, StartError};

use crate::harness::{EVERY, Test, id, sh, spec, with_house};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test { name: "exit_codes_and_signals", modes: EVERY, body: exit_codes_and_signals },
        Test { name: "output_and_last_lines", modes: EVERY, body: output_and_last_lines },
        Test { name: "failures_name_the_program", modes: EVERY, body: failures_name_the_program },
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
        let script = "trap '' TERM; (setsid sh -c 'trap \"\" TERM; (sleep 1000 & echo $! ready; wait) &' ) ; while :; do sleep 1000; done";
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
