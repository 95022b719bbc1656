//! One request and its response between two connected sockets.
//!
//! Both directions move at once: an answer may begin before the request has ended. The states of
//! a response: its head is awaited, an interim head is passed on (and the next awaited), the final
//! head and body are passed on.
//!
//! A client that ends its half after a whole request gets its answer. One that has hung up does not
//! wait for it: the instance's connection is closed, so that work for nobody can stop. The two look
//! alike until `net::far_end` has told them apart, which it can for clients on this host; of others
//! it is assumed that they wait. A next request that was sent early hides such an end.

use std::task::{Context, Poll};

use net::FarEnd;

use crate::buffer::{BUFFER_BYTES, Buffer};
use crate::conns::Conn;
use crate::http::{Ending, Field, Framing, HeadScan, Refusal, Request, Response, Version};
use crate::http::{Method, response_head};
use crate::metrics::{CallStats, Passed};
use crate::pump::{Break, Pump, poll_fill_lent};
use crate::socket::{Peeked, Socket};
use crate::worker::Worker;

/// What a request needs while it is under way; kept and lent by the thread.
#[derive(Default)]
pub(crate) struct Work {
    /// Bytes from the client.
    pub(crate) down: Buffer,
    /// Bytes from the instance.
    pub(crate) up: Buffer,
    /// The head for the instance.
    pub(crate) out: Vec<u8>,
    /// The head for the client.
    pub(crate) back: Vec<u8>,
    pub(crate) fields: Vec<Field>,
}

/// A response that got through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    pub(crate) status: u16,
    pub(crate) ending: Ending,
    /// The instance's connection can serve another request, for this many seconds at most.
    pub(crate) reusable: bool,
    pub(crate) reusable_seconds: Option<u32>,
}

/// A response that did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    /// The instance closed before it answered anything.
    Unanswered,
    /// Nothing has been sent to the client, who is to be told this.
    Refused(Refusal),
    /// The instance broke off after this status was passed on.
    Truncated(u16),
    /// The client is gone, after this status if any.
    ClientGone(Option<u16>),
}

/// Steps of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Head,
    Interim,
    Final,
}

pub(crate) struct Exchange<'a> {
    pub(crate) worker: &'a Worker,
    pub(crate) conn: &'a Conn,
    pub(crate) client: &'a Socket,
    pub(crate) upstream: &'a Socket,
    pub(crate) request: &'a Request,
    pub(crate) work: &'a mut Work,
    pub(crate) upload: &'a mut Pump,
    state: State,
}

struct State {
    uploading: bool,
    upload_failed: bool,
    step: Step,
    scan: HeadScan,
    heard: bool,
    /// The client has sent a next request already.
    pipelined: bool,
    /// The client sends no more; from this tick on it is asked after.
    ended: Option<u64>,
    /// Bytes that had moved when the deadline was last put off.
    moved: Option<u64>,
    passed: Passed,
    download: Pump,
    status: u16,
    ending: Ending,
    keep_alive: bool,
    keep_alive_seconds: Option<u32>,
}

impl<'a> Exchange<'a> {
    pub(crate) fn new(
        worker: &'a Worker,
        conn: &'a Conn,
        (client, upstream): (&'a Socket, &'a Socket),
        request: &'a Request,
        work: &'a mut Work,
        upload: &'a mut Pump,
    ) -> Exchange<'a> {
        let state = State {
            uploading: true,
            upload_failed: false,
            step: Step::Head,
            scan: HeadScan::default(),
            heard: false,
            pipelined: false,
            ended: None,
            moved: None,
            passed: Passed::default(),
            download: Pump::new(Framing::None, false),
            status: 0,
            ending: Ending::Close,
            keep_alive: false,
            keep_alive_seconds: None,
        };
        Exchange { worker, conn, client, upstream, request, work, upload, state }
    }

    /// Counts the bytes that have passed either way since it was last asked to.
    pub(crate) fn count(&mut self, stats: &CallStats) {
        self.state.passed.count(stats, self.upload.moved, self.state.download.moved);
    }

    /// Some bytes have passed and more may, for long: they are to be counted while they do.
    pub(crate) fn is_long(&self) -> bool {
        self.is_answered() || self.upload.moved > BUFFER_BYTES as u64
    }

    /// The instance has begun to answer, in HTTP.
    pub(crate) fn is_answered(&self) -> bool {
        self.state.status != 0
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Done, Failed>> {
        let polled = self.poll_both(cx);
        if polled.is_pending() {
            if self.poll_hung_up(cx).is_ready() {
                return Poll::Ready(Err(self.client_gone()));
            }
            if self.conn.poll_expired(cx).is_ready() {
                let by_client = self.state.uploading && self.upload.waits_for_more(&self.work.out);
                let why = if by_client { Refusal::BodyTimeout } else { Refusal::UpstreamTimeout };
                return Poll::Ready(Err(self.failed(why)));
            }
            let moved = Some(self.upload.moved + self.state.download.moved);
            if self.state.moved != moved {
                self.state.moved = moved;
                let limit = self.worker.now() + self.worker.ticks.stall;
                self.conn.set_deadline(limit);
            }
        }
        polled
    }

    /// Whether the client is gone; while it still sends, whoever reads from it finds out.
    fn poll_hung_up(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.state.uploading || self.state.pipelined {
            return Poll::Pending;
        }
        if let Some(tick) = self.state.ended {
            return if tick <= self.worker.now() { self.poll_abandoned() } else { Poll::Pending };
        }
        match self.client.poll_peek(cx) {
            Poll::Ready(Peeked::Broken) => Poll::Ready(()),
            Poll::Ready(Peeked::End) => self.poll_abandoned(),
            Poll::Ready(Peeked::Bytes) => {
                self.state.pipelined = true;
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// Whether a client that sends no more is gone; it is asked after at every tick.
    fn poll_abandoned(&mut self) -> Poll<()> {
        let again = match self.client.far_end() {
            FarEnd::Abandoned => return Poll::Ready(()),
            FarEnd::Held => self.worker.now() + 1,
            FarEnd::Unknown => u64::MAX,
        };
        self.state.ended = Some(again);
        self.conn.look_again_at(again);
        Poll::Pending
    }

    fn poll_both(&mut self, cx: &mut Context<'_>) -> Poll<Result<Done, Failed>> {
        if self.state.uploading
            && let Poll::Ready(ended) = self.upload.poll(
                cx,
                &self.work.out,
                (&self.worker.buffers, &mut self.work.down),
                (self.client, self.upstream),
            )
        {
            self.state.uploading = false;
            match ended {
                Ok(()) => {}
                // It may have answered before it stopped reading.
                Err(Break::Sink) => self.state.upload_failed = true,
                Err(Break::Source) => return Poll::Ready(Err(self.client_gone())),
                Err(Break::Refused(refusal)) => return Poll::Ready(Err(self.failed(refusal))),
            }
        }
        loop {
            if self.state.step == Step::Head {
                match self.poll_head(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(failed)) => return Poll::Ready(Err(failed)),
                }
            }
            let download = &mut self.state.download;
            let moved = download.poll(
                cx,
                &self.work.back,
                (&self.worker.buffers, &mut self.work.up),
                (self.upstream, self.client),
            );
            match moved {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if self.state.step == Step::Interim => {
                    self.state.step = Step::Head;
                }
                Poll::Ready(Ok(())) => return Poll::Ready(Ok(self.done())),
                Poll::Ready(Err(Break::Sink)) => return Poll::Ready(Err(self.client_gone())),
                Poll::Ready(Err(Break::Source | Break::Refused(_))) => {
                    return Poll::Ready(Err(Failed::Truncated(self.state.status)));
                }
            }
        }
    }

    /// Reads a response head and makes it ready to be passed on.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        let limits = self.worker.limits();
        loop {
            let found = if self.work.up.is_empty() {
                Ok(None)
            } else {
                self.state.scan.advance(self.work.up.bytes(), limits.head_bytes_max)
            };
            match found {
                Err(_) => return Poll::Ready(Err(self.failed(Refusal::BadResponse))),
                Ok(Some(len)) => {
                    let passed = self.read_head(len);
                    match passed {
                        Ok(true) => return Poll::Ready(Ok(())),
                        Ok(false) => continue,
                        Err(_) => return Poll::Ready(Err(self.failed(Refusal::BadResponse))),
                    }
                }
                Ok(None) => {}
            }
            match poll_fill_lent(cx, self.upstream, &self.worker.buffers, &mut self.work.up) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(count)) if count > 0 => self.state.heard = true,
                Poll::Ready(_) if self.state.heard => {
                    return Poll::Ready(Err(self.failed(Refusal::UpstreamBroke)));
                }
                Poll::Ready(_) => return Poll::Ready(Err(Failed::Unanswered)),
            }
        }
    }

    /// Reads the head of this length; `false` when it is one that the client does not get.
    fn read_head(&mut self, len: usize) -> Result<bool, Refusal> {
        let head = &self.work.up.bytes()[..len];
        let method = self.request.method;
        let fields_max = self.worker.limits().header_fields_max;
        let response = Response::parse(head, method, fields_max, &mut self.work.fields)?;
        self.state.scan = HeadScan::default();
        let version = self.request.version;
        if response.is_interim() {
            let wanted = version == Version::Http11
                && (response.status != 100 || self.request.expects_continue);
            if wanted {
                let (out, fields) = (&mut self.work.back, &self.work.fields);
                response_head(out, head, &response, fields, version, Ending::KeepAlive);
                self.continue_with(Step::Interim, Pump::new(Framing::None, false));
            }
            self.work.up.consume(len);
            return Ok(wanted);
        }
        if response.status == 101 && self.request.upgrade.is_none() {
            return Err(Refusal::BadResponse);
        }
        // The request is not needed again once its answer has begun.
        if !self.state.uploading {
            self.upload.release(&mut self.work.down);
            self.worker.buffers.put_empty(&mut self.work.down);
        }
        let ending = self.ending(&response);
        let (out, fields) = (&mut self.work.back, &self.work.fields);
        response_head(out, head, &response, fields, version, ending);
        let unchunk = version == Version::Http10 && matches!(response.framing, Framing::Chunked(_));
        self.work.up.consume(len);
        self.state.status = response.status;
        self.state.ending = ending;
        self.state.keep_alive = response.keep_alive;
        self.state.keep_alive_seconds = response.keep_alive_seconds;
        let mut download = Pump::new(response.framing, unchunk);
        download.begin(&mut self.work.up)?;
        download.release(&mut self.work.up);
        self.continue_with(Step::Final, download);
        Ok(true)
    }

    fn continue_with(&mut self, step: Step, mut download: Pump) {
        download.moved = self.state.download.moved;
        self.state.download = download;
        self.state.step = step;
    }

    fn ending(&self, response: &Response) -> Ending {
        if response.status == 101 {
            return Ending::Upgrade;
        }
        let unframed = match response.framing {
            Framing::UntilClose => true,
            Framing::Chunked(_) => self.request.version == Version::Http10,
            Framing::None | Framing::Length(_) => false,
        };
        // A client that waits for leave to send its body will not send it after this answer.
        let unsent = self.state.uploading && self.request.expects_continue;
        let leaving = self.conn.is_leaving() || self.worker.is_draining();
        if self.request.keep_alive && !unframed && !unsent && !leaving {
            Ending::KeepAlive
        } else {
            Ending::Close
        }
    }

    fn done(&mut self) -> Done {
        if !self.state.uploading {
            // The request may have ended after its answer began. What is kept of it must not be
            // taken for the next request.
            self.upload.release(&mut self.work.down);
        }
        let state = &self.state;
        let whole = !state.uploading && !state.upload_failed;
        let ending = match state.ending {
            Ending::KeepAlive if !whole => Ending::Close,
            ending => ending,
        };
        Done {
            status: state.status,
            ending,
            reusable: whole && state.keep_alive && self.work.up.is_empty(),
            reusable_seconds: state.keep_alive_seconds,
        }
    }

    fn failed(&self, refusal: Refusal) -> Failed {
        match self.state.step {
            Step::Final => Failed::Truncated(self.state.status),
            // Part of an interim head may be on its way: nothing else can follow it.
            Step::Interim => Failed::Truncated(refusal.status()),
            Step::Head => Failed::Refused(refusal),
        }
    }

    fn client_gone(&self) -> Failed {
        let answered = self.state.step == Step::Final;
        Failed::ClientGone(answered.then_some(self.state.status))
    }
}

/// Whether a request whose connection ended without an answer may be sent again.
pub(crate) fn may_repeat(method: Method, upload: &Pump) -> bool {
    upload.moved == 0 || (upload.is_kept() && method.is_idempotent())
}
