//! What an instance sees, and what it may do.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use agent::{Mode, Mount, MountSource, View};

use crate::harness::{EVERY, FULL, NAMESPACES, Test, id, sh, with_house};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test {
            name: "overlay_writes_stay_private",
            modes: FULL,
            body: overlay_writes_stay_private,
        },
        Test { name: "a_project_in_tmp_is_seen", modes: FULL, body: project_in_tmp },
        Test { name: "layers_are_seen_at_their_paths", modes: FULL, body: layers_are_seen },
        Test { name: "host_writes_are_real", modes: EVERY, body: host_writes_are_real },
        Test { name: "mounts_at_new_and_old_places", modes: NAMESPACES, body: mounts },
        Test { name: "mounts_in_folders_of_root", modes: USER, body: mounts_in_roots_folders },
        Test { name: "state_is_hidden", modes: NAMESPACES, body: state_is_hidden },
        Test { name: "names_are_its_own", modes: NAMESPACES, body: names_are_its_own },
        Test { name: "sees_only_its_own_processes", modes: NAMESPACES, body: only_its_own },
        Test { name: "devices_work", modes: FULL, body: devices_work },
        Test { name: "root_in_an_instance_is_bounded", modes: FULL, body: root_is_bounded },
        Test { name: "environment_folder_and_user", modes: EVERY, body: environment },
        Test { name: "other_users", modes: FULL, body: other_users },
    ]
}

const USER: &[Mode] = &[Mode::User];

const OVERLAY: View = View::Overlay { layers: Vec::new() };

fn overlay_writes_stay_private(mode: Mode) {
    with_house(mode, async |mut house| {
        let mark = format!("/var/tmp/mark-{}", std::process::id());
        let mut spec =
            sh("a.1", &format!("touch {mark} /tmp/x /etc/x && rm /etc/passwd && ls /tmp"));
        spec.view = OVERLAY;
        let exit = house.run(spec).await;
        assert!(exit.success() && exit.last_lines == ["x"], "{exit:?}");
        assert!(!PathBuf::from(mark).exists() && PathBuf::from("/etc/passwd").exists());
        let mut warnings = house.agent.status(&id("a.1")).unwrap().warnings;
        // Where the root is an overlay already.
        warnings.retain(|warning| !warning.starts_with("what it writes is kept in memory"));
        assert!(warnings.is_empty(), "{warnings:?}");
        // Another start begins anew.
        let mut again = sh("a.1", "ls /etc/x /tmp/x");
        again.view = OVERLAY;
        assert!(!house.run(again).await.success());
        house.agent.remove(&id("a.1")).await.unwrap();
    });
}

fn project_in_tmp(mode: Mode) {
    with_house(mode, async |mut house| {
        let project = tempfile::tempdir_in("/tmp").unwrap();
        std::fs::create_dir(project.path().join("sub")).unwrap();
        std::fs::write(project.path().join("beside"), "seen").unwrap();
        let mut spec = sh("a.1", "cat ../beside; echo; touch private; ls -A /tmp | wc -l");
        spec.view = OVERLAY;
        spec.working_dir = project.path().join("sub");
        let exit = house.run(spec).await;
        assert_eq!(exit.last_lines, ["seen", "1"], "{exit:?}");
        assert!(!project.path().join("sub/private").exists());
    });
}

fn layers_are_seen(mode: Mode) {
    with_house(mode, async |mut house| {
        let layer = |name: &str, text: &str| {
            let path = house.folder.path().join("layers").join(name);
            std::fs::create_dir_all(path.join("app")).unwrap();
            std::fs::write(path.join("app/file"), text).unwrap();
            std::fs::write(path.join("app").join(name), "").unwrap();
            path
        };
        let layers = vec![layer("top,with:signs", "top"), layer("below", "below")];
        let mut spec = sh("a.1", "cat file; echo; ls; echo changed > file; pwd");
        spec.view = View::Overlay { layers: layers.clone() };
        spec.working_dir = "/app".into();
        let exit = house.run(spec).await;
        assert_eq!(exit.last_lines, ["top", "below", "file", "top,with:signs", "/app"]);
        assert_eq!(std::fs::read(layers[0].join("app/file")).unwrap(), b"top");
        let mut made = sh("a.1", "pwd");
        made.view = OVERLAY;
        made.working_dir = "/new/folder".into();
        assert_eq!(house.run(made).await.last_lines, ["/new/folder"]);
    });
}

fn host_writes_are_real(mode: Mode) {
    with_house(mode, async |mut house| {
        let folder = tempfile::tempdir().unwrap();
        let mut spec = sh("a.1", "echo real > file");
        spec.working_dir = folder.path().to_owned();
        assert!(house.run(spec).await.success());
        assert_eq!(std::fs::read(folder.path().join("file")).unwrap(), b"real\n");
    });
}

fn mounts(mode: Mode) {
    with_house(mode, async |mut house| {
        let folder = tempfile::tempdir().unwrap();
        let old = folder.path().join("old");
        std::fs::create_dir(&old).unwrap();
        let mount = |source: &str, target: &str, read_only| Mount {
            source: MountSource::Path(folder.path().join(source)),
            target: target.into(),
            read_only,
        };
        let script = "set -e; echo 1 > /new-place/deep/a; echo 2 > OLD/b; ! touch /ro-place/c; \
            touch /memory/d; ls / > /dev/null; head -c 2000000 /dev/zero > /memory/e && exit 3; \
            echo end";
        for view in [View::Host, OVERLAY] {
            let mut spec = sh("a.1", &script.replace("OLD", &old.display().to_string()));
            spec.view = view;
            spec.mounts = vec![
                mount("one", "/new-place/deep", false),
                mount("two", &old.display().to_string(), false),
                mount("three", "/ro-place", true),
                Mount {
                    source: MountSource::Tmpfs {
                        size_bytes: Some(1 << 20),
                        mode: None,
                        owner: (None, None),
                        no_exec: false,
                    },
                    target: "/memory".into(),
                    read_only: false,
                },
            ];
            let exit = house.run(spec).await;
            assert!(exit.last_lines.contains(&"end".to_owned()), "{exit:?}");
            let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
            assert_eq!((read("one/a"), read("two/b")), ("1\n".to_owned(), "2\n".to_owned()));
            assert!(!PathBuf::from("/new-place").exists() && !old.join("b").exists());
            std::fs::remove_file(folder.path().join("one/a")).unwrap();
        }
    });
}

fn mounts_in_roots_folders(mode: Mode) {
    with_house(mode, async |mut house| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "from file").unwrap();
        let mount = |source: &str, target: &str| Mount {
            source: MountSource::Path(folder.path().join(source)),
            target: target.into(),
            read_only: false,
        };
        let names = |path: &str| {
            let entries = std::fs::read_dir(path).unwrap();
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect::<BTreeSet<_>>()
        };
        let mark = format!("agent-test-{}", std::process::id());
        let script = format!(
            "set -e; cd /; echo 1 > /var/lib/{mark}/deep/a; echo 2 > /root/{mark}/b; \
             echo 3 > /usr/share/{mark}/c; cat /etc/{mark}.conf; echo; \
             ! touch /var/lib/{mark}-other 2>/dev/null; ! touch /etc/{mark} 2>/dev/null; \
             getent passwd nobody >/dev/null; \
             ls -A /var/lib > /var/lib/{mark}/deep/lib; ls -A /etc > /var/lib/{mark}/deep/etc; \
             grep -c payments /etc/hosts"
        );
        let mut spec = sh("a.1", &script);
        spec.hosts = vec![([127, 64, 0, 9].into(), vec!["payments".to_owned()])];
        spec.mounts = vec![
            mount("one", &format!("/var/lib/{mark}/deep")),
            mount("two", &format!("/root/{mark}")),
            mount("three", &format!("/usr/share/{mark}")),
            mount("file", &format!("/etc/{mark}.conf")),
            // Again where one is covered already.
            mount("four", &format!("/var/lib/{mark}-again")),
        ];
        let exit = house.run(spec).await;
        assert_eq!(exit.last_lines, ["from file", "1"], "{exit:?}");
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        for (path, list, more) in [
            ("/var/lib", "one/lib", vec![mark.clone(), format!("{mark}-again")]),
            ("/etc", "one/etc", vec![format!("{mark}.conf")]),
        ] {
            let seen: BTreeSet<_> = read(list).lines().map(str::to_owned).collect();
            let mut expected = names(path);
            assert!(more.iter().all(|name| !expected.contains(name)), "{expected:?}");
            expected.extend(more);
            assert_eq!(seen, expected);
        }
        assert_eq!([read("one/a"), read("two/b"), read("three/c")], ["1\n", "2\n", "3\n"]);
    });
}

fn state_is_hidden(mode: Mode) {
    with_house(mode, async |mut house| {
        for view in [View::Host, OVERLAY] {
            let state = house.folder.path().display().to_string();
            std::fs::write(house.folder.path().join("secret"), "").unwrap();
            let mut spec = sh("a.1", &format!("ls -A {state} || echo not there"));
            spec.view = view;
            let exit = house.run(spec).await;
            // In an overlay the folder lies behind a private /tmp.
            assert!(exit.success() && !exit.last_lines.contains(&"secret".to_owned()), "{exit:?}");
        }
    });
}

fn names_are_its_own(mode: Mode) {
    with_house(mode, async |house| {
        let mut spec = sh("a.1", "hostname; getent hosts payments; echo ready; sleep 1000");
        spec.hostname = Some("web-1".to_owned());
        spec.hosts = vec![([127, 64, 0, 9].into(), vec!["payments".to_owned()])];
        let a = spec.id.clone();
        house.agent.start(spec).await.unwrap();
        house.printed(&a, "ready").await;
        let output = house.output(&a);
        assert_eq!(output[0], "web-1");
        assert!(output[1].starts_with("127.64.0.9"), "{output:?}");
        let entries = [([127, 64, 0, 10].into(), vec!["orders".to_owned()])];
        house.agent.update_hosts(|_| entries.to_vec()).unwrap();
        let ask = ["getent", "hosts", "orders"].map(str::to_owned).to_vec();
        let said = house.agent.exec(&a, ask, Duration::from_secs(20)).await.unwrap();
        assert!(said.output.starts_with("127.64.0.10"), "{said:?}");
    });
}

fn only_its_own(mode: Mode) {
    with_house(mode, async |mut house| {
        let exit =
            house.run(sh("a.1", "echo $$; ls -d /proc/[0-9]* | wc -l; cat /proc/1/comm")).await;
        let warnings = house.agent.status(&id("a.1")).unwrap().warnings;
        assert!(warnings.is_empty(), "{warnings:?}");
        let number: u32 = exit.last_lines[0].parse().unwrap();
        assert!(number < 10, "{exit:?}");
        assert!(exit.last_lines[1].parse::<u32>().unwrap() <= 5, "{exit:?}");
    });
}

fn devices_work(mode: Mode) {
    with_house(mode, async |mut house| {
        let script = "set -e; echo x > /dev/null; head -c 4 /dev/urandom | wc -c; \
            echo to-stderr > /dev/stderr; test -c /dev/pts/ptmx; touch /dev/shm/x; \
            ls /dev/sda /dev/vda /dev/mem 2>/dev/null || echo no disks; \
            cat /proc/self/cgroup | tail -1";
        let mut spec = sh("a.1", script);
        spec.view = OVERLAY;
        let exit = house.run(spec).await;
        assert!(exit.success(), "{exit:?}");
        let mut lines = exit.last_lines.clone();
        lines.retain(|line| line != "to-stderr");
        assert_eq!(lines, ["4", "no disks", "0::/"], "{exit:?}");
        assert_eq!(exit.last_lines.len(), 4);
    });
}

fn root_is_bounded(mode: Mode) {
    with_house(mode, async |mut house| {
        let script = "mount -t tmpfs x /mnt && echo MOUNTED; umount /proc && echo UNMOUNTED; \
            echo 1 > /proc/sys/kernel/sysrq && echo WROTE; mknod /tmp/n b 8 0 && echo MADE; \
            grep -E 'NoNewPrivs|CapBnd' /proc/self/status";
        let mut spec = sh("a.1", script);
        spec.view = OVERLAY;
        let exit = house.run(spec).await;
        let text = exit.last_lines.join("\n");
        for bad in ["MOUNTED", "WROTE", "MADE"] {
            assert!(!text.contains(bad), "{text}");
        }
        assert!(
            text.contains("NoNewPrivs:\t1") && text.contains("CapBnd:\t00000000a00405fb"),
            "{text}"
        );
    });
}

fn environment(mode: Mode) {
    with_house(mode, async |mut house| {
        let mut spec = sh("a.1", "env | sort; pwd; id -u; ls -l /proc/self/fd | wc -l");
        spec.env.push(("A".to_owned(), "with spaces\tand more".to_owned()));
        spec.working_dir = "/usr".into();
        let exit = house.run(spec).await;
        let own = rustix::process::geteuid().as_raw().to_string();
        let path = "PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/go/bin";
        // 3 streams, the listing itself, and its heading.
        let expected = ["A=with spaces\tand more", path, "PWD=/usr", "/usr", own.as_str(), "5"];
        assert_eq!(exit.last_lines, expected);
    });
}

fn other_users(mode: Mode) {
    with_house(mode, async |mut house| {
        for (user, said) in
            [("nobody", "65534 65534"), ("1234:5678", "1234 5678"), ("daemon", "1 1")]
        {
            let mut spec = sh("a.1", "echo $(id -u) $(id -g); grep CapEff /proc/self/status");
            spec.user = Some(user.to_owned());
            let exit = house.run(spec).await;
            assert_eq!(exit.last_lines, [said, "CapEff:\t0000000000000400"], "{user}");
        }
        let mut spec = sh("a.1", "true");
        spec.user = Some("no-such-user".to_owned());
        let refused = house.agent.start(spec).await.unwrap_err().to_string();
        assert!(refused.contains("no user `no-such-user`"), "{refused}");
    });
}
