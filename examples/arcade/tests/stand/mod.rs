//! The services as child processes on free ports, and a player on a WebSocket.

pub(crate) mod log;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

pub(crate) type Scratch = ScratchDir;

/// A folder that goes with the test.
pub(crate) struct ScratchDir(tempfile::TempDir);

impl ScratchDir {
    pub(crate) fn new() -> ScratchDir {
        ScratchDir(tempfile::tempdir().unwrap())
    }
}

/// Longest wait for anything: far beyond what a loaded machine needs.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// One service as a process, killed at the end of the test.
pub(crate) struct Process {
    child: Child,
    lines: BufReader<ChildStdout>,
    pub(crate) port: u16,
}

impl Process {
    fn spawn(what: &str, settings: &[(&str, String)]) -> Process {
        let mut child = Command::new(env!("CARGO_BIN_EXE_arcade"))
            .arg(what)
            .env("HOSTNAME", format!("{what}.1"))
            .envs(settings.iter().map(|(name, value)| (*name, value)))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Process { child, lines, port: 0 }
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line
    }

    pub(crate) fn wait_until_it_listens(&mut self) {
        loop {
            let line = self.line();
            assert!(!line.is_empty(), "ended without listening");
            if let Some((_, port)) = line.trim().rsplit_once("listening on 0.0.0.0:") {
                self.port = port.parse().unwrap();
                return;
            }
        }
    }

    fn start(what: &str, settings: &[(&str, String)]) -> Process {
        let mut process = Process::spawn(what, settings);
        process.wait_until_it_listens();
        process
    }

    #[expect(unsafe_code, reason = "a signal to a child")]
    pub(crate) fn terminate(&mut self) {
        let pid = i32::try_from(self.child.id()).unwrap();
        // SAFETY: kill takes two numbers; the child is ours and not yet waited for.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGTERM) }, 0);
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn ended(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All three services.
pub(crate) struct Stand {
    pub(crate) web: Process,
    pub(crate) arena: Process,
    pub(crate) scores: Process,
    folder: Scratch,
    /// Where the event log is, if there is one.
    events: String,
}

impl Stand {
    pub(crate) fn start() -> Stand {
        Stand::start_with(String::new())
    }

    /// With the event log at this address between arena and scores.
    pub(crate) fn start_with(events: String) -> Stand {
        let folder = Scratch::new();
        let scores = scores(&folder, 0, &events);
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let port = ("PORT", "0".to_owned());
        let to_scores = ("SCORES_URL", url(scores.port));
        let to_events = ("EVENTS", events.clone());
        // Long enough for a scores service to come back on a loaded machine.
        let drain = ("DRAIN_SECONDS", "50".to_owned());
        let bots = ("BOTS", "0".to_owned());
        let settings = [port.clone(), to_scores.clone(), to_events, drain, bots];
        let arena = Process::start("arena", &settings);
        let drain = ("DRAIN_SECONDS", "0".to_owned());
        let settings = [port, to_scores, drain, ("ARENA_URL", url(arena.port))];
        let web = Process::start("web", &settings);
        Stand { web, arena, scores, folder, events }
    }

    pub(crate) fn restart_scores(&mut self) {
        self.scores = scores(&self.folder, self.scores.port, &self.events);
    }
}

fn scores_settings(folder: &Scratch, port: u16) -> [(&'static str, String); 2] {
    [("PORT", port.to_string()), ("SCORES_DIR", folder.0.path().display().to_string())]
}

pub(crate) fn scores(folder: &Scratch, port: u16, events: &str) -> Process {
    let [at, kept] = scores_settings(folder, port);
    Process::start("scores", &[at, kept, ("EVENTS", events.to_owned())])
}

pub(crate) fn scores_without_waiting(folder: &Scratch) -> Process {
    Process::spawn("scores", &scores_settings(folder, 0))
}

pub(crate) fn check(port: u16) -> bool {
    let mut check = Command::new(env!("CARGO_BIN_EXE_arcade"));
    check.arg("check").env("PORT", port.to_string()).stderr(Stdio::null());
    check.status().unwrap().success()
}

/// One HTTP request; gives the status and the body.
pub(crate) fn request(port: u16, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    // The server may refuse a long body before it has read it.
    let _ = stream.write_all(body.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned())
}

/// The best score of a name, as the page gets it.
pub(crate) fn best_of(web: u16, name: &str) -> Option<u64> {
    let (status, body) = request(web, "GET", "/api/scores", "");
    assert_eq!(status, 200, "{body}");
    let table: Value = serde_json::from_str(&body).unwrap();
    let rows = table["scores"].as_array().unwrap();
    rows.iter().find(|row| row["name"] == name).and_then(|row| row["score"].as_u64())
}

/// Asks until there is something.
pub(crate) fn until<T>(what: &str, ask: impl Fn() -> Option<T>) -> T {
    let pause = Duration::from_millis(20);
    let tries = WAIT_MAX.as_millis() / pause.as_millis();
    for _ in 0..tries {
        if let Some(found) = ask() {
            return found;
        }
        std::thread::sleep(pause);
    }
    panic!("waited in vain until {what}");
}

/// A player who sees the board and steers to the food.
pub(crate) struct Player {
    socket: WebSocketStream<tokio::net::TcpStream>,
    you: Value,
    size: (i64, i64),
    /// Heads, bodies included, of everyone on the board.
    bodies: BTreeMap<u64, Vec<(i64, i64)>>,
    food: Vec<(i64, i64)>,
    score: u64,
}

impl Player {
    pub(crate) async fn enter(port: u16) -> Player {
        let origin = format!("http://127.0.0.1:{port}");
        let socket = Self::connect(port, &origin).await.unwrap();
        let (bodies, food) = (BTreeMap::new(), Vec::new());
        Player { socket, you: Value::Null, size: (0, 0), bodies, food, score: 0 }
    }

    async fn connect(
        port: u16,
        origin: &str,
    ) -> Result<WebSocketStream<tokio::net::TcpStream>, Error> {
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let mut request = format!("ws://127.0.0.1:{port}/arena").into_client_request()?;
        if !origin.is_empty() {
            request.headers_mut().insert("origin", origin.parse().unwrap());
        }
        Ok(client_async(request, stream).await?.0)
    }

    /// The status that a refused handshake is answered with.
    pub(crate) async fn refused(port: u16, origin: &str) -> u16 {
        match Self::connect(port, origin).await {
            Err(Error::Http(answer)) => answer.status().as_u16(),
            other => panic!("not refused: {other:?}"),
        }
    }

    pub(crate) async fn say(&mut self, message: &Value) {
        self.say_text(&message.to_string()).await;
    }

    pub(crate) async fn say_text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// Says it unless the other side has closed.
    pub(crate) async fn try_say(&mut self, text: &str) {
        let _ = self.socket.send(Message::text(text)).await;
    }

    async fn next(&mut self) -> Option<Result<Message, Error>> {
        tokio::time::timeout(WAIT_MAX, self.socket.next()).await.expect("nothing was said")
    }

    /// What is said next; follows the board.
    async fn hear(&mut self) -> Value {
        loop {
            match self.next().await {
                Some(Ok(Message::Text(text))) => {
                    let said: Value = serde_json::from_str(&text).unwrap();
                    self.follow(&said);
                    return said;
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("ended: {other:?}"),
            }
        }
    }

    /// Listens until something is said.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let said = self.hear().await;
            if wanted(&said) {
                return said;
            }
        }
    }

    /// The code with which the other side closes.
    pub(crate) async fn closed(&mut self) -> u16 {
        loop {
            match self.next().await {
                Some(Ok(Message::Close(Some(frame)))) => return frame.code.into(),
                Some(Ok(_)) => {}
                other => panic!("not closed with a code: {other:?}"),
            }
        }
    }

    /// Waits for an end without a goodbye.
    pub(crate) async fn broken_off(&mut self) {
        while let Some(Ok(message)) = self.next().await {
            assert!(!message.is_close(), "{message:?}");
        }
    }

    fn follow(&mut self, said: &Value) {
        let cell = |v: &Value| (v[0].as_i64().unwrap(), v[1].as_i64().unwrap());
        let none = Vec::new();
        let list = |key: &str| said[key].as_array().unwrap_or(&none);
        match said["t"].as_str().unwrap() {
            "welcome" => {
                self.you = said["you"].clone();
                self.size = (said["width"].as_i64().unwrap(), said["height"].as_i64().unwrap());
            }
            "state" => {
                self.food = list("food").iter().map(cell).collect();
                let body =
                    |row: &Value| row["cells"].as_array().unwrap().iter().map(cell).collect();
                let rows = list("players").iter();
                self.bodies = rows.map(|row| (row["id"].as_u64().unwrap(), body(row))).collect();
            }
            "tick" => {
                for row in list("moves") {
                    let body = self.bodies.get_mut(&row[0].as_u64().unwrap()).unwrap();
                    body.insert(0, cell(&row[1]));
                    if row[2] == false {
                        body.pop();
                    }
                }
                let eaten: Vec<_> = list("eaten").iter().map(cell).collect();
                self.food.retain(|cell| !eaten.contains(cell));
                self.food.extend(list("placed").iter().map(cell));
                for row in list("points").iter().filter(|row| row[0] == self.you) {
                    self.score = row[1].as_u64().unwrap();
                }
            }
            _ => {}
        }
    }

    fn body(&self) -> &[(i64, i64)] {
        let body = self.you.as_u64().and_then(|you| self.bodies.get(&you));
        body.map_or(&[], Vec::as_slice)
    }

    /// Where to head for the nearest food without touching anything.
    fn way(&self) -> Option<u8> {
        let (head, neck) = (*self.body().first()?, *self.body().get(1)?);
        let far = |a: (i64, i64), b: (i64, i64)| (a.0 - b.0).abs() + (a.1 - b.1).abs();
        let goal = *self.food.iter().min_by_key(|cell| far(**cell, head))?;
        let steps = [(0, -1), (1, 0), (0, 1), (-1, 0)];
        let ways = (0_u8..).zip(steps.map(|(x, y)| (head.0 + x, head.1 + y)));
        let open = ways.filter(|(_, c)| {
            let inside = (0..self.size.0).contains(&c.0) && (0..self.size.1).contains(&c.1);
            inside && *c != neck && !self.bodies.values().any(|body| body.contains(c))
        });
        open.min_by_key(|(_, c)| far(*c, goal)).map(|(way, _)| way)
    }

    /// Plays until it has so many points; starts anew when it ends before. Gives the points.
    pub(crate) async fn eat(&mut self, points: u64) -> u64 {
        loop {
            let said = self.hear().await;
            if self.died(&said).is_some() {
                self.score = 0;
                self.say(&json!({"t": "again"})).await;
            } else if self.score >= points {
                return self.score;
            } else if said["t"] == "tick"
                && let Some(way) = self.way()
            {
                self.say(&json!({"t": "turn", "d": way})).await;
            }
        }
    }

    /// Runs straight ahead until the end. Gives the points at it.
    pub(crate) async fn crash(&mut self) -> u64 {
        loop {
            let said = self.hear().await;
            if let Some(score) = self.died(&said) {
                return score;
            }
        }
    }

    fn died(&self, said: &Value) -> Option<u64> {
        let dead = said["dead"].as_array()?;
        dead.iter().find(|row| row[0] == self.you).and_then(|row| row[1].as_u64())
    }
}
