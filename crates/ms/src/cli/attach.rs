//! `ms up` in the foreground: merged logs above a live status line, and keys.

use std::time::Duration;

use base::Clock;
use console::wire::{Command, LogLine, Overview};

use super::api::Client;
use super::logs::{Printer, Tail};
use super::out::Out;
use super::progress::{Live, POLL, Wanted, chosen, conclude, summary};
use super::settle::{Verdict, verdict};
use super::stop::{DONE, INTERRUPTED, Outcome};

/// Runs until the person detaches or stops the app, or the engine ends.
pub(crate) async fn run(
    client: &Client,
    mut tail: Tail,
    wanted: &Wanted<'_>,
    app: &spec::App,
    start: Duration,
    clock: &dyn Clock,
    out: &mut Out,
) -> Outcome {
    let mut printer = Printer::new(out, &[]);
    let mut live = Live::default();
    let mut settled = false;
    loop {
        tokio::select! {
            lines = tail.next() => {
                let Some(lines) = lines else { return Ok(DONE) };
                for line in &lines { out.text(&printer.line(line))?; }
                out.flush()?;
            }
            () = tokio::time::sleep(POLL) => {
                let Ok(overview) = client.overview().await else { continue };
                if !settled {
                    let stands = verdict(&overview, wanted.names, wanted.revision, wanted.goal);
                    live.show(&overview, wanted, clock, out)?;
                    if stands != Verdict::Pending {
                        settled = true;
                        live.erase(out)?;
                        out.text(&summary(&overview, wanted.names, Some(clock.monotonic() - start), out.mode.color))?;
                        out.flush()?;
                    }
                }
            }
            _ = tokio::signal::ctrl_c() => {
                client.command(&Command::Shutdown { keep_services: false }).await?;
                super::change::until_gone(client, wanted.names, wanted.timeout, clock, out).await?;
                return Ok(INTERRUPTED);
            }
        }
    }
}
