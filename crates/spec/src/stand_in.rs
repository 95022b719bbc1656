//! Images that an embedded part stands in for.
//!
//! Not here: the parts. Registry, tag and digest do not matter; the last one or two names do.

use crate::model::Part;

/// Names of images, as the end of their path.
const IMAGES: &[(&str, Part)] = &[
    ("apache/kafka", Part::Events),
    ("apache/kafka-native", Part::Events),
    ("bitnami/kafka", Part::Events),
    ("bitnamilegacy/kafka", Part::Events),
    ("confluentinc/cp-kafka", Part::Events),
    ("confluentinc/cp-server", Part::Events),
    ("confluentinc/confluent-local", Part::Events),
    ("ubuntu/kafka", Part::Events),
    ("wurstmeister/kafka", Part::Events),
    ("redpandadata/redpanda", Part::Events),
    ("vectorized/redpanda", Part::Events),
    ("redis", Part::Kv),
    ("bitnami/redis", Part::Kv),
    ("bitnamilegacy/redis", Part::Kv),
    ("redis/redis-stack", Part::Kv),
    ("redis/redis-stack-server", Part::Kv),
    ("valkey/valkey", Part::Kv),
    ("bitnami/valkey", Part::Kv),
    ("dragonflydb/dragonfly", Part::Kv),
    ("eqalpha/keydb", Part::Kv),
    ("minio/minio", Part::Blobs),
    ("bitnami/minio", Part::Blobs),
    ("bitnamilegacy/minio", Part::Blobs),
    ("quay.io/minio/minio", Part::Blobs),
];

/// Images that Kafka kept its state in for long.
const ZOOKEEPERS: &[&str] = &[
    "zookeeper",
    "bitnami/zookeeper",
    "bitnamilegacy/zookeeper",
    "confluentinc/cp-zookeeper",
    "wurstmeister/zookeeper",
    "ubuntu/zookeeper",
];

/// The part that stands in for `image`.
pub(crate) fn part(image: &str) -> Option<Part> {
    let path = path(image);
    IMAGES.iter().find(|(known, _)| *known == path).map(|(_, part)| *part)
}

/// Whether `image` is a ZooKeeper.
pub(crate) fn is_zookeeper(image: &str) -> bool {
    ZOOKEEPERS.contains(&path(image))
}

/// The image without registry, tag and digest.
fn path(image: &str) -> &str {
    let path = name(image);
    let path = match path.split_once('/') {
        // A registry has a dot or a port in its name, or is localhost.
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => rest,
        _ => path,
    };
    path.strip_prefix("library/").unwrap_or(path)
}

/// The image without tag and digest.
pub(crate) fn name(image: &str) -> &str {
    let image = image.split_once('@').map_or(image, |(name, _)| name);
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => image,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_known_images_wherever_they_come_from() {
        for (image, expected) in [
            ("redis", Some(Part::Kv)),
            ("redis:7-alpine", Some(Part::Kv)),
            ("docker.io/library/redis:7", Some(Part::Kv)),
            ("localhost:5000/valkey/valkey@sha256:abc", Some(Part::Kv)),
            ("apache/kafka:4.1", Some(Part::Events)),
            ("quay.io/minio/minio", Some(Part::Blobs)),
            ("myredis", None),
            ("me/redis", None),
            ("postgres:16", None),
            ("", None),
        ] {
            assert_eq!(part(image), expected, "{image}");
        }
    }
}
