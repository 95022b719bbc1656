"""aiokafka does its whole job."""

import asyncio

import aiokafka
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from jobs import BOOTSTRAP, PATIENCE_S, equal, job, main, name


async def topic(what, partitions=1):
    made = name(what)
    admin = AIOKafkaAdminClient(bootstrap_servers=BOOTSTRAP)
    await admin.start()
    await admin.create_topics([NewTopic(made, partitions, 1)])
    await admin.close()
    return made


async def produce(where, values, **config):
    async with AIOKafkaProducer(bootstrap_servers=BOOTSTRAP, **config) as producer:
        sent = [await producer.send(where, value, key=str(n).encode()) for n, value in enumerate(values)]
        return [await future for future in sent]


async def take(reader, count):
    taken = []
    while len(taken) < count:
        taken.append(await asyncio.wait_for(reader.getone(), PATIENCE_S))
    return taken


async def read(where, count, **config):
    reader = AIOKafkaConsumer(bootstrap_servers=BOOTSTRAP, **config)
    await reader.start()
    reader.assign([TopicPartition(where, 0)])
    await reader.seek_to_beginning()
    try:
        return await take(reader, count)
    finally:
        await reader.stop()


def run(function):
    """Makes a job of a coroutine."""

    def wrapped():
        return asyncio.run(function())

    wrapped.__name__ = function.__name__
    return job(wrapped)


@run
async def every_compression_comes_back():
    values = [f"value {n} ".encode() * 20 for n in range(300)]
    for codec in [None, "gzip", "snappy", "lz4", "zstd"]:
        made = await topic(codec or "none")
        await produce(made, values, compression_type=codec, linger_ms=20)
        equal([m.value for m in await read(made, 300)], values, f"values with {codec}")


@run
async def a_group_goes_on_where_it_stood():
    made, group = await topic("group", 4), name("group")
    await produce(made, [str(n).encode() for n in range(100)], enable_idempotence=True)
    config = {"group_id": group, "auto_offset_reset": "earliest", "enable_auto_commit": False}
    first = AIOKafkaConsumer(made, bootstrap_servers=BOOTSTRAP, **config)
    await first.start()
    equal(sorted(int(m.value) for m in await take(first, 100)), list(range(100)), "values")
    await first.commit()
    second = AIOKafkaConsumer(made, bootstrap_servers=BOOTSTRAP, **config)
    await second.start()
    await first.stop()
    await produce(made, [b"later"])
    equal([m.value for m in await take(second, 1)], [b"later"], "the rest")
    await second.stop()


@run
async def transactions_commit_and_abort():
    made, group, source = await topic("txn"), name("eos"), await topic("source")
    await produce(source, [b"in"])
    async with AIOKafkaProducer(bootstrap_servers=BOOTSTRAP, transactional_id=name("txn")) as producer:
        for n in range(4):
            await producer.begin_transaction()
            await producer.send_and_wait(made, str(n).encode())
            if n % 2:
                await producer.abort_transaction()
            else:
                await producer.send_offsets_to_transaction({TopicPartition(source, 0): n}, group)
                await producer.commit_transaction()
    committed = await read(made, 2, isolation_level="read_committed")
    equal([m.value for m in committed], [b"0", b"2"], "committed")
    reader = AIOKafkaConsumer(bootstrap_servers=BOOTSTRAP, group_id=group)
    await reader.start()
    equal(await reader.committed(TopicPartition(source, 0)), 2, "the committed offset")
    await reader.stop()


@run
async def timestamps_find_offsets():
    made = await topic("times")
    async with AIOKafkaProducer(bootstrap_servers=BOOTSTRAP) as producer:
        for n in range(5):
            await producer.send_and_wait(made, b"x", timestamp_ms=1_700_000_000_000 + n * 1000)
    reader = AIOKafkaConsumer(bootstrap_servers=BOOTSTRAP)
    await reader.start()
    where = TopicPartition(made, 0)
    found = await reader.offsets_for_times({where: 1_700_000_002_500})
    equal(found[where].offset, 3, "offset")
    equal(await reader.end_offsets([where]), {where: 5}, "end")
    await reader.stop()


if __name__ == "__main__":
    main(f"aiokafka {aiokafka.__version__}")
