//! Ctrl-C, `kill` and a closed terminal: what asks a command to end.
//!
//! Invariant: from [`Interrupt::listen`] on no such signal is lost, also when it comes while
//! nobody waits for one.

use base::Problem;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::stop::{FAILED, Outcome, Stop};

/// Signals that ask to end.
pub(crate) struct Interrupt {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Interrupt {
    /// Listens from now on.
    pub(crate) fn listen() -> Outcome<Interrupt> {
        let on = |kind| {
            signal(kind).map_err(|e| {
                let problem = Problem::new("internal", "cannot listen for signals")
                    .with_cause(e.to_string())
                    .with_next("if this stays, it is a bug worth reporting");
                Stop::new(FAILED, problem)
            })
        };
        Ok(Interrupt {
            interrupt: on(SignalKind::interrupt())?,
            terminate: on(SignalKind::terminate())?,
            hangup: on(SignalKind::hangup())?,
        })
    }

    /// The next of them. May be dropped and called again.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
