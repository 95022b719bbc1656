//! A TCP session: bytes both ways to the endpoint that was chosen when it began.

use std::net::SocketAddr;
use std::rc::Rc;

use net::Outcome;

use crate::buffer::Buffer;
use crate::service::{Target, acquire_session};
use crate::socket::Socket;
use crate::tunnel;
use crate::worker::{Caller, ConnGuard, LocalListener, Worker};

/// Serves a connection from its first byte.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    listener: Rc<LocalListener>,
    guard: ConnGuard,
    stream: Socket,
    peer: SocketAddr,
) {
    if let Some(target) = acquire_session(&worker, &listener).await {
        let first = (Buffer::default(), Buffer::default());
        run(&worker, &stream, peer, target, first).await;
    }
    drop(guard);
}

/// Runs a session whose endpoint is known. `first`: bytes of client and instance already read.
pub(crate) async fn run(
    worker: &Rc<Worker>,
    stream: &Socket,
    peer: SocketAddr,
    target: Target,
    first: (Buffer, Buffer),
) {
    let caller = worker.caller(peer.ip(), &mut Caller::default());
    let stats = worker.stats(&target.endpoint, caller);
    let outcome = Box::pin(tunnel::run(worker, &stats, (stream, &target.stream), first)).await;
    stats.session(outcome);
    if outcome == Outcome::Broken {
        // What one side did not end in order must not look ended in order to the other.
        stream.reset_on_close();
        target.stream.reset_on_close();
    }
}
