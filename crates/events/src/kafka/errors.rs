//! The protocol's error codes, and which of them says what the engine means.

use crate::engine::batch::BatchError;
use crate::engine::log::TopicError;
use crate::engine::partition::AppendError;
use crate::engine::producers::SequenceError;

#[allow(missing_docs, dead_code, reason = "the protocol's own names, used or not")]
pub(crate) mod code {
    pub(crate) const UNKNOWN_SERVER_ERROR: i16 = -1;
    pub(crate) const NONE: i16 = 0;
    pub(crate) const OFFSET_OUT_OF_RANGE: i16 = 1;
    pub(crate) const CORRUPT_MESSAGE: i16 = 2;
    pub(crate) const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
    pub(crate) const MESSAGE_TOO_LARGE: i16 = 10;
    pub(crate) const OFFSET_METADATA_TOO_LARGE: i16 = 12;
    pub(crate) const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
    pub(crate) const COORDINATOR_NOT_AVAILABLE: i16 = 15;
    pub(crate) const NOT_COORDINATOR: i16 = 16;
    pub(crate) const INVALID_TOPIC_EXCEPTION: i16 = 17;
    pub(crate) const INVALID_REQUIRED_ACKS: i16 = 21;
    pub(crate) const ILLEGAL_GENERATION: i16 = 22;
    pub(crate) const INCONSISTENT_GROUP_PROTOCOL: i16 = 23;
    pub(crate) const INVALID_GROUP_ID: i16 = 24;
    pub(crate) const UNKNOWN_MEMBER_ID: i16 = 25;
    pub(crate) const INVALID_SESSION_TIMEOUT: i16 = 26;
    pub(crate) const REBALANCE_IN_PROGRESS: i16 = 27;
    pub(crate) const INVALID_TIMESTAMP: i16 = 32;
    pub(crate) const UNSUPPORTED_VERSION: i16 = 35;
    pub(crate) const TOPIC_ALREADY_EXISTS: i16 = 36;
    pub(crate) const INVALID_PARTITIONS: i16 = 37;
    pub(crate) const INVALID_REPLICATION_FACTOR: i16 = 38;
    pub(crate) const INVALID_REPLICA_ASSIGNMENT: i16 = 39;
    pub(crate) const INVALID_CONFIG: i16 = 40;
    pub(crate) const INVALID_REQUEST: i16 = 42;
    pub(crate) const UNSUPPORTED_FOR_MESSAGE_FORMAT: i16 = 43;
    pub(crate) const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;
    pub(crate) const DUPLICATE_SEQUENCE_NUMBER: i16 = 46;
    pub(crate) const INVALID_PRODUCER_EPOCH: i16 = 47;
    pub(crate) const INVALID_TXN_STATE: i16 = 48;
    pub(crate) const INVALID_PRODUCER_ID_MAPPING: i16 = 49;
    pub(crate) const INVALID_TRANSACTION_TIMEOUT: i16 = 50;
    pub(crate) const CONCURRENT_TRANSACTIONS: i16 = 51;
    pub(crate) const OPERATION_NOT_ATTEMPTED: i16 = 55;
    pub(crate) const INVALID_REGULAR_EXPRESSION: i16 = 128;
    pub(crate) const KAFKA_STORAGE_ERROR: i16 = 56;
    pub(crate) const SECURITY_DISABLED: i16 = 54;
    pub(crate) const NON_EMPTY_GROUP: i16 = 68;
    pub(crate) const GROUP_ID_NOT_FOUND: i16 = 69;
    pub(crate) const FETCH_SESSION_ID_NOT_FOUND: i16 = 70;
    pub(crate) const INVALID_FETCH_SESSION_EPOCH: i16 = 71;
    pub(crate) const UNSUPPORTED_COMPRESSION_TYPE: i16 = 76;
    pub(crate) const MEMBER_ID_REQUIRED: i16 = 79;
    pub(crate) const GROUP_MAX_SIZE_REACHED: i16 = 81;
    pub(crate) const FENCED_INSTANCE_ID: i16 = 82;
    pub(crate) const INVALID_RECORD: i16 = 87;
    pub(crate) const UNSTABLE_OFFSET_COMMIT: i16 = 88;
    pub(crate) const PRODUCER_FENCED: i16 = 90;
    pub(crate) const POLICY_VIOLATION: i16 = 44;
    pub(crate) const UNKNOWN_LEADER_EPOCH: i16 = 75;
    pub(crate) const UNKNOWN_TOPIC_ID: i16 = 100;
    pub(crate) const TRANSACTIONAL_ID_NOT_FOUND: i16 = 105;
    pub(crate) const MISMATCHED_ENDPOINT_TYPE: i16 = 114;
    pub(crate) const FETCH_SESSION_TOPIC_ID_ERROR: i16 = 106;
    pub(crate) const GROUP_SUBSCRIBED_TO_TOPIC: i16 = 86;
    pub(crate) const ELECTION_NOT_NEEDED: i16 = 84;
    pub(crate) const NO_REASSIGNMENT_IN_PROGRESS: i16 = 85;
    pub(crate) const TOPIC_AUTHORIZATION_FAILED: i16 = 29;
    pub(crate) const GROUP_AUTHORIZATION_FAILED: i16 = 30;
    pub(crate) const CLUSTER_AUTHORIZATION_FAILED: i16 = 31;
    pub(crate) const UNSUPPORTED_SASL_MECHANISM: i16 = 33;
    pub(crate) const ILLEGAL_SASL_STATE: i16 = 34;
    pub(crate) const TRANSACTIONAL_ID_AUTHORIZATION_FAILED: i16 = 53;
    pub(crate) const SASL_AUTHENTICATION_FAILED: i16 = 58;
    pub(crate) const THROTTLING_QUOTA_EXCEEDED: i16 = 89;
    pub(crate) const RESOURCE_NOT_FOUND: i16 = 91;
    pub(crate) const DUPLICATE_RESOURCE: i16 = 92;
    pub(crate) const UNACCEPTABLE_CREDENTIAL: i16 = 93;
    pub(crate) const INVALID_UPDATE_VERSION: i16 = 95;
    pub(crate) const FENCED_MEMBER_EPOCH: i16 = 110;
    pub(crate) const UNRELEASED_INSTANCE_ID: i16 = 111;
    pub(crate) const UNSUPPORTED_ASSIGNOR: i16 = 112;
    pub(crate) const STALE_MEMBER_EPOCH: i16 = 113;
    pub(crate) const INVALID_RECORD_STATE: i16 = 121;
    pub(crate) const SHARE_SESSION_NOT_FOUND: i16 = 122;
    pub(crate) const INVALID_SHARE_SESSION_EPOCH: i16 = 123;
    pub(crate) const SHARE_SESSION_LIMIT_REACHED: i16 = 133;
}

/// What a code means, in words, for whoever reads an answer.
pub(crate) fn meaning(error: i16) -> String {
    let known = match error {
        code::OFFSET_OUT_OF_RANGE => "there is no such offset",
        code::CORRUPT_MESSAGE => "the messages were damaged on their way",
        code::UNKNOWN_TOPIC_OR_PARTITION | code::UNKNOWN_TOPIC_ID => "there is none",
        code::MESSAGE_TOO_LARGE => "a message is larger than the topic's max.message.bytes",
        code::COORDINATOR_LOAD_IN_PROGRESS | code::COORDINATOR_NOT_AVAILABLE => {
            "the groups are not loaded yet"
        }
        code::INVALID_TOPIC_EXCEPTION => "no topic may have such a name",
        code::INVALID_GROUP_ID => "no group may have such a name",
        code::UNKNOWN_MEMBER_ID | code::REBALANCE_IN_PROGRESS | code::NON_EMPTY_GROUP => {
            "the group has members"
        }
        code::TOPIC_AUTHORIZATION_FAILED
        | code::GROUP_AUTHORIZATION_FAILED
        | code::CLUSTER_AUTHORIZATION_FAILED => "its access rules do not allow it",
        code::TOPIC_ALREADY_EXISTS => "it exists already",
        code::INVALID_PARTITIONS => "it cannot have that many partitions",
        code::INVALID_CONFIG => "a setting is not valid",
        code::KAFKA_STORAGE_ERROR => "its disk does not take or give it",
        code::GROUP_ID_NOT_FOUND => "there is none",
        code::INVALID_RECORD => "a message is not valid there, such as one without a key",
        _ => return format!("error code {error} of the Kafka protocol"),
    };
    known.to_owned()
}

/// What a store says when it does not take something; clients send it again.
pub(crate) fn of_store(_: &volumes::AppendError) -> i16 {
    code::KAFKA_STORAGE_ERROR
}

pub(crate) fn of_batch(error: &BatchError) -> i16 {
    match error {
        BatchError::Corrupt(_) => code::CORRUPT_MESSAGE,
        BatchError::Magic(_) => code::UNSUPPORTED_FOR_MESSAGE_FORMAT,
        BatchError::Invalid(_) | BatchError::NoKey => code::INVALID_RECORD,
        BatchError::Compression(_) => code::UNSUPPORTED_COMPRESSION_TYPE,
        BatchError::TooLarge { .. } => code::MESSAGE_TOO_LARGE,
        BatchError::Time => code::INVALID_TIMESTAMP,
    }
}

pub(crate) fn of_append(error: &AppendError) -> i16 {
    match error {
        AppendError::Sequence(SequenceError::Fenced { .. }) => code::INVALID_PRODUCER_EPOCH,
        AppendError::Sequence(SequenceError::OutOfOrder { .. }) => {
            code::OUT_OF_ORDER_SEQUENCE_NUMBER
        }
        AppendError::Sequence(SequenceError::Duplicate { .. }) => code::DUPLICATE_SEQUENCE_NUMBER,
        AppendError::Sequence(SequenceError::Transaction(_)) => code::INVALID_TXN_STATE,
        AppendError::Store(volumes::AppendError::TooLarge { .. }) => code::MESSAGE_TOO_LARGE,
        AppendError::Store(error) => of_store(error),
        AppendError::Read(_) | AppendError::Unlearned => code::KAFKA_STORAGE_ERROR,
        AppendError::Deleted => code::UNKNOWN_TOPIC_OR_PARTITION,
    }
}

pub(crate) fn of_read(error: &volumes::ReadError) -> i16 {
    match error {
        volumes::ReadError::Trimmed { .. } => code::OFFSET_OUT_OF_RANGE,
        volumes::ReadError::Damaged { .. } | volumes::ReadError::Failed { .. } => {
            code::KAFKA_STORAGE_ERROR
        }
    }
}

pub(crate) fn of_topic(error: &TopicError) -> i16 {
    match error {
        TopicError::Exists(_) => code::TOPIC_ALREADY_EXISTS,
        TopicError::Unknown => code::UNKNOWN_TOPIC_OR_PARTITION,
        TopicError::Name(_) => code::INVALID_TOPIC_EXCEPTION,
        TopicError::Partitions(_) => code::INVALID_PARTITIONS,
        TopicError::Config(_) => code::INVALID_CONFIG,
        TopicError::Store(error) => of_store(error),
    }
}
