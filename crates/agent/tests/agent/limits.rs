//! What an instance may use, and what it is seen to use.

use std::path::PathBuf;
use std::time::Duration;

use agent::{Limits, Mode, View};
use sha2::{Digest, Sha256};

use crate::harness::{EVERY, FULL, House, Test, id, sh, spec, with_house};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test { name: "too_much_memory_is_said", modes: FULL, body: too_much_memory_is_said },
        Test { name: "memory_in_use_is_seen", modes: FULL, body: memory_in_use_is_seen },
        Test { name: "too_many_processes_are_refused", modes: FULL, body: too_many_processes },
        Test { name: "processor_time_is_bounded", modes: FULL, body: processor_time_is_bounded },
        Test { name: "java_sees_its_limit", modes: FULL, body: java_sees_its_limit },
        Test { name: "usage_is_seen", modes: EVERY, body: usage_is_seen },
        Test { name: "no_cgroup_stays_behind", modes: FULL, body: no_cgroup_stays_behind },
    ]
}

fn lacks(house: &House, controller: &str) -> bool {
    let missing = &house.agent.isolation().missing;
    let lacks = missing.iter().any(|line| line.starts_with(&format!("{controller} limits")));
    if lacks {
        eprintln!("skip: {missing:?}");
    }
    lacks
}

fn too_much_memory_is_said(mode: Mode) {
    with_house(mode, async |mut house| {
        if lacks(&house, "memory") {
            return;
        }
        let mut eats = spec("a.1", &["python3", "-c", "x = bytearray(200 << 20); print(len(x))"]);
        eats.limits = Limits { memory_bytes: Some(48 << 20), ..Limits::default() };
        let exit = house.run(eats.clone()).await;
        assert!(exit.out_of_memory && exit.signal == Some(9), "{exit:?}");
        assert_eq!(exit.to_string(), "killed: it used more memory than its limit");
        eats.limits.memory_bytes = Some(400 << 20);
        let exit = house.run(eats).await;
        assert!(exit.success() && !exit.out_of_memory, "{exit:?}");
    });
}

fn memory_in_use_is_seen(mode: Mode) {
    with_house(mode, async |house| {
        if lacks(&house, "memory") {
            return;
        }
        // 64 MiB of its own, and 64 MiB of a file that it once read.
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, vec![1; 64 << 20]).unwrap();
        let script = format!(
            "import time\nx = bytearray(b'1') * (64 << 20)\nlen(open('{}', 'rb').read(1 << 10))\n\
             print('ready', flush=True)\ntime.sleep(1000)",
            file.display()
        );
        let mut main = spec("a.1", &["python3", "-c", &script]);
        main.limits = Limits { memory_bytes: Some(400 << 20), ..Limits::default() };
        let a = id("a.1");
        house.agent.start(main).await.unwrap();
        house.printed(&a, "ready").await;
        let bytes = house.agent.usage()[&a].memory_bytes;
        assert!((60 << 20..120 << 20).contains(&bytes), "{bytes}");
    });
}

fn too_many_processes(mode: Mode) {
    with_house(mode, async |mut house| {
        if lacks(&house, "pids") {
            return;
        }
        let script = "for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done; echo all";
        let mut forks = sh("a.1", script);
        forks.limits = Limits { pids: Some(4), ..Limits::default() };
        let exit = house.run(forks.clone()).await;
        assert!(!exit.success() && !exit.last_lines.contains(&"all".to_owned()), "{exit:?}");
        forks.limits.pids = Some(40);
        assert!(house.run(forks).await.success());
    });
}

fn processor_time_is_bounded(mode: Mode) {
    with_house(mode, async |mut house| {
        if lacks(&house, "cpu") {
            return;
        }
        // A tenth of a processor: so much time of the clock for that much of the processor's.
        let script = "import time\nwhile time.process_time() < 0.1: pass";
        let mut spins = spec("a.1", &["python3", "-c", script]);
        spins.limits = Limits { cpus: Some(0.1), ..Limits::default() };
        let exit = house.run(spins).await;
        assert!(exit.success() && exit.ran_for > Duration::from_millis(500), "{exit:?}");
    });
}

fn usage_is_seen(mode: Mode) {
    with_house(mode, async |house| {
        let script = "import time\nx = bytearray(b'1') * (50 << 20)\n\
            while time.process_time() < 0.2: pass\nprint('ready', flush=True)\ntime.sleep(1000)";
        let a = id("a.1");
        house.agent.start(spec("a.1", &["python3", "-c", script])).await.unwrap();
        house.printed(&a, "ready").await;
        let usage = house.agent.usage()[&a];
        assert!(usage.cpu_micros >= 150_000, "{usage:?}");
        assert!(usage.memory_bytes >= 50 << 20, "{usage:?}");
        // The shim and the program.
        assert_eq!(usage.processes, 2);
        house.agent.kill(&a).await.unwrap();
    });
}

fn java_sees_its_limit(mode: Mode) {
    with_house(mode, async |mut house| {
        if lacks(&house, "memory") || !std::path::Path::new("/usr/bin/java").exists() {
            eprintln!("skip: no memory limits, or no Java");
            return;
        }
        for view in [View::Host, View::Overlay { layers: Vec::new() }] {
            let folder = tempfile::tempdir_in("/var/tmp").unwrap();
            let source = folder.path().join("M.java");
            let text = "class M { public static void main(String[] a) { \
                System.out.println(Runtime.getRuntime().maxMemory() >> 20); } }";
            std::fs::write(&source, text).unwrap();
            let mut java = spec("a.1", &["java", "-Xint", &source.display().to_string()]);
            java.view = view;
            java.limits = Limits { memory_bytes: Some(800 << 20), ..Limits::default() };
            let exit = house.run(java).await;
            let megabytes: u64 = exit.last_lines.last().unwrap().parse().unwrap();
            assert!(megabytes <= 400, "{exit:?}");
        }
    });
}

/// Directories of control groups that this test's engine has on this machine.
fn cgroups(house: &House) -> Vec<PathBuf> {
    let state = std::fs::canonicalize(house.folder.path()).unwrap();
    let hash = Sha256::digest(state.as_os_str().as_encoded_bytes());
    let hash: String = hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(folder) = folders.pop() {
        // Others come and go meanwhile.
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
                if entry.path().display().to_string().contains(&hash) {
                    found.push(entry.path());
                }
            }
        }
    }
    found.sort();
    found
}

fn no_cgroup_stays_behind(mode: Mode) {
    with_house(mode, async |mut house| {
        let (memory_bytes, cpus, pids) = (Some(400 << 20), Some(1.0), Some(40));
        let limits = Limits { memory_bytes, cpus, pids, ..Limits::default() };
        let limited = |mut spec: agent::ProcessSpec| {
            spec.limits = limits.clone();
            spec
        };
        // It is not found, cannot be executed, and cannot be set up; several times, since what is
        // left is a matter of who ends first.
        for _ in 0..4 {
            for program in ["no-such-thing", "/etc/passwd"] {
                house.agent.start(limited(spec("bad.1", &[program]))).await.unwrap_err();
                assert!(cgroups(&house).is_empty(), "{program}: {:?}", cgroups(&house));
            }
            let mut nowhere = limited(sh("bad.1", "true"));
            nowhere.working_dir = "/no/such/place".into();
            house.agent.start(nowhere).await.unwrap_err();
            assert!(cgroups(&house).is_empty(), "{:?}", cgroups(&house));
        }
        for end in ["exit 0", "setsid sleep 1000 & exit 1"] {
            house.run(limited(sh("a.1", end))).await;
            assert!(cgroups(&house).is_empty(), "{:?}", cgroups(&house));
            house.agent.remove(&id("a.1")).await.unwrap();
        }
        // Those of others stay.
        house.agent.start(limited(sh("a.1", "sleep 1000"))).await.unwrap();
        let before = cgroups(&house);
        assert!(!before.is_empty() || !house.agent.isolation().missing.is_empty());
        house.agent.start(limited(spec("bad.1", &["no-such-thing"]))).await.unwrap_err();
        assert_eq!(cgroups(&house), before);
        house.agent.kill(&id("a.1")).await.unwrap();
        house.agent.remove(&id("a.1")).await.unwrap();
        assert!(cgroups(&house).is_empty(), "{:?}", cgroups(&house));
    });
}
