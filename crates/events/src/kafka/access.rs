//! Who may ask for what: one row for every request.
//!
//! Not here: how rules decide (`security::acls`). Invariant: a request without a row cannot be served,
//! since the table of what is served would not compile.
//!
//! A request that is about one thing (the cluster, a group, a transactional id) is refused as a
//! whole. One that is about many loses those that it may not ask for, and its answer gets them back
//! with an error each (`screens`), so that handlers know nothing of rules; a few requests that
//! every client sends all the time are looked at by their handlers, with [`Front::allowed_topic`].

use std::sync::Arc;

use kafka_wire::{Request, Str, Uuid};

use super::errors::code;
use super::{Front, Session};
use crate::engine::log::Topic;
use crate::security::acls::{CLUSTER, Operation, Resource};

/// A request that not everybody may ask for.
pub(crate) trait Gated: Request {
    /// Takes out what may not be asked for.
    fn screen(&mut self, asker: &Asker<'_>) -> Screened<Self::Response>;
}

/// Who asks.
pub(crate) struct Asker<'a> {
    pub(crate) front: &'a Arc<Front>,
    pub(crate) session: &'a Arc<Session>,
    pub(crate) version: i16,
}

impl Asker<'_> {
    /// Whether it may do something.
    pub(crate) fn may(&self, operation: Operation, resource: Resource, name: &str) -> bool {
        self.front.may(self.session, operation, resource, name)
    }

    /// The same of the cluster.
    pub(crate) fn may_cluster(&self, operation: Operation) -> bool {
        self.front.may_cluster(self.session, operation)
    }
}

/// What is left of a request.
pub(crate) enum Screened<R> {
    /// All of it.
    Whole,
    /// Nothing: this is the answer.
    Refused(R),
    /// Something, and the answer gets this done to it.
    Part(Box<dyn FnOnce(&mut R) + Send>),
}

impl Front {
    /// Whether a session may do something.
    pub(crate) fn may(
        &self,
        session: &Session,
        operation: Operation,
        resource: Resource,
        name: &str,
    ) -> bool {
        self.guard.allows(session, operation, resource, name)
    }

    /// Whether a session may do something to the cluster.
    pub(crate) fn may_cluster(&self, session: &Session, operation: Operation) -> bool {
        self.may(session, operation, Resource::Cluster, CLUSTER)
    }

    /// A topic by id if one is said, else by name, if the session may do something to it. Who may not
    /// is not told whether it is there.
    pub(crate) fn allowed_topic(
        &self,
        session: &Session,
        operation: Operation,
        name: &str,
        id: Uuid,
    ) -> Result<Arc<Topic>, i16> {
        if id.is_zero() {
            if !self.may(session, operation, Resource::Topic, name) {
                return Err(code::TOPIC_AUTHORIZATION_FAILED);
            }
            return self.log.topic(name).ok_or(code::UNKNOWN_TOPIC_OR_PARTITION);
        }
        let topic = self.log.topic_by_id(u128::from_be_bytes(id.0));
        let topic = topic.ok_or(code::UNKNOWN_TOPIC_ID)?;
        match self.may(session, operation, Resource::Topic, &topic.name) {
            true => Ok(topic),
            false => Err(code::TOPIC_AUTHORIZATION_FAILED),
        }
    }

    /// What a session may do to something, a bit for each operation.
    pub(crate) fn operations(&self, session: &Session, resource: Resource, name: &str) -> i32 {
        let all = resource.operations().iter();
        let may = all.filter(|operation| self.may(session, **operation, resource, name));
        may.fold(0, |bits, operation| bits | 1 << *operation as i32)
    }
}

macro_rules! gates {
    ($($module:ident $operation:ident $resource:ident $($field:ident)? ,)*) => {
        $(impl Gated for kafka_wire::$module::Request {
            fn screen(&mut self, asker: &Asker<'_>) -> Screened<Self::Response> {
                let name = name!(self $($field)?);
                if asker.may(Operation::$operation, Resource::$resource, name) {
                    return Screened::Whole;
                }
                Screened::Refused(kafka_wire::$module::Response {
                    error_code: code_of(Resource::$resource),
                    ..kafka_wire::$module::Response::default()
                })
            }
        })*
    };
}

macro_rules! name {
    ($this:ident) => {
        CLUSTER
    };
    ($this:ident $field:ident) => {
        Named::name(&$this.$field)
    };
}

trait Named {
    fn name(&self) -> &str;
}

impl Named for Str {
    fn name(&self) -> &str {
        self
    }
}

impl Named for Option<Str> {
    fn name(&self) -> &str {
        self.as_ref().map_or("", Str::as_str)
    }
}

macro_rules! inside {
    ($($module:ident)*) => {
        $(impl Gated for kafka_wire::$module::Request {
            fn screen(&mut self, _: &Asker<'_>) -> Screened<Self::Response> {
                Screened::Whole
            }
        })*
    };
}

/// What says that a session may not touch something.
pub(crate) fn code_of(resource: Resource) -> i16 {
    match resource {
        Resource::Topic => code::TOPIC_AUTHORIZATION_FAILED,
        Resource::Group => code::GROUP_AUTHORIZATION_FAILED,
        Resource::TransactionalId => code::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        _ => code::CLUSTER_AUTHORIZATION_FAILED,
    }
}

gates! {
    add_offsets_to_txn Write TransactionalId transactional_id,
    alter_partition_reassignments Alter Cluster,
    alter_share_group_offsets Read Group group_id,
    delete_share_group_offsets Delete Group group_id,
    describe_acls Describe Cluster,
    describe_client_quotas DescribeConfigs Cluster,
    describe_log_dirs Describe Cluster,
    describe_quorum Describe Cluster,
    describe_user_scram_credentials Describe Cluster,
    elect_leaders Alter Cluster,
    event_figures Describe Cluster,
    end_txn Write TransactionalId transactional_id,
    heartbeat Read Group group_id,
    join_group Read Group group_id,
    leave_group Read Group group_id,
    list_config_resources DescribeConfigs Cluster,
    list_partition_reassignments Describe Cluster,
    offset_delete Delete Group group_id,
    sync_group Read Group group_id,
    update_features Alter Cluster,
}

// Their handlers look.
inside! {
    alter_client_quotas alter_user_scram_credentials create_acls delete_acls delete_records
    describe_cluster describe_topic_partitions fetch find_coordinator list_offsets metadata
    offset_for_leader_epoch
}
