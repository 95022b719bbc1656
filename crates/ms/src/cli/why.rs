//! `ms why SERVICE`: why it is as it is, in order: what it says itself, what it depends on, its
//! instances, and what happened.

use console::wire::{InstanceView, Why as Answer};

use super::api::Client;
use super::args::Why;
use super::out::Out;
use super::show::{health_word, service_state, state, state_style};
use super::stop::{DONE, Outcome};
use super::style::{clean, paint};

/// Shows it.
pub(crate) async fn run(why: &Why, client: &Client, out: &mut Out) -> Outcome {
    let overview = client.overview().await?;
    super::names::select(&overview, std::slice::from_ref(&why.service))?;
    for problem in &overview.status.problems {
        out.warning(problem)?;
    }
    let mut answer = client.why(&why.service).await?;
    let surplus = answer.history.len().saturating_sub(why.lines);
    answer.history.drain(..surplus);
    if out.mode.json {
        out.json("ms.why/1", &answer)?;
    } else {
        out.text(&render(&answer, out.mode.color))?;
    }
    out.flush()?;
    Ok(DONE)
}

fn render(why: &Answer, color: bool) -> String {
    let service = &why.service;
    let style = state_style(health_word(service.health));
    let mut text =
        format!("{} is {}\n", service.name, paint(color, style, &service_state(service)));
    text.push_str(&indented(&clean(&service.why, false)));
    if !why.causes.is_empty() {
        text.push_str("it depends on\n");
    }
    for cause in &why.causes {
        let word = state(color, health_word(cause.health));
        text.push_str(&format!("  {} {word}{}\n", cause.service, after(&cause.why)));
    }
    if !service.instances.is_empty() {
        text.push_str("its instances\n");
    }
    for instance in &service.instances {
        text.push_str(&row(instance, color));
    }
    if !why.history.is_empty() {
        text.push_str("what happened\n");
    }
    for event in &why.history {
        text.push_str(&indented(super::history::render(event, false, color).trim_end()));
    }
    text
}

/// `  web.1 pending, release 2, 3 restarts: exited with code 1`
fn row(instance: &InstanceView, color: bool) -> String {
    let restarts = match instance.restarts {
        0 => String::new(),
        1 => ", 1 restart".to_owned(),
        n => format!(", {n} restarts"),
    };
    let word = state(color, &instance.state);
    let (id, release) = (&instance.id, instance.release);
    format!("  {id} {word}, release {release}{restarts}{}\n", after(&instance.why))
}

fn after(why: &str) -> String {
    match clean(why.lines().next().unwrap_or_default(), false) {
        why if why.is_empty() => why,
        why => format!(": {why}"),
    }
}

/// Each line two columns to the right. Colours that the lines have are kept.
fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}
