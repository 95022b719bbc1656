//! `ms ps`: every instance in one row, and every service that has none.

use base::{Clock, UnixNanos};
use console::wire::ServiceView;
use serde::Serialize;

use super::api::Client;
use super::args::Names;
use super::out::Out;
use super::show::{ago, cores, health_word, memory, state};
use super::stop::{DONE, Outcome};
use super::style::clean;
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

/// Shows the instances.
pub(crate) async fn run(
    names: &Names,
    client: &Client,
    clock: &dyn Clock,
    out: &mut Out,
) -> Outcome {
    let overview = client.overview().await?;
    let services = super::names::select(&overview, &names.services)?;
    if out.mode.json {
        #[derive(Serialize)]
        struct Ps<'a> {
            app: &'a Option<String>,
            services: Vec<&'a ServiceView>,
        }
        out.json("ms.ps/1", &Ps { app: &overview.status.app, services })?;
    } else if services.is_empty() {
        out.progress("nothing runs; `ms up` starts the app")?;
    } else {
        out.text(&render(&services, clock.now(), out.mode.color, out.mode.width))?;
    }
    out.flush()?;
    Ok(DONE)
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
            "NAME     STATE         SINCE  RELEASE   PID  RESTARTS   CPU    MEMORY  PUBLISHED              WHY\n\
             arena.1  healthy  1 min 30 s        1  4001         0  0.12  12.0 MiB  http://127.0.0.1:8080\n\
             jobs     failed   1 min 30 s                                                                  exited with code 3\n"
        );
    }
}
