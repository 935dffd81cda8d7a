import java.nio.ByteBuffer;
import java.util.Arrays;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericRecord;

/**
 * W4 per account, in tiles as feature platforms keep them: 5 min = 30 x 10 s, 1 h = 30 x 2 min, 24 h = 24 x 1 h.
 *
 * Windows end at the stream time of the partition; a payment stands in the tile of its own event time. Count and sum are running (what
 * leaves is subtracted), the maximum is a scan. Distinct merchants: the newest hour of each merchant, and merchants counted by that hour.
 * State: newest event time; per window head tile, count, sum, and rings of count, sum, max; then head hour, distinct, ring of merchants.
 */
final class VectorTiles {
  private static final long[] TILE_MS = {10_000L, 120_000L, 3_600_000L};
  private static final int[] TILES = {30, 30, 24};
  private static final int[] START = new int[3];
  private static final int HOURS = 24;
  private static final long HOUR_MS = 3_600_000L;
  private static final int DISTINCT;
  static final int SIZE;

  static {
    int at = 1;
    for (int w = 0; w < 3; w++) {
      START[w] = at;
      at += 3 + 3 * TILES[w];
    }
    DISTINCT = at;
    SIZE = at + 2 + HOURS;
  }

  /** Newest hour in which the account paid a merchant; -1 when never. */
  interface NewestHour {
    int get(String merchant) throws Exception;

    void set(String merchant, int hour) throws Exception;
  }

  private VectorTiles() {}

  static double[] unpack(byte[] bytes) {
    double[] state = new double[SIZE];
    if (bytes != null) ByteBuffer.wrap(bytes).asDoubleBuffer().get(state);
    return state;
  }

  static byte[] pack(double[] state) {
    ByteBuffer bytes = ByteBuffer.allocate(8 * SIZE);
    bytes.asDoubleBuffer().put(state);
    return bytes.array();
  }

  static GenericRecord update(double[] a, String paymentId, String accountId, String merchant, double amount, long eventTime, long streamTime, NewestHour hours) throws Exception {
    GenericRecord out = new GenericData.Record(Records.VECTOR);
    out.put(0, paymentId);
    out.put(1, accountId);
    out.put(2, eventTime);
    int field = 3;
    for (int w = 0; w < 3; w++) {
      int k = TILES[w], o = START[w], counts = o + 3, sums = counts + k, maxima = sums + k;
      long head = streamTime / TILE_MS[w], tile = eventTime / TILE_MS[w], before = (long) a[o];
      if (before == 0 || head - before >= k) {
        Arrays.fill(a, o + 1, maxima + k, 0.0);
      } else {
        for (long gone = before + 1; gone <= head; gone++) {
          int i = (int) (gone % k);
          if (a[counts + i] != 0) {
            a[o + 1] -= a[counts + i];
            a[o + 2] -= a[sums + i];
            a[counts + i] = 0;
            a[sums + i] = 0;
            a[maxima + i] = 0;
          }
        }
      }
      a[o] = head;
      if (head - tile < k) {
        int i = (int) (tile % k);
        a[counts + i]++;
        a[sums + i] += amount;
        a[o + 1]++;
        a[o + 2] += amount;
        if (amount > a[maxima + i]) a[maxima + i] = amount;
      }
      double count = a[o + 1], sum = a[o + 2], maximum = 0;
      for (int i = maxima; i < maxima + k; i++) if (a[i] > maximum) maximum = a[i];
      out.put(field++, (long) count);
      out.put(field++, sum);
      out.put(field++, count != 0 ? sum / count : 0.0);
      out.put(field++, maximum);
    }
    out.put(field++, distinct(a, merchant, (int) (eventTime / HOUR_MS), (int) (streamTime / HOUR_MS), hours));
    out.put(field, a[0] != 0 ? (streamTime - a[0]) / 1000.0 : -1.0);
    if (eventTime > a[0]) a[0] = eventTime;
    return out;
  }

  private static long distinct(double[] a, String merchant, int hour, int head, NewestHour hours) throws Exception {
    int ring = DISTINCT + 2, before = (int) a[DISTINCT];
    if (before == 0 || head - before >= HOURS) {
      Arrays.fill(a, ring, ring + HOURS, 0.0);
      a[DISTINCT + 1] = 0;
    } else {
      for (int gone = before + 1; gone <= head; gone++) {
        a[DISTINCT + 1] -= a[ring + gone % HOURS];
        a[ring + gone % HOURS] = 0;
      }
    }
    a[DISTINCT] = head;
    int newest = hours.get(merchant);
    if (newest < hour) {
      if (newest >= 0 && head - newest < HOURS) {
        a[ring + newest % HOURS]--;
        a[DISTINCT + 1]--;
      }
      if (head - hour < HOURS) {
        a[ring + hour % HOURS]++;
        a[DISTINCT + 1]++;
      }
      hours.set(merchant, hour);
    }
    return (long) a[DISTINCT + 1];
  }
}
