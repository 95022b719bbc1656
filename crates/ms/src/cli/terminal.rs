//! The terminal: its width, keys one at a time, and the full screen.
//!
//! Invariant: whatever is changed is put back when its guard is dropped, also after a panic.

use std::io::{Read, Write};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios};
use tokio::sync::mpsc;

use super::stop::Outcome;

/// Columns of the terminal on stdout, else on stderr.
pub(crate) fn width() -> Option<usize> {
    size().map(|(columns, _)| columns)
}

/// Columns and rows of the terminal.
pub(crate) fn size() -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout())
        .or_else(|_| rustix::termios::tcgetwinsize(std::io::stderr()))
        .ok()?;
    (size.ws_col > 0).then(|| (usize::from(size.ws_col), usize::from(size.ws_row)))
}

/// Keys come one at a time and unechoed while this lives. Ctrl-C stays a signal.
pub(crate) struct Keys {
    before: Termios,
    receiver: mpsc::Receiver<u8>,
}

impl Keys {
    /// Takes the keyboard; `None` when stdin is no terminal.
    pub(crate) fn take() -> Option<Keys> {
        let stdin = std::io::stdin();
        let before = rustix::termios::tcgetattr(&stdin).ok()?;
        let mut single = before.clone();
        single.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        single.special_codes[SpecialCodeIndex::VMIN] = 1;
        single.special_codes[SpecialCodeIndex::VTIME] = 0;
        rustix::termios::tcsetattr(&stdin, OptionalActions::Now, &single).ok()?;
        let (sender, receiver) = mpsc::channel(64);
        // Reading a terminal cannot be cancelled, so a thread does it; it ends with the process.
        std::thread::spawn(move || {
            let mut byte = [0];
            while matches!(std::io::stdin().read(&mut byte), Ok(1)) {
                if sender.blocking_send(byte[0]).is_err() {
                    return;
                }
            }
        });
        Some(Keys { before, receiver })
    }

    /// The next key, `None` when there will be no more.
    pub(crate) async fn next(&mut self) -> Option<u8> {
        self.receiver.recv().await
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // The terminal may be gone; there is nothing to put back then.
        _ = rustix::termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// The alternate screen, with the cursor hidden.
pub(crate) struct FullScreen(());

impl FullScreen {
    /// Switches to it.
    pub(crate) fn enter() -> Outcome<FullScreen> {
        let mut out = std::io::stdout();
        out.write_all(b"\x1b[?1049h\x1b[?25l\x1b[?7l")?;
        out.flush()?;
        Ok(FullScreen(()))
    }
}

impl Drop for FullScreen {
    fn drop(&mut self) {
        let mut out = std::io::stdout();
        // The terminal may be gone; there is nothing to put back then.
        _ = out.write_all(b"\x1b[?7h\x1b[?25h\x1b[?1049l").and_then(|()| out.flush());
    }
}
