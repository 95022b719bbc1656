//! A client of an event log: one connection, one request at a time, over the Kafka protocol.
//!
//! Not here: connecting (the stream is given), the producers and consumers of programs (they have
//! their own clients). It is for whoever looks after a log: lists, describes, reads a few messages,
//! moves groups. Whatever speaks the protocol may be at the other end, so nothing is used that
//! only this log has, but for [`Client::figures`].
//!
//! Invariants: an answer is bounded in bytes and in time; after one that did not come whole the
//! connection is not used again.

mod groups;
mod records;
mod topics;

use std::collections::HashMap;
use std::io;
use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use kafka_wire::{Request, api_versions};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

pub use groups::{Group, Lag, Member, Moved};
pub use records::{Cursor, Message, NewMessage, Page, Position};
pub use topics::{Figures, Partition, Setting, Topic, Traffic};

/// An answer is waited for so long, beyond what the request itself asks to wait.
const PATIENCE: Duration = Duration::from_secs(10);

/// Largest answer.
const ANSWER_BYTES_MAX: usize = 128 << 20;

/// An answer's memory grows by so much at a time.
const STEP_BYTES: usize = 1 << 20;

/// What clients call themselves.
const CLIENT_ID: &str = "ms";

/// Why a log did not do as it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The connection broke.
    #[error("the connection to the event log broke: {0}")]
    Io(#[from] io::Error),
    /// No answer came in time.
    #[error("the event log does not answer")]
    Silent,
    /// An answer that is none.
    #[error("the event log's answer to {api} cannot be read: {why}")]
    Odd {
        /// To what.
        api: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// What it was asked for is not served there.
    #[error("the event log serves no {0} that is known here")]
    Unserved(&'static str),
    /// It says no.
    #[error("{what}: {why}")]
    Refused {
        /// What was refused.
        what: String,
        /// The protocol's code.
        code: i16,
        /// In words.
        why: String,
    },
}

impl ClientError {
    /// The protocol's code, when that is what it is.
    pub fn code(&self) -> Option<i16> {
        match self {
            ClientError::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }
}

/// Fails when an answer has an error in it.
fn check(
    what: impl FnOnce() -> String,
    code: i16,
    message: Option<&str>,
) -> Result<(), ClientError> {
    if code == 0 {
        return Ok(());
    }
    let why = match message {
        Some(message) if !message.is_empty() => message.to_owned(),
        _ => crate::kafka::meaning(code),
    };
    Err(ClientError::Refused { what: what(), code, why })
}

/// A connection to a log.
#[derive(Debug)]
pub struct Client<S> {
    stream: S,
    /// What the other end serves, by API.
    served: HashMap<i16, (i16, i16)>,
    correlation: i32,
    is_broken: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Asks the other end what it serves.
    ///
    /// # Errors
    /// When it does not speak the protocol, or not in time.
    pub async fn open(stream: S) -> Result<Client<S>, ClientError> {
        let mut client =
            Client { stream, served: HashMap::new(), correlation: 0, is_broken: false };
        // The first version is understood everywhere.
        let request = api_versions::Request::default();
        let answer = client.exchange(&request, 0, PATIENCE).await?;
        check(|| "what the event log serves".to_owned(), answer.error_code, None)?;
        let each = answer.api_keys.iter();
        client.served = each.map(|api| (api.api_key, (api.min_version, api.max_version))).collect();
        Ok(client)
    }

    /// Whether the other end serves a request at all.
    fn serves<R: Request>(&self) -> bool {
        self.served.contains_key(&R::API.key)
    }

    /// Asks in the highest version that both know, within `versions`.
    async fn ask<R: Request>(
        &mut self,
        request: &R,
        versions: RangeInclusive<i16>,
    ) -> Result<R::Response, ClientError> {
        let unserved = ClientError::Unserved(R::API.name);
        let Some((low, high)) = self.served.get(&R::API.key).copied() else {
            return Err(unserved);
        };
        let version = high.min(R::API.max).min(*versions.end());
        if version < low.max(R::API.min).max(*versions.start()) {
            return Err(unserved);
        }
        self.exchange(request, version, PATIENCE).await
    }

    async fn exchange<R: Request>(
        &mut self,
        request: &R,
        version: i16,
        patience: Duration,
    ) -> Result<R::Response, ClientError> {
        if self.is_broken {
            return Err(io::Error::from(io::ErrorKind::NotConnected).into());
        }
        let odd = |why: String| ClientError::Odd { api: R::API.name, why };
        self.correlation = self.correlation.wrapping_add(1);
        let frame = kafka_wire::frame_request(request, version, self.correlation, CLIENT_ID);
        let frame = frame.map_err(|error| odd(error.to_string()))?;
        // Until the answer is there whole: whoever stops to wait leaves half of one behind.
        self.is_broken = true;
        let answer = timeout(patience, self.swap(&frame)).await;
        let answer = answer.map_err(|_| ClientError::Silent)??;
        let parsed = kafka_wire::parse_response::<R>(answer, version);
        let (correlation, response) = parsed.map_err(|error| odd(error.to_string()))?;
        if correlation != self.correlation {
            return Err(odd("it is of another request".to_owned()));
        }
        self.is_broken = false;
        Ok(response)
    }

    /// A frame there, a frame back.
    async fn swap(&mut self, frame: &[u8]) -> Result<Bytes, ClientError> {
        self.stream.write_all(frame).await?;
        self.stream.flush().await?;
        let length = self.stream.read_i32().await?;
        let length = usize::try_from(length).ok().filter(|length| *length <= ANSWER_BYTES_MAX);
        let length = length.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "what came is no frame, or is too large")
        })?;
        let mut answer = BytesMut::new();
        while answer.len() < length {
            // Grows with what came, not with what was announced.
            answer.reserve((length - answer.len()).min(STEP_BYTES));
            let mut rest = (&mut self.stream).take((length - answer.len()) as u64);
            if rest.read_buf(&mut answer).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
        Ok(answer.copy_to_bytes(length))
    }
}
