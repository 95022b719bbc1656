// Members of a share group that work off a topic and answer for each message, one in a hundred with a
// release when it comes first. Usage: ShareLoad BROKER TOPIC GROUP MEMBERS MESSAGES; prints a line of JSON.

import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.*;

public final class ShareLoad {
    static final long PATIENCE_NS = 300_000_000_000L;

    public static void main(String[] arguments) throws Exception {
        String broker = arguments[0];
        String topic = arguments[1];
        String group = arguments[2];
        int members = Integer.parseInt(arguments[3]);
        long messages = Long.parseLong(arguments[4]);
        try (var admin = Admin.create(Map.of("bootstrap.servers", broker))) {
            var earliest = new ConfigEntry("share.auto.offset.reset", "earliest");
            var resource = new ConfigResource(ConfigResource.Type.GROUP, group);
            var change = new AlterConfigOp(earliest, AlterConfigOp.OpType.SET);
            admin.incrementalAlterConfigs(Map.of(resource, List.of(change))).all().get();
        }
        AtomicLong accepted = new AtomicLong();
        AtomicLong released = new AtomicLong();
        AtomicLong first = new AtomicLong();
        AtomicLong last = new AtomicLong();
        var threads = Executors.newFixedThreadPool(members);
        long began = System.nanoTime();
        List<Future<?>> all = new ArrayList<>();
        for (int n = 0; n < members; n++) {
            all.add(threads.submit(() -> {
                Map<String, Object> config = Map.of("bootstrap.servers", broker, "group.id", group,
                    "share.acknowledgement.mode", "explicit", "max.poll.records", 100);
                var bytes = new ByteArrayDeserializer();
                try (var member = new KafkaShareConsumer<>(config, bytes, bytes)) {
                    member.subscribe(List.of(topic));
                    while (accepted.get() < messages && System.nanoTime() - began < PATIENCE_NS) {
                        for (var record : member.poll(Duration.ofMillis(200))) {
                            first.compareAndSet(0, System.nanoTime());
                            boolean release = record.offset() % 100 == 7 && record.deliveryCount().get() == 1;
                            member.acknowledge(record, release ? AcknowledgeType.RELEASE : AcknowledgeType.ACCEPT);
                            (release ? released : accepted).incrementAndGet();
                        }
                        member.commitSync();
                        last.set(System.nanoTime());
                    }
                }
            }));
        }
        for (var one : all) {
            one.get();
        }
        threads.shutdown();
        double seconds = (last.get() - first.get()) / 1e9;
        System.out.printf(Locale.ROOT, "{\"accepted\": %d, \"released\": %d, \"seconds\": %.3f, \"per_second\": %.1f}%n",
            accepted.get(), released.get(), seconds, accepted.get() / seconds);
        System.exit(0);
    }
}
