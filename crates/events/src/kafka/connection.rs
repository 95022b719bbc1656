//! One connection: frames in, answers out, in the order of the requests.
//!
//! Not here: what requests mean (`dispatch`). A request is *started* when it is read, one after
//! the other; its answer may be ready later, and the next one is started meanwhile. So batches are
//! appended in the order that they came, and many wait for one flush.
//!
//! Bounds: the length of a frame, requests under way, memory of larger frames over all connections,
//! time without a byte inside a frame or an answer, time for a whole frame, time without a request.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

use super::dispatch::{self, Answer};
use super::{Front, Session, share};

/// Requests of one connection that are under way.
const UNDER_WAY: usize = 64;

/// Longest frame.
const FRAME_BYTES_MAX: usize = 100 << 20;

/// Frames from this size on share [`COUNTED_BYTES`]; smaller ones are bounded by their number.
const COUNTED_FRAME_BYTES: usize = 16 << 10;

/// Memory of frames that are being read or answered. Who finds none waits, and is not read from.
const COUNTED_BYTES: usize = 256 << 20;

/// A buffer grows by no more than this before it is filled.
const STEP_BYTES: usize = 1 << 20;

/// Without a byte for so long inside a frame or an answer, the other side is gone.
const STALLED: Duration = Duration::from_secs(30);

/// Who sends a frame more slowly than this holds memory that others wait for, and is gone, too.
const SLOWEST_BYTES_PER_SECOND: usize = 256 << 10;

/// Whoever takes an answer more slowly than this is gone, too: slow networks are faster.
const SLOWEST_READER_BYTES_PER_SECOND: usize = 16 << 10;

/// What is read of a request before there is a buffer for it: a connection that is silent has none.
const FIRST_BYTES: usize = 512;

/// Without a request for so long, a connection ends.
const IDLE: Duration = Duration::from_secs(600);

/// What is read at once, where the next requests may have come, too.
const READ_BYTES: usize = 16 << 10;

/// Pieces of an answer that are given to the system at once.
const PIECES: usize = 64;

/// What all connections share.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    memory: Arc<Semaphore>,
}

impl Default for Shared {
    fn default() -> Shared {
        Shared { memory: Arc::new(Semaphore::new(COUNTED_BYTES)) }
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    /// The client hung up.
    #[error("the client hung up")]
    Closed,
    /// The network did.
    #[error("the connection failed: {0}")]
    Failed(#[from] io::Error),
    /// It was silent in the middle of something, or for very long.
    #[error("the client was silent")]
    Silent,
    /// It said something that is no request.
    #[error("the client sent what is no request: {0}")]
    Malformed(String),
}

/// Serves a connection until it ends.
pub(crate) async fn serve(
    front: Arc<Front>,
    session: Session,
    stream: impl AsyncRead + AsyncWrite + Send,
) -> Ended {
    let (input, output) = tokio::io::split(stream);
    let (answers, waiting) = mpsc::channel(UNDER_WAY);
    let session = Arc::new(session);
    let broken = Notify::new();
    let reading = read(&front, &session, input, answers, &broken);
    let writing = write(output, waiting, &broken);
    tokio::pin!(reading, writing);
    // Whatever was begun is done, whether or not anybody is there to be told: a change that is let
    // go in the middle is on disk, and not known here. When the client says no more, or nothing that
    // is understood, what it asked for before is still answered.
    let ended = tokio::select! {
        ended = &mut reading => {
            match ended {
                Ended::Closed | Ended::Malformed(_) => drop(writing.await),
                // Some only wait for others, and change nothing.
                Ended::Failed(_) | Ended::Silent => drop(timeout(STALLED, writing).await),
            }
            ended
        }
        // It goes on for as long as something may be asked.
        written = &mut writing => written.err().unwrap_or(Ended::Closed),
    };
    share::records::hung_up(&front, &session);
    ended
}

async fn read(
    front: &Arc<Front>,
    session: &Arc<Session>,
    mut input: impl AsyncRead + Unpin,
    answers: mpsc::Sender<Answer>,
    broken: &Notify,
) -> Ended {
    let mut buffer = BytesMut::new();
    loop {
        let next = tokio::select! {
            next = frame(front, session, &mut input, &mut buffer) => next,
            () = broken.notified() => return io::Error::from(io::ErrorKind::BrokenPipe).into(),
        };
        let (frame, memory) = match next {
            Ok(next) => next,
            Err(ended) => return ended,
        };
        let answer = match dispatch::start(front, session, frame).await {
            Ok(answer) => answer,
            Err(why) => return Ended::Malformed(why),
        };
        let Some(answer) = answer else { continue };
        let answer: Answer = Box::pin(async move {
            let pieces = answer.await;
            drop(memory);
            pieces
        });
        if answers.send(answer).await.is_err() || session.login.is_over() {
            return Ended::Closed;
        }
    }
}

/// The next request, and the right to the memory that it takes.
async fn frame(
    front: &Arc<Front>,
    session: &Arc<Session>,
    input: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Ended> {
    let length = length(input, buffer).await?;
    if length > FRAME_BYTES_MAX {
        return Err(Ended::Malformed(format!("a frame of {length} bytes")));
    }
    let memory = match length >= COUNTED_FRAME_BYTES {
        true => {
            let memory = Arc::clone(&front.shared.memory);
            let wanted = u32::try_from(length).unwrap_or(u32::MAX);
            memory.acquire_many_owned(wanted).await.ok()
        }
        false => None,
    };
    let filling = fill(input, buffer, length);
    let patience = patience(length, SLOWEST_BYTES_PER_SECOND);
    timeout(patience, filling).await.map_err(|_| Ended::Silent)??;
    let frame = buffer.split_to(length).freeze();
    let muted = session.muted(|| front.guard.clock().steady());
    if !muted.is_zero() {
        tokio::time::sleep(muted).await;
    }
    Ok((frame, memory))
}

/// How long so many bytes may take at the slowest.
fn patience(bytes: usize, per_second: usize) -> Duration {
    STALLED + Duration::from_secs((bytes / per_second) as u64)
}

/// Reads until the buffer has that many bytes.
async fn fill(
    input: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
    length: usize,
) -> Result<(), Ended> {
    while buffer.len() < length {
        // Grows with what came, not with what was announced.
        buffer.reserve((length - buffer.len()).clamp(READ_BYTES, STEP_BYTES));
        let read = timeout(STALLED, input.read_buf(buffer)).await;
        if read.map_err(|_| Ended::Silent)?? == 0 {
            return Err(Ended::Closed);
        }
    }
    Ok(())
}

/// The length before a frame.
async fn length(
    input: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
) -> Result<usize, Ended> {
    if buffer.is_empty() {
        *buffer = BytesMut::new();
        let mut first = [0; FIRST_BYTES];
        let read = timeout(IDLE, input.read(&mut first)).await.map_err(|_| Ended::Silent)??;
        match first.get(..read) {
            Some([]) | None => return Err(Ended::Closed),
            Some(first) => buffer.extend_from_slice(first),
        }
    }
    while buffer.len() < 4 {
        let read = timeout(STALLED, input.read_buf(buffer)).await;
        if read.map_err(|_| Ended::Silent)?? == 0 {
            return Err(Ended::Closed);
        }
    }
    let length = buffer.get_i32();
    usize::try_from(length).map_err(|_| Ended::Malformed(format!("a frame of {length} bytes")))
}

/// Writes answers in their order. When that fails the rest are waited for all the same.
async fn write(
    mut output: impl AsyncWrite + Unpin,
    mut waiting: mpsc::Receiver<Answer>,
    broken: &Notify,
) -> Result<(), Ended> {
    let mut done = Ok(());
    while let Some(answer) = waiting.recv().await {
        let pieces = answer.await;
        if done.is_ok() {
            done = match pieces {
                Ok(pieces) => {
                    let bytes = pieces.iter().map(Bytes::len).sum();
                    let patience = patience(bytes, SLOWEST_READER_BYTES_PER_SECOND);
                    let writing = write_pieces(&mut output, pieces);
                    timeout(patience, writing).await.unwrap_or(Err(Ended::Silent))
                }
                Err(why) => Err(Ended::Malformed(why)),
            };
            if done.is_err() {
                broken.notify_one();
            }
        }
    }
    done
}

async fn write_pieces(
    output: &mut (impl AsyncWrite + Unpin),
    mut pieces: Vec<Bytes>,
) -> Result<(), Ended> {
    let mut first = 0;
    while first < pieces.len() {
        let slices: Vec<IoSlice<'_>> =
            pieces[first..].iter().take(PIECES).map(|piece| IoSlice::new(piece)).collect();
        let written = timeout(STALLED, output.write_vectored(&slices)).await;
        let mut written = written.map_err(|_| Ended::Silent)??;
        if written == 0 {
            return Err(Ended::Closed);
        }
        while let Some(piece) = pieces.get_mut(first) {
            if written < piece.len() {
                piece.advance(written);
                break;
            }
            written -= piece.len();
            first += 1;
        }
    }
    output.flush().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long it takes until it ends, and how.
    async fn ended<T>(work: impl Future<Output = Result<T, Ended>>) -> (u64, Ended) {
        let began = tokio::time::Instant::now();
        let Err(ended) = work.await else { panic!("it goes on") };
        (began.elapsed().as_secs(), ended)
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_a_byte_a_minute_is_let_go() {
        let (mut near, mut far) = tokio::io::duplex(4096);
        let slow = async {
            for byte in [0, 0, 1, 0, 7, 7, 7] {
                near.write_all(&[byte]).await.unwrap();
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
        };
        let mut buffer = BytesMut::new();
        let (_, told) = tokio::join!(slow, ended(length(&mut far, &mut buffer)));
        assert!(matches!(told, (30, Ended::Silent)), "{told:?}");
        // Inside the frame it is no different, and one that sends a little more often has an end, too.
        for pause_s in [60, 20] {
            let (mut near, mut far) = tokio::io::duplex(4096);
            let slow = async {
                for _ in 0..10 {
                    near.write_all(&[7]).await.unwrap();
                    tokio::time::sleep(Duration::from_secs(pause_s)).await;
                }
            };
            let mut buffer = BytesMut::new();
            let whole = async {
                let filling = fill(&mut far, &mut buffer, 4096);
                timeout(patience(4096, SLOWEST_BYTES_PER_SECOND), filling)
                    .await
                    .map_err(|_| Ended::Silent)?
            };
            let (_, told) = tokio::join!(slow, ended(whole));
            assert!(matches!(told, (30, Ended::Silent)), "{pause_s}: {told:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_a_byte_a_minute_is_let_go() {
        for (pause_s, after_s) in [(60, 30), (20, 94)] {
            let (mut near, far) = tokio::io::duplex(64);
            let (answers, waiting) = mpsc::channel::<Answer>(1);
            let answer = Ok(vec![Bytes::from(vec![0; 1 << 20])]);
            let sent = answers.send(Box::pin(std::future::ready(answer))).await;
            assert!(sent.is_ok());
            drop(answers);
            let slow = async {
                for _ in 0..10 {
                    drop(near.read_u8().await);
                    tokio::time::sleep(Duration::from_secs(pause_s)).await;
                }
            };
            let broken = Notify::new();
            let (_, told) = tokio::join!(slow, ended(write(far, waiting, &broken)));
            assert!(matches!(told, (after, Ended::Silent) if after == after_s), "{told:?}");
        }
    }
}
