//! Coverage-guided fuzzing of every parser of outside bytes: `cargo xtask fuzz` builds and runs it.
//!
//! Not here: what must hold; that is in each crate's `fuzzing` module, whose tests replay the
//! seeds of `seeds/TARGET/` in ordinary builds. `MS_FUZZ_TARGET` names the target.
//!
//! Invariant of every target but `store_file`: memory in use grows by no more than [`heap_max`]
//! while it runs. redb believes a damaged file about the size of a page, and takes memory for it
//! before it finds the file shorter; `-rss_limit_mb` alone bounds that.

#![no_main]

mod kafka_oracle;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use libfuzzer_sys::fuzz_target;

type Target = fn(&[u8]);

const TARGETS: &[(&str, Target)] = &[
    ("certificate", net::fuzzing::subjects),
    ("compose", spec::fuzzing::compose),
    ("console_answer", console::fuzzing::console_answer),
    ("console_request", console::fuzzing::console_request),
    ("dns_question", names::fuzzing::dns_question),
    ("dockerfile", spec::fuzzing::dockerfile),
    ("dockerignore", spec::fuzzing::dockerignore),
    ("env_file", spec::fuzzing::env_file),
    ("file_pattern", builder::fuzzing::file_pattern),
    ("first_bytes", edge::fuzzing::first_bytes),
    ("host_files", host_files),
    ("http_chunked", edge::fuzzing::http_chunked),
    ("http_request", edge::fuzzing::http_request),
    ("http_response", edge::fuzzing::http_response),
    ("instance_record", agent::fuzzing::instance_record),
    ("kafka_message", kafka_wire::fuzzing::message),
    ("kafka_oracle", kafka_oracle::kafka_oracle),
    ("log_file", telemetry::fuzzing::log_file),
    ("login", events::fuzzing::login),
    ("metric_history", telemetry::fuzzing::metric_history),
    ("search", telemetry::fuzzing::search),
    ("store_file", control::fuzzing::store_file),
    ("store_record", control::fuzzing::store_record),
    ("volume_format", volumes::fuzzing::volume_format),
    ("volume_store", volumes::fuzzing::volume_store),
];

fn host_files(bytes: &[u8]) {
    agent::fuzzing::host_files(bytes);
    net::fuzzing::host_files(bytes);
}

/// What a target may take beside what it is given. The bounds of values, nodes and windows are
/// some megabytes each; a count or a length that is believed takes more.
fn heap_max(input_bytes: usize) -> usize {
    (48 << 20) + 256 * input_bytes
}

static TARGET: LazyLock<(&str, Target)> = LazyLock::new(|| {
    let name = std::env::var("MS_FUZZ_TARGET").unwrap_or_default();
    let found = TARGETS.iter().find(|(each, _)| *each == name);
    *found.unwrap_or_else(|| panic!("MS_FUZZ_TARGET names no target: `{name}`"))
});

fuzz_target!(init: let_redb_unwind(), |bytes: &[u8]| {
    let (name, target) = *TARGET;
    let before = IN_USE.load(Relaxed);
    MOST.store(before, Relaxed);
    target(bytes);
    let taken = MOST.load(Relaxed).saturating_sub(before);
    let bounded = name == "store_file" || taken <= heap_max(bytes.len());
    assert!(bounded, "{taken} bytes for {} bytes", bytes.len());
});

/// A panic ends the process, save one of redb over a damaged file, which `control` catches: one
/// that it does not catch still ends the process, a little later.
fn let_redb_unwind() {
    let abort = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.location().is_none_or(|place| !place.file().contains("/redb-")) {
            abort(panic);
        }
    }));
}

/// Bytes in use now, and the most since the target was called.
static IN_USE: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static COUNTED: Counted = Counted;

/// The system's allocator, counted.
struct Counted;

fn count(bytes: usize) {
    let in_use = IN_USE.fetch_add(bytes, Relaxed).wrapping_add(bytes);
    MOST.fetch_max(in_use, Relaxed);
}

// SAFETY: every call goes to the system's allocator as it came; the counting does not allocate.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    // The kernel's own zeros: what is never touched is never given.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) }
    }
}
