//! What consumers say to each other when they share out among themselves.
//!
//! Not here: what follows from it (`engine::groups`). It is preceded by its version, and later
//! versions begin as the latest one known does.

use bytes::Bytes;
use kafka_wire::consumer_protocol_assignment::{self as assignments, ConsumerProtocolAssignment};
use kafka_wire::consumer_protocol_subscription::ConsumerProtocolSubscription;
use kafka_wire::{Codec, Reader, Writer};

use crate::engine::groups::mixed::{Speech, Wanted};

/// The latest version that is known.
const VERSION_MAX: i16 = 3;

/// The words of Kafka's own assignors.
pub(crate) struct Consumers;

pub(crate) static SPEECH: Consumers = Consumers;

/// The version that something is in, and the rest.
fn versioned(bytes: &[u8]) -> Option<(i16, Reader)> {
    let (version, rest) = bytes.split_first_chunk::<2>()?;
    let version = i16::from_be_bytes(*version);
    let reader = Reader::new(Bytes::copy_from_slice(rest));
    (version >= 0).then(|| (version.min(VERSION_MAX), reader))
}

impl Speech for Consumers {
    fn wish(&self, said: &[u8]) -> Option<Wanted> {
        let (version, mut reader) = versioned(said)?;
        let said = ConsumerProtocolSubscription::decode(&mut reader, version).ok()?;
        let owned = said.owned_partitions.into_iter();
        Some(Wanted {
            topics: said.topics.iter().map(ToString::to_string).collect(),
            owned: owned.map(|one| (one.topic.to_string(), one.partitions)).collect(),
        })
    }

    fn given(&self, assignment: &[u8]) -> Option<Vec<(String, Vec<i32>)>> {
        let (version, mut reader) = versioned(assignment)?;
        let given = ConsumerProtocolAssignment::decode(&mut reader, version).ok()?;
        let all = given.assigned_partitions.into_iter();
        Some(all.map(|one| (one.topic.to_string(), one.partitions)).collect())
    }

    fn give(&self, said: &[u8], partitions: Vec<(String, Vec<i32>)>) -> Vec<u8> {
        let version = versioned(said).map_or(0, |(version, _)| version);
        let each = partitions.into_iter().map(|(topic, partitions)| assignments::TopicPartition {
            topic: topic.into(),
            partitions,
        });
        let given = ConsumerProtocolAssignment {
            assigned_partitions: each.collect(),
            ..ConsumerProtocolAssignment::default()
        };
        let mut out = Writer::new();
        // Names of topics are short: this always has a form.
        let _ = given.encode(&mut out, version);
        let mut bytes = version.to_be_bytes().to_vec();
        bytes.extend_from_slice(&out.into_bytes());
        bytes
    }
}
