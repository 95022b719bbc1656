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

/// Returns once one of the expected ports accepts, or at once when none is expected.
async fn until_listening(instance: &Instance) {
    let host = IpAddr::V4(instance.address.unwrap_or(Ipv4Addr::LOCALHOST));
    let ports = &instance.spec.ports;
    let mut wait = LOOK_FIRST;
    while !ports.is_empty() {
        for port in ports {
            if accepts(SocketAddr::new(host, *port)).await {
                return;
            }
        }
        sleep(wait).await;
        wait = (wait * 3 / 2).min(LOOK_LAST);
    }
}

async fn accepts(address: SocketAddr) -> bool {
    // Loopback answers at once; a full backlog may not.
    let connect = timeout(Duration::from_secs(1), TcpStream::connect(address)).await;
    matches!(connect, Ok(Ok(_)))
}

async fn check_forever(shared: &Shared, instance: &Instance, health: &HealthSpec) {
    let begun = shared.clock.monotonic();
    let (mut failures, mut was_healthy) = (0, false);
    loop {
        let result = match timeout(health.timeout, check(instance, health)).await {
            Ok(result) => result,
            Err(_) => {
                Err(format!("no answer within {}", base::units::show_duration(health.timeout)))
            }
        };
        let starting =
            !was_healthy && shared.clock.monotonic().saturating_sub(begun) < health.start_period;
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
        let pause = if starting && !was_healthy { health.start_interval } else { health.interval };
        // Without a pause a check that ends at once would take a whole processor.
        sleep(pause.max(Duration::from_millis(10))).await;
    }
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
        (true, ..) => format!("no answer within {}", base::units::show_duration(health.timeout)),
        (_, Some(code), _) => format!("exit code {code}"),
        (_, _, signal) => format!("killed by signal {}", signal.unwrap_or_default()),
    };
    let said = output.output.trim();
    Err(if said.is_empty() { how } else { format!("{how}: {said}") })
}
