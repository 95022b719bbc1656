//! What members of share groups get, and what they say of it: ShareFetch and ShareAcknowledge.
//!
//! What a member says of records is done before anything else that it asks for, and is durable
//! before it is answered.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kafka_wire::share_acknowledge::{self as acks, ShareAcknowledgeTopicResponse};
use kafka_wire::share_fetch::{self as fetches, AcquiredRecords, PartitionData};
use kafka_wire::{RequestHeader, Str, Uuid};
use tokio::time::{Instant, timeout_at};

use super::sessions::{BEGIN, END, Owner, Place};
use crate::engine::batch::Batch;
use crate::engine::groups::membership::Sharing;
use crate::engine::groups::rules::Rules;
use crate::engine::groups::share::{Verdict, VerdictError};
use crate::engine::groups::shares::{self, Held, Promise, ShareError, Wanted};
use crate::engine::waiters::Waiter;
use crate::kafka::errors::{self, code};
use crate::kafka::{Front, Session};
use crate::security::acls::Operation;
use crate::security::quotas::Measure;

/// Longest that anybody waits.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// Most that one answer holds, but for one batch.
const BYTES_MAX: u64 = 64 << 20;

/// What is said of records next to each other: first, last, and one type for all or for each.
type Said = (i64, i64, Vec<i8>);

/// What came of what a member said of a partition.
type Outcome = (Place, Result<(), (i16, String)>);

/// Who asks, and for whom.
struct Asker<'a> {
    front: &'a Arc<Front>,
    session: &'a Arc<Session>,
    owner: Owner,
    member: Arc<str>,
    rules: Rules,
}

impl<'a> Asker<'a> {
    fn new(
        front: &'a Arc<Front>,
        session: &'a Arc<Session>,
        group: Option<&Str>,
        member: Option<&Str>,
    ) -> Result<Asker<'a>, (i16, &'static str)> {
        let group = group.filter(|group| !group.trim().is_empty());
        let (Some(group), Some(member)) = (group, member.filter(|member| !member.is_empty()))
        else {
            return Err((code::INVALID_REQUEST, "A group and a member of it must be said."));
        };
        if front.groups.sharing(group) != Some(Sharing::Share) {
            return Err((code::GROUP_ID_NOT_FOUND, "There is no such share group."));
        }
        Ok(Asker {
            front,
            session,
            owner: (group.to_string(), member.to_string()),
            member: member.as_str().into(),
            rules: front.settings.share_rules(group),
        })
    }

    fn connection(&self) -> usize {
        Arc::as_ptr(self.session).addr()
    }

    async fn open(&self, place: Place) -> Result<Arc<Held>, i16> {
        let topic = self.front.allowed_topic(self.session, Operation::Read, "", place.0)?;
        let shares = &self.front.groups.shares;
        shares.open(&self.owner.0, &topic, place.1, &self.rules).await.map_err(|e| of_share(&e))
    }

    /// Does what is said of records of one partition.
    async fn judge(&self, place: Place, said: &[Said], may_renew: bool) -> Judged {
        let held = self.open(place).await.map_err(|error_code| (error_code, String::new()))?;
        let malformed = |why: &str| (code::INVALID_REQUEST, why.to_owned());
        let mut verdicts = Vec::with_capacity(said.len());
        let mut next = 0;
        for (first, last, types) in said {
            if *first < next || last < first {
                return Err(malformed("Batches must be in the order of their offsets."));
            }
            next = last.saturating_add(1);
            let each = types.iter().map(|kind| match kind {
                0 => Some(Verdict::Gap),
                1 => Some(Verdict::Accept),
                2 => Some(Verdict::Release),
                3 => Some(Verdict::Reject),
                4 if may_renew => Some(Verdict::Renew),
                _ => None,
            });
            let each: Option<Vec<_>> = each.collect();
            let each =
                each.ok_or_else(|| malformed("There is no such type of acknowledgement."))?;
            verdicts.push(((*first, *last), each));
        }
        let shares = &self.front.groups.shares;
        let judged = shares.judge(&held, &self.member, &verdicts, &self.rules);
        judged.map_err(|error| match error {
            VerdictError::NotOut => (code::INVALID_RECORD_STATE, error.to_string()),
            VerdictError::Malformed => malformed(&error.to_string()),
        })
    }

    /// Does all that is said, and waits until it is durable.
    async fn judge_all(&self, said: Vec<(Place, Vec<Said>)>, may_renew: bool) -> Vec<Outcome> {
        let mut judged = Vec::with_capacity(said.len());
        for (place, said) in said {
            judged.push((place, self.judge(place, &said, may_renew).await));
        }
        let mut outcomes = Vec::with_capacity(judged.len());
        // Whoever waits first has all of them written.
        for (place, judged) in judged {
            let kept = match judged {
                Ok(promise) => {
                    let kept = self.front.groups.shares.kept(promise).await;
                    kept.map_err(|error| (of_share(&error), error.to_string()))
                }
                Err(error) => Err(error),
            };
            outcomes.push((place, kept));
        }
        outcomes
    }

    /// The session is over: others get what the member had.
    fn give_up(&self, places: &[Place]) {
        give_up(self.front, &self.owner, places, &self.rules);
    }

    fn lock_ms(&self) -> i32 {
        i32::try_from(self.rules.terms.lock_ms).unwrap_or(i32::MAX)
    }
}

type Judged = Result<Promise, (i16, String)>;

fn give_up(front: &Front, owner: &Owner, places: &[Place], rules: &Rules) {
    for (topic, index) in places {
        let (group, topic) = (owner.0.clone(), u128::from_be_bytes(topic.0));
        let place = shares::Place { group, topic, index: *index };
        front.groups.shares.gone(&place, &owner.1, rules);
    }
}

/// A connection ended: so do the sessions that began on it.
pub(crate) fn hung_up(front: &Front, session: &Arc<Session>) {
    for (owner, places) in front.share_sessions.end_of(Arc::as_ptr(session).addr()) {
        let rules = front.settings.share_rules(&owner.0);
        give_up(front, &owner, &places, &rules);
    }
}

fn of_share(error: &ShareError) -> i16 {
    match error {
        ShareError::Unknown => code::UNKNOWN_TOPIC_OR_PARTITION,
        ShareError::Unreadable => code::KAFKA_STORAGE_ERROR,
        ShareError::Store(error) => errors::of_store(error),
        ShareError::Read(error) => errors::of_read(error),
    }
}

pub(crate) async fn acknowledge(
    front: &Arc<Front>,
    session: &Arc<Session>,
    header: &RequestHeader,
    request: acks::Request,
) -> acks::Response {
    let refused = |error_code: i16, why: &str| acks::Response {
        error_code,
        error_message: Some(why.into()),
        ..acks::Response::default()
    };
    let (group, member) = (request.group_id.as_ref(), request.member_id.as_ref());
    let asker = match Asker::new(front, session, group, member) {
        Ok(asker) => asker,
        Err((error_code, why)) => return refused(error_code, why),
    };
    let sessions = &front.share_sessions;
    let began = match request.share_session_epoch {
        BEGIN => Err(code::INVALID_SHARE_SESSION_EPOCH),
        END => sessions.find(&asker.owner),
        epoch => sessions.go_on(&asker.owner, epoch),
    };
    if let Err(error_code) = began {
        return refused(error_code, SESSION);
    }
    let said = request.topics.into_iter().flat_map(|topic| {
        topic.partitions.into_iter().map(move |one| {
            let batches = one.acknowledgement_batches.into_iter();
            let said =
                batches.map(|one| (one.first_offset, one.last_offset, one.acknowledge_types));
            ((topic.topic_id, one.partition_index), said.collect())
        })
    });
    let may_renew = header.version >= 2 && request.is_renew_ack;
    let outcomes = asker.judge_all(said.collect(), may_renew).await;
    if request.share_session_epoch == END
        && let Ok(places) = sessions.end(&asker.owner)
    {
        asker.give_up(&places);
    }
    let mut responses: Vec<ShareAcknowledgeTopicResponse> = Vec::new();
    for ((topic_id, index), outcome) in outcomes {
        let (error_code, error_message) = told(outcome);
        let data = acks::PartitionData {
            partition_index: index,
            error_code,
            error_message,
            ..acks::PartitionData::default()
        };
        match responses.last_mut().filter(|last| last.topic_id == topic_id) {
            Some(last) => last.partitions.push(data),
            None => {
                let partitions = vec![data];
                responses.push(ShareAcknowledgeTopicResponse { topic_id, partitions });
            }
        }
    }
    let acquisition_lock_timeout_ms = asker.lock_ms();
    acks::Response { acquisition_lock_timeout_ms, responses, ..acks::Response::default() }
}

const SESSION: &str = "The share session is another one by now.";

fn told(outcome: Result<(), (i16, String)>) -> (i16, Option<Str>) {
    match outcome {
        Ok(()) => (0, None),
        Err((error_code, why)) => (error_code, (!why.is_empty()).then(|| why.into())),
    }
}

pub(crate) async fn fetch(
    front: &Arc<Front>,
    session: &Arc<Session>,
    header: &RequestHeader,
    mut request: fetches::Request,
) -> fetches::Response {
    let refused = |error_code: i16, why: &str| fetches::Response {
        error_code,
        error_message: Some(why.into()),
        ..fetches::Response::default()
    };
    let (group, member) = (request.group_id.as_ref(), request.member_id.as_ref());
    let asker = match Asker::new(front, session, group, member) {
        Ok(asker) => asker,
        Err((error_code, why)) => return refused(error_code, why),
    };
    let sessions = &front.share_sessions;
    let epoch = request.share_session_epoch;
    let says = |one: &fetches::FetchPartition| !one.acknowledgement_batches.is_empty();
    let says_something = request.topics.iter().flat_map(|topic| &topic.partitions).any(says);
    if epoch == BEGIN && says_something {
        return refused(code::INVALID_REQUEST, "Nobody has records when a session begins.");
    }
    let began = match epoch {
        BEGIN => sessions.begin(asker.owner.clone(), asker.connection()).map(|before| {
            asker.give_up(&before);
        }),
        END => sessions.find(&asker.owner),
        epoch => sessions.go_on(&asker.owner, epoch),
    };
    if let Err(error_code) = began {
        return refused(error_code, SESSION);
    }
    let topics = std::mem::take(&mut request.topics);
    let places: Vec<(Place, Vec<Said>)> = topics
        .into_iter()
        .flat_map(|topic| {
            topic.partitions.into_iter().map(move |one| {
                let batches = one.acknowledgement_batches.into_iter();
                let said =
                    batches.map(|one| (one.first_offset, one.last_offset, one.acknowledge_types));
                ((topic.topic_id, one.partition_index), said.collect())
            })
        })
        .collect();
    let less: Vec<Place> = request
        .forgotten_topics_data
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|index| (topic.topic_id, *index)))
        .collect();
    let more: Vec<Place> = places.iter().map(|(place, _)| *place).collect();
    let is_renewing = header.version >= 2 && request.is_renew_ack;
    let said = places.into_iter().filter(|(_, said): &(Place, Vec<Said>)| !said.is_empty());
    let outcomes = asker.judge_all(said.collect(), is_renewing).await;
    let mut answer = Answer::default();
    for (place, outcome) in outcomes {
        let data = answer.of(place);
        (data.acknowledge_error_code, data.acknowledge_error_message) = told(outcome);
    }
    if epoch == END {
        if let Ok(places) = sessions.end(&asker.owner) {
            asker.give_up(&places);
        }
    } else {
        let wanted = sessions.change(&asker.owner, more.into_iter(), &less);
        // Whoever asks for more time wants that alone.
        if !is_renewing {
            gather(&asker, header, &request, &wanted, &mut answer).await;
        }
    }
    let acquisition_lock_timeout_ms = asker.lock_ms();
    let responses = answer.into_topics();
    fetches::Response { acquisition_lock_timeout_ms, responses, ..fetches::Response::default() }
}

/// Partitions that something is said of, in the order in which it is.
#[derive(Default)]
struct Answer {
    order: Vec<Place>,
    data: HashMap<Place, PartitionData>,
}

impl Answer {
    fn of(&mut self, place: Place) -> &mut PartitionData {
        let order = &mut self.order;
        self.data.entry(place).or_insert_with(|| {
            order.push(place);
            PartitionData { partition_index: place.1, ..PartitionData::default() }
        })
    }

    fn into_topics(mut self) -> Vec<fetches::ShareFetchableTopicResponse> {
        let mut topics: Vec<fetches::ShareFetchableTopicResponse> = Vec::new();
        let mut by_id: HashMap<Uuid, usize> = HashMap::new();
        for place in self.order {
            let Some(data) = self.data.remove(&place) else { continue };
            let at = *by_id.entry(place.0).or_insert(topics.len());
            match topics.get_mut(at) {
                Some(topic) => topic.partitions.push(data),
                None => topics.push(fetches::ShareFetchableTopicResponse {
                    topic_id: place.0,
                    partitions: vec![data],
                }),
            }
        }
        topics
    }
}

/// Takes records until there are enough or the time is over.
async fn gather(
    asker: &Asker<'_>,
    header: &RequestHeader,
    request: &fetches::Request,
    places: &[Place],
    answer: &mut Answer,
) {
    let front = asker.front;
    let mut open = Vec::with_capacity(places.len());
    let mut is_final = !answer.order.is_empty();
    for place in places {
        match asker.open(*place).await {
            Ok(held) => open.push((*place, held)),
            Err(error_code) => {
                answer.of(*place).error_code = error_code;
                is_final = true;
            }
        }
    }
    let wait = u64::try_from(request.max_wait_ms).map_or(Duration::ZERO, Duration::from_millis);
    let deadline = Instant::now() + wait.min(WAIT_MAX);
    let mut bytes = u64::try_from(request.max_bytes).unwrap_or(0).min(BYTES_MAX);
    let mut records = u64::try_from(request.max_records).unwrap_or(0);
    let least = usize::try_from(request.min_bytes).unwrap_or(0);
    let (mut total, mut served) = (0, HashSet::new());
    let waiter = Waiter::new();
    loop {
        for (_, held) in &open {
            held.partition().wait(&waiter);
            held.wait(&waiter);
        }
        for (place, held) in &open {
            if served.contains(place) || records == 0 || (bytes == 0 && total > 0) {
                continue;
            }
            let shares = &front.groups.shares;
            let wanted = Wanted { records, bytes };
            let taken = match shares.take(held, &asker.member, wanted, &asker.rules).await {
                Ok(taken) => taken,
                Err(error) => {
                    answer.of(*place).error_code = of_share(&error);
                    is_final = true;
                    continue;
                }
            };
            if taken.acquired.is_empty() {
                continue;
            }
            served.insert(*place);
            let own: i64 = taken.acquired.iter().map(|one| one.last - one.first + 1).sum();
            records = records.saturating_sub(own.unsigned_abs());
            bytes = bytes.saturating_sub(taken.batches.len() as u64);
            total += taken.batches.len();
            let traffic = &held.topic().traffic;
            traffic.bytes_out.fetch_add(taken.batches.len() as u64, Ordering::Relaxed);
            traffic.records_out.fetch_add(Batch::count(&taken.batches), Ordering::Relaxed);
            let data = answer.of(*place);
            let acquired = taken.acquired.iter().map(|one| AcquiredRecords {
                first_offset: one.first,
                last_offset: one.last,
                delivery_count: i16::try_from(one.count).unwrap_or(i16::MAX),
            });
            data.acquired_records = acquired.collect();
            data.records = taken.batches;
        }
        let is_enough = total > 0 && (total >= least || records == 0);
        if is_enough || is_final || Instant::now() >= deadline {
            break;
        }
        let _ = timeout_at(deadline, waiter.woken()).await;
    }
    let served: Vec<Place> = served.into_iter().collect();
    front.share_sessions.served(&asker.owner, &served);
    front.counts.bytes_out.fetch_add(total as u64, Ordering::Relaxed);
    let client_id = header.client_id.as_ref();
    front.took(asker.session, client_id, Measure::ConsumerByteRate, total as f64);
}
