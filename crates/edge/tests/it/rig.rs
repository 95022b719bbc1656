//! An edge on addresses of its own, scripted instances behind it, and a client.
//!
//! Every rig has loopback addresses that no other test has, so ports can be fixed.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base::metrics::{Handle, Registry};
use base::{InstanceId, ServiceName, SystemClock};
use edge::{
    Balance, Edge, EdgeConfig, EdgeStatus, Endpoint, EndpointAddress, EndpointState, Limits,
    Listener, Protocol, RouteTable, Upstream,
};
use tokio::sync::watch;

/// Long enough that only a hang reaches it.
const NEVER: Duration = Duration::from_secs(30);

/// A loopback address that nobody else in this or a concurrent test run has.
pub(crate) fn address() -> IpAddr {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let pid = std::process::id();
    let at = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    assert!(at < 512, "more addresses than a test run has");
    let [_, _, b, c] = (pid << 9 | at).to_be_bytes();
    let a = u8::try_from(pid >> 7 & 0x3f).unwrap();
    Ipv4Addr::new(127, 128 | a, b, c).into()
}

pub(crate) fn service() -> ServiceName {
    "web".parse().unwrap()
}

pub(crate) fn instance(slot: u32) -> InstanceId {
    InstanceId::new(service(), slot)
}

pub(crate) struct Rig {
    pub(crate) edge: Option<Edge>,
    pub(crate) registry: Registry,
    pub(crate) addr: SocketAddr,
    tables: watch::Sender<Arc<RouteTable>>,
    runtime: tokio::runtime::Runtime,
}

pub(crate) struct Options {
    pub(crate) threads: usize,
    pub(crate) limits: Limits,
    pub(crate) protocol: Protocol,
    pub(crate) published: bool,
    pub(crate) hold: Duration,
    pub(crate) why: &'static str,
    pub(crate) balance: Balance,
    pub(crate) datagrams_from: Option<IpAddr>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            threads: 2,
            limits: Limits::default(),
            protocol: Protocol::Http,
            published: false,
            hold: NEVER,
            why: "",
            balance: Balance::LeastRequests,
            datagrams_from: None,
        }
    }
}

/// An endpoint that takes requests.
pub(crate) fn ready(slot: u32, addr: SocketAddr) -> Endpoint {
    Endpoint {
        instance: instance(slot),
        address: EndpointAddress::Fixed(addr),
        weight: 1,
        state: EndpointState::Ready,
    }
}

/// The same, leaving.
pub(crate) fn draining(slot: u32, addr: SocketAddr) -> Endpoint {
    Endpoint { state: EndpointState::Draining, ..ready(slot, addr) }
}

impl Rig {
    pub(crate) fn new(endpoints: Vec<Endpoint>) -> Rig {
        Rig::with(Options::default(), endpoints)
    }

    pub(crate) fn with(options: Options, endpoints: Vec<Endpoint>) -> Rig {
        let addr = SocketAddr::new(address(), 8000);
        let registry = Registry::default();
        let upstream = Upstream {
            balance: options.balance,
            endpoints,
            hold: options.hold,
            datagrams_from: options.datagrams_from,
            unavailable_why: options.why.to_owned(),
        };
        let listener = Listener {
            addr,
            service: service(),
            target_port: 8000,
            protocol: options.protocol,
            published: options.published,
        };
        let table = RouteTable {
            version: 1,
            listeners: vec![listener],
            services: BTreeMap::from([(service(), Arc::new(upstream))]),
            callers: [].into(),
        };
        let (tables, following) = watch::channel(Arc::new(table));
        let config = EdgeConfig {
            threads: options.threads,
            limits: options.limits,
            ..EdgeConfig::new(Arc::new(SystemClock), registry.clone())
        };
        let edge = Some(Edge::start(config, following).unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let rig = Rig { edge, registry, addr, tables, runtime };
        rig.wait(|status| {
            let of = match options.protocol {
                Protocol::Udp => &status.udp_listeners,
                _ => &status.listeners,
            };
            status.version == 1 && of.get(&addr) == Some(&Ok(()))
        });
        rig
    }

    pub(crate) fn table(&self) -> RouteTable {
        (**self.tables.borrow()).clone()
    }

    /// Changes the table and returns its version, without waiting for it to be in force.
    pub(crate) fn change(&self, change: impl FnOnce(&mut RouteTable)) -> u64 {
        let mut table = self.table();
        table.version += 1;
        change(&mut table);
        let version = table.version;
        self.tables.send_replace(Arc::new(table));
        version
    }

    /// Replaces the endpoints.
    pub(crate) fn endpoints(&self, endpoints: Vec<Endpoint>) -> u64 {
        self.change(|table| {
            let upstream = table.services.get_mut(&service()).unwrap();
            let old = (**upstream).clone();
            *upstream = Arc::new(Upstream { endpoints, ..old });
        })
    }

    /// Waits until the status is like this.
    pub(crate) fn wait(&self, like: impl FnMut(&Arc<EdgeStatus>) -> bool) -> Arc<EdgeStatus> {
        let mut status = self.edge.as_ref().unwrap().status();
        self.runtime.block_on(async {
            let found = tokio::time::timeout(NEVER, status.wait_for(like)).await;
            if let Ok(found) = found {
                return Arc::clone(&found.unwrap());
            }
            let edge = self.edge.as_ref().unwrap();
            let live: Vec<_> = (1..5).map(|slot| edge.inflight(&instance(slot))).collect();
            let now = edge.status().borrow().clone();
            panic!("never so: {now:?}, in flight {live:?}, table {}", self.table().version);
        })
    }

    pub(crate) fn drain(mut self, within: Duration) -> bool {
        let edge = self.edge.take().unwrap();
        self.runtime.block_on(edge.drain(within))
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.addr)
    }

    /// One request on a connection of its own; the whole answer.
    pub(crate) fn ask(&self, request: &str) -> String {
        let mut client = self.client();
        client.send(request);
        client.response("GET")
    }

    /// The sum of a counter over the series that have these labels.
    pub(crate) fn count(&self, family: &str, labels: &[(&str, &str)]) -> u64 {
        let has = |series: &base::metrics::Series| {
            series.family == family
                && labels
                    .iter()
                    .all(|(name, value)| series.labels.iter().any(|(n, v)| n == name && v == value))
        };
        let value = |series: base::metrics::Series| match series.handle {
            Handle::Counter(counter) => counter.get(),
            Handle::Gauge(gauge) => u64::try_from(gauge.get()).unwrap(),
            Handle::Histogram(histogram) => histogram.count(),
        };
        self.registry.series().into_iter().filter(has).map(value).sum()
    }

    /// Waits until a counter, which is raised after the client has its answer, is at `want`.
    pub(crate) fn wait_count(&self, family: &str, labels: &[(&str, &str)], want: u64) {
        let deadline = tokio::time::Instant::now() + NEVER;
        while self.count(family, labels) != want {
            let now = self.count(family, labels);
            assert!(tokio::time::Instant::now() < deadline, "{family} {labels:?} is {now}");
            std::thread::yield_now();
        }
    }
}

pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: web\r\n\r\n")
}

/// A connection and the bytes read from it that nobody has looked at.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(addr: SocketAddr) -> Client {
        Client::over(TcpStream::connect(addr).unwrap())
    }

    pub(crate) fn over(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(NEVER)).unwrap();
        stream.set_write_timeout(Some(NEVER)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, buffer: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    pub(crate) fn end(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Reads more; `false` at the end. A reset counts as an end.
    fn fill(&mut self) -> bool {
        let mut bytes = [0; 4096];
        match self.stream.read(&mut bytes) {
            Ok(count) => {
                self.buffer.extend_from_slice(&bytes[..count]);
                count > 0
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("{error}, after {}", self.buffer.escape_ascii()),
        }
    }

    /// What comes up to and with `mark`, or `None` when the end comes first.
    pub(crate) fn until(&mut self, mark: &str) -> Option<String> {
        loop {
            let found = self.buffer.windows(mark.len()).position(|w| w == mark.as_bytes());
            if let Some(at) = found {
                return Some(self.cut(at + mark.len()));
            }
            if !self.fill() {
                return None;
            }
        }
    }

    pub(crate) fn exactly(&mut self, len: usize) -> String {
        while self.buffer.len() < len {
            assert!(self.fill(), "ended after {}", self.buffer.escape_ascii());
        }
        self.cut(len)
    }

    /// Everything up to the end.
    pub(crate) fn rest(&mut self) -> String {
        while self.fill() {}
        self.cut(self.buffer.len())
    }

    /// A message: its head, and its body as framed.
    pub(crate) fn message(&mut self, bodiless: bool) -> Option<String> {
        let head = self.until("\r\n\r\n")?;
        let lower = head.to_ascii_lowercase();
        let length = lower.lines().find_map(|l| l.strip_prefix("content-length: "));
        let body = if bodiless {
            String::new()
        } else if lower.contains("\r\ntransfer-encoding: chunked\r\n") {
            let mut body = String::new();
            loop {
                let size = self.until("\r\n")?;
                let len = usize::from_str_radix(size.trim().split(';').next()?, 16).unwrap();
                body += &size;
                if len == 0 {
                    break;
                }
                body += &self.exactly(len + 2);
            }
            loop {
                let line = self.until("\r\n")?;
                body += &line;
                if line == "\r\n" {
                    break;
                }
            }
            body
        } else if let Some(length) = length {
            self.exactly(length.parse().unwrap())
        } else if head.starts_with("HTTP/") {
            self.rest()
        } else {
            String::new()
        };
        Some(head + &body)
    }

    /// The response to a request of this method.
    pub(crate) fn response(&mut self, method: &str) -> String {
        // The status is known once the head is there; look ahead without taking it.
        while !self.buffer.windows(4).any(|w| w == b"\r\n\r\n") {
            assert!(self.fill(), "no response: {}", self.buffer.escape_ascii());
        }
        let status = &self.buffer[9..12];
        let bodiless = method == "HEAD" || matches!(status, b"204" | b"304" | b"101" | b"100");
        self.message(bodiless).expect("a whole response")
    }

    fn cut(&mut self, len: usize) -> String {
        let rest = self.buffer.split_off(len);
        let cut = std::mem::replace(&mut self.buffer, rest);
        String::from_utf8(cut).unwrap()
    }

    /// The other side has closed, and nothing is left.
    pub(crate) fn is_over(&mut self) -> bool {
        let rest = self.rest();
        assert_eq!(rest, "", "more came");
        true
    }
}

/// A scripted instance: `serve` gets each connection with its number, from 0.
pub(crate) struct Backend {
    pub(crate) addr: SocketAddr,
    pub(crate) heads: Arc<Mutex<Vec<String>>>,
}

impl Backend {
    pub(crate) fn raw(serve: impl Fn(Client, u32) + Send + Sync + 'static) -> Backend {
        Backend::raw_at(SocketAddr::new(address(), 8000), serve)
    }

    pub(crate) fn raw_at(
        addr: SocketAddr,
        serve: impl Fn(Client, u32) + Send + Sync + 'static,
    ) -> Backend {
        let listener = TcpListener::bind(addr).unwrap();
        let serve = Arc::new(serve);
        std::thread::spawn(move || {
            for number in 0.. {
                let Ok((stream, _)) = listener.accept() else { return };
                let serve = Arc::clone(&serve);
                std::thread::spawn(move || serve(Client::over(stream), number));
            }
        });
        Backend { addr, heads: Arc::default() }
    }

    /// Answers every whole request with what `answer` says; keeps their heads.
    pub(crate) fn http(answer: impl Fn(&str, u32) -> String + Send + Sync + 'static) -> Backend {
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = Arc::clone(&heads);
        let backend = Backend::raw(move |mut client, number| {
            while let Some(request) = client.message(false) {
                kept.lock().unwrap().push(request.clone());
                client.send(answer(&request, number));
            }
        });
        Backend { heads, ..backend }
    }

    /// Answers with its name.
    pub(crate) fn named(name: &'static str) -> Backend {
        Backend::http(move |_, _| ok(name))
    }

    /// Whole requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

pub(crate) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// The body of a response.
pub(crate) fn body(response: &str) -> &str {
    response.split_once("\r\n\r\n").unwrap().1
}
