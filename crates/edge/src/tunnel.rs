//! Bytes both ways between two sockets, with half-close: TCP sessions and upgraded connections.
//!
//! Buffers are taken when there are bytes and given back when those are written, so that a silent
//! session holds none.

use std::future::poll_fn;
use std::task::{Context, Poll};

use net::Outcome;

use crate::buffer::{Buffer, Buffers};
use crate::metrics::{CallStats, Passed};
use crate::pump::{TURN_BYTES_MAX, poll_fill_lent};
use crate::socket::Socket;
use crate::worker::Worker;

/// Moves bytes until both sides are done or one breaks, and counts them as they pass: how it ended.
/// `first` are bytes of each that have been read already.
pub(crate) async fn run(
    worker: &Worker,
    stats: &CallStats,
    (client, upstream): (&Socket, &Socket),
    first: (Buffer, Buffer),
) -> Outcome {
    let _open = stats.open();
    let mut passed = Passed::default();
    let mut there = OneWay::new(first.0);
    let mut back = OneWay::new(first.1);
    let broken = poll_fn(|cx| {
        let buffers = &worker.buffers;
        let there_polled = there.poll(cx, buffers, client, upstream);
        let back_polled = back.poll(cx, buffers, upstream, client);
        passed.count(stats, there.moved, back.moved);
        match (there_polled, back_polled) {
            (Poll::Ready(Err(())), _) | (_, Poll::Ready(Err(()))) => Poll::Ready(true),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(false),
            _ => Poll::Pending,
        }
    })
    .await;
    worker.buffers.put(there.buffer);
    worker.buffers.put(back.buffer);
    if broken { Outcome::Broken } else { Outcome::Finished }
}

/// One direction.
struct OneWay {
    buffer: Buffer,
    ended: bool,
    shut: bool,
    moved: u64,
}

impl OneWay {
    fn new(buffer: Buffer) -> OneWay {
        OneWay { buffer, ended: false, shut: false, moved: 0 }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &Buffers,
        from: &Socket,
        to: &Socket,
    ) -> Poll<Result<(), ()>> {
        let moved = self.moved;
        loop {
            while !self.buffer.is_empty() {
                match to.poll_write(cx, self.buffer.bytes(), &[]) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(count)) if count > 0 => {
                        self.moved += count as u64;
                        self.buffer.consume(count);
                    }
                    Poll::Ready(_) => return Poll::Ready(Err(())),
                }
            }
            if self.ended {
                if !self.shut {
                    self.shut = true;
                    // The receiver may be gone already; its own direction will say so.
                    let _ = to.shut_down();
                }
                return Poll::Ready(Ok(()));
            }
            if self.moved - moved > TURN_BYTES_MAX {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            match poll_fill_lent(cx, from, buffers, &mut self.buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(Err(())),
                Poll::Ready(Some(0)) => self.ended = true,
                Poll::Ready(Some(_)) => {}
            }
        }
    }
}
