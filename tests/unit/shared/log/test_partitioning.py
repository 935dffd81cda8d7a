import numpy as np
import pytest

from tidemill.shared.log.partitioning import murmur2_partition, partitions_of

# From Apache Kafka's own UtilsTest: what Java's murmur2 gives.
JAVA = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize("partitions", [2, 7, 12, 1000])
def test_keys_go_where_java_puts_them(partitions: int) -> None:
    expected = [(value & 0x7FFFFFFF) % partitions for value in JAVA.values()]
    assert partitions_of(list(JAVA), partitions).tolist() == expected == [murmur2_partition(key, partitions) for key in JAVA]


def test_neighbours_do_not_matter() -> None:
    rng = np.random.default_rng(7)
    keys = [rng.bytes(int(n)) for n in rng.integers(0, 20, 200)]
    assert partitions_of(keys, 6).tolist() == [int(partitions_of([key], 6)[0]) for key in keys]


def test_one_partition_takes_all() -> None:
    assert partitions_of([b"", b"x"], 1).tolist() == [0, 0]
