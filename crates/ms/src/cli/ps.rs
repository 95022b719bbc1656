//! `ms ps`: every instance in one row, and every service that has none.

use base::{Clock, UnixNanos};
use console::wire::{ReleaseView, ServiceView};
use serde::Serialize;

use super::api::Client;
use super::args::Ps;
use super::out::Out;
use super::show::{ago, cores, health_word, memory, state};
use super::stop::{DONE, Outcome};
use super::style::{Style, clean, paint};
use super::table::{Column, numbers, table, words};

const COLUMNS: [Column; 10] = [
    words("NAME"),
    words("STATE"),
    numbers("SINCE"),
    numbers("RELEASE"),
    numbers("PID"),
    numbers("RESTARTS"),
    numbers("CPU"),
    numbers("MEMORY"),
    words("PUBLISHED"),
    words("WHY"),
];

const RELEASES: [Column; 6] = [
    words("SERVICE"),
    numbers("RELEASE"),
    words("STATE"),
    numbers("AGE"),
    words("CHANGE"),
    words("SOURCE"),
];

/// Shows the instances, or the releases.
pub(crate) async fn run(ps: &Ps, client: &Client, clock: &dyn Clock, out: &mut Out) -> Outcome {
    let overview = client.overview().await?;
    let services = super::names::select(&overview, &ps.services)?;
    for problem in &overview.status.problems {
        out.warning(problem)?;
    }
    let app = &overview.status.app;
    if services.is_empty() && !out.mode.json {
        out.progress("nothing runs; `ms up` starts the app")?;
    } else if ps.releases {
        releases(&services, app.as_deref(), client, clock, out).await?;
    } else if out.mode.json {
        #[derive(Serialize)]
        struct Instances<'a> {
            app: &'a Option<String>,
            services: Vec<&'a ServiceView>,
        }
        out.json("ms.ps/1", &Instances { app, services })?;
    } else {
        out.text(&render(&services, clock.now(), out.mode.color, out.mode.width))?;
    }
    out.flush()?;
    Ok(DONE)
}

async fn releases(
    services: &[&ServiceView],
    app: Option<&str>,
    client: &Client,
    clock: &dyn Clock,
    out: &mut Out,
) -> Outcome<()> {
    #[derive(Serialize)]
    struct OfService {
        name: base::ServiceName,
        releases: Vec<ReleaseView>,
    }
    #[derive(Serialize)]
    struct Releases<'a> {
        app: Option<&'a str>,
        services: Vec<OfService>,
    }
    let mut of = Vec::new();
    for service in services {
        let releases = client.service(service.name.as_str()).await?.releases;
        of.push(OfService { name: service.name.clone(), releases });
    }
    if out.mode.json {
        return out.json("ms.releases/1", &Releases { app, services: of });
    }
    let now = clock.now();
    let row = |name: &base::ServiceName, release: &ReleaseView| {
        let state = match release.state.as_str() {
            "serving" => paint(out.mode.color, Style::Green, "serving"),
            "failed" => paint(out.mode.color, Style::Red, "failed"),
            other => other.to_owned(),
        };
        vec![
            name.to_string(),
            release.number.to_string(),
            state,
            ago(Some(release.created_at), now),
            clean(&release.change, false),
            clean(&release.source, false),
        ]
    };
    let rows: Vec<Vec<String>> =
        of.iter().flat_map(|of| of.releases.iter().map(|r| row(&of.name, r))).collect();
    let text = table(&RELEASES, &rows, out.mode.color, out.mode.width);
    out.text(&text)
}

fn render(services: &[&ServiceView], now: UnixNanos, color: bool, width: Option<usize>) -> String {
    let rows: Vec<Vec<String>> =
        services.iter().flat_map(|service| rows(service, now, color)).collect();
    table(&COLUMNS, &rows, color, width)
}

fn rows(service: &ServiceView, now: UnixNanos, color: bool) -> Vec<Vec<String>> {
    let one_line = |why: &str| clean(why.lines().next().unwrap_or_default(), false);
    let published = service.published.join(", ");
    if service.instances.is_empty() {
        let mut row = vec![String::new(); COLUMNS.len()];
        row[0] = service.name.to_string();
        row[1] = state(color, health_word(service.health));
        row[2] = ago(Some(service.since), now);
        row[8] = published;
        row[9] = one_line(&service.why);
        return vec![row];
    }
    let row = |instance: &console::wire::InstanceView| {
        vec![
            instance.id.to_string(),
            state(color, &instance.state),
            ago(instance.started_at, now),
            instance.release.to_string(),
            instance.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
            instance.restarts.to_string(),
            cores(instance.cpu_cores),
            memory(instance.memory_bytes),
            published.clone(),
            one_line(&instance.why),
        ]
    };
    service.instances.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{failed, overview};
    use super::*;

    #[test]
    fn one_row_an_instance_and_one_for_a_service_without() {
        let mut overview = overview();
        overview.services.push(failed("jobs"));
        let services: Vec<&ServiceView> = overview.services.iter().collect();
        let now = UnixNanos(100_000_000_000);
        assert_eq!(
            render(&services, now, false, None),
            "NAME     STATE    SINCE  RELEASE   PID  RESTARTS   CPU    MEMORY  PUBLISHED              WHY\n\
             arena.1  healthy  1 min        1  4001         0  0.12  12.0 MiB  http://127.0.0.1:8080\n\
             jobs     failed   1 min                                                                  exited with code 3\n"
        );
    }
}
