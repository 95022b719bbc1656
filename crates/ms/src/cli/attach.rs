//! `ms up` in the foreground: merged logs above a live status, and keys.
//!
//! Invariants: whatever the person does, the services are either stopped in order or left to the
//! engine, never half of each; lines held back are bounded.

use std::collections::VecDeque;
use std::time::Duration;

use base::{Clock, Problem};
use console::wire::{Command, EventView, Health, LogLine, Overview};
use tokio::time::Instant;

use super::api::Client;
use super::interrupt::Interrupt;
use super::logs::{Printer, Tail};
use super::out::Out;
use super::progress::{Live, POLL, Wanted, chosen, conclude};
use super::settle::{Goal, Verdict, verdict};
use super::show::moment;
use super::status::{View, rows};
use super::stop::{DONE, FAILED, INTERRUPTED, Outcome, Stop};
use super::style::clean;
use super::terminal::Keys;
use super::up::Start;

/// How often the status is renewed when nothing is under way.
const CALM: Duration = Duration::from_secs(1);
/// While services start, their output waits this long, so that a quick start shows as one block.
const HOLD: Duration = Duration::from_secs(2);
/// Lines held back at most; older ones are left out and counted.
const HELD_MAX: usize = 1000;
/// Events that are asked for at once; with more between two looks, the rest is said at the next.
const EVENTS: usize = 100;
const ESCAPE: u8 = 0x1b;
const BACKSPACE: [u8; 2] = [0x7f, 0x08];

/// What the person is shown, and where the app stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Services start.
    Starting,
    /// They run.
    Running,
    /// They stop; with the exit code for when they have.
    Stopping { exit: i32, hard: bool },
}

/// What happened next.
enum Event {
    Lines(Option<Vec<LogLine>>),
    Key(u8),
    Signal,
    Tick,
}

/// Runs until the person detaches or stops the app, or the engine ends.
pub(crate) async fn run(
    client: &Client,
    tail: Tail,
    wanted: &Wanted<'_>,
    start: Start<'_>,
    clock: &dyn Clock,
    out: &mut Out,
) -> Outcome {
    let interactive = out.mode.terminal_err && !out.mode.json && !out.mode.quiet;
    let mut session = Session {
        client,
        wanted,
        start,
        clock,
        interactive,
        printer: Printer::new(out, &[]),
        live: Live::default(),
        view: View::default(),
        overview: None,
        engine: None,
        told: None,
        phase: Phase::Starting,
        held: VecDeque::new(),
        left_out: 0,
    };
    let keys = if interactive { Keys::take() } else { None };
    let outcome = session.run(tail, keys, out).await;
    session.live.erase(out)?;
    out.flush()?;
    outcome
}

struct Session<'a> {
    client: &'a Client,
    wanted: &'a Wanted<'a>,
    start: Start<'a>,
    clock: &'a dyn Clock,
    interactive: bool,
    printer: Printer,
    live: Live,
    view: View,
    overview: Option<Overview>,
    /// Process id of the engine that took the command.
    engine: Option<u32>,
    /// The newest event that was said, or was there when the services ran.
    told: Option<u64>,
    phase: Phase,
    held: VecDeque<LogLine>,
    left_out: u64,
}

impl Session<'_> {
    async fn run(&mut self, mut tail: Tail, mut keys: Option<Keys>, out: &mut Out) -> Outcome {
        let mut interrupt = Interrupt::listen()?;
        let mut next = Instant::now();
        loop {
            let event = tokio::select! {
                lines = tail.next() => Event::Lines(lines),
                Some(key) = next_key(&mut keys) => Event::Key(key),
                () = interrupt.next() => Event::Signal,
                () = tokio::time::sleep_until(next) => Event::Tick,
            };
            let done = match event {
                Event::Lines(Some(lines)) => self.lines(lines, out)?,
                Event::Lines(None) => Some(self.gone(out)?),
                Event::Key(key) => self.key(key, out).await?,
                Event::Signal => self.stop(INTERRUPTED, out).await?,
                Event::Tick => {
                    let done = self.tick(out).await?;
                    let calm = self.phase == Phase::Running;
                    next = Instant::now() + if calm { CALM } else { POLL };
                    done
                }
            };
            if let Some(code) = done {
                return Ok(code);
            }
        }
    }

    /// Output of services: shown, or held while they start.
    fn lines(&mut self, lines: Vec<LogLine>, out: &mut Out) -> Outcome<Option<i32>> {
        self.held.extend(lines);
        let young = self.clock.monotonic() - self.start.at < HOLD;
        if self.phase == Phase::Starting && self.interactive && young {
            let over = self.held.len().saturating_sub(HELD_MAX);
            self.held.drain(..over);
            self.left_out += over as u64;
        } else {
            self.release(out)?;
        }
        Ok(None)
    }

    /// Shows what is held.
    fn release(&mut self, out: &mut Out) -> Outcome<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        self.live.erase(out)?;
        if self.left_out > 0 {
            let left_out = std::mem::take(&mut self.left_out);
            out.progress(&format!("{left_out} earlier lines left out; `ms logs` has them"))?;
        }
        for line in self.held.drain(..) {
            if self.view.shows(&line) {
                out.text(&self.printer.line(&line))?;
            }
        }
        out.flush()?;
        self.draw(out)
    }

    async fn tick(&mut self, out: &mut Out) -> Outcome<Option<i32>> {
        let overview = match self.client.overview().await {
            Ok(overview) => overview,
            // Between death and return of the engine there is nothing new to say.
            Err(_) if self.client.may_come_back() => return Ok(None),
            Err(_) => return Ok(Some(self.gone(out)?)),
        };
        // An engine that came back has taken everything over and counts from zero.
        let first = *self.engine.get_or_insert(overview.status.pid) == overview.status.pid;
        let revision = if first { self.wanted.revision } else { 0 };
        let stands = verdict(&overview, self.wanted.names, revision, self.wanted.goal);
        if self.phase == Phase::Starting && stands != Verdict::Pending {
            self.phase = Phase::Running;
            self.live.erase(out)?;
            self.started(&overview, stands, out).await?;
            if self.interactive {
                // The summary has just said it.
                self.live.transitions(&chosen(&overview, self.wanted.names), self.clock);
            }
            self.release(out)?;
        } else if self.phase == Phase::Starting && self.clock.monotonic() - self.start.at >= HOLD {
            self.release(out)?;
        }
        self.troubles(out).await?;
        self.changes(&overview, out)?;
        if self.printer.folds() {
            self.live.erase(out)?;
            out.text(&self.printer.end())?;
            out.flush()?;
        }
        let over = self.phase == Phase::Running
            && chosen(&overview, self.wanted.names).iter().all(|s| s.health == Health::Completed);
        self.overview = Some(overview);
        self.draw(out)?;
        // Nothing is left that could still write or serve.
        if over { self.stop(DONE, out).await } else { Ok(None) }
    }

    /// Says how the start went; what failed is said too, and the rest runs on.
    async fn started(
        &mut self,
        overview: &Overview,
        stands: Verdict,
        out: &mut Out,
    ) -> Outcome<()> {
        self.start.say(overview, self.wanted.names, stands, self.clock, out)?;
        let app = Some(self.start.app);
        match conclude(self.client, self.wanted, overview, stands, app).await {
            Err(Stop::Failed { problems, .. }) => problems.iter().try_for_each(|p| out.error(p)),
            other => other.map(|_| ()),
        }
    }

    /// Says what went wrong since the last look, which may be over already: an instance that ended
    /// and runs again. What that makes of its service is said by `changes`.
    async fn troubles(&mut self, out: &mut Out) -> Outcome<()> {
        if self.phase == Phase::Starting {
            return Ok(());
        }
        let Some(told) = self.told else {
            let newest = self.client.events(0, 1).await.unwrap_or_default();
            self.told = Some(newest.last().map_or(0, |event| event.seq));
            return Ok(());
        };
        // An engine that is away for a moment is asked again.
        let events = self.client.events(told, EVENTS).await.unwrap_or_default();
        let Some(newest) = events.last() else { return Ok(()) };
        self.told = Some(newest.seq);
        let wanted = |event: &&EventView| {
            let mine = |name: &str| self.wanted.names.iter().any(|wanted| wanted == name);
            event.level != "info"
                && event.instance.is_some()
                && event.service.as_ref().is_some_and(|name| mine(name.as_str()))
        };
        let lines: Vec<String> = events.iter().filter(wanted).map(trouble).collect();
        if lines.is_empty() {
            return Ok(());
        }
        self.live.erase(out)?;
        // The last lines of output stand above already.
        lines.iter().try_for_each(|line| out.progress(line))
    }

    /// Says which services changed since the last look; while a block shows them, it is enough.
    fn changes(&mut self, overview: &Overview, out: &mut Out) -> Outcome<()> {
        let services = chosen(overview, self.wanted.names);
        let silent = self.interactive && self.phase != Phase::Running;
        let said = self.live.transitions(&services, self.clock);
        if silent || said.is_empty() || (self.interactive && self.overview.is_none()) {
            return Ok(());
        }
        self.live.erase(out)?;
        said.iter().try_for_each(|line| out.progress(line))
    }

    fn draw(&mut self, out: &mut Out) -> Outcome<()> {
        let Some(overview) = self.overview.as_ref().filter(|_| self.interactive) else {
            return Ok(());
        };
        let goal = match self.phase {
            Phase::Running => {
                let width = super::terminal::width().unwrap_or(80);
                let rows = rows(overview, self.wanted.names, &self.view, out.mode.color_err);
                return self.live.draw(&rows, width, out);
            }
            Phase::Starting => Goal::Up,
            Phase::Stopping { .. } => Goal::Stopped,
        };
        let wanted = Wanted { goal, ..*self.wanted };
        self.live.show(overview, &wanted, self.clock, out)
    }

    async fn key(&mut self, key: u8, out: &mut Out) -> Outcome<Option<i32>> {
        if let Some(typed) = &mut self.view.typing {
            match key {
                b'\n' | b'\r' => {
                    let typed = String::from_utf8_lossy(typed).into_owned();
                    self.view.filter = Some(typed).filter(|typed| !typed.is_empty());
                    self.view.typing = None;
                }
                ESCAPE => self.view.typing = None,
                key if BACKSPACE.contains(&key) => {
                    // A character may have several bytes.
                    while typed.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
                }
                key if key >= b' ' && typed.len() < 200 => typed.push(key),
                _ => {}
            }
            self.draw(out)?;
            return Ok(None);
        }
        match key {
            b'd' => {
                self.live.erase(out)?;
                out.progress("detached; the app runs on: ms ps, ms logs -f, ms down")?;
                return Ok(Some(DONE));
            }
            b'q' => return self.stop(DONE, out).await,
            b'0' => self.view.solo = None,
            b'1'..=b'9' => {
                let name = self.wanted.names.get(usize::from(key - b'1')).cloned();
                self.view.solo = name.filter(|name| self.view.solo.as_ref() != Some(name));
            }
            b'/' => self.view.typing = Some(Vec::new()),
            ESCAPE => self.view = View::default(),
            b'o' => {
                let url = self.overview.as_ref().and_then(|o| o.status.console.clone());
                self.live.erase(out)?;
                out.progress(&format!("console  {}", url.as_deref().unwrap_or("off")))?;
            }
            _ => {}
        }
        self.draw(out)?;
        Ok(None)
    }

    /// Stops the app and the engine; asked again, at once; and again, does not wait any longer.
    async fn stop(&mut self, exit: i32, out: &mut Out) -> Outcome<Option<i32>> {
        match self.phase {
            Phase::Stopping { hard: false, .. } => {
                self.live.erase(out)?;
                out.progress("killing what is left")?;
                self.kill();
                self.phase = Phase::Stopping { exit: INTERRUPTED, hard: true };
            }
            Phase::Stopping { hard: true, .. } => return Ok(Some(INTERRUPTED)),
            Phase::Starting | Phase::Running => {
                self.live.erase(out)?;
                out.progress(match exit {
                    DONE => "stopping",
                    _ => "stopping; Ctrl-C again kills",
                })?;
                self.phase = Phase::Stopping { exit, hard: false };
                // Lines of a service that stops are often the interesting ones.
                self.release(out)?;
                self.client.command(&Command::Shutdown { keep_services: false }).await?;
            }
        }
        Ok(None)
    }

    /// SIGKILL to every instance that we know of.
    fn kill(&self) {
        let services = self.overview.iter().flat_map(|overview| &overview.services);
        let pids = services.flat_map(|s| &s.instances).filter_map(|i| i.pid);
        for pid in pids.filter_map(|pid| rustix::process::Pid::from_raw(i32::try_from(pid).ok()?)) {
            // It may have ended by itself, which is just as well.
            _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }

    /// The engine is gone: as asked for, by somebody else's hand, or for no good reason.
    fn gone(&mut self, out: &mut Out) -> Outcome<i32> {
        self.live.erase(out)?;
        self.release(out)?;
        out.text(&self.printer.end())?;
        match self.phase {
            Phase::Stopping { exit, .. } => Ok(exit),
            _ if !self.client.may_come_back() => {
                out.progress("the engine was stopped")?;
                Ok(DONE)
            }
            _ => {
                let problem = Problem::new("engine-lost", "the engine died and did not come back")
                    .with_cause("its services may still run")
                    .with_next("ms up -d starts an engine that takes them over");
                Err(Stop::new(FAILED, problem))
            }
        }
    }
}

/// One timestamped line, without what the program wrote last.
fn trouble(event: &EventView) -> String {
    let message = clean(event.message.lines().next().unwrap_or_default(), false);
    format!("{} {message}", moment(event.at))
}

/// The next key; never when there is no keyboard.
async fn next_key(keys: &mut Option<Keys>) -> Option<u8> {
    match keys {
        Some(keys) => keys.next().await,
        None => std::future::pending().await,
    }
}
