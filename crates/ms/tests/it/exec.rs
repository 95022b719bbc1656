//! Commands inside an instance, on pipes and on a terminal.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::harness::{Project, alive, texts, until};

const APP: &str = "services:
  web:
    image: example/web
    x-mainspring: {native: true}
    command: sleep 1000
    environment: {COLOUR: blue}
  job:
    image: example/job
    x-mainspring: {native: true}
    command: 'true'
";

fn ms(project: &Project, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ms"));
    command.args(args).current_dir(project.path("")).env_remove("MS_STATE").env("TERM", "vt100");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn a_command_has_the_callers_streams_and_the_instances_surroundings() {
    let project = Project::new(APP);
    project.ok(&["up", "-d"]);
    let script = "echo $COLOUR $SIZE $HOSTNAME; cat; echo odd >&2; exit 7";
    let mut cat =
        ms(&project, &["exec", "-e", "SIZE=xl", "web", "sh", "-c", script]).spawn().unwrap();
    cat.stdin.take().unwrap().write_all(b"typed\n").unwrap();
    let out = cat.wait_with_output().unwrap();
    assert_eq!(texts(&out), ("blue xl web.1\ntyped\n".to_owned(), "odd\n".to_owned()));
    assert_eq!(out.status.code(), Some(7));

    for (args, code, said) in [
        (["exec", "web.1", "sh", "-c", "kill -9 $$"].as_slice(), 137, ""),
        (&["exec", "-w", "/usr", "web", "pwd"], 0, "/usr\n"),
        (&["exec", "web", "no-such-program"], 1, "error[exec-refused]"),
        (&["exec", "-u", "no-such-user", "web", "true"], 1, "error[exec-refused]"),
        (&["exec", "job", "true"], 1, "error[not-running]"),
        (&["exec", "wob", "true"], 2, "error[service-unknown]"),
    ] {
        let out = ms(&project, args).output().unwrap();
        let (stdout, stderr) = texts(&out);
        assert_eq!(out.status.code(), Some(code), "{args:?}: {stdout}{stderr}");
        assert!((stdout + &stderr).starts_with(said), "{args:?}: {stderr}");
    }
}

#[test]
fn a_command_ends_with_its_caller() {
    let project = Project::new(APP);
    project.ok(&["up", "-d"]);
    let script = "echo $$; exec sleep 1000";
    let mut caller = ms(&project, &["exec", "web", "sh", "-c", script]).spawn().unwrap();
    // Its pid inside says nothing here, so it is looked for by what it runs.
    let sleeping = || -> Vec<u64> {
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let is_it = |pid: &u64| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let own = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let marks = |text: &[u8]| text.windows(11).any(|w| w == b"COLOUR=blue");
            line == b"sleep\x001000\0" && marks(&own)
        };
        pids.filter(is_it).collect()
    };
    let both = until("it runs beside the service's own", || {
        let found = sleeping();
        (found.len() >= 2, found)
    });
    caller.kill().unwrap();
    caller.wait().unwrap();
    until("it ends", || (both.iter().filter(|pid| alive(**pid)).count() == both.len() - 1, ()));
    assert_eq!(project.pids("web").len(), 1);
}

#[test]
fn a_command_controls_the_terminal_that_it_is_given() {
    let project = Project::new(APP);
    project.ok(&["up", "-d"]);
    // Python holds the terminal that a person would sit at.
    let sit = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";
    let script = "tty -s && stty size > /dev/null && echo terminal $TERM; sleep 1000 & jobs -p > /dev/null; read line; echo got $line; exit 3";
    let mut python = Command::new("python3");
    python.args(["-c", sit, env!("CARGO_BIN_EXE_ms"), "exec", "web", "sh", "-c", script]);
    python.current_dir(project.path("")).env_remove("MS_STATE").env("TERM", "vt100");
    python.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut python = python.spawn().unwrap();
    let mut typed = python.stdin.take().unwrap();
    typed.write_all(b"hello\n").unwrap();
    let out = python.wait_with_output().unwrap();
    drop(typed);
    let (stdout, _) = texts(&out);
    assert!(stdout.contains("terminal vt100"), "{stdout}");
    assert!(stdout.contains("got hello"), "{stdout}");
    assert_eq!(out.status.code(), Some(3), "{stdout}");
}
