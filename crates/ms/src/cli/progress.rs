//! Progress while services change: a block that is drawn over, or a line for each transition.

use std::collections::BTreeMap;
use std::time::Duration;

use base::units::show_duration;
use base::{Clock, Problem};
use console::wire::{Accepted, Command, Health, Overview, ServiceView};

use super::api::Client;
use super::building::Building;
use super::interrupt::Interrupt;
use super::out::Out;
use super::settle::{Goal, Verdict, problem, reached, verdict};
use super::show::{ago, health_mark, health_word, moment, service_state, state_style};
use super::stop::{DONE, FAILED, Outcome, Stop, TIMED_OUT};
use super::style::{Style, clean, columns, cut, paint};

/// How often the engine is asked while something changes.
pub(crate) const POLL: Duration = Duration::from_millis(50);
/// What takes no longer than this is not worth a word.
const QUICK: Duration = Duration::from_millis(500);
/// Output lines that travel with a failure.
const LAST_LINES: usize = 10;
const SPINNER: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

/// What is waited for.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// Services that matter.
    pub(crate) names: &'a [String],
    /// State revision of the command.
    pub(crate) revision: u64,
    /// What they should become.
    pub(crate) goal: Goal,
    /// When to give up.
    pub(crate) timeout: Duration,
}

/// What is on the terminal below the output, and what was said of each service.
#[derive(Default)]
pub(crate) struct Live {
    rows: usize,
    frame: usize,
    said: BTreeMap<String, (Health, u32)>,
}

impl Live {
    /// Shows where the services stand.
    pub(crate) fn show(
        &mut self,
        overview: &Overview,
        wanted: &Wanted<'_>,
        clock: &dyn Clock,
        out: &mut Out,
    ) -> Outcome<()> {
        if out.mode.quiet || out.mode.json {
            return Ok(());
        }
        let services = chosen(overview, wanted.names);
        if !out.mode.terminal_err {
            let said = self.transitions(&services, clock);
            return said.iter().try_for_each(|line| out.progress(line));
        }
        self.frame += 1;
        let spinner = self.spinner();
        let width = super::terminal::width().unwrap_or(80);
        let rows = block(&services, wanted.goal, spinner, clock, out.mode.color_err);
        self.draw(&rows, width, out)
    }

    fn spinner(&self) -> &'static str {
        SPINNER[self.frame / 2 % SPINNER.len()]
    }

    /// Draws rows in place of those drawn before.
    pub(crate) fn draw(&mut self, rows: &[String], width: usize, out: &mut Out) -> Outcome<()> {
        let mut text = self.erase_text();
        for row in rows {
            text.push_str(&cut(row, width.saturating_sub(1)));
            text.push('\n');
        }
        self.rows = rows.len();
        out.draw(&text)
    }

    /// Takes the block off the terminal.
    pub(crate) fn erase(&mut self, out: &mut Out) -> Outcome<()> {
        let text = self.erase_text();
        self.rows = 0;
        if text.is_empty() { Ok(()) } else { out.draw(&text) }
    }

    fn erase_text(&self) -> String {
        match self.rows {
            0 => String::new(),
            rows => format!("\x1b[{rows}A\r\x1b[J"),
        }
    }

    /// A line for each service that changed since the last call.
    pub(crate) fn transitions(
        &mut self,
        services: &[&ServiceView],
        clock: &dyn Clock,
    ) -> Vec<String> {
        let mut lines = Vec::new();
        for service in services {
            let now = (service.health, service.restarts);
            if self.said.insert(service.name.to_string(), now) != Some(now) {
                lines.push(transition(service, &moment(clock.now())));
            }
        }
        lines
    }
}

/// One timestamped line.
fn transition(service: &ServiceView, at: &str) -> String {
    let why = match why(service) {
        why if why.is_empty() => why,
        why => format!(": {why}"),
    };
    format!("{at} {} {}{why}", service.name, service_state(service))
}

/// Why it is as it is, without the count that stands before it already.
fn why(service: &ServiceView) -> String {
    let why = clean(service.why.lines().next().unwrap_or_default(), false);
    let count = format!("{} of {} healthy: ", service.healthy, service.desired);
    why.strip_prefix(&count).map(str::to_owned).unwrap_or(why)
}

/// A line for each service: mark, name, state, how long, why.
fn block(
    services: &[&ServiceView],
    goal: Goal,
    spinner: &str,
    clock: &dyn Clock,
    color: bool,
) -> Vec<String> {
    let widest = |text: &dyn Fn(&ServiceView) -> String| {
        services.iter().map(|s| columns(&text(s))).max().unwrap_or_default()
    };
    let (name_width, state_width) = (widest(&|s| s.name.to_string()), widest(&service_state));
    let now = clock.now();
    let row = |service: &&ServiceView| {
        let style = state_style(health_word(service.health));
        let done = reached(service, goal) || service.health == Health::Failed;
        let mark = if done { health_mark(service.health) } else { spinner };
        let state = format!("{:state_width$}", service_state(service));
        let since = if done { String::new() } else { ago(Some(service.since), now) };
        let why = why(service);
        let line = format!(
            "{} {:name_width$}  {}  {since:>6}  {}",
            paint(color, style, mark),
            service.name,
            paint(color, style, &state),
            paint(color, Style::Dim, &why),
        );
        line.trim_end().to_owned()
    };
    services.iter().map(row).collect()
}

/// The services of these names.
pub(crate) fn chosen<'a>(overview: &'a Overview, names: &[String]) -> Vec<&'a ServiceView> {
    let named = |service: &&ServiceView| names.iter().any(|n| n == service.name.as_str());
    overview.services.iter().filter(named).collect()
}

/// Sends a command whose acceptance may take long, since services are prepared first, and shows
/// that it does.
pub(crate) async fn send(
    client: &Client,
    command: &Command,
    interrupt: &mut Interrupt,
    clock: &dyn Clock,
    out: &mut Out,
) -> Outcome<Accepted> {
    let start = clock.monotonic();
    let mut live = Live::default();
    let mut said = false;
    let mut building = Building::new(clock);
    let silent = out.mode.quiet || out.mode.json;
    let mut answer = std::pin::pin!(client.command(command));
    let answer = loop {
        let answer = tokio::select! {
            answer = &mut answer => Some(answer),
            () = interrupt.next() => Some(Err(Stop::Interrupted)),
            () = tokio::time::sleep(POLL) => None,
        };
        if !silent {
            let lines = building.look(client, out.mode.color_err).await;
            if !lines.is_empty() {
                said = true;
                live.erase(out)?;
                lines.iter().try_for_each(|line| out.progress(line))?;
                out.flush()?;
            }
        }
        if let Some(answer) = answer {
            break answer;
        }
        let waited = clock.monotonic() - start;
        if waited < QUICK || silent {
            continue;
        }
        if out.mode.terminal_err {
            live.frame += 1;
            let spinner = paint(out.mode.color_err, Style::Cyan, live.spinner());
            let now = building.now.as_deref().unwrap_or("preparing");
            // A step may be longer than the line, which is cut at its end.
            let row = format!("{spinner} {:>6}  {now}", show_duration(waited));
            live.draw(&[row], super::terminal::width().unwrap_or(80), out)?;
        } else if !std::mem::replace(&mut said, true) {
            out.progress(&format!("{} preparing", moment(clock.now())))?;
        }
    };
    live.erase(out)?;
    answer
}

/// Waits until the services are as wanted, and shows progress. The last overview and verdict;
/// [`Verdict::Pending`] means that the time was up.
pub(crate) async fn wait(
    client: &Client,
    wanted: &Wanted<'_>,
    clock: &dyn Clock,
    out: &mut Out,
) -> Outcome<(Overview, Verdict)> {
    let start = clock.monotonic();
    let mut live = Live::default();
    let mut engine = None;
    let mut interrupt = Interrupt::listen()?;
    loop {
        let overview = tokio::select! {
            overview = client.overview() => overview,
            () = interrupt.next() => {
                live.erase(out)?;
                return Err(Stop::Interrupted);
            }
        };
        let late = clock.monotonic() - start >= wanted.timeout;
        match overview {
            Ok(overview) => {
                // An engine that came back has taken everything over and counts from zero.
                let first = *engine.get_or_insert(overview.status.pid) == overview.status.pid;
                let revision = if first { wanted.revision } else { 0 };
                let stands = verdict(&overview, wanted.names, revision, wanted.goal);
                if stands == Verdict::Pending || !out.mode.terminal_err {
                    live.show(&overview, wanted, clock, out)?;
                }
                if stands != Verdict::Pending || late {
                    live.erase(out)?;
                    return Ok((overview, stands));
                }
            }
            Err(stop) if late || !client.may_come_back() => {
                live.erase(out)?;
                return Err(stop);
            }
            Err(_) => {}
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = interrupt.next() => {
                live.erase(out)?;
                return Err(Stop::Interrupted);
            }
        }
    }
}

/// The exit code for how the wait ended, and the problems of whatever is not as wanted.
pub(crate) async fn conclude(
    client: &Client,
    wanted: &Wanted<'_>,
    overview: &Overview,
    stands: Verdict,
    app: Option<&spec::App>,
) -> Outcome {
    let exit = match stands {
        Verdict::Reached => return Ok(DONE),
        Verdict::Failed => FAILED,
        Verdict::Pending => TIMED_OUT,
    };
    let mut problems = Vec::new();
    if stands == Verdict::Pending {
        let waited = show_duration(wanted.timeout);
        problems.push(
            Problem::new("timed-out", format!("not done after {waited}"))
                .with_cause("the services below are not as asked for yet; the engine goes on")
                .with_next("ms ps   |   wait longer with --timeout"),
        );
    }
    problems.extend(overview.status.problems.iter().cloned());
    for name in wanted.names {
        let Some(service) = overview.services.iter().find(|s| s.name.as_str() == name) else {
            continue;
        };
        if reached(service, wanted.goal) {
            continue;
        }
        // What others said, or an earlier attempt, is not why this one failed.
        let well = |state: &str| matches!(state, "healthy" | "stopped" | "draining");
        let ill: Vec<_> = service.instances.iter().filter(|i| !well(&i.state)).collect();
        let named = match ill.as_slice() {
            [] => vec![name.clone()],
            ill => ill.iter().map(|instance| instance.id.to_string()).collect(),
        };
        let query = console::wire::LogQuery {
            services: named,
            since: ill.iter().filter_map(|instance| instance.started_at).min(),
            limit: Some(LAST_LINES),
            ..Default::default()
        };
        // A failure to fetch the lines must not hide the failure that they belong to.
        let lines = client.logs(&query).await.map(|page| page.lines).unwrap_or_default();
        let mut problem = problem(service, wanted.goal, &lines);
        let defined = app.and_then(|app| app.services.get(name.as_str()));
        problem.place = defined.map(|service| service.place.clone());
        problems.push(problem);
    }
    Err(Stop::Failed { exit, problems })
}

const CONSOLE: &str = "console";

/// Columns of the names, and of the states, in a block of these services.
fn block_widths(services: &[&ServiceView]) -> (usize, usize) {
    let widest = |text: fn(&ServiceView) -> String| {
        services.iter().map(|s| columns(&text(s))).max().unwrap_or_default()
    };
    let names = widest(|s| s.name.to_string()).max(CONSOLE.len()) + 2;
    (names, widest(service_state).max(20) + 2)
}

/// Each service: how it is, and where to reach it.
pub(crate) fn standing(services: &[&ServiceView], color: bool) -> String {
    let (name_width, state_width) = block_widths(services);
    let place_width = services.iter().map(|s| columns(&published(s))).max().unwrap_or_default() + 2;
    let mut text = String::new();
    for service in services {
        let style = state_style(health_word(service.health));
        let state = service_state(service);
        let place = published(service);
        let image = service.stands_in_for.as_ref();
        let image = image.map_or_else(String::new, |image| format!("stands in for {image}"));
        let line = format!(
            "{} {:name_width$}{}{:pad$}{}{:gap$}{}",
            paint(color, style, health_mark(service.health)),
            service.name,
            paint(color, style, &state),
            "",
            paint(color, Style::Bold, &place),
            "",
            paint(color, Style::Dim, &image),
            pad = state_width - columns(&state),
            gap = place_width - columns(&place),
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn published(service: &ServiceView) -> String {
    service.published.join(", ")
}

/// The final block of a start: each service, the console and, when all went well, `ready in 0.4 s`.
pub(crate) fn summary(
    overview: &Overview,
    names: &[String],
    took: Option<Duration>,
    color: bool,
) -> String {
    let services = chosen(overview, names);
    let (name_width, state_width) = block_widths(&services);
    let widest = services.iter().map(|s| columns(&published(s))).max().unwrap_or_default();
    let url = overview.status.console.as_deref().unwrap_or("off");
    let ready = took.map_or_else(String::new, |took| format!("ready in {}", show_duration(took)));
    let line = format!(
        "  {CONSOLE:name_width$}{}{:pad$}{}",
        paint(color, Style::Bold, url),
        "",
        paint(color, Style::Dim, &ready),
        pad = (state_width + widest.max(22)).saturating_sub(columns(url)),
    );
    format!("{}{}\n", standing(&services, color), line.trim_end())
}

#[cfg(test)]
mod tests {
    use base::{ManualClock, UnixNanos};

    use super::super::out::Mode;
    use super::super::testing::{failed, output, overview};
    use super::*;

    const NAMES: [&str; 2] = ["arena", "jobs"];

    fn two() -> Overview {
        let mut overview = overview();
        overview.services[0].desired = 2;
        overview.services[0].healthy = 2;
        overview.services.push(failed("jobs"));
        overview
    }

    #[test]
    fn the_final_block_says_where_everything_is() {
        let names = ["arena".to_owned()];
        let took = Some(Duration::from_millis(420));
        assert_eq!(
            summary(&two(), &names, took, false),
            "✔ arena    2 of 2 healthy        http://127.0.0.1:8080\n  \
             console  http://127.0.0.1:7700                       ready in 0.4 s\n"
        );
        let plain = summary(&two(), &NAMES.map(str::to_owned), None, false);
        let colored = summary(&two(), &NAMES.map(str::to_owned), None, true);
        assert_eq!(clean(&colored, false), plain);
        assert!(plain.contains("\n✘ jobs     failed, 0 of 1 healthy\n"), "{plain}");
        let mut overview = two();
        overview.services[1].stands_in_for = Some("apache/kafka:4.2.0".to_owned());
        let plain = summary(&overview, &NAMES.map(str::to_owned), None, false);
        let line = plain.lines().find(|line| line.contains("jobs")).unwrap();
        assert!(line.ends_with("  stands in for apache/kafka:4.2.0"), "{line}");
    }

    #[test]
    fn what_is_on_its_way_spins_and_says_why() {
        let mut overview = two();
        let arena = &mut overview.services[0];
        (arena.health, arena.healthy) = (Health::Starting, 1);
        arena.why = "1 of 2 healthy: arena.2 is being started\nmore".to_owned();
        let clock = ManualClock::new(UnixNanos(12_000_000_000));
        let services = chosen(&overview, &NAMES.map(str::to_owned));
        assert_eq!(
            block(&services, Goal::Up, "*", &clock, false),
            [
                "* arena  starting, 1 of 2 healthy     2 s  arena.2 is being started",
                "✘ jobs   failed, 0 of 1 healthy            exited with code 3",
            ]
        );
    }

    #[test]
    fn without_a_terminal_each_transition_is_one_line() {
        let clock = ManualClock::new(UnixNanos(0));
        let mut live = Live::default();
        let mut overview = two();
        let names = NAMES.map(str::to_owned);
        assert_eq!(
            live.transitions(&chosen(&overview, &names), &clock),
            [
                "1970-01-01T00:00:00.000Z arena 2 of 2 healthy",
                "1970-01-01T00:00:00.000Z jobs failed, 0 of 1 healthy: exited with code 3",
            ]
        );
        assert!(live.transitions(&chosen(&overview, &names), &clock).is_empty());
        overview.services[1].restarts += 1;
        assert_eq!(live.transitions(&chosen(&overview, &names), &clock).len(), 1);
    }

    #[test]
    fn a_block_is_drawn_over_the_one_before() {
        let (mut out, _, stderr) = output(Mode::default());
        let mut live = Live::default();
        live.draw(&["one".to_owned(), "a long second".to_owned()], 10, &mut out).unwrap();
        live.draw(&["three".to_owned()], 10, &mut out).unwrap();
        live.erase(&mut out).unwrap();
        live.erase(&mut out).unwrap();
        assert_eq!(stderr.text(), "one\na long s…\n\x1b[2A\r\x1b[Jthree\n\x1b[1A\r\x1b[J");
    }
}
