//! RUN in every form, and what it may see.

use builder::Secret;

use crate::Test;
use crate::bench::{Bench, Said, read};

pub(crate) const TESTS: &[Test] = &[
    ("what_a_step_changes_is_seen_by_the_next", changes),
    ("forms_of_run", forms),
    ("users_folders_and_variables", surroundings),
    ("a_failing_step_says_all_of_it", failing),
    ("a_build_that_nobody_wants_ends", cancelled),
    ("mounts_of_a_step", mounts),
    ("secrets_are_in_no_layer", secrets),
    ("an_agent_for_keys_is_reached", agent_for_keys),
    ("contexts_by_name", contexts),
    ("a_step_may_be_without_network", offline),
    ("the_host_is_out_of_reach", host_is_out_of_reach),
    ("a_step_may_do_what_an_instance_may", confined),
    ("the_root_may_be_an_overlay_already", overlay_root),
];

fn changes() {
    let mut bench = Bench::new("");
    let text = "FROM debian\nRUN echo a > /tmp/a && mkdir -p /srv/b /run/c && rm /etc/hostname.x -f\n\
        RUN ln -s /tmp/a /link && chmod 700 /srv/b && chown 7:8 /srv/b && rm -r /usr/share/doc";
    let seen = "cat /link; stat -c '%a %u %g' /srv/b; ls -d /usr/share/doc /run/c 2>&1; ls -A /tmp";
    assert_eq!(
        bench.prints(text, seen),
        [
            "a",
            "700 7 8",
            "ls: cannot access '/usr/share/doc': No such file or directory",
            "/run/c",
            "a"
        ]
    );
    assert!(std::path::Path::new("/usr/share/doc").exists());
}

fn forms() {
    let mut bench = Bench::new("");
    let text = "FROM debian\nRUN [\"printf\", \"%s\\\\n\", \"$HOME x\"]\nSHELL [\"/bin/bash\", \"-c\"]\n\
        RUN echo ${BASH_VERSION:0:0}bash \\\n  # why\n  again\n\
        RUN <<EOF\nset -e\necho one\n[[ a = a ]] && echo two\nEOF\n\
        RUN <<EOF\n#!/bin/sh\necho script ${0##*/}\nEOF\nRUN cat <<'EOF' > /f && cat /f\nkept $HOME\nEOF";
    assert_eq!(
        bench.prints(text, "true"),
        ["$HOME x", "bash again", "one", "two", "script .step", "kept $HOME"]
    );
}

fn surroundings() {
    let mut bench = Bench::new("");
    bench.build.args.insert("GIVEN".to_owned(), "given".to_owned());
    let text = "FROM debian\nRUN useradd -m -u 1234 app\nARG GIVEN\nARG OTHER=other\nENV KEPT=$GIVEN-x\n\
        WORKDIR /app/deep\nRUN chown app /app/deep\nUSER app";
    let command =
        "id -u; pwd; echo $HOME $KEPT $OTHER; touch mine; echo ${MS_STATE-none}; hostname";
    let printed = bench.prints(text, command);
    assert_eq!(printed, ["1234", "/app/deep", "/home/app given-x other", "none", "build"]);
}

fn failing() {
    let mut bench = Bench::new("FROM debian\nRUN echo fine\nRUN echo out; echo err >&2; exit 3\n");
    bench.build.place.line = 10;
    let problem = bench.try_build(&mut Said::default()).unwrap_err();
    assert_eq!(problem.code, "build-step");
    let what = "step 2 of 2 of `web` failed: RUN echo out; echo err >&2; exit 3";
    assert_eq!(problem.message, what);
    assert_eq!(problem.place.unwrap().line, 13);
    let cause = problem.cause.unwrap();
    assert!(cause.starts_with("exit code 3; it said:\n") && cause.contains("err"), "{cause}");
    let (mut said, layers) = (Said::default(), bench.layers());
    bench.try_build(&mut said).unwrap_err();
    assert_eq!((said.work().as_str(), bench.layers()), ("-", layers), "what was done is kept");
    for (step, next) in [
        ("apk search curl", "is Alpine's and this machine is not"),
        ("no-such-tool --now", "install no-such-tool here"),
    ] {
        bench.dockerfile(&format!("FROM alpine:3\nRUN {step}\n"));
        let problem = bench.try_build(&mut Said::default()).unwrap_err();
        assert!(problem.next.as_ref().unwrap().contains(next), "{problem}");
    }
    bench.dockerfile("FROM debian\nUSER nobody-here\nRUN true\n");
    let problem = bench.try_build(&mut Said::default()).unwrap_err();
    assert!(problem.cause.unwrap().contains("no user `nobody-here`"));
}

fn cancelled() {
    let bench = Bench::new("FROM debian\nRUN true\nRUN echo now; sleep 1000 & sleep 1000\n");
    let mut said = Said { until: Some("| now"), ..Said::default() };
    let problem = bench.try_build(&mut said).unwrap_err();
    assert_eq!(problem.code, "build-cancelled");
    let left: Vec<_> = std::fs::read_dir(bench.state().join("builds")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(said.work(), "+");
}

fn mounts() {
    let mut bench = Bench::new("");
    bench.write("requirements", "here\n");
    bench.write("deep/x", "x\n");
    bench.write("left-out", "x\n");
    bench.write(".dockerignore", "left-out\n");
    let text = "FROM debian AS other\nRUN mkdir /made && echo other > /made/it\nFROM debian\n\
        RUN --mount=type=bind,source=requirements,target=/tmp/r --mount=target=/ctx,rw \
        --mount=type=bind,from=other,source=/made,target=/m/n --mount=type=tmpfs,target=/mem \
        cat /tmp/r /m/n/it; ls -A /ctx; echo new > /ctx/new; ! touch /tmp/r; echo > /mem/x";
    let printed = bench.prints(text, "ls -A /tmp /m /ctx /mem 2>&1 | sort");
    let missing = |name| format!("ls: cannot access '{name}': No such file or directory");
    assert_eq!(
        printed,
        [
            "here",
            "other",
            ".dockerignore",
            "deep",
            "requirements",
            "touch: cannot touch '/tmp/r': Read-only file system",
            "/tmp:",
            &missing("/ctx"),
            &missing("/m"),
            &missing("/mem"),
        ]
    );
    assert!(!bench.context().join("new").exists());
    let count = "FROM debian\nARG N\nRUN --mount=type=cache,target=/c echo $N >> /c/n; cat /c/n";
    bench.dockerfile(count);
    for n in ["1", "2"] {
        bench.build.args.insert("N".to_owned(), n.to_owned());
        assert_eq!(bench.build().1.output(), ["1", "2"][..n.parse().unwrap()]);
    }
}

fn secrets() {
    let mut bench = Bench::new(
        "FROM debian\nRUN --mount=type=secret,id=key --mount=type=secret,id=other,env=OTHER \
         --mount=type=secret,id=none cp /run/secrets/key /copy; stat -c %a /run/secrets/*; \
         echo ${#OTHER} > /length\n",
    );
    std::fs::write(bench.folder.path().join("key"), "s3cret").unwrap();
    bench.secrets.insert("key".to_owned(), Secret::File(bench.folder.path().join("key")));
    bench.secrets.insert("other".to_owned(), Secret::Text("12345".to_owned()));
    let (image, said) = bench.build();
    assert_eq!(said.output(), ["400"]);
    assert_eq!(read(&image, "copy").as_deref(), Some("s3cret"));
    assert_eq!(read(&image, "length").as_deref(), Some("5\n"));
    assert!(!image.layers[0].join("run/secrets").exists(), "nothing that was mounted on stays");
    // Another secret does not make another image.
    bench.secrets.insert("key".to_owned(), Secret::Text("new".to_owned()));
    assert_eq!(bench.build().1.work(), "-");
    bench.dockerfile("FROM debian\nRUN --mount=type=secret,id=gone,required=true true\n");
    let problem = bench.try_build(&mut Said::default()).unwrap_err();
    assert_eq!(problem.code, "build-secret");
}

fn offline() {
    let mut bench = Bench::new("");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let reach =
        format!("bash -c '(exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null && echo yes || echo no'");
    let text = format!("FROM debian\nRUN {reach}\nRUN --network=none {reach}");
    assert_eq!(bench.prints(&text, "true"), ["yes", "no"]);
}

fn host_is_out_of_reach() {
    let mark = tempfile::Builder::new().prefix("builder-mark").tempdir_in("/var/tmp").unwrap();
    let mut bench = Bench::new("");
    let state = bench.state();
    let command = format!(
        "ls -A {0} {1} /home /tmp; touch {2}/x /etc/x /usr/x; ls /proc | grep -c '^[0-9]'",
        state.display(),
        bench.context().display(),
        mark.path().display(),
    );
    let printed = bench.prints("FROM debian", &format!("({command}) 2>/dev/null || true"));
    assert!(printed.contains(&"/home:".to_owned()) && printed.len() < 9, "{printed:?}");
    assert!(!mark.path().join("x").exists());
    assert!(!std::path::Path::new("/etc/x").exists());
}

/// Capabilities, the filter, and the masked parts of `/proc` and `/sys`, as instances have them.
fn confined() {
    let mut bench = Bench::new("");
    let refused = |what: &str| format!("({what}) >/dev/null 2>&1 && echo 'got: {what}'; ");
    let tries: String = [
        "unshare -m true",
        "unshare -U true",
        "mount -t tmpfs none /mnt",
        "mknod /x b 8 0",
        "dmesg",
        "echo b > /proc/sysrq-trigger",
        "echo x > /proc/sys/kernel/hostname",
        "head -c 1 /proc/kcore | grep -q .",
        "head -c 1 /proc/keys | grep -q .",
        "ls -A /sys/firmware | grep -q .",
        "touch /sys/x",
        "date -s @0",
    ]
    .map(refused)
    .concat();
    let status = "grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status";
    assert_eq!(
        bench.prints("FROM debian", &format!("{tries}{status}")),
        ["CapEff:\t00000000a00405fb", "CapBnd:\t00000000a00405fb", "NoNewPrivs:\t1", "Seccomp:\t2"]
    );
}

/// As in a container, whose root is an overlay: the state lies on a disk of its own.
fn overlay_root() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().display();
    let script = format!(
        "set -e; cd {at}; mkdir root memory disk; mount -t tmpfs none memory; \
         mkdir memory/upper memory/work; cp \"$0\" disk/own; \
         mount -t overlay -o lowerdir=/,upperdir=memory/upper,workdir=memory/work none root; \
         for f in proc sys dev; do mount --rbind /$f root/$f; done; \
         mkdir root/disk root/old; mount --bind disk root/disk; cd root; pivot_root . old; \
         umount -l /old; cd /; exec /disk/own",
    );
    let own = std::env::current_exe().unwrap();
    let mut command = std::process::Command::new("unshare");
    command.args(["-m", "--propagation", "private", "sh", "-c", &script]).arg(own);
    command.env(crate::VICTIM_OF_ENVIRONMENT, "/disk/build").env("PIP_INDEX_URL", "built");
    let out = command.output().unwrap();
    let (said, why) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert_eq!(said, "built\n+\n", "{why}");
}

fn agent_for_keys() {
    use std::io::Write;
    let mut bench = Bench::new(
        "FROM debian\nRUN --mount=type=ssh test -z \"$SSH_AUTH_SOCK\"\n\
         RUN --mount=type=ssh,id=mine,required=true python3 -c \
         'import os, socket; s = socket.socket(socket.AF_UNIX); \
         s.connect(os.environ[\"SSH_AUTH_SOCK\"]); print(s.recv(9).decode())'\n",
    );
    let problem = bench.try_build(&mut Said::default()).unwrap_err();
    assert_eq!(problem.code, "build-ssh");
    let path = bench.folder.path().join("agent");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let agent = std::thread::spawn(move || listener.accept().unwrap().0.write_all(b"keys"));
    bench.build.ssh.insert("mine".to_owned(), path);
    let (image, said) = bench.build();
    assert_eq!(said.output(), ["keys"]);
    agent.join().unwrap().unwrap();
    assert!(!image.layers[0].join("run/buildkit").exists(), "nothing that was mounted on stays");
    bench.build.ssh.insert("mine".to_owned(), "/etc/passwd".into());
    bench.no_cache = true;
    assert_eq!(bench.try_build(&mut Said::default()).unwrap_err().code, "build-ssh");
}

fn contexts() {
    use spec::model::NamedContext;
    let mut bench = Bench::new(
        "FROM base\nCOPY --from=other a /a\nRUN --mount=from=other,target=/o cat /a /o/deep/b\n\
         RUN stat -c %u /a\n",
    );
    std::fs::create_dir_all(bench.folder.path().join("other/deep")).unwrap();
    let other = bench.folder.path().join("other");
    std::fs::write(other.join("a"), "a\n").unwrap();
    std::fs::write(other.join("deep/b"), "b\n").unwrap();
    std::os::unix::fs::chown(other.join("a"), Some(7), None).unwrap();
    let contexts = &mut bench.build.contexts;
    contexts.insert("other".to_owned(), NamedContext::Folder(other.clone()));
    contexts.insert("base".to_owned(), NamedContext::Image("debian".to_owned()));
    assert_eq!(bench.build().1.output(), ["a", "b", "0"]);
    std::fs::write(other.join("a"), "changed\n").unwrap();
    assert_eq!(bench.build().1.output(), ["changed", "b", "0"]);
    bench.build.contexts.insert("base".to_owned(), NamedContext::Folder(other.clone()));
    assert_eq!(bench.try_build(&mut Said::default()).unwrap_err().code, "build-context");
    bench.dockerfile("FROM debian\nCOPY --from=other a /a\n");
    std::fs::remove_dir_all(other).unwrap();
    assert_eq!(bench.try_build(&mut Said::default()).unwrap_err().code, "build-context");
}
