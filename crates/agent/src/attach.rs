//! A command inside an instance on the caller's own streams.
//!
//! Not here: terminals, which are the caller's. The engine has no part in this: the caller asks the
//! instance's shim, and needs the same rights on the state folder as the engine.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

use base::InstanceId;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;

use crate::agent::OpError;
use crate::descriptors;
use crate::wire::{self, Command, Ended, Reply, Request};

/// A command that runs. It is told to end when this is dropped.
#[derive(Debug)]
pub struct Attached {
    id: InstanceId,
    socket: UnixStream,
}

/// Starts a command in an instance of the engine of `state` on these streams.
///
/// # Errors
/// [`OpError::NotRunning`] when no shim answers for the instance.
pub async fn attach(
    state: &Path,
    id: &InstanceId,
    command: Command,
    streams: [BorrowedFd<'_>; 3],
) -> Result<Attached, OpError> {
    let folder = state.join("instances").join(id.to_string());
    // By the descriptor, because a socket's path is at most 107 bytes long.
    let folder = std::fs::File::open(folder).map_err(|_| OpError::Unknown(id.clone()))?;
    let path = format!("/proc/self/fd/{}/shim.sock", folder.as_raw_fd());
    let socket = UnixStream::connect(path).await;
    let mut socket = socket.map_err(|_| OpError::NotRunning(id.clone()))?;
    let failed = |cause| OpError::Shim { id: id.clone(), cause };
    let message = wire::encode(&Request::Attach(command)).map_err(failed)?;
    socket.writable().await.map_err(failed)?;
    // A new connection has room: the descriptors go out with the first bytes.
    let sent = socket
        .try_io(Interest::WRITABLE, || Ok(descriptors::send(&socket, &message, &streams)?))
        .map_err(failed)?;
    socket.write_all(&message[sent..]).await.map_err(failed)?;
    Ok(Attached { id: id.clone(), socket })
}

impl Attached {
    /// Waits for its end. May be dropped and called again only before any answer has come.
    ///
    /// # Errors
    /// [`OpError::Refused`] when it could not be started, and when the instance ended first.
    pub async fn ended(&mut self) -> Result<Ended, OpError> {
        let failed = |cause| OpError::Shim { id: self.id.clone(), cause };
        let length = match self.socket.read_u32_le().await {
            Ok(length) => length as usize,
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(OpError::NotRunning(self.id.clone()));
            }
            Err(e) => return Err(failed(e)),
        };
        if length > wire::MESSAGE_BYTES_MAX {
            let cause = io::Error::new(io::ErrorKind::InvalidData, "answer over 1 MiB");
            return Err(failed(cause));
        }
        let mut text = vec![0; length];
        self.socket.read_exact(&mut text).await.map_err(failed)?;
        match serde_json::from_slice(&text) {
            Ok(Reply::Ended(ended)) => Ok(ended),
            Ok(Reply::Refused(why)) => Err(OpError::Refused { id: self.id.clone(), why }),
            Ok(_) => Err(failed(io::ErrorKind::InvalidData.into())),
            Err(e) => Err(failed(e.into())),
        }
    }
}
