//! Unix sockets in folders of any depth.
//!
//! The kernel takes at most 107 bytes as the path of a socket. A longer one is given to it
//! through an open descriptor of its folder, which stays open for as long as the path is used.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The longest path of a socket in bytes, its final zero aside.
const PATH_BYTES_MAX: usize = 107;

/// A path of a socket that the kernel takes, to bind or connect to.
#[derive(Debug)]
pub struct SocketPath {
    path: PathBuf,
    _folder: Option<File>,
}

impl SocketPath {
    /// The socket at `path` itself when that is short enough, else its twin below `/proc`.
    ///
    /// # Errors
    /// The path is too long, and its folder is not there or may not be read.
    pub fn new(path: &Path) -> io::Result<SocketPath> {
        if path.as_os_str().as_bytes().len() <= PATH_BYTES_MAX {
            return Ok(SocketPath { path: path.to_owned(), _folder: None });
        }
        let folder = File::open(path.parent().unwrap_or(Path::new("/")))?;
        let name = path.file_name().unwrap_or(OsStr::new("."));
        let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
        Ok(SocketPath { path, _folder: Some(folder) })
    }

    /// The path to give to the kernel; good for as long as `self` lives.
    pub fn as_path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn a_socket_works_at_any_depth() {
        let top = tempfile::tempdir().unwrap();
        let mut folder = top.path().to_owned();
        let mut shortest_refused = None;
        for _ in 0..40 {
            folder.push("a-folder");
            std::fs::create_dir(&folder).unwrap();
            let socket = folder.join("engine.sock");
            let path = SocketPath::new(&socket).unwrap();
            let _listener = UnixListener::bind(path.as_path()).unwrap();
            assert!(socket.exists());
            UnixStream::connect(path.as_path()).unwrap();
            if UnixStream::connect(&socket).is_err() {
                shortest_refused.get_or_insert(socket.as_os_str().len());
            }
        }
        // Without the detour it does not.
        assert!(shortest_refused.is_some_and(|length| length > PATH_BYTES_MAX));
        assert!(SocketPath::new(&folder.join("gone/engine.sock")).is_err());
    }
}
