import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.Properties;
import org.apache.avro.generic.GenericRecord;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;
import org.apache.kafka.streams.state.WindowStore;

/** Kafka Streams, one thread, exactly_once_v2, RocksDB stores with changelogs (the defaults). */
public final class KafkaStreamsPeer {
  private static final Serde<byte[]> BYTES = Serdes.ByteArray();
  private static final long CACHE_BYTES = 64L << 20;

  private KafkaStreamsPeer() {}

  private static <K, V> StoreBuilder<KeyValueStore<K, V>> store(String name, Serde<K> keys, Serde<V> values) {
    return Stores.keyValueStoreBuilder(Stores.persistentKeyValueStore(name), keys, values).withCachingEnabled();
  }

  /** W2. */
  private static final class Statistics implements Processor<byte[], byte[], byte[], byte[]> {
    private KeyValueStore<byte[], byte[]> store;
    private ProcessorContext<byte[], byte[]> context;

    @Override
    public void init(ProcessorContext<byte[], byte[]> given) {
      context = given;
      store = given.getStateStore("statistics");
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
      GenericRecord payment = Records.decode(record.value());
      byte[] state = store.get(record.key());
      long count = 1;
      double mean = 0;
      if (state != null) {
        ByteBuffer buffer = ByteBuffer.wrap(state);
        count = buffer.getLong() + 1;
        mean = buffer.getDouble();
      }
      mean += ((double) payment.get(3) - mean) / count;
      store.put(record.key(), ByteBuffer.allocate(16).putLong(count).putDouble(mean).array());
      context.forward(record.withValue(Records.encode(Records.statistic(payment.get(0), payment.get(1), (long) payment.get(6), count, mean))));
    }
  }

  /** W4. */
  private static final class Vectors implements Processor<byte[], byte[], byte[], byte[]> {
    private KeyValueStore<byte[], byte[]> tiles;
    private KeyValueStore<String, Integer> merchants;
    private ProcessorContext<byte[], byte[]> context;

    @Override
    public void init(ProcessorContext<byte[], byte[]> given) {
      context = given;
      tiles = given.getStateStore("tiles");
      merchants = given.getStateStore("merchants");
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
      GenericRecord payment = Records.decode(record.value());
      String account = (String) payment.get(1);
      double[] state = VectorTiles.unpack(tiles.get(record.key()));
      try {
        VectorTiles.NewestHour hours = new VectorTiles.NewestHour() {
          @Override
          public int get(String merchant) {
            Integer hour = merchants.get(account + merchant);
            return hour == null ? -1 : hour;
          }

          @Override
          public void set(String merchant, int hour) {
            merchants.put(account + merchant, hour);
          }
        };
        GenericRecord vector = VectorTiles.update(state, (String) payment.get(0), account, (String) payment.get(2), (double) payment.get(3), (long) payment.get(6), context.currentStreamTimeMs(), hours);
        tiles.put(record.key(), VectorTiles.pack(state));
        context.forward(record.withValue(Records.encode(vector)));
      } catch (Exception e) {
        throw new IllegalStateException(e);
      }
    }
  }

  /** W3: the window operator of the DSL, one update per payment (no cache in front of it). */
  private static KStream<byte[], byte[]> windows(KStream<byte[], byte[]> in) {
    Materialized<byte[], byte[], WindowStore<Bytes, byte[]>> store = Materialized.<byte[], byte[], WindowStore<Bytes, byte[]>>as("windows").withKeySerde(BYTES).withValueSerde(BYTES).withCachingDisabled();
    return in.groupByKey(Grouped.with(BYTES, BYTES))
        .windowedBy(TimeWindows.ofSizeAndGrace(Duration.ofMinutes(5), Duration.ofSeconds(60)))
        .aggregate(() -> new byte[16], (key, value, state) -> {
          ByteBuffer buffer = ByteBuffer.wrap(state);
          return ByteBuffer.allocate(16).putLong(buffer.getLong() + 1).putDouble(buffer.getDouble() + (double) Records.decode(value).get(3)).array();
        }, store)
        .toStream((key, value) -> key)
        .map((key, value) -> {
          ByteBuffer buffer = ByteBuffer.wrap(value);
          return KeyValue.pair(key.key(), Records.encode(Records.window(new String(key.key()), key.window().start(), buffer.getLong(), buffer.getDouble())));
        });
  }

  private static KStream<byte[], byte[]> topology(String workload, StreamsBuilder builder) {
    KStream<byte[], byte[]> in = builder.stream(Records.environment("INPUT"), Consumed.with(BYTES, BYTES));
    switch (workload) {
      case "W0": return in;
      case "W1": return in.mapValues(Records::decode).filter((key, payment) -> (double) payment.get(3) > 0).mapValues(payment -> Records.encode(Records.enriched(payment)));
      case "W2":
        builder.addStateStore(store("statistics", BYTES, BYTES));
        return in.process(Statistics::new, "statistics");
      case "W3": return windows(in);
      case "W4":
        builder.addStateStore(store("tiles", BYTES, BYTES));
        builder.addStateStore(store("merchants", Serdes.String(), Serdes.Integer()));
        return in.process(Vectors::new, "tiles", "merchants");
      default: throw new IllegalArgumentException("expected a workload W0 to W4, came " + workload);
    }
  }

  public static void main(String[] arguments) {
    Properties settings = new Properties();
    settings.put("application.id", Records.environment("RUN"));
    settings.put("bootstrap.servers", Records.environment("BOOTSTRAP"));
    settings.put("state.dir", Records.environment("STATE_FOLDER"));
    settings.put("num.stream.threads", "1");
    settings.put("replication.factor", "1");
    settings.put("processing.guarantee", "exactly_once_v2");
    settings.put("auto.offset.reset", "earliest");
    settings.put("statestore.cache.max.bytes", CACHE_BYTES);
    settings.put("producer.linger.ms", "5");
    settings.put("producer.batch.size", "262144");
    settings.put("producer.retry.backoff.ms", "2");
    if (System.getenv("COMMIT_INTERVAL_MS") != null) settings.put("commit.interval.ms", System.getenv("COMMIT_INTERVAL_MS"));
    StreamsBuilder builder = new StreamsBuilder();
    topology(Records.environment("WORKLOAD"), builder).to(Records.environment("OUTPUT"), Produced.with(BYTES, BYTES));
    KafkaStreams streams = new KafkaStreams(builder.build(), settings);
    streams.setUncaughtExceptionHandler(problem -> {
      problem.printStackTrace();
      return org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse.SHUTDOWN_APPLICATION;
    });
    Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(5))));
    streams.start();
  }
}
