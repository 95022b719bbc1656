//! The text of an instance's `/etc/hosts`.

use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use crate::spec::Resolver;

/// Names that every instance resolves, then its own, then `entries`.
pub(crate) fn text(
    hostname: Option<&str>,
    own: Option<Ipv4Addr>,
    entries: &[(IpAddr, Vec<String>)],
) -> String {
    let mut text = String::from("127.0.0.1 localhost\n::1 localhost ip6-localhost\n");
    let mut line = |address: IpAddr, names: &[&str]| {
        if !names.is_empty() {
            text.push_str(&format!("{address} {}\n", names.join(" ")));
        }
    };
    if let Some(hostname) = hostname.filter(|name| is_fit(name)) {
        line(own.unwrap_or(Ipv4Addr::LOCALHOST).into(), &[hostname]);
    }
    for (address, names) in entries {
        let clean: Vec<_> = names.iter().map(String::as_str).filter(|name| is_fit(name)).collect();
        line(*address, &clean);
    }
    text
}

/// The text of an instance's `/etc/resolv.conf`: what it asks for, and else the machine's.
pub(crate) fn resolver(asked: &Resolver, machine: &str) -> String {
    let of_machine = |keys: &[&str]| {
        let lines = machine.lines().map(str::trim);
        let wanted = lines.filter(|line| {
            line.split_ascii_whitespace().next().is_some_and(|key| keys.contains(&key))
        });
        wanted.map(|line| format!("{line}\n")).collect::<String>()
    };
    let line = |key: &str, words: &[String]| {
        let fit: Vec<_> = words.iter().map(String::as_str).filter(|word| is_fit(word)).collect();
        format!("{key} {}\n", fit.join(" "))
    };
    let mut text = String::new();
    if let Some(first) = asked.first {
        text.push_str(&format!("nameserver {first}\n"));
    }
    text.push_str(&match asked.servers.is_empty() {
        true => of_machine(&["nameserver"]),
        false => asked.servers.iter().map(|server| format!("nameserver {server}\n")).collect(),
    });
    text.push_str(&match asked.search.as_slice() {
        [] => of_machine(&["search", "domain"]),
        // A dot alone is how Compose says none.
        [none] if none == "." => String::new(),
        search => line("search", search),
    });
    text.push_str(&match asked.options.as_slice() {
        [] => of_machine(&["options"]),
        options => line("options", options),
    });
    text
}

/// Where systemd-resolved answers, whatever the machine's configuration says.
const RESOLVED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 53);

/// The machine's resolvers at addresses of loopback, which instances may ask there.
pub(crate) fn local_resolvers(machine: &str) -> Vec<Ipv4Addr> {
    let lines = machine.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let named = lines.filter_map(|rest| rest.trim().parse().ok()).filter(Ipv4Addr::is_loopback);
    named.filter(|resolver| *resolver != RESOLVED).chain([RESOLVED]).collect()
}

fn is_fit(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#')
}

/// Writes in place: a bind mount shows the inode, and a rename would give the name another.
pub(crate) fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let open = fs::OpenOptions::new().write(true).create(true).truncate(false).open(path);
    let mut file = open?;
    file.write_all(text.as_bytes())?;
    file.set_len(text.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_asked_for_is_the_machines() {
        let machine = "# a\nnameserver 10.0.0.1\nsearch lan\noptions ndots:1\n";
        let mut asked = Resolver::default();
        let same = "nameserver 10.0.0.1\nsearch lan\noptions ndots:1\n";
        assert_eq!(resolver(&asked, machine), same);
        asked.first = Some([127, 64, 0, 0].into());
        assert_eq!(resolver(&asked, machine), format!("nameserver 127.64.0.0\n{same}"));
        asked.first = None;
        asked.servers = vec![[9, 9, 9, 9].into()];
        asked.search = vec![".".to_owned()];
        asked.options = vec!["ndots:5".to_owned(), "bad one".to_owned()];
        assert_eq!(resolver(&asked, machine), "nameserver 9.9.9.9\noptions ndots:5\n");
    }

    #[test]
    fn resolvers_on_loopback_stay_the_machines() {
        let machine = "nameserver 10.0.0.1\n nameserver\t127.0.1.1\nnameserver ::1\n# 127.0.0.2\n";
        assert_eq!(local_resolvers(machine), [[127, 0, 1, 1].into(), RESOLVED]);
        assert_eq!(local_resolvers("nameserver 127.0.0.53"), [RESOLVED]);
    }

    #[test]
    fn names_that_would_break_the_file_are_left_out() {
        let entries =
            [([127, 64, 0, 5].into(), vec!["web".to_owned(), "a b".to_owned(), "x#".to_owned()])];
        let text = text(Some("web-1"), Some([127, 65, 0, 1].into()), &entries);
        assert!(text.ends_with("127.65.0.1 web-1\n127.64.0.5 web\n"), "{text}");
        let own = super::text(Some("web\n127.64.0.5 db"), None, &[]);
        assert_eq!(own.lines().count(), 2, "{own}");
    }
}
