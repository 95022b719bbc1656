//! A client's HTTP connection: one request after the other, each to an endpoint of its own.
//!
//! Not here: how bytes of one request move (`exchange`) and where it goes (`service`).

use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use crate::answer::{self, Answer};
use crate::buffer::Buffer;
use crate::conns::ticks;
use crate::endpoint::Idle;
use crate::exchange::{Done, Exchange, Failed, Work, may_repeat};
use crate::http::{Ending, Forwarding, HeadScan, Method, Refusal, Request, request_head};
use crate::metrics;
use crate::pump::{Pump, poll_fill};
use crate::service::{Chosen, Target, Unavailable, choose, connect_or_hold};
use crate::shared::Bound;
use crate::socket::Socket;
use crate::tunnel;
use crate::worker::{Caller, ConnGuard, LocalListener, Worker};
use base::ServiceName;

/// How often a request goes to another endpoint after a connection ended without an answer. Few,
/// so that a request that kills instances does not kill all of them.
const REPEATS_MAX: u32 = 2;

/// What is counted when the client did not wait for an answer; nginx's number for it.
const CLIENT_GONE: u16 = 499;

/// Serves a connection from its first byte.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    listener: Rc<LocalListener>,
    guard: ConnGuard,
    stream: Socket,
    peer: SocketAddr,
) {
    serve_after(worker, listener, guard, stream, peer, Buffer::default()).await;
}

/// Serves a connection of which `first` has been read already.
pub(crate) async fn serve_after(
    worker: Rc<Worker>,
    listener: Rc<LocalListener>,
    guard: ConnGuard,
    stream: Socket,
    peer: SocketAddr,
    first: Buffer,
) {
    let mut client = Client { worker, listener, guard, stream, peer, caller: Caller::default() };
    let mut work = None;
    if !first.is_empty() {
        let mut begun = client.worker.take_work();
        client.worker.buffers.put(std::mem::replace(&mut begun.down, first));
        work = Some(begun);
    }
    loop {
        let mut at_hand = match work.take() {
            Some(work) => work,
            None => match client.wait().await {
                Some(work) => work,
                None => return,
            },
        };
        let next = client.request(&mut at_hand).await;
        if next == Next::Request && !at_hand.down.is_empty() {
            work = Some(at_hand);
            continue;
        }
        client.worker.put_work(at_hand);
        match next {
            Next::Request => {}
            Next::Close => return answer::linger(&client.stream).await,
            Next::Abort => return,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Request,
    /// Close so that the client can still read its answer.
    Close,
    /// Close at once: the client must not take what it has for whole.
    Abort,
}

struct Client {
    worker: Rc<Worker>,
    listener: Rc<LocalListener>,
    guard: ConnGuard,
    stream: Socket,
    peer: SocketAddr,
    caller: Caller,
}

impl Client {
    /// Waits for the first bytes of a request, holding no buffer; `None` when none will come.
    async fn wait(&self) -> Option<Box<Work>> {
        let conn = &self.guard.conn;
        conn.set_deadline(self.worker.now() + self.worker.ticks.idle);
        // What wakes it is nearly always a request: only the first look is one without a buffer.
        let mut woken = false;
        poll_fn(|cx| {
            if woken || self.stream.poll_maybe_readable(cx).is_ready() {
                let mut work = self.worker.take_work();
                match poll_fill(cx, &self.stream, &mut work.down) {
                    Poll::Ready(Some(count)) if count > 0 => return Poll::Ready(Some(work)),
                    Poll::Ready(_) => {
                        self.worker.put_work(work);
                        return Poll::Ready(None);
                    }
                    Poll::Pending => self.worker.put_work(work),
                }
            }
            if conn.is_leaving() || self.worker.is_draining() || conn.poll_expired(cx).is_ready() {
                return Poll::Ready(None);
            }
            woken = true;
            Poll::Pending
        })
        .await
    }

    /// Serves one request; `work.down` may hold its beginning, and afterwards that of the next.
    async fn request(&mut self, work: &mut Work) -> Next {
        let request = match self.read_head(work).await {
            Ok(Some(request)) => request,
            Ok(None) => return Next::Abort,
            Err(refusal) => return self.refuse(Method::Get, refusal),
        };
        let started = self.worker.shared.config.clock.monotonic();
        let mut upload = Pump::new(request.framing.clone(), false);
        if let Err(refusal) = upload.begin(&mut work.down) {
            return self.refuse(request.method, refusal);
        }
        let mut served =
            Served { method: request.method, started, status: 0, stats: None, counted: false };
        let next = self.forward(work, &request, &mut upload, &mut served).await;
        if served.status != 0 {
            let caller = self.worker.caller(self.peer.ip(), &mut self.caller);
            let stats = served
                .stats
                .take()
                .unwrap_or_else(|| self.listener.service.borrow().stats(caller, &self.worker));
            served.count(&stats, self.worker.shared.config.clock.monotonic());
        }
        next
    }

    /// Reads a head and writes the one to forward; `None` when the client ended before it.
    async fn read_head(&self, work: &mut Work) -> Result<Option<Request>, Refusal> {
        let limits = self.worker.limits();
        let conn = &self.guard.conn;
        conn.set_deadline(self.worker.now() + self.worker.ticks.head);
        let mut scan = HeadScan::default();
        let mut skipped = false;
        let len = loop {
            // One empty line before a request is tolerated: old clients end bodies with it.
            if !skipped && work.down.bytes().starts_with(b"\r\n") {
                work.down.consume(2);
                skipped = true;
            }
            let partial_line = !skipped && work.down.bytes() == b"\r";
            if !partial_line
                && let Some(len) = scan.advance(work.down.bytes(), limits.head_bytes_max)?
            {
                break len;
            }
            let filled = poll_fn(|cx| match poll_fill(cx, &self.stream, &mut work.down) {
                Poll::Ready(filled) => Poll::Ready(Ok(filled)),
                Poll::Pending => conn.poll_expired(cx).map(|()| Err(Refusal::HeadTimeout)),
            });
            if !matches!(filled.await?, Some(count) if count > 0) {
                return Ok(None);
            }
        };
        let head = &work.down.bytes()[..len];
        let request = Request::parse(head, limits.header_fields_max, &mut work.fields)?;
        let published = self.listener.is_published();
        if published && request.method == Method::Trace {
            return Err(Refusal::Trace);
        }
        let forwarding = published.then_some(Forwarding { client: self.peer.ip() });
        let service = self.listener.service.borrow();
        let name = service.name.as_str();
        request_head(&mut work.out, head, &request, &work.fields, name, forwarding);
        work.down.consume(len);
        Ok(Some(request))
    }

    /// Sends the request on until an endpoint answers it, or nothing can be done.
    async fn forward(
        &mut self,
        work: &mut Work,
        request: &Request,
        upload: &mut Pump,
        served: &mut Served,
    ) -> Next {
        let mut repeats = 0;
        loop {
            // A request that cannot be repeated does not risk a connection that the instance may
            // be closing at this moment: only those used within the last ticks.
            let now = self.worker.now();
            let after = if repeats > 0 {
                None
            } else if request.method.is_idempotent() && upload.is_kept() {
                Some(0)
            } else {
                Some(now.saturating_sub(2))
            };
            self.guard.conn.set_deadline(0);
            // Taken before the target: an answer must not speak for a route that came later.
            let unknown_route = self.listener.unknown_route();
            let target = match choose(&self.worker, &self.listener, after) {
                Some(Ok(target)) => target,
                other => {
                    let chosen = other.and_then(Result::err);
                    // Boxed, so that idle connections do not carry the room for it.
                    match Box::pin(self.connect(chosen)).await {
                        Some(Ok(target)) => target,
                        Some(Err(unavailable)) => {
                            let answer = Answer::unavailable(&self.service(), &unavailable);
                            return self.answer(work, request, upload, served, &answer);
                        }
                        None => {
                            served.status = CLIENT_GONE;
                            return Next::Abort;
                        }
                    }
                }
            };
            let caller = self.worker.caller(self.peer.ip(), &mut self.caller);
            let stats = self.worker.stats(&target.endpoint, caller);
            served.stats = Some(Rc::clone(&stats));
            let result =
                self.exchange(work, request, upload, &stats, (&target, unknown_route)).await;
            match result {
                Ok(done) => return self.finish(work, target, done, served, &stats).await,
                Err(Failed::Unanswered) if self.may_try_again(request, upload, repeats) => {
                    repeats += 1;
                    upload.rewind();
                    self.worker.buffers.put(std::mem::take(&mut work.up));
                    metrics::retried(self.worker.registry(), self.service().as_str(), "stale");
                }
                Err(failed) => return self.fail(work, request, upload, served, &target, failed),
            }
        }
    }

    /// Connects to an endpoint, or waits for one; `None` when the client hung up before.
    async fn connect(&self, chosen: Option<Chosen>) -> Option<Result<Target, Unavailable>> {
        tokio::select! {
            biased;
            target = connect_or_hold(&self.worker, &self.listener, chosen) => Some(target),
            () = self.stream.gone() => None,
        }
    }

    fn may_try_again(&self, request: &Request, upload: &Pump, repeats: u32) -> bool {
        repeats < REPEATS_MAX && may_repeat(request.method, upload)
    }

    async fn exchange(
        &self,
        work: &mut Work,
        request: &Request,
        upload: &mut Pump,
        stats: &metrics::CallStats,
        (target, mut unknown_route): (&Target, Option<Arc<Bound>>),
    ) -> Result<Done, Failed> {
        let streams = (&self.stream, &target.stream);
        let mut exchange =
            Exchange::new(&self.worker, &self.guard.conn, streams, request, work, upload);
        poll_fn(|cx| {
            let polled = exchange.poll(cx);
            // Not only at its end: an answer may last for days.
            if exchange.is_answered()
                && let Some(route) = unknown_route.take()
            {
                route.speaks_http.store(true, Ordering::Relaxed);
            }
            if polled.is_ready() || exchange.is_long() {
                exchange.count(stats);
            }
            polled
        })
        .await
    }

    /// After a response: what becomes of both connections.
    async fn finish(
        &self,
        work: &mut Work,
        mut target: Target,
        done: Done,
        served: &mut Served,
        stats: &metrics::CallStats,
    ) -> Next {
        served.status = done.status;
        match done.ending {
            Ending::Upgrade => {
                target.guard.become_session();
                self.guard.conn.set_deadline(0);
                served.count(stats, self.worker.shared.config.clock.monotonic());
                let first = (std::mem::take(&mut work.down), std::mem::take(&mut work.up));
                let streams = (&self.stream, &target.stream);
                Box::pin(tunnel::run(&self.worker, stats, streams, first)).await;
                Next::Abort
            }
            ending => {
                self.worker.buffers.put(std::mem::take(&mut work.up));
                if done.reusable {
                    self.keep(target, done.reusable_seconds);
                }
                if ending == Ending::KeepAlive { Next::Request } else { Next::Close }
            }
        }
    }

    fn keep(&self, target: Target, seconds: Option<u32>) {
        let now = self.worker.now();
        let mut lives = self.worker.ticks.pool_idle;
        if let Some(seconds) = seconds {
            // A second less than the instance says: it may count from earlier.
            let said = std::time::Duration::from_secs(u64::from(seconds.saturating_sub(1)));
            lives = lives.min(ticks(said));
        }
        let Target { endpoint, guard, stream, dialled, .. } = target;
        // Counted down before the connection is offered again, never after.
        drop(guard);
        let idle = Idle { stream, dialled, since: now, until: now + lives };
        endpoint.put_idle(idle, self.worker.limits().pool_idle_max);
    }

    fn fail(
        &self,
        work: &mut Work,
        request: &Request,
        upload: &mut Pump,
        served: &mut Served,
        target: &Target,
        failed: Failed,
    ) -> Next {
        let refusal = match failed {
            Failed::Refused(refusal) => refusal,
            Failed::Unanswered => Refusal::UpstreamBroke,
            Failed::Truncated(_) => {
                served.status = 502;
                return Next::Abort;
            }
            Failed::ClientGone(status) => {
                served.status = status.unwrap_or(CLIENT_GONE);
                return Next::Abort;
            }
        };
        if refusal.status() < 500 {
            // The rest of the request's body was refused: the instance never saw its end.
            served.status = refusal.status();
            return self.refuse(request.method, refusal);
        }
        let answer = Answer::failed(&self.service(), &target.endpoint.instance, refusal);
        self.answer(work, request, upload, served, &answer)
    }

    /// Answers in place of an instance. The connection goes on when the request was read whole.
    fn answer(
        &self,
        work: &mut Work,
        request: &Request,
        upload: &mut Pump,
        served: &mut Served,
        answer: &Answer,
    ) -> Next {
        metrics::refused(self.worker.registry(), self.service().as_str(), answer.refusal);
        let goes_on = request.keep_alive
            && upload.framing.is_done()
            && !self.guard.conn.is_leaving()
            && !self.worker.is_draining();
        upload.discard(&mut work.down);
        served.status = answer.refusal.status();
        let sent = answer.send(&self.stream, request.method, goes_on);
        match (sent, goes_on) {
            (true, true) => Next::Request,
            (true, false) => Next::Close,
            (false, _) => Next::Abort,
        }
    }

    fn refuse(&self, method: Method, refusal: Refusal) -> Next {
        metrics::refused(self.worker.registry(), self.service().as_str(), refusal);
        let sent = Answer::refused(refusal).send(&self.stream, method, false);
        if sent { Next::Close } else { Next::Abort }
    }

    fn service(&self) -> ServiceName {
        self.listener.service.borrow().name.clone()
    }
}

/// What is counted of a request.
struct Served {
    method: Method,
    started: Duration,
    status: u16,
    stats: Option<Rc<metrics::CallStats>>,
    counted: bool,
}

impl Served {
    /// Counts the request once: when it is answered, or when its connection becomes a tunnel,
    /// whose length says nothing about how long the answer took.
    fn count(&mut self, stats: &metrics::CallStats, now: Duration) {
        if !std::mem::replace(&mut self.counted, true) {
            let took = now.saturating_sub(self.started);
            let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            stats.request(self.method, self.status, micros);
        }
    }
}
