//! A warm connection costs no allocation per request.
//!
//! Alone in its binary, since it counts every allocation of the process: the edge, and here a
//! client and an instance that use arrays.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

mod one;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[expect(unsafe_code, reason = "an allocator that counts")]
// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const REQUEST: &[u8] = b"POST /a HTTP/1.1\r\nHost: web\r\nContent-Length: 3\r\nA: b\r\n\r\nabc";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: s\r\nContent-Length: 5\r\n\r\nhello";
/// What the edge makes of them.
const FORWARDED: usize = REQUEST.len() + ADDED.len();
const ADDED: &str =
    "x-forwarded-for: 127.0.0.1\r\nx-forwarded-proto: http\r\nx-forwarded-host: web\r\n";

fn exactly(stream: &mut TcpStream, len: usize) -> bool {
    let mut bytes = [0; 1024];
    stream.read_exact(&mut bytes[..len]).is_ok()
}

#[test]
fn a_warm_connection_allocates_nothing_per_request() {
    let backend = TcpListener::bind((one::ip(0), 8000)).unwrap();
    let upstream = backend.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = backend.accept().unwrap();
        while exactly(&mut stream, FORWARDED) {
            stream.write_all(RESPONSE).unwrap();
        }
    });
    let edge = one::edge(upstream, 1);
    let mut client = TcpStream::connect(edge.addr).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut ask = |count: u32| {
        for _ in 0..count {
            client.write_all(REQUEST).unwrap();
            assert!(exactly(&mut client, RESPONSE.len()));
        }
    };
    ask(200);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    ask(5_000);
    let made = ALLOCATIONS.load(Ordering::Relaxed) - before;
    // Nothing per request; the runtime may grow a queue of its own once or twice.
    assert!(made < 20, "{made} allocations for 5000 requests");
    assert_eq!(edge.edge.connections(), 1);
}
