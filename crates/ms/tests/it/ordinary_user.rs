//! Without root it works, with less isolation, and says so.
#![expect(clippy::unwrap_used, reason = "these are tests")]

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::harness::{Project, free_port, front_and_back, get, get_json, root, texts, until};

/// The user `nobody`.
const NOBODY: u32 = 65_534;

#[test]
fn replicas_take_the_port_they_are_given() {
    let port = free_port();
    let project = match root() {
        true => Project::as_user(&front_and_back(port, ""), NOBODY),
        false => Project::new(&front_and_back(port, "")),
    };
    let out = project.ms(&["up", "-d"]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{said}");
    assert!(said.contains("less-isolated"), "says what is missing: {said}");
    assert_eq!(get_json(port, "/")["name"], "front");
    let mut instances = std::collections::BTreeSet::new();
    for _ in 0..10 {
        instances.insert(get_json(port, "/call/back:8080")["instance"].to_string());
    }
    assert_eq!(instances.len(), 2, "both replicas serve under one name");
    let isolation = project.api("/api/status")["isolation"].clone();
    assert_ne!(isolation["mode"], "full");
    assert!(!isolation["missing"].as_array().unwrap().is_empty(), "says what is missing");
}

#[test]
fn a_clash_of_ports_is_told_with_both_names() {
    let compose = "services:
  one: &fixed
    image: example/one
    x-mainspring: {native: true}
    command: python3 -m http.server 18085
    expose: ['18085']
  two:
    <<: *fixed
  worker:
    image: example/worker
    x-mainspring: {native: true}
    command: sleep 1000
";
    let project = match root() {
        true => Project::as_user(compose, NOBODY),
        false => Project::new(compose),
    };
    let out = project.ms(&["up", "-d"]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("$PORT") && said.contains("`one` and `two`"), "{said}");
    until("a service without a port is healthy without one", || {
        let worker = project.api("/api/services/worker")["service"]["health"].clone();
        (worker == "healthy", worker)
    });
}

/// An app whose Dockerfile does what Dockerfiles do, for `nobody`.
fn to_be_built(port: u16) -> Project {
    let project = Project::as_user(
        &format!(
            "services:
  web:
    build: {{context: ./app}}
    ports: ['127.0.0.1:{port}:8080']
    volumes: ['store:/data/deep', './pages:/pages:ro']
    read_only: true
    tmpfs: /tmp
volumes: {{store: {{}}}}
"
        ),
        NOBODY,
    );
    for folder in ["app/wheels", "pages"] {
        std::fs::create_dir_all(project.path(folder)).unwrap();
    }
    crate::builds::wheel(&project.path("app/wheels"));
    project.write("pages/page", "page");
    project.write("app/requirements.txt", "greeter==1.2\n");
    project.write("app/conf", "conf");
    let server = crate::harness::ECHO.replace("import http.server", "import greeter, http.server");
    let seen = "greeter.greet() + '|' + '|'.join([str(os.getuid()), open('/opt/conf').read(), \
                open('/pages/page').read(), open('/data/first').read().strip()] + \
                [str(os.access(p, os.W_OK)) for p in ['/data/deep', '/tmp', '/data', '/pages']])";
    project.write("app/server.py", &server.replace("os.environ.get(\"NAME\", \"?\")", seen));
    project.write(
        "app/Dockerfile",
        "FROM python:3-slim\nWORKDIR /srv/app\nCOPY requirements.txt .\n\
         RUN --mount=type=bind,source=wheels,target=/wheels \\\n\
         pip install --no-cache-dir --no-index --find-links=/wheels -r requirements.txt\n\
         RUN useradd -m -u 1500 app && mkdir /data && chown app:app /data && echo kept > /data/first\n\
         RUN echo MORE=1 >> /etc/environment && rm -r /usr/share/common-licenses && mkdir -p /var/x/y \\\n\
         && install -m 500 -d /closed/deep && cp /bin/true /usr/bin/own && id -u > /made-by\n\
         COPY --chown=app conf /opt/conf\nCOPY --chown=app server.py .\nUSER app\n\
         RUN test \"$(id -u) $(whoami) $HOME $(cat /made-by)\" = '1500 app /home/app 0' \\\n\
         && own && grep -q MORE /etc/environment && test -d /var/x/y -a ! -e /usr/share/common-licenses\n\
         EXPOSE 8080\nCMD [\"python3\", \"server.py\"]\n",
    );
    let all = ["app", "app/wheels", "pages", "app/wheels/greeter-1.2-py3-none-any.whl"];
    for path in all {
        chown(project.path(path), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    project
}

#[test]
fn images_are_built_and_run_with_their_own_files() {
    let pip = Command::new("/usr/bin/python3").args(["-m", "pip", "--version"]).output();
    if !root() || !pip.is_ok_and(|out| out.status.success()) {
        eprintln!("not run: it needs root, to become somebody else, and the system's pip");
        return;
    }
    let port = free_port();
    let project = to_be_built(port);
    let up = project.ms(&["up", "-d"]);
    let (_, said) = texts(&up);
    assert!(up.status.success(), "{said}");
    assert!(said.contains("do without users of their own, "), "says what is missing: {said}");
    let seen = get_json(port, "/")["name"].to_string();
    assert_eq!(seen, "\"built|1500|conf|page|kept|True|True|False|False\"");
    assert_eq!(project.ok(&["exec", "web", "id", "-u"]).trim(), "1500");
    assert_eq!(project.ok(&["exec", "--user", "root", "web", "id", "-u"]).trim(), "0");
    assert!(project.ok(&["build"]).starts_with("nothing to build"));
    // What would change a file of the machine stops, and says why.
    project.write("app/Dockerfile", "FROM debian\nRUN chmod 700 /usr/bin/env\nCMD [\"true\"]\n");
    let build = project.ms(&["build"]);
    let (_, said) = texts(&build);
    assert_eq!(build.status.code(), Some(1), "{said}");
    assert!(said.contains("app/Dockerfile:2:1") && said.contains("without root"), "{said}");
}

#[test]
fn where_user_namespaces_are_refused_nothing_is_built_and_the_rest_runs() {
    if !root() {
        eprintln!("not run: it needs root, to become somebody else");
        return;
    }
    let port = free_port();
    let project = to_be_built(port);
    project
        .write("app/Dockerfile", "FROM python:3\nRUN false\nCMD [\"python3\", \"../echo.py\"]\n");
    // A user namespace in which none may be made.
    let refused = |args: &[&str]| {
        let inner = project.command(args);
        let mut command = Command::new("unshare");
        let script = "echo 0 > /proc/sys/user/max_user_namespaces && \
                      exec setpriv --inh-caps -all --ambient-caps -all --bounding-set -all \"$@\"";
        command.args(["-U", "--map-current-user", "--keep-caps", "sh", "-c", script, "sh"]);
        command.arg(inner.get_program()).args(inner.get_args());
        let set = inner.get_envs().filter_map(|(name, value)| Some((name, value?)));
        command.envs(set).current_dir(project.path("")).uid(NOBODY).gid(NOBODY);
        command.output().unwrap()
    };
    let up = refused(&["up", "-d"]);
    let (_, said) = texts(&up);
    assert!(up.status.success(), "{said}");
    assert!(said.contains("warning[run-skipped]: a RUN step of `web` is not run"), "{said}");
    assert!(said.contains("allow user namespaces (sysctl user.max_user_namespaces, "), "{said}");
    assert_eq!(get(port, "/").0, 200);
    let (_, said) = texts(&refused(&["build"]));
    assert!(said.contains("error[build-not-root]"), "{said}");
}
