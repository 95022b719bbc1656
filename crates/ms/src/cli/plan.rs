//! `--dry-run`: what a command would change, said without changing anything.

use console::wire::{Overview, ReleaseView, ServiceView};
use serde::Serialize;
use spec::App;

use super::api::Client;
use super::change::{Kind, count};
use super::out::Out;
use super::stop::{DONE, Outcome};
use super::style::columns;

/// One thing that would happen to a service.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Step {
    service: String,
    /// What would be done: `start`, `release`, `scale`, `stop`, `restart`, `rollback`, `none`.
    action: &'static str,
    /// More words on it.
    detail: String,
}

fn step(service: impl ToString, action: &'static str, detail: impl Into<String>) -> Step {
    Step { service: service.to_string(), action, detail: detail.into() }
}

/// What `ms up` would change.
pub(crate) async fn up(
    app: &App,
    names: &[String],
    recreate: bool,
    client: &Client,
    out: &mut Out,
) -> Outcome {
    let overview = if client.answers().await { Some(client.overview().await?) } else { None };
    let running = overview.map(|o| o.services).unwrap_or_default();
    let mut steps = Vec::new();
    for name in names {
        let Some(wanted) = app.services.get(name.as_str()) else { continue };
        let Some(there) = running.iter().find(|s| s.name == wanted.name) else {
            let what = count(wanted.replicas as usize, "instance");
            steps.push(step(name, "start", what));
            continue;
        };
        let detail = client.service(name).await?;
        let change = serde_json::from_value(detail.definition)
            .map_or_else(|_| Some("cannot compare".to_owned()), |old| spec::diff(&old, wanted));
        steps.push(match change {
            Some(change) => step(name, "release", change),
            None if recreate => step(name, "release", "asked for with --recreate"),
            None if there.desired != wanted.replicas => {
                step(name, "scale", format!("{} to {}", there.desired, wanted.replicas))
            }
            None => step(name, "none", "as the file says"),
        });
    }
    let whole_app = names.len() == app.services.len();
    let gone = running.iter().filter(|s| whole_app && !app.services.contains_key(&s.name));
    steps.extend(gone.map(|s| step(&s.name, "stop", "no longer in the file")));
    say("ms.up-plan/1", &steps, out)
}

/// What `ms down` would change.
pub(crate) fn down(overview: &Overview, volumes: bool, out: &mut Out) -> Outcome {
    let stop = |s: &ServiceView| step(&s.name, "stop", count(s.instances.len(), "instance"));
    let mut steps: Vec<Step> = overview.services.iter().map(stop).collect();
    if volumes {
        steps.push(step("(volumes)", "delete", "every named volume of the app"));
    }
    say("ms.down-plan/1", &steps, out)
}

/// What restart, stop or start would change.
pub(crate) fn change(kind: Kind, services: &[&ServiceView], out: &mut Out) -> Outcome {
    let step = |s: &&ServiceView| {
        let instances = count(s.instances.len(), "instance");
        match kind {
            Kind::Restart => step(&s.name, "restart", format!("{instances} replaced")),
            Kind::Stop if s.instances.is_empty() => step(&s.name, "none", "runs no instance"),
            Kind::Stop => step(&s.name, "stop", instances),
            Kind::Start if s.healthy >= s.desired && s.desired > 0 => {
                step(&s.name, "none", "runs already")
            }
            Kind::Start => step(&s.name, "start", count(s.desired as usize, "instance")),
        }
    };
    say("ms.change-plan/1", &services.iter().map(step).collect::<Vec<_>>(), out)
}

/// What `ms start` would change where no engine runs that could tell.
pub(crate) fn start_without_engine(names: &[String], out: &mut Out) -> Outcome {
    let engine = step("(engine)", "start", "none runs; it brings back what ran before");
    let named = names.iter().map(|name| step(name, "start", "once the engine runs"));
    say("ms.change-plan/1", &std::iter::once(engine).chain(named).collect::<Vec<_>>(), out)
}

/// What `ms scale` would change.
pub(crate) fn scale(overview: &Overview, asked: &[(String, u32)], out: &mut Out) -> Outcome {
    let step = |(name, replicas): &(String, u32)| {
        let there = overview.services.iter().find(|s| s.name.as_str() == name);
        match there.map_or(0, |s| s.desired) {
            desired if desired == *replicas => step(name, "none", format!("{desired} already")),
            desired => step(name, "scale", format!("{desired} to {replicas}")),
        }
    };
    say("ms.scale-plan/1", &asked.iter().map(step).collect::<Vec<_>>(), out)
}

/// What `ms rollback` would change.
pub(crate) async fn rollback(
    service: &str,
    to: Option<u64>,
    client: &Client,
    out: &mut Out,
) -> Outcome {
    let detail = client.service(service).await?;
    let planned = rollback_step(service, to, detail.service.release, &detail.releases);
    say("ms.rollback-plan/1", &[planned], out)
}

fn rollback_step(
    service: &str,
    to: Option<u64>,
    present: Option<u64>,
    releases: &[ReleaseView],
) -> Step {
    // Newest first.
    let before = |release: &&ReleaseView| match to {
        Some(to) => release.number == to,
        None => present.is_some_and(|present| release.number < present),
    };
    let from = present.map_or_else(|| "none".to_owned(), |present| present.to_string());
    match releases.iter().find(before) {
        Some(release) if Some(release.number) == present => {
            step(service, "none", format!("release {from} serves already"))
        }
        Some(release) => step(
            service,
            "rollback",
            format!("release {from} to {}: {}", release.number, release.source),
        ),
        None => step(service, "none", "no such release; it would be refused"),
    }
}

fn say(schema: &str, steps: &[Step], out: &mut Out) -> Outcome {
    #[derive(Serialize)]
    struct Plan<'a> {
        steps: &'a [Step],
    }
    if out.mode.json {
        out.json(schema, &Plan { steps })?;
    } else {
        out.text(&render(steps))?;
    }
    out.flush()?;
    Ok(DONE)
}

fn render(steps: &[Step]) -> String {
    let width = steps.iter().map(|s| columns(&s.service)).max().unwrap_or_default();
    let mut text = String::new();
    for Step { service, action, detail } in steps {
        let what = match *action {
            "none" => "stays".to_owned(),
            "release" => "would get a new release".to_owned(),
            "rollback" => "would be rolled back".to_owned(),
            "stop" => "would be stopped".to_owned(),
            "scale" => "would be scaled".to_owned(),
            "start" => "would be started".to_owned(),
            "restart" => "would be restarted".to_owned(),
            other => format!("would be {other}d"),
        };
        text.push_str(&format!("{service:width$}  {what}: {detail}\n"));
    }
    text.push_str("nothing was changed\n");
    text
}

#[cfg(test)]
mod tests {
    use super::super::out::Mode;
    use super::super::testing::{output, overview};
    use super::*;

    #[test]
    fn scale_says_from_and_to() {
        let (mut out, stdout, _) = output(Mode::default());
        let asked = [("arena".to_owned(), 5), ("arena".to_owned(), 1)];
        assert_eq!(scale(&overview(), &asked, &mut out).unwrap(), DONE);
        assert_eq!(
            stdout.text(),
            "arena  would be scaled: 1 to 5\narena  stays: 1 already\nnothing was changed\n"
        );
    }

    #[test]
    fn rollback_goes_to_the_release_before_the_present() {
        let releases: Vec<ReleaseView> = [4, 3, 2]
            .map(|number| ReleaseView {
                number,
                state: "old".to_owned(),
                created_at: base::UnixNanos(0),
                source: format!("build {number}"),
                change: String::new(),
            })
            .into();
        for (to, present, expected) in [
            (None, Some(3), "release 3 to 2: build 2"),
            (Some(4), Some(3), "release 3 to 4: build 4"),
            (Some(3), Some(3), "release 3 serves already"),
            (None, Some(2), "no such release; it would be refused"),
            (None, None, "no such release; it would be refused"),
            (Some(9), Some(3), "no such release; it would be refused"),
        ] {
            let step = rollback_step("web", to, present, &releases);
            assert_eq!(step.detail, expected, "{to:?} {present:?}");
        }
    }

    #[test]
    fn down_names_the_volumes_that_would_go() {
        let (mut out, stdout, _) = output(Mode { json: true, ..Mode::default() });
        down(&overview(), true, &mut out).unwrap();
        assert_eq!(
            stdout.text(),
            "{\"schema\":\"ms.down-plan/1\",\"steps\":[\
             {\"service\":\"arena\",\"action\":\"stop\",\"detail\":\"1 instance\"},\
             {\"service\":\"(volumes)\",\"action\":\"delete\",\
             \"detail\":\"every named volume of the app\"}]}\n"
        );
    }
}
