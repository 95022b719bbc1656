//! `never!`: an assertion that counts and carries on, for code that must not stop.

use std::sync::atomic::{AtomicU64, Ordering};

static SEEN: AtomicU64 = AtomicU64::new(0);

/// How often a `never!` has been true since the process started. Exported as a metric.
pub fn never_count() -> u64 {
    SEEN.load(Ordering::Relaxed)
}

#[doc(hidden)]
pub fn never_seen(what: &str, file: &str, line: u32) {
    SEEN.fetch_add(1, Ordering::Relaxed);
    debug_assert!(false, "{file}:{line}: never: {what}");
}

/// Says that a condition never holds, and returns it so that the caller can fall back.
///
/// Panics in debug builds; in release builds it counts. Use it where going on is safer than
/// stopping: the edge, the console. Storage uses `assert!`.
#[macro_export]
macro_rules! never {
    ($cond:expr, $what:literal) => {{
        let seen = $cond;
        if seen {
            $crate::never_seen($what, file!(), line!());
        }
        seen
    }};
}
