//! Descriptors of an engine that its instances hold, given back to the engine that comes after it.

use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::descriptors;
use crate::wire::{self, Request};

/// How long a shim may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the instances that run in this state folder hold for their engine: the first answer that
/// has any. `None` when nothing runs there.
pub fn kept(state: &Path) -> Option<Vec<OwnedFd>> {
    let folders = fs::read_dir(state.join("instances")).into_iter().flatten().flatten();
    let mut runs = None;
    for folder in folders {
        match ask(&folder.path()) {
            Err(error) if not_running(&error) => {}
            // It runs, and has nothing to give or does not say.
            Err(_) => runs = Some(Vec::new()),
            Ok(kept) if kept.is_empty() => runs = Some(kept),
            Ok(kept) => return Some(kept),
        }
    }
    runs
}

fn not_running(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotFound};
    matches!(error.kind(), NotFound | ConnectionRefused | ConnectionReset | BrokenPipe)
}

fn ask(folder: &Path) -> io::Result<Vec<OwnedFd>> {
    let folder = fs::File::open(folder)?;
    // By the descriptor, because a socket's path is at most 107 bytes long.
    let mut socket =
        UnixStream::connect(format!("/proc/self/fd/{}/shim.sock", folder.as_raw_fd()))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.write_all(&wire::encode(&Request::Kept)?)?;
    let mut first = [0u8; 1];
    match descriptors::receive(&socket, &mut first)? {
        // It ended instead of answering.
        (0, _) => Err(io::ErrorKind::ConnectionRefused.into()),
        (_, descriptors) => Ok(descriptors),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn one_that_ends_instead_of_answering_does_not_run() {
        let state = tempfile::tempdir().unwrap();
        let folder = state.path().join("instances/web.1");
        fs::create_dir_all(&folder).unwrap();
        assert!(kept(state.path()).is_none());
        let listener = UnixListener::bind(folder.join("shim.sock")).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // Asked twice: with its question read and unread.
                let (mut asked, _) = listener.accept().unwrap();
                let _read = asked.read(&mut [0; 64]).unwrap();
                drop(asked);
                drop(listener.accept().unwrap());
            });
            assert!(kept(state.path()).is_none());
            assert!(kept(state.path()).is_none());
        });
    }
}
