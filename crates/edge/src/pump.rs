//! Moves one message from one socket to another: a head that is ready, then its body.

use std::task::{Context, Poll};

use crate::buffer::{Buffer, Buffers};
use crate::http::{Framing, Refusal};
use crate::socket::Socket;

/// Bytes that one direction of a connection moves before others have a turn.
pub(crate) const TURN_BYTES_MAX: u64 = 1 << 20;

/// Why a message did not get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Break {
    /// The sender ended or broke off before the message was complete.
    Source,
    /// The receiver takes no more.
    Sink,
    /// The body is not framed as it should be.
    Refused(Refusal),
}

/// One message on its way. The head lies in a vector beside it, the body in the buffer that its
/// sender is read into.
#[derive(Debug)]
pub(crate) struct Pump {
    pub(crate) framing: Framing,
    /// Take the chunk framing off.
    unchunk: bool,
    /// Bytes of the head that are written.
    head_at: usize,
    /// Bytes at the start of the buffer that are written and kept.
    at: usize,
    /// Bytes after those that may be written.
    ready: usize,
    /// Written bytes stay in the buffer, so that the message can be sent again.
    keep: bool,
    pub(crate) moved: u64,
}

impl Pump {
    pub(crate) fn new(framing: Framing, unchunk: bool) -> Pump {
        Pump { framing, unchunk, head_at: 0, at: 0, ready: 0, keep: false, moved: 0 }
    }

    /// Checks what has arrived of the body already; when that is all of it, keeps it for `rewind`.
    pub(crate) fn begin(&mut self, buffer: &mut Buffer) -> Result<(), Refusal> {
        self.decode(buffer)?;
        self.keep = self.framing.is_done();
        Ok(())
    }

    /// The message could be sent again from its start.
    pub(crate) fn is_kept(&self) -> bool {
        self.keep
    }

    /// Everything that has come is written: it waits for its sender.
    pub(crate) fn waits_for_more(&self, head: &[u8]) -> bool {
        self.head_at == head.len() && self.ready == 0
    }

    /// Starts over.
    pub(crate) fn rewind(&mut self) {
        self.ready += self.at;
        (self.head_at, self.at, self.moved) = (0, 0, 0);
    }

    /// Gives up what was kept: the message is not needed again.
    pub(crate) fn release(&mut self, buffer: &mut Buffer) {
        buffer.consume(self.at);
        self.at = 0;
        self.keep = false;
    }

    /// Gives up the whole message, written or not.
    pub(crate) fn discard(&mut self, buffer: &mut Buffer) {
        buffer.consume(self.at + self.ready);
        (self.at, self.ready) = (0, 0);
    }

    /// Takes as much of the body as is there.
    fn decode(&mut self, buffer: &mut Buffer) -> Result<(), Refusal> {
        // Where the next run is found; chunk framing that is taken off leaves a gap before it.
        let mut from = self.at + self.ready;
        while !self.framing.is_done() {
            let run = self.framing.advance(&buffer.bytes()[from..])?;
            if run.len == 0 {
                break;
            }
            if run.content || !self.unchunk {
                let to = self.at + self.ready;
                if from > to {
                    buffer.copy_down(from, run.len, to);
                }
                self.ready += run.len;
            }
            from += run.len;
        }
        let to = self.at + self.ready;
        if from > to {
            buffer.cut(to, from);
        }
        Ok(())
    }

    /// Moves what can be moved; ready when the whole message is written.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        head: &[u8],
        (buffers, buffer): (&Buffers, &mut Buffer),
        (from, to): (&Socket, &Socket),
    ) -> Poll<Result<(), Break>> {
        let moved = self.moved;
        loop {
            while self.head_at < head.len() || self.ready > 0 {
                let head = &head[self.head_at..];
                let body = &buffer.bytes()[self.at..self.at + self.ready];
                match to.poll_write(cx, head, body) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(count)) if count > 0 => self.written(count, head.len(), buffer),
                    Poll::Ready(_) => return Poll::Ready(Err(Break::Sink)),
                }
            }
            if self.framing.is_done() {
                return Poll::Ready(Ok(()));
            }
            if self.moved - moved > TURN_BYTES_MAX {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            match poll_fill_lent(cx, from, buffers, buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(0)) if self.framing == Framing::UntilClose => {
                    self.framing = Framing::None;
                }
                Poll::Ready(None | Some(0)) => return Poll::Ready(Err(Break::Source)),
                Poll::Ready(Some(_)) => {
                    if let Err(refusal) = self.decode(buffer) {
                        return Poll::Ready(Err(Break::Refused(refusal)));
                    }
                }
            }
        }
    }

    fn written(&mut self, count: usize, head_len: usize, buffer: &mut Buffer) {
        self.moved += count as u64;
        let of_head = count.min(head_len);
        self.head_at += of_head;
        self.at += count - of_head;
        self.ready -= count - of_head;
        if !self.keep {
            buffer.consume(self.at);
            self.at = 0;
        }
    }
}

/// Reads what has arrived into the buffer's room. `None` is an error, 0 the end.
pub(crate) fn poll_fill(
    cx: &mut Context<'_>,
    from: &Socket,
    buffer: &mut Buffer,
) -> Poll<Option<usize>> {
    match from.poll_read(cx, buffer.room()) {
        Poll::Pending => Poll::Pending,
        Poll::Ready(Ok(count)) => {
            buffer.filled(count);
            Poll::Ready(Some(count))
        }
        Poll::Ready(Err(_)) => Poll::Ready(None),
    }
}

/// Reads what has arrived into a large buffer that is lent for it. While nothing has, an empty
/// buffer is with the thread.
pub(crate) fn poll_fill_lent(
    cx: &mut Context<'_>,
    from: &Socket,
    buffers: &Buffers,
    buffer: &mut Buffer,
) -> Poll<Option<usize>> {
    // To take one and give it back costs less than to ask the socket first.
    buffers.enlarge_empty(buffer);
    let polled = poll_fill(cx, from, buffer);
    if polled.is_pending() {
        buffers.put_empty(buffer);
    }
    polled
}
