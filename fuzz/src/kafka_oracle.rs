//! Messages of the Kafka protocol as another implementation reads and writes them.
//!
//! Not here: what holds for ours alone (`kafka_wire::fuzzing`). The other one is large, and takes
//! memory from lengths that it is told; so it is no dependency of tests, and is given only what
//! ours wrote.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Decodable, Encodable, Message, Request as Their};
use kafka_wire::{Codec, Reader, Request, Writer};

type Check = fn(&Bytes, u8);

macro_rules! every {
    ($($ours:ident => $theirs:ident,)*) => {
        const EVERY: &[Check] = &[$(
            same::<kafka_wire::$ours::Request, theirs::$theirs, kafka_wire::$ours::Request>,
            same::<
                <kafka_wire::$ours::Request as Request>::Response,
                <theirs::$theirs as Their>::Response,
                kafka_wire::$ours::Request,
            >,
        )*];
    };
}

every! {
    add_offsets_to_txn => AddOffsetsToTxnRequest,
    add_partitions_to_txn => AddPartitionsToTxnRequest,
    alter_client_quotas => AlterClientQuotasRequest,
    alter_configs => AlterConfigsRequest,
    alter_partition_reassignments => AlterPartitionReassignmentsRequest,
    alter_share_group_offsets => AlterShareGroupOffsetsRequest,
    alter_user_scram_credentials => AlterUserScramCredentialsRequest,
    api_versions => ApiVersionsRequest,
    consumer_group_describe => ConsumerGroupDescribeRequest,
    consumer_group_heartbeat => ConsumerGroupHeartbeatRequest,
    create_acls => CreateAclsRequest,
    create_partitions => CreatePartitionsRequest,
    create_topics => CreateTopicsRequest,
    delete_acls => DeleteAclsRequest,
    delete_groups => DeleteGroupsRequest,
    delete_records => DeleteRecordsRequest,
    delete_share_group_offsets => DeleteShareGroupOffsetsRequest,
    delete_topics => DeleteTopicsRequest,
    describe_acls => DescribeAclsRequest,
    describe_client_quotas => DescribeClientQuotasRequest,
    describe_cluster => DescribeClusterRequest,
    describe_configs => DescribeConfigsRequest,
    describe_groups => DescribeGroupsRequest,
    describe_log_dirs => DescribeLogDirsRequest,
    describe_producers => DescribeProducersRequest,
    describe_quorum => DescribeQuorumRequest,
    describe_share_group_offsets => DescribeShareGroupOffsetsRequest,
    describe_topic_partitions => DescribeTopicPartitionsRequest,
    describe_transactions => DescribeTransactionsRequest,
    describe_user_scram_credentials => DescribeUserScramCredentialsRequest,
    elect_leaders => ElectLeadersRequest,
    end_txn => EndTxnRequest,
    fetch => FetchRequest,
    find_coordinator => FindCoordinatorRequest,
    heartbeat => HeartbeatRequest,
    incremental_alter_configs => IncrementalAlterConfigsRequest,
    init_producer_id => InitProducerIdRequest,
    join_group => JoinGroupRequest,
    leave_group => LeaveGroupRequest,
    list_config_resources => ListConfigResourcesRequest,
    list_groups => ListGroupsRequest,
    list_offsets => ListOffsetsRequest,
    list_partition_reassignments => ListPartitionReassignmentsRequest,
    list_transactions => ListTransactionsRequest,
    metadata => MetadataRequest,
    offset_commit => OffsetCommitRequest,
    offset_delete => OffsetDeleteRequest,
    offset_fetch => OffsetFetchRequest,
    offset_for_leader_epoch => OffsetForLeaderEpochRequest,
    produce => ProduceRequest,
    sasl_authenticate => SaslAuthenticateRequest,
    sasl_handshake => SaslHandshakeRequest,
    share_acknowledge => ShareAcknowledgeRequest,
    share_fetch => ShareFetchRequest,
    share_group_describe => ShareGroupDescribeRequest,
    share_group_heartbeat => ShareGroupHeartbeatRequest,
    sync_group => SyncGroupRequest,
    txn_offset_commit => TxnOffsetCommitRequest,
    update_features => UpdateFeaturesRequest,
    write_txn_markers => WriteTxnMarkersRequest,
}

/// What ours reads and writes, the other one reads and writes in the same bytes, in every version
/// that both know.
fn same<A: Codec, B: Decodable + Encodable + Message, R: Request>(bytes: &Bytes, version: u8) {
    let (min, max) = (R::API.min.max(B::VERSIONS.min), R::API.max.min(B::VERSIONS.max));
    if min > max {
        return;
    }
    let version = min + i16::from(version) % (max - min + 1);
    let Ok(value) = A::decode(&mut Reader::new(bytes.clone()), version) else { return };
    let mut out = Writer::new();
    value.encode(&mut out, version).expect("what was read can be written");
    let ours = out.into_bytes();
    let mut input = ours.clone();
    let read = B::decode(&mut input, version).expect("the other one reads it");
    assert!(input.is_empty(), "the other one reads all of it");
    let mut again = BytesMut::new();
    read.encode(&mut again, version).expect("the other one writes it");
    assert_eq!(again, ours, "{} version {version}", R::API.name);
}

/// A number that chooses a message and one for its version, then its bytes.
pub fn kafka_oracle(bytes: &[u8]) {
    let [which, version, bytes @ ..] = bytes else { return };
    EVERY[*which as usize % EVERY.len()](&Bytes::copy_from_slice(bytes), *version);
}
