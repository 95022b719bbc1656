//! `ms logs`: lines of output, prefixed, folded, followed over restarts of the engine.

use std::time::Duration;

use base::{Clock, Problem, UnixNanos};
use console::wire::{LogLine, LogQuery};

use super::api::{Client, LogStream};
use super::args::Logs;
use super::interrupt::Interrupt;
use super::out::{Out, with_schema};
use super::show::moment;
use super::stop::{DONE, FAILED, Outcome, Stop};
use super::style::{Style, clean, paint, slot};

/// Lines that the API gives at most.
const LINES_MAX: usize = 10_000;
/// Lines that are shown at once at most.
const BATCH_MAX: usize = 1000;
/// Lines of one moment that are remembered at most, to tell them from new ones.
const NEWEST_MAX: usize = 1000;
/// How often, and how long apart, a lost engine is looked for.
const TRIES: u32 = 100;
const TRY_PAUSE: Duration = Duration::from_millis(100);
/// How long apart repeats of a line are told.
const TELL_PAUSE: Duration = Duration::from_secs(1);

/// Shows lines already written and, with `--follow`, those to come.
pub(crate) async fn run(logs: &Logs, client: Client, clock: &dyn Clock, out: &mut Out) -> Outcome {
    let now = clock.now();
    let from = from(now);
    let at = |text: &Option<String>| {
        let at = text.as_deref().map(|text| telemetry::when::parse(text, from)).transpose();
        at.map_err(Stop::usage)
    };
    let query = LogQuery {
        services: logs.services.clone(),
        grep: logs.grep.clone(),
        since: at(&logs.since)?,
        until: at(&logs.until)?,
        limit: Some(logs.lines.unwrap_or(1000)),
        skip: None,
    };
    if query.limit > Some(LINES_MAX) {
        let problem = Problem::new("bad-usage", format!("-n gives {LINES_MAX} lines at most"))
            .with_next("narrow the search with --since, --until or --grep");
        return Err(Stop::usage(problem));
    }
    if logs.follow && logs.until.is_some() {
        let problem = Problem::new("bad-usage", "--follow and --until exclude each other")
            .with_next("leave one of them out");
        return Err(Stop::usage(problem));
    }
    // What was written is there to read also when nothing runs any more.
    let written = client.state().join("logs");
    let runs = logs.follow || !written.is_dir() || client.answers().await;
    let names = match runs {
        true => super::names::instances(&client, &logs.services).await?,
        false => super::names::written(&written, &logs.services)?,
    };
    let mut printer = Printer::new(out, &names);
    printer.timestamps = logs.timestamps;
    if !logs.follow {
        let page = match runs {
            true => client.logs(&query).await?,
            false => {
                out.progress("no engine runs; this is what was written")?;
                let page = crate::engine::logs_without_engine(client.state(), query.clone()).await;
                page.map_err(|problem| Stop::new(FAILED, problem))?
            }
        };
        if page.lines.is_empty() {
            let filtered = query.grep.is_some() || query.since.is_some() || query.until.is_some();
            out.progress(if filtered { "no line matches" } else { "no output yet" })?;
        }
        if page.more && logs.lines.is_none() {
            out.progress("older lines left out; -n gives more")?;
        }
        print(&mut printer, &page.lines, out)?;
        out.text(&printer.end())?;
        out.flush()?;
        return Ok(DONE);
    }
    let mut interrupt = Interrupt::listen()?;
    let mut tail = Tail::open(client, query).await?;
    let mut told = tokio::time::Instant::now();
    loop {
        let lines = tokio::select! {
            lines = tail.next() => lines,
            () = interrupt.next() => {
                out.text(&printer.end())?;
                out.flush()?;
                return Err(Stop::Interrupted);
            }
            // By the last telling and not the last line, since lines may never pause.
            () = tokio::time::sleep_until(told + TELL_PAUSE), if printer.folds() => {
                out.text(&printer.end())?;
                out.flush()?;
                told = tokio::time::Instant::now();
                continue;
            }
        };
        let Some(lines) = lines else {
            out.text(&printer.end())?;
            out.progress("the engine was stopped")?;
            out.flush()?;
            return Ok(DONE);
        };
        print(&mut printer, &lines, out)?;
        out.flush()?;
    }
}

/// Where and when times are meant.
pub(crate) fn from(now: UnixNanos) -> telemetry::when::Here {
    let at = jiff::Timestamp::from_nanosecond(i128::from(now.0)).unwrap_or_default();
    let offset_seconds = jiff::tz::TimeZone::system().to_offset(at).seconds();
    telemetry::when::Here { now, offset_seconds }
}

fn print(printer: &mut Printer, lines: &[LogLine], out: &mut Out) -> Outcome<()> {
    lines.iter().try_for_each(|line| out.text(&printer.line(line)))
}

/// Lines that were written and lines to come, without gap or repeat, also when the engine dies
/// and comes back.
pub(crate) struct Tail {
    client: Client,
    query: LogQuery,
    stream: Option<LogStream>,
    /// The newest lines that were given out, all of one moment; older ones are not new.
    newest: Vec<LogLine>,
    /// The stream is a second one: it begins with lines that were given out already.
    again: bool,
    tries: u32,
}

impl Tail {
    /// Opens at the newest `query.limit` lines.
    pub(crate) async fn open(client: Client, query: LogQuery) -> Outcome<Tail> {
        let stream = Some(client.follow_logs(&query).await?);
        Ok(Tail { client, query, stream, newest: Vec::new(), again: false, tries: 0 })
    }

    /// The next lines, as many as are there; `None` when the engine is gone. May be dropped and
    /// called again.
    pub(crate) async fn next(&mut self) -> Option<Vec<LogLine>> {
        loop {
            let Some(stream) = &mut self.stream else {
                self.reconnect().await?;
                continue;
            };
            let lines = batch(stream).await;
            if lines.is_empty() {
                self.stream = None;
            }
            let lines = self.unseen(lines);
            if !lines.is_empty() {
                return Some(lines);
            }
        }
    }

    async fn reconnect(&mut self) -> Option<()> {
        self.tries += 1;
        if self.tries > TRIES || !self.client.may_come_back() {
            return None;
        }
        let mut query = self.query.clone();
        if let Some(newest) = self.newest.first() {
            query.since = Some(newest.at);
            query.limit = Some(LINES_MAX);
        }
        match self.client.follow_logs(&query).await {
            Ok(stream) => (self.stream, self.again, self.tries) = (Some(stream), true, 0),
            Err(_) => tokio::time::sleep(TRY_PAUSE).await,
        }
        Some(())
    }

    /// Those of `lines` that were not given out before; remembers the newest.
    fn unseen(&mut self, mut lines: Vec<LogLine>) -> Vec<LogLine> {
        let seen = self.newest.first().map_or(UnixNanos(0), |line| line.at);
        if self.again {
            lines.retain(|line| line.at > seen || (line.at == seen && !self.newest.contains(line)));
            // From the first new line on there is nothing old.
            self.again = lines.is_empty();
        }
        if let Some(newest) = lines.iter().map(|line| line.at).max().filter(|at| *at >= seen) {
            if newest > seen {
                self.newest.clear();
            }
            let room = NEWEST_MAX.saturating_sub(self.newest.len());
            let of_that_moment = lines.iter().filter(|line| line.at == newest);
            self.newest.extend(of_that_moment.take(room).cloned());
        }
        lines
    }
}

/// The next line and those that are there already; none when the stream has ended.
async fn batch(stream: &mut LogStream) -> Vec<LogLine> {
    let mut lines = Vec::new();
    while lines.len() < BATCH_MAX {
        let line = tokio::select! {
            biased;
            line = stream.next() => line,
            () = std::future::ready(()), if !lines.is_empty() => break,
        };
        match line {
            Some(Ok(line)) => lines.push(line),
            Some(Err(_)) | None => break,
        }
    }
    lines
}

/// Turns lines into text: `web.1  | text`, repeats folded on a terminal.
pub(crate) struct Printer {
    json: bool,
    /// A person reads along; a program gets every line as it is.
    fold: bool,
    color: bool,
    /// Begin each line with its time.
    pub(crate) timestamps: bool,
    width: usize,
    last: Option<LogLine>,
    /// How often in a row the last line came, and how often the reader knows of.
    count: u64,
    told: u64,
}

impl Printer {
    /// A printer that aligns to the widest of these instance names.
    pub(crate) fn new(out: &Out, names: &[String]) -> Printer {
        Printer {
            json: out.mode.json,
            fold: out.mode.terminal,
            color: out.mode.color,
            timestamps: false,
            width: names.iter().map(String::len).max().unwrap_or_default(),
            last: None,
            count: 0,
            told: 0,
        }
    }

    /// Text to print for this line: nothing while it only repeats the last one.
    pub(crate) fn line(&mut self, line: &LogLine) -> String {
        if self.json {
            return with_schema("ms.log/1", line) + "\n";
        }
        if !self.fold {
            return self.format(line, "");
        }
        let same = self.last.as_ref().is_some_and(|last| {
            last.instance == line.instance && last.stream == line.stream && last.text == line.text
        });
        if same {
            self.count += 1;
            self.last = Some(line.clone());
            return String::new();
        }
        let mut text = self.end();
        text.push_str(&self.format(line, ""));
        (self.last, self.count, self.told) = (Some(line.clone()), 1, 1);
        text
    }

    /// Whether repeats wait to be told.
    pub(crate) fn folds(&self) -> bool {
        self.count > self.told
    }

    /// Tells how often the last line came in all, if that is more than the reader knows of.
    pub(crate) fn end(&mut self) -> String {
        let Some(last) = self.last.take_if(|_| self.count > self.told) else {
            return String::new();
        };
        let text = self.format(&last, &format!(" (×{})", self.count));
        (self.last, self.told) = (Some(last), self.count);
        text
    }

    fn format(&mut self, line: &LogLine, after: &str) -> String {
        let name = line.instance.to_string();
        // A service that came later may be wider: from then on everything aligns to it.
        self.width = self.width.max(name.len());
        let stderr = line.stream == "stderr";
        let prefix = format!("{name:width$} ", width = self.width);
        let prefix = paint(self.color, slot(line.instance.service().as_str()), &prefix);
        let bar = if stderr { paint(self.color, Style::Red, "!") } else { "|".to_owned() };
        let time = match self.timestamps {
            true => format!("{} ", paint(self.color, Style::Dim, &moment(line.at))),
            false => String::new(),
        };
        let text = clean(&line.text, self.color).replace('\n', " ");
        let after = paint(self.color, Style::Dim, after);
        format!("{prefix}{bar} {time}{text}{after}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(at: u64, instance: &str, stream: &str, text: &str) -> LogLine {
        LogLine {
            at: UnixNanos(at),
            instance: instance.parse().unwrap(),
            stream: stream.to_owned(),
            text: text.to_owned(),
        }
    }

    fn printer(json: bool, color: bool) -> Printer {
        let mode = super::super::out::Mode { json, color, terminal: true, ..Default::default() };
        Printer::new(&super::super::testing::output(mode).0, &["web.1".to_owned()])
    }

    #[test]
    fn prefixes_align_and_stderr_is_marked() {
        let mut printer = printer(false, false);
        let text: String = [
            line(1, "web.1", "stdout", "up"),
            line(2, "worker.12", "stderr", "\x1b[31moh\x1b[0m\x07 no"),
            line(3, "web.1", "stdout", "still up"),
        ]
        .iter()
        .map(|line| printer.line(line))
        .collect();
        assert_eq!(text, "web.1 | up\nworker.12 ! oh no\nweb.1     | still up\n");
    }

    #[test]
    fn repeats_fold_into_a_count() {
        let mut printer = printer(false, false);
        let tick = line(1, "web.1", "stdout", "tick");
        let mut text = String::new();
        for _ in 0..413 {
            text.push_str(&printer.line(&tick));
        }
        assert_eq!(text, "web.1 | tick\n");
        assert!(printer.folds());
        text.push_str(&printer.line(&line(2, "web.1", "stderr", "tick")));
        text.push_str(&printer.end());
        assert_eq!(text, "web.1 | tick\nweb.1 | tick (×413)\nweb.1 ! tick\n");
        for count in ["×2", "×3"] {
            assert_eq!(printer.line(&line(3, "web.1", "stderr", "tick")), "");
            assert_eq!(printer.end(), format!("web.1 ! tick ({count})\n"));
            assert_eq!(printer.end(), "");
        }
    }

    #[test]
    fn a_program_gets_every_line() {
        let mut printer = printer(false, false);
        printer.fold = false;
        let tick = line(1, "web.1", "stdout", "tick");
        let text: String = (0..3).map(|_| printer.line(&tick)).collect();
        assert_eq!(text, "web.1 | tick\n".repeat(3));
        assert!(!printer.folds());
        assert_eq!(printer.end(), "");
    }

    #[test]
    fn json_is_one_object_a_line_and_never_folded() {
        let mut printer = printer(true, true);
        let tick = line(1, "web.1", "stdout", "tick");
        let expected = "{\"schema\":\"ms.log/1\",\"at\":1,\"instance\":\"web.1\",\
                        \"stream\":\"stdout\",\"text\":\"tick\"}\n";
        assert_eq!(printer.line(&tick), expected);
        assert_eq!(printer.line(&tick), expected);
        assert!(!printer.folds());
    }

    #[test]
    fn a_service_has_one_colour() {
        let mut printer = printer(false, true);
        let one = printer.line(&line(1, "web.1", "stdout", "a"));
        let two = printer.line(&line(1, "web.2", "stdout", "a"));
        assert_eq!(one.replace("web.1", "web.2"), two);
        assert!(one.starts_with("\x1b[38;5;"), "{one}");
    }

    #[test]
    fn lines_on_both_sides_of_a_reconnect_come_once() {
        let mut tail = Tail {
            client: Client::new(std::path::Path::new("/nowhere")),
            query: LogQuery::default(),
            stream: None,
            newest: Vec::new(),
            again: false,
            tries: 0,
        };
        let (a, b, c) = (
            line(1, "web.1", "stdout", "a"),
            line(2, "web.1", "stdout", "b"),
            line(2, "web.2", "stdout", "c"),
        );
        assert_eq!(tail.unseen(vec![a.clone(), b.clone()]), [a.clone(), b.clone()]);
        // One stream never repeats itself, however alike and late its lines are.
        assert_eq!(tail.unseen(vec![b.clone(), a.clone()]), [b.clone(), a.clone()]);
        tail.again = true;
        assert_eq!(tail.unseen(vec![b.clone(), c.clone()]), std::slice::from_ref(&c));
        tail.again = true;
        assert!(tail.unseen(vec![a, b]).is_empty());
        assert!(tail.unseen(vec![c]).is_empty());
    }
}
