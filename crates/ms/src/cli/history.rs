//! `ms history`: what the engine saw and decided.

use std::time::Duration;

use console::wire::EventView;

use super::api::Client;
use super::args::History;
use super::interrupt::Interrupt;
use super::out::{Out, with_schema};
use super::show::moment;
use super::stop::{DONE, Outcome, Stop};
use super::style::{Style, clean, paint, slot};

/// How often new events are asked for.
const POLL: Duration = Duration::from_millis(250);
/// Events that are asked for at once.
const PAGE: usize = 1000;

/// Shows events and, with `--follow`, those to come.
pub(crate) async fn run(events: &History, client: &Client, out: &mut Out) -> Outcome {
    let overview = client.overview().await?;
    super::names::select(&overview, &events.services)?;
    // Without a filter the newest are enough; with one, more have to be looked through.
    let limit = if events.services.is_empty() { events.lines } else { PAGE.max(events.lines) };
    let page = client.events(0, limit).await?;
    let after = page.last().map_or(0, |event| event.seq);
    let shown: Vec<&EventView> =
        page.iter().filter(|event| about(event, &events.services)).collect();
    for event in &shown[shown.len().saturating_sub(events.lines)..] {
        out.text(&render(event, out.mode.json, out.mode.color))?;
    }
    if shown.is_empty() {
        out.progress("no events")?;
    }
    out.flush()?;
    if events.follow { follow(events, client, after, out).await } else { Ok(DONE) }
}

async fn follow(events: &History, client: &Client, mut after: u64, out: &mut Out) -> Outcome {
    let mut interrupt = Interrupt::listen()?;
    loop {
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = interrupt.next() => return Err(Stop::Interrupted),
        }
        let page = match client.events(after, PAGE).await {
            Ok(page) => page,
            Err(_) if client.may_come_back() => {
                // An engine that comes back may count anew.
                let newest = client.events(0, 1).await.unwrap_or_default();
                if newest.last().is_some_and(|newest| newest.seq < after) {
                    after = 0;
                }
                continue;
            }
            Err(_) => {
                out.progress("the engine was stopped")?;
                return Ok(DONE);
            }
        };
        after = page.last().map_or(after, |event| event.seq);
        for event in page.iter().filter(|event| about(event, &events.services)) {
            out.text(&render(event, out.mode.json, out.mode.color))?;
        }
        out.flush()?;
    }
}

fn about(event: &EventView, services: &[String]) -> bool {
    let named = |name: &str| services.iter().any(|service| service == name);
    services.is_empty() || event.service.as_ref().is_some_and(|name| named(name.as_str()))
}

/// `2026-01-31T12:00:00.000Z error web.1 instance-exited: …`, further lines indented.
pub(crate) fn render(event: &EventView, json: bool, color: bool) -> String {
    if json {
        return with_schema("ms.event/1", event) + "\n";
    }
    let level = match event.level.as_str() {
        "error" => paint(color, Style::Red, "error"),
        "warn" => paint(color, Style::Yellow, "warn "),
        level => format!("{level:5}"),
    };
    let instance = event.instance.as_ref().map(ToString::to_string);
    let service = event.service.as_ref().map(ToString::to_string);
    let subject = instance.or(service.clone()).map_or_else(String::new, |subject| {
        let style = slot(service.as_deref().unwrap_or(&subject));
        format!(" {}", paint(color, style, &subject))
    });
    let message = clean(&event.message, false).replace('\n', "\n    ");
    let at = paint(color, Style::Dim, &moment(event.at));
    format!("{at} {level}{subject} {}: {message}\n", event.kind)
}

#[cfg(test)]
mod tests {
    use base::UnixNanos;

    use super::*;

    fn crash() -> EventView {
        EventView {
            seq: 3,
            at: UnixNanos(1_700_000_000_000_000_000),
            level: "error".to_owned(),
            service: Some("web".parse().unwrap()),
            instance: Some("web.1".parse().unwrap()),
            kind: "instance-exited".to_owned(),
            message: "exit code 3\nTraceback\x1b[2J".to_owned(),
        }
    }

    #[test]
    fn a_crash_keeps_its_last_lines() {
        assert_eq!(
            render(&crash(), false, false),
            "2023-11-14T22:13:20.000Z error web.1 instance-exited: exit code 3\n    Traceback\n"
        );
        assert!(render(&crash(), true, true).starts_with(r#"{"schema":"ms.event/1","seq":3,"#));
    }

    #[test]
    fn only_events_of_the_services_asked_for() {
        let general = EventView { service: None, instance: None, ..crash() };
        for (event, services, expected) in [
            (crash(), vec![], true),
            (crash(), vec!["web".to_owned()], true),
            (crash(), vec!["api".to_owned()], false),
            (general.clone(), vec![], true),
            (general, vec!["web".to_owned()], false),
        ] {
            assert_eq!(about(&event, &services), expected, "{services:?}");
        }
    }
}
