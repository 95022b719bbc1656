//! Logging in: SASL with PLAIN and SCRAM, and what a connection may ask for before.
//!
//! Not here: what a client proves (`security`). Invariants: a listener that demands a login serves
//! nothing else before; a failed login ends the connection once it was answered; a login that is
//! over has to be renewed by the same principal.
//!
//! Requests of this file are served while they are read, before the next is looked at.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base::SteadyNanos;
use bytes::{BufMut, Bytes, BytesMut};
use kafka_wire::{RequestHeader, sasl_authenticate as authenticate, sasl_handshake as handshake};

use super::errors::code;
use super::listener::Listener;
use super::{Front, Session};
use crate::security::credentials::plain_message;
use crate::security::scram::{Exchange, First, Mechanism as Scram};

/// Whoever says nothing.
const ANONYMOUS: &str = "User:ANONYMOUS";

/// A failed login is answered no sooner.
const FAILURE_DELAY: Duration = Duration::from_millis(100);

/// How a client says who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// User and password as they are.
    Plain,
    /// A proof of the password.
    Scram(Scram),
}

impl Mechanism {
    /// All that can be offered.
    pub const ALL: [Mechanism; 3] =
        [Mechanism::Plain, Mechanism::Scram(Scram::Sha256), Mechanism::Scram(Scram::Sha512)];

    /// As it is called on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::Scram(scram) => scram.name(),
        }
    }

    /// By its name.
    pub fn named(name: &str) -> Option<Mechanism> {
        Mechanism::ALL.into_iter().find(|mechanism| mechanism.name() == name)
    }
}

/// How far a connection's login is.
#[derive(Debug)]
pub(crate) struct Login {
    state: Mutex<State>,
    /// Nothing more is read.
    over: AtomicBool,
    /// Until when it is silent, in steady nanoseconds.
    muted: AtomicU64,
}

#[derive(Debug)]
struct State {
    principal: Arc<str>,
    is_known: bool,
    /// When the login has to be renewed.
    until: Option<SteadyNanos>,
    step: Step,
    /// The first form of the handshake: messages follow without a request around them.
    bare: bool,
}

#[derive(Debug)]
enum Step {
    None,
    Chosen(Mechanism),
    Challenged(Box<Exchange>),
    /// The server's last word was said; some clients send an empty one after it.
    Said,
}

impl Login {
    pub(super) fn new(listener: &Listener, subject: Option<&net::Subject>) -> Login {
        let principal =
            subject.map_or(ANONYMOUS.into(), |subject| format!("User:{subject}").into());
        // A certificate is who a client is where nothing else is asked for.
        let is_known = listener.anonymous || subject.is_some() && listener.mechanisms.is_empty();
        let state = State { principal, is_known, until: None, step: Step::None, bare: false };
        let (over, muted) = (AtomicBool::new(false), AtomicU64::new(0));
        Login { state: Mutex::new(state), over, muted }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whom the connection acts for.
    pub(super) fn principal(&self) -> Arc<str> {
        Arc::clone(&self.state().principal)
    }

    /// Whether the connection ends once everything is answered.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Whether requests are served that tell or change anything.
    pub(super) fn may_ask(&self, now: SteadyNanos) -> bool {
        let state = self.state();
        state.is_known && state.until.is_none_or(|until| now < until)
    }

    /// Whether the next frame is a message of a login and no request.
    pub(super) fn is_bare(&self) -> bool {
        self.state().bare
    }
}

impl Session {
    /// Where the client is, as access rules have it.
    pub(super) fn host(&self) -> String {
        self.peer.ip().to_canonical().to_string()
    }

    /// Makes the connection silent for a time.
    pub(super) fn mute(&self, now: SteadyNanos, wait: Duration) {
        if !wait.is_zero() {
            self.login.muted.fetch_max(now.plus(wait).0, Ordering::Relaxed);
        }
    }

    /// How long it is silent still.
    pub(super) fn muted(&self, now: impl Fn() -> SteadyNanos) -> Duration {
        match self.login.muted.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            until => SteadyNanos(until).since(now()),
        }
    }
}

/// Chooses a mechanism.
pub(crate) fn handshake(
    session: &Session,
    header: &RequestHeader,
    request: &handshake::Request,
) -> handshake::Response {
    let offered = &session.listener.mechanisms;
    let mechanisms = offered.iter().map(|mechanism| mechanism.name().into()).collect();
    let chosen = Mechanism::named(&request.mechanism).filter(|one| offered.contains(one));
    let error_code = match chosen {
        _ if offered.is_empty() => code::ILLEGAL_SASL_STATE,
        None => code::UNSUPPORTED_SASL_MECHANISM,
        Some(mechanism) => {
            let mut state = session.login.state();
            state.step = Step::Chosen(mechanism);
            state.bare = header.version == 0;
            code::NONE
        }
    };
    if error_code != code::NONE {
        session.login.over.store(true, Ordering::Relaxed);
    }
    handshake::Response { error_code, mechanisms }
}

/// One message of a login.
pub(crate) async fn authenticate(
    front: &Front,
    session: &Session,
    request: &authenticate::Request,
) -> authenticate::Response {
    let answered = step(front, session, &request.auth_bytes).await;
    let (error_code, why) = match answered {
        Ok(auth_bytes) => {
            let until = session.login.state().until;
            let left =
                until.map_or(0, |until| until.since(front.guard.clock().steady()).as_millis());
            return authenticate::Response {
                auth_bytes,
                session_lifetime_ms: i64::try_from(left).unwrap_or(i64::MAX),
                ..authenticate::Response::default()
            };
        }
        Err(refused) => refused,
    };
    session.login.over.store(true, Ordering::Relaxed);
    authenticate::Response {
        error_code,
        error_message: Some(why.into()),
        ..authenticate::Response::default()
    }
}

/// The same without a request around it: the frame of the answer.
pub(crate) async fn bare(
    front: &Front,
    session: &Session,
    message: Bytes,
) -> Result<Bytes, String> {
    let answer = step(front, session, &message).await.map_err(|(_, why)| why.to_owned())?;
    let is_done = matches!(session.login.state().step, Step::None | Step::Said);
    if is_done {
        session.login.state().bare = false;
    }
    let mut frame = BytesMut::with_capacity(4 + answer.len());
    frame.put_u32(u32::try_from(answer.len()).unwrap_or(0));
    frame.put_slice(&answer);
    Ok(frame.freeze())
}

type Refused = (i16, &'static str);

const WRONG: Refused =
    (code::SASL_AUTHENTICATION_FAILED, "Authentication failed: invalid user or password.");

async fn step(front: &Front, session: &Session, message: &[u8]) -> Result<Bytes, Refused> {
    let step = std::mem::replace(&mut session.login.state().step, Step::None);
    let done = match step {
        Step::None => {
            return Err((code::ILLEGAL_SASL_STATE, "A mechanism has to be chosen first."));
        }
        Step::Said if message.is_empty() => return Ok(Bytes::new()),
        Step::Said => return Err((code::ILLEGAL_SASL_STATE, "The login is done already.")),
        Step::Chosen(Mechanism::Plain) => plain(front, session, message).await,
        Step::Chosen(Mechanism::Scram(scram)) => match First::parse(message) {
            Err(_) => Err(()),
            Ok(first) => {
                let credential = front.guard.scram(&first.user, scram);
                let random = front.random().to_be_bytes();
                let exchange = first.challenge(scram, credential, &random);
                let challenge = Bytes::copy_from_slice(exchange.challenge().as_bytes());
                session.login.state().step = Step::Challenged(Box::new(exchange));
                return Ok(challenge);
            }
        },
        Step::Challenged(exchange) => match exchange.finish(message) {
            Err(_) => Err(()),
            Ok(last) => known(front, session, exchange.user()).map(|()| {
                session.login.state().step = Step::Said;
                Bytes::from(last)
            }),
        },
    };
    match done {
        Ok(answer) => Ok(answer),
        Err(()) => {
            front.counts.logins_failed.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(FAILURE_DELAY).await;
            Err(WRONG)
        }
    }
}

async fn plain(front: &Front, session: &Session, message: &[u8]) -> Result<Bytes, ()> {
    let (user, password) = plain_message(message).ok_or(())?;
    if !front.guard.is_password(user, password).await {
        return Err(());
    }
    known(front, session, user)?;
    Ok(Bytes::new())
}

/// Takes a login over; a renewed one must be of the same principal.
fn known(front: &Front, session: &Session, user: &str) -> Result<(), ()> {
    let principal = format!("User:{user}");
    let mut state = session.login.state();
    if state.until.is_some() && *state.principal != *principal {
        return Err(());
    }
    state.principal = principal.into();
    state.is_known = true;
    let now = front.guard.clock().steady();
    state.until = front.guard.login_max().map(|most| now.plus(most));
    Ok(())
}
