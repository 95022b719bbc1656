//! UDP: datagrams of one client address go to one instance, answers come back from the address that
//! was asked.
//!
//! A session is what lies between a client's address and an instance: a socket of its own, so that
//! the instance's answers find their client. It ends when both sides have been silent for
//! `udp_idle_timeout`, when nobody listens at the instance, or when a newer one needs its place.
//!
//! Invariants: a datagram goes only to an endpoint that the table in force has as ready. When an
//! endpoint leaves, its clients' next datagrams go elsewhere, and what it still answers is
//! delivered. Nothing is held or sent twice, except that what found nobody listening goes to another
//! endpoint once: while none is ready datagrams are dropped and counted, as UDP's clients expect.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;

use net::Outcome;
use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use crate::conns::TICK;
use crate::endpoint::LocalEndpoint;
use crate::metrics::{self, CallStats, OpenSession};
use crate::service::choose;
use crate::shared::LoadGuard;
use crate::worker::{Caller, LocalListener, Worker};

/// The longest datagram, and what one over IPv6 can have.
const DATAGRAM_BYTES_MAX: usize = 64 << 10;
/// Datagrams that are passed on before others have a turn.
const TURN_MAX: usize = 64;

/// A listener and its sessions, of one thread.
struct Clients {
    worker: Rc<Worker>,
    listener: Rc<LocalListener>,
    socket: UdpSocket,
    sessions: RefCell<HashMap<SocketAddr, (Rc<Session>, AbortHandle)>>,
    /// Sessions that exist, those included that only deliver what is still answered.
    open: Rc<Cell<usize>>,
}

struct Session {
    client: SocketAddr,
    endpoint: Rc<LocalEndpoint>,
    dialled: SocketAddr,
    upstream: UdpSocket,
    stats: Rc<CallStats>,
    /// When either side last sent something.
    active: Cell<Instant>,
    outcome: Cell<Outcome>,
    open: Rc<Cell<usize>>,
    _counted: (LoadGuard, OpenSession),
}

/// Serves a listener until it is aborted; its sessions end with it.
pub(crate) async fn serve(worker: Rc<Worker>, listener: Rc<LocalListener>, socket: UdpSocket) {
    let (sessions, open) = (RefCell::default(), Rc::default());
    let clients = Rc::new(Clients { worker, listener, socket, sessions, open });
    let mut answers = JoinSet::new();
    loop {
        tokio::select! {
            readable = clients.socket.readable() => match readable {
                Ok(()) => clients.pass_on(&mut answers),
                Err(_) => tokio::time::sleep(TICK).await,
            },
            Some(_) = answers.join_next() => {}
        }
    }
}

impl Clients {
    /// Passes on what has come.
    fn pass_on(self: &Rc<Self>, answers: &mut JoinSet<()>) {
        let mut room = self.worker.datagram.borrow_mut();
        let room = sized(&mut room);
        for _ in 0..TURN_MAX {
            match self.socket.try_recv_from(room) {
                Ok((len, client)) => self.send(client, &room[..len], answers),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // About a client that is gone; the next datagram is another matter.
                Err(_) => {}
            }
        }
    }

    fn send(self: &Rc<Self>, client: SocketAddr, datagram: &[u8], answers: &mut JoinSet<()>) {
        // An error is the instance's answer to the datagram before this one: nobody listens.
        for _ in 0..2 {
            let session = match self.session(client, answers) {
                Ok(session) => session,
                Err(reason) => return self.dropped(reason),
            };
            // Not by the runtime, which takes a new socket for full until it has heard of it.
            match SockRef::from(&session.upstream).send(datagram) {
                Ok(_) => {
                    session.active.set(Instant::now());
                    return session.stats.bytes(datagram.len() as u64, 0);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.refused(&session),
            }
        }
        self.dropped("full");
    }

    /// The session of a client, with an endpoint of the table in force.
    fn session(
        self: &Rc<Self>,
        client: SocketAddr,
        answers: &mut JoinSet<()>,
    ) -> Result<Rc<Session>, &'static str> {
        if let Some((known, _)) = self.sessions.borrow().get(&client)
            && self.is_current(known)
        {
            return Ok(Rc::clone(known));
        }
        let Some(Err((endpoint, mut guard))) = choose(&self.worker, &self.listener, None) else {
            return Err("unavailable");
        };
        if self.open.get() >= self.worker.limits().udp_sessions_max && !self.evict() {
            return Err("full");
        }
        let dialled = endpoint.address.dial(self.listener.target_port());
        let from = self.listener.service.borrow().datagrams_from();
        let upstream = connect(from, dialled).map_err(|_| "no-socket")?;
        guard.become_session();
        let caller = self.worker.caller(client.ip(), &mut Caller::default());
        let stats = self.worker.stats(&endpoint, caller);
        let session = Rc::new(Session {
            client,
            dialled,
            upstream,
            active: Cell::new(Instant::now()),
            outcome: Cell::new(Outcome::Drained),
            open: Rc::clone(&self.open),
            _counted: (guard, stats.open()),
            endpoint,
            stats,
        });
        self.open.set(self.open.get() + 1);
        let answer = answer(Rc::clone(self), Rc::clone(&session));
        let handle = answers.spawn_local(answer);
        self.sessions.borrow_mut().insert(client, (Rc::clone(&session), handle));
        Ok(session)
    }

    fn is_current(&self, session: &Session) -> bool {
        !session.endpoint.retired.get()
            && session.dialled == session.endpoint.address.dial(self.listener.target_port())
            && session.endpoint.service == self.listener.service.borrow().name
    }

    /// Ends the session that has been silent longest; `false` when all only wait for answers.
    fn evict(&self) -> bool {
        let mut sessions = self.sessions.borrow_mut();
        let oldest = sessions.iter().min_by_key(|(_, (session, _))| session.active.get());
        let Some(client) = oldest.map(|(client, _)| *client) else { return false };
        if let Some((session, answer)) = sessions.remove(&client) {
            session.outcome.set(Outcome::TimedOut);
            answer.abort();
        }
        true
    }

    /// Nobody listens at a session's endpoint: the next datagram goes to another one.
    fn refused(&self, session: &Rc<Session>) {
        session.endpoint.set_aside(self.worker.now());
        session.outcome.set(Outcome::Broken);
        self.end(session);
    }

    fn end(&self, session: &Rc<Session>) {
        let mut sessions = self.sessions.borrow_mut();
        if sessions.get(&session.client).is_some_and(|(known, _)| Rc::ptr_eq(known, session))
            && let Some((_, answer)) = sessions.remove(&session.client)
        {
            answer.abort();
        }
    }

    fn dropped(&self, reason: &'static str) {
        let service = self.listener.service.borrow();
        metrics::dropped(self.worker.registry(), service.name.as_str(), reason);
    }

    /// Delivers the answers that have come; an error when nobody listens there.
    fn deliver(&self, session: &Session) -> io::Result<()> {
        let mut room = self.worker.datagram.borrow_mut();
        let room = sized(&mut room);
        for _ in 0..TURN_MAX {
            let len = match session.upstream.try_recv(room) {
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            session.active.set(Instant::now());
            session.endpoint.answers();
            let client = session.client.into();
            match SockRef::from(&self.socket).send_to(&room[..len], &client) {
                Ok(_) => session.stats.bytes(0, len as u64),
                Err(_) => self.dropped("full"),
            }
        }
        Ok(())
    }
}

/// Delivers an instance's answers until the session ends.
async fn answer(clients: Rc<Clients>, session: Rc<Session>) {
    let idle = clients.worker.limits().udp_idle_timeout;
    loop {
        let end = session.active.get() + idle;
        match tokio::time::timeout_at(end, session.upstream.readable()).await {
            Err(_) if session.active.get() + idle <= Instant::now() => {
                session.outcome.set(Outcome::Finished);
                break;
            }
            Err(_) => {}
            Ok(Ok(())) if clients.deliver(&session).is_ok() => {}
            Ok(_) => return clients.refused(&session),
        }
    }
    clients.end(&session);
}

impl Drop for Session {
    fn drop(&mut self) {
        self.open.set(self.open.get() - 1);
        self.stats.session(self.outcome.get());
    }
}

fn connect(from: Option<IpAddr>, to: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = std::net::UdpSocket::bind((from.unwrap_or(any), 0))?;
    socket.connect(to)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

fn sized(room: &mut Box<[u8]>) -> &mut [u8] {
    if room.is_empty() {
        *room = vec![0; DATAGRAM_BYTES_MAX].into_boxed_slice();
    }
    room
}
