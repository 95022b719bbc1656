//! The running edge: its threads, and the handle that the rest of the program has on them.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use base::InstanceId;
use net::ConnectionLimit;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::watch;

use crate::director::Director;
use crate::shared::{Compiled, Phase, Shared};
use crate::worker::Worker;
use crate::{EdgeConfig, EdgeStatus, RouteTable};

/// Why the edge could not start.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// The system refused a thread or its event queue.
    #[error("cannot start the thread {thread}: {cause}")]
    Thread {
        /// The name of the thread.
        thread: String,
        /// The system's words.
        cause: io::Error,
    },
}

/// A running edge. Dropping it ends it at once; [`Edge::drain`] ends it in good order.
pub struct Edge {
    shared: Arc<Shared>,
    status: watch::Receiver<Arc<EdgeStatus>>,
    threads: Vec<JoinHandle<()>>,
}

impl Edge {
    /// Starts the edge's threads; they follow `tables` from its present value on. Listeners that
    /// cannot be bound are named in the status and tried again.
    ///
    /// # Errors
    /// The system has no thread or file descriptor to give.
    pub fn start(
        config: EdgeConfig,
        tables: watch::Receiver<Arc<RouteTable>>,
    ) -> Result<Edge, EdgeError> {
        let count = match config.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            count => count,
        };
        let limit = ConnectionLimit::new(config.limits.connections_max);
        let shared = Arc::new(Shared::new(config, count));
        let (compiled, _) = watch::channel(Arc::new(Compiled::default()));
        let (published, status) = watch::channel(Arc::default());
        let mut edge = Edge { shared: Arc::clone(&shared), status, threads: Vec::new() };
        for index in 0..count {
            let (shared, tables) = (Arc::clone(&shared), compiled.subscribe());
            let limit = limit.clone();
            edge.thread(format!("edge-{index}"), move |runtime| {
                let worker = Rc::new(Worker::new(index, shared, limit));
                // As a task, since waking the outermost future costs a system call.
                let main = runtime.spawn_local(worker.run(tables));
                // A panic of the thread's main loop has been reported by the panic hook.
                let _ = runtime.block_on(main);
            })?;
        }
        edge.thread("edge-director".to_owned(), move |runtime| {
            runtime.block_on(Director::new(shared, tables, compiled, published).run());
        })?;
        Ok(edge)
    }

    fn thread(
        &mut self,
        name: String,
        run: impl FnOnce(&LocalRuntime) + Send + 'static,
    ) -> Result<(), EdgeError> {
        let failed = |cause| EdgeError::Thread { thread: name.clone(), cause };
        let (tell, told): (SyncSender<io::Result<()>>, _) = sync_channel(1);
        let body = move || {
            let runtime =
                Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
            match runtime {
                Ok(runtime) => {
                    // Nobody listens only when `start` has failed already.
                    let _ = tell.send(Ok(()));
                    run(&runtime);
                }
                Err(error) => {
                    let _ = tell.send(Err(error));
                }
            }
        };
        let thread = std::thread::Builder::new().name(name.clone()).spawn(body).map_err(failed)?;
        self.threads.push(thread);
        told.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into())).map_err(failed)
    }

    /// What is in force, bound and under way; changes when any of it changes.
    pub fn status(&self) -> watch::Receiver<Arc<EdgeStatus>> {
        self.status.clone()
    }

    /// Requests and attempts to connect under way to an instance, at this moment.
    pub fn inflight(&self, instance: &InstanceId) -> u32 {
        self.shared.loads().get(instance).map_or(0, |load| load.counts().inflight)
    }

    /// Upgraded connections and TCP sessions with an instance, at this moment.
    pub fn sessions(&self, instance: &InstanceId) -> u32 {
        self.shared.loads().get(instance).map_or(0, |load| load.counts().sessions)
    }

    /// Client connections that are open, at this moment.
    pub fn connections(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Stops accepting, lets what is under way finish, and ends the edge: at the latest after
    /// `within`. `true` when nothing was cut off.
    pub async fn drain(self, within: Duration) -> bool {
        self.shared.phase.send_replace(Phase::Draining);
        let mut drained = self.shared.drained.subscribe();
        let ended = drained.wait_for(|drained| *drained == self.threads.len() - 1);
        tokio::time::timeout(within, ended).await.is_ok_and(|ended| ended.is_ok())
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.shared.phase.send_replace(Phase::Stopped);
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so on its own.
            let _ = thread.join();
        }
    }
}
