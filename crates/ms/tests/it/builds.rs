//! Dockerfiles and well-known images, from the Compose file to an answer.

use std::path::Path;
use std::process::Command;

use crate::harness::{Project, free_port, get, get_json, root, texts, until};

/// Whether a program of this machine works.
fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|out| out.status.success())
}

/// A wheel with one module, as `pip download` would leave it.
pub(crate) fn wheel(folder: &Path) {
    let script = r#"
import sys, zipfile
with zipfile.ZipFile(sys.argv[1] + "/greeter-1.2-py3-none-any.whl", "w") as wheel:
    wheel.writestr("greeter.py", "def greet(): return 'built'\n")
    wheel.writestr("greeter-1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: greeter\nVersion: 1.2\n")
    wheel.writestr("greeter-1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr("greeter-1.2.dist-info/RECORD", "greeter.py,,\ngreeter-1.2.dist-info/METADATA,,\ngreeter-1.2.dist-info/WHEEL,,\ngreeter-1.2.dist-info/RECORD,,\n")
"#;
    let made = Command::new("python3").args(["-c", script]).arg(folder).status();
    assert!(made.is_ok_and(|made| made.success()));
}

#[test]
fn pip_installs_what_the_app_then_imports() {
    let pip = Command::new("python3").args(["-m", "pip", "--version"]).output();
    if !root() || !pip.is_ok_and(|out| out.status.success()) {
        eprintln!("not run: it needs root and pip");
        return;
    }
    let port = free_port();
    let project = Project::new(&format!(
        "services:
  web:
    build: {{context: ./app, secrets: [token]}}
    ports: ['127.0.0.1:{port}:8080']
secrets: {{token: {{file: ./token}}}}
"
    ));
    std::fs::create_dir_all(project.path("app/wheels")).unwrap();
    wheel(&project.path("app/wheels"));
    project.write("app/requirements.txt", "greeter==1.2\n");
    project.write("token", "hush");
    let server = crate::harness::ECHO
        .replace("import http.server", "import greeter, http.server")
        .replace("os.environ.get(\"NAME\", \"?\")", "greeter.greet()");
    project.write("app/server.py", &server);
    project.write(
        "app/Dockerfile",
        "FROM python:3-slim\nWORKDIR /srv/app\nCOPY requirements.txt .\n\
         RUN --mount=type=bind,source=wheels,target=/wheels \\\n\
         pip install --no-cache-dir --no-index --find-links=/wheels -r requirements.txt\n\
         RUN --mount=type=secret,id=token,required=true \\\n\
         useradd -m app && test \"$(cat /run/secrets/token)\" = hush\nCOPY --chown=app server.py .\nUSER app\nEXPOSE 8080\n\
         CMD [\"python3\", \"server.py\"]\n",
    );
    let first = project.ms(&["up", "-d"]);
    let (_, said) = texts(&first);
    assert!(first.status.success(), "{said}");
    assert!(said.contains("web [3/5] RUN ") && said.contains("| Successfully installed"), "{said}");
    assert_eq!(get_json(port, "/")["name"], "built");
    assert_eq!(project.ok(&["build", "--json"]).matches("\"built\":[]").count(), 1);
    // What runs stays until another build is whole.
    project.write("app/requirements.txt", "greeter==9\n");
    let failed = project.ms(&["up", "-d"]);
    let (_, said) = texts(&failed);
    assert_eq!(failed.status.code(), Some(1));
    assert!(said.contains("error[build-step]: step 3 of 5 of `web` failed: RUN "), "{said}");
    assert!(said.contains("Dockerfile:4:1") && said.contains("greeter==9"), "{said}");
    assert_eq!(get_json(port, "/")["name"], "built");
    let built = project.ms(&["build", "web", "--no-cache"]);
    assert_eq!(built.status.code(), Some(1), "it fails as often as it is tried");
}

#[test]
fn stages_are_built_for_the_last() {
    if !root() || !has("node") {
        eprintln!("not run: it needs root and node");
        return;
    }
    let port = free_port();
    let project = Project::new(&format!(
        "services:
  web:
    build: {{context: ., args: {{GREETING: hi}}}}
    ports: ['127.0.0.1:{port}:3000']
"
    ));
    project.write(
        "server.js",
        "const { text } = require('./made/text.js');\n\
         require('http').createServer((_, answer) => answer.end(`${text} ${process.getuid()}`))\
         .listen(3000);\nprocess.on('SIGTERM', () => process.exit());\n",
    );
    project.write(".dockerignore", ".ms\n");
    project.write(
        "Dockerfile",
        "FROM node:22-slim AS base\nWORKDIR /app\nFROM base AS tests\nRUN false\n\
         FROM base AS made\nARG GREETING\n\
         RUN node -e \"require('fs').writeFileSync('text.js', 'exports.text = \\'$GREETING\\'')\"\n\
         FROM base\nCOPY --from=made /app/text.js made/\nCOPY server.js .\nUSER node\n\
         EXPOSE 3000\nCMD [\"node\", \"server.js\"]\n",
    );
    let built = project.ms(&["build"]);
    let (stdout, said) = texts(&built);
    assert!(built.status.success() && stdout.starts_with("built web in "), "{stdout}{said}");
    assert!(!said.contains("RUN false"), "{said}");
    until("the engine that was started for it has ended", || {
        let socket = project.path(".ms/engine.sock");
        (!socket.exists(), socket)
    });
    let up = project.ms(&["up", "-d"]);
    assert!(texts(&up).1.contains("(done before)"), "{}", texts(&up).1);
    assert_eq!(get(port, "/").1, "hi 1000");
    // Down and up again: nothing is built a second time.
    project.ok(&["down"]);
    assert!(project.ok(&["build"]).starts_with("nothing to build"));
    // Nothing uses what was built: it goes when that is asked for, and not before its time.
    assert_eq!(project.ok(&["build", "--prune", "--unused-for", "1h"]), "nothing to remove\n");
    assert_eq!(project.ok(&["build", "--prune", "--keep", "1g"]), "nothing to remove\n");
    let pruned = project.ok(&["build", "--prune"]);
    assert!(
        pruned.starts_with("removed ") && pruned.contains(" layers and caches of "),
        "{pruned}"
    );
    assert!(project.ok(&["build"]).starts_with("built web in "));
}

#[test]
fn a_well_known_image_runs_as_the_hosts_program_with_the_images_paths() {
    if !root() || !has("nginx") && !Path::new("/usr/sbin/nginx").exists() {
        eprintln!("not run: it needs root and nginx");
        return;
    }
    let (port, other) = (free_port(), free_port());
    let project = Project::new(&format!(
        "services:
  web:
    image: nginx:alpine
    ports: ['127.0.0.1:{port}:80']
  proxy:
    image: nginx:1.27
    ports: ['127.0.0.1:{other}:8000']
    volumes:
      - ./default.conf:/etc/nginx/conf.d/default.conf:ro
      - ./pages:/pages
"
    ));
    project.write(
        "default.conf",
        "server {\n listen 8000;\n location / { root /pages; }\n\
         location /web/ { proxy_pass http://web/; }\n}\n",
    );
    std::fs::create_dir(project.path("pages")).unwrap();
    project.write("pages/index.html", "mine");
    project.ok(&["up", "-d"]);
    assert!(get(port, "/").1.contains("nginx works"));
    assert_eq!(get(other, "/").1, "mine");
    assert!(get(other, "/web/").1.contains("nginx works"));
    until("its access log is its output", || {
        let logs = project.ok(&["logs", "proxy"]);
        (logs.contains("GET /web/"), logs)
    });
}

#[test]
fn what_the_host_lacks_is_named_with_what_brings_it() {
    let missing = ["traefik", "ruby"].into_iter().find(|program| !has(program));
    let Some(missing) = missing.filter(|_| root()) else {
        eprintln!("not run: it needs root and a program that is not there");
        return;
    };
    let project = Project::new(&format!(
        "services:
  web:
    image: {missing}:3
    command: [x]
"
    ));
    let up = project.ms(&["up", "-d"]);
    let (_, said) = texts(&up);
    assert_eq!(up.status.code(), Some(1), "{said}");
    assert!(said.contains("error[toolchain-missing]"), "{said}");
    assert!(said.contains("compose.yaml:2:3") && said.contains("next:  install it: "), "{said}");
}

#[test]
fn volumes_of_an_image_begin_with_its_files_and_stay() {
    if !root() {
        eprintln!("not run: it needs root");
        return;
    }
    let project = Project::new(
        "services:
  web: &web
    build: .
    volumes: ['kept:/kept', {type: volume, source: empty, target: /other, volume: {nocopy: true}}]
    deploy: {replicas: 2}
volumes: {kept: {}, empty: {}}
",
    );
    project.write(
        "Dockerfile",
        "FROM debian\nRUN for i in own kept other; do mkdir /$i && echo $i > /$i/file; done\n\
         VOLUME /own /kept\nCMD [\"sleep\", \"infinity\"]\nSTOPSIGNAL SIGKILL\n",
    );
    project.ok(&["up", "-d"]);
    let cat = |instance: &str| {
        project.ok(&["exec", instance, "sh", "-c", "cat /own/* /kept/*; ls /other | wc -l"])
    };
    assert_eq!(cat("web.1"), "own\nkept\n0\n");
    project.ok(&["exec", "web.1", "sh", "-c", "echo 1 > /own/more; echo both > /kept/more"]);
    assert_eq!(cat("web.2"), "own\nkept\nboth\n0\n", "each has its own, and both one by name");
    project.ok(&["down"]);
    project.ok(&["up", "-d"]);
    assert_eq!(cat("web.1"), "own\n1\nkept\nboth\n0\n", "they outlive instances");
    project.ok(&["down", "-v"]);
    assert!(!project.path(".ms/volumes").exists());
    project.ok(&["up", "-d"]);
    assert_eq!(cat("web.1"), "own\nkept\n0\n");
}
