//! Where to look for new lines: inotify on the folders, or everywhere twice a second.
//!
//! Invariants: a change is never missed: folders are watched before they are read, an overflow of
//! the kernel's queue means everywhere, and what cannot be watched is polled.

use std::collections::{BTreeSet, HashMap};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use base::InstanceId;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

/// How often to look without inotify.
const POLL: Duration = Duration::from_millis(500);

/// What may have changed.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Folders may have come or gone, and any of them may have changed.
    pub everywhere: bool,
    pub instances: BTreeSet<InstanceId>,
}

/// Watches, before there is a runtime to wait in.
#[derive(Debug)]
pub(super) struct Watch {
    inotify: Option<Inotify<OwnedFd>>,
}

#[derive(Debug)]
struct Inotify<T> {
    fd: T,
    root: i32,
    folders: HashMap<i32, InstanceId>,
}

impl Watch {
    /// Watches for folders in `dir`.
    pub(super) fn new(dir: &Path) -> Watch {
        Watch { inotify: Inotify::new(dir).ok() }
    }

    #[cfg(test)]
    pub(super) fn polling() -> Watch {
        Watch { inotify: None }
    }

    /// Watches the folder of an instance too.
    pub(super) fn add(&mut self, id: &InstanceId, folder: &Path) {
        self.inotify.take_if(|inotify| add(&inotify.fd, &mut inotify.folders, id, folder).is_err());
    }

    /// Goes on in a runtime.
    #[expect(unsafe_code, reason = "registers a descriptor with the runtime's poller")]
    pub(super) fn start(self) -> Waiter {
        let inotify = self.inotify.and_then(|Inotify { fd, root, folders }| {
            // SAFETY: an `OwnedFd` names one open descriptor until it is dropped, and the `AsyncFd`
            // that takes it never gives out what could close or replace it.
            let fd = unsafe { AsyncFd::register(fd) }.ok()?;
            Some(Inotify { fd, root, folders })
        });
        Waiter { inotify, poll: tokio::time::interval(POLL) }
    }
}

impl Inotify<OwnedFd> {
    fn new(dir: &Path) -> Result<Inotify<OwnedFd>, Errno> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let flags = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::DELETE;
        let root = inotify::add_watch(&fd, dir, flags | WatchFlags::ONLYDIR)?;
        Ok(Inotify { fd, root, folders: HashMap::new() })
    }
}

fn add(
    fd: &OwnedFd,
    folders: &mut HashMap<i32, InstanceId>,
    id: &InstanceId,
    folder: &Path,
) -> Result<(), Errno> {
    let flags = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
    match inotify::add_watch(fd, folder, flags | WatchFlags::ONLYDIR) {
        Ok(watch) => {
            folders.insert(watch, id.clone());
            Ok(())
        }
        // Gone again already.
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
        Err(e) => Err(e),
    }
}

/// Waits for changes.
#[derive(Debug)]
pub(super) struct Waiter {
    inotify: Option<Inotify<AsyncFd<OwnedFd>>>,
    poll: tokio::time::Interval,
}

impl Waiter {
    /// Watches the folder of an instance too.
    pub(super) fn add(&mut self, id: &InstanceId, folder: &Path) {
        self.inotify.take_if(|inotify| {
            add(inotify.fd.get_ref(), &mut inotify.folders, id, folder).is_err()
        });
    }

    /// Waits until something may have changed. Nothing is lost when the future is dropped.
    pub(super) async fn wait(&mut self) -> Changes {
        if let Some(inotify) = &mut self.inotify {
            let ready = match inotify.fd.readable().await {
                Ok(mut ready) => {
                    ready.clear_ready();
                    Ok(())
                }
                Err(e) => Err(e),
            };
            if ready.is_ok()
                && let Ok(changes) = inotify.take()
            {
                return changes;
            }
            self.inotify = None;
        }
        self.poll.tick().await;
        Changes { everywhere: true, ..Changes::default() }
    }
}

impl Inotify<AsyncFd<OwnedFd>> {
    /// Every event that there is.
    fn take(&mut self) -> Result<Changes, Errno> {
        let mut changes = Changes::default();
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(self.fd.get_ref(), &mut buffer);
        loop {
            match reader.next() {
                Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => {
                    changes.everywhere = true;
                }
                Ok(event) if event.wd() == self.root => changes.everywhere = true,
                Ok(event) if event.events().contains(ReadFlags::IGNORED) => {
                    self.folders.remove(&event.wd());
                }
                Ok(event) => changes.instances.extend(self.folders.get(&event.wd()).cloned()),
                Err(Errno::AGAIN) => return Ok(changes),
                Err(Errno::INTR) => {}
                Err(e) => return Err(e),
            }
        }
    }
}
