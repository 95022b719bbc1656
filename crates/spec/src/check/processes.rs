//! One service, one process: what starts several in one instance hides their ends from everybody.

use crate::Finding;
use crate::dockerfile::{self, ImageRecipe};
use crate::model::Service;
use crate::report::Report;

/// Programs that run others.
const SUPERVISORS: [&str; 12] = [
    "supervisord",
    "s6-svscan",
    "s6-overlay",
    "runsvdir",
    "runit",
    "systemd",
    "systemctl",
    "openrc",
    "foreman",
    "honcho",
    "circusd",
    "pm2-runtime",
];

pub(super) fn check(service: &Service, recipe: Option<&ImageRecipe>, report: &mut Report) {
    let words = dockerfile::run_command(service, recipe);
    let Some(how) = several(&words) else { return };
    let what = format!("service `{}` runs several programs in one instance: {how}", service.name);
    let finding = Finding::warning("several-processes", what).at(&service.place);
    let cause = "when one of them ends nobody notices, and they are updated and limited together";
    report.push(finding.cause(cause).next("make each of them a service of its own"));
}

/// How a command runs several programs.
fn several(words: &[String]) -> Option<String> {
    let program = |word: &str| word.rsplit('/').next().unwrap_or_default().to_owned();
    let first = program(words.first()?);
    if SUPERVISORS.contains(&first.as_str()) {
        return Some(format!("`{first}` starts them"));
    }
    let shell = matches!(first.as_str(), "sh" | "bash" | "ash" | "dash" | "zsh" | "ksh");
    let line = match words {
        [_, flags, line, ..] if shell && flags.starts_with('-') && flags.ends_with('c') => line,
        _ => return None,
    };
    let bare = unquoted(line);
    let commands: Vec<&str> = bare.split([';', '&', '|', '\n']).map(str::trim).collect();
    for command in commands.iter().filter(|c| !c.is_empty()) {
        let mut parts = command.split_whitespace().filter(|w| !w.contains('=') && *w != "exec");
        let name = parts.next().map(program).unwrap_or_default();
        if SUPERVISORS.contains(&name.as_str()) {
            return Some(format!("`{name}` starts them"));
        }
        let rest: Vec<&str> = parts.collect();
        if name == "service" && rest.contains(&"start") {
            return Some(format!("`{command}`"));
        }
        let others = commands.iter().filter(|c| !c.is_empty()).count() > 1;
        if others && matches!(name.as_str(), "cron" | "crond") {
            return Some(format!("`{name}` beside another"));
        }
    }
    in_background(&bare).then(|| "`&` puts one in the background".to_owned())
}

/// The line with what stands in quotes taken out.
fn unquoted(line: &str) -> String {
    let mut out = String::new();
    let mut quote = None;
    let mut escaped = false;
    for c in line.chars() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (None | Some('"'), '\\') => escaped = true,
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, c) => out.push(c),
        }
    }
    out
}

/// Whether a single `&` ends a command: not `&&`, and not part of a redirection.
fn in_background(line: &str) -> bool {
    let bytes = line.as_bytes();
    let at = |i: Option<usize>| i.and_then(|i| bytes.get(i)).copied();
    (0..bytes.len()).any(|i| {
        let (before, after) = (at(i.checked_sub(1)), at(Some(i + 1)));
        bytes[i] == b'&'
            && !matches!(before, Some(b'&' | b'>' | b'<'))
            && !matches!(after, Some(b'&' | b'>'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_programs_and_one() {
        let run =
            |words: &[&str]| several(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
        for line in [
            "nginx & python app.py",
            "redis-server & wait",
            "service nginx start && tail -f /dev/null",
            "cron && exec app",
            "A=1 exec supervisord -n",
        ] {
            assert!(run(&["sh", "-c", line]).is_some(), "{line}");
        }
        for line in [
            "a && b",
            "exec app > /dev/null 2>&1",
            "app &> log",
            "printf 'a & b' | app",
            "crond -f",
            "echo \"x & y\"; exec app",
            "exec app --url 'http://h/?a=1&b=2'",
            "app <&3",
            "service-discovery start",
        ] {
            assert_eq!(run(&["/bin/bash", "-lc", line]), None, "{line}");
        }
        assert!(run(&["/usr/bin/supervisord", "-n"]).is_some());
        assert_eq!(run(&["app", "&"]), None, "no shell reads it");
        assert_eq!(run(&[]), None);
    }
}
