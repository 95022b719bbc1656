//! Users, and what is kept of their passwords.
//!
//! Not here: where they are kept. A password is never kept: what SCRAM needs serves PLAIN as well.

use std::collections::BTreeMap;

use super::scram::{Credential, ITERATIONS_MIN, Mechanism};

/// Longest name of a user.
pub const NAME_BYTES_MAX: usize = 512;

/// Most users.
pub const USERS_MAX: usize = 100_000;

/// All users.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    users: BTreeMap<(String, Mechanism), Credential>,
}

impl Credentials {
    /// Whether there is nobody.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Sets or removes one.
    pub fn set(&mut self, user: &str, mechanism: Mechanism, credential: Option<Credential>) {
        let key = (user.to_owned(), mechanism);
        match credential {
            Some(credential) => self.users.insert(key, credential),
            None => self.users.remove(&key),
        };
    }

    /// Sets what SCRAM needs of a password for every mechanism. Takes milliseconds of work.
    pub fn set_password(&mut self, user: &str, password: &str, random: impl Fn() -> u128) {
        for mechanism in Mechanism::ALL {
            let salt = random().to_be_bytes().to_vec();
            let credential = Credential::of_password(mechanism, password, salt, ITERATIONS_MIN);
            self.set(user, mechanism, Some(credential));
        }
    }

    /// One of a user.
    pub fn get(&self, user: &str, mechanism: Mechanism) -> Option<&Credential> {
        self.users.get(&(user.to_owned(), mechanism))
    }

    /// Every user by name, with what there is of each.
    pub fn users(&self) -> BTreeMap<&str, Vec<(Mechanism, u32)>> {
        let mut all: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for ((user, mechanism), credential) in &self.users {
            all.entry(user).or_default().push((*mechanism, credential.iterations));
        }
        all
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// What a plain password has to fit: the first that there is, else one that nothing fits.
    pub fn plain(&self, user: &str, secret: &[u8]) -> (Mechanism, Credential) {
        let found = Mechanism::ALL.into_iter().find_map(|mechanism| {
            let credential = self.get(user, mechanism)?;
            Some((mechanism, credential.clone()))
        });
        found.unwrap_or_else(|| {
            let mechanism = Mechanism::Sha256;
            (mechanism, Credential::of_nobody(mechanism, user, secret))
        })
    }
}

/// User and password of a PLAIN message (RFC 4616); `None` when it is none, or wants to act for
/// somebody else.
pub fn plain_message(message: &[u8]) -> Option<(&str, &str)> {
    let text = std::str::from_utf8(message).ok()?;
    let mut parts = text.split('\0');
    let (acts_for, user, password) = (parts.next()?, parts.next()?, parts.next()?);
    let is_whole = parts.next().is_none() && !user.is_empty() && !password.is_empty();
    let acts_for_itself = acts_for.is_empty() || acts_for == user;
    (is_whole && acts_for_itself && user.len() <= NAME_BYTES_MAX).then_some((user, password))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_serves_every_mechanism() {
        let mut all = Credentials::default();
        all.set_password("alice", "tick", || 5);
        let (mechanism, credential) = all.plain("alice", b"s");
        assert!(credential.fits(mechanism, "tick") && !credential.fits(mechanism, "tock"));
        assert_eq!(all.users()["alice"].len(), 2);
        let (mechanism, nobody) = all.plain("bob", b"s");
        assert!(!nobody.fits(mechanism, "tick"));
        assert!(!format!("{all:?}").contains("tick"));
    }

    #[test]
    fn plain_messages_have_three_parts() {
        assert_eq!(plain_message(b"\0alice\0tick"), Some(("alice", "tick")));
        assert_eq!(plain_message(b"alice\0alice\0tick"), Some(("alice", "tick")));
        assert_eq!(plain_message(b"bob\0alice\0tick"), None);
        assert_eq!(plain_message(b"\0alice\0"), None);
        assert_eq!(plain_message(b"\0alice"), None);
        assert_eq!(plain_message(b"\0a\0b\0c"), None);
        assert_eq!(plain_message(&[0, 0xff, 0, 1]), None);
    }
}
