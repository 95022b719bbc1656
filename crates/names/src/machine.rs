//! How this machine looks up names, as its `resolv.conf` says now.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// Most servers of a `resolv.conf` that are asked, as elsewhere.
const SERVERS_MAX: usize = 3;

/// The machine's resolvers. The file is read again whenever it is another: whoever moves between
/// networks replaces it.
pub(crate) struct Machine {
    file: PathBuf,
    /// What the file was when it was read.
    seen: Option<(u64, u64, i64, i64)>,
    pub(crate) servers: Vec<SocketAddr>,
    pub(crate) search: Vec<String>,
}

impl Machine {
    pub(crate) fn new(file: PathBuf) -> Machine {
        Machine { file, seen: None, servers: Vec::new(), search: Vec::new() }
    }

    pub(crate) fn look_again(&mut self) {
        let metadata = std::fs::metadata(&self.file).ok();
        let now = metadata.map(|m| (m.ino(), m.size(), m.mtime(), m.mtime_nsec()));
        if now.is_some() && now == self.seen {
            return;
        }
        self.seen = now;
        (self.servers, self.search) =
            read(&std::fs::read_to_string(&self.file).unwrap_or_default());
    }
}

fn read(text: &str) -> (Vec<SocketAddr>, Vec<String>) {
    let (mut servers, mut search) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("nameserver") if servers.len() < SERVERS_MAX => {
                let address = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                servers.extend(address.map(|ip| SocketAddr::new(ip, crate::PORT)));
            }
            // The last of them counts.
            Some("search" | "domain") => {
                let plain = |word: &str| word.trim_end_matches('.').to_ascii_lowercase();
                search = words.map(plain).filter(|word| !word.is_empty()).collect();
            }
            _ => {}
        }
    }
    (servers, search)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_replaced_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");
        let mut machine = Machine::new(path.clone());
        machine.look_again();
        assert!(machine.servers.is_empty(), "there is none yet");
        std::fs::write(&path, "search a.lan B.lan.\nnameserver 10.0.0.1\nnameserver x\n").unwrap();
        machine.look_again();
        assert_eq!(machine.servers, ["10.0.0.1:53".parse().unwrap()]);
        assert_eq!(machine.search, ["a.lan", "b.lan"]);
        std::fs::write(folder.path().join("new"), "nameserver fd00::1\n").unwrap();
        std::fs::rename(folder.path().join("new"), &path).unwrap();
        machine.look_again();
        assert_eq!(machine.servers, ["[fd00::1]:53".parse().unwrap()]);
        assert!(machine.search.is_empty());
    }
}
