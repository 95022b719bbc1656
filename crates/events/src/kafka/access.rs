//! Who may ask for what: one row for every request.
//!
//! Not here: how rules decide (`security::acls`). Invariant: a request without a row cannot be served,
//! since the table of what is served would not compile.
//!
//! A request that is about one thing (the cluster, a group, a transactional id) is refused before
//! its handler sees it. Those about many things are looked at by their handlers, one by one, with
//! [`Front::allowed_topic`] and [`Front::may`].

use std::sync::Arc;

use kafka_wire::{Request, Str, Uuid};

use super::errors::code;
use super::{Front, Session};
use crate::engine::log::Topic;
use crate::security::acls::{CLUSTER, Operation, Resource};

/// A request that may be refused as a whole.
pub(crate) trait Gated: Request {
    /// The answer to whoever may not ask.
    fn refused(&self, front: &Front, session: &Session) -> Option<Self::Response>;
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
            fn refused(&self, front: &Front, session: &Session) -> Option<Self::Response> {
                let name = name!(self $($field)?);
                let may = front.may(session, Operation::$operation, Resource::$resource, name);
                (!may).then(|| kafka_wire::$module::Response {
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
            fn refused(&self, _: &Front, _: &Session) -> Option<Self::Response> {
                None
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
    consumer_group_heartbeat Read Group group_id,
    delete_share_group_offsets Delete Group group_id,
    describe_acls Describe Cluster,
    describe_client_quotas DescribeConfigs Cluster,
    describe_log_dirs Describe Cluster,
    describe_quorum Describe Cluster,
    describe_user_scram_credentials Describe Cluster,
    elect_leaders Alter Cluster,
    end_txn Write TransactionalId transactional_id,
    heartbeat Read Group group_id,
    join_group Read Group group_id,
    leave_group Read Group group_id,
    list_config_resources DescribeConfigs Cluster,
    list_partition_reassignments Describe Cluster,
    offset_delete Delete Group group_id,
    share_acknowledge Read Group group_id,
    share_fetch Read Group group_id,
    share_group_heartbeat Read Group group_id,
    sync_group Read Group group_id,
    update_features Alter Cluster,
}

// About many things, each with an answer of its own.
inside! {
    add_partitions_to_txn alter_client_quotas alter_configs alter_user_scram_credentials
    consumer_group_describe create_acls create_partitions create_topics delete_acls delete_groups
    delete_records delete_topics describe_cluster describe_configs describe_groups
    describe_producers describe_share_group_offsets describe_topic_partitions describe_transactions
    fetch find_coordinator incremental_alter_configs init_producer_id list_groups list_offsets
    list_transactions metadata offset_commit offset_fetch offset_for_leader_epoch
    share_group_describe txn_offset_commit write_txn_markers
}
