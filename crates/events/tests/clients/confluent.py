"""confluent-kafka (librdkafka) does its whole job."""

import time

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Producer,
    TopicCollection,
    TopicPartition,
    libversion,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from jobs import BOOTSTRAP, PATIENCE_S, equal, job, main, name, until

ADMIN = AdminClient({"bootstrap.servers": BOOTSTRAP})


def results(futures):
    return {key: future.result(PATIENCE_S) for key, future in futures.items()}


def topic(what, partitions=1, config=None):
    made = name(what)
    results(ADMIN.create_topics([NewTopic(made, partitions, 1, config=config or {})]))
    return made


def produce(where, values, **config):
    """Sends values with their number as key; returns the delivered messages in order."""
    delivered = []

    def on_delivery(error, message):
        delivered.append(error or message)

    producer = Producer({"bootstrap.servers": BOOTSTRAP, **config})
    for number, value in enumerate(values):
        producer.produce(
            where, value, str(number), on_delivery=on_delivery, headers=[("n", str(number).encode())]
        )
        producer.poll(0)
    equal(producer.flush(PATIENCE_S), 0, "messages left")
    for message in delivered:
        assert not isinstance(message, KafkaError), message
    return delivered


def consumer(group=None, **config):
    return Consumer(
        {
            "bootstrap.servers": BOOTSTRAP,
            "group.id": group or name("alone"),
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            **config,
        }
    )


def take(reader, count, quiet_s=None):
    """That many messages, or those that come until it was quiet for a while."""
    taken = []
    last = time.monotonic()
    while len(taken) < count:
        message = reader.poll(0.2)
        if message is None:
            if time.monotonic() - last > (quiet_s or PATIENCE_S):
                if quiet_s:
                    break
                raise AssertionError(f"{len(taken)} of {count} messages came")
            continue
        if message.error():
            raise KafkaException(message.error())
        last = time.monotonic()
        taken.append(message)
    return taken


def read(where, count, partitions=1, **config):
    reader = consumer(**config)
    reader.assign([TopicPartition(where, p, OFFSET_BEGINNING) for p in range(partitions)])
    try:
        return take(reader, count)
    finally:
        reader.close()


@job
def topics_are_made_described_and_deleted():
    made = topic("life", 3, {"retention.ms": "12345678", "cleanup.policy": "compact"})
    found = ADMIN.list_topics(timeout=PATIENCE_S).topics[made]
    equal(sorted(found.partitions), [0, 1, 2], "partitions")
    described = results(ADMIN.describe_topics(TopicCollection([made])))
    equal(len(described[made].partitions), 3, "described partitions")
    resource = ConfigResource(ResourceType.TOPIC, made)
    config = list(results(ADMIN.describe_configs([resource])).values())[0]
    equal(config["retention.ms"].value, "12345678", "retention.ms")
    equal(config["cleanup.policy"].value, "compact", "cleanup.policy")
    assert config["max.message.bytes"].is_default, "max.message.bytes is a default"
    results(ADMIN.delete_topics([made]))
    until(lambda: made not in ADMIN.list_topics(timeout=PATIENCE_S).topics, "the topic to go")


@job
def creating_twice_and_nonsense_is_refused():
    made = topic("twice")
    for bad, code in [
        (NewTopic(made, 1, 1), KafkaError.TOPIC_ALREADY_EXISTS),
        (NewTopic("a topic", 1, 1), KafkaError.TOPIC_EXCEPTION),
        (NewTopic(name("none"), 1, 1, config={"no.such": "x"}), KafkaError.INVALID_CONFIG),
    ]:
        try:
            results(ADMIN.create_topics([bad]))
        except KafkaException as error:
            equal(error.args[0].code(), code, f"code for {bad}")
        else:
            raise AssertionError(f"{bad} was made")


@job
def partitions_are_added():
    made = topic("more", 1)
    results(ADMIN.create_partitions([NewPartitions(made, 4)]))
    found = lambda: ADMIN.list_topics(made, timeout=PATIENCE_S).topics[made].partitions
    until(lambda: len(found()) == 4, "four partitions")


@job
def configs_are_altered():
    made = topic("config")
    resource = ConfigResource(
        ResourceType.TOPIC,
        made,
        incremental_configs=[
            ConfigEntry("retention.ms", "777000", incremental_operation=AlterConfigOpType.SET)
        ],
    )
    results(ADMIN.incremental_alter_configs([resource]))
    asked = [ConfigResource(ResourceType.TOPIC, made)]
    found = lambda: list(results(ADMIN.describe_configs(asked)).values())[0]["retention.ms"].value
    until(lambda: found() == "777000", "the altered retention.ms")


@job
def every_compression_comes_back():
    values = [f"value {n} ".encode() * 20 for n in range(500)]
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"]:
        made = topic(codec)
        produce(made, values, **{"compression.type": codec, "linger.ms": 20})
        found = read(made, len(values))
        equal([m.value() for m in found], values, f"values with {codec}")
        equal(found[7].headers(), [("n", b"7")], "headers")
        equal([m.offset() for m in found], list(range(len(values))), "offsets")


@job
def order_holds_within_each_partition():
    made = topic("order", 5)
    values = [str(n).encode() for n in range(5000)]
    produce(made, values, **{"linger.ms": 5, "enable.idempotence": True})
    found = read(made, len(values), partitions=5)
    equal(sorted(int(m.value()) for m in found), list(range(5000)), "all values once")
    for partition in range(5):
        own = [int(m.value()) for m in found if m.partition() == partition]
        equal(own, sorted(own), f"order in partition {partition}")


@job
def timestamps_find_offsets():
    made = topic("times")
    producer = Producer({"bootstrap.servers": BOOTSTRAP})
    for n in range(10):
        producer.produce(made, b"x", timestamp=1_700_000_000_000 + n * 1000)
        producer.flush(PATIENCE_S)
    reader = consumer()
    found = reader.offsets_for_times([TopicPartition(made, 0, 1_700_000_004_500)], PATIENCE_S)
    equal(found[0].offset, 5, "offset for the time")
    equal(reader.get_watermark_offsets(TopicPartition(made, 0), PATIENCE_S), (0, 10), "watermarks")
    late = ADMIN.list_offsets({TopicPartition(made, 0): OffsetSpec.max_timestamp()})
    equal(list(results(late).values())[0].offset, 9, "offset of the highest time")
    reader.close()


@job
def a_group_shares_and_goes_on_where_it_stood(protocol="classic"):
    made, group = topic(f"shared-{protocol}", 4), name(f"group-{protocol}")
    produce(made, [str(n).encode() for n in range(400)])
    config = {"group.protocol": protocol}
    first, second = consumer(group, **config), consumer(group, **config)
    first.subscribe([made])
    second.subscribe([made])
    taken, owners = [], {}
    deadline = time.monotonic() + PATIENCE_S
    while (len(taken) < 400 or len(owners) < 2) and time.monotonic() < deadline:
        for number, reader in enumerate([first, second]):
            message = reader.poll(0.05)
            if message and not message.error():
                taken.append(message.value())
                reader.commit(message, asynchronous=False)
            if reader.assignment():
                owners[number] = len(reader.assignment())
    equal(len(set(taken)), 400, "values taken")
    until(
        lambda: [(first.poll(0.05), second.poll(0.05))]
        and len(first.assignment()) == 2
        and len(second.assignment()) == 2,
        "two partitions each",
    )
    first.close()
    second.close()
    produce(made, [b"later"])
    third = consumer(group, **config)
    third.subscribe([made])
    equal(take(third, 1)[0].value(), b"later", "the next message")
    third.close()


@job
def a_consumer_protocol_group_does_too():
    a_group_shares_and_goes_on_where_it_stood("consumer")


@job
def a_group_changes_its_protocol_in_use():
    made, group = topic("change", 4), name("change")
    eager = {"group.protocol": "classic", "partition.assignment.strategy": "roundrobin"}
    told = {"group.protocol": "consumer"}
    readers, taken, sent = [], set(), 0

    def is_settled():
        for reader in readers:
            message = reader.poll(0.05)
            if message and not message.error():
                taken.add(message.value())
                try:
                    reader.commit(message, asynchronous=False)
                except KafkaException:
                    pass  # The members change places while this waits.
        shares = sorted(len(reader.assignment()) for reader in readers)
        return len(taken) == sent and sum(shares) == 4 and shares[-1] - shares[0] <= 1

    def kind():
        listed = ADMIN.list_consumer_groups().result(PATIENCE_S).valid
        return [one.type.name for one in listed if one.group_id == group][0]

    # What comes, or the place of what goes; and the kind that the group is of then.
    steps = [(eager, "CLASSIC"), (told, "CONSUMER"), (eager, "CONSUMER"), (1, "CLASSIC")]
    steps += [(told, "CONSUMER"), (0, "CONSUMER"), (0, "CONSUMER")]
    for number, (step, wanted) in enumerate(steps):
        if isinstance(step, dict):
            readers.append(consumer(group, **step))
            readers[-1].subscribe([made])
        else:
            readers.pop(step).close()
        produce(made, [f"{number}-{n}".encode() for n in range(20)])
        sent += 20
        until(is_settled, f"even shares and all values after step {number}")
        equal(kind(), wanted, f"kind of the group after step {number}")
    for reader in readers:
        reader.close()


@job
def cooperative_members_join_and_leave():
    made, group = topic("cooperative", 6), name("cooperative")
    config = {"partition.assignment.strategy": "cooperative-sticky", "session.timeout.ms": 10000}
    readers = [consumer(group, **config) for _ in range(3)]
    for reader in readers:
        reader.subscribe([made])

    def shares():
        for reader in readers:
            reader.poll(0.05)
        return sorted(len(reader.assignment()) for reader in readers)

    until(lambda: shares() == [2, 2, 2], "two partitions each")
    readers.pop().close()
    until(lambda: shares() == [3, 3], "three partitions each")
    for reader in readers:
        reader.close()


@job
def groups_are_listed_described_altered_and_deleted():
    made, group = topic("admin"), name("admin")
    produce(made, [b"1", b"2", b"3"])
    reader = consumer(group)
    reader.subscribe([made])
    taken = take(reader, 3)
    reader.commit(taken[-1], asynchronous=False)
    described = results(ADMIN.describe_consumer_groups([group]))[group]
    equal(len(described.members), 1, "members")
    equal(described.state.name, "STABLE", "state")
    reader.close()
    listed = ADMIN.list_consumer_groups().result(PATIENCE_S)
    assert group in [g.group_id for g in listed.valid], "the group is listed"
    wanted = ConsumerGroupTopicPartitions(group, [TopicPartition(made, 0)])
    offsets = results(ADMIN.list_consumer_group_offsets([wanted]))[group]
    equal(offsets.topic_partitions[0].offset, 3, "committed offset")
    moved = ConsumerGroupTopicPartitions(group, [TopicPartition(made, 0, 1)])
    results(ADMIN.alter_consumer_group_offsets([moved]))
    again = consumer(group)
    again.subscribe([made])
    equal(take(again, 1)[0].value(), b"2", "value at the altered offset")
    again.close()
    results(ADMIN.delete_consumer_groups([group]))
    listed = ADMIN.list_consumer_groups().result(PATIENCE_S)
    assert group not in [g.group_id for g in listed.valid], "the group is gone"


@job
def records_are_deleted():
    made = topic("records")
    produce(made, [str(n).encode() for n in range(10)])
    results(ADMIN.delete_records([TopicPartition(made, 0, 4)]))
    equal(read(made, 1)[0].value(), b"4", "first value left")


@job
def too_large_is_refused():
    made = topic("large", 1, {"max.message.bytes": "1000"})
    try:
        produce(made, [b"x" * 5000])
    except AssertionError as error:
        assert "MSG_SIZE_TOO_LARGE" in str(error), error
    else:
        raise AssertionError("it was taken")


@job
def transactions_commit_and_abort():
    made = topic("txn", 2)
    producer = Producer({"bootstrap.servers": BOOTSTRAP, "transactional.id": name("txn")})
    producer.init_transactions(PATIENCE_S)
    wanted = []
    for n in range(6):
        producer.begin_transaction()
        for partition in range(2):
            producer.produce(made, f"{n}-{partition}".encode(), partition=partition)
        if n % 2:
            producer.flush(PATIENCE_S)
            producer.abort_transaction(PATIENCE_S)
        else:
            producer.commit_transaction(PATIENCE_S)
            wanted += [f"{n}-{partition}".encode() for partition in range(2)]
    committed = read(made, 6, partitions=2, **{"isolation.level": "read_committed"})
    equal(sorted(m.value() for m in committed), sorted(wanted), "committed values")
    equal(len(read(made, 12, partitions=2, **{"isolation.level": "read_uncommitted"})), 12, "all")


@job
def a_second_producer_fences_the_first():
    made, identity = topic("fence"), name("fence")
    first = Producer({"bootstrap.servers": BOOTSTRAP, "transactional.id": identity})
    first.init_transactions(PATIENCE_S)
    first.begin_transaction()
    first.produce(made, b"lost")
    first.flush(PATIENCE_S)
    second = Producer({"bootstrap.servers": BOOTSTRAP, "transactional.id": identity})
    second.init_transactions(PATIENCE_S)
    try:
        first.commit_transaction(PATIENCE_S)
    except KafkaException as error:
        equal(error.args[0].code(), KafkaError._FENCED, "code")
    else:
        raise AssertionError("the first one committed")
    second.begin_transaction()
    second.produce(made, b"kept")
    second.commit_transaction(PATIENCE_S)
    found = read(made, 1, **{"isolation.level": "read_committed"})
    equal(found[0].value(), b"kept", "the committed value")


@job
def offsets_travel_in_transactions():
    source, target, group = topic("source"), topic("target"), name("exactly-once")
    produce(source, [str(n).encode() for n in range(20)])
    producer = Producer({"bootstrap.servers": BOOTSTRAP, "transactional.id": name("eos")})
    producer.init_transactions(PATIENCE_S)
    reader = consumer(group, **{"isolation.level": "read_committed"})
    reader.subscribe([source])
    for commit in [True, False]:
        taken = take(reader, 10)
        producer.begin_transaction()
        for message in taken:
            producer.produce(target, message.value())
        positions = reader.position(reader.assignment())
        producer.send_offsets_to_transaction(positions, reader.consumer_group_metadata(), PATIENCE_S)
        if commit:
            producer.commit_transaction(PATIENCE_S)
        else:
            producer.abort_transaction(PATIENCE_S)
    reader.close()
    again = consumer(group)
    again.subscribe([source])
    equal(take(again, 1)[0].offset(), 10, "the offset that was committed")
    again.close()


if __name__ == "__main__":
    main(f"confluent-kafka with librdkafka {libversion()[0]}")
