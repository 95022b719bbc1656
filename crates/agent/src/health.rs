//! Whether an instance is healthy, tried again and again while it runs.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::event::What;
use crate::instance::{Instance, Shared};
use crate::spec::{HealthSpec, HealthTest};

/// The first wait between looks at a port that should soon be open; it grows by half each time.
const LOOK_FIRST: Duration = Duration::from_millis(5);

/// The longest such wait.
const LOOK_LAST: Duration = Duration::from_millis(500);

/// The first wait between checks of an instance that was not healthy yet; it grows likewise.
const CLOSE_FIRST: Duration = Duration::from_millis(25);

/// An instance with neither port nor check is healthy once it has run this long: most that cannot
/// work end before.
const SETTLE: Duration = Duration::from_millis(500);

/// Longest detail of a failed check, in bytes.
const DETAIL_BYTES_MAX: usize = 512;

/// Watches until dropped.
pub(crate) async fn watch(shared: &Shared, instance: &Instance) {
    match &instance.spec.health {
        Some(health) => check_forever(shared, instance, health).await,
        None => {
            until_listening(instance).await;
            instance.verdict(shared, What::Healthy).await;
            std::future::pending().await
        }
    }
}

/// Returns once one of the expected ports accepts, or soon when none is expected.
async fn until_listening(instance: &Instance) {
    let host = IpAddr::V4(instance.address.unwrap_or(Ipv4Addr::LOCALHOST));
    let ports = &instance.spec.ports;
    if ports.is_empty() {
        return sleep(SETTLE).await;
    }
    let mut wait = LOOK_FIRST;
    loop {
        for port in ports {
            if accepts(SocketAddr::new(host, *port)).await {
                return;
            }
        }
        instance.note_failure(&nobody_listens(ports));
        sleep(wait).await;
        wait = (wait * 3 / 2).min(LOOK_LAST);
    }
}

fn nobody_listens(ports: &[u16]) -> String {
    let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
    format!("nothing listens on port {}", ports.join(" or "))
}

async fn accepts(address: SocketAddr) -> bool {
    // Loopback answers at once; a full backlog may not.
    let connect = timeout(Duration::from_secs(1), TcpStream::connect(address)).await;
    matches!(connect, Ok(Ok(_)))
}

/// Tries again and again. Until the first success, and no longer than the time in which failures do
/// not count, the tries begin close together: whoever is ready soon is healthy soon.
async fn check_forever(shared: &Shared, instance: &Instance, health: &HealthSpec) {
    let begun = shared.clock.monotonic();
    // A first check that waited for `interval`, as elsewhere, could not have failed before.
    let uncounted = health.start_period.max(health.interval);
    let close_last = health.start_interval.min(health.interval).max(CLOSE_FIRST);
    let (mut failures, mut was_healthy, mut close) = (0, false, CLOSE_FIRST);
    loop {
        let result = match timeout(health.timeout, check(instance, health)).await {
            Ok(result) => result,
            Err(_) => Err(no_answer(health)),
        };
        let age = shared.clock.monotonic().saturating_sub(begun);
        let starting = !was_healthy && age < uncounted;
        match result {
            Ok(()) => {
                (failures, was_healthy) = (0, true);
                instance.verdict(shared, What::Healthy).await;
            }
            Err(detail) => {
                instance.note_failure(&detail);
                if !starting {
                    failures += 1;
                }
                if failures >= health.retries.max(1) {
                    instance.verdict(shared, What::Unhealthy { detail }).await;
                }
            }
        }
        if starting && !was_healthy {
            sleep(close).await;
            close = (close * 3 / 2).min(close_last);
        } else {
            // Without a pause a check that ends at once would take a whole processor.
            sleep(health.interval.max(Duration::from_millis(10))).await;
        }
    }
}

fn no_answer(health: &HealthSpec) -> String {
    format!("no answer within {}", base::units::show_duration(health.timeout))
}

async fn check(instance: &Instance, health: &HealthSpec) -> Result<(), String> {
    let argv = match &health.test {
        HealthTest::Exec(argv) => argv.clone(),
        HealthTest::Shell(line) => ["/bin/sh", "-c", line].map(str::to_owned).to_vec(),
        HealthTest::Tcp(addresses) => {
            for address in addresses {
                TcpStream::connect(address).await.map_err(|e| format!("{address}: {e}"))?;
            }
            return Ok(());
        }
    };
    let output = instance.exec(argv, health.timeout, DETAIL_BYTES_MAX).await;
    let output = output.map_err(|e| e.to_string())?;
    if output.code == Some(0) {
        return Ok(());
    }
    let how = match (output.timed_out, output.code, output.signal) {
        (true, ..) => no_answer(health),
        (_, Some(code), _) => format!("exit code {code}"),
        (_, _, signal) => format!("killed by signal {}", signal.unwrap_or_default()),
    };
    let said = output.output.trim();
    Err(if said.is_empty() { how } else { format!("{how}: {said}") })
}
