//! `ms top`: services in one table, once or renewed each second on a full screen.

use std::cmp::Ordering;
use std::time::Duration;

use base::Clock;
use base::units::show_bytes;
use console::wire::{Overview, ServiceView};
use serde::Serialize;

use super::api::Client;
use super::args::Top;
use super::interrupt::Interrupt;
use super::out::Out;
use super::show::{
    ago, cores, health_mark, health_word, latency, memory, rate, share, state_style,
};
use super::stop::{DONE, Outcome, Stop};
use super::style::{Style, clean, cut, paint};
use super::table::{Column, numbers, table, words};
use super::terminal::{FullScreen, Keys};

const COLUMNS: [Column; 9] = [
    words("SERVICE"),
    words("HEALTH"),
    numbers("READY"),
    numbers("REQ/S"),
    numbers("SUCCESS"),
    numbers("P50"),
    numbers("P99"),
    numbers("CPU"),
    numbers("MEMORY"),
];

/// What rows are ordered by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Order {
    #[default]
    Name,
    Rate,
    Slow,
    Cpu,
    Memory,
}

impl Order {
    const ALL: [(Order, &'static str); 5] = [
        (Order::Name, "name"),
        (Order::Rate, "req/s"),
        (Order::Slow, "p99"),
        (Order::Cpu, "CPU"),
        (Order::Memory, "memory"),
    ];

    fn word(self) -> &'static str {
        Order::ALL.iter().find(|(order, _)| *order == self).map_or("", |(_, word)| word)
    }

    fn next(self) -> Order {
        let at = Order::ALL.iter().position(|(order, _)| *order == self).unwrap_or_default();
        Order::ALL[(at + 1) % Order::ALL.len()].0
    }

    /// Largest first, then by name.
    fn compare(self, a: &ServiceView, b: &ServiceView) -> Ordering {
        let by = |of: fn(&ServiceView) -> f64| of(b).total_cmp(&of(a));
        let first = match self {
            Order::Name => Ordering::Equal,
            Order::Rate => by(|s| s.traffic.requests_per_second),
            Order::Slow => by(|s| s.traffic.p99_ms.unwrap_or(-1.0)),
            Order::Cpu => by(|s| s.cpu_cores),
            Order::Memory => b.memory_bytes.cmp(&a.memory_bytes),
        };
        first.then_with(|| a.name.cmp(&b.name))
    }
}

/// Shows the services.
pub(crate) async fn run(top: &Top, client: &Client, clock: &dyn Clock, out: &mut Out) -> Outcome {
    let overview = client.overview().await?;
    super::names::select(&overview, &top.services)?;
    let keys = if top.once || out.mode.json || !out.mode.terminal { None } else { Keys::take() };
    match keys {
        Some(keys) => live(top, client, keys, clock, out).await,
        None => once(top, &overview, out),
    }
}

fn once(top: &Top, overview: &Overview, out: &mut Out) -> Outcome {
    let services = super::names::select(overview, &top.services)?;
    if out.mode.json {
        #[derive(Serialize)]
        struct Table<'a> {
            app: &'a Option<String>,
            services: Vec<&'a ServiceView>,
            calls: &'a [console::wire::CallView],
        }
        let app = &overview.status.app;
        out.json("ms.top/1", &Table { app, services, calls: &overview.calls })?;
    } else if services.is_empty() {
        out.progress("nothing runs; `ms up` starts the app")?;
    } else {
        out.text(&render(services, Order::Name, out.mode.color, out.mode.width))?;
    }
    out.flush()?;
    Ok(DONE)
}

async fn live(
    top: &Top,
    client: &Client,
    mut keys: Keys,
    clock: &dyn Clock,
    out: &mut Out,
) -> Outcome {
    let _screen = FullScreen::enter()?;
    let mut order = Order::default();
    let mut overview = Some(client.overview().await?);
    let mut interrupt = Interrupt::listen()?;
    loop {
        let (width, height) = super::terminal::size().unwrap_or((80, 24));
        let frame = match &overview {
            Some(overview) => {
                let services = super::names::select(overview, &top.services)?;
                frame(overview, services, order, clock, out.mode.color, width)
            }
            None => vec!["the engine does not answer; waiting for it".to_owned()],
        };
        out.text(&draw(&frame, width, height))?;
        out.flush()?;
        tokio::select! {
            key = keys.next() => match key {
                Some(b'q' | 0x04) | None => return Ok(DONE),
                Some(b's') => { order = order.next(); continue }
                Some(_) => continue,
            },
            () = interrupt.next() => return Err(Stop::Interrupted),
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
        overview = match client.overview().await {
            Ok(overview) => Some(overview),
            Err(_) if client.may_come_back() => None,
            Err(stop) => return Err(stop),
        };
    }
}

/// The text that puts these lines on the screen, without flicker.
fn draw(lines: &[String], width: usize, height: usize) -> String {
    let mut text = "\x1b[H".to_owned();
    // The last line names the keys, and so stays when others have to go.
    let (others, last) = lines.split_at(lines.len().saturating_sub(1));
    let others = others.iter().take(height.saturating_sub(last.len()));
    for (at, line) in others.chain(last).enumerate() {
        if at > 0 {
            text.push_str("\r\n");
        }
        text.push_str(&cut(line, width));
        text.push_str("\x1b[K");
    }
    text.push_str("\x1b[J");
    text
}

fn frame(
    overview: &Overview,
    services: Vec<&ServiceView>,
    order: Order,
    clock: &dyn Clock,
    color: bool,
    width: usize,
) -> Vec<String> {
    let status = &overview.status;
    let app = status.app.as_deref().unwrap_or("no app");
    let up = ago(Some(status.started_at), clock.now());
    let engine = format!(
        "  engine {} for {up}, {}   {}",
        status.version,
        show_bytes(status.memory_bytes),
        status.console.as_deref().unwrap_or_default(),
    );
    let troubles: Vec<String> = services
        .iter()
        .filter(|service| !service.why.is_empty())
        .map(|service| {
            let why = clean(service.why.lines().next().unwrap_or_default(), false);
            let style = state_style(health_word(service.health));
            format!("{} {}: {why}", paint(color, style, health_mark(service.health)), service.name)
        })
        .collect();
    let mut lines =
        vec![format!("{}{}", paint(color, Style::Bold, app), paint(color, Style::Dim, &engine))];
    lines.push(String::new());
    let table = render(services, order, color, Some(width));
    lines.extend(table.lines().map(str::to_owned));
    if !troubles.is_empty() {
        lines.push(String::new());
        lines.extend(troubles);
    }
    lines.push(String::new());
    let keys = format!("s sort (by {})  q quit", order.word());
    lines.push(paint(color, Style::Dim, &keys));
    lines
}

fn render(
    mut services: Vec<&ServiceView>,
    order: Order,
    color: bool,
    width: Option<usize>,
) -> String {
    services.sort_by(|a, b| order.compare(a, b));
    let row = |service: &&ServiceView| {
        let word = health_word(service.health);
        let health = format!("{} {word}", health_mark(service.health));
        let traffic = &service.traffic;
        vec![
            service.name.to_string(),
            paint(color, state_style(word), &health),
            format!("{}/{}", service.healthy, service.desired),
            rate(traffic.requests_per_second),
            share(traffic.success),
            latency(traffic.p50_ms),
            latency(traffic.p99_ms),
            cores(service.cpu_cores),
            memory(service.memory_bytes),
        ]
    };
    table(&COLUMNS, &services.iter().map(row).collect::<Vec<_>>(), color, width)
}

#[cfg(test)]
mod tests {
    use base::{ManualClock, UnixNanos};

    use super::super::testing::{failed, overview};
    use super::*;

    #[test]
    fn a_row_has_what_tells_good_from_bad() {
        let mut overview = overview();
        overview.services.insert(0, failed("jobs"));
        let table = render(overview.services.iter().collect(), Order::Name, false, None);
        assert_eq!(
            table,
            "SERVICE  HEALTH     READY  REQ/S  SUCCESS     P50      P99   CPU    MEMORY\n\
             arena    ✔ healthy    1/1     12   99.90%  1.2 ms  14.0 ms  0.12  12.0 MiB\n\
             jobs     ✘ failed     0/1      0        -       -        -  0.00         -\n"
        );
    }

    #[test]
    fn orders_by_what_is_asked_for_and_comes_around() {
        let mut overview = overview();
        overview.services.insert(0, failed("jobs"));
        overview.services[0].memory_bytes = 1 << 30;
        let first = |order: Order| {
            let table = render(overview.services.iter().collect(), order, false, None);
            table.lines().nth(1).unwrap().split(' ').next().unwrap().to_owned()
        };
        assert_eq!(
            Order::ALL.map(|(order, _)| first(order)),
            ["arena", "arena", "arena", "arena", "jobs"]
        );
        let mut order = Order::Name;
        for _ in 0..Order::ALL.len() {
            order = order.next();
        }
        assert_eq!(order, Order::Name);
    }

    #[test]
    fn a_frame_fits_and_says_what_is_wrong() {
        let mut overview = overview();
        overview.services.push(failed("jobs"));
        let clock = ManualClock::new(UnixNanos(65_000_000_000));
        let services = overview.services.iter().collect();
        let lines = frame(&overview, services, Order::Cpu, &clock, false, 60);
        let drawn = draw(&lines, 60, 24);
        assert!(drawn.contains("arcade  engine 0.1.0 for 1 min, 20.0 MiB"), "{drawn}");
        assert!(drawn.contains("✘ jobs: exited with code 3\x1b[K"), "{drawn}");
        assert!(drawn.contains("s sort (by CPU)  q quit"), "{drawn}");
        let low = draw(&lines, 60, 3);
        assert_eq!(low.matches("\r\n").count(), 2);
        assert!(low.starts_with("\x1b[Harcade") && low.contains("q quit"), "{low}");
    }
}
