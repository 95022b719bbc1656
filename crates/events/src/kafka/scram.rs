//! Users, shown and changed.
//!
//! Not here: logging in (`sasl`).

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use kafka_wire::{
    RequestHeader, alter_user_scram_credentials as alteration,
    describe_user_scram_credentials as description,
};

use super::errors::{self, code};
use super::{Front, Session};
use crate::security::acls::Operation;
use crate::security::credentials::{NAME_BYTES_MAX, USERS_MAX};
use crate::security::scram::{Credential, ITERATIONS_MAX, ITERATIONS_MIN, Mechanism};

const fn number(mechanism: Mechanism) -> i8 {
    match mechanism {
        Mechanism::Sha256 => 1,
        Mechanism::Sha512 => 2,
    }
}

fn numbered(said: i8) -> Option<Mechanism> {
    Mechanism::ALL.into_iter().find(|mechanism| number(*mechanism) == said)
}

pub(crate) async fn describe(
    front: &Arc<Front>,
    _: &Arc<Session>,
    _: &RequestHeader,
    request: description::Request,
) -> description::Response {
    use description::{CredentialInfo, DescribeUserScramCredentialsResult, Response};
    let credentials = front.guard.credentials();
    let known = credentials.users();
    let told = |user: &str| {
        let mut result = DescribeUserScramCredentialsResult {
            user: user.into(),
            ..DescribeUserScramCredentialsResult::default()
        };
        match known.get(user) {
            None => {
                result.error_code = code::RESOURCE_NOT_FOUND;
                let why = "Attempt to describe a user credential that does not exist";
                result.error_message = Some(format!("{why}: {user}").into());
            }
            Some(all) => {
                let infos = all.iter().map(|(mechanism, iterations)| CredentialInfo {
                    mechanism: number(*mechanism),
                    iterations: i32::try_from(*iterations).unwrap_or(i32::MAX),
                });
                result.credential_infos = infos.collect();
            }
        }
        result
    };
    let asked = request.users.filter(|users| !users.is_empty());
    let results = match asked {
        None => known.keys().map(|user| told(user)).collect(),
        Some(users) => {
            let mut seen: HashSet<&str> = HashSet::new();
            let mut twice: HashSet<&str> = HashSet::new();
            for user in &users {
                if !seen.insert(&user.name) {
                    twice.insert(&user.name);
                }
            }
            let mut done = HashSet::new();
            let once = users.iter().filter(|user| done.insert(user.name.as_str()));
            once.map(|user| match twice.contains(user.name.as_str()) {
                false => told(&user.name),
                true => DescribeUserScramCredentialsResult {
                    user: user.name.clone(),
                    error_code: code::DUPLICATE_RESOURCE,
                    error_message: Some("Cannot describe SCRAM credentials for the same user twice in a single request".into()),
                    ..DescribeUserScramCredentialsResult::default()
                },
            })
            .collect()
        }
    };
    Response { results, ..Response::default() }
}

type Change = (String, Mechanism, Option<Credential>);
type Refused = (i16, String);

pub(crate) async fn alter(
    front: &Arc<Front>,
    session: &Arc<Session>,
    _: &RequestHeader,
    request: alteration::Request,
) -> alteration::Response {
    use alteration::{AlterUserScramCredentialsResult, Response};
    // A user's changes happen together or not at all.
    let mut users: BTreeMap<String, Result<Vec<Change>, Refused>> = BTreeMap::new();
    let may = front.may_cluster(session, Operation::Alter);
    let mut add = |user: &str, change: Result<(Mechanism, Option<Credential>), Refused>| {
        let entry = users.entry(user.to_owned()).or_insert_with(|| Ok(Vec::new()));
        let Ok(changes) = entry else { return };
        match change {
            _ if !may => {
                let why = "Cluster authorization failed.".to_owned();
                *entry = Err((code::CLUSTER_AUTHORIZATION_FAILED, why));
            }
            Err(refused) => *entry = Err(refused),
            Ok((mechanism, _)) if changes.iter().any(|(_, other, _)| *other == mechanism) => {
                let why = "A user credential cannot be altered twice in the same request";
                *entry = Err((code::DUPLICATE_RESOURCE, why.to_owned()));
            }
            Ok((mechanism, credential)) => changes.push((user.to_owned(), mechanism, credential)),
        }
    };
    {
        let credentials = front.guard.credentials();
        for one in &request.deletions {
            let change = named(one.mechanism).and_then(|mechanism| {
                let is_there = credentials.get(&one.name, mechanism).is_some();
                let why = "Attempt to delete a user credential that does not exist".to_owned();
                is_there.then_some((mechanism, None)).ok_or((code::RESOURCE_NOT_FOUND, why))
            });
            add(&one.name, change);
        }
        let room = USERS_MAX.saturating_sub(credentials.len());
        for one in &request.upsertions {
            let made = made(one).map(|(mechanism, credential)| (mechanism, Some(credential)));
            let full = request.upsertions.len() > room;
            let why = || format!("{USERS_MAX} credentials are the most.");
            let made = if full { Err((code::UNACCEPTABLE_CREDENTIAL, why())) } else { made };
            add(&one.name, made);
        }
    }
    let changes: Vec<Change> = users.values().flatten().flatten().cloned().collect();
    let kept = match changes.is_empty() {
        true => Ok(()),
        false => front.guard.set_credentials(changes).await,
    };
    let results = users.into_iter().map(|(user, done)| {
        let stored = || kept.clone().map_err(|error| (errors::of_store(&error), error.to_string()));
        let done = done.and_then(|_| stored());
        let (error_code, why) = done.err().map_or((0, None), |(error, why)| (error, Some(why)));
        let error_message = why.map(Into::into);
        AlterUserScramCredentialsResult { user: user.into(), error_code, error_message }
    });
    Response { results: results.collect(), ..Response::default() }
}

fn named(mechanism: i8) -> Result<Mechanism, Refused> {
    let why = || format!("Unknown SCRAM mechanism {mechanism}");
    numbered(mechanism).ok_or_else(|| (code::UNSUPPORTED_SASL_MECHANISM, why()))
}

fn made(said: &alteration::ScramCredentialUpsertion) -> Result<(Mechanism, Credential), Refused> {
    let refused = |why: &str| Err((code::UNACCEPTABLE_CREDENTIAL, why.to_owned()));
    let mechanism = named(said.mechanism)?;
    let iterations = u32::try_from(said.iterations).unwrap_or(0);
    if said.name.is_empty() || said.name.len() > NAME_BYTES_MAX {
        return refused("Username must not be empty, nor longer than 512 bytes");
    }
    if iterations < ITERATIONS_MIN {
        return refused("Too few iterations");
    }
    if iterations > ITERATIONS_MAX {
        return refused("Too many iterations");
    }
    if said.salted_password.len() != mechanism.hash_bytes() {
        return refused("The salted password has not the length of the mechanism's hash");
    }
    if said.salt.is_empty() || said.salt.len() > 256 {
        return refused("The salt has 1 to 256 bytes");
    }
    let salt = said.salt.to_vec();
    let credential = Credential::of_salted(mechanism, &said.salted_password, salt, iterations);
    Ok((mechanism, credential))
}
