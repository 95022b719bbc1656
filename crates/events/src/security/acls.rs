//! Access rules: who may do what to what.
//!
//! Not here: where they are kept. Invariants: whoever is refused by one rule is refused, whatever
//! others allow; super users are asked nothing; what nobody ever ruled about is as
//! [`Acls::allow_if_none`] says.
//!
//! Kinds and operations have the numbers of the Kafka protocol, which are what is stored.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// What rules are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(i8)]
#[allow(missing_docs, reason = "the protocol's own names")]
pub enum Resource {
    Topic = 2,
    Group = 3,
    Cluster = 4,
    TransactionalId = 5,
    DelegationToken = 6,
    User = 7,
}

/// What is done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(i8)]
#[allow(missing_docs, reason = "the protocol's own names")]
pub enum Operation {
    All = 2,
    Read = 3,
    Write = 4,
    Create = 5,
    Delete = 6,
    Alter = 7,
    Describe = 8,
    ClusterAction = 9,
    DescribeConfigs = 10,
    AlterConfigs = 11,
    IdempotentWrite = 12,
    CreateTokens = 13,
    DescribeTokens = 14,
    TwoPhaseCommit = 15,
}

/// The name of the one cluster in rules.
pub const CLUSTER: &str = "kafka-cluster";

/// Most rules.
pub const ACLS_MAX: usize = 50_000;

/// Longest name, principal or host in a rule.
pub const TEXT_BYTES_MAX: usize = 1024;

const RESOURCES: [Resource; 6] = [
    Resource::Topic,
    Resource::Group,
    Resource::Cluster,
    Resource::TransactionalId,
    Resource::DelegationToken,
    Resource::User,
];

const OPERATIONS: [Operation; 14] = [
    Operation::All,
    Operation::Read,
    Operation::Write,
    Operation::Create,
    Operation::Delete,
    Operation::Alter,
    Operation::Describe,
    Operation::ClusterAction,
    Operation::DescribeConfigs,
    Operation::AlterConfigs,
    Operation::IdempotentWrite,
    Operation::CreateTokens,
    Operation::DescribeTokens,
    Operation::TwoPhaseCommit,
];

impl Resource {
    /// By its number.
    pub fn numbered(number: i8) -> Option<Resource> {
        RESOURCES.into_iter().find(|one| *one as i8 == number)
    }

    /// What can be done to it, besides everything.
    pub fn operations(self) -> &'static [Operation] {
        use Operation as O;
        match self {
            Resource::Topic => &[
                O::Read,
                O::Write,
                O::Create,
                O::Delete,
                O::Alter,
                O::Describe,
                O::DescribeConfigs,
                O::AlterConfigs,
            ],
            Resource::Group => {
                &[O::Read, O::Delete, O::Describe, O::DescribeConfigs, O::AlterConfigs]
            }
            Resource::Cluster => &[
                O::Create,
                O::Alter,
                O::Describe,
                O::ClusterAction,
                O::DescribeConfigs,
                O::AlterConfigs,
                O::IdempotentWrite,
            ],
            Resource::TransactionalId => &[O::Write, O::Describe, O::TwoPhaseCommit],
            Resource::DelegationToken => &[O::Describe],
            Resource::User => &[O::CreateTokens, O::DescribeTokens],
        }
    }
}

impl Operation {
    /// By its number.
    pub fn numbered(number: i8) -> Option<Operation> {
        OPERATIONS.into_iter().find(|one| *one as i8 == number)
    }

    /// Whether leave to do `self` is leave to do `other`.
    fn implies(self, other: Operation) -> bool {
        use Operation as O;
        match (self, other) {
            (O::All, _) => true,
            (O::Read | O::Write | O::Delete | O::Alter, O::Describe)
            | (O::AlterConfigs, O::DescribeConfigs) => true,
            (one, other) => one == other,
        }
    }
}

/// How a rule names what it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(i8)]
pub enum Pattern {
    /// By its name, or all by `*`.
    Literal = 3,
    /// By how names begin.
    Prefixed = 4,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Acl {
    /// What it is about.
    pub resource: Resource,
    /// Which of them.
    pub name: String,
    /// How `name` says that.
    pub pattern: Pattern,
    /// Whom, as `User:alice`, or everybody as `User:*`.
    pub principal: String,
    /// From where: an address, or `*`.
    pub host: String,
    /// What is done.
    pub operation: Operation,
    /// Whether it may be.
    pub allow: bool,
}

impl Acl {
    /// Whether it is about something.
    fn is_about(&self, resource: Resource, name: &str) -> bool {
        self.resource == resource
            && match self.pattern {
                Pattern::Literal => self.name == "*" || self.name == name,
                Pattern::Prefixed => name.starts_with(&self.name),
            }
    }

    fn is_for(&self, who: &Who<'_>) -> bool {
        (self.principal == "User:*" || self.principal == who.principal)
            && (self.host == "*" || self.host == who.host)
    }

    /// What is wrong with it, if anything is.
    ///
    /// # Errors
    /// In words.
    pub fn check(&self) -> Result<(), String> {
        let fits = |text: &str| !text.is_empty() && text.len() <= TEXT_BYTES_MAX;
        if !fits(&self.name) || !fits(&self.principal) || !fits(&self.host) {
            return Err(format!("Name, principal and host have 1 to {TEXT_BYTES_MAX} bytes."));
        }
        if self
            .principal
            .split_once(':')
            .is_none_or(|(kind, name)| kind.is_empty() || name.is_empty())
        {
            return Err(format!("Could not parse principal from `{}`", self.principal));
        }
        if self.resource == Resource::Cluster && self.name != CLUSTER && self.name != "*" {
            return Err(format!("The name of the CLUSTER resource must be {CLUSTER}."));
        }
        let all = self.operation == Operation::All;
        if !all && !self.resource.operations().contains(&self.operation) {
            return Err(format!(
                "{:?} is nothing that is done to {:?}.",
                self.operation, self.resource
            ));
        }
        Ok(())
    }
}

/// Which rules are meant; `None` leaves a part open.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "the parts of a rule")]
pub struct Filter {
    pub resource: Option<Resource>,
    pub name: Option<String>,
    pub pattern: PatternFilter,
    pub principal: Option<String>,
    pub host: Option<String>,
    pub operation: Option<Operation>,
    pub allow: Option<bool>,
}

/// How a filter takes the name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PatternFilter {
    /// As it stands in rules, whatever their pattern.
    #[default]
    Any,
    /// What rules of any pattern are about something of that name.
    Match,
    /// As it stands in rules of this pattern.
    Is(Pattern),
}

impl Filter {
    fn fits(&self, acl: &Acl) -> bool {
        let open =
            |part: &Option<String>, value: &str| part.as_ref().is_none_or(|part| part == value);
        let named = match (&self.name, self.pattern) {
            (None, PatternFilter::Is(pattern)) => acl.pattern == pattern,
            (None, _) => true,
            (Some(name), PatternFilter::Any) => acl.name == *name,
            (Some(name), PatternFilter::Is(pattern)) => acl.name == *name && acl.pattern == pattern,
            (Some(name), PatternFilter::Match) => acl.is_about(acl.resource, name),
        };
        named
            && self.resource.is_none_or(|resource| resource == acl.resource)
            && open(&self.principal, &acl.principal)
            && open(&self.host, &acl.host)
            && self.operation.is_none_or(|operation| operation == acl.operation)
            && self.allow.is_none_or(|allow| allow == acl.allow)
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    /// As `User:alice`.
    pub principal: &'a str,
    /// The address it comes from.
    pub host: &'a str,
}

/// All rules.
#[derive(Clone, Debug)]
pub struct Acls {
    rules: BTreeSet<Acl>,
    /// Principals that may do anything.
    pub super_users: BTreeSet<String>,
    /// What holds where no rule is about something.
    pub allow_if_none: bool,
}

impl Default for Acls {
    fn default() -> Acls {
        Acls { rules: BTreeSet::new(), super_users: BTreeSet::new(), allow_if_none: true }
    }
}

impl Acls {
    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Adds one; false when it was there.
    pub fn insert(&mut self, acl: Acl) -> bool {
        self.rules.insert(acl)
    }

    /// Removes one; false when it was not there.
    pub fn remove(&mut self, acl: &Acl) -> bool {
        self.rules.remove(acl)
    }

    /// Those that a filter means.
    pub fn find<'a>(&'a self, filter: &'a Filter) -> impl Iterator<Item = &'a Acl> {
        self.rules.iter().filter(|acl| filter.fits(acl))
    }

    /// Whether somebody may do something.
    pub fn allow(
        &self,
        who: Who<'_>,
        operation: Operation,
        resource: Resource,
        name: &str,
    ) -> bool {
        if self.rules.is_empty() && self.allow_if_none || self.is_super(&who) {
            return true;
        }
        let (mut any, mut allowed) = (false, false);
        for acl in self.about(resource, name) {
            any = true;
            if !acl.is_for(&who) {
                continue;
            }
            match acl.allow {
                true => allowed |= acl.operation.implies(operation),
                false if matches!(acl.operation, Operation::All) => return false,
                false if acl.operation == operation => return false,
                false => {}
            }
        }
        if any { allowed } else { self.allow_if_none }
    }

    /// Whether somebody may do something to at least one resource of a kind, be there one or not.
    pub fn allow_any(&self, who: Who<'_>, operation: Operation, resource: Resource) -> bool {
        if self.rules.is_empty() && self.allow_if_none || self.is_super(&who) {
            return true;
        }
        let mine = || self.rules.iter().filter(|acl| acl.resource == resource && acl.is_for(&who));
        let denies = || {
            mine().filter(|acl| {
                !acl.allow && (acl.operation == Operation::All || acl.operation == operation)
            })
        };
        if denies().any(|deny| deny.pattern == Pattern::Literal && deny.name == "*") {
            return false;
        }
        if self.allow_if_none {
            // Something that no rule is about: there is always such a name.
            return true;
        }
        mine().filter(|acl| acl.allow && acl.operation.implies(operation)).any(|allow| {
            let is_all = allow.pattern == Pattern::Literal && allow.name == "*";
            is_all
                || !denies().any(|deny| match (deny.pattern, allow.pattern) {
                    (Pattern::Prefixed, _) => allow.name.starts_with(&deny.name),
                    (Pattern::Literal, Pattern::Literal) => allow.name == deny.name,
                    (Pattern::Literal, Pattern::Prefixed) => false,
                })
        })
    }

    fn is_super(&self, who: &Who<'_>) -> bool {
        self.super_users.contains(who.principal)
    }

    /// Rules about something: by name, by every beginning of it, and about all.
    fn about<'a>(&'a self, resource: Resource, name: &'a str) -> impl Iterator<Item = &'a Acl> {
        let named = move |text: &'a str| {
            let from = Acl {
                resource,
                name: text.to_owned(),
                pattern: Pattern::Literal,
                principal: String::new(),
                host: String::new(),
                operation: Operation::All,
                allow: false,
            };
            let same = move |acl: &&Acl| acl.resource == resource && acl.name == text;
            self.rules.range(from..).take_while(same)
        };
        let beginnings = name.char_indices().map(|(at, _)| &name[..at]).skip(1);
        let all = (name != "*").then_some("*");
        let texts = beginnings.chain([name]).chain(all);
        texts.flat_map(named).filter(move |acl| acl.is_about(resource, name))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn acl(name: &str, pattern: Pattern, operation: Operation, allow: bool) -> Acl {
        Acl {
            resource: Resource::Topic,
            name: name.to_owned(),
            pattern,
            principal: "User:alice".to_owned(),
            host: "*".to_owned(),
            operation,
            allow,
        }
    }

    const ALICE: Who<'_> = Who { principal: "User:alice", host: "10.0.0.1" };

    #[test]
    fn a_refusal_wins_and_leave_implies_looking() {
        let mut all = Acls { allow_if_none: false, ..Acls::default() };
        assert!(!all.allow(ALICE, Operation::Describe, Resource::Topic, "games"));
        all.insert(acl("ga", Pattern::Prefixed, Operation::Read, true));
        assert!(all.allow(ALICE, Operation::Describe, Resource::Topic, "games"));
        assert!(!all.allow(ALICE, Operation::Write, Resource::Topic, "games"));
        assert!(!all.allow(ALICE, Operation::Read, Resource::Topic, "g"));
        all.insert(acl("games", Pattern::Literal, Operation::Describe, false));
        assert!(!all.allow(ALICE, Operation::Describe, Resource::Topic, "games"));
        assert!(all.allow(ALICE, Operation::Read, Resource::Topic, "games"));
        let bob = Who { principal: "User:bob", ..ALICE };
        assert!(!all.allow(bob, Operation::Read, Resource::Topic, "games"));
        all.super_users.insert("User:bob".to_owned());
        assert!(all.allow(bob, Operation::Read, Resource::Topic, "games"));
    }

    #[test]
    fn names_are_checked() {
        let mut one = acl("games", Pattern::Literal, Operation::Read, true);
        assert_eq!(one.check(), Ok(()));
        one.operation = Operation::IdempotentWrite;
        assert!(one.check().is_err());
        one.principal = "alice".to_owned();
        assert!(one.check().unwrap_err().contains("principal"));
        one.name = String::new();
        assert!(one.check().is_err());
    }

    fn any_acl() -> impl Strategy<Value = Acl> {
        let name =
            prop_oneof![Just("*"), Just("a"), Just("ab"), Just("abc"), Just("é"), Just("éa")];
        let pattern = prop_oneof![Just(Pattern::Literal), Just(Pattern::Prefixed)];
        let who = prop_oneof![Just("User:*"), Just("User:alice"), Just("User:bob")];
        let host = prop_oneof![Just("*"), Just("10.0.0.1"), Just("10.0.0.2")];
        let operation = prop_oneof![
            Just(Operation::All),
            Just(Operation::Read),
            Just(Operation::Write),
            Just(Operation::Describe),
            Just(Operation::AlterConfigs)
        ];
        let parts = (name, pattern, who, host, operation, any::<bool>());
        parts.prop_map(|(name, pattern, principal, host, operation, allow)| Acl {
            resource: Resource::Topic,
            name: name.to_owned(),
            pattern,
            principal: principal.to_owned(),
            host: host.to_owned(),
            operation,
            allow,
        })
    }

    proptest! {
        /// The same by looking at every rule.
        #[test]
        fn decisions_are_those_of_the_plain_rule(
            rules in prop::collection::vec(any_acl(), 0..8),
            name in prop_oneof![Just("a"), Just("ab"), Just("abcd"), Just("é"), Just("*"), Just("x")],
            operation in prop_oneof![
                Just(Operation::Read), Just(Operation::Describe), Just(Operation::DescribeConfigs)
            ],
            allow_if_none in any::<bool>(),
        ) {
            let mut all = Acls { allow_if_none, ..Acls::default() };
            for rule in &rules {
                all.insert(rule.clone());
            }
            let about: Vec<&Acl> =
                rules.iter().filter(|acl| acl.is_about(Resource::Topic, name)).collect();
            let mine = || about.iter().filter(|acl| acl.is_for(&ALICE));
            let refused = mine().any(|acl| {
                !acl.allow && (acl.operation == Operation::All || acl.operation == operation)
            });
            let allowed = mine().any(|acl| acl.allow && acl.operation.implies(operation));
            let expected =
                if about.is_empty() { allow_if_none } else { !refused && allowed };
            prop_assert_eq!(all.allow(ALICE, operation, Resource::Topic, name), expected);
            // Whatever is allowed of one is allowed of some.
            if all.allow(ALICE, operation, Resource::Topic, name) {
                prop_assert!(all.allow_any(ALICE, operation, Resource::Topic));
            }
        }
    }
}
