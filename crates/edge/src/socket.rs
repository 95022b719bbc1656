//! A socket as the data path uses it: shared by both directions, polled, never awaited.
//!
//! Reads and writes go through the runtime's own traits, since those take a read that did not fill
//! its buffer for the last one and so save a system call a message.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use net::FarEnd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::conns::TICK;

/// What there is to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peeked {
    /// Bytes.
    Bytes,
    /// The end, in order: the other side writes no more, but may read.
    End,
    /// The connection is broken.
    Broken,
}

/// A connected socket of one thread.
#[derive(Debug)]
pub(crate) struct Socket(RefCell<TcpStream>);

impl Socket {
    pub(crate) fn new(stream: TcpStream) -> Socket {
        // Nagle's delay would only hurt; a failure costs latency, not correctness.
        let _ = stream.set_nodelay(true);
        Socket(RefCell::new(stream))
    }

    /// Reads into `room`: how many bytes, 0 at the end.
    pub(crate) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        room: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(room);
        let polled = Pin::new(&mut *self.0.borrow_mut()).poll_read(cx, &mut buffer);
        polled.map_ok(|()| buffer.filled().len())
    }

    /// Writes the start of `head` and `body`: how many bytes.
    pub(crate) fn poll_write(
        &self,
        cx: &mut Context<'_>,
        head: &[u8],
        body: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut stream = self.0.borrow_mut();
        let stream = Pin::new(&mut *stream);
        match (head, body) {
            (head, []) => stream.poll_write(cx, head),
            ([], body) => stream.poll_write(cx, body),
            _ => stream.poll_write_vectored(cx, &[IoSlice::new(head), IoSlice::new(body)]),
        }
    }

    /// Writes as much as the socket takes at once.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow().try_write(bytes)
    }

    /// There may be something to read: bytes, the end, or nothing after all.
    pub(crate) fn poll_maybe_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.borrow().poll_read_ready(cx).map(|_| ())
    }

    /// What there is to read; takes nothing. Costs a system call only when the event queue has
    /// reported something.
    pub(crate) fn poll_peek(&self, cx: &mut Context<'_>) -> Poll<Peeked> {
        let mut byte = [std::mem::MaybeUninit::uninit()];
        let peeked = self.0.borrow().poll_peek(cx, &mut ReadBuf::uninit(&mut byte));
        peeked.map(|peeked| match peeked {
            Ok(1..) => Peeked::Bytes,
            Ok(0) => Peeked::End,
            Err(_) => Peeked::Broken,
        })
    }

    /// Waits until nobody is there to read an answer. Bytes that are not read hide an end behind
    /// them.
    pub(crate) async fn gone(&self) {
        let ended = |cx: &mut Context<'_>| match self.poll_peek(cx) {
            Poll::Ready(Peeked::Bytes) | Poll::Pending => Poll::Pending,
            Poll::Ready(end) => Poll::Ready(end),
        };
        let mut is_gone = poll_fn(ended).await == Peeked::Broken;
        while !is_gone {
            is_gone = match self.far_end() {
                FarEnd::Abandoned => true,
                FarEnd::Held => false,
                FarEnd::Unknown => std::future::pending().await,
            };
            if !is_gone {
                tokio::time::sleep(TICK).await;
            }
        }
    }

    /// Whether a client that has ended its half is still there.
    pub(crate) fn far_end(&self) -> FarEnd {
        let stream = self.0.borrow();
        match (stream.local_addr(), stream.peer_addr()) {
            (Ok(ours), Ok(peer)) => net::far_end(ours, peer),
            // Only a broken connection has no peer.
            _ => FarEnd::Abandoned,
        }
    }

    /// Nothing has arrived on an idle connection: no end of it, and no bytes that nobody asked
    /// for.
    pub(crate) fn is_quiet(&self) -> bool {
        self.poll_peek(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Tells the other side that no more bytes come.
    pub(crate) fn shut_down(&self) -> io::Result<()> {
        socket2::SockRef::from(&*self.0.borrow()).shutdown(Shutdown::Write)
    }

    /// Makes the close that follows a reset, so that what has come does not look whole.
    pub(crate) fn reset_on_close(&self) {
        // A socket that is gone already needs no reset.
        let _ = socket2::SockRef::from(&*self.0.borrow()).set_linger(Some(Duration::ZERO));
    }
}
