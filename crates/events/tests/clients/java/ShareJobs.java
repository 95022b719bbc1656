// Share groups with the Java client, 4.1 and later. Jobs takes them in where they are compiled beside it.

import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.*;
import org.apache.kafka.common.serialization.*;

public final class ShareJobs {
    public static void add(Map<String, Jobs.Job> jobs) {
        jobs.put("a_queue_is_worked_off_together", ShareJobs::aQueueIsWorkedOffTogether);
        jobs.put("a_queue_takes_every_answer", ShareJobs::aQueueTakesEveryAnswer);
        jobs.put("a_queue_gives_up_in_the_end", ShareJobs::aQueueGivesUpInTheEnd);
        jobs.put("a_queue_is_administered", ShareJobs::aQueueIsAdministered);
    }

    static void set(String group, String... settings) throws Exception {
        var resource = new ConfigResource(ConfigResource.Type.GROUP, group);
        List<AlterConfigOp> changes = new ArrayList<>();
        for (int n = 0; n < settings.length; n += 2) {
            changes.add(new AlterConfigOp(new ConfigEntry(settings[n], settings[n + 1]), AlterConfigOp.OpType.SET));
        }
        Jobs.admin.incrementalAlterConfigs(Map.of(resource, changes)).all().get();
    }

    static String group(String what) throws Exception {
        String made = Jobs.name(what);
        set(made, "share.auto.offset.reset", "earliest");
        return made;
    }

    static KafkaShareConsumer<String, String> member(String topic, Object... more) {
        var member = new KafkaShareConsumer<>(Jobs.config(more), new StringDeserializer(), new StringDeserializer());
        member.subscribe(List.of(topic));
        return member;
    }

    /** Several members of one partition, each on a thread, and nobody gets what another had. */
    static void aQueueIsWorkedOffTogether() throws Exception {
        String made = Jobs.topic("queue", 1);
        String group = group("queue");
        Jobs.produce(made, Jobs.numbers(2000));
        Queue<String> taken = new ConcurrentLinkedQueue<>();
        Set<Integer> busy = ConcurrentHashMap.newKeySet();
        var threads = Executors.newFixedThreadPool(4);
        List<Future<?>> members = new ArrayList<>();
        for (int n = 0; n < 4; n++) {
            int own = n;
            members.add(threads.submit(() -> {
                try (var member = member(made, "group.id", group, "max.poll.records", 20)) {
                    long deadline = System.currentTimeMillis() + Jobs.PATIENCE_MS;
                    while (taken.size() < 2000 && System.currentTimeMillis() < deadline) {
                        for (var record : member.poll(Duration.ofMillis(200))) {
                            taken.add(record.value());
                            busy.add(own);
                        }
                        member.commitSync();
                    }
                }
            }));
        }
        for (var member : members) {
            member.get();
        }
        threads.shutdown();
        Jobs.equal(taken.size(), 2000, "records taken");
        Jobs.equal(new HashSet<>(taken).size(), 2000, "different records");
        Jobs.equal(busy.size() > 1, true, "more than one did something");
    }

    static void aQueueTakesEveryAnswer() throws Exception {
        String made = Jobs.topic("answers", 1);
        String group = group("answers");
        Jobs.produce(made, Jobs.numbers(4));
        Map<String, List<Short>> seen = new TreeMap<>();
        try (var member = member(made, "group.id", group, "share.acknowledgement.mode", "explicit")) {
            Jobs.until(() -> {
                for (var record : member.poll(Duration.ofMillis(200))) {
                    seen.computeIfAbsent(record.value(), none -> new ArrayList<>()).add(record.deliveryCount().get());
                    boolean first = record.deliveryCount().get() == 1;
                    member.acknowledge(record, switch (record.value()) {
                        case "1" -> first ? AcknowledgeType.RELEASE : AcknowledgeType.ACCEPT;
                        case "2" -> AcknowledgeType.REJECT;
                        default -> AcknowledgeType.ACCEPT;
                    });
                }
                for (var result : member.commitSync().values()) {
                    Jobs.equal(result, Optional.empty(), "what came of an answer");
                }
                return seen.size() == 4 && seen.get("1").size() == 2;
            }, "all four, and one of them twice");
            member.poll(Duration.ofMillis(500)).forEach(record -> {
                throw new AssertionError(record.value() + " came again");
            });
        }
        List<Short> once = List.of((short) 1);
        Jobs.equal(seen, Map.of("0", once, "1", List.of((short) 1, (short) 2), "2", once, "3", once), "deliveries");
    }

    static void aQueueGivesUpInTheEnd() throws Exception {
        String made = Jobs.topic("poison", 1);
        String group = group("poison");
        String letters = "dlq." + made;
        set(group, "share.delivery.count.limit", "2", "errors.deadletterqueue.topic.name", letters,
            "errors.deadletterqueue.copy.record.enable", "true");
        Jobs.produce(made, List.of("good", "bad"));
        int[] bad = {0};
        try (var member = member(made, "group.id", group, "share.acknowledgement.mode", "explicit")) {
            Jobs.until(() -> {
                for (var record : member.poll(Duration.ofMillis(200))) {
                    boolean good = record.value().equals("good");
                    bad[0] += good ? 0 : 1;
                    member.acknowledge(record, good ? AcknowledgeType.ACCEPT : AcknowledgeType.RELEASE);
                }
                member.commitSync();
                return bad[0] == 2;
            }, "the bad one twice");
        }
        Jobs.equal(Jobs.read(letters, 1), List.of("bad"), "dead letters");
    }

    static void aQueueIsAdministered() throws Exception {
        String made = Jobs.topic("managed", 1);
        String group = group("managed");
        var where = new TopicPartition(made, 0);
        Jobs.produce(made, Jobs.numbers(10));
        Set<String> taken = new HashSet<>();
        try (var member = member(made, "group.id", group)) {
            Jobs.until(() -> {
                member.poll(Duration.ofMillis(200)).forEach(record -> taken.add(record.value()));
                member.commitSync();
                return taken.size() == 10;
            }, "all ten");
            var described = Jobs.admin.describeShareGroups(List.of(group)).all().get().get(group);
            Jobs.equal(described.groupState(), GroupState.STABLE, "state");
            var own = described.members().iterator().next().assignment().topicPartitions();
            Jobs.equal(own, Set.of(where), "what the member has");
        }
        var listed = Jobs.admin.listGroups(ListGroupsOptions.forShareGroups()).all().get();
        Jobs.equal(listed.stream().anyMatch(one -> one.groupId().equals(group)), true, "listed");
        var spec = Map.of(group, new ListShareGroupOffsetsSpec());
        var found = Jobs.admin.listShareGroupOffsets(spec).partitionsToOffsetInfo(group).get();
        Jobs.equal(found.get(where).startOffset(), 10L, "where it is");
        Jobs.admin.alterShareGroupOffsets(group, Map.of(where, 7L)).all().get();
        Set<String> again = new TreeSet<>();
        try (var member = member(made, "group.id", group)) {
            Jobs.until(() -> {
                member.poll(Duration.ofMillis(200)).forEach(record -> again.add(record.value()));
                return again.size() >= 3;
            }, "three again");
        }
        Jobs.equal(again, Set.of("7", "8", "9"), "what came again");
        Jobs.admin.deleteShareGroupOffsets(group, Set.of(made)).all().get();
        Jobs.admin.deleteShareGroups(List.of(group)).all().get();
        try {
            Jobs.admin.describeShareGroups(List.of(group)).all().get();
            throw new AssertionError("it is still there");
        } catch (ExecutionException gone) {
            Jobs.equal(gone.getCause().getClass(), GroupIdNotFoundException.class, "error");
        }
    }
}
