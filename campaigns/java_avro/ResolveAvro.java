import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import org.apache.avro.Schema;
import org.apache.avro.SchemaCompatibility;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.EncoderFactory;

/**
 * What Java's Avro makes of records of a writer's schema when they are read with a reader's. A line of input: the writer's schema, the reader's, and
 * records, in base64, separated by blanks. A line of output: whether it calls the schemas compatible, and for each record "=" and the same record in
 * the reader's schema, or "!" and the error, in base64.
 */
public final class ResolveAvro {
  private static final Base64.Decoder FROM = Base64.getDecoder();
  private static final Base64.Encoder TO = Base64.getEncoder();

  public static void main(String[] arguments) throws Exception {
    BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII), 1 << 16);
    PrintStream output = new PrintStream(System.out, false, StandardCharsets.US_ASCII);
    for (String line = input.readLine(); line != null; line = input.readLine()) {
      output.println(answer(line.split(" ")));
    }
    output.flush();
  }

  private static String answer(String[] words) {
    Schema writer;
    Schema reader;
    try {
      writer = new Schema.Parser().parse(text(words[0]));
      reader = new Schema.Parser().parse(text(words[1]));
    } catch (RuntimeException error) {
      return "unreadable " + failure(error);
    }
    StringBuilder answer = new StringBuilder(
        SchemaCompatibility.checkReaderWriterCompatibility(reader, writer).getType().toString());
    GenericDatumReader<Object> resolving = new GenericDatumReader<>(writer, reader);
    for (int i = 2; i < words.length; i++) {
      answer.append(' ').append(read(resolving, reader, FROM.decode(words[i])));
    }
    return answer.toString();
  }

  private static String read(GenericDatumReader<Object> resolving, Schema reader, byte[] record) {
    try {
      BinaryDecoder decoder = DecoderFactory.get().binaryDecoder(record, null);
      Object value = resolving.read(null, decoder);
      if (!decoder.isEnd()) {
        return "!" + TO.encodeToString("bytes after the record".getBytes(StandardCharsets.UTF_8));
      }
      ByteArrayOutputStream bytes = new ByteArrayOutputStream();
      BinaryEncoder encoder = EncoderFactory.get().binaryEncoder(bytes, null);
      new GenericDatumWriter<Object>(reader).write(value, encoder);
      encoder.flush();
      return "=" + TO.encodeToString(bytes.toByteArray());
    } catch (Exception error) {
      return failure(error);
    }
  }

  private static String failure(Exception error) {
    return "!" + TO.encodeToString(String.valueOf(error).getBytes(StandardCharsets.UTF_8));
  }

  private static String text(String word) {
    return new String(FROM.decode(word), StandardCharsets.UTF_8);
  }
}
