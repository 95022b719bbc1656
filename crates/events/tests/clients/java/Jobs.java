// The Java clients do their whole job. Usage: java -cp … Jobs HOST:PORT [JOB …]; share groups (ShareJobs) only
// where that is compiled beside it.

import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.stream.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.*;
import org.apache.kafka.common.serialization.*;
import org.apache.kafka.common.utils.AppInfoParser;

public final class Jobs {
    interface Job {
        void run() throws Exception;
    }

    static final String RUN = ProcessHandle.current().pid() + "-" + System.currentTimeMillis() % 100_000_000;
    static final long PATIENCE_MS = 60_000;
    static String bootstrap = "127.0.0.1:9092";
    static Admin admin;

    static String name(String what) {
        return what + "-" + RUN;
    }

    static void equal(Object got, Object wanted, String what) {
        if (!Objects.equals(got, wanted)) {
            throw new AssertionError(what + ": got " + got + ", wanted " + wanted);
        }
    }

    static void until(Callable<Boolean> condition, String what) throws Exception {
        long deadline = System.currentTimeMillis() + PATIENCE_MS;
        while (!condition.call()) {
            if (System.currentTimeMillis() > deadline) {
                throw new AssertionError("waited for " + what);
            }
            Thread.sleep(20);
        }
    }

    static Map<String, Object> config(Object... more) {
        Map<String, Object> config = new HashMap<>();
        config.put("bootstrap.servers", bootstrap);
        for (int n = 0; n < more.length; n += 2) {
            config.put((String) more[n], more[n + 1]);
        }
        return config;
    }

    static String topic(String what, int partitions) throws Exception {
        String made = name(what);
        admin.createTopics(List.of(new NewTopic(made, partitions, (short) 1))).all().get();
        return made;
    }

    static KafkaProducer<String, String> producer(Object... more) {
        return new KafkaProducer<>(config(more), new StringSerializer(), new StringSerializer());
    }

    static KafkaConsumer<String, String> consumer(Object... more) {
        Map<String, Object> config = config("auto.offset.reset", "earliest", "enable.auto.commit", false);
        config.putAll(config(more));
        return new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer());
    }

    static void produce(String topic, List<String> values, Object... more) throws Exception {
        try (var producer = producer(more)) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (int n = 0; n < values.size(); n++) {
                sent.add(producer.send(new ProducerRecord<>(topic, Integer.toString(n), values.get(n))));
            }
            producer.flush();
            for (var one : sent) {
                one.get();
            }
        }
    }

    static List<String> numbers(int count) {
        return IntStream.range(0, count).mapToObj(Integer::toString).collect(Collectors.toList());
    }

    static List<String> take(Consumer<String, String> reader, int count) throws Exception {
        List<String> taken = new ArrayList<>();
        until(() -> {
            reader.poll(Duration.ofMillis(200)).forEach(record -> taken.add(record.value()));
            return taken.size() >= count;
        }, count + " records");
        return taken;
    }

    static List<String> read(String topic, int count, Object... more) throws Exception {
        try (var reader = consumer(more)) {
            var own = List.of(new TopicPartition(topic, 0));
            reader.assign(own);
            reader.seekToBeginning(own);
            return take(reader, count);
        }
    }

    static void topicsLiveAndDie() throws Exception {
        String made = topic("life", 3);
        equal(admin.describeTopics(List.of(made)).allTopicNames().get().get(made).partitions().size(), 3, "partitions");
        try {
            topic("life", 1);
            throw new AssertionError("it was made twice");
        } catch (ExecutionException error) {
            equal(error.getCause().getClass(), TopicExistsException.class, "error");
        }
        admin.createPartitions(Map.of(made, NewPartitions.increaseTo(5))).all().get();
        var resource = new ConfigResource(ConfigResource.Type.TOPIC, made);
        var change = new AlterConfigOp(new ConfigEntry("retention.ms", "777000"), AlterConfigOp.OpType.SET);
        admin.incrementalAlterConfigs(Map.of(resource, List.of(change))).all().get();
        until(() -> admin.describeConfigs(List.of(resource)).all().get().get(resource).get("retention.ms").value()
            .equals("777000"), "the altered configuration");
        admin.deleteTopics(List.of(made)).all().get();
        until(() -> !admin.listTopics().names().get().contains(made), "the topic to go");
    }

    static void everyCompressionComesBack() throws Exception {
        List<String> values = numbers(300).stream().map(n -> ("value " + n + " ").repeat(20)).toList();
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            String made = topic("codec-" + codec, 1);
            produce(made, values, "compression.type", codec, "linger.ms", 20);
            equal(read(made, values.size()), values, "values with " + codec);
        }
    }

    static void groupShares(String protocol) throws Exception {
        String made = topic("group-" + protocol, 4);
        Object[] config = {"group.id", name("group-" + protocol), "group.protocol", protocol};
        produce(made, numbers(200));
        Set<String> taken = new HashSet<>();
        try (var first = consumer(config); var second = consumer(config)) {
            first.subscribe(List.of(made));
            second.subscribe(List.of(made));
            until(() -> {
                for (var reader : List.of(first, second)) {
                    reader.poll(Duration.ofMillis(50)).forEach(record -> taken.add(record.value()));
                    try {
                        reader.commitSync();
                    } catch (CommitFailedException | RebalanceInProgressException rebalance) {
                        // The members change places while this waits.
                    }
                }
                return taken.size() == 200 && first.assignment().size() == 2 && second.assignment().size() == 2;
            }, "200 values and two partitions each");
        }
        produce(made, List.of("later"));
        try (var third = consumer(config)) {
            third.subscribe(List.of(made));
            equal(take(third, 1), List.of("later"), "the rest");
        }
    }

    static void aClassicGroupGoesOn() throws Exception {
        groupShares("classic");
    }

    static void aConsumerGroupGoesOn() throws Exception {
        groupShares("consumer");
    }

    /** Members of both protocols share a group, whoever came first, and nothing is lost as they change. */
    static void aGroupChangesItsProtocolInUse(String... assignors) throws Exception {
        String made = topic("change-" + assignors[0], 4);
        String group = name("change-" + assignors[0]);
        Object[] classic = {"group.id", group, "group.protocol", "classic",
            "partition.assignment.strategy", List.of(assignors)};
        Object[] told = {"group.id", group, "group.protocol", "consumer"};
        Set<String> taken = new HashSet<>();
        int sent = 0;
        List<KafkaConsumer<String, String>> readers = new ArrayList<>();
        // Who is there: the two protocols take turns in coming and going.
        for (String step : List.of("+classic", "+consumer", "+classic", "-0", "-1", "+classic", "-0", "-0", "+consumer")) {
            if (step.startsWith("+")) {
                readers.add(consumer(step.equals("+classic") ? classic : told));
                readers.get(readers.size() - 1).subscribe(List.of(made));
            } else {
                readers.remove(Integer.parseInt(step.substring(1))).close();
            }
            if (readers.isEmpty()) {
                continue;
            }
            List<String> values = IntStream.range(sent, sent += 40).mapToObj(Integer::toString).toList();
            produce(made, values);
            int all = sent;
            until(() -> {
                for (var reader : readers) {
                    reader.poll(Duration.ofMillis(20)).forEach(record -> taken.add(record.value()));
                    try {
                        reader.commitSync();
                    } catch (CommitFailedException | RebalanceInProgressException rebalance) {
                        // The members change places while this waits.
                    }
                }
                Set<TopicPartition> owned = new HashSet<>();
                readers.forEach(reader -> owned.addAll(reader.assignment()));
                int most = readers.stream().mapToInt(reader -> reader.assignment().size()).max().getAsInt();
                int least = readers.stream().mapToInt(reader -> reader.assignment().size()).min().getAsInt();
                int together = readers.stream().mapToInt(reader -> reader.assignment().size()).sum();
                return taken.size() == all && owned.size() == 4 && together == 4 && most - least <= 1;
            }, all + " values and even shares after " + step);
        }
        readers.forEach(KafkaConsumer::close);
    }

    static void anEagerGroupChangesItsProtocolInUse() throws Exception {
        aGroupChangesItsProtocolInUse("org.apache.kafka.clients.consumer.RangeAssignor");
    }

    static void aCooperativeGroupChangesItsProtocolInUse() throws Exception {
        aGroupChangesItsProtocolInUse("org.apache.kafka.clients.consumer.CooperativeStickyAssignor");
    }

    static void transactionsCommitAndAbort() throws Exception {
        String made = topic("txn", 1);
        try (var producer = producer("transactional.id", name("txn"))) {
            producer.initTransactions();
            for (int n = 0; n < 4; n++) {
                producer.beginTransaction();
                producer.send(new ProducerRecord<>(made, Integer.toString(n))).get();
                if (n % 2 == 0) {
                    producer.commitTransaction();
                } else {
                    producer.abortTransaction();
                }
            }
        }
        equal(read(made, 2, "isolation.level", "read_committed"), List.of("0", "2"), "committed");
        equal(read(made, 4), numbers(4), "all");
    }

    static void offsetsTravelInTransactions() throws Exception {
        String source = topic("source", 1);
        String target = topic("target", 1);
        String group = name("eos");
        produce(source, numbers(10));
        try (var producer = producer("transactional.id", name("eos"));
             var reader = consumer("group.id", group, "isolation.level", "read_committed", "max.poll.records", 5)) {
            producer.initTransactions();
            reader.subscribe(List.of(source));
            for (boolean commit : List.of(true, false)) {
                List<String> taken = take(reader, 5);
                producer.beginTransaction();
                taken.forEach(value -> producer.send(new ProducerRecord<>(target, value)));
                var where = new TopicPartition(source, 0);
                var offsets = Map.of(where, new OffsetAndMetadata(reader.position(where)));
                producer.sendOffsetsToTransaction(offsets, reader.groupMetadata());
                if (commit) {
                    producer.commitTransaction();
                } else {
                    producer.abortTransaction();
                }
            }
        }
        var offsets = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
        equal(offsets.get(new TopicPartition(source, 0)).offset(), 5L, "the committed offset");
        equal(read(target, 5, "isolation.level", "read_committed"), numbers(5), "moved values");
    }

    static void aSecondProducerFencesTheFirst() throws Exception {
        String made = topic("fence", 1);
        try (var first = producer("transactional.id", name("fence"));
             var second = producer("transactional.id", name("fence"))) {
            first.initTransactions();
            first.beginTransaction();
            first.send(new ProducerRecord<>(made, "lost")).get();
            second.initTransactions();
            try {
                first.commitTransaction();
                throw new AssertionError("the first one committed");
            } catch (ProducerFencedException | InvalidProducerEpochException expected) {
                // As it should be.
            }
            second.beginTransaction();
            second.send(new ProducerRecord<>(made, "kept")).get();
            second.commitTransaction();
        }
        equal(read(made, 1, "isolation.level", "read_committed"), List.of("kept"), "committed");
    }

    static void groupsAreAdministered() throws Exception {
        String made = topic("admin", 1);
        String group = name("admin");
        var where = new TopicPartition(made, 0);
        produce(made, numbers(3));
        try (var reader = consumer("group.id", group)) {
            reader.subscribe(List.of(made));
            take(reader, 3);
            reader.commitSync();
            var described = admin.describeConsumerGroups(List.of(group)).all().get().get(group);
            equal(described.members().size(), 1, "members");
        }
        until(() -> admin.describeConsumerGroups(List.of(group)).all().get().get(group).members().isEmpty(), "nobody");
        admin.alterConsumerGroupOffsets(group, Map.of(where, new OffsetAndMetadata(1))).all().get();
        try (var reader = consumer("group.id", group)) {
            reader.subscribe(List.of(made));
            equal(take(reader, 2), List.of("1", "2"), "after the altered offset");
        }
        admin.deleteConsumerGroupOffsets(group, Set.of(where)).all().get();
        admin.deleteConsumerGroups(List.of(group)).all().get();
        equal(admin.listConsumerGroups().all().get().stream().anyMatch(g -> g.groupId().equals(group)), false, "there");
    }

    static void recordsAreDeletedAndFoundByTime() throws Exception {
        String made = topic("records", 1);
        var where = new TopicPartition(made, 0);
        try (var producer = producer()) {
            for (int n = 0; n < 10; n++) {
                producer.send(new ProducerRecord<>(made, 0, 1_700_000_000_000L + n * 1000L, null, "" + n)).get();
            }
        }
        var specs = Map.of(
            "time", OffsetSpec.forTimestamp(1_700_000_004_500L), "max", OffsetSpec.maxTimestamp(),
            "latest", OffsetSpec.latest(), "earliest", OffsetSpec.earliest());
        var wanted = Map.of("time", 5L, "max", 9L, "latest", 10L, "earliest", 0L);
        for (var spec : specs.entrySet()) {
            var found = admin.listOffsets(Map.of(where, spec.getValue())).partitionResult(where).get().offset();
            equal(found, wanted.get(spec.getKey()), spec.getKey());
        }
        admin.deleteRecords(Map.of(where, RecordsToDelete.beforeOffset(4))).all().get();
        equal(read(made, 6).get(0), "4", "the first value left");
    }

    static void theClusterIsDescribed() throws Exception {
        var cluster = admin.describeCluster();
        equal(cluster.nodes().get().size(), 1, "nodes");
        int node = cluster.controller().get().id();
        var logs = admin.describeLogDirs(List.of(node)).allDescriptions().get();
        equal(logs.get(node).isEmpty(), false, "no log folder");
        var resource = new ConfigResource(ConfigResource.Type.BROKER, Integer.toString(node));
        equal(admin.describeConfigs(List.of(resource)).all().get().get(resource).entries().isEmpty(), false, "no config");
        admin.describeFeatures().featureMetadata().get();
        admin.listTransactions().all().get();
    }

    public static void main(String[] arguments) throws Exception {
        if (arguments.length > 0) {
            bootstrap = arguments[0];
        }
        admin = Admin.create(config("client.id", "jobs"));
        Map<String, Job> jobs = new LinkedHashMap<>();
        jobs.put("topics_live_and_die", Jobs::topicsLiveAndDie);
        jobs.put("every_compression_comes_back", Jobs::everyCompressionComesBack);
        jobs.put("a_classic_group_goes_on", Jobs::aClassicGroupGoesOn);
        if (!AppInfoParser.getVersion().startsWith("3.")) {
            jobs.put("a_consumer_group_goes_on", Jobs::aConsumerGroupGoesOn);
            jobs.put("an_eager_group_changes_its_protocol_in_use", Jobs::anEagerGroupChangesItsProtocolInUse);
            jobs.put("a_cooperative_group_changes_its_protocol_in_use", Jobs::aCooperativeGroupChangesItsProtocolInUse);
        }
        jobs.put("transactions_commit_and_abort", Jobs::transactionsCommitAndAbort);
        jobs.put("offsets_travel_in_transactions", Jobs::offsetsTravelInTransactions);
        jobs.put("a_second_producer_fences_the_first", Jobs::aSecondProducerFencesTheFirst);
        jobs.put("groups_are_administered", Jobs::groupsAreAdministered);
        jobs.put("records_are_deleted_and_found_by_time", Jobs::recordsAreDeletedAndFoundByTime);
        jobs.put("the_cluster_is_described", Jobs::theClusterIsDescribed);
        try {
            Class.forName("ShareJobs").getMethod("add", Map.class).invoke(null, jobs);
        } catch (ClassNotFoundException none) {
            // An older client.
        }
        int number = 0;
        boolean failed = false;
        var wanted = Arrays.asList(arguments).subList(Math.min(1, arguments.length), arguments.length);
        for (var job : jobs.entrySet()) {
            number++;
            if (!wanted.isEmpty() && !wanted.contains(job.getKey())) {
                continue;
            }
            String line = number + " - Java " + AppInfoParser.getVersion() + ": " + job.getKey();
            try {
                job.getValue().run();
                System.out.println("ok " + line);
            } catch (Throwable error) {
                failed = true;
                System.out.println("not ok " + line + "\n  # " + error);
            }
        }
        admin.close(Duration.ofSeconds(5));
        System.exit(failed ? 1 : 0);
    }
}
