//! The sockets on which questions arrive.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use net::{BindError, ConnectionLimit, TcpBind};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::machine::Machine;
use crate::message::{self, Code, Question};
use crate::{PORT, Scope, Table, forward};

/// Questions over UDP that are with other servers; past it they are answered as failed.
const FORWARDED_MAX: usize = 512;
/// Connections; more wait to be accepted.
const CONNECTIONS_MAX: usize = 64;
/// How long a connection may be silent.
const SILENT_MAX: Duration = Duration::from_secs(10);
/// The longest question over UDP. It is a name and a few options.
const QUESTION_BYTES_MAX: usize = 4096;
/// Pause after a socket failed for a reason of its own.
const PAUSE: Duration = Duration::from_millis(100);

/// Where questions arrive.
pub struct Responder {
    udp: UdpSocket,
    tcp: TcpListener,
    machine: Mutex<Machine>,
}

/// Listens on port 53 of an address, inside a Tokio runtime.
pub fn bind(ip: IpAddr) -> Result<Responder, BindError> {
    bind_at(SocketAddr::new(ip, PORT), PathBuf::from("/etc/resolv.conf"))
}

pub(crate) fn bind_at(addr: SocketAddr, resolver: PathBuf) -> Result<Responder, BindError> {
    let other =
        |cause: std::io::Error| BindError::Other { on: addr.to_string(), cause: cause.to_string() };
    let nothing = || other(std::io::Error::other("no socket"));
    let udp = net::bind_udp(addr, 1)?.pop().ok_or_else(nothing)?;
    let addr = udp.local_addr().map_err(other)?;
    let tcp = net::bind_tcp(TcpBind::new(addr))?.pop().ok_or_else(nothing)?;
    Ok(Responder {
        udp: UdpSocket::from_std(udp).map_err(other)?,
        tcp: TcpListener::from_std(tcp).map_err(other)?,
        machine: Mutex::new(Machine::new(resolver)),
    })
}

/// What becomes of a question.
enum Fate {
    Answered(Vec<u8>),
    Ignored,
    /// These servers are asked.
    PassedOn(Vec<SocketAddr>),
}

impl Responder {
    /// Answers until dropped.
    pub async fn serve(self, table: watch::Receiver<Arc<Table>>) {
        let this = Arc::new(self);
        tokio::join!(Arc::clone(&this).datagrams(table.clone()), this.connections(table));
    }

    async fn datagrams(self: Arc<Self>, table: watch::Receiver<Arc<Table>>) {
        let mut forwarded = JoinSet::new();
        let mut room = vec![0; QUESTION_BYTES_MAX];
        loop {
            let (length, caller) = tokio::select! {
                received = self.udp.recv_from(&mut room) => match received {
                    Ok(received) => received,
                    // About somebody who is gone, or memory is short.
                    Err(_) => { tokio::time::sleep(PAUSE).await; continue }
                },
                Some(_) = forwarded.join_next() => continue,
            };
            let scope = table.borrow().scope(caller.ip());
            let message = &room[..length];
            let answer = match (self.fate(message, scope.as_deref()), message::read(message)) {
                (Fate::Answered(answer), _) => answer,
                (Fate::PassedOn(_), Ok(question)) if forwarded.len() >= FORWARDED_MAX => {
                    question.head(Code::Failed)
                }
                (Fate::PassedOn(servers), _) => {
                    let (this, message) = (Arc::clone(&self), message.to_vec());
                    forwarded.spawn(async move {
                        let Ok(question) = message::read(&message) else { return };
                        let answer = forward::ask(&question, &message, &servers).await;
                        let answer = answer.unwrap_or_else(|| question.head(Code::Failed));
                        let _it_asks_again = this.udp.send_to(&answer, caller).await;
                    });
                    continue;
                }
                (Fate::Ignored, _) => continue,
            };
            let _it_asks_again = self.udp.try_send_to(&answer, caller);
        }
    }

    async fn connections(self: Arc<Self>, table: watch::Receiver<Arc<Table>>) {
        let limit = ConnectionLimit::new(CONNECTIONS_MAX);
        let mut open = JoinSet::new();
        loop {
            let permit = limit.acquire().await;
            while open.try_join_next().is_some() {}
            let Ok((stream, caller)) = self.tcp.accept().await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let scope = table.borrow().scope(caller.ip());
            let this = Arc::clone(&self);
            open.spawn(async move {
                this.connection(stream, scope).await;
                drop(permit);
            });
        }
    }

    async fn connection(&self, mut stream: TcpStream, scope: Option<Arc<Scope>>) {
        while let Ok(Ok(message)) = timeout(SILENT_MAX, forward::receive(&mut stream)).await {
            let answer = match self.fate(&message, scope.as_deref()) {
                Fate::Answered(answer) => answer,
                Fate::Ignored => return,
                Fate::PassedOn(servers) => match forward::ask_by_tcp(&message, &servers).await {
                    Some(answer) => answer,
                    None => return,
                },
            };
            let sent = timeout(SILENT_MAX, forward::send(&mut stream, &answer)).await;
            if !matches!(sent, Ok(Ok(()))) {
                return;
            }
        }
    }

    fn fate(&self, message: &[u8], scope: Option<&Scope>) -> Fate {
        let question = match message::read(message) {
            Ok(question) => question,
            Err(Some(answer)) => return Fate::Answered(answer),
            Err(None) => return Fate::Ignored,
        };
        let Some(scope) = scope else { return Fate::Answered(question.head(Code::Refused)) };
        let mut machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        machine.look_again();
        let known = |question: &Question<'_>| {
            Some(question.answer(scope.find(question.name()?, &machine.search)?))
        };
        match known(&question) {
            Some(answer) => Fate::Answered(answer),
            None if scope.inside => Fate::Answered(question.head(Code::NoSuchName)),
            None => Fate::PassedOn(scope.servers(&machine.servers)),
        }
    }
}

#[cfg(test)]
mod tests;
