//! Where connections enter: listeners, TLS, sessions, connection limits and drain.
//!
//! Not here: any protocol, what a connection is for, and who may do what.
//!
//! Vocabulary: [`bind_tcp`], [`bind_udp`] and [`bind_unix`] make listeners or say who is in the way,
//! [`ConnectionLimit`] bounds how many sessions there are, [`Outcome`] names how one ended, [`drain`]
//! ends them in good order; [`Tls`] takes a connection through its handshake and [`Stream`] is what
//! comes of it, with TLS or without; [`peer_uid`] tells whose process is at the other end,
//! [`far_end`] whether any is.

mod bind;
mod descriptors;
mod drain;
mod far_end;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod holder;
mod limit;
mod local;
mod peer;
mod session;
mod tls;

pub use bind::{BindError, TcpBind, bind_tcp, bind_udp, bind_unix};
pub use descriptors::descriptors;
pub use drain::{Drain, DrainTrigger, drain};
pub use far_end::{FarEnd, far_end};
pub use holder::{Holder, holder_of, udp_holder_of};
pub use limit::{ConnectionLimit, ConnectionPermit};
pub use local::local_addresses;
pub use peer::{own_uid, peer_uid};
pub use session::Outcome;
pub use tls::{
    ClientCertificates, HandshakeError, Made, Stream, Subject, Tls, TlsConfig, TlsError,
    make_certificate,
};
