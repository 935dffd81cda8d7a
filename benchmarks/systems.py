"""The systems that are compared: how each is started, what it guarantees, and how many events it is given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

WORKLOADS = ("W0", "W1", "W2", "W3", "W4", "W5", "W6")
RESULT_SCHEMAS = {"W0": "payment", "W1": "enriched", "W2": "statistic", "W3": "window", "W4": "vector"}
# Tidemill's default time between commits (RunnerSettings.commit_interval_ms).
COMMIT_INTERVAL_MS = 10


@dataclass(frozen=True, slots=True)
class System:
    """One row of the table.

    Attributes
    ----------
    environment_name
        Whose program it is: `pass_through`, `quix`, `faust`, `kafka-streams`, `flink`.
    guarantee
        What the table says of it.
    commit_interval_ms
        None: its own default, which `usual_interval` names.
    events
        Input events of a run at full speed; a slow system gets fewer.
    variables
        What its program finds in the environment beyond the addresses.
    rounds
        Of the interleaved runs, so many at most.
    """

    name: str
    environment_name: str
    guarantee: str
    workloads: Sequence[str]
    events: int
    usual_interval: str
    commit_interval_ms: int | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    rounds: int = 5
    latency: bool = False


_ALL = ("W0", "W1", "W2", "W3", "W4")
EXACTLY_ONCE, AT_LEAST_ONCE, NO_GUARANTEE = "exactly once", "at least once", "none"
PEERS: tuple[System, ...] = (
    System("pass-through", "pass_through", NO_GUARANTEE, ("W0",), 1_000_000, "none", None, {"GUARANTEE": "none"}),
    System(
        "pass-through, transactional",
        "pass_through",
        EXACTLY_ONCE,
        ("W0",),
        1_000_000,
        f"{COMMIT_INTERVAL_MS} ms",
        COMMIT_INTERVAL_MS,
        {"GUARANTEE": "exactly-once"},
        latency=True,
    ),
    System("Kafka Streams", "kafka-streams", EXACTLY_ONCE, _ALL, 1_000_000, "100 ms", latency=True),
    System("Kafka Streams, our interval", "kafka-streams", EXACTLY_ONCE, ("W4",), 1_000_000, "", COMMIT_INTERVAL_MS, latency=True, rounds=3),
    System("Flink, heap", "flink", EXACTLY_ONCE, _ALL, 1_000_000, "1 s", None, {"STATE_BACKEND": "hashmap"}, latency=True),
    System("Flink, heap, our interval", "flink", EXACTLY_ONCE, ("W4",), 1_000_000, "", COMMIT_INTERVAL_MS, {"STATE_BACKEND": "hashmap"}, 3, True),
    System("Flink, RocksDB", "flink", EXACTLY_ONCE, ("W4",), 1_000_000, "1 s", None, {"STATE_BACKEND": "rocksdb"}, 1),
    System("Quix Streams", "quix", EXACTLY_ONCE, _ALL, 200_000, "5 s", latency=True, rounds=2),
    System("Quix Streams, our interval", "quix", EXACTLY_ONCE, ("W4",), 50_000, "", COMMIT_INTERVAL_MS, latency=True, rounds=1),
    System("Faust", "faust", AT_LEAST_ONCE, _ALL, 40_000, "2.8 s", latency=True, rounds=2),
)
