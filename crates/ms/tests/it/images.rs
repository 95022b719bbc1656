//! Well-known images as this machine's programs: what people mount, set and ask of them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use crate::harness::{PATIENCE, Project, free_port, get, root, until};

/// Whether it can be tried here; says so when it cannot.
fn can(programs: &[&str]) -> bool {
    let there = |name: &str| {
        let places = ["/usr/bin", "/usr/sbin", "/usr/local/bin"];
        places.iter().any(|place| Path::new(place).join(name).exists())
    };
    let missing: Vec<_> = programs.iter().filter(|name| !there(name)).collect();
    if !root() || !missing.is_empty() {
        eprintln!("not run: it needs root, and {missing:?}");
        return false;
    }
    true
}

/// What an HTTP server of the image answers, once it does.
fn answers(port: u16, path: &str, with: &str) {
    let _answer = until(&format!("{with} at :{port}{path}"), || {
        let answer = crate::harness::try_get(port, path);
        (answer.as_ref().is_ok_and(|(_, body)| body.contains(with)), answer)
    });
}

#[test]
fn httpd_takes_pages_and_a_configuration_of_its_image() {
    if !can(&["apache2"]) {
        return;
    }
    let (plain, own) = (free_port(), free_port());
    let project = Project::new(&format!(
        "services:
  plain:
    image: httpd:2.4-alpine
    ports: ['127.0.0.1:{plain}:80']
    volumes: ['./pages:/usr/local/apache2/htdocs/']
  own:
    image: httpd:2.4
    ports: ['127.0.0.1:{own}:8080']
    volumes: ['./my.conf:/usr/local/apache2/conf/httpd.conf:ro', './pages:/pages']
"
    ));
    // As in the image's own file, with modules that some servers have built in.
    project.write(
        "my.conf",
        "ServerRoot \"/usr/local/apache2\"\nListen 8080\nServerName localhost\n\
         LoadModule mpm_event_module modules/mod_mpm_event.so\n\
         LoadModule authz_core_module modules/mod_authz_core.so\n\
         LoadModule log_config_module modules/mod_log_config.so\n\
         LoadModule unixd_module modules/mod_unixd.so\n\
         LoadModule dir_module modules/mod_dir.so\n\
         LoadModule mime_module modules/mod_mime.so\n\
         <IfModule unixd_module>\nUser www-data\nGroup www-data\n</IfModule>\n\
         DocumentRoot /pages\n<Directory /pages>\nRequire all granted\n</Directory>\n\
         DirectoryIndex index.html\nErrorLog /proc/self/fd/2\n\
         LogFormat \"%r\" common\nCustomLog /proc/self/fd/1 common\n\
         <IfModule mime_module>\nTypesConfig conf/mime.types\n</IfModule>\n",
    );
    std::fs::create_dir(project.path("pages")).unwrap();
    project.write("pages/index.html", "mine");
    project.ok(&["up", "-d"]);
    assert_eq!(get(plain, "/").1, "mine");
    assert_eq!(get(own, "/").1, "mine");
    until("its access log is its output", || {
        let logs = project.ok(&["logs", "own"]);
        (logs.contains("GET / HTTP/1.1"), logs)
    });
}

#[test]
fn caddy_prometheus_and_memcached_run_as_their_images() {
    if !can(&["caddy", "prometheus", "memcached"]) {
        return;
    }
    let (front, cache) = (free_port(), free_port());
    let project = Project::new(&format!(
        "services:
  front:
    image: caddy:2-alpine
    ports: ['127.0.0.1:{front}:80']
    volumes: ['./Caddyfile:/etc/caddy/Caddyfile', './pages:/srv', 'caddy:/data']
  prometheus:
    image: prom/prometheus:v2.53.0
    command: ['--config.file=/etc/prometheus/prometheus.yml', '--web.route-prefix=/metrics']
    volumes: ['./prometheus:/etc/prometheus', 'metrics:/prometheus']
  cache:
    image: memcached:1.6-alpine
    command: ['-m', '8']
    ports: ['127.0.0.1:{cache}:11211']
volumes: {{caddy: , metrics: }}
"
    ));
    project.write(
        "Caddyfile",
        ":80 {\n reverse_proxy /metrics/* prometheus:9090\n root * /srv\n file_server\n}\n",
    );
    std::fs::create_dir(project.path("pages")).unwrap();
    project.write("pages/index.html", "mine");
    std::fs::create_dir(project.path("prometheus")).unwrap();
    project.write(
        "prometheus/prometheus.yml",
        "global: {scrape_interval: 7s}\nscrape_configs:\n  - job_name: self\n    static_configs: \
         [{targets: ['localhost:9090']}]\n",
    );
    project.ok(&["up", "-d"]);
    assert_eq!(get(front, "/").1, "mine");
    // It runs as nobody, who owns what the new volume is made with.
    answers(front, "/metrics/-/ready", "Ready");
    answers(front, "/metrics/api/v1/status/config", "scrape_interval: 7s");
    let mut stream = TcpStream::connect(("127.0.0.1", cache)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"set k 0 0 2\r\nhi\r\nget k\r\nquit\r\n").unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert_eq!(said, "STORED\r\nVALUE k 0 2\r\nhi\r\nEND\r\n");
}

#[test]
fn redis_keeps_what_it_was_told_and_asks_for_its_password() {
    if !can(&["redis-server", "redis-cli"]) {
        return;
    }
    let project = Project::new(
        "services:
  redis:
    image: redis:7-alpine
    command: redis-server --requirepass hush --appendonly yes
    volumes: ['kept:/data']
    healthcheck: {test: ['CMD', 'redis-cli', '-a', 'hush', 'ping'], interval: 200ms, start_period: 60s, start_interval: 200ms}
volumes: {kept: }
",
    );
    project.ok(&["up", "-d"]);
    let ask = |words: &[&str]| {
        let start = ["exec", "redis", "redis-cli", "-h", "redis", "--no-auth-warning"];
        project.ok(&[&start[..], words].concat())
    };
    assert!(ask(&["get", "k"]).starts_with("NOAUTH"));
    assert_eq!(ask(&["-a", "hush", "set", "k", "kept"]).trim(), "OK");
    assert_eq!(
        project.ok(&["exec", "redis", "sh", "-c", "id -un 1>&2; stat -c %U /data"]),
        "redis\n"
    );
    project.ok(&["down"]);
    project.ok(&["up", "-d"]);
    assert_eq!(ask(&["-a", "hush", "get", "k"]).trim(), "kept");
}

/// One row from a database's own client in its instance.
fn row(project: &Project, command: &str) -> String {
    project.ok(&["exec", "db", "sh", "-c", command]).trim().to_owned()
}

#[test]
fn postgres_is_made_once_as_its_variables_and_scripts_say() {
    let found =
        std::fs::read_dir("/usr/lib/postgresql").is_ok_and(|mut dirs| dirs.next().is_some());
    if !found && !can(&["postgres"]) || !root() {
        eprintln!("not run: it needs root and PostgreSQL");
        return;
    }
    let project = Project::new(
        "services:
  db:
    image: postgres:16-alpine
    command: ['-c', fsync=off]
    environment:
      POSTGRES_USER: joe
      POSTGRES_DB: app-data
      POSTGRES_INITDB_ARGS: --no-sync --data-checksums
      POSTGRES_PASSWORD_FILE: /run/secrets/password
    secrets: [password]
    volumes: ['data:/var/lib/postgresql/data', './init:/docker-entrypoint-initdb.d:ro']
    healthcheck: {test: ['CMD-SHELL', 'pg_isready -U joe -d app-data'], interval: 200ms, start_period: 60s, start_interval: 200ms}
  other:
    image: postgres:16
    user: postgres
    environment: {POSTGRES_HOST_AUTH_METHOD: trust, POSTGRES_INITDB_ARGS: --no-sync}
    command: postgres -c fsync=off
    volumes: ['others:/var/lib/postgresql/data']
    healthcheck: {test: pg_isready, interval: 200ms, start_period: 60s, start_interval: 200ms}
volumes: {data: , others: }
secrets: {password: {file: ./password}}
",
    );
    project.write("password", "it's $ecret\n");
    std::fs::create_dir(project.path("init")).unwrap();
    project.write("init/1.sql", "CREATE TABLE made (id serial, what text);\n");
    project.write(
        "init/2.sh",
        "psql --username \"$POSTGRES_USER\" --dbname \"$POSTGRES_DB\" \
         -c \"INSERT INTO made (what) VALUES ('by a script')\"\n",
    );
    project.ok(&["up", "-d"]);
    // Over the network, with the password, as another service would.
    let all = "PGPASSWORD=\"$(cat /run/secrets/password)\" psql -h db -U joe -d app-data -At -c";
    assert_eq!(row(&project, &format!("{all} 'SELECT * FROM made'")), "1|by a script");
    // Who is not root finds names as well.
    assert!(project.ok(&["exec", "other", "getent", "hosts", "db"]).contains("db"));
    let refused = project.ms(&["exec", "db", "sh", "-c", &all.replace("cat", "true")]);
    assert!(!refused.status.success());
    row(&project, &format!("{all} \"INSERT INTO made (what) VALUES ('later')\""));
    project.ok(&["down"]);
    project.ok(&["up", "-d"]);
    assert_eq!(row(&project, &format!("{all} 'SELECT count(*) FROM made'")), "2");
}

#[test]
fn mariadb_is_made_once_as_its_variables_and_scripts_say() {
    if !can(&["mariadbd"]) {
        return;
    }
    let project = Project::new(
        "services:
  db:
    image: mysql:8
    command: --default-authentication-plugin=mysql_native_password
    environment:
      MYSQL_ROOT_PASSWORD: r'oot
      MYSQL_DATABASE: app_data
      MYSQL_USER: joe
      MYSQL_PASSWORD: it's\\me
      MYSQL_INITDB_SKIP_TZINFO: 1
    volumes: ['data:/var/lib/mysql', './init:/docker-entrypoint-initdb.d:ro']
    healthcheck:
      test: ['CMD', 'mysqladmin', 'ping', '-h', '127.0.0.1', '--silent']
      interval: 200ms
      start_period: 60s
      start_interval: 200ms
volumes: {data: }
",
    );
    std::fs::create_dir(project.path("init")).unwrap();
    project.write("init/1.sql", "CREATE TABLE made (what text); INSERT INTO made VALUES ('so');\n");
    project.ok(&["up", "-d"]);
    let all = "mysql -N -h db -ujoe \"-p$MYSQL_PASSWORD\" app_data -e";
    assert_eq!(row(&project, &format!("{all} 'SELECT * FROM made'")), "so");
    let root = "mysql -N -h db -uroot \"-p$MYSQL_ROOT_PASSWORD\" -e";
    let users = row(&project, &format!("{root} 'SELECT user, host FROM mysql.user'"));
    let mut users: Vec<&str> = users.lines().collect();
    users.sort_unstable();
    assert_eq!(users, ["joe\t%", "mariadb.sys\tlocalhost", "root\t%", "root\tlocalhost"]);
    row(&project, &format!("{all} \"INSERT INTO made VALUES ('later')\""));
    project.ok(&["down"]);
    project.ok(&["up", "-d"]);
    assert_eq!(row(&project, &format!("{all} 'SELECT count(*) FROM made'")), "2");
}

#[test]
fn tools_of_alpine_do_what_this_machine_can() {
    let debian = std::fs::read_to_string("/etc/os-release").unwrap_or_default().contains("debian");
    if !root() || !debian {
        eprintln!("not run: it needs root and a machine of Debian's kind");
        return;
    }
    let project = Project::new(
        "services:
  app:
    build:
      context: .
      dockerfile_inline: |
        FROM alpine:3.20
        RUN apk update && apk add --no-cache --virtual .build bash 'tar>1' && apk del .build
        RUN addgroup -g 4000 -S team && adduser -S -D -H -u 4001 app -G team && adduser -D joe
        RUN set -o pipefail && id -g app && id -u app && stat -c %U /home/joe
        CMD sleep infinity
",
    );
    let built = project.ms(&["build"]);
    let (_, said) = crate::harness::texts(&built);
    assert!(built.status.success(), "{said}");
    assert!(said.contains("apk: this machine has bash tar"), "{said}");
    assert!(said.contains("| 4000") && said.contains("| 4001") && said.contains("| joe"), "{said}");
}
