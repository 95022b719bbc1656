// KafkaJS does its whole job. Usage: node jobs.js HOST:PORT
const { Kafka, logLevel, CompressionTypes, CompressionCodecs } = require('kafkajs');
const assert = require('node:assert/strict');
const { version } = require('kafkajs/package.json');

const bootstrap = process.argv[2] ?? '127.0.0.1:9092';
const run = `${process.pid}-${Date.now() % 100000000}`;
const name = (what) => `${what}-${run}`;
const kafka = new Kafka({ clientId: 'jobs', brokers: [bootstrap], logLevel: logLevel.NOTHING });
const patience_ms = 60000;

async function topic(what, numPartitions = 1) {
  const made = name(what);
  await using_(kafka.admin(), (admin) =>
    admin.createTopics({ topics: [{ topic: made, numPartitions }], waitForLeaders: true }));
  return made;
}

async function using_(client, work) {
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.disconnect();
  }
}

const produce = (where, values, options = {}, send = {}) =>
  using_(kafka.producer(options), (producer) =>
    producer.send({
      topic: where,
      ...send,
      messages: values.map((value, n) => ({ key: String(n), value, headers: { n: String(n) } })),
    }));

// That many messages of a topic, read by a group.
async function take(where, count, groupId = name('reader'), options = {}) {
  const taken = [];
  const reader = kafka.consumer({ groupId, ...options });
  await reader.connect();
  await reader.subscribe({ topics: [where], fromBeginning: true });
  let timer;
  await new Promise((done, failed) => {
    timer = setTimeout(() => failed(new Error(`${taken.length} of ${count} messages came`)), patience_ms);
    reader
      .run({
        eachMessage: async ({ partition, message }) => {
          taken.push({ partition, ...message });
          if (taken.length === count) done();
        },
      })
      .catch(failed);
  });
  clearTimeout(timer);
  await reader.disconnect();
  return taken;
}

const jobs = {
  async topics_live_and_die() {
    const made = await topic('life', 3);
    await using_(kafka.admin(), async (admin) => {
      const { topics } = await admin.fetchTopicMetadata({ topics: [made] });
      assert.equal(topics[0].partitions.length, 3);
      await assert.rejects(admin.createTopics({ topics: [{ topic: 'a topic' }] }));
      await admin.createPartitions({ topicPartitions: [{ topic: made, count: 5 }] });
      await admin.deleteTopics({ topics: [made] });
    });
  },
  async every_compression_that_it_has_comes_back() {
    for (const compression of [CompressionTypes.None, CompressionTypes.GZIP]) {
      const made = await topic(`codec-${compression}`);
      const values = Array.from({ length: 200 }, (_, n) => `value ${n} `.repeat(20));
      await produce(made, values, {}, { compression });
      const found = await take(made, values.length);
      assert.deepEqual(found.map((m) => m.value.toString()), values);
      assert.equal(found[7].headers.n.toString(), '7');
    }
  },
  async a_group_goes_on_where_it_stood() {
    const [made, group] = [await topic('group', 4), name('group')];
    await produce(made, Array.from({ length: 100 }, (_, n) => String(n)), { idempotent: true });
    const found = await take(made, 100, group);
    assert.deepEqual(found.map((m) => Number(m.value)).sort((a, b) => a - b), [...Array(100).keys()]);
    await produce(made, ['later']);
    assert.equal((await take(made, 1, group))[0].value.toString(), 'later');
    await using_(kafka.admin(), async (admin) => {
      const { groups } = await admin.listGroups();
      assert(groups.some((one) => one.groupId === group));
      const described = await admin.describeGroups([group]);
      assert.equal(described.groups[0].state, 'Empty');
      await admin.deleteGroups([group]);
    });
  },
  async transactions_commit_and_abort() {
    const made = await topic('txn');
    const options = { transactionalId: name('txn'), maxInFlightRequests: 1, idempotent: true };
    await using_(kafka.producer(options), async (producer) => {
      for (const n of [0, 1, 2, 3]) {
        const transaction = await producer.transaction();
        await transaction.send({ topic: made, messages: [{ value: String(n) }] });
        await (n % 2 ? transaction.abort() : transaction.commit());
      }
    });
    const committed = await take(made, 2);
    assert.deepEqual(committed.map((m) => m.value.toString()), ['0', '2']);
    assert.equal((await take(made, 4, name('all'), { readUncommitted: true })).length, 4);
  },
  async records_and_offsets_are_administered() {
    const made = await topic('records');
    await produce(made, ['0', '1', '2', '3', '4', '5']);
    await using_(kafka.admin(), async (admin) => {
      await admin.fetchTopicOffsets(made);
      await admin.deleteTopicRecords({ topic: made, partitions: [{ partition: 0, offset: '4' }] });
      const [offsets] = await admin.fetchTopicOffsets(made);
      assert.deepEqual([offsets.low, offsets.high], ['4', '6']);
    });
  },
};

(async () => {
  let failed = 0;
  for (const [number, [title, job]] of Object.entries(jobs).entries()) {
    const line = `${number + 1} - kafkajs ${version}: ${title}`;
    try {
      await job();
      console.log(`ok ${line}`);
    } catch (error) {
      failed += 1;
      console.log(`not ok ${line}\n  # ${error.name}: ${error.message}`);
    }
  }
  process.exit(failed ? 1 : 0);
})();
