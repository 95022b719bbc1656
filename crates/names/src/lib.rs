//! Answers the DNS questions of instances: names that the asking service may find from a table,
//! every other from the machine's resolvers.
//!
//! Not here: which service finds what (the binary says so, as it does for hosts files), and any
//! cache. Instances have their names in `/etc/hosts` too; this is for those that do not look there,
//! such as c-ares in Node and `nslookup`.
//!
//! Entry points: [`bind`], then [`Responder::serve`] with a [`Table`] to follow.
//!
//! Invariants:
//! - Whoever asks is known by its address; who is neither known nor at localhost is refused.
//! - A known name has every type: what it has no address of is an empty answer, never "no such
//!   name", which musl takes for all types.
//! - What is not answered from the table is passed on as it is, byte for byte, both ways.
//! - Questions under way, connections and the time that each may take are bounded.

mod forward;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod machine;
mod message;
mod serve;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

pub use serve::{Responder, bind};

/// The port of DNS.
pub(crate) const PORT: u16 = 53;

/// Who may ask, and what each finds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// By the address that questions come from.
    pub callers: HashMap<IpAddr, Arc<Scope>>,
    /// For those who ask from localhost. Sockets that were bound before they were connected do, and
    /// people at the machine.
    pub localhost: Option<Arc<Scope>>,
}

impl Table {
    fn scope(&self, caller: IpAddr) -> Option<Arc<Scope>> {
        let localhost = || self.localhost.as_ref().filter(|_| caller == Ipv4Addr::LOCALHOST);
        self.callers.get(&caller).or_else(localhost).cloned()
    }
}

/// The names that a caller finds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scope {
    /// In lower case, with their addresses.
    pub names: BTreeMap<String, Vec<IpAddr>>,
    /// Domains that may stand behind such a name, as in a resolver's `search`, beside the machine's.
    pub search: Vec<String>,
    /// Who is asked for other names; the machine's resolvers when empty.
    pub servers: Vec<IpAddr>,
    /// Nobody is asked: a question is a way outside, too.
    pub inside: bool,
}

impl Scope {
    /// The addresses of a name in lower case; `None` when it is not one of these.
    fn find(&self, name: &str, machine: &[String]) -> Option<&[IpAddr]> {
        let known = |name: &str| self.names.get(name).map(Vec::as_slice);
        let short = |domain: &String| name.strip_suffix(domain.as_str())?.strip_suffix('.');
        let search = || self.search.iter().chain(machine).filter_map(short).find_map(known);
        // Where nothing is said, what stands behind the dot of the own host name is tried: an
        // instance's number, and no domain is one.
        let (before, number) = name.rsplit_once('.').unwrap_or_default();
        let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        known(name).or_else(search).or_else(|| known(before).filter(|_| is_number))
    }

    fn servers(&self, machine: &[SocketAddr]) -> Vec<SocketAddr> {
        match self.servers.as_slice() {
            [] => machine.to_vec(),
            own => own.iter().map(|ip| SocketAddr::new(*ip, PORT)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_with_a_search_domain_behind_it_too() {
        let mut scope = Scope::default();
        scope.names.insert("scores".to_owned(), vec![[127, 64, 0, 1].into()]);
        let machine = ["corp.lan".to_owned()];
        let found = |scope: &Scope, name: &str| scope.find(name, &machine).is_some();
        for (name, is_found) in [
            ("scores", true),
            ("scores.corp.lan", true),
            ("corp.lan", false),
            ("xscores", false),
            ("scores.other.lan", false),
            ("scorescorp.lan", false),
            ("scores.12", true),
            ("scores.", false),
            ("scores.1.2", false),
            ("2", false),
        ] {
            assert_eq!(found(&scope, name), is_found, "{name}");
        }
        scope.search = vec!["other.lan".to_owned()];
        assert!(found(&scope, "scores.other.lan") && found(&scope, "scores.corp.lan"));
    }
}
