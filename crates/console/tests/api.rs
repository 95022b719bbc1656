//! The server and its client over real sockets, with the made-up engine behind them.

#![expect(clippy::unwrap_used, reason = "a test ends where its surroundings fail")]

#[path = "../examples/fake/engine.rs"]
mod engine;
#[path = "../examples/fake/model.rs"]
mod model;
mod slow;
#[path = "../examples/fake/topics.rs"]
mod topics;

use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::sync::Arc;
use std::time::Duration;

use base::{ManualClock, UnixNanos};
use console::client::{Client, ClientError};
use console::config::{WRONG_LOGINS_MAX, WRONG_LOGINS_WINDOW};
use console::wire::{ChartQuery, Command, Health, LiveBody, LogQuery};
use console::{ConsoleConfig, Credentials, Listeners};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long anything may take before the test has failed.
const PATIENCE: Duration = Duration::from_secs(20);

struct Console {
    address: SocketAddr,
    client: Client,
    engine: Arc<engine::FakeEngine>,
    clock: Arc<ManualClock>,
    stop: watch::Sender<bool>,
    serving: JoinSet<Result<(), base::Problem>>,
    _folder: tempfile::TempDir,
}

async fn start(config: ConsoleConfig) -> Console {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("engine.sock");
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let unix = UnixListener::bind(&socket).unwrap();
    let engine = Arc::new(engine::FakeEngine::new(false));
    let clock = Arc::new(ManualClock::new(UnixNanos(1)));
    let (stop, stopped) = watch::channel(false);
    let listeners = Listeners { tcp: vec![tcp], unix: vec![unix] };
    let mut serving = JoinSet::new();
    serving.spawn(console::serve(config, listeners, engine.clone(), clock.clone(), stopped));
    Console { address, client: Client::new(socket), engine, clock, stop, serving, _folder: folder }
}

impl Console {
    /// Sends bytes over TCP and reads until the server closes.
    async fn raw(&self, request: &str) -> String {
        self.raw_from("127.0.0.1", request).await
    }

    /// As `raw`, from that address of loopback.
    async fn raw_from(&self, from: &str, request: &str) -> String {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
        let mut stream = socket.connect(self.address).await.unwrap();
        // The server may refuse, and close, before all of it is written.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        let _ = read.expect("the server answers");
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn get(&self, path: &str, headers: &str) -> String {
        let host = self.address;
        self.raw(&format!(
            "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{headers}\r\n"
        ))
        .await
    }

    async fn post(&self, body: &str, headers: &str) -> String {
        let (host, length) = (self.address, body.len());
        self.raw(&format!(
            "POST /api/commands HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\
             content-length: {length}\r\n{headers}\r\n{body}"
        ))
        .await
    }

    /// As `post` with JSON, from a process of another user.
    async fn post_as_nobody(&self, body: &str, headers: &str) -> String {
        self.as_nobody("POST /api/commands", body, headers).await
    }

    /// Sends a request from a shell of another user, and reads until the server closes.
    async fn as_nobody(&self, line: &str, body: &str, headers: &str) -> String {
        let (host, length) = (self.address, body.len());
        let request = format!(
            "{line} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
        );
        let port = host.port();
        let script = format!("exec 3<>/dev/tcp/127.0.0.1/{port}; printf %s \"$1\" >&3; cat <&3");
        let mut shell = std::process::Command::new("bash");
        shell.args(["-c", &script, "bash", &request]).current_dir("/").uid(65534).gid(65534);
        let output = tokio::task::spawn_blocking(move || shell.output()).await.unwrap().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}

fn code(error: ClientError) -> String {
    match error {
        ClientError::Refused(problem) => problem.code,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn the_client_reads_everything_that_the_server_writes() {
    let console = start(ConsoleConfig::default()).await;
    let client = &console.client;
    assert_eq!(client.status().await.unwrap().app.as_deref(), Some("shop"));
    let overview = client.overview().await.unwrap();
    assert!(overview.services.len() > 10 && !overview.calls.is_empty());
    let detail = client.service("payments").await.unwrap();
    assert_eq!(detail.service.health, Health::Degraded);
    assert_eq!(code(client.service("nope/../x").await.unwrap_err()), "not-found");
    let newest = client.events(0, 3).await.unwrap();
    assert_eq!(newest.len(), 3);
    assert_eq!(client.events(newest[0].seq, 10).await.unwrap(), newest[1..]);
    let query =
        ChartQuery { service: detail.service.name.into(), chart: "cpu".into(), seconds: Some(60) };
    assert_eq!(client.chart(&query).await.unwrap().lines[0].values.len(), 61);
    let odd = ChartQuery { chart: "mood".into(), ..query };
    assert_eq!(code(client.chart(&odd).await.unwrap_err()), "bad-query");
    let query = LogQuery {
        services: vec!["web".into()],
        grep: Some("GET /products/".into()),
        limit: Some(5),
        ..LogQuery::default()
    };
    let page = client.logs(&query).await.unwrap();
    assert!(page.more && page.lines.len() == 5);
    assert!(page.lines.iter().all(|line| line.text.contains("GET /products/")));
    assert!(client.metrics().await.unwrap().contains("ms_up 1"));
}

#[tokio::test]
async fn commands_reach_the_engine_and_refusals_come_back() {
    let console = start(ConsoleConfig::default()).await;
    let web = "web".parse().unwrap();
    let scale = Command::Scale { service: web, replicas: 5 };
    let accepted = console.client.command(&scale).await.unwrap();
    assert_eq!(accepted.changed, ["web".parse().unwrap()]);
    assert_eq!(console.client.service("web").await.unwrap().service.desired, 5);
    let unknown = Command::Stop { services: vec!["nope".into()] };
    assert_eq!(code(console.client.command(&unknown).await.unwrap_err()), "not-found");
}

#[tokio::test]
async fn an_accepted_command_runs_to_its_end_without_its_client() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("engine.sock");
    let listeners =
        Listeners { unix: vec![UnixListener::bind(&socket).unwrap()], ..Listeners::default() };
    let engine = Arc::new(slow::Slow::default());
    let (_stop, stopped) = watch::channel(false);
    let mut serving = JoinSet::new();
    let (config, clock) = (ConsoleConfig::default(), Arc::new(base::SystemClock));
    serving.spawn(console::serve(config, listeners, engine.clone(), clock, stopped));

    let client = Client::new(socket);
    let command = Command::Stop { services: Vec::new() };
    tokio::select! {
        answer = client.command(&command) => panic!("it waits to be let on: {answer:?}"),
        () = engine.begun.notified() => {}
    }
    // The request is dropped here; by the answer to the next one, the server has seen it go.
    let panics = Command::Shutdown { keep_services: true };
    assert_eq!(code(client.command(&panics).await.unwrap_err()), "internal");
    engine.go_on.notify_one();
    tokio::time::timeout(PATIENCE, engine.done.notified()).await.expect("it ran to its end");
}

#[tokio::test]
async fn followed_logs_have_no_gap_and_no_repeat() {
    let console = start(ConsoleConfig::default()).await;
    let query = LogQuery { limit: Some(50), ..LogQuery::default() };
    let mut stream = console.client.follow_logs(&query).await.unwrap();
    let mut lines = Vec::new();
    while lines.len() < 80 {
        if lines.len() == 50 {
            // All that was there has been read; what comes now is followed.
            (0..40).for_each(|_| console.engine.tick());
        }
        let next = tokio::time::timeout(PATIENCE, stream.next()).await.unwrap();
        lines.push(next.unwrap().unwrap());
    }
    let newest = LogQuery { limit: Some(10_000), ..LogQuery::default() };
    let page = console.client.logs(&newest).await.unwrap().lines;
    let from = page.iter().position(|line| *line == lines[0]).unwrap();
    assert_eq!(lines, page[from..from + lines.len()]);
}

#[tokio::test]
async fn logs_are_read_back_page_by_page() {
    let console = start(ConsoleConfig::default()).await;
    let all = LogQuery { limit: Some(10_000), ..LogQuery::default() };
    let all = console.client.logs(&all).await.unwrap();
    assert!(!all.more && all.lines.len() > 200);
    let (mut read, mut until, mut skip) = (Vec::new(), None, None);
    loop {
        let query = LogQuery { limit: Some(100), until, skip, ..LogQuery::default() };
        let page = console.client.logs(&query).await.unwrap();
        let first = page.lines[0].at;
        let lines = [page.lines, read].concat();
        (until, skip) = (Some(first), Some(lines.iter().filter(|line| line.at == first).count()));
        read = lines;
        if !page.more {
            break;
        }
    }
    assert!(read == all.lines, "{} of {}", read.len(), all.lines.len());

    let query = LogQuery { skip: Some(1), ..LogQuery::default() };
    let refused = console.client.follow_logs(&query).await.err().unwrap();
    assert_eq!(code(refused), "bad-query");
    let live = console.get("/api/live?topics=logs:skip%253D1", "").await;
    assert!(live.contains("bad-query"), "{live}");
}

#[tokio::test]
async fn a_change_is_pushed_with_its_events() {
    let console = start(ConsoleConfig::default()).await;
    let mut live = console.client.live(&["service:web", "events"]).await.unwrap();
    let mut next = async || {
        let message = tokio::time::timeout(PATIENCE, live.next()).await.unwrap();
        message.unwrap().unwrap().body
    };
    let LiveBody::Service(Some(before)) = next().await else { panic!("the service comes first") };
    assert_eq!(before.service.desired, 2);
    let LiveBody::Events(first) = next().await else { panic!("then the events") };
    assert!(first.fresh);
    let scale = Command::Scale { service: "web".parse().unwrap(), replicas: 4 };
    console.client.command(&scale).await.unwrap();
    let (mut desired, mut told) = (2, String::new());
    while desired != 4 || told.is_empty() {
        match next().await {
            LiveBody::Service(detail) => desired = detail.unwrap().service.desired,
            LiveBody::Events(since) => {
                assert!(!since.fresh);
                assert_eq!(since.events[0].seq, first.events.last().unwrap().seq + 1);
                told.clone_from(&since.events[0].kind);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(told, "service-scaled");
}

#[tokio::test]
async fn events_resume_where_the_client_was_and_start_over_with_another_engine() {
    let console = start(ConsoleConfig::default()).await;
    let newest = console.client.events(0, 3).await.unwrap();
    for (after, fresh, first) in [(newest[0].seq, false, newest[1].seq), (1_000_000, true, 1)] {
        let host = console.address;
        let mut stream = TcpStream::connect(host).await.unwrap();
        let head = format!(
            "GET /api/live?topics=events HTTP/1.1\r\nhost: {host}\r\nlast-event-id: {after}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut text = String::new();
        while !text.contains("data: {") || !text.ends_with("\n\n\r\n") {
            let mut buffer = [0; 4096];
            let read = tokio::time::timeout(PATIENCE, stream.read(&mut buffer)).await;
            let read = read.expect("the stream goes on").unwrap();
            text.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
        assert!(text.contains("text/event-stream"), "{text}");
        assert!(text.contains(&format!("\"fresh\":{fresh}")), "{text}");
        assert!(text.contains(&format!("[{{\"seq\":{first},")), "{text}");
        assert!(text.contains(&format!("id: {}\n", newest[2].seq)), "{text}");
    }
}

#[tokio::test]
async fn strangers_are_refused_over_tcp() {
    let console = start(ConsoleConfig::default()).await;
    assert_eq!(status(&console.get("/api/status", "").await), 200);
    let rebound = "GET /api/status HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n";
    assert_eq!(status(&console.raw(rebound).await), 403);
    let stop = r#"{"command":"stop","services":["web"]}"#;
    let json = "content-type: application/json\r\n";
    let crossed = format!("{json}origin: http://127.0.0.1:1\r\n");
    assert_eq!(status(&console.post(stop, &crossed).await), 403);
    assert_eq!(status(&console.post(stop, "content-type: text/plain\r\n").await), 415);
    assert_eq!(status(&console.post(stop, "").await), 415);
    assert_eq!(console.client.service("web").await.unwrap().service.health, Health::Healthy);
    let own = format!("{json}origin: http://{}\r\n", console.address);
    assert_eq!(status(&console.post(stop, &own).await), 200);
    assert_eq!(console.client.service("web").await.unwrap().service.health, Health::Stopped);
}

/// Needs root, to be somebody else.
#[tokio::test]
async fn another_user_of_the_host_reads_but_does_not_command() {
    if net::own_uid() != 0 {
        return;
    }
    let console = start(ConsoleConfig::default()).await;
    let stop = r#"{"command":"stop","services":["web"]}"#;
    let refused = console.post_as_nobody(stop, "").await;
    assert_eq!(status(&refused), 403, "{refused}");
    assert!(refused.contains("not-your-engine") && refused.contains("uid 65534"), "{refused}");
    let read = console.as_nobody("GET /api/status", "", "").await;
    assert_eq!(status(&read), 200, "{read}");
    assert_eq!(console.client.service("web").await.unwrap().service.health, Health::Healthy);

    let credentials = Some(Credentials { user: "ada".into(), secret: "s3cret".into() });
    let console = start(ConsoleConfig { credentials, ..ConsoleConfig::default() }).await;
    assert_eq!(status(&console.post_as_nobody(stop, "").await), 401);
    let login = "authorization: Bearer s3cret\r\n";
    assert_eq!(status(&console.post_as_nobody(stop, login).await), 200, "the login decides");
    assert_eq!(console.client.service("web").await.unwrap().service.health, Health::Stopped);
}

#[tokio::test]
async fn what_is_odd_or_too_large_is_refused_and_nothing_breaks() {
    let console = start(ConsoleConfig::default()).await;
    let json = "content-type: application/json\r\n";
    for (body, expected) in [
        ("", 400),
        ("{", 400),
        (r#"{"command":"dance"}"#, 400),
        (r#"{"command":"scale","service":"-","replicas":1}"#, 400),
        (r#"{"command":"scale","service":"web","replicas":-1}"#, 400),
        (&"[".repeat(100_000), 400),
        (&" ".repeat((4 << 20) + 1), 413),
    ] {
        let answer = console.post(body, json).await;
        let start: String = body.chars().take(60).collect();
        assert_eq!(status(&answer), expected, "{start}: {answer}");
    }
    for (path, expected) in [
        ("/api/events?limit=x", 400),
        ("/api/events?limt=1", 400),
        ("/api/logs?grep=%ff", 400),
        ("/api/live?topics=moon", 400),
        (&format!("/api/live?topics={}", vec!["overview"; 65].join(",")), 400),
        ("/api/chart", 400),
        ("/api/nothing", 404),
        ("/api/commands", 405),
        ("/app/nothing.js", 404),
        ("/any/page", 200),
        ("/healthz", 200),
    ] {
        assert_eq!(status(&console.get(path, "").await), expected, "{path}");
    }
    let long = format!("x-long: {}\r\n", "x".repeat(100_000));
    assert_eq!(status(&console.get("/healthz", &long).await), 431);
    let many = "x: y\r\n".repeat(100);
    assert_eq!(status(&console.get("/healthz", &many).await), 431);
    assert!(console.client.status().await.is_ok(), "it goes on");
}

#[tokio::test]
async fn streams_past_the_bound_are_refused_until_one_ends() {
    let console = start(ConsoleConfig::default()).await;
    let host = console.address;
    let open = async || {
        let mut stream = TcpStream::connect(host).await.unwrap();
        let head = format!("GET /api/live HTTP/1.1\r\nhost: {host}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 16];
        stream.read_exact(&mut answer).await.unwrap();
        (stream, status(&String::from_utf8_lossy(&answer)))
    };
    let mut streams = Vec::new();
    for _ in 0..console::config::STREAMS_MAX {
        let (stream, status) = open().await;
        assert_eq!(status, 200);
        streams.push(stream);
    }
    assert_eq!(open().await.1, 503);
    assert!(console.client.status().await.is_ok(), "other requests are answered");
    streams.pop();
    let freed = async { while open().await.1 != 200 {} };
    tokio::time::timeout(PATIENCE, freed).await.expect("the place is free again");
}

#[tokio::test]
async fn wider_than_loopback_needs_credentials() {
    let wide = || async {
        let tcp = vec![TcpListener::bind("0.0.0.0:0").await.unwrap()];
        Listeners { tcp, unix: Vec::new() }
    };
    let engine = Arc::new(engine::FakeEngine::new(true));
    let (stop, stopped) = watch::channel(true);
    let bare = ConsoleConfig::default();
    let clock = Arc::new(base::SystemClock);
    let served = console::serve(bare, wide().await, engine.clone(), clock.clone(), stopped.clone());
    let refused = served.await;
    assert_eq!(refused.unwrap_err().code, "console-exposed");
    let credentials = Some(Credentials { user: "ada".into(), secret: "s3cret".into() });
    let config = ConsoleConfig { credentials, ..ConsoleConfig::default() };
    let served = console::serve(config.clone(), wide().await, engine, clock, stopped);
    assert!(served.await.is_ok());
    drop(stop);

    let console = start(config).await;
    let answer = console.get("/", "").await;
    assert_eq!(status(&answer), 401);
    assert!(answer.to_lowercase().contains("www-authenticate: basic"), "{answer}");
    let login = "authorization: Bearer s3cret\r\n";
    assert_eq!(status(&console.get("/api/status", login).await), 200);
    assert_eq!(status(&console.get("/healthz", "").await), 200);
    assert!(console.client.status().await.is_ok(), "the socket is trusted");
}

#[tokio::test]
async fn an_address_that_guesses_at_the_login_has_to_wait() {
    let credentials = Some(Credentials { user: "ada".into(), secret: "s3cret".into() });
    let console = start(ConsoleConfig { credentials, ..ConsoleConfig::default() }).await;
    let (guesser, other) = ("127.0.0.2", "127.0.0.3");
    let ask = async |from: &str, header: &str| {
        let host = console.address;
        let line = format!("GET /api/status HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
        console.raw_from(from, &format!("{line}{header}\r\n")).await
    };
    let (right, wrong) = ("authorization: Bearer s3cret\r\n", "authorization: Bearer x\r\n");
    for _ in 0..2 {
        for _ in 1..WRONG_LOGINS_MAX {
            assert_eq!(status(&ask(guesser, wrong).await), 401);
            // A browser asks without one first; that is no guess.
            assert_eq!(status(&ask(guesser, "").await), 401);
        }
        assert_eq!(status(&ask(guesser, right).await), 200, "and all is forgotten");
    }
    for _ in 0..WRONG_LOGINS_MAX {
        assert_eq!(status(&ask(guesser, wrong).await), 401);
    }
    console.clock.advance(Duration::from_millis(500));
    for header in [wrong, right, ""] {
        let answer = ask(guesser, header).await;
        assert_eq!(status(&answer), 429, "{answer}");
        assert!(answer.contains("\r\nretry-after: 300\r\n"), "{answer}");
        assert!(answer.contains(r#""code":"too-many-logins""#), "{answer}");
    }
    assert_eq!(status(&ask(other, right).await), 200);
    assert!(console.client.status().await.is_ok(), "the socket is trusted");
    console.clock.advance(WRONG_LOGINS_WINDOW);
    assert_eq!(status(&ask(guesser, right).await), 200);
}

#[tokio::test]
async fn shutdown_ends_streams_and_frees_the_port() {
    let mut console = start(ConsoleConfig::default()).await;
    let mut live = console.client.live(&["overview"]).await.unwrap();
    assert!(live.next().await.unwrap().is_ok());
    console.stop.send(true).unwrap();
    let ended = async { while let Some(Ok(_)) = live.next().await {} };
    tokio::time::timeout(PATIENCE, ended).await.expect("the stream ends");
    let served = tokio::time::timeout(PATIENCE, console.serving.join_next()).await;
    assert!(served.unwrap().unwrap().unwrap().is_ok());
    assert!(TcpListener::bind(console.address).await.is_ok());
    let gone = console.client.status().await.unwrap_err();
    assert!(matches!(gone, ClientError::Unreachable { .. }), "{gone}");
}
