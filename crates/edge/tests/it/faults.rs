//! Clients that are slow, or send heads without end: each has its answer, and others theirs.

use std::time::Duration;

use edge::Limits;

use crate::rig::{Backend, Client, Options, Rig, body, get, ready};

/// Times that a test can wait for.
fn short() -> Limits {
    Limits {
        head_timeout: Duration::from_millis(750),
        stall_timeout: Duration::from_millis(750),
        ..Limits::default()
    }
}

fn rig(limits: Limits) -> Rig {
    let backend = Backend::named("x");
    Rig::with(Options { limits, ..Options::default() }, vec![ready(1, backend.addr)])
}

/// Others are served while this goes on.
fn others_are_served(rig: &Rig) {
    assert_eq!(body(&rig.ask(&get("/"))), "x");
}

/// Everything up to the end, whether it ends in order or is reset.
fn refused(client: &mut Client, status: &str) {
    let response = client.response("GET");
    assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{response}");
    assert!(response.contains("connection: close\r\n"), "{response}");
}

#[test]
fn a_head_has_until_its_timeout_however_steadily_it_drips() {
    let rig = rig(short());
    let mut clients: Vec<Client> = (0..50).map(|_| rig.client()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: w\r\n");
    }
    // Each piece comes well within the timeout; the head as a whole does not.
    let drips = clients.iter().map(|client| client.stream.try_clone().unwrap());
    let mut drips: Vec<_> = drips.collect();
    let dripping = std::thread::spawn(move || {
        use std::io::Write;
        for at in 0..20 {
            let line = format!("X-{at}: y\r\n");
            // Refused at some point, which is what is waited for.
            drips.retain_mut(|drip| drip.write_all(line.as_bytes()).is_ok());
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    others_are_served(&rig);
    for client in &mut clients {
        refused(client, "408");
    }
    others_are_served(&rig);
    rig.wait_count("ms_edge_refused_total", &[("reason", "head-timeout")], 50);
    drop(clients);
    dripping.join().unwrap();
    rig.wait_count("ms_edge_connections", &[], 0);
}

#[test]
fn a_body_that_stops_is_the_clients_fault_and_an_answer_that_does_not_come_is_not() {
    let backend = Backend::raw(|mut instance, _| {
        instance.until("\r\n\r\n");
        instance.rest();
    });
    let options = Options { limits: short(), ..Options::default() };
    let rig = Rig::with(options, vec![ready(1, backend.addr)]);
    let post = "POST / HTTP/1.1\r\nHost: w\r\n";
    for stops in ["Content-Length: 9\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n9\r\nabc"] {
        let mut client = rig.client();
        client.send(format!("{post}{stops}"));
        refused(&mut client, "408");
    }
    rig.wait_count("ms_edge_requests_total", &[("code_class", "4xx")], 2);
    let mut whole = rig.client();
    whole.send(format!("{post}Content-Length: 3\r\n\r\nabc"));
    assert!(whole.response("POST").starts_with("HTTP/1.1 504 "));
    // Both are let go at the instance as well.
    while rig.edge.as_ref().unwrap().inflight(&crate::rig::instance(1)) > 0 {
        std::thread::yield_now();
    }
}

#[test]
fn a_client_that_does_not_read_is_ended_and_holds_up_nobody() {
    let backend = Backend::raw(|mut instance, _| {
        while let Some(request) = instance.message(false) {
            if request.starts_with("GET /long ") {
                // More than every buffer between them takes.
                let long = vec![b'y'; 64 << 20];
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", long.len());
                use std::io::Write;
                instance.send(head);
                let _ = instance.stream.write_all(&long);
                return;
            }
            instance.send(crate::rig::ok("x"));
        }
    });
    let options = Options { limits: short(), ..Options::default() };
    let rig = Rig::with(options, vec![ready(1, backend.addr)]);
    let mut clients: Vec<Client> = (0..20).map(|_| rig.client()).collect();
    for client in &mut clients {
        client.send(get("/long"));
    }
    others_are_served(&rig);
    // Counted as broken off by the edge.
    rig.wait_count("ms_edge_requests_total", &[("code_class", "5xx")], 20);
    others_are_served(&rig);
}

#[test]
fn heads_past_their_bounds_are_refused_wherever_they_stop() {
    let rig = rig(Limits::default());
    let fields = |count: usize, len: usize| {
        (0..count).map(|at| format!("X-{at}: {}\r\n", "y".repeat(len))).collect::<String>()
    };
    for (bomb, status) in [
        (format!("GET / HTTP/1.1\r\nHost: w\r\n{}\r\n", fields(101, 1)), "431"),
        (format!("GET / HTTP/1.1\r\nHost: w\r\n{}", fields(1, 20_000)), "431"),
        (format!("GET / HTTP/1.1\r\nHost: w\r\n{}", fields(2_000, 2_000)), "431"),
        (format!("GET /{}", "y".repeat(1_000_000)), "414"),
        (format!("GET / HTTP/1.1\r\n{}", ":".repeat(100_000)), "431"),
    ] {
        let mut client = rig.client();
        let mut sender = client.stream.try_clone().unwrap();
        // What comes after the refusal is not read to its end.
        let sending = std::thread::spawn(move || {
            use std::io::Write;
            let _ = sender.write_all(bomb.as_bytes());
        });
        refused(&mut client, status);
        drop(client);
        sending.join().unwrap();
    }
    others_are_served(&rig);
}
