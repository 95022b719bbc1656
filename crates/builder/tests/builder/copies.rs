//! COPY and ADD.

use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};

use std::process::{Command, Stdio};

use crate::Test;
use crate::bench::{Bench, Said};

pub(crate) const TESTS: &[Test] = &[
    ("where_files_go", where_files_go),
    ("who_owns_them_and_who_may_what", owners),
    ("what_is_left_out", left_out),
    ("nothing_outside_the_context", outside),
    ("texts_in_the_dockerfile", texts),
    ("from_other_stages", stages),
    ("archives_are_unpacked", archives),
    ("what_is_fetched", fetched),
    ("what_is_cloned", cloned),
    ("layers_read_as_the_kernel_shows_them", as_the_kernel),
];

/// `path text` for every file below some folders.
const LIST: &str = "find $DIRS -type f | sort | while read f; do echo $f $(cat $f); done";

fn context() -> Bench {
    let bench = Bench::new("");
    for (name, text) in [
        ("app/main.py", "main"),
        ("app/lib/a.py", "a"),
        ("package.json", "{}"),
        ("package-lock.json", "{ }"),
        ("notes.txt", "n"),
    ] {
        bench.write(name, text);
    }
    bench
}

#[track_caller]
fn files(bench: &mut Bench, steps: &str, folders: &str) -> Vec<String> {
    bench.prints(&format!("FROM debian\n{steps}"), &LIST.replace("$DIRS", folders))
}

fn where_files_go() {
    let mut bench = context();
    let steps = "WORKDIR /srv/app\nCOPY app .\nCOPY package*.json ./\nCOPY notes.txt /new/name\n\
        COPY notes.txt /srv/app\nCOPY notes.txt app/lib /two/\nCOPY [\"app/main.py\", \"/json\"]\n\
        COPY --parents app/lib/a.py /parents/\nCOPY --parents app/./lib /pivot/";
    assert_eq!(
        files(&mut bench, steps, "/srv /new /two /json /parents /pivot"),
        [
            "/json main",
            "/new/name n",
            "/parents/app/lib/a.py a",
            "/pivot/lib/a.py a",
            "/srv/app/lib/a.py a",
            "/srv/app/main.py main",
            "/srv/app/notes.txt n",
            "/srv/app/package-lock.json { }",
            "/srv/app/package.json {}",
            "/two/a.py a",
            "/two/notes.txt n",
        ]
    );
    // What is there stays what it is: a symlink to a folder, and a folder's permissions.
    let steps = "RUN mkdir /real && ln -s /real /link\nCOPY notes.txt /link/\nCOPY notes.txt /tmp/";
    let printed = bench.prints(
        &format!("FROM debian\n{steps}"),
        "readlink /link; cat /real/notes.txt; echo; stat -c %a /tmp; stat -c %Y /tmp/notes.txt",
    );
    let modified = bench.context().join("notes.txt").metadata().unwrap().modified().unwrap();
    let modified = modified.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs().to_string();
    assert_eq!(printed, ["/real", "n", "1777", &modified]);
}

fn owners() {
    let mut bench = context();
    let script = bench.context().join("app/main.py");
    std::fs::set_permissions(script, std::fs::Permissions::from_mode(0o750)).unwrap();
    let steps = "FROM debian\nRUN groupadd -g 4321 staffers && useradd -u 1234 app\n\
        COPY app/main.py /a\nCOPY --chown=app:staffers app /b\nCOPY --chown=7 --chmod=600 notes.txt /c\n\
        COPY --chmod=u=rwX,go=rX app /d\nUSER app\nCOPY notes.txt /e";
    let printed = bench.prints(steps, "stat -c '%n %u:%g %a' /a /b /b/main.py /c /d/main.py /d /e");
    assert_eq!(
        printed,
        [
            "/a 0:0 750",
            "/b 1234:4321 755",
            "/b/main.py 1234:4321 750",
            "/c 7:7 600",
            "/d/main.py 0:0 755",
            "/d 0:0 755",
            "/e 0:0 644",
        ]
    );
    bench.dockerfile("FROM debian\nCOPY --chown=nobody-here notes.txt /\n");
    let problem = bench.try_build(&mut Said::default()).unwrap_err();
    assert_eq!(problem.cause.unwrap(), "the image has no user `nobody-here`");
}

fn left_out() {
    let mut bench = context();
    bench.write(".dockerignore", "**/*.py\n!app/lib/a.py\npackage*\n.dockerignore");
    assert_eq!(files(&mut bench, "COPY . /x", "/x"), ["/x/app/lib/a.py a", "/x/notes.txt n"]);
    bench.dockerfile("FROM debian\nCOPY package.json /\n");
    let problem = bench.try_build(&mut Said::default()).unwrap_err();
    assert!(problem.cause.as_ref().unwrap().ends_with(": .dockerignore excludes it"), "{problem}");
    std::fs::write(bench.context().join("Dockerfile.dockerignore"), "app\n").unwrap();
    // The engine's own state is not part of anything.
    symlink(bench.state(), bench.context().join("link")).unwrap();
    bench.build.context = bench.folder.path().to_owned();
    let kept = bench.prints("FROM debian\nCOPY . /all", "ls /all");
    assert_eq!(kept, ["context"]);
    bench.build.context = bench.folder.path().join("context");
    std::fs::remove_file(bench.context().join("link")).unwrap();
    let steps = "COPY --exclude=*.txt --exclude=Docker* --exclude=.docker* . /x";
    let kept = files(&mut bench, steps, "/x");
    assert_eq!(kept, ["/x/package-lock.json { }", "/x/package.json {}"]);
}

fn outside() {
    let mut bench = context();
    std::fs::write(bench.folder.path().join("secret"), "s").unwrap();
    symlink("/etc", bench.context().join("out")).unwrap();
    symlink("../secret", bench.context().join("up")).unwrap();
    for source in ["../secret", "app/../../secret", "/../secret", "out/passwd", "up"] {
        bench.dockerfile(&format!("FROM debian\nCOPY {source} /x/\n"));
        let problem = bench.try_build(&mut Said::default()).unwrap_err();
        assert_eq!(problem.code, "copy-failed", "{source}");
    }
    // In a folder they are copied as they are.
    assert_eq!(
        bench.prints("FROM debian\nCOPY . /x/", "readlink /x/out /x/up"),
        ["/etc", "../secret"]
    );
}

fn texts() {
    let mut bench = context();
    let steps = "ENV X=x\nCOPY <<one <<-'two' /t/\n$X 1\none\n\t$X 2\n\ttwo\n\
        COPY --chmod=755 <<EOF /script\n#!/bin/sh\necho ran\nEOF";
    assert_eq!(files(&mut bench, steps, "/t"), ["/t/one x 1", "/t/two $X 2"]);
    assert_eq!(bench.prints(&format!("FROM debian\n{steps}"), "/script"), ["ran"]);
}

fn stages() {
    let mut bench = context();
    let text = "FROM debian AS base\nRUN mkdir /o && echo b > /o/b && echo a > /o/a && ln -s a /o/l \
        && chown 5 /o/a\nFROM base AS next\nRUN rm /o/b && echo c > /o/c\nFROM debian\n\
        COPY --from=next /o /n\nCOPY --from=0 /o/b /o/l /z/\n";
    let printed = bench.prints(text, "ls /n /z; readlink /n/l; stat -c %u /n/a; cat /z/l");
    assert_eq!(printed, ["/n:", "a", "c", "l", "", "/z:", "b", "l", "a", "5", "a"]);
    bench.dockerfile("FROM debian AS a\nFROM debian\nCOPY --from=a /none /\n");
    let problem = bench.try_build(&mut Said::default()).unwrap_err();
    assert!(problem.cause.as_ref().unwrap().contains("stage `a`"), "{problem}");
}

fn archives() {
    let mut bench = context();
    let root = bench.context();
    for (name, flags) in [("a.tar", "-cf"), ("b.tar.gz", "-czf")] {
        let mut tar = Command::new("tar");
        tar.current_dir(&root).args(["--owner=7", "--group=8", flags, name, "app", "notes.txt"]);
        assert!(tar.status().unwrap().success());
    }
    let text = "FROM debian\nADD a.tar /one\nADD b.tar.gz notes.txt /two/\nCOPY a.tar /kept.tar";
    let printed = bench.prints(
        text,
        "find /one /two -type f | sort; stat -c '%u %g' /one/app/main.py; ls /kept.tar",
    );
    assert_eq!(
        printed,
        [
            "/one/app/lib/a.py",
            "/one/app/main.py",
            "/one/notes.txt",
            "/two/app/lib/a.py",
            "/two/app/main.py",
            "/two/notes.txt",
            "7 8",
            "/kept.tar",
        ]
    );
    assert_eq!(bench.build().1.work(), "----");
    // A name in an archive that leads out is refused.
    let mut tar = Command::new("tar");
    tar.current_dir(root.join("app")).args(["-Pcf", "../evil.tar", "../notes.txt"]);
    assert!(tar.status().unwrap().success());
    bench.dockerfile("FROM debian\nADD evil.tar /x\n");
    let problem = bench.try_build(&mut Said::default()).unwrap_err();
    assert!(problem.cause.as_ref().unwrap().contains("Member name contains '..'"), "{problem}");
}

fn fetched() {
    let mut bench = context();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let mut pack = Command::new("tar");
    pack.args(["-czf", "-", "app"]).current_dir(bench.context());
    let packed = pack.output().unwrap().stdout;
    let server = std::thread::spawn(move || {
        for body in [&b"hi"[..], b"hi", &packed] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let _read = stream.read(&mut request).unwrap();
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()).unwrap();
            stream.write_all(body).unwrap();
        }
    });
    let sum = "sha256:8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4";
    let text = format!("FROM debian\nADD --checksum={sum} http://{at}/some/file /x/");
    assert_eq!(bench.prints(&text, "cat /x/file; echo"), ["hi"]);
    bench.dockerfile(&format!("{text}\nRUN true\n"));
    assert_eq!(bench.build().1.work(), "-+", "it is not fetched again");
    bench.dockerfile(&text.replace("8f43", "0000"));
    let problem = bench.try_build(&mut Said::default()).unwrap_err();
    assert!(problem.cause.as_ref().unwrap().ends_with(sum), "{problem}");
    let text = format!("FROM debian\nADD --unpack=true http://{at}/a.tar.gz /x");
    assert_eq!(bench.prints(&text, "cat /x/app/lib/a.py; echo; ls /x"), ["a", "app"]);
    server.join().unwrap();
}

/// A repository that a server of this test has; `git` is on every machine that tests.
fn cloned() {
    let mut bench = context();
    let place = tempfile::tempdir().unwrap();
    let made = "git init -q --bare -b main a.git && git init -q -b main w && cd w && \
        git config user.name n && git config user.email e@x && mkdir docs && echo one > docs/f && \
        ln -s / docs/out && git add . && git commit -qm one && git tag v1 && \
        git rev-parse HEAD > ../one && echo two > docs/f && git commit -qam two && \
        git push -q --tags ../a.git main && touch ../a.git/git-daemon-export-ok";
    let status = Command::new("sh").args(["-ec", made]).current_dir(place.path()).status();
    assert!(status.unwrap().success());
    let first = std::fs::read_to_string(place.path().join("one")).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let base = format!("--base-path={}", place.path().display());
    let ended = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let over = ended.clone();
    let server = std::thread::spawn(move || {
        for stream in listener.incoming().map(Result::unwrap) {
            if over.load(std::sync::atomic::Ordering::SeqCst) {
                break;
            }
            let input = std::os::fd::OwnedFd::from(stream.try_clone().unwrap());
            let mut served = Command::new("git")
                .args(["daemon", "--inetd", &base])
                .stdin(input)
                .stdout(std::os::fd::OwnedFd::from(stream))
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            // It answers an error with its own end.
            let _status = served.wait().unwrap();
        }
    });
    let url = format!("git://{at}/a.git");
    let show = "cat $(find /x -name f); ls -A /x";
    let text = format!("FROM debian\nADD {url} /x");
    assert_eq!(bench.prints(&text, show), ["two", "docs"]);
    let text = format!("FROM debian\nADD --keep-git-dir=true {url}#v1 /x/");
    assert_eq!(bench.prints(&text, show), ["one", ".git", "docs"]);
    // By commit, as far as its folder, with the commit checked.
    let (first, begin) = (first.trim(), &first[..8]);
    let text = format!("FROM debian\nADD --checksum={begin} {url}#{first}:docs /x");
    assert_eq!(bench.prints(&text, show), ["one", "f", "out"]);
    for (text, cause) in [
        (format!("ADD --checksum={begin} {url} /x"), "at the commit"),
        (format!("ADD {url}#nothing /x"), "nothing"),
        (format!("ADD {url}#main:docs/out/etc/passwd /x"), "nothing of that name"),
    ] {
        bench.dockerfile(&format!("FROM debian\n{text}\n"));
        let problem = bench.try_build(&mut Said::default()).unwrap_err();
        let is = problem.cause.clone().unwrap_or_default();
        assert!(is.contains(cause) && problem.place.is_some(), "{text}: {problem:?}");
    }
    ended.store(true, std::sync::atomic::Ordering::SeqCst);
    drop(std::net::TcpStream::connect(at).unwrap());
    server.join().unwrap();
}

/// Layers that were made by chance, copied whole, are what a step saw.
fn as_the_kernel() {
    const LAYERS: usize = 6;
    const STEPS: usize = 12;
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % u64::try_from(below).unwrap()).unwrap()
    };
    let names = ["a", "b", "c"];
    let mut text = "FROM debian AS made\nWORKDIR /w\n".to_owned();
    for _ in 0..LAYERS {
        let mut steps = Vec::new();
        for step in 0..STEPS {
            let (x, y) = (names[random(3)], names[random(3)]);
            let path = if random(2) == 0 { x.to_owned() } else { format!("{x}/{y}") };
            steps.push(match random(6) {
                0 => format!("rm -rf {path}"),
                1 => format!("mkdir -p {path}"),
                2 => format!("ln -sfn {y} {path}"),
                3 => format!("rm -rf {path}; mkdir -p {path}"),
                4 => format!("mv -T {x} {path}"),
                _ => format!("echo {step} > {path}"),
            });
        }
        text.push_str(&format!("RUN ({}) 2>/dev/null; true\n", steps.join("; ")));
    }
    let list =
        "find . -printf '%P %y %m %l ' -a \\( -type f -exec cat {} \\; -o -printf '\\n' \\) | sort";
    let mut bench = Bench::new("");
    let seen = bench.prints(&text, list);
    assert!(seen.len() > 3, "{seen:?}");
    let copied =
        bench.prints(&format!("{text}FROM debian\nCOPY --from=made /w /w\nWORKDIR /w"), list);
    assert_eq!(copied, seen);
}
