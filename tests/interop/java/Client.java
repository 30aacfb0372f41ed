import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Client write BOOTSTRAP SPEC TOPIC=CODEC...
 * Client read BOOTSTRAP RECORDS TOPIC...
 * Client work BOOTSTRAP GROUP TOPIC ASSIGNOR
 */
public final class Client {
    private static final Duration READ_MAX = Duration.ofSeconds(90);

    public static void main(String[] arguments) throws Exception {
        List<String> rest = Arrays.asList(arguments).subList(3, arguments.length);
        switch (arguments[0]) {
            case "write" -> write(arguments[1], Path.of(arguments[2]), rest);
            case "read" -> read(arguments[1], Integer.parseInt(arguments[2]), rest);
            case "work" -> new Worker(arguments[1], arguments[2], rest.get(0), rest.get(1)).run();
            default -> throw new IllegalArgumentException(arguments[0]);
        }
        Wire.flush();
    }

    private static byte[] bytes(JsonNode hexadecimal) {
        return hexadecimal.isNull() ? null : HexFormat.of().parseHex(hexadecimal.asText());
    }

    private static void write(String bootstrap, Path spec, List<String> targets) throws Exception {
        List<JsonNode> records = new ArrayList<>();
        ObjectMapper json = new ObjectMapper();
        for (String line : Files.readAllLines(spec)) {
            records.add(json.readTree(line));
        }
        for (String target : targets) {
            String[] parts = target.split("=");
            Map<String, Object> settings = Map.of("bootstrap.servers", bootstrap, "compression.type", parts[1],
                "linger.ms", 20);
            try (var producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
                List<Future<RecordMetadata>> sent = new ArrayList<>();
                for (JsonNode each : records) {
                    var record = new ProducerRecord<>(parts[0], each.get("partition").asInt(),
                        each.get("timestamp").asLong(), bytes(each.get("key")), bytes(each.get("value")));
                    for (JsonNode header : each.get("headers")) {
                        record.headers().add(new RecordHeader(header.get(0).asText(), bytes(header.get(1))));
                    }
                    sent.add(producer.send(record));
                }
                for (Future<RecordMetadata> each : sent) {
                    each.get();
                }
            }
        }
    }

    private static void read(String bootstrap, int wanted, List<String> topics) {
        Map<String, Object> settings = Map.of("bootstrap.servers", bootstrap, "auto.offset.reset", "none");
        try (var consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            List<TopicPartition> partitions = topics.stream().flatMap(topic -> consumer.partitionsFor(topic).stream())
                .map(each -> new TopicPartition(each.topic(), each.partition())).toList();
            consumer.assign(partitions);
            partitions.forEach(each -> consumer.seek(each, 0));
            long end = System.nanoTime() + READ_MAX.toNanos();
            int seen = 0;
            while (seen < wanted) {
                if (System.nanoTime() > end) {
                    throw new IllegalStateException("read " + seen + " of " + wanted + " records in " + READ_MAX);
                }
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(500))) {
                    seen++;
                    Wire.dump(record);
                }
            }
        }
    }

    /** A member of a group that writes its diary to stdout. */
    private static final class Worker implements ConsumerRebalanceListener {
        private final String topic;
        private final KafkaConsumer<byte[], byte[]> consumer;
        private final Map<TopicPartition, OffsetAndMetadata> done = new HashMap<>();

        Worker(String bootstrap, String group, String topic, String assignor) {
            this.topic = topic;
            Map<String, Object> settings = new HashMap<>(Map.of("bootstrap.servers", bootstrap, "group.id", group,
                "enable.auto.commit", false, "auto.offset.reset", "earliest"));
            if (assignor.equals("consumer")) {
                settings.put("group.protocol", "consumer");
            } else {
                Map<String, String> names = Map.of("range", "RangeAssignor", "roundrobin", "RoundRobinAssignor",
                    "sticky", "StickyAssignor", "cooperative-sticky", "CooperativeStickyAssignor");
                settings.put("partition.assignment.strategy", "org.apache.kafka.clients.consumer." + names.get(assignor));
                settings.put("session.timeout.ms", System.getenv().getOrDefault("CORELANE_INTEROP_SESSION_MS", "6000"));
                settings.put("heartbeat.interval.ms", 300);
            }
            consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        }

        void run() {
            AtomicBoolean stop = Wire.stopWhenStdinCloses();
            consumer.subscribe(List.of(topic), this);
            Wire.event("started");
            while (!stop.get()) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
                    Wire.event("record", record.partition(), record.offset());
                    done.put(new TopicPartition(topic, record.partition()), new OffsetAndMetadata(record.offset() + 1));
                }
                commit();
            }
            consumer.close();
            Wire.event("left");
        }

        private void commit() {
            if (done.isEmpty()) {
                return;
            }
            try {
                consumer.commitSync(done);
                done.clear();
            } catch (KafkaException refusal) {
                // Kept: a commit in the middle of a cooperative rebalance is refused, and due again after it.
                Wire.event("refused", refusal.getClass().getSimpleName());
            }
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            Wire.event("assigned", consumer.groupMetadata().generationId(), Wire.numbers(partitions));
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            commit();
            done.keySet().removeAll(partitions);
            Wire.event("revoked", consumer.groupMetadata().generationId(), Wire.numbers(partitions));
        }

        @Override
        public void onPartitionsLost(Collection<TopicPartition> partitions) {
            done.keySet().removeAll(partitions);
            Wire.event("lost", "-", Wire.numbers(partitions));
        }
    }
}
