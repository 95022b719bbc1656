//! What builds say, kept for whoever asks: the newest lines of all builds, numbered.
//!
//! Not here: building. Invariant: memory is bounded; who asks too late misses the oldest lines.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base::units::show_duration;
use base::{Clock, ServiceName};
use builder::{Progress, Watch};
use console::wire::BuildLine;

/// How many lines are kept.
const LINES_MAX: usize = 10_000;
/// A longer line is cut, in bytes.
const LINE_BYTES_MAX: usize = 4 << 10;

/// Lines of builds.
pub(super) struct Builds {
    clock: Arc<dyn Clock>,
    lines: Mutex<VecDeque<BuildLine>>,
}

impl Builds {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Builds {
        Builds { clock, lines: Mutex::default() }
    }

    fn lines(&self) -> MutexGuard<'_, VecDeque<BuildLine>> {
        // Nothing panics while it is held.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lines after `after`, oldest first, `limit` at most.
    pub(super) fn after(&self, after: u64, limit: usize) -> Vec<BuildLine> {
        let lines = self.lines();
        let start = lines.partition_point(|line| line.seq <= after);
        lines.iter().skip(start).take(limit).cloned().collect()
    }

    fn say(&self, service: &ServiceName, kind: &str, text: &str) {
        let end = text.floor_char_boundary(LINE_BYTES_MAX);
        let mut lines = self.lines();
        // Numbers are times, so that they grow over a restart of the engine too.
        let last = lines.back().map_or(0, |line| line.seq);
        let seq = (last + 1).max(self.clock.now().0);
        let (kind, text) = (kind.to_owned(), text[..end].to_owned());
        lines.push_back(BuildLine { seq, service: service.clone(), kind, text });
        let surplus = lines.len().saturating_sub(LINES_MAX);
        lines.drain(..surplus);
    }

    /// Keeps what the build of a service says.
    pub(super) fn watch<'a>(
        &'a self,
        service: &ServiceName,
        unwanted: &'a dyn Fn() -> bool,
    ) -> Box<dyn Watch + 'a> {
        Box::new(Said { builds: self, service: service.clone(), unwanted })
    }
}

struct Said<'a> {
    builds: &'a Builds,
    service: ServiceName,
    unwanted: &'a dyn Fn() -> bool,
}

impl Watch for Said<'_> {
    fn told(&mut self, progress: &Progress<'_>) {
        let (kind, text) = match progress {
            Progress::Step { number, total, text, .. } => {
                ("step", format!("[{number}/{total}] {text}"))
            }
            Progress::Cached => ("cached", String::new()),
            Progress::Done { took } => ("done", show_duration(*took)),
            // What a line was drawn over with is what it says in the end.
            Progress::Output(line) => {
                ("output", line.trim_end().rsplit('\r').next().unwrap_or_default().to_owned())
            }
            Progress::Note(note) => ("note", (*note).to_owned()),
        };
        self.builds.say(&self.service, kind, &text);
    }

    fn is_unwanted(&self) -> bool {
        (self.unwanted)()
    }
}
