//! Everything that the command line writes: results to stdout, progress and problems to stderr.
//!
//! Not here: what is said. Invariants: nothing else in this module tree writes to a standard
//! stream; a closed pipe is an ordinary end ([`Stop::ClosedPipe`]); with `--json` stdout carries
//! nothing but JSON.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use base::Problem;
use serde::Serialize;

use super::stop::{Outcome, Stop};
use super::style::{Style, clean, paint};

/// When to use colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless `NO_COLOR` or `TERM=dumb` says otherwise.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What the environment says about colour.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ColorEnv {
    /// `NO_COLOR` is set and not empty.
    pub(crate) no_color: bool,
    /// `CLICOLOR_FORCE` is set and neither empty nor `0`.
    pub(crate) force: bool,
    /// `TERM` is `dumb`.
    pub(crate) dumb: bool,
}

impl ColorEnv {
    /// Reads this process's environment.
    pub(crate) fn read() -> ColorEnv {
        let is = |name: &str, test: fn(&str) -> bool| {
            std::env::var_os(name).is_some_and(|v| test(&v.to_string_lossy()))
        };
        ColorEnv {
            no_color: is("NO_COLOR", |v| !v.is_empty()),
            force: is("CLICOLOR_FORCE", |v| !v.is_empty() && v != "0"),
            dumb: is("TERM", |v| v == "dumb"),
        }
    }
}

/// `--color` goes before `NO_COLOR`, that before `CLICOLOR_FORCE`, that before the terminal.
pub(crate) fn use_color(asked: Color, env: ColorEnv, terminal: bool) -> bool {
    match asked {
        Color::Always => true,
        Color::Never => false,
        Color::Auto if env.no_color => false,
        Color::Auto if env.force => true,
        Color::Auto => terminal && !env.dumb,
    }
}

/// How to write.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mode {
    /// JSON instead of text.
    pub(crate) json: bool,
    /// No progress.
    pub(crate) quiet: bool,
    /// Colour on stdout.
    pub(crate) color: bool,
    /// Colour on stderr.
    pub(crate) color_err: bool,
    /// Stdout is a terminal that can be drawn on.
    pub(crate) terminal: bool,
    /// Stderr is a terminal that can be drawn on.
    pub(crate) terminal_err: bool,
    /// Columns of that terminal; `None` when output is not for one.
    pub(crate) width: Option<usize>,
}

/// The two standard streams.
pub(crate) struct Out {
    out: Box<dyn Write>,
    err: Box<dyn Write>,
    /// Files below this folder are named from it.
    folder: PathBuf,
    /// How to write.
    pub(crate) mode: Mode,
}

impl Out {
    /// The process's own streams.
    pub(crate) fn new(asked: Color, json: bool, quiet: bool) -> Out {
        let env = ColorEnv::read();
        let (out, err) = (io::stdout(), io::stderr());
        let mode = Mode {
            json,
            quiet,
            color: use_color(asked, env, out.is_terminal()),
            color_err: use_color(asked, env, err.is_terminal()),
            terminal: out.is_terminal() && !env.dumb,
            terminal_err: err.is_terminal() && !env.dumb,
            width: super::terminal::width().filter(|_| out.is_terminal()),
        };
        let folder = std::env::current_dir().unwrap_or_default();
        Out { out: Box::new(io::BufWriter::new(out)), err: Box::new(err), folder, mode }
    }

    /// Streams of a test.
    #[cfg(test)]
    pub(crate) fn fake(out: Box<dyn Write>, err: Box<dyn Write>, mode: Mode) -> Out {
        Out { out, err, folder: PathBuf::new(), mode }
    }

    /// Names files as seen from this folder.
    #[cfg(test)]
    pub(crate) fn set_folder(&mut self, folder: &std::path::Path) {
        folder.clone_into(&mut self.folder);
    }

    /// The problem with its file named from the current folder, as the person would.
    pub(crate) fn named(&self, problem: &Problem) -> Problem {
        let mut problem = problem.clone();
        if let Some(place) = &mut problem.place
            && let Ok(relative) = place.file.strip_prefix(&self.folder)
        {
            place.file = relative.to_owned();
        }
        problem
    }

    /// Text for stdout, as it is.
    pub(crate) fn text(&mut self, text: &str) -> Outcome<()> {
        Ok(self.out.write_all(text.as_bytes())?)
    }

    /// A line for stdout.
    pub(crate) fn line(&mut self, line: &str) -> Outcome<()> {
        self.out.write_all(line.as_bytes())?;
        Ok(self.out.write_all(b"\n")?)
    }

    /// Makes sure that whoever reads sees everything so far.
    pub(crate) fn flush(&mut self) -> Outcome<()> {
        Ok(self.out.flush()?)
    }

    /// Text for stderr, as it is: progress that is drawn over.
    pub(crate) fn draw(&mut self, text: &str) -> Outcome<()> {
        self.err.write_all(text.as_bytes())?;
        Ok(self.err.flush()?)
    }

    /// A line of progress for stderr; nothing with `-q` or `--json`.
    pub(crate) fn progress(&mut self, line: &str) -> Outcome<()> {
        if self.mode.quiet || self.mode.json {
            return Ok(());
        }
        Ok(writeln!(self.err, "{line}")?)
    }

    /// One JSON object on one line of stdout, its schema first.
    pub(crate) fn json(&mut self, schema: &str, value: &impl Serialize) -> Outcome<()> {
        let line = with_schema(schema, value);
        self.line(&line)
    }

    /// A problem that ends the command, on stderr.
    pub(crate) fn error(&mut self, problem: &Problem) -> Outcome<()> {
        self.problem("error", Style::Red, problem)
    }

    /// A problem that does not.
    pub(crate) fn warning(&mut self, problem: &Problem) -> Outcome<()> {
        self.problem("warning", Style::Yellow, problem)
    }

    /// A problem under a label: `error[code]: message`, place, cause, next.
    pub(crate) fn problem(&mut self, label: &str, style: Style, problem: &Problem) -> Outcome<()> {
        let problem = &self.named(problem);
        let text = if self.mode.json {
            #[derive(Serialize)]
            struct Said<'a> {
                level: &'a str,
                #[serde(flatten)]
                problem: &'a Problem,
            }
            with_schema("ms.problem/1", &Said { level: label, problem })
        } else {
            let text = clean(&problem.to_string(), false);
            format!("{}{text}", paint(self.mode.color_err, style, label))
        };
        Ok(writeln!(self.err, "{text}")?)
    }

    /// Says why a command ended early; nothing for a closed pipe.
    pub(crate) fn stop(&mut self, stop: &Stop) {
        // Nobody is left to tell when these writes fail.
        _ = self.out.flush();
        if let Stop::Failed { problems, .. } = stop {
            for problem in problems {
                _ = self.error(problem);
            }
        }
    }
}

/// A JSON object with `"schema"` as its first key.
pub(crate) fn with_schema(schema: &str, value: &impl Serialize) -> String {
    #[derive(Serialize)]
    struct Tagged<'a, T> {
        schema: &'a str,
        #[serde(flatten)]
        value: &'a T,
    }
    serde_json::to_string(&Tagged { schema, value }).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn color_follows_the_order_of_its_switches() {
        let (no, force, dumb) = (
            ColorEnv { no_color: true, force: true, dumb: false },
            ColorEnv { no_color: false, force: true, dumb: true },
            ColorEnv { no_color: false, force: false, dumb: true },
        );
        let plain = ColorEnv::default();
        for (asked, env, terminal, expected) in [
            (Color::Always, no, false, true),
            (Color::Never, force, true, false),
            (Color::Auto, no, true, false),
            (Color::Auto, force, false, true),
            (Color::Auto, dumb, true, false),
            (Color::Auto, plain, true, true),
            (Color::Auto, plain, false, false),
        ] {
            assert_eq!(use_color(asked, env, terminal), expected, "{asked:?} {env:?} {terminal}");
        }
    }

    #[test]
    fn a_closed_pipe_is_an_ordinary_end_and_a_full_disk_is_not() {
        struct Broken(io::ErrorKind);
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        for (kind, exit) in [(io::ErrorKind::BrokenPipe, 0), (io::ErrorKind::StorageFull, 1)] {
            let mut out = Out::fake(Box::new(Broken(kind)), Box::new(io::sink()), Mode::default());
            assert_eq!(out.line("x").unwrap_err().exit(), exit, "{kind}");
        }
    }

    #[test]
    fn the_schema_comes_first() {
        let text = with_schema("ms.x/1", &serde_json::json!({"a": 1}));
        assert_eq!(text, r#"{"schema":"ms.x/1","a":1}"#);
    }
}
