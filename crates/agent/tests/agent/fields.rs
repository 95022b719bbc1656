//! What a Compose file may ask of the kernel for one instance.

use std::collections::BTreeMap;

use agent::{Limits, Mode, Mount, MountSource, ProcessSpec, Resolver, View};

use crate::harness::{FULL, NAMESPACES, Test, id, sh, with_house};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test { name: "further_groups", modes: FULL, body: further_groups },
        Test { name: "streams_by_name", modes: FULL, body: streams_by_name },
        Test { name: "read_only_files", modes: NAMESPACES, body: read_only_files },
        Test { name: "options_of_a_tmpfs", modes: FULL, body: options_of_a_tmpfs },
        Test { name: "parameters_of_its_own", modes: FULL, body: parameters_of_its_own },
        Test { name: "limits_of_each_process", modes: NAMESPACES, body: limits_of_each_process },
        Test { name: "shared_memory_of_its_own", modes: NAMESPACES, body: shared_memory },
        Test { name: "a_resolver_of_its_own", modes: NAMESPACES, body: resolver },
        Test { name: "who_is_killed_first", modes: NAMESPACES, body: who_is_killed_first },
        Test { name: "shares_and_sets_of_processors", modes: FULL, body: shares_and_sets },
    ]
}

fn private(script: &str) -> ProcessSpec {
    let mut spec = sh("a.1", script);
    spec.view = View::Overlay { layers: Vec::new() };
    spec
}

fn further_groups(mode: Mode) {
    with_house(mode, async |mut house| {
        for (user, groups) in [(Some("1234:1234"), "1 1234 4321"), (None, "0 1 4321")] {
            let mut spec = private("id -G | tr ' ' '\\n' | sort -n | xargs");
            spec.user = user.map(str::to_owned);
            spec.rights.group_add = vec!["daemon".to_owned(), "4321".to_owned()];
            assert_eq!(house.run(spec).await.last_lines, [groups]);
        }
        let mut spec = private("true");
        spec.rights.group_add = vec!["no-such-group".to_owned()];
        let refused = house.agent.start(spec).await.unwrap_err().to_string();
        assert!(refused.contains("no group `no-such-group`"), "{refused}");
    });
}

fn streams_by_name(mode: Mode) {
    with_house(mode, async |mut house| {
        let mut spec = private("echo out > /dev/stdout && echo err > /dev/stderr");
        spec.user = Some("1234:1234".to_owned());
        let exit = house.run(spec).await;
        let mut lines = exit.last_lines.clone();
        lines.sort();
        assert_eq!(lines, ["err", "out"], "{exit:?}");
    });
}

fn read_only_files(mode: Mode) {
    with_house(mode, async |mut house| {
        let volume = tempfile::tempdir().unwrap();
        let place = format!("/var/tmp/agent-{}", std::process::id());
        let mut spec = private(&format!(
            "for f in /etc /var/tmp /tmp /run /; do touch $f/x 2>/dev/null && echo wrote $f; done; \
             set -e; touch {place}/a/y /memory/y /dev/shm/y; echo x > /dev/null; echo end"
        ));
        spec.rights.read_only = true;
        spec.mounts = vec![
            Mount {
                source: MountSource::Path(volume.path().to_owned()),
                target: format!("{place}/a").into(),
                read_only: false,
            },
            tmpfs("/memory", (None, None), false),
        ];
        let exit = house.run(spec).await;
        assert_eq!(exit.last_lines, ["end"], "{exit:?}");
        assert!(volume.path().join("y").exists());
        let warnings = house.agent.status(&id("a.1")).unwrap().warnings;
        assert!(warnings.iter().all(|w| !w.contains("written")), "{warnings:?}");
    });
}

fn tmpfs(target: &str, owner: (Option<u32>, Option<u32>), no_exec: bool) -> Mount {
    let (size_bytes, mode) = (Some(1 << 20), Some(0o750));
    let source = MountSource::Tmpfs { size_bytes, mode, owner, no_exec };
    Mount { source, target: target.into(), read_only: false }
}

fn options_of_a_tmpfs(mode: Mode) {
    with_house(mode, async |mut house| {
        let script = "stat -c '%u %g %a' /a; cp /bin/true /a; cp /bin/true /b; /b/true && echo runs; \
            /a/true 2>/dev/null || echo refused; df --output=size -k /a | tail -1 | xargs";
        let mut spec = private(script);
        spec.mounts =
            vec![tmpfs("/a", (Some(12), Some(34)), true), tmpfs("/b", (None, None), false)];
        let exit = house.run(spec).await;
        assert_eq!(exit.last_lines, ["12 34 750", "runs", "refused", "1024"], "{exit:?}");
    });
}

fn parameters_of_its_own(mode: Mode) {
    with_house(mode, async |mut house| {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/sys/{name}")).unwrap();
        let (before, net) = (read("kernel/msgmax"), read("net/core/somaxconn"));
        let mut spec = private("cd /proc/sys; cat kernel/msgmax fs/mqueue/msg_max");
        let asked = [
            ("kernel.msgmax", "12345"),
            ("fs.mqueue.msg_max", "7"),
            ("net.core.somaxconn", "77"),
            ("kernel.panic", "99"),
            ("kernel.shm_no_such", "1"),
        ];
        spec.kernel.sysctls = asked.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        assert_eq!(house.run(spec).await.last_lines, ["12345", "7"]);
        assert_eq!((read("kernel/msgmax"), read("net/core/somaxconn")), (before, net));
        let warnings = house.agent.status(&id("a.1")).unwrap().warnings;
        for name in ["net.core.somaxconn", "kernel.panic", "kernel.shm_no_such"] {
            let said = format!("{name} stays as it is");
            assert!(warnings.iter().any(|w| w.starts_with(&said)), "{name}: {warnings:?}");
        }
        assert_eq!(warnings.len(), 3);
    });
}

fn limits_of_each_process(mode: Mode) {
    with_house(mode, async |mut house| {
        let mut spec = private("ulimit -Sn; ulimit -Hn; ulimit -c");
        spec.kernel.ulimits = BTreeMap::from([
            ("nofile".to_owned(), (Some(100), Some(200))),
            ("core".to_owned(), (Some(0), Some(0))),
        ]);
        let exit = house.run(spec.clone()).await;
        assert_eq!(exit.last_lines, ["100", "200", "0"]);
        assert!(house.agent.status(&id("a.1")).unwrap().warnings.is_empty());
        // More than the kernel gives anybody.
        spec.kernel.ulimits = BTreeMap::from([("nofile".to_owned(), (Some(100), None))]);
        let exit = house.run(spec).await;
        let hard: u64 = exit.last_lines[1].parse().unwrap();
        let warnings = house.agent.status(&id("a.1")).unwrap().warnings;
        assert!(warnings[0].starts_with(&format!("its limit `nofile` is {hard}")), "{warnings:?}");
    });
}

fn shared_memory(mode: Mode) {
    with_house(mode, async |mut house| {
        let mut spec = private(
            "df --output=size -k /dev/shm | tail -1 | xargs; ls /dev/shm | wc -l; \
             stat -c %a /dev/shm; touch /dev/shm/x && echo wrote",
        );
        spec.kernel.shm_size_bytes = Some(3 << 20);
        assert_eq!(house.run(spec).await.last_lines, ["3072", "0", "1777", "wrote"]);
    });
}

fn resolver(mode: Mode) {
    with_house(mode, async |mut house| {
        let before = std::fs::read_to_string("/etc/resolv.conf").ok();
        if before.is_none() && mode == Mode::User {
            eprintln!("skip: there is no /etc/resolv.conf to show another at");
            return;
        }
        let mut spec = private("cat /etc/resolv.conf");
        spec.resolver = Some(Resolver {
            first: None,
            servers: vec![[127, 64, 0, 53].into(), std::net::Ipv6Addr::LOCALHOST.into()],
            search: vec!["one.test".to_owned(), "two.test".to_owned()],
            options: vec!["ndots:3".to_owned()],
        });
        let expected = [
            "nameserver 127.64.0.53",
            "nameserver ::1",
            "search one.test two.test",
            "options ndots:3",
        ];
        assert_eq!(house.run(spec).await.last_lines, expected);
        assert_eq!(std::fs::read_to_string("/etc/resolv.conf").ok(), before);
    });
}

fn who_is_killed_first(mode: Mode) {
    with_house(mode, async |mut house| {
        let mut spec = private("cat /proc/self/oom_score_adj");
        spec.kernel.oom_score_adj = Some(600);
        assert_eq!(house.run(spec.clone()).await.last_lines, ["600"]);
        spec.kernel.oom_score_adj = Some(-900);
        let got: i32 = house.run(spec).await.last_lines[0].parse().unwrap();
        let warnings = house.agent.status(&id("a.1")).unwrap().warnings;
        let said = warnings.iter().any(|w| w.contains(&format!("oom_score_adj is {got}")));
        assert!(got == -900 || said, "{got}: {warnings:?}");
    });
}

fn shares_and_sets(mode: Mode) {
    with_house(mode, async |mut house| {
        let mut spec = private(
            "cd /sys/fs/cgroup; cat cpu.weight cpu/cpu.shares 2>/dev/null; \
             cat memory.low memory/memory.soft_limit_in_bytes 2>/dev/null; \
             cat memory.swap.max memory/memory.memsw.limit_in_bytes 2>/dev/null; \
             grep Cpus_allowed_list /proc/self/status",
        );
        spec.limits = Limits {
            memory_bytes: Some(200 << 20),
            memory_and_swap_bytes: Some(300 << 20),
            memory_reserved_bytes: Some(100 << 20),
            cpu_shares: Some(512),
            cpuset: Some("0".to_owned()),
            ..Limits::default()
        };
        let exit = house.run(spec).await;
        let warnings = house.agent.status(&id("a.1")).unwrap().warnings;
        let lacks = |what: &str| warnings.iter().any(|w| w.starts_with(what));
        let has = |lines: &[&str]| lines.iter().any(|l| exit.last_lines.iter().any(|x| x == l));
        assert!(lacks("cpu limit not set") || has(&["512", "20"]), "{exit:?} {warnings:?}");
        assert!(lacks("memory limit not set") || has(&["104857600"]), "{exit:?} {warnings:?}");
        // Where the kernel counts swap at all.
        let counts_swap = exit.last_lines.len() == 4;
        assert!(!counts_swap || has(&["104857600", "314572800"]), "{exit:?} {warnings:?}");
        assert!(lacks("cpuset") || has(&["Cpus_allowed_list:\t0"]), "{exit:?} {warnings:?}");
        for warning in &warnings {
            eprintln!("skip: {warning}");
        }
    });
}
