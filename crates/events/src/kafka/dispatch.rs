//! Which request is served by what, and in which versions: the one table.
//!
//! Invariant: what is advertised is served, and what is Kafka's and served is advertised.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_wire::{Api, Codec, Reader, Request, RequestHeader, Writer, frame_response};

use super::access::{Asker, Gated, Screened};
use super::errors::code;
use super::{Front, Session};
use super::{acls, cluster, configs, features, fetch, figures, groups, members, offsets};
use super::{produce, quotas, records, sasl, scram, share, topics, transactions};
use crate::security::quotas::Measure;

/// The pieces of an answer, or why there is none and the connection ends.
pub(crate) type Answer = Pin<Box<dyn Future<Output = Result<Vec<Bytes>, String>> + Send>>;

/// An API that is served: which, and the versions that are advertised. Some clients look at the
/// lowest version of an API for what a server can do besides, so a few are advertised and, if
/// somebody does use them, refused.
pub(crate) struct Served {
    pub(crate) api: Api,
    pub(crate) min: i16,
    pub(crate) max: i16,
}

macro_rules! table {
    ($($module:ident $min:literal ..= $max:literal => $handler:path,)*) => {
        /// Every API that is served, but for the one that tells which there are.
        pub(crate) const SERVED: &[Served] = &[$(Served {
            api: <kafka_wire::$module::Request as Request>::API, min: $min, max: $max,
        },)*];

        async fn handle(
            front: &Arc<Front>,
            session: &Arc<Session>,
            header: &RequestHeader,
            body: Bytes,
        ) -> Result<Vec<Bytes>, String> {
            $(if header.key == <kafka_wire::$module::Request as Request>::API.key {
                let mut request = decode::<kafka_wire::$module::Request>(header, body)?;
                let screened = match front.guard.is_open() {
                    true => Screened::Whole,
                    false => request.screen(&Asker { front, session, version: header.version }),
                };
                let answer = async {
                    let handled = || $handler(front, session, header, request);
                    match screened {
                        Screened::Whole => handled().await,
                        Screened::Refused(response) => response,
                        Screened::Part(finish) => {
                            let mut response = handled().await;
                            finish(&mut response);
                            response
                        }
                    }
                };
                let (mut response, busy) = quotas::timed(front.guard.clock(), answer).await;
                throttle(front, session, header, busy, &mut response);
                return frame::<kafka_wire::$module::Request>(header, &response);
            })*
            Err(format!("request {} is not served", header.key))
        }
    };
}

table! {
    fetch 4..=18 => fetch::fetch,
    list_offsets 1..=11 => records::list_offsets,
    metadata 0..=13 => cluster::metadata,
    offset_commit 2..=10 => offsets::commit,
    offset_fetch 1..=10 => offsets::fetch,
    find_coordinator 0..=6 => cluster::find_coordinator,
    join_group 0..=9 => groups::join,
    heartbeat 0..=4 => groups::heartbeat,
    leave_group 0..=5 => groups::leave,
    sync_group 0..=5 => groups::sync,
    describe_groups 0..=6 => groups::describe,
    list_groups 0..=5 => groups::list,
    create_topics 2..=7 => topics::create,
    delete_topics 1..=6 => topics::delete,
    delete_records 0..=2 => records::delete,
    init_producer_id 0..=5 => transactions::init_producer_id,
    offset_for_leader_epoch 2..=4 => records::leader_epoch,
    add_partitions_to_txn 0..=3 => transactions::add_partitions,
    add_offsets_to_txn 0..=4 => transactions::add_offsets,
    end_txn 0..=5 => transactions::end,
    txn_offset_commit 0..=5 => transactions::commit_offsets,
    describe_acls 1..=3 => acls::describe,
    create_acls 1..=3 => acls::create,
    delete_acls 1..=3 => acls::delete,
    describe_configs 1..=4 => configs::describe,
    alter_configs 0..=2 => configs::alter,
    describe_log_dirs 1..=4 => cluster::log_dirs,
    create_partitions 0..=3 => topics::add_partitions,
    delete_groups 0..=2 => groups::delete,
    elect_leaders 0..=2 => cluster::elect_leaders,
    incremental_alter_configs 0..=1 => configs::alter_some,
    alter_partition_reassignments 0..=1 => cluster::reassign,
    list_partition_reassignments 0..=0 => cluster::reassignments,
    offset_delete 0..=0 => offsets::delete,
    describe_client_quotas 0..=1 => quotas::describe,
    alter_client_quotas 0..=1 => quotas::alter,
    describe_user_scram_credentials 0..=0 => scram::describe,
    alter_user_scram_credentials 0..=0 => scram::alter,
    describe_quorum 0..=2 => cluster::quorum,
    update_features 0..=2 => features::update,
    describe_cluster 0..=2 => cluster::describe,
    describe_producers 0..=0 => transactions::describe_producers,
    describe_transactions 0..=0 => transactions::describe,
    list_transactions 0..=2 => transactions::list,
    consumer_group_heartbeat 0..=1 => members::heartbeat,
    consumer_group_describe 0..=1 => members::describe,
    share_group_heartbeat 1..=1 => share::members::heartbeat,
    share_group_describe 1..=1 => share::members::describe,
    share_fetch 1..=2 => share::records::fetch,
    share_acknowledge 1..=2 => share::records::acknowledge,
    describe_share_group_offsets 0..=1 => share::offsets::describe,
    alter_share_group_offsets 0..=0 => share::offsets::alter,
    delete_share_group_offsets 0..=0 => share::offsets::delete,
    list_config_resources 0..=1 => configs::list_resources,
    describe_topic_partitions 0..=0 => cluster::topic_partitions,
    event_figures 0..=0 => figures::figures,
}

const PRODUCE: Api = <kafka_wire::produce::Request as Request>::API;
const HANDSHAKE: Api = <kafka_wire::sasl_handshake::Request as Request>::API;
const AUTHENTICATE: Api = <kafka_wire::sasl_authenticate::Request as Request>::API;
const API_VERSIONS: Api = <kafka_wire::api_versions::Request as Request>::API;

/// First version that is advertised of Produce: librdkafka up to 2.11 takes its absence for a
/// server without compression.
const PRODUCE_MIN: i16 = 0;

/// Highest of Produce: from 12 on transactions need no request that names their partitions, from 13
/// on topics are said by their ids.
const PRODUCE_MAX: i16 = 13;

/// From this number on requests are this log's own: other clients may stumble over them, so they are
/// served and not advertised.
const OURS: i16 = 32_000;

/// Begins to serve a frame. Requests of one connection are started one after the other; what is
/// returned may be waited for beside others. `None` for a request without an answer.
pub(crate) async fn start(
    front: &Arc<Front>,
    session: &Arc<Session>,
    frame: Bytes,
) -> Result<Option<Answer>, String> {
    if session.login.is_bare() {
        let answer = sasl::bare(front, session, frame).await?;
        return Ok(Some(Box::pin(std::future::ready(Ok(vec![answer])))));
    }
    let mut reader = Reader::new(frame);
    let flexible = |key| {
        let api = kafka_wire::APIS.iter().find(|api| api.key == key)?;
        Some(api.flexible)
    };
    let header = RequestHeader::decode(&mut reader, flexible).map_err(|error| error.to_string())?;
    let body = reader.rest();
    front.counted(header.key);
    if header.key == API_VERSIONS.key {
        let pieces = api_versions(front, session, &header, body)?;
        return Ok(Some(Box::pin(std::future::ready(Ok(pieces)))));
    }
    if header.key == HANDSHAKE.key || header.key == AUTHENTICATE.key {
        // Here and now: what the client may ask for next depends on it.
        let pieces = login(front, session, &header, body).await?;
        return Ok(Some(Box::pin(std::future::ready(Ok(pieces)))));
    }
    if !session.login.may_ask(front.guard.clock().steady()) {
        return Err(format!("request {} comes before a login", header.key));
    }
    if header.key == PRODUCE.key {
        if !(PRODUCE.min..=PRODUCE_MAX).contains(&header.version) {
            return Err(unserved(&header));
        }
        let request = decode::<kafka_wire::produce::Request>(&header, body)?;
        let acks = request.acks;
        let starting = produce::start(front, session, &header, request);
        let (started, busy) = quotas::timed(front.guard.clock(), starting).await;
        let (client_id, busy) = (header.client_id.as_ref(), busy.as_secs_f64());
        front.took(session, client_id, Measure::RequestPercentage, busy);
        if acks == 0 {
            return Ok(None);
        }
        return Ok(Some(Box::pin(async move {
            let response = started.answer().await;
            frame_as::<kafka_wire::produce::Request>(&header, &response)
        })));
    }
    let served = SERVED.iter().find(|served| served.api.key == header.key);
    let known = served.is_some_and(|served| {
        (served.min.max(served.api.min)..=served.max).contains(&header.version)
    });
    if !known {
        return Err(unserved(&header));
    }
    let (front, session) = (Arc::clone(front), Arc::clone(session));
    Ok(Some(Box::pin(async move { handle(&front, &session, &header, body).await })))
}

/// One request of a login.
async fn login(
    front: &Front,
    session: &Session,
    header: &RequestHeader,
    body: Bytes,
) -> Result<Vec<Bytes>, String> {
    use kafka_wire::{sasl_authenticate, sasl_handshake};
    let api = if header.key == HANDSHAKE.key { HANDSHAKE } else { AUTHENTICATE };
    if !(api.min..=api.max).contains(&header.version) {
        return Err(unserved(header));
    }
    if header.key == HANDSHAKE.key {
        let request = decode::<sasl_handshake::Request>(header, body)?;
        let response = sasl::handshake(session, header, &request);
        return frame::<sasl_handshake::Request>(header, &response);
    }
    let request = decode::<sasl_authenticate::Request>(header, body)?;
    let response = sasl::authenticate(front, session, &request).await;
    frame::<sasl_authenticate::Request>(header, &response)
}

/// Counts what an answer took, and says how long the client is silent from now on, if it is.
fn throttle(
    front: &Front,
    session: &Session,
    header: &RequestHeader,
    busy: Duration,
    response: &mut impl Codec,
) {
    let client_id = header.client_id.as_ref();
    front.took(session, client_id, Measure::RequestPercentage, busy.as_secs_f64());
    let wait = session.muted(|| front.guard.clock().steady());
    if !wait.is_zero() {
        response.throttle(quotas::millis(wait));
    }
}

fn unserved(header: &RequestHeader) -> String {
    format!("version {} of request {} is not served", header.version, header.key)
}

fn decode<R: Request>(header: &RequestHeader, body: Bytes) -> Result<R, String> {
    // Bytes may follow: librdkafka 2.x counts "all topics" of Metadata in four bytes where one is
    // meant, and Kafka does not mind.
    let request = R::decode(&mut Reader::new(body), header.version);
    request.map_err(|error| format!("{} version {}: {error}", R::API.name, header.version))
}

fn frame<R: Request>(header: &RequestHeader, response: &R::Response) -> Result<Vec<Bytes>, String> {
    frame_as::<R>(header, response)
}

fn frame_as<R: Request>(
    header: &RequestHeader,
    response: &R::Response,
) -> Result<Vec<Bytes>, String> {
    let write = |out: &mut Writer| response.encode(out, header.version);
    let framed = frame_response(&R::API, header.version, header.correlation, write);
    framed.map_err(|error| {
        format!("the answer to {} version {} has no form: {error}", R::API.name, header.version)
    })
}

/// Which versions there are. A version that is not known is answered in the first one's form, so
/// that any client can read it and ask again.
fn api_versions(
    front: &Front,
    session: &Session,
    header: &RequestHeader,
    body: Bytes,
) -> Result<Vec<Bytes>, String> {
    use kafka_wire::api_versions::{ApiVersion, Request, Response};
    let one = |api_key, min_version, max_version| ApiVersion { api_key, min_version, max_version };
    let mut all = vec![
        one(PRODUCE.key, PRODUCE_MIN, PRODUCE_MAX),
        one(API_VERSIONS.key, API_VERSIONS.min, API_VERSIONS.max.min(4)),
    ];
    all.extend([HANDSHAKE, AUTHENTICATE].map(|api| one(api.key, api.min, api.max)));
    let shown = SERVED.iter().filter(|served| served.api.key < OURS);
    all.extend(shown.map(|served| one(served.api.key, served.min, served.max)));
    all.sort_by_key(|api| api.api_key);
    let mut response = Response { api_keys: all, ..Response::default() };
    let known = (API_VERSIONS.min..=4).contains(&header.version);
    if !known {
        response.error_code = code::UNSUPPORTED_VERSION;
        let first = RequestHeader { version: 0, ..header.clone() };
        return frame_as::<Request>(&first, &response);
    }
    let request = decode::<Request>(header, body)?;
    if header.version >= 3 {
        session.software(&request.client_software_name, &request.client_software_version);
        features::tell(&mut response);
    }
    let _ = front;
    frame_as::<Request>(header, &response)
}
