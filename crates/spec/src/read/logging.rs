//! `logging` and `pull_policy`.

use super::Reader;
use crate::keys::Scope;
use crate::model::{Logging, PullPolicy};
use crate::tree::{Entry, Node};

impl Reader<'_> {
    pub(super) fn logging(&mut self, node: &Node, owner: &str) -> Logging {
        let mut logging = Logging::default();
        let entries = self.entries(Scope::Logging, &format!("`logging` of {owner}"), node);
        let (drivers, options): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|entry| entry.key == "driver");
        for entry in drivers {
            let named = format!("`logging.driver` of {owner}");
            match self.text(&entry.node, &named).as_deref() {
                Some("none") => logging.none = true,
                None | Some("json-file" | "local" | "") => {}
                Some(other) => {
                    self.report.warn(
                        "key-partly",
                        entry.node.at,
                        format!("{named} is `{}`", other.escape_debug()),
                        "output is kept here and shown by `ms logs`; it is not sent elsewhere",
                        "remove it, or leave it for Docker",
                    );
                    // Its options are of another kind, and one warning says it.
                    return logging;
                }
            }
        }
        for option in options.iter().flat_map(|entry| entry.node.entries()) {
            self.logging_option(option, owner, &mut logging);
        }
        logging
    }

    fn logging_option(&mut self, option: &Entry, owner: &str, logging: &mut Logging) {
        let named = format!("`logging.options.{}` of {owner}", option.key);
        match option.key.as_str() {
            "max-size" => {
                let text = self.text(&option.node, &named);
                if text.is_some_and(|t| t.trim() != "-1") {
                    logging.file_bytes_max = self.memory(&option.node, &named);
                }
            }
            "max-file" => {
                let files = self.small(&option.node, &named, 1000);
                logging.files_max = files.filter(|files| *files > 0);
            }
            _ => self.report.warn(
                "key-partly",
                option.at,
                format!("{named} has no effect"),
                "max-size and max-file are the options that are known",
                "remove it, or leave it for Docker",
            ),
        }
    }

    pub(super) fn pull_policy(&mut self, node: &Node, named: &str) -> Option<PullPolicy> {
        let text = self.text(node, named).filter(|t| !t.is_empty())?;
        let day = 24 * 3600;
        let policy = match text.as_str() {
            "always" => Some(PullPolicy::Always),
            "never" => Some(PullPolicy::Never),
            "missing" | "if_not_present" => Some(PullPolicy::Missing),
            "build" => Some(PullPolicy::Build),
            "daily" => Some(PullPolicy::OlderThan { age_secs: day }),
            "weekly" => Some(PullPolicy::OlderThan { age_secs: 7 * day }),
            other => {
                let every = other.strip_prefix("every_").and_then(age_secs);
                every.map(|age_secs| PullPolicy::OlderThan { age_secs })
            }
        };
        if policy.is_none() {
            let next = "write `always`, `never`, `missing`, `build`, `daily`, `weekly` or \
                        `every_12h`";
            self.bad(node.at, named, &text, next);
        }
        policy
    }
}

/// `1w2d3h`: weeks, days, hours, minutes and seconds, in seconds.
fn age_secs(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total = 0u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let count: u64 = rest[..digits].parse().ok()?;
        let unit = match rest.as_bytes()[digits] {
            b'w' => 7 * 24 * 3600,
            b'd' => 24 * 3600,
            b'h' => 3600,
            b'm' => 60,
            b's' => 1,
            _ => return None,
        };
        total = total.checked_add(count.checked_mul(unit)?)?;
        rest = &rest[digits + 1..];
    }
    (total > 0).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        assert_eq!(age_secs("1w2d3h4m5s"), Some(788_645));
        for bad in ["", "1", "h", "1y", "99999999999999999999w", "0s", "1ä"] {
            assert_eq!(age_secs(bad), None, "{bad}");
        }
    }
}
