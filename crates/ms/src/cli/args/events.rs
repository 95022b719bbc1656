//! What can be typed after `ms events`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `ms events`.
#[derive(Debug, Args)]
pub(crate) struct Events {
    /// The event log, when the app has several
    #[arg(long, global = true, value_name = "SERVICE")]
    pub(crate) service: Option<String>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do with an event log.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Topics: partitions, messages, size, rates
    Topics,
    /// A topic: its partitions and settings
    Describe {
        /// The topic
        #[arg(value_name = "TOPIC")]
        topic: String,
        /// Settings that nobody gave it, too
        #[arg(long)]
        all: bool,
    },
    /// Make a topic
    Create(Create),
    /// Delete a topic with all its messages
    Delete {
        /// The topic
        #[arg(value_name = "TOPIC")]
        topic: String,
    },
    /// Write each line of the input as a message
    Produce(Produce),
    /// Read messages: the newest, or from a place on
    Consume(Consume),
    /// Groups of readers: state, members, how far they are behind
    Groups,
    /// A group: its members, and how far it is in each partition
    Group {
        /// The group
        #[arg(value_name = "GROUP")]
        group: String,
    },
    /// How far a group is behind, in each partition
    Lag {
        /// The group
        #[arg(value_name = "GROUP")]
        group: String,
    },
    /// Move a group that has no members to another place
    Reset(Reset),
}

impl Command {
    /// Whether it changes something.
    pub(crate) fn changes(&self) -> bool {
        matches!(
            self,
            Command::Create(_) | Command::Delete { .. } | Command::Produce(_) | Command::Reset(_)
        )
    }
}

/// `ms events create`.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// The topic
    #[arg(value_name = "TOPIC")]
    pub(crate) topic: String,
    /// How many partitions [default: what the event log gives]
    #[arg(short = 'P', long, value_name = "COUNT")]
    pub(crate) partitions: Option<u32>,
    /// A setting, as in retention.ms=3600000; may be given several times
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = super::variable)]
    pub(crate) settings: Vec<(String, String)>,
}

/// `ms events produce`.
#[derive(Debug, Args)]
pub(crate) struct Produce {
    /// The topic
    #[arg(value_name = "TOPIC")]
    pub(crate) topic: String,
    /// Key of every message
    #[arg(short, long, value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// Header of every message; may be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE", value_parser = super::variable)]
    pub(crate) headers: Vec<(String, String)>,
    /// Into this partition [default: by key, or any one]
    #[arg(short = 'P', long, value_name = "NUMBER")]
    pub(crate) partition: Option<u32>,
}

/// `ms events consume`.
#[derive(Debug, Args)]
pub(crate) struct Consume {
    /// The topic
    #[arg(value_name = "TOPIC")]
    pub(crate) topic: String,
    // Same id as the shared flag, so that it takes that one's place and leaves `-f` to `--follow`.
    /// Compose file; may be given several times, later ones change earlier ones
    #[arg(id = "file", long, value_name = "FILE", value_delimiter = ':')]
    pub(crate) _file: Vec<PathBuf>,
    /// From `beginning`, `end`, an offset, a time, or so long ago, as in 15m [default: the newest 10
    /// messages]
    #[arg(long, value_name = "PLACE")]
    pub(crate) from: Option<String>,
    /// Of this partition only
    #[arg(short = 'P', long, value_name = "NUMBER")]
    pub(crate) partition: Option<u32>,
    /// This many messages, then end
    #[arg(short = 'n', long = "count", value_name = "COUNT")]
    pub(crate) count: Option<usize>,
    /// Go on with what comes from now on
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only the values, one a line
    #[arg(long, conflicts_with = "json")]
    pub(crate) values: bool,
}

/// `ms events reset`.
#[derive(Debug, Args)]
pub(crate) struct Reset {
    /// The group
    #[arg(value_name = "GROUP")]
    pub(crate) group: String,
    /// In this topic
    #[arg(long, value_name = "TOPIC")]
    pub(crate) topic: String,
    /// To `beginning`, `end`, an offset, a time, or so long ago, as in 15m
    #[arg(long, value_name = "PLACE")]
    pub(crate) to: String,
    /// In this partition only
    #[arg(short = 'P', long, value_name = "NUMBER")]
    pub(crate) partition: Option<u32>,
}
