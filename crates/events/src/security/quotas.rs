//! How fast clients may be: a bucket for each of those that a rule is about.
//!
//! Not here: where rules are kept, and how a client is slowed down. A bucket fills at the rule's rate
//! and holds [`BURST`] of it; who takes more than there is waits until it is made up for.
//!
//! Invariants: over any time a client gets at most the rule's rate and one burst, plus what its
//! last request took beyond; buckets are bounded, and a full one is forgotten without a trace.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use base::SteadyNanos;
use serde::{Deserialize, Serialize};

/// What a bucket holds: so much time of its rate.
pub const BURST: Duration = Duration::from_secs(10);

/// The longest that anybody is told to wait at once; clients give up on longer ones.
pub const WAIT_MAX: Duration = Duration::from_secs(20);

/// Most rules.
pub const RULES_MAX: usize = 10_000;

/// Most buckets; beyond, the fullest are forgotten.
const BUCKETS_MAX: usize = 50_000;

/// What is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Bytes a second that producers send.
    ProducerByteRate,
    /// Bytes a second that consumers fetch.
    ConsumerByteRate,
    /// Time that requests take, as per cent of one core's.
    RequestPercentage,
    /// Partitions created and deleted a second.
    ControllerMutationRate,
    /// Connections a second, by address.
    ConnectionCreationRate,
}

impl Measure {
    /// All.
    pub const ALL: [Measure; 5] = [
        Measure::ProducerByteRate,
        Measure::ConsumerByteRate,
        Measure::RequestPercentage,
        Measure::ControllerMutationRate,
        Measure::ConnectionCreationRate,
    ];

    /// As it is called on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Measure::ProducerByteRate => "producer_byte_rate",
            Measure::ConsumerByteRate => "consumer_byte_rate",
            Measure::RequestPercentage => "request_percentage",
            Measure::ControllerMutationRate => "controller_mutation_rate",
            Measure::ConnectionCreationRate => "connection_creation_rate",
        }
    }

    /// By its name.
    pub fn named(name: &str) -> Option<Measure> {
        Measure::ALL.into_iter().find(|measure| measure.name() == name)
    }
}

/// Whom a part of a rule is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Name {
    /// Everybody that no other rule is about, each by itself.
    Default,
    /// One.
    Is(String),
}

/// Whom a rule is about: a user, a client id, both, or an address.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "said above")]
pub struct Entity {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Name>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<Name>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<Name>,
}

impl Entity {
    /// Whether such a rule can be, about this.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, measure: Measure, value: f64) -> Result<(), String> {
        let by_address = measure == Measure::ConnectionCreationRate;
        match self {
            Entity { user: None, client: None, ip: None } => {
                return Err("A quota needs a user, client-id or ip.".to_owned());
            }
            Entity { ip: Some(_), user: None, client: None } if by_address => {}
            Entity { ip: None, .. } if !by_address => {}
            _ => {
                let name = measure.name();
                return Err(format!("Quota {name} is not about such an entity."));
            }
        }
        if !value.is_finite() || value <= 0.0 {
            return Err(format!("Quota {} must be greater than 0.", measure.name()));
        }
        let is_whole = value.fract() == 0.0;
        let may_have_fraction =
            matches!(measure, Measure::RequestPercentage | Measure::ControllerMutationRate);
        if !is_whole && !may_have_fraction {
            return Err(format!("Quota {} must be a whole number.", measure.name()));
        }
        Ok(())
    }
}

/// What is said of one entity.
pub type Values = BTreeMap<Measure, f64>;

/// Rules and buckets.
#[derive(Debug, Default)]
pub struct Quotas {
    rules: BTreeMap<Entity, Values>,
    buckets: HashMap<BucketKey, Bucket>,
}

/// Who shares a bucket: by what the rule says, the rest is open.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct BucketKey {
    measure: Measure,
    user: Option<String>,
    client: Option<String>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    rate: f64,
    /// Below zero: what was taken beyond.
    level: f64,
    at: SteadyNanos,
}

impl Bucket {
    fn full(rate: f64, at: SteadyNanos) -> Bucket {
        Bucket { rate, level: rate * BURST.as_secs_f64(), at }
    }

    /// As it is at a moment, by a rate that may have changed.
    fn fill(&mut self, rate: f64, now: SteadyNanos) {
        let passed = now.since(self.at).as_secs_f64();
        if (self.rate - rate).abs() > f64::EPSILON {
            // What was used stays used, in time.
            self.level = self.level / self.rate * rate;
            self.rate = rate;
        }
        self.level = (self.level + passed * rate).min(rate * BURST.as_secs_f64());
        self.at = now;
    }

    fn wait(&self) -> Duration {
        if self.level >= 0.0 {
            return Duration::ZERO;
        }
        let wait = (-self.level / self.rate).min(WAIT_MAX.as_secs_f64());
        Duration::from_secs_f64(wait)
    }
}

impl Quotas {
    /// Whether there are no rules, which is the common case and worth asking first.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// How many entities there are rules about.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// All rules.
    pub fn rules(&self) -> &BTreeMap<Entity, Values> {
        &self.rules
    }

    /// Says all that holds of an entity; nothing removes it.
    pub fn set(&mut self, entity: Entity, values: Values) {
        match values.is_empty() {
            true => self.rules.remove(&entity),
            false => self.rules.insert(entity, values),
        };
    }

    /// The rule that holds, the most special one: its rate, and who shares it.
    fn rule(&self, measure: Measure, user: &str, client: &str) -> Option<(f64, BucketKey)> {
        let named = |name: &str| Some(Name::Is(name.to_owned()));
        let users = [(named(user), true), (Some(Name::Default), true), (None, false)];
        let clients = [(named(client), true), (Some(Name::Default), true), (None, false)];
        for (as_user, by_user) in &users {
            for (as_client, by_client) in &clients {
                let (user_part, client_part) = (as_user.clone(), as_client.clone());
                let entity = Entity { user: user_part, client: client_part, ip: None };
                let rate = self.rules.get(&entity).and_then(|values| values.get(&measure));
                if let Some(rate) = rate {
                    let key = BucketKey {
                        measure,
                        user: by_user.then(|| user.to_owned()),
                        client: by_client.then(|| client.to_owned()),
                    };
                    let rate =
                        if measure == Measure::RequestPercentage { rate / 100.0 } else { *rate };
                    return Some((rate, key));
                }
            }
        }
        None
    }

    /// Takes what a client used: bytes, seconds of requests, or partitions. Returns how long it
    /// has to wait before it goes on.
    pub fn take(
        &mut self,
        measure: Measure,
        user: &str,
        client: &str,
        amount: f64,
        now: SteadyNanos,
    ) -> Duration {
        if self.rules.is_empty() {
            return Duration::ZERO;
        }
        let Some((rate, key)) = self.rule(measure, user, client) else { return Duration::ZERO };
        let bucket = self.bucket(key, rate, now);
        bucket.level -= amount;
        bucket.wait()
    }

    /// The same, when nothing is to be done while the client has to wait: takes nothing then.
    ///
    /// # Errors
    /// How long it has to wait.
    pub fn take_if_allowed(
        &mut self,
        measure: Measure,
        user: &str,
        client: &str,
        amount: f64,
        now: SteadyNanos,
    ) -> Result<(), Duration> {
        if self.rules.is_empty() {
            return Ok(());
        }
        let Some((rate, key)) = self.rule(measure, user, client) else { return Ok(()) };
        let bucket = self.bucket(key, rate, now);
        if bucket.level < 0.0 {
            return Err(bucket.wait());
        }
        bucket.level -= amount;
        Ok(())
    }

    /// Counts a connection from an address; how long it has to wait before it is served.
    pub fn connect(&mut self, ip: &str, now: SteadyNanos) -> Duration {
        if self.rules.is_empty() {
            return Duration::ZERO;
        }
        let measure = Measure::ConnectionCreationRate;
        let rate = [Name::Is(ip.to_owned()), Name::Default].into_iter().find_map(|name| {
            let entity = Entity { ip: Some(name), ..Entity::default() };
            self.rules.get(&entity)?.get(&measure).copied()
        });
        let Some(rate) = rate else { return Duration::ZERO };
        let key = BucketKey { measure, user: Some(ip.to_owned()), client: None };
        let bucket = self.bucket(key, rate, now);
        bucket.level -= 1.0;
        bucket.wait()
    }

    fn bucket(&mut self, key: BucketKey, rate: f64, now: SteadyNanos) -> &mut Bucket {
        if self.buckets.len() >= BUCKETS_MAX && !self.buckets.contains_key(&key) {
            self.forget(now);
        }
        let bucket = self.buckets.entry(key).or_insert_with(|| Bucket::full(rate, now));
        bucket.fill(rate, now);
        bucket
    }

    /// Forgets the fuller half of the buckets, the full ones without a trace.
    fn forget(&mut self, now: SteadyNanos) {
        let mut fill: Vec<f64> = Vec::with_capacity(self.buckets.len());
        for bucket in self.buckets.values_mut() {
            bucket.fill(bucket.rate, now);
            fill.push(bucket.level / bucket.rate);
        }
        let middle = fill.len() / 2;
        let (_, middle, _) = fill.select_nth_unstable_by(middle, f64::total_cmp);
        let middle = *middle;
        self.buckets.retain(|_, bucket| bucket.level / bucket.rate < middle);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> SteadyNanos {
        SteadyNanos(ms * 1_000_000)
    }

    fn is(name: &str) -> Option<Name> {
        Some(Name::Is(name.to_owned()))
    }

    fn quotas(rules: &[(Option<Name>, Option<Name>, f64)]) -> Quotas {
        let mut quotas = Quotas::default();
        for (user, client, rate) in rules {
            let entity = Entity { user: user.clone(), client: client.clone(), ip: None };
            quotas.set(entity, Values::from([(Measure::ProducerByteRate, *rate)]));
        }
        quotas
    }

    #[test]
    fn the_most_special_rule_holds() {
        let default = || Some(Name::Default);
        let quotas = quotas(&[
            (is("alice"), is("app"), 1.0),
            (is("alice"), default(), 2.0),
            (is("alice"), None, 3.0),
            (default(), is("app"), 4.0),
            (default(), default(), 5.0),
            (default(), None, 6.0),
            (None, is("app"), 7.0),
            (None, default(), 8.0),
        ]);
        let rate = |quotas: &Quotas, user: &str, client: &str| {
            quotas.rule(Measure::ProducerByteRate, user, client).unwrap().0
        };
        assert_eq!(rate(&quotas, "alice", "app"), 1.0);
        assert_eq!(rate(&quotas, "alice", "x"), 2.0);
        assert_eq!(rate(&quotas, "bob", "app"), 4.0);
        assert_eq!(rate(&quotas, "bob", "x"), 5.0);
        let mut fewer = quotas;
        let entity = Entity { user: default(), client: default(), ip: None };
        fewer.set(entity, Values::new());
        assert_eq!(rate(&fewer, "bob", "x"), 6.0);
        fewer.set(Entity { user: default(), ..Entity::default() }, Values::new());
        assert_eq!(rate(&fewer, "bob", "x"), 8.0);
        assert!(fewer.rule(Measure::ConsumerByteRate, "bob", "x").is_none());
    }

    #[test]
    fn who_takes_too_much_waits_for_the_rest() {
        let mut quotas = quotas(&[(is("alice"), None, 100.0)]);
        let mut take = |client: &str, bytes: f64, ms: u64| {
            quotas.take(Measure::ProducerByteRate, "alice", client, bytes, at(ms))
        };
        // Ten seconds' worth at once, shared by the user's clients.
        assert_eq!(take("a", 600.0, 0), Duration::ZERO);
        assert_eq!(take("b", 600.0, 0), Duration::from_secs(2));
        assert_eq!(take("a", 0.0, 1_000), Duration::from_secs(1));
        assert_eq!(take("a", 0.0, 2_000), Duration::ZERO);
        assert_eq!(take("a", 1e9, 2_000), WAIT_MAX);
        assert_eq!(quotas.take(Measure::ProducerByteRate, "bob", "a", 1e9, at(0)), Duration::ZERO);
    }

    #[test]
    fn connections_count_by_address() {
        let mut quotas = Quotas::default();
        let entity = Entity { ip: Some(Name::Default), ..Entity::default() };
        quotas.set(entity, Values::from([(Measure::ConnectionCreationRate, 1.0)]));
        for _ in 0..10 {
            assert_eq!(quotas.connect("10.0.0.1", at(0)), Duration::ZERO);
        }
        assert_eq!(quotas.connect("10.0.0.1", at(0)), Duration::from_secs(1));
        assert_eq!(quotas.connect("10.0.0.2", at(0)), Duration::ZERO);
    }

    #[test]
    fn buckets_are_bounded() {
        let mut quotas = quotas(&[(Some(Name::Default), None, 1.0)]);
        for user in 0..BUCKETS_MAX + 10 {
            quotas.take(Measure::ProducerByteRate, &user.to_string(), "", 1.0, at(0));
        }
        assert!(quotas.buckets.len() <= BUCKETS_MAX);
    }

    proptest! {
        /// Over any time, no more than the rate, one burst, and what the last request took.
        #[test]
        fn nobody_gets_more(
            rate in 1.0f64..1e6,
            requests in prop::collection::vec((0.0f64..1e7, 0u64..5_000), 1..40),
        ) {
            let mut quotas = quotas(&[(is("alice"), None, rate)]);
            let (mut now, mut taken) = (0, 0.0);
            for (bytes, pause) in requests {
                let before: f64 = taken;
                let allowed = rate * (BURST.as_secs_f64() + now as f64 / 1000.0);
                prop_assert!(before <= allowed * 1.000_001 + 1.0, "{before} of {allowed}");
                taken += bytes;
                let mut wait =
                    quotas.take(Measure::ProducerByteRate, "alice", "", bytes, at(now));
                // Waits as it is told, as often as it takes.
                while !wait.is_zero() {
                    now += u64::try_from(wait.as_millis()).unwrap() + 1;
                    wait = quotas.take(Measure::ProducerByteRate, "alice", "", 0.0, at(now));
                }
                now += pause;
            }
        }
    }
}
