import java.time.Duration;
import java.util.List;
import java.util.Properties;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericRecord;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.AggregateFunction;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.functions.RichMapFunction;
import org.apache.flink.api.common.serialization.AbstractDeserializationSchema;
import org.apache.flink.api.common.state.ListState;
import org.apache.flink.api.common.state.ListStateDescriptor;
import org.apache.flink.api.common.state.MapState;
import org.apache.flink.api.common.state.MapStateDescriptor;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.BasicTypeInfo;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.KafkaSourceBuilder;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.runtime.state.FunctionInitializationContext;
import org.apache.flink.runtime.state.FunctionSnapshotContext;
import org.apache.flink.streaming.api.checkpoint.CheckpointedFunction;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.datastream.KeyedStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.streaming.api.functions.windowing.ProcessWindowFunction;
import org.apache.flink.streaming.api.windowing.assigners.TumblingEventTimeWindows;
import org.apache.flink.streaming.api.windowing.triggers.CountTrigger;
import org.apache.flink.streaming.api.windowing.windows.TimeWindow;
import org.apache.flink.util.Collector;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;

/** Flink in one process, parallelism 1, exactly-once sink; STATE_BACKEND is hashmap or rocksdb. */
public final class FlinkPeer {
  private static final TypeInformation<Tuple2<byte[], byte[]>> KEY_AND_VALUE = Types.TUPLE(PrimitiveArrayTypeInfo.BYTE_PRIMITIVE_ARRAY_TYPE_INFO, PrimitiveArrayTypeInfo.BYTE_PRIMITIVE_ARRAY_TYPE_INFO);

  private FlinkPeer() {}

  /** The decoded event: a Flink POJO, so that the edge to the keyed operator uses Flink's own serializer. */
  public static class Payment {
    public String paymentId;
    public String accountId;
    public String merchantId;
    public String currency;
    public String country;
    public double amount;
    public long eventTime;
    public long streamTime;

    public Payment() {}
  }

  /** Avro to POJO. */
  public static class PaymentSchema extends AbstractDeserializationSchema<Payment> {
    @Override
    public Payment deserialize(byte[] bytes) {
      GenericRecord record = Records.decode(bytes);
      Payment payment = new Payment();
      payment.paymentId = (String) record.get(0);
      payment.accountId = (String) record.get(1);
      payment.merchantId = (String) record.get(2);
      payment.amount = (double) record.get(3);
      payment.currency = (String) record.get(4);
      payment.country = (String) record.get(5);
      payment.eventTime = (long) record.get(6);
      return payment;
    }
  }

  /** Adds the stream time of the partition: the newest event time so far, kept in operator state. */
  public static class StreamTime extends RichMapFunction<Payment, Payment> implements CheckpointedFunction {
    private transient ListState<Long> kept;
    private long newest;

    @Override
    public Payment map(Payment payment) {
      newest = Math.max(newest, payment.eventTime);
      payment.streamTime = newest;
      return payment;
    }

    @Override
    public void snapshotState(FunctionSnapshotContext context) throws Exception {
      kept.update(List.of(newest));
    }

    @Override
    public void initializeState(FunctionInitializationContext context) throws Exception {
      kept = context.getOperatorStateStore().getListState(new ListStateDescriptor<>("newest", Types.LONG));
      for (long time : kept.get()) newest = Math.max(newest, time);
    }
  }

  /** W2. */
  public static class Statistics extends KeyedProcessFunction<String, Payment, Tuple2<byte[], byte[]>> {
    private transient ValueState<Tuple2<Long, Double>> state;

    @Override
    public void open(OpenContext context) {
      state = getRuntimeContext().getState(new ValueStateDescriptor<>("statistics", Types.TUPLE(Types.LONG, Types.DOUBLE)));
    }

    @Override
    public void processElement(Payment payment, Context context, Collector<Tuple2<byte[], byte[]>> out) throws Exception {
      Tuple2<Long, Double> before = state.value();
      long count = before == null ? 1 : before.f0 + 1;
      double mean = before == null ? 0 : before.f1;
      mean += (payment.amount - mean) / count;
      state.update(Tuple2.of(count, mean));
      out.collect(result(payment.accountId, Records.statistic(payment.paymentId, payment.accountId, payment.eventTime, count, mean)));
    }
  }

  /** W4. */
  public static class Vectors extends KeyedProcessFunction<String, Payment, Tuple2<byte[], byte[]>> {
    private transient ValueState<double[]> tiles;
    private transient MapState<String, Integer> merchants;

    @Override
    public void open(OpenContext context) {
      tiles = getRuntimeContext().getState(new ValueStateDescriptor<>("tiles", PrimitiveArrayTypeInfo.DOUBLE_PRIMITIVE_ARRAY_TYPE_INFO));
      merchants = getRuntimeContext().getMapState(new MapStateDescriptor<>("merchants", BasicTypeInfo.STRING_TYPE_INFO, BasicTypeInfo.INT_TYPE_INFO));
    }

    @Override
    public void processElement(Payment payment, Context context, Collector<Tuple2<byte[], byte[]>> out) throws Exception {
      double[] state = tiles.value();
      if (state == null) state = new double[VectorTiles.SIZE];
      VectorTiles.NewestHour hours = new VectorTiles.NewestHour() {
        @Override
        public int get(String merchant) throws Exception {
          Integer hour = merchants.get(merchant);
          return hour == null ? -1 : hour;
        }

        @Override
        public void set(String merchant, int hour) throws Exception {
          merchants.put(merchant, hour);
        }
      };
      GenericRecord vector = VectorTiles.update(state, payment.paymentId, payment.accountId, payment.merchantId, payment.amount, payment.eventTime, payment.streamTime, hours);
      tiles.update(state);
      out.collect(result(payment.accountId, vector));
    }
  }

  /** W3. */
  public static class CountAndSum implements AggregateFunction<Payment, Tuple2<Long, Double>, Tuple2<Long, Double>> {
    @Override
    public Tuple2<Long, Double> createAccumulator() {
      return Tuple2.of(0L, 0.0);
    }

    @Override
    public Tuple2<Long, Double> add(Payment payment, Tuple2<Long, Double> before) {
      return Tuple2.of(before.f0 + 1, before.f1 + payment.amount);
    }

    @Override
    public Tuple2<Long, Double> getResult(Tuple2<Long, Double> state) {
      return state;
    }

    @Override
    public Tuple2<Long, Double> merge(Tuple2<Long, Double> one, Tuple2<Long, Double> other) {
      return Tuple2.of(one.f0 + other.f0, one.f1 + other.f1);
    }
  }

  /** W3: one result per payment; the operator clears the window when its time is over. */
  public static class WindowResult extends ProcessWindowFunction<Tuple2<Long, Double>, Tuple2<byte[], byte[]>, String, TimeWindow> {
    @Override
    public void process(String account, Context context, Iterable<Tuple2<Long, Double>> states, Collector<Tuple2<byte[], byte[]>> out) {
      Tuple2<Long, Double> state = states.iterator().next();
      out.collect(result(account, Records.window(account, context.window().getStart(), state.f0, state.f1)));
    }
  }

  /** Key and value to the output topic. */
  public static class ResultSchema implements KafkaRecordSerializationSchema<Tuple2<byte[], byte[]>> {
    private final String topic;

    ResultSchema(String topic) {
      this.topic = topic;
    }

    @Override
    public ProducerRecord<byte[], byte[]> serialize(Tuple2<byte[], byte[]> result, KafkaSinkContext context, Long timestamp) {
      return new ProducerRecord<>(topic, result.f0, result.f1);
    }
  }

  /** W0. */
  public static class RawSchema implements KafkaRecordDeserializationSchema<Tuple2<byte[], byte[]>> {
    @Override
    public void deserialize(ConsumerRecord<byte[], byte[]> record, Collector<Tuple2<byte[], byte[]>> out) {
      out.collect(Tuple2.of(record.key(), record.value()));
    }

    @Override
    public TypeInformation<Tuple2<byte[], byte[]>> getProducedType() {
      return KEY_AND_VALUE;
    }
  }

  private static Tuple2<byte[], byte[]> result(String key, GenericRecord record) {
    return Tuple2.of(key.getBytes(), Records.encode(record));
  }

  private static Tuple2<byte[], byte[]> enriched(Payment payment) {
    GenericRecord record = new GenericData.Record(Records.PAYMENT);
    Object[] fields = {payment.paymentId, payment.accountId, payment.merchantId, payment.amount, payment.currency, payment.country, payment.eventTime};
    for (int i = 0; i < fields.length; i++) record.put(i, fields[i]);
    return result(payment.accountId, Records.enriched(record));
  }

  private static <T> KafkaSourceBuilder<T> source() {
    return KafkaSource.<T>builder().setBootstrapServers(Records.environment("BOOTSTRAP")).setTopics(Records.environment("INPUT")).setGroupId(Records.environment("RUN")).setStartingOffsets(OffsetsInitializer.earliest());
  }

  private static DataStream<Tuple2<byte[], byte[]>> job(String workload, StreamExecutionEnvironment flink) {
    if (workload.equals("W0")) return flink.fromSource(FlinkPeer.<Tuple2<byte[], byte[]>>source().setDeserializer(new RawSchema()).build(), WatermarkStrategy.noWatermarks(), "payments");
    WatermarkStrategy<Payment> watermarks = WatermarkStrategy.noWatermarks();
    if (workload.equals("W3")) watermarks = WatermarkStrategy.<Payment>forBoundedOutOfOrderness(Duration.ofSeconds(60)).withTimestampAssigner((payment, time) -> payment.eventTime);
    DataStream<Payment> payments = flink.fromSource(FlinkPeer.<Payment>source().setValueOnlyDeserializer(new PaymentSchema()).build(), watermarks, "payments");
    if (workload.equals("W1")) return payments.filter(payment -> payment.amount > 0).map(FlinkPeer::enriched).returns(KEY_AND_VALUE);
    if (workload.equals("W4")) payments = payments.map(new StreamTime());
    KeyedStream<Payment, String> accounts = payments.keyBy(payment -> payment.accountId);
    switch (workload) {
      case "W2": return accounts.process(new Statistics()).returns(KEY_AND_VALUE);
      case "W3": return accounts.window(TumblingEventTimeWindows.of(Duration.ofMinutes(5))).trigger(CountTrigger.of(1)).aggregate(new CountAndSum(), new WindowResult()).returns(KEY_AND_VALUE);
      case "W4": return accounts.process(new Vectors()).returns(KEY_AND_VALUE);
      default: throw new IllegalArgumentException("expected a workload W0 to W4, came " + workload);
    }
  }

  public static void main(String[] arguments) throws Exception {
    String state = Records.environment("STATE_FOLDER");
    boolean rocks = Records.environment("STATE_BACKEND").equals("rocksdb");
    String interval = System.getenv("COMMIT_INTERVAL_MS");
    Configuration settings = new Configuration();
    settings.setString("state.backend.type", rocks ? "rocksdb" : "hashmap");
    settings.setString("execution.checkpointing.incremental", String.valueOf(rocks));
    settings.setString("execution.checkpointing.dir", "file://" + state + "/checkpoints");
    settings.setString("execution.checkpointing.interval", interval == null ? "1 s" : interval + " ms");
    settings.setString("io.tmp.dirs", state);
    settings.setString("taskmanager.memory.managed.size", "512m");
    settings.setString("execution.buffer-timeout.interval", "10 ms");
    StreamExecutionEnvironment flink = StreamExecutionEnvironment.createLocalEnvironment(1, settings);
    Properties producer = new Properties();
    producer.put("linger.ms", "5");
    producer.put("batch.size", "262144");
    producer.put("transaction.timeout.ms", "600000");
    producer.put("retry.backoff.ms", "2");
    job(Records.environment("WORKLOAD"), flink).sinkTo(
        KafkaSink.<Tuple2<byte[], byte[]>>builder()
            .setBootstrapServers(Records.environment("BOOTSTRAP"))
            .setRecordSerializer(new ResultSchema(Records.environment("OUTPUT")))
            .setKafkaProducerConfig(producer)
            .setDeliveryGuarantee(DeliveryGuarantee.EXACTLY_ONCE)
            .setTransactionalIdPrefix(Records.environment("RUN"))
            .build());
    flink.execute(Records.environment("RUN"));
  }
}
