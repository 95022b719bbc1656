//! The text of an instance's `/etc/hosts`.

use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

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
    fn names_that_would_break_the_file_are_left_out() {
        let entries =
            [([127, 64, 0, 5].into(), vec!["web".to_owned(), "a b".to_owned(), "x#".to_owned()])];
        let text = text(Some("web-1"), Some([127, 65, 0, 1].into()), &entries);
        assert!(text.ends_with("127.65.0.1 web-1\n127.64.0.5 web\n"), "{text}");
        let own = super::text(Some("web\n127.64.0.5 db"), None, &[]);
        assert_eq!(own.lines().count(), 2, "{own}");
    }
}
