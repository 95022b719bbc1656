//! What can be typed: every command, flag and environment twin.
//!
//! Not here: what any of it means once files and folders are looked at (`project`).

pub(crate) mod events;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::out::Color;

/// A service engine: one binary that runs a backend from a Compose file.
#[derive(Debug, Parser)]
#[command(
    name = "ms",
    bin_name = "ms",
    version,
    arg_required_else_help = true,
    after_help = "`ms COMMAND --help` says more; `ms explain CODE` explains an error.\n\
                  Exit codes: 0 done, 1 failed, 2 usage or bad file, 3 no engine answers, \
                  4 not allowed, 5 timed out, 130 interrupted."
)]
pub(crate) struct Cli {
    /// Flags of every command.
    #[command(flatten)]
    pub(crate) shared: Shared,
    /// The command.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Shared {
    /// Compose file; may be given several times, later ones change earlier ones
    #[arg(
        short,
        long,
        global = true,
        value_name = "FILE",
        hide_env_values = true,
        env = "COMPOSE_FILE",
        value_delimiter = ':'
    )]
    pub(crate) file: Vec<PathBuf>,
    /// Name of the app [default: the file's `name`, else its folder]
    #[arg(
        short,
        long,
        global = true,
        value_name = "NAME",
        hide_env_values = true,
        env = "COMPOSE_PROJECT_NAME"
    )]
    pub(crate) project_name: Option<String>,
    /// Profile to switch on; may be given several times
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        hide_env_values = true,
        env = "COMPOSE_PROFILES",
        value_delimiter = ','
    )]
    pub(crate) profile: Vec<String>,
    /// File of variables in place of `.env`; may be given several times
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// State folder [default: `.ms` beside the Compose file]
    #[arg(long, global = true, value_name = "DIR", hide_env_values = true, env = "MS_STATE")]
    pub(crate) state: Option<PathBuf>,
    /// Where the console listens, or `off` [default: 127.0.0.1:7700]
    #[arg(
        long,
        global = true,
        value_name = "ADDR:PORT|off",
        hide_env_values = true,
        env = "MS_CONSOLE"
    )]
    pub(crate) console: Option<String>,
    /// Loopback network for service addresses [default: a free one of 127.64.0.0/16 and up]
    #[arg(long, global = true, value_name = "CIDR", hide_env_values = true, env = "MS_ADDRESSES")]
    pub(crate) addresses: Option<String>,
    /// Colour: `always`, `never`, or `auto`, which is on a terminal that can show it
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        hide_possible_values = true,
        hide_env_values = true,
        env = "MS_COLOR"
    )]
    pub(crate) color: Color,
    /// Results and problems only, no progress
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// JSON on stdout, one object a line for streams; problems as JSON on stderr
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// How long to wait, and whether to change anything at all.
#[derive(Clone, Debug, Args)]
pub(crate) struct Wait {
    /// Give up waiting after this long, as in 90s or 5m; what was asked for goes on
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub(crate) timeout: std::time::Duration,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the app, or change it to what its file says now
    Up(Up),
    /// Build the images of services that have a Dockerfile
    Build(Build),
    /// Stop the app and its engine
    Down(Down),
    /// Instances: state, release, process, CPU, memory
    Ps(Ps),
    /// Services: health, traffic, latency, CPU, memory, once a second
    Top(Top),
    /// Output of the services
    Logs(Logs),
    /// Run a command inside an instance
    Exec(Exec),
    /// Why a service is as it is: what it waits for, its instances, what happened in order
    Why(Why),
    /// What the engine saw and decided
    History(History),
    /// Event logs: topics, their messages, and the groups that read them
    Events(events::Events),
    /// Replace the instances of services, without losing requests
    Restart(Change),
    /// Stop services; they stay stopped until started
    Stop(Change),
    /// Start stopped services; where no engine runs, it and what ran before as well
    Start(Change),
    /// Run this many instances: `ms scale web=3 worker=0`
    Scale(Scale),
    /// Go back to an earlier release
    Rollback(Rollback),
    /// The app as the engine understands its file
    Config(Config),
    /// Look for mistakes in the file
    Check(Check),
    /// Where the console is
    Console,
    /// What an error code means and what to do
    Explain {
        /// The code between the brackets, as in `error[port-taken]`; all of them when absent
        code: Option<String>,
    },
    /// Look into the files of the embedded log, key-value and object store
    #[command(subcommand)]
    Volume(Volume),
    /// Versions of this program and of the engine that runs
    Version,
    /// Script that teaches a shell to complete `ms`
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Names for completion scripts
    #[command(name = "__complete", hide = true)]
    Complete,
    /// Run an event log in this process, in place of an image
    #[command(hide = true)]
    PartEvents(PartEvents),
    /// Run the engine in this process
    #[command(hide = true)]
    Engine,
    /// Run the engine in a child and bring it back when it dies
    #[command(hide = true)]
    Supervise,
}

/// An event log that stands in for an image.
#[derive(Debug, Args)]
pub(crate) struct PartEvents {
    /// Folder of its data
    #[arg(long)]
    pub(crate) data: PathBuf,
    /// Where it listens and what it tells clients to connect to: PORT=HOST:PORT
    #[arg(long = "door", value_name = "PORT=HOST:PORT")]
    pub(crate) doors: Vec<String>,
    /// Doors whose clients have to log in, by port; users and passwords are in MS_PART_PASSWORDS
    #[arg(long = "login", value_name = "PORT")]
    pub(crate) logins: Vec<u16>,
    /// Doors that speak TLS, by port
    #[arg(long = "tls", value_name = "PORT")]
    pub(crate) tls: Vec<u16>,
    /// Key and certificates of those, in one PEM file
    #[arg(long)]
    pub(crate) certificate: Option<PathBuf>,
    /// Who may do anything, as User:NAME
    #[arg(long = "super-user")]
    pub(crate) super_users: Vec<String>,
    /// What no rule is about is denied
    #[arg(long)]
    pub(crate) deny_if_none: bool,
    /// Partitions of topics that do not say how many
    #[arg(long, default_value_t = 1)]
    pub(crate) partitions: i32,
    /// Topics are made by whoever may, not by being asked for
    #[arg(long)]
    pub(crate) no_auto_create: bool,
    /// A setting of all topics that do not say otherwise
    #[arg(long = "topic-default", value_name = "NAME=VALUE")]
    pub(crate) topic_defaults: Vec<String>,
    /// A topic that is there from the start
    #[arg(long = "topic", value_name = "NAME:PARTITIONS")]
    pub(crate) topics: Vec<String>,
    /// How long offsets of a group without members are kept
    #[arg(long)]
    pub(crate) offsets_retention_minutes: Option<u64>,
    /// How long a group without members waits for more when the first one comes
    #[arg(long)]
    pub(crate) group_delay_ms: Option<u64>,
}

/// `ms up`.
#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Compose files, and services to start with all that they need [default: all]
    #[arg(value_name = "FILE|SERVICE")]
    pub(crate) targets: Vec<String>,
    /// Return when everything is healthy, and leave it running
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Build images first, which is done anyway: only changed steps take time
    #[arg(id = "build", long)]
    pub(crate) _build: bool,
    /// Start a new release of each service even when nothing changed
    #[arg(long)]
    pub(crate) recreate: bool,
    /// Say what would change, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

/// `ms build`.
#[derive(Debug, Args)]
pub(crate) struct Build {
    /// Services [default: all]
    #[arg(value_name = "SERVICE")]
    pub(crate) services: Vec<String>,
    /// Do every step again, also those that were done before
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Build nothing, and remove layers and caches that no release uses [happens by itself after 14
    /// days, and above 20 GiB]
    #[arg(long, conflicts_with_all = ["services", "no_cache"])]
    pub(crate) prune: bool,
    /// With --prune: only what nothing used for so long
    #[arg(long, value_name = "DURATION", requires = "prune", value_parser = duration)]
    pub(crate) unused_for: Option<std::time::Duration>,
    /// With --prune: only as much as they are above this size, oldest first
    #[arg(long, value_name = "BYTES", requires = "prune", value_parser = bytes)]
    pub(crate) keep: Option<u64>,
}

/// `ms down`.
#[derive(Debug, Args)]
pub(crate) struct Down {
    /// Delete the app's named volumes too
    #[arg(short, long)]
    pub(crate) volumes: bool,
    /// Say what would change, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

/// `ms ps`.
#[derive(Debug, Args)]
pub(crate) struct Ps {
    /// Services to show [default: all]
    #[arg(value_name = "SERVICE")]
    pub(crate) services: Vec<String>,
    /// Releases in place of instances
    #[arg(long)]
    pub(crate) releases: bool,
}

/// `ms top`.
#[derive(Debug, Args)]
pub(crate) struct Top {
    /// Services to show [default: all]
    #[arg(value_name = "SERVICE")]
    pub(crate) services: Vec<String>,
    /// Print one table and end
    #[arg(long)]
    pub(crate) once: bool,
}

/// `ms logs`.
#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// Services or instances, as in `web` or `web.2` [default: all]
    #[arg(value_name = "SERVICE")]
    pub(crate) services: Vec<String>,
    // Same id as the shared flag, so that it takes that one's place and leaves `-f` to `--follow`.
    /// Compose file; may be given several times, later ones change earlier ones
    #[arg(id = "file", long, value_name = "FILE", value_delimiter = ':')]
    pub(crate) _file: Vec<PathBuf>,
    /// Go on with what is written from now on
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Not before: a time, or how long ago, as in 15m
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Not after: a time, or how long ago
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// Only lines with this text, or that match this /regular expression/
    #[arg(long, value_name = "TEXT|/REGEX/")]
    pub(crate) grep: Option<String>,
    /// The newest this many lines, 10000 at most [default: 1000]
    #[arg(short = 'n', long = "lines", value_name = "COUNT")]
    pub(crate) lines: Option<usize>,
    /// Begin each line with its time
    #[arg(short, long)]
    pub(crate) timestamps: bool,
}

/// `ms exec`.
#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// Service, whose first running instance it is, or an instance, as in `web.2`
    #[arg(value_name = "SERVICE")]
    pub(crate) service: String,
    /// The program and its arguments
    #[arg(
        value_name = "COMMAND",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub(crate) command: Vec<String>,
    /// No terminal for the command, also when there is one here
    #[arg(short = 'T', long)]
    pub(crate) no_tty: bool,
    /// A variable on top of the service's own; may be given several times
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = variable)]
    pub(crate) env: Vec<(String, String)>,
    /// As this user instead of the service's: `user`, `uid`, `user:group` or `uid:gid`
    #[arg(short, long)]
    pub(crate) user: Option<String>,
    /// In this folder instead of the service's
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<PathBuf>,
}

/// `ms why`.
#[derive(Debug, Args)]
pub(crate) struct Why {
    /// The service
    #[arg(value_name = "SERVICE")]
    pub(crate) service: String,
    /// The newest this many of what happened
    #[arg(short = 'n', long = "lines", value_name = "COUNT", default_value_t = 20)]
    pub(crate) lines: usize,
}

/// `ms history`.
#[derive(Debug, Args)]
pub(crate) struct History {
    /// Only events of these services [default: all]
    #[arg(value_name = "SERVICE")]
    pub(crate) services: Vec<String>,
    /// Compose file; may be given several times, later ones change earlier ones
    #[arg(id = "file", long, value_name = "FILE", value_delimiter = ':')]
    pub(crate) _file: Vec<PathBuf>,
    /// Go on with what happens from now on
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// The newest this many
    #[arg(short = 'n', long = "lines", value_name = "COUNT", default_value_t = 100)]
    pub(crate) lines: usize,
}

/// A command that changes some services.
#[derive(Debug, Args)]
pub(crate) struct Change {
    /// Services [default: all]
    #[arg(value_name = "SERVICE")]
    pub(crate) services: Vec<String>,
    /// Say what would change, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

/// `ms scale`.
#[derive(Debug, Args)]
pub(crate) struct Scale {
    /// Services and how many instances of each
    #[arg(value_name = "SERVICE=N", required = true, value_parser = scale)]
    pub(crate) services: Vec<(String, u32)>,
    /// Say what would change, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

/// `ms rollback`.
#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// The service
    pub(crate) service: String,
    /// The release to go back to [default: the one before the present]
    #[arg(long, value_name = "RELEASE")]
    pub(crate) to: Option<u64>,
    /// Say what would change, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

/// `ms config`.
#[derive(Debug, Args)]
pub(crate) struct Config {
    /// Names of the services only, one a line
    #[arg(long)]
    pub(crate) services: bool,
}

/// `ms check`.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Compose files, in place of --file
    #[arg(value_name = "FILE")]
    pub(crate) targets: Vec<PathBuf>,
    /// Fail on warnings too
    #[arg(long)]
    pub(crate) strict: bool,
    /// How findings are written; --json is --format json
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

/// How `ms check` writes findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// One JSON object
    Json,
    /// SARIF 2.1.0, for code hosts and editors
    Sarif,
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as NAME=VALUE".to_owned()),
    }
}

fn bytes(text: &str) -> Result<u64, String> {
    base::units::parse_bytes(text).ok_or_else(|| "write it as in 500m or 20g".to_owned())
}

fn duration(text: &str) -> Result<std::time::Duration, String> {
    base::units::parse_duration(text).ok_or_else(|| "write it as in 90s, 5m or 1h30m".to_owned())
}

/// How many instances one service may have; a bound against slips of the finger.
const REPLICAS_MAX: u32 = 1000;

fn scale(text: &str) -> Result<(String, u32), String> {
    let (name, count) = text.split_once('=').ok_or("write it as SERVICE=N, as in web=3")?;
    let count: u32 = count.parse().map_err(|_| format!("`{count}` is not a count"))?;
    if count > REPLICAS_MAX {
        return Err(format!("{REPLICAS_MAX} instances of a service at most"));
    }
    let name: base::ServiceName = name.parse().map_err(|e: base::NameError| e.to_string())?;
    Ok((name.into(), count))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Cli {
        Cli::try_parse_from(line.split(' ')).unwrap_or_else(|e| panic!("{line}: {e}"))
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn file_is_the_same_flag_before_and_after_every_command() {
        for line in [
            "ms -f a.yaml -f b.yaml ps",
            "ms ps -f a.yaml -f b.yaml",
            "ms ps --file a.yaml:b.yaml",
            "ms --file a.yaml --file b.yaml logs -f",
            "ms logs -f --file a.yaml --file b.yaml web",
            "ms history -f --file a.yaml:b.yaml",
            "ms events consume orders -f --file a.yaml:b.yaml",
        ] {
            let cli = parse(line);
            assert_eq!(cli.shared.file, [PathBuf::from("a.yaml"), "b.yaml".into()], "{line}");
            match cli.command {
                Command::Logs(logs) => assert!(logs.follow, "{line}"),
                Command::History(history) => assert!(history.follow, "{line}"),
                Command::Events(events) => {
                    let events::Command::Consume(consume) = events.command else { panic!() };
                    assert!(consume.follow, "{line}");
                }
                _ => {}
            }
        }
    }

    #[test]
    fn flags_of_every_command_go_anywhere() {
        for line in ["ms --json -q --state x ps", "ms ps --json -q --state x"] {
            let shared = parse(line).shared;
            assert!(shared.json && shared.quiet, "{line}");
            assert_eq!(shared.state, Some("x".into()), "{line}");
        }
    }

    #[test]
    fn help_begins_with_what_is_special_and_has_one_length() {
        let help = |line: &str| Cli::try_parse_from(line.split(' ')).unwrap_err().to_string();
        let up = help("ms up --help");
        assert!(up.contains("\nUsage: ms up [OPTIONS] [FILE|SERVICE]...\n"), "{up}");
        let at = |text: &str| up.find(text).unwrap_or_else(|| panic!("no {text} in {up}"));
        assert!(at("--recreate") < at("Options of every command:"));
        assert!(at("Options of every command:") < at("--file"));
        assert_eq!(up, help("ms up -h"));
        assert_eq!(up, help("ms help up"));
    }

    #[test]
    fn scale_reads_counts() {
        let Command::Scale(scale) = parse("ms scale web=3 worker=0").command else { panic!() };
        assert_eq!(scale.services, [("web".to_owned(), 3), ("worker".to_owned(), 0)]);
        for bad in ["web", "web=", "web=-1", "web=x", "=1", "a/b=1", "web=1001"] {
            assert!(Cli::try_parse_from(["ms", "scale", bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn wrong_usage_is_refused_with_exit_code_2() {
        for bad in
            ["ms nonsense", "ms up --nonsense", "ms scale", "ms up --timeout 5", "ms rollback"]
        {
            let error = Cli::try_parse_from(bad.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{bad}");
        }
        for fine in ["ms --help", "ms help", "ms help up", "ms up --help", "ms --version"] {
            assert_eq!(Cli::try_parse_from(fine.split(' ')).unwrap_err().exit_code(), 0, "{fine}");
        }
    }
}

/// `ms volume`
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Volume {
    /// What is in a store's files, by volume; reads headers and footers
    Inspect {
        /// The folder that holds `manifest-a`
        folder: PathBuf,
    },
    /// Read every byte of a store and say what does not match its checksum
    Verify {
        /// The folder that holds `manifest-a`
        folder: PathBuf,
    },
}
