//! How an instance ended.

use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use base::UnixNanos;
use serde::{Deserialize, Serialize};

/// The end of an instance. Neither `code` nor `signal` means that nobody saw it end: its shim was
/// killed, or the machine restarted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// What the program returned, when it returned.
    pub code: Option<i32>,
    /// The signal that ended it, when one did.
    pub signal: Option<i32>,
    /// Whether the kernel killed something in it for want of memory under its limit.
    pub out_of_memory: bool,
    /// Its last lines of output, both streams, oldest first; 20 at most.
    pub last_lines: Vec<String>,
    /// Programs that it left running when it ended by itself with code 0, by name, a few at most:
    /// those of one that goes into the background. They ended with it.
    #[serde(default)]
    pub left: Vec<String>,
    /// When it ended.
    pub at: UnixNanos,
    /// How long it ran.
    pub ran_for: Duration,
}

impl Exit {
    /// Whether it ended by itself with code 0.
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }
}

/// How many last lines an exit carries.
pub(crate) const LAST_LINES: usize = 20;

/// How much of a log is read for its last lines, in bytes.
const TAIL_BYTES: u64 = 32 << 10;

/// The last lines in a log folder, for an end that no shim recorded.
pub(crate) fn last_lines(logs: &Path) -> Vec<String> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(logs.join("current.log"))?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    // Time, stream, whole or part, text. A line that was cut in front has less.
    let line = |line: &str| Some(line.splitn(4, ' ').nth(3)?.to_owned());
    let lines: Vec<_> = text.lines().filter_map(line).collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].to_vec()
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.signal) {
            _ if self.out_of_memory => f.write_str("killed: it used more memory than its limit"),
            (Some(code), _) => write!(f, "exit code {code}"),
            (None, Some(signal)) => match crate::sys::signal_name(signal) {
                Some(name) => write!(f, "killed by {name}"),
                None => write!(f, "killed by signal {signal}"),
            },
            (None, None) => {
                f.write_str("ended unseen: its shim was killed or the machine restarted")
            }
        }
    }
}
