import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.Collection;
import java.util.HexFormat;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;

/** What every Java program here prints, and how it learns that it shall stop. */
final class Wire {
    private static final PrintStream OUT = new PrintStream(new java.io.FileOutputStream(java.io.FileDescriptor.out), false, StandardCharsets.UTF_8);

    private Wire() {}

    private static String hexadecimal(byte[] bytes) {
        return bytes == null ? "null" : '"' + HexFormat.of().formatHex(bytes) + '"';
    }

    /** One record as one line of JSON: the form that the Rust side compares byte for byte. */
    static void dump(ConsumerRecord<byte[], byte[]> record) {
        StringBuilder headers = new StringBuilder();
        for (Header header : record.headers()) {
            headers.append(headers.isEmpty() ? "" : ",");
            headers.append("[\"").append(header.key()).append("\",").append(hexadecimal(header.value())).append(']');
        }
        OUT.print("{\"topic\":\"" + record.topic() + "\",\"partition\":" + record.partition()
            + ",\"offset\":" + record.offset() + ",\"key\":" + hexadecimal(record.key())
            + ",\"value\":" + hexadecimal(record.value()) + ",\"headers\":[" + headers
            + "],\"timestamp\":" + record.timestamp() + "}\n");
    }

    static void flush() {
        OUT.flush();
    }

    /** One line of a group member's diary: when (microseconds of the wall clock), what, and on what. */
    static synchronized void event(String kind, Object... words) {
        Instant now = Instant.now();
        StringBuilder line = new StringBuilder("@ ");
        line.append(now.getEpochSecond() * 1_000_000 + now.getNano() / 1_000).append(' ').append(kind);
        for (Object word : words) {
            line.append(' ').append(word);
        }
        OUT.print(line.append('\n'));
        OUT.flush();
    }

    static String numbers(Collection<TopicPartition> partitions) {
        String joined = partitions.stream().map(TopicPartition::partition).sorted().map(String::valueOf)
            .collect(Collectors.joining(","));
        return joined.isEmpty() ? "-" : joined;
    }

    /** True once the test has closed our stdin, or died. */
    static AtomicBoolean stopWhenStdinCloses() {
        AtomicBoolean stop = new AtomicBoolean();
        Thread watch = new Thread(() -> {
            try {
                System.in.transferTo(java.io.OutputStream.nullOutputStream());
            } catch (java.io.IOException closed) {
                // Closed is what we wait for.
            }
            stop.set(true);
        });
        watch.setDaemon(true);
        watch.start();
        return stop;
    }
}
