//! What is known of users, rules and quotas, durable in the journal and in memory.
//!
//! Not here: how they decide (`security`), and the requests that change them. Invariants: what holds
//! is durable; a record that cannot be read stops the log from opening.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use base::Clock;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Session;
use crate::engine::journal::{Change, Journal, Key, Kind};
use crate::engine::log::{Log, OpenError};
use crate::security::acls::{Acl, Acls, Operation, Resource, Who};
use crate::security::credentials::Credentials;
use crate::security::quotas::{Entity, Measure, Quotas, Values};
use crate::security::scram::{Credential, Mechanism};

/// Logins with a plain password that are reckoned at once: each is milliseconds of work.
const HASHING_MAX: usize = 4;

/// What whoever starts the log says of security.
#[derive(Clone, Debug)]
pub struct Security {
    /// Users that are there as long as the log runs, with their passwords.
    pub users: Vec<(String, String)>,
    /// Who may do anything, as `User:admin`.
    pub super_users: Vec<String>,
    /// Whether what no rule is about is allowed.
    pub allow_if_none: bool,
    /// How long a login holds; none: as long as its connection.
    pub login_max: Option<Duration>,
}

impl Default for Security {
    /// No users of its own, and everything allowed that no rule is about.
    fn default() -> Security {
        let (users, super_users) = (Vec::new(), Vec::new());
        Security { users, super_users, allow_if_none: true, login_max: None }
    }
}

/// Who may do what, and how much of it.
pub struct Guard {
    journal: Arc<Journal>,
    clock: Arc<dyn Clock>,
    secret: [u8; 16],
    login_max: Option<Duration>,
    credentials: RwLock<Credentials>,
    /// Users that are not in the journal.
    fixed: Credentials,
    acls: RwLock<Arc<Acls>>,
    quotas: Mutex<Quotas>,
    hashing: tokio::sync::Semaphore,
    /// One change at a time: it takes a moment until it is durable.
    changing: tokio::sync::Mutex<()>,
}

impl Guard {
    pub(super) fn open(
        log: &Log,
        security: Security,
        random: &(dyn Fn() -> u128 + Send + Sync),
    ) -> Result<Guard, OpenError> {
        let journal = Arc::clone(&log.journal);
        let mut credentials = Credentials::default();
        for (key, value) in journal.list(Kind::Credential, &[]) {
            let credential: Credential = parsed("credential", &value)?;
            let parts = key.parts();
            let mechanism = parts.get(1).and_then(|name| Mechanism::named(name));
            let (Some(user), Some(mechanism)) = (parts.first(), mechanism) else {
                let why = format!("{parts:?} name no user and mechanism");
                return Err(OpenError::Record { what: "credential", why });
            };
            credentials.set(user, mechanism, Some(credential));
        }
        let mut acls = Acls::default();
        acls.allow_if_none = security.allow_if_none;
        acls.super_users.extend(security.super_users);
        for (key, _) in journal.list(Kind::Acl, &[]) {
            let text = key.parts().first().copied().unwrap_or_default().to_owned();
            acls.insert(parsed("access rule", text.as_bytes())?);
        }
        let mut quotas = Quotas::default();
        for (key, value) in journal.list(Kind::Quota, &[]) {
            let text = key.parts().first().copied().unwrap_or_default().to_owned();
            let values: Values = parsed("quota", &value)?;
            quotas.set(parsed::<Entity>("quota", text.as_bytes())?, values);
        }
        let mut fixed = Credentials::default();
        for (user, password) in &security.users {
            fixed.set_password(user, password, random);
        }
        Ok(Guard {
            journal,
            clock: Arc::clone(&log.clock),
            secret: random().to_be_bytes(),
            login_max: security.login_max,
            credentials: RwLock::new(credentials),
            fixed,
            acls: RwLock::new(Arc::new(acls)),
            quotas: Mutex::new(quotas),
            hashing: tokio::sync::Semaphore::new(HASHING_MAX),
            changing: tokio::sync::Mutex::default(),
        })
    }

    /// Whether anybody could log in.
    pub fn has_users(&self) -> bool {
        !self.fixed.is_empty() || !self.credentials().is_empty()
    }

    pub(super) fn credentials(&self) -> RwLockReadGuard<'_, Credentials> {
        self.credentials.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a SCRAM client has to prove; of an unknown user, what nobody can.
    pub(super) fn scram(&self, user: &str, mechanism: Mechanism) -> Credential {
        let credentials = self.credentials();
        let known = self.fixed.get(user, mechanism).or_else(|| credentials.get(user, mechanism));
        known.cloned().unwrap_or_else(|| Credential::of_nobody(mechanism, user, &self.secret))
    }

    /// Whether a plain password is a user's.
    pub(super) async fn is_password(&self, user: &str, password: &str) -> bool {
        let is_fixed = Mechanism::ALL.iter().any(|each| self.fixed.get(user, *each).is_some());
        let (mechanism, credential) = match is_fixed {
            true => self.fixed.plain(user, &self.secret),
            false => self.credentials().plain(user, &self.secret),
        };
        let Ok(_permit) = self.hashing.acquire().await else { return false };
        let password = password.to_owned();
        let fits = move || credential.fits(mechanism, &password);
        tokio::task::spawn_blocking(fits).await.unwrap_or(false)
    }

    /// How long a login holds.
    pub(super) fn login_max(&self) -> Option<Duration> {
        self.login_max
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// Rules as they are now.
    pub(super) fn acls(&self) -> Arc<Acls> {
        Arc::clone(&self.acls.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether everybody may do anything.
    pub(super) fn is_open(&self) -> bool {
        let acls = self.acls();
        acls.is_empty() && acls.allow_if_none
    }

    /// Whether a session may do something.
    pub(super) fn allows(
        &self,
        session: &Session,
        operation: Operation,
        resource: Resource,
        name: &str,
    ) -> bool {
        let acls = self.acls();
        if acls.is_empty() && acls.allow_if_none {
            return true;
        }
        let (principal, host) = (session.login.principal(), session.host());
        acls.allow(Who { principal: &principal, host: &host }, operation, resource, name)
    }

    /// Whether a session may do something to anything of a kind.
    pub(super) fn allows_any(
        &self,
        session: &Session,
        operation: Operation,
        resource: Resource,
    ) -> bool {
        let (acls, principal, host) = (self.acls(), session.login.principal(), session.host());
        acls.allow_any(Who { principal: &principal, host: &host }, operation, resource)
    }

    pub(super) fn quotas<T>(&self, with: impl FnOnce(&mut Quotas) -> T) -> T {
        with(&mut self.quotas.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts what a session used; how long it is to be silent.
    pub(super) fn took(
        &self,
        session: &Session,
        client_id: &str,
        measure: Measure,
        amount: f64,
    ) -> Duration {
        let now = self.clock.steady();
        let wait = self.quotas(|quotas| {
            if quotas.is_empty() {
                return Duration::ZERO;
            }
            let principal = session.login.principal();
            let user = principal.strip_prefix("User:").unwrap_or(&principal);
            quotas.take(measure, user, client_id, amount, now)
        });
        session.mute(now, wait);
        wait
    }

    /// Counts what a session wants to use, if it may now; else it is to be silent.
    pub(super) fn took_if_allowed(
        &self,
        session: &Session,
        client_id: &str,
        measure: Measure,
        amount: f64,
    ) -> bool {
        let now = self.clock.steady();
        let principal = session.login.principal();
        let user = principal.strip_prefix("User:").unwrap_or(&principal);
        let taken =
            self.quotas(|quotas| quotas.take_if_allowed(measure, user, client_id, amount, now));
        match taken {
            Ok(()) => true,
            Err(wait) => {
                session.mute(now, wait);
                false
            }
        }
    }

    /// Counts a connection; how long it has to wait.
    pub(super) fn connected(&self, ip: IpAddr) -> Duration {
        let now = self.clock.steady();
        self.quotas(|quotas| quotas.connect(&ip.to_canonical().to_string(), now))
    }

    /// Sets and removes credentials, all or none.
    pub(super) async fn set_credentials(
        &self,
        changes: Vec<(String, Mechanism, Option<Credential>)>,
    ) -> Result<(), volumes::AppendError> {
        let _one = self.changing.lock().await;
        let key = |user: &str, of: Mechanism| Key::new(Kind::Credential, &[user, of.name()]);
        let kept = changes.iter().map(|(user, mechanism, credential)| {
            (key(user, *mechanism), credential.as_ref().map(written))
        });
        self.keep(kept.collect()).await?;
        let mut credentials = self.credentials.write().unwrap_or_else(PoisonError::into_inner);
        for (user, mechanism, credential) in changes {
            credentials.set(&user, mechanism, credential);
        }
        Ok(())
    }

    /// Adds and removes rules, all or none.
    pub(super) async fn set_acls(
        &self,
        added: Vec<Acl>,
        removed: Vec<Acl>,
    ) -> Result<(), volumes::AppendError> {
        let _one = self.changing.lock().await;
        let key = |acl: &Acl| Key::new(Kind::Acl, &[&String::from_utf8_lossy(&written(acl))]);
        let mut changes: Vec<Change> = removed.iter().map(|acl| (key(acl), None)).collect();
        changes.extend(added.iter().map(|acl| (key(acl), Some(Bytes::new()))));
        self.keep(changes).await?;
        let mut acls = Acls::clone(&self.acls());
        for acl in &removed {
            acls.remove(acl);
        }
        for acl in added {
            acls.insert(acl);
        }
        *self.acls.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(acls);
        Ok(())
    }

    /// Says all that holds of some entities, all or none.
    pub(super) async fn set_quotas(
        &self,
        changes: BTreeMap<Entity, Values>,
    ) -> Result<(), volumes::AppendError> {
        let _one = self.changing.lock().await;
        let kept = changes.iter().map(|(entity, values)| {
            let text = written(entity);
            let key = Key::new(Kind::Quota, &[&String::from_utf8_lossy(&text)]);
            (key, (!values.is_empty()).then(|| written(values)))
        });
        self.keep(kept.collect()).await?;
        self.quotas(|quotas| {
            for (entity, values) in changes {
                quotas.set(entity, values);
            }
        });
        Ok(())
    }

    async fn keep(&self, changes: Vec<Change>) -> Result<(), volumes::AppendError> {
        self.journal.change(changes).await
    }
}

fn parsed<T: DeserializeOwned>(what: &'static str, text: &[u8]) -> Result<T, OpenError> {
    serde_json::from_slice(text).map_err(|error| OpenError::Record { what, why: error.to_string() })
}

fn written(value: &impl Serialize) -> Bytes {
    // These are structures of text and numbers: they always have a form.
    Bytes::from(serde_json::to_vec(value).unwrap_or_default())
}
