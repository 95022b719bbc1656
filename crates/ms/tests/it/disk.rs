//! A full disk: nothing crashes, nothing is said that is not so, and all goes on when there is room.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::io::Write;
use std::path::PathBuf;

use crate::harness::{Project, alive, free_port, get, get_json, kill_9, root, texts, until};

/// A disk in memory with the state folder on it.
struct Disk {
    dir: tempfile::TempDir,
}

impl Disk {
    fn new(size: &str) -> Disk {
        let dir = tempfile::tempdir().unwrap();
        let options = std::ffi::CString::new(format!("size={size}")).unwrap();
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("tmpfs", dir.path(), "tmpfs", flags, options.as_c_str()).unwrap();
        Disk { dir }
    }

    fn ballast(&self) -> PathBuf {
        self.dir.path().join("ballast")
    }

    /// Takes all the room that is left; says so when it did.
    fn fill(&self) {
        let options = std::fs::File::options().create(true).append(true).open(self.ballast());
        let mut file = options.unwrap();
        for size in [1 << 20, 4 << 10, 1] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.dir.path(), rustix::mount::UnmountFlags::DETACH);
    }
}

fn compose(port: u16, version: u32) -> String {
    format!(
        "services:
  web:
    image: example/web
    x-mainspring: {{native: true}}
    command: python3 echo.py
    environment: {{NAME: web, VERSION: '{version}'}}
    ports: ['127.0.0.1:{port}:8080']
    restart: always
    deploy: {{update_config: {{monitor: 100ms}}}}
  chatty:
    image: example/chatty
    x-mainspring: {{native: true}}
    command: ['sh', '-c', 'n=0; while :; do n=$$((n+1)); echo line $$n; sleep 0.02; done']
  built:
    build: .
    profiles: [later]
"
    )
}

/// The numbers of the lines that a log has, and how many it says were lost.
fn lines(project: &Project) -> (Vec<u64>, u64) {
    let text = std::fs::read_to_string(project.path(".ms/logs/chatty.1/current.log")).unwrap();
    let number = |line: &str, before: &str, after: &str| {
        let text = line.split_once(before)?.1;
        text.strip_suffix(after)?.parse::<u64>().ok()
    };
    let said = text.lines().filter_map(|line| number(line, " F line ", "")).collect();
    let lost = " lines lost: the log could not be written]";
    (said, text.lines().filter_map(|line| number(line, "[ms: ", lost)).sum())
}

#[test]
fn a_full_disk_is_said_and_survived() {
    if !root() {
        eprintln!("not run: a disk of its own takes root");
        return;
    }
    let disk = Disk::new("64m");
    let port = free_port();
    let project = Project::new(&compose(port, 1));
    std::fs::create_dir(disk.dir.path().join("state")).unwrap();
    std::os::unix::fs::symlink(disk.dir.path().join("state"), project.path(".ms")).unwrap();
    project.write("Dockerfile", "FROM scratch\nCOPY large /large\nCMD /large\n");
    project.write("large", &"x".repeat(1 << 20));
    project.ok(&["up", "-d"]);
    let engine = project.engine_pid();

    disk.fill();
    let said = until("`ms ps` says so", || {
        let out = project.ms(&["ps"]);
        assert!(out.status.success(), "{:?}", texts(&out));
        let (_, stderr) = texts(&out);
        (stderr.contains("warning[disk-full]"), stderr)
    });
    assert!(said.contains("the disk of the state folder is full"), "{said}");
    let events = || project.ok(&["history"]);
    assert!(events().contains("disk-full: the disk of the state folder is full"), "{}", events());
    assert_eq!(get_json(port, "/")["version"], "1");

    // Whatever comes of it: the file that did run is served, and nobody is told that all is well.
    project.write("compose.yaml", &compose(port, 2));
    let up = project.ms(&["up", "-d"]);
    let (_, said) = texts(&up);
    assert!(said.contains("[disk-full]"), "{said}");
    let version = get_json(port, "/")["version"].clone();
    assert_eq!(version, if up.status.success() { "2" } else { "1" }, "{said}");
    let build = project.ms(&["build", "built"]);
    let (_, said) = texts(&build);
    assert_eq!(build.status.code(), Some(1), "{said}");
    assert!(said.contains("No space left on device"), "{said}");
    // A crash meanwhile.
    let _ = crate::harness::try_get(port, "/crash");
    // What is left of a page takes some lines yet.
    let (mut newest, mut same) = (0, 0);
    let newest = until("the log can take no more", || {
        let now = *lines(&project).0.last().unwrap();
        same = if now == newest { same + 1 } else { 0 };
        newest = now;
        (same == 20, newest)
    });

    disk.free();
    until("there is room again", || {
        let said = events();
        (said.contains("disk-has-room"), said)
    });
    assert_eq!(project.engine_pid(), engine, "{}", project.engine_log());
    let out = project.ms(&["up", "-d"]);
    assert!(out.status.success(), "{:?}\n{}", texts(&out), project.ok(&["why", "web"]));
    assert_eq!(get(port, "/").0, 200);
    assert_eq!(get_json(port, "/")["version"], "2");
    let (numbers, lost) = until("the log goes on", || {
        let (numbers, lost) = lines(&project);
        (*numbers.last().unwrap() > newest, (numbers, lost))
    });
    let all = numbers.last().unwrap() - numbers.first().unwrap() + 1;
    assert_eq!(all, numbers.len() as u64 + lost, "every line is there or counted");
    project.ok(&["build", "built"]);

    // An engine that dies on a full disk comes back when it may, and nobody notices.
    let pids = until("the update is over", || {
        let pids = project.pids("web");
        (pids.len() == 1, pids)
    });
    disk.fill();
    kill_9(engine);
    until("the engine is gone", || (!alive(engine.into()), ()));
    disk.free();
    project.ok(&["up", "-d"]);
    assert_eq!(project.pids("web"), pids, "adopted: {}", project.engine_log());
    let isolation = project.api("/api/status")["isolation"].clone();
    assert_eq!(isolation["mode"], "full", "{isolation}");
}
