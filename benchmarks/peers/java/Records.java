import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.EncoderFactory;

/** Payments in and results out: Confluent framing around Avro bodies, schemas from the folder that every peer reads. */
public final class Records {
  static final int HEADER_BYTES = 5;
  static final Schema PAYMENT = schema("payment");
  static final Schema ENRICHED = schema("enriched");
  static final Schema STATISTIC = schema("statistic");
  static final Schema WINDOW = schema("window");
  static final Schema VECTOR = schema("vector");

  private static final byte[] HEADER = ByteBuffer.allocate(HEADER_BYTES).put((byte) 0).putInt(Integer.parseInt(environment("OUTPUT_SCHEMA_ID"))).array();
  private static final GenericDatumReader<GenericRecord> READER = new GenericDatumReader<>(PAYMENT);
  private static final ThreadLocal<BinaryDecoder> DECODER = new ThreadLocal<>();
  private static final ThreadLocal<BinaryEncoder> ENCODER = new ThreadLocal<>();
  private static final ThreadLocal<ByteArrayOutputStream> BUFFER = ThreadLocal.withInitial(() -> new ByteArrayOutputStream(512));
  private static final java.util.Map<Schema, GenericDatumWriter<GenericRecord>> WRITERS = new java.util.IdentityHashMap<>();

  static {
    for (Schema schema : new Schema[] {ENRICHED, STATISTIC, WINDOW, VECTOR}) WRITERS.put(schema, new GenericDatumWriter<>(schema));
  }

  private Records() {}

  static String environment(String name) {
    String value = System.getenv(name);
    if (value == null) throw new IllegalStateException("expected the environment variable " + name);
    return value;
  }

  /** Strings as java.lang.String instead of Utf8: the workload looks at their content. */
  private static Schema schema(String name) {
    try {
      Schema schema = new Schema.Parser().parse(Files.readString(Path.of(environment("SCHEMAS"), name + ".avsc")));
      for (Schema.Field field : schema.getFields()) {
        if (field.schema().getType() == Schema.Type.STRING) field.schema().addProp("avro.java.string", "String");
      }
      return schema;
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  static GenericRecord decode(byte[] value) {
    try {
      BinaryDecoder decoder = DecoderFactory.get().binaryDecoder(value, HEADER_BYTES, value.length - HEADER_BYTES, DECODER.get());
      DECODER.set(decoder);
      return READER.read(null, decoder);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  static byte[] encode(GenericRecord record) {
    try {
      ByteArrayOutputStream out = BUFFER.get();
      out.reset();
      out.write(HEADER, 0, HEADER_BYTES);
      BinaryEncoder encoder = EncoderFactory.get().directBinaryEncoder(out, ENCODER.get());
      ENCODER.set(encoder);
      WRITERS.get(record.getSchema()).write(record, encoder);
      encoder.flush();
      return out.toByteArray();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  private static double dollars(String currency) {
    switch (currency) {
      case "EUR": return 1.08;
      case "GBP": return 1.27;
      case "JPY": return 0.0067;
      default: return 1.0;
    }
  }

  static GenericRecord enriched(GenericRecord payment) {
    GenericRecord record = new GenericData.Record(ENRICHED);
    for (int i = 0; i < 7; i++) record.put(i, payment.get(i));
    record.put(7, (double) payment.get(3) * dollars((String) payment.get(4)));
    return record;
  }

  static GenericRecord statistic(Object paymentId, Object accountId, long eventTime, long count, double mean) {
    GenericRecord record = new GenericData.Record(STATISTIC);
    record.put(0, paymentId);
    record.put(1, accountId);
    record.put(2, eventTime);
    record.put(3, count);
    record.put(4, mean);
    return record;
  }

  static GenericRecord window(String accountId, long start, long count, double sum) {
    GenericRecord record = new GenericData.Record(WINDOW);
    record.put(0, accountId);
    record.put(1, start);
    record.put(2, count);
    record.put(3, sum);
    return record;
  }
}
