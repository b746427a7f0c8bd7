package org.example.callbacks;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.example.callbacks.schema.ComparisonResultEvent;
import org.example.callbacks.schema.Converter;
import org.example.callbacks.schema.LLMComparisonResultV1;

/**
 * Reads a callback topic: each answer once on stdout as a line of JSON, and in words on stderr.
 *
 * <p>Arguments: bootstrap servers, topic, group, and after how many answers to end (without it: never).
 */
public final class CallbackReader {
    private static final String EVENT_TYPE = "llm_provider.comparison_result";
    private static final int REMEMBERED = 100_000;

    /** Which events were taken already: one may be delivered again, and is the same to the byte then. */
    private final Map<String, Boolean> taken = new LinkedHashMap<>() {
        @Override
        protected boolean removeEldestEntry(Map.Entry<String, Boolean> eldest) {
            return size() > REMEMBERED;
        }
    };

    public static void main(String[] arguments) {
        if (arguments.length < 3 || arguments.length > 4) {
            System.err.println("Say where to read: BOOTSTRAP_SERVERS TOPIC GROUP [COUNT].");
            System.exit(2);
        }
        long count = arguments.length == 4 ? Long.parseLong(arguments[3]) : Long.MAX_VALUE;
        new CallbackReader().read(arguments[0], arguments[1], arguments[2], count);
    }

    private void read(String bootstrapServers, String topic, String group, long count) {
        try (KafkaConsumer<String, byte[]> consumer = open(bootstrapServers, group)) {
            consumer.subscribe(List.of(topic));
            for (long seen = 0; seen < count; ) {
                for (ConsumerRecord<String, byte[]> record : consumer.poll(Duration.ofSeconds(1))) {
                    seen += take(record) ? 1 : 0;
                }
                // Only now: what was polled and not taken comes again after a crash.
                consumer.commitSync();
            }
        }
    }

    private static KafkaConsumer<String, byte[]> open(String bootstrapServers, String group) {
        Properties settings = new Properties();
        settings.put(ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrapServers);
        settings.put(ConsumerConfig.GROUP_ID_CONFIG, group);
        settings.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
        settings.put(ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, "false");
        return new KafkaConsumer<>(settings, new StringDeserializer(), new ByteArrayDeserializer());
    }

    /** Whether the record held an answer that was not taken before. */
    private boolean take(ConsumerRecord<String, byte[]> record) {
        if (!EVENT_TYPE.equals(header(record, "event_type"))) {
            return false; // somebody else's, or a kind of event that came later
        }
        if (header(record, "run_id") != null) {
            return false; // simulated traffic
        }
        if (taken.put(header(record, "event_id"), true) != null) {
            return false;
        }
        try {
            ComparisonResultEvent event =
                    Converter.fromJsonString(new String(record.value(), StandardCharsets.UTF_8));
            System.err.println(describe(event.getData()));
            System.out.println(Converter.toJsonString(event));
            return true;
        } catch (IOException problem) {
            System.err.printf("Record %d-%d cannot be read: %s%n",
                    record.partition(), record.offset(), problem.getMessage());
            return false;
        }
    }

    private static String describe(LLMComparisonResultV1 result) {
        if (result.getErrorDetail() != null) {
            return result.getRequestID() + ": failed with " + result.getErrorDetail().getErrorCode().toValue();
        }
        return result.getRequestID() + ": " + result.getWinner().toValue() + " won, confidence "
                + result.getConfidence() + ", " + result.getTokenUsage().getTotalTokens() + " tokens";
    }

    private static String header(ConsumerRecord<String, byte[]> record, String name) {
        Header header = record.headers().lastHeader(name);
        return header == null ? null : new String(header.value(), StandardCharsets.UTF_8);
    }
}
