//! `ms events`: event logs from outside, over the engine's API.
//!
//! Not here: what a log is asked (the engine does that, in the log's own protocol).

mod messages;
mod rows;

use base::{Clock, Problem};
use console::event_log::{Change, Changed, GroupView, TopicDetail, TopicView};
use serde::Serialize;

use super::api::Client;
use super::args::events::{Command, Create, Events, Reset};
use super::logs::from;
use super::out::Out;
use super::stop::{DONE, Outcome, Stop};

/// An event log as commands see it.
struct Log<'a> {
    client: &'a Client,
    clock: &'a dyn Clock,
    service: Option<&'a str>,
}

/// Does one of the commands.
pub(crate) async fn run(
    events: &Events,
    client: &Client,
    clock: &dyn Clock,
    out: &mut Out,
) -> Outcome {
    let log = Log { client, clock, service: events.service.as_deref() };
    match &events.command {
        Command::Topics => log.topics(out).await?,
        Command::Describe { topic, all } => log.describe(topic, *all, out).await?,
        Command::Create(create) => log.create(create, out).await?,
        Command::Delete { topic } => {
            log.change(&Change::DeleteTopic { topic: topic.clone() }).await?;
            log.done("deleted", topic, out)?;
        }
        Command::Produce(produce) => messages::produce(&log, produce, out).await?,
        Command::Consume(consume) => messages::consume(&log, consume, out).await?,
        Command::Groups => log.groups(out).await?,
        Command::Group { group } => log.group(group, true, out).await?,
        Command::Lag { group } => log.group(group, false, out).await?,
        Command::Reset(reset) => log.reset(reset, out).await?,
    }
    out.flush()?;
    Ok(DONE)
}

impl Log<'_> {
    async fn topics(&self, out: &mut Out) -> Outcome<()> {
        let topics: Vec<TopicView> = self.client.event_log("topics", self.service).await?;
        if out.mode.json {
            return topics.iter().try_for_each(|topic| out.json("ms.topic/1", topic));
        }
        if topics.is_empty() {
            return out.progress("no topics; `ms events create TOPIC` makes one");
        }
        out.text(&rows::topics(&topics, out.mode.color, out.mode.width))
    }

    async fn describe(&self, topic: &str, all: bool, out: &mut Out) -> Outcome<()> {
        let path = format!("topics/{}", console::client::encode(topic));
        let mut detail: TopicDetail = self.client.event_log(&path, self.service).await?;
        if out.mode.json {
            return out.json("ms.topic-detail/1", &detail);
        }
        detail.settings.retain(|setting| all || !setting.is_default);
        out.text(&rows::partitions(&detail, out.mode.color, out.mode.width))?;
        for setting in &detail.settings {
            let value = setting.value.as_deref().unwrap_or_default();
            out.line(&format!("{}={value}", setting.name))?;
        }
        Ok(())
    }

    async fn create(&self, create: &Create, out: &mut Out) -> Outcome<()> {
        let change = Change::CreateTopic {
            topic: create.topic.clone(),
            partitions: create.partitions,
            settings: create.settings.iter().cloned().collect(),
        };
        self.change(&change).await?;
        self.done("created", &create.topic, out)
    }

    async fn groups(&self, out: &mut Out) -> Outcome<()> {
        let groups: Vec<GroupView> = self.client.event_log("groups", self.service).await?;
        if out.mode.json {
            return groups.iter().try_for_each(|group| out.json("ms.group/1", group));
        }
        if groups.is_empty() {
            return out.progress("no groups: nobody has said how far it has read");
        }
        out.text(&rows::groups(&groups, out.mode.color, out.mode.width))
    }

    async fn group(&self, name: &str, with_members: bool, out: &mut Out) -> Outcome<()> {
        let path = format!("groups/{}", console::client::encode(name));
        let group: GroupView = self.client.event_log(&path, self.service).await?;
        if out.mode.json {
            return out.json("ms.group/1", &group);
        }
        if with_members {
            out.line(&rows::group(&group))?;
            if !group.members.is_empty() {
                out.line("")?;
                out.text(&rows::members(&group, out.mode.color, out.mode.width))?;
            }
            if group.partitions.is_empty() {
                return Ok(());
            }
            out.line("")?;
        }
        out.text(&rows::lags(&group, out.mode.color, out.mode.width))
    }

    async fn reset(&self, reset: &Reset, out: &mut Out) -> Outcome<()> {
        let change = Change::ResetGroup {
            group: reset.group.clone(),
            topic: reset.topic.clone(),
            partition: reset.partition,
            to: self.place(&reset.to)?,
        };
        let changed = self.change(&change).await?;
        if out.mode.json {
            return out.json("ms.group-reset/1", &changed);
        }
        out.text(&rows::moved(&changed, out.mode.color, out.mode.width))
    }

    async fn change(&self, change: &Change) -> Outcome<Changed> {
        self.client.change_log(self.service, change).await
    }

    fn done(&self, what: &'static str, topic: &str, out: &mut Out) -> Outcome<()> {
        #[derive(Serialize)]
        struct Done<'a> {
            topic: &'a str,
            done: &'static str,
        }
        match out.mode.json {
            true => out.json("ms.topic-change/1", &Done { topic, done: what }),
            false => out.line(&format!("{topic}  {what}")),
        }
    }

    /// A place as the API has it.
    fn place(&self, text: &str) -> Outcome<String> {
        if ["beginning", "end"].contains(&text) || text.parse::<u64>().is_ok() {
            return Ok(text.to_owned());
        }
        let at = telemetry::when::parse(text, from(self.clock.now())).map_err(|problem| {
            let odd = format!("`{text}` is no place to read from");
            let cause = problem.cause.unwrap_or(problem.message);
            let next = "say beginning, end, an offset, a time, or how long ago, as in 15m";
            Stop::usage(Problem::new("bad-place", odd).with_cause(cause).with_next(next))
        })?;
        Ok(format!("time:{}", at.0))
    }
}
