//! `ms events produce` and `ms events consume`.

use std::io::{BufRead, BufReader, Read};
use std::time::Duration;

use base::Problem;
use console::event_log::{Change, Data, MessageQuery, MessageView, NewMessage};
use serde::Serialize;

use super::super::args::events::{Consume, Produce};
use super::super::interrupt::Interrupt;
use super::super::out::{Out, with_schema};
use super::super::show::moment;
use super::super::stop::{Outcome, Stop};
use super::super::style::{Style, clean, paint};
use super::Log;

/// Messages that are shown when nobody says how many or from where.
const NEWEST: usize = 10;
/// Messages that are asked for at once.
const PAGE: usize = 1_000;
/// How long the engine waits for messages to come, each time it is asked.
const WAIT_MS: u64 = 5_000;
/// How long a log that does not answer is left alone.
const PAUSE: Duration = Duration::from_millis(500);

/// Lines that are sent at once, and their bytes.
const LINES: usize = 1_000;
const LINES_BYTES: usize = 512 << 10;
/// Longest line.
const LINE_BYTES_MAX: usize = 1 << 20;

/// Writes each line of the input.
pub(super) async fn produce(log: &Log<'_>, produce: &Produce, out: &mut Out) -> Outcome<()> {
    let mut input = BufReader::with_capacity(LINES_BYTES, std::io::stdin());
    let mut written: u64 = 0;
    loop {
        let lines = lines(&mut input, written)?;
        if lines.is_empty() {
            break;
        }
        written += lines.len() as u64;
        let message = |line: String| NewMessage {
            key: produce.key.clone(),
            value: Some(line),
            headers: produce.headers.clone(),
        };
        let change = Change::Produce {
            topic: produce.topic.clone(),
            partition: produce.partition,
            messages: lines.into_iter().map(message).collect(),
        };
        log.change(&change).await?;
    }
    #[derive(Serialize)]
    struct Written<'a> {
        topic: &'a str,
        messages: u64,
    }
    if out.mode.json {
        let topic = &produce.topic;
        return out.json("ms.produced/1", &Written { topic, messages: written });
    }
    let messages = if written == 1 { "message" } else { "messages" };
    out.progress(&format!("{written} {messages} written to {}", produce.topic))
}

/// The lines that are there, at least one unless the input ended: whoever types sees each line sent,
/// and a file is sent many lines at a time.
fn lines(input: &mut BufReader<impl Read>, before: u64) -> Outcome<Vec<String>> {
    let (mut lines, mut bytes) = (Vec::new(), 0);
    while lines.len() < LINES && bytes < LINES_BYTES {
        if !lines.is_empty() && !input.buffer().contains(&b'\n') {
            break;
        }
        let mut line = Vec::new();
        let most = LINE_BYTES_MAX as u64 + 2;
        if input.take(most).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        let odd = |cause: &str| {
            let number = before + lines.len() as u64 + 1;
            Stop::usage(
                Problem::new("bad-line", format!("line {number} of the input is no message"))
                    .with_cause(cause)
                    .with_next(format!(
                        "{before} lines before are written; mend it and go on there"
                    )),
            )
        };
        if line.len() > LINE_BYTES_MAX {
            return Err(odd("it is longer than 1 MiB"));
        }
        bytes += line.len();
        lines.push(String::from_utf8(line).map_err(|_| odd("it is not UTF-8"))?);
    }
    Ok(lines)
}

/// Shows messages and, with `--follow`, those to come.
pub(super) async fn consume(log: &Log<'_>, consume: &Consume, out: &mut Out) -> Outcome<()> {
    let mut left = consume.count;
    let mut query = MessageQuery { partition: consume.partition, ..MessageQuery::default() };
    if let Some(from) = &consume.from {
        query.from = Some(log.place(from)?);
    } else {
        query.from = Some("end".to_owned());
        let end = log.client.messages(&consume.topic, log.service, &query).await?.next;
        query.next = Some(end.clone());
        let shown = newest(log, consume, &query, out).await?;
        left = left.map(|left| left.saturating_sub(shown));
        if !consume.follow {
            return Ok(());
        }
    }
    let mut interrupt = Interrupt::listen()?;
    let mut is_told = false;
    while left != Some(0) {
        query.limit = Some(left.unwrap_or(PAGE).min(PAGE));
        let asked = async {
            let page = log.client.messages(&consume.topic, log.service, &query).await;
            if page.as_ref().is_err_and(is_away) {
                tokio::time::sleep(PAUSE).await;
            }
            page
        };
        let page = tokio::select! {
            page = asked => page,
            () = interrupt.next() => return Err(Stop::Interrupted),
        };
        let page = match page {
            Err(stop) if is_away(&stop) && consume.follow && query.next.is_some() => {
                if !is_told {
                    out.progress("the event log does not answer; waiting for it")?;
                    is_told = true;
                }
                continue;
            }
            page => page?,
        };
        is_told = false;
        for message in &page.messages {
            print(message, consume, out)?;
        }
        out.flush()?;
        left = left.map(|left| left.saturating_sub(page.messages.len()));
        query.next = Some(page.next);
        if !page.more {
            if !consume.follow {
                break;
            }
            query.wait_ms = WAIT_MS;
        }
    }
    Ok(())
}

/// Whether a log may come back: its instance is replaced, say.
fn is_away(stop: &Stop) -> bool {
    let Stop::Failed { problems, .. } = stop else { return false };
    problems.iter().any(|problem| problem.code == "event-log-unreachable")
}

/// Shows the newest messages before a place, oldest first; how many.
async fn newest(
    log: &Log<'_>,
    consume: &Consume,
    before: &MessageQuery,
    out: &mut Out,
) -> Outcome<usize> {
    let wanted = match (consume.count, consume.follow) {
        (Some(count), false) => count,
        // What follows is counted.
        (Some(_), true) => return Ok(0),
        (None, true) => 0,
        (None, false) => NEWEST,
    };
    let mut found: Vec<MessageView> = Vec::new();
    let mut query = MessageQuery { newest: true, ..before.clone() };
    while found.len() < wanted {
        query.limit = Some((wanted - found.len()).min(PAGE));
        let page = log.client.messages(&consume.topic, log.service, &query).await?;
        found.extend(page.messages);
        query.next = Some(page.next);
        if !page.more {
            break;
        }
    }
    for message in found.iter().rev() {
        print(message, consume, out)?;
    }
    if found.is_empty() && wanted > 0 {
        out.progress("no messages")?;
    }
    out.flush()?;
    Ok(found.len())
}

fn print(message: &MessageView, consume: &Consume, out: &mut Out) -> Outcome<()> {
    if out.mode.json {
        return out.text(&(with_schema("ms.message/1", message) + "\n"));
    }
    if consume.values {
        return out.line(&plain(message.value.as_ref(), ""));
    }
    out.line(&line(message, out.mode.color))
}

/// `2026-01-31T12:00:00.000Z 0:17 key {name=value} value`, further lines indented.
fn line(message: &MessageView, color: bool) -> String {
    let dim = |text: &str| paint(color, Style::Dim, text);
    let place = format!("{}:{}", message.partition, message.offset);
    let mut text = format!("{} {}", dim(&moment(message.at)), dim(&place));
    if let Some(key) = &message.key {
        let key = plain(Some(key), "").replace('\n', " ");
        text = format!("{text} {}", paint(color, Style::Cyan, &key));
    }
    if !message.headers.is_empty() {
        let each = message.headers.iter();
        let each =
            each.map(|h| format!("{}={}", clean(&h.name, false), plain(h.value.as_ref(), "")));
        text = format!("{text} {}", dim(&format!("{{{}}}", each.collect::<Vec<_>>().join(", "))));
    }
    let value = plain(message.value.as_ref(), "(no value)").replace('\n', "\n    ");
    format!("{text} {value}")
}

fn plain(data: Option<&Data>, none: &str) -> String {
    match data {
        None => none.to_owned(),
        Some(data) if data.form == "hex" => format!("0x{}", data.text),
        Some(data) => clean(&data.text, false),
    }
}

#[cfg(test)]
mod tests {
    use base::UnixNanos;
    use console::event_log::HeaderView;

    use super::*;

    #[test]
    fn a_message_is_one_line_with_what_it_has() {
        let data = |bytes: &[u8]| Some(Data::of(bytes, None));
        let mut message = MessageView {
            partition: 2,
            offset: 17,
            at: UnixNanos(1_700_000_000_000_000_000),
            key: data(b"ada"),
            value: data(b"{\"a\":1}\nb"),
            headers: vec![HeaderView { name: "kind".to_owned(), value: data(b"x") }],
        };
        assert_eq!(
            line(&message, false),
            "2023-11-14T22:13:20.000Z 2:17 ada {kind=x} {\"a\":1}\n    b"
        );
        (message.key, message.headers, message.value) = (None, vec![], None);
        assert_eq!(line(&message, false), "2023-11-14T22:13:20.000Z 2:17 (no value)");
        message.value = data(b"\xff\x00");
        assert!(line(&message, false).ends_with(" 0xff00"));
    }

    #[test]
    fn lines_are_taken_as_they_come_and_odd_ones_refused() {
        let read = |bytes: &[u8]| {
            let mut input = BufReader::new(bytes);
            let mut all = Vec::new();
            loop {
                let some = lines(&mut input, 7)?;
                if some.is_empty() {
                    return Ok::<_, Stop>(all);
                }
                all.extend(some);
            }
        };
        assert_eq!(read(b"a\n\nb").unwrap(), ["a", "", "b"]);
        assert_eq!(read(b"").unwrap(), [""; 0]);
        for bad in [&b"good\n\xff\n"[..], &vec![b'x'; LINE_BYTES_MAX + 1]] {
            let Err(Stop::Failed { problems, .. }) = read(bad) else { panic!() };
            assert_eq!(problems[0].code, "bad-line");
        }
    }
}
