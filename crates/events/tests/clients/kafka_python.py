"""kafka-python does its whole job."""

import kafka
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewPartitions, NewTopic
from kafka.errors import TopicAlreadyExistsError

from jobs import BOOTSTRAP, PATIENCE_S, equal, job, main, name, until

ADMIN = KafkaAdminClient(bootstrap_servers=BOOTSTRAP)


def topic(what, partitions=1):
    made = name(what)
    ADMIN.create_topics([NewTopic(made, partitions, 1)])
    return made


def produce(where, values, **config):
    producer = KafkaProducer(bootstrap_servers=BOOTSTRAP, **config)
    sent = [
        producer.send(where, value, key=str(n).encode(), headers=[("n", str(n).encode())])
        for n, value in enumerate(values)
    ]
    found = [future.get(PATIENCE_S) for future in sent]
    producer.close()
    return found


def take(reader, count):
    taken = []

    def some():
        for records in reader.poll(timeout_ms=500).values():
            taken.extend(records)
        return len(taken) >= count

    until(some, f"{count} records")
    return taken


def read(where, count, partitions=1, **config):
    reader = KafkaConsumer(bootstrap_servers=BOOTSTRAP, enable_auto_commit=False, **config)
    own = [TopicPartition(where, partition) for partition in range(partitions)]
    reader.assign(own)
    reader.seek_to_beginning(*own)
    try:
        return take(reader, count)
    finally:
        reader.close()


@job
def topics_live_and_die():
    made = topic("life", 3)
    described = ADMIN.describe_topics([made])
    equal(len(described[0]["partitions"]), 3, "partitions")
    try:
        ADMIN.create_topics([NewTopic(made, 1, 1)])
    except TopicAlreadyExistsError:
        pass
    else:
        raise AssertionError("it was made twice")
    ADMIN.delete_topics([made])
    until(lambda: made not in ADMIN.list_topics(), "the topic to go")


@job
def every_compression_comes_back():
    values = [f"value {n} ".encode() * 20 for n in range(300)]
    for codec in [None, "gzip", "snappy", "lz4", "zstd"]:
        made = topic(codec or "none")
        produce(made, values, compression_type=codec, linger_ms=20)
        found = read(made, len(values))
        equal([r.value for r in found], values, f"values with {codec}")
        equal(found[7].headers, [("n", b"7")], "headers")


@job
def idempotence_and_acks():
    for acks in [0, 1, "all"]:
        made = topic(f"acks-{acks}")
        produce(made, [b"x"] * 50, acks=acks, enable_idempotence=acks == "all")
        equal(len(read(made, 50)), 50, f"records with acks={acks}")


@job
def a_group_goes_on_where_it_stood():
    made, group = topic("group", 4), name("group")
    produce(made, [str(n).encode() for n in range(100)])
    config = {"group_id": group, "auto_offset_reset": "earliest", "enable_auto_commit": False}
    first = KafkaConsumer(made, bootstrap_servers=BOOTSTRAP, **config)
    equal(sorted(int(r.value) for r in take(first, 100)), list(range(100)), "values")
    first.commit()
    first.close()
    produce(made, [b"later"])
    second = KafkaConsumer(made, bootstrap_servers=BOOTSTRAP, **config)
    equal([r.value for r in take(second, 1)], [b"later"], "the rest")
    second.close()
    assert group in str(ADMIN.list_groups()), "the group is listed"


@job
def timestamps_find_offsets():
    made = topic("times")
    producer = KafkaProducer(bootstrap_servers=BOOTSTRAP)
    for n in range(5):
        producer.send(made, b"x", timestamp_ms=1_700_000_000_000 + n * 1000).get(PATIENCE_S)
    producer.close()
    reader = KafkaConsumer(bootstrap_servers=BOOTSTRAP)
    where = TopicPartition(made, 0)
    equal(reader.offsets_for_times({where: 1_700_000_002_500})[where].offset, 3, "offset")
    equal(reader.beginning_offsets([where])[where], 0, "beginning")
    equal(reader.end_offsets([where])[where], 5, "end")
    reader.close()


@job
def transactions_commit_and_abort():
    made = topic("txn")
    producer = KafkaProducer(bootstrap_servers=BOOTSTRAP, transactional_id=name("txn"))
    producer.init_transactions()
    for n in range(4):
        producer.begin_transaction()
        producer.send(made, str(n).encode()).get(PATIENCE_S)
        producer.abort_transaction() if n % 2 else producer.commit_transaction()
    producer.close()
    committed = read(made, 2, isolation_level="read_committed")
    equal([r.value for r in committed], [b"0", b"2"], "committed")
    equal(len(read(made, 4, isolation_level="read_uncommitted")), 4, "all")


@job
def partitions_are_added():
    made = topic("more")
    ADMIN.create_partitions({made: NewPartitions(3)})
    until(lambda: len(ADMIN.describe_topics([made])[0]["partitions"]) == 3, "three partitions")


if __name__ == "__main__":
    main(f"kafka-python {kafka.__version__}")
