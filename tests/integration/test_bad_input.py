"""What goes wrong on the wire, through the real services on real servers: each bad record is a dead letter, and nothing else is lost.

One run serves all tests: two partitions, four services under the supervisor; Redis and then Kafka are killed on the way and come back.
"""

import json
import math
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from confluent_kafka import KafkaError, Message, Producer

from tests import forked
from tests.infrastructure import running_servers
from tests.integration.meters import write_application
from tests.patience import patient
from tidemill.deploy.embedded.component import Component
from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.runs.pipeline import pipeline_environment
from tidemill.runs.settings import read_settings
from tidemill.runs.supervisor import ServiceSpec, Supervisor
from tidemill.runs.topics import create_topics
from tidemill.runs.watch import record_codec
from tidemill.shared.application.journal import TICK, JournalDecoder
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.columns import ColumnDecoder, ColumnEncoder
from tidemill.shared.avro.registry import ConfluentSchemaRegistry
from tidemill.shared.avro.wire import header
from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.log.heartbeat import HEARTBEAT_KEY
from tidemill.shared.log.partitioning import murmur2_partition
from tidemill.shared.log.records import Records, TopicPartition
from tidemill.shared.online_store.redis_store import RedisOnlineStore

pytestmark = [pytest.mark.timeout(300), pytest.mark.lasts(50)]
ROOT = Path(__file__).parents[2]
NOON = 1_358_424_000_000
MINUTE, HOUR = 60_000, 3_600_000
DEADLINE_S = patient(120.0)
STAGES = ("ingestion", "features", "scoring", "outcomes")
Place = tuple[str, int, int]


@dataclass
class Run:
    """Publishes to the raw topics, and reads what became of it."""

    plan: Plan
    infrastructure: Infrastructure
    servers: Mapping[str, Component]
    supervisor: Supervisor
    registry: ConfluentSchemaRegistry
    producer: Producer
    reader: Any
    good: dict[str, int] = field(default_factory=dict)
    bad: list[tuple[str, str, bytes | None]] = field(default_factory=list)
    places: dict[int, Place] = field(default_factory=dict)
    predictions_without_redis: int = 0
    restarts_over_redis: int = -1
    sent: int = 0
    now: int = NOON

    def send(self, stream: str, value: bytes | None, partition: int) -> int:
        """Publish one raw record; returns its number, by which `places` tells where it lies once it is written."""
        number, self.sent = self.sent, self.sent + 1

        def written(error: KafkaError | None, message: Message) -> None:
            assert error is None, error
            self.places[number] = (str(message.topic()), int(message.partition() or 0), int(message.offset() or 0))

        topic = self.plan.streams[stream].topic
        self.producer.produce(
            topic, value, HEARTBEAT_KEY if value is None else f"k{number}".encode(), partition, timestamp=self.now, on_delivery=written
        )
        return number

    def read_meter(self, identity: str, meter: str, kwh: float | None = 1.0) -> None:
        """Publish a good reading, in JSON."""
        value = json.dumps({"reading_id": identity, "meter": meter, "read_at": self.now, "kwh": kwh}).encode()
        self.good[identity] = self.send("readings", value, murmur2_partition(meter.encode(), 2))

    def heartbeat(self, after_ms: int) -> None:
        """Move time on and say so in every raw partition."""
        self.now += after_ms
        for stream in ("readings", "faults"):
            for partition in (0, 1):
                self.send(stream, None, partition)
        assert self.producer.flush(patient(60)) == 0

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait, supervising."""
        end = time.monotonic() + DEADLINE_S
        while not condition():
            self.supervisor.check()
            if time.monotonic() > end:
                logs = "\n".join(f"== {stage}\n{self.supervisor.log_tail(stage)}" for stage in STAGES)
                raise AssertionError(f"not within {DEADLINE_S:.0f} s: {what}\n{logs}")
            time.sleep(0.1)

    def records(self, topic: str) -> list[Records]:
        """Everything committed on a topic."""
        return [records for partition in (0, 1) for records in self.reader.read(TopicPartition(topic, partition), 0)]

    def values(self, topic: str) -> list[bytes]:
        return [value for records in self.records(topic) for value in records.values if value is not None]

    def table(self, topic: str, schema: str) -> pa.RecordBatch:
        decoded = ColumnDecoder(self.registry, schema).decode(self.values(topic))
        assert not decoded.errors
        return decoded.batch

    def predictions(self) -> Counter[str]:
        schema = (ROOT / "schemas" / "prediction.avsc").read_text()
        return Counter(self.table(self.plan.topics.predictions, schema).column("request_id").to_pylist())


def spoil(run: Run) -> None:
    """Publish one of everything that is wrong with a record, among good ones; `bad` says what should become of each."""
    plan, registry = run.plan, run.registry
    readings = ColumnEncoder(registry, f"{plan.streams['readings'].topic}-meters.Reading", plan.streams["readings"].user_schema)
    faults = ColumnEncoder(registry, f"{plan.streams['faults'].topic}-meters.Fault", plan.streams["faults"].user_schema)

    def reading(**changes: Any) -> bytes:
        row = {"reading_id": f"bad{len(run.bad)}", "meter": "1", "read_at": run.now, "kwh": 1.0, **changes}
        return readings.encode(pa.RecordBatch.from_pylist([row], schema=readings.arrow))[0]

    def fault(**changes: Any) -> bytes:
        row = {"fault_id": f"bad{len(run.bad)}", "reading_id": "r1", "meter": 1.0, "found_at": run.now, "faulty": 1.0, **changes}
        return faults.encode(pa.RecordBatch.from_pylist([row], schema=faults.arrow))[0]

    home = murmur2_partition(b"1", 2)
    url, subject = run.infrastructure.registry_url, f"{plan.application.app}-stranger"
    made = httpx.post(f"{url}/subjects/{subject}/versions", json={"schema": '"string"', "schemaType": "AVRO"}, timeout=patient(30))
    stranger = int(made.json()["id"])
    whole = reading()
    for stream, reason, value, partition in (
        ("readings", "unknown_schema_id", b"\x00\x7f\xff\xff\xffnothing", home),
        ("readings", "incompatible_schema", header(stranger) + b"\x06abc", home),
        ("readings", "truncated", whole[: len(whole) // 2], home),
        ("readings", "trailing_bytes", whole + b"\x00", home),
        ("readings", "invalid_utf8", reading(reading_id="<here>").replace(b"<here>", b"\xff\xfe\xfd\xfc\xfb\xfa"), home),
        ("readings", "invalid_json", b'{"reading_id": "\xff\xfe", "meter": "1"}', home),
        ("readings", "invalid_json", b'{"reading_id": "cut off', home),
        ("readings", "invalid_json", json.dumps({"reading_id": "x", "meter": "1", "read_at": run.now, "kwh": math.nan}).encode(), home),
        ("readings", "not_framed", b"garbage", home),
        ("readings", "not_framed", b"", home),
        ("readings", "misplaced_key", reading(), 1 - home),
        ("readings", "expectation", reading(kwh=-1.0), home),
        ("readings", "missing_key", reading(meter=""), home),
        ("faults", "non_finite", fault(meter=math.nan), home),
        ("faults", "misplaced_key", fault(meter=1.0), 1 - home),
        ("faults", "unknown_schema_id", b"\x00\x7f\xff\xff\xfe", 1 - home),
    ):
        run.send(stream, value, partition)
        run.bad.append((stream, reason, value))
        run.read_meter(f"after-bad{len(run.bad)}", str(len(run.bad) % 5))
    # NaN in a value, not in a key, is no dead letter: it is a missing value.
    run.good["nan-use"] = run.send("readings", reading(reading_id="nan-use", kwh=math.nan), home)
    # Twice the same, once in the same slice and once a slice later.
    run.send("readings", reading(reading_id="twice"), home)
    run.good["twice"] = run.send("readings", reading(reading_id="twice"), home)
    # Labels: of a request there is, of one there never will be.
    run.send("faults", fault(fault_id="f1", reading_id="r1"), home)
    run.send("faults", fault(fault_id="f2", reading_id="nobody asked"), home)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, infrastructure: Infrastructure) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("bad-input")
    plan = load_plan(write_application(folder / "application", f"meters-{secrets.token_hex(4)}"))
    with running_servers("kafka", "redis") as servers:
        # Nobody stops the registry here: it is the one that all tests have.
        infrastructure = Infrastructure.given(servers["kafka"].address, infrastructure.registry_url, servers["redis"].address)
        broker = KafkaBroker(infrastructure.bootstrap_servers)
        create_topics(plan, broker)
        environment = pipeline_environment(folder / "application", infrastructure, folder, "replay", read_settings())
        supervisor = Supervisor(folder / "logs", environment, server=forked.server())
        supervisor.start([ServiceSpec(stage, f"tidemill.services.{stage}") for stage in STAGES])
        producer = Producer({"bootstrap.servers": infrastructure.bootstrap_servers, "linger.ms": 5, "log_level": 2, "enable.idempotence": True})
        made = Run(plan, infrastructure, servers, supervisor, ConfluentSchemaRegistry(infrastructure.registry_url), producer, broker.reader())
        try:
            play(made)
            yield made
        finally:
            supervisor.stop()
            made.reader.close()


def play(run: Run) -> None:
    """Everything that happens."""
    for i in range(100):
        run.read_meter(f"r{i}", str(i % 5))
    spoil(run)
    run.heartbeat(MINUTE)
    run.until(lambda: len(run.predictions()) >= len(run.good), "predictions among bad records")

    run.servers["redis"].kill()
    for i in range(100, 150):
        run.read_meter(f"r{i}", str(i % 7))
    run.heartbeat(MINUTE)
    run.until(lambda: len(run.predictions()) >= len(run.good), "predictions without Redis")
    run.predictions_without_redis = len(run.predictions())
    run.servers["redis"].start()
    store = RedisOnlineStore(run.infrastructure.redis_url, run.plan)
    run.until(lambda: _use(store) == {"5": 7.0, "6": 7.0}, "the online features of what was asked while Redis was away")
    store.close()
    run.restarts_over_redis = sum(run.supervisor.restarts().values())

    run.servers["kafka"].kill()
    for i in range(150, 200):
        run.read_meter(f"r{i}", str(i % 5))
    run.servers["kafka"].start()
    run.heartbeat(MINUTE)
    run.until(lambda: len(run.predictions()) >= len(run.good), "predictions after Kafka came back")
    run.heartbeat(6 * HOUR)
    run.until(lambda: len(run.values(run.plan.topics.outcomes)) > len(run.good), "outcomes and time-outs")
    run.heartbeat(MINUTE)


def _use(store: RedisOnlineStore) -> dict[str, float]:
    """Count of readings of the meters that were first read while Redis was away."""
    rows = store.read_features("meter", ["5", "6"])
    place = store.layouts["meter"].features.index("use__count_6h")
    return {key: float(values[place]) for key, values in zip(("5", "6"), rows.values, strict=True) if not math.isnan(values[place])}


def dead_letters(run: Run) -> dict[Place, dict[str, Any]]:
    codec = record_codec(run.registry, run.plan.topics.rejected, "Rejected")
    letters = [codec.decode(value) for value in run.values(run.plan.topics.rejected)]
    by_place = {(letter["source_topic"], letter["source_partition"], letter["source_offset"]): letter for letter in letters}
    assert len(by_place) == len(letters), "each bad record is one dead letter"
    return by_place


def test_every_bad_record_is_a_dead_letter_with_its_reason_its_place_and_its_bytes(run: Run) -> None:
    letters = dead_letters(run)
    offsets = {
        place: value
        for records in [*run.records(run.plan.streams["readings"].topic), *run.records(run.plan.streams["faults"].topic)]
        for place, value in zip([(records.topic, records.partition, int(offset)) for offset in records.offsets], records.values, strict=True)
    }
    assert Counter(letter["reason"] for letter in letters.values()) == Counter(reason for _, reason, _ in run.bad)
    assert {(place[0], letter["reason"], letter["value"]) for place, letter in letters.items()} == {
        (run.plan.streams[stream].topic, reason, value) for stream, reason, value in run.bad
    }
    assert all(offsets[place] == letter["value"] for place, letter in letters.items())
    assert all(letter["stage"] == "ingestion" and letter["detail"] for letter in letters.values())
    misplaced = [letter for letter in letters.values() if letter["reason"] == "misplaced_key"]
    home = murmur2_partition(b"1", 2)
    assert all(letter["source_partition"] == 1 - home and f"belongs in partition {home} of 2" in letter["detail"] for letter in misplaced)


def test_accepted_rejected_and_duplicates_are_what_was_published_in_every_partition(run: Run) -> None:
    topics, journal = run.plan.topics, JournalDecoder(run.plan, run.registry)
    raw, accepted, rejected, duplicates = Counter[int](), Counter[int](), Counter[int](), Counter[int]()
    for stream in run.plan.streams.values():
        for records in run.records(stream.topic):
            raw[records.partition] += sum(value is not None for value in records.values)
    for records in run.records(topics.journal):
        accepted[records.partition] += int((journal.decode(records).stream_index != TICK).sum())
    for topic, count in ((topics.rejected, rejected), (topics.duplicates, duplicates)):
        for records in run.records(topic):
            count[records.partition] += len(records)
    assert {p: accepted[p] + rejected[p] + duplicates[p] for p in (0, 1)} == dict(raw)
    assert min(accepted.values()) > 0 and sum(duplicates.values()) == 1 and sum(rejected.values()) == len(run.bad)


def test_every_accepted_request_has_one_vector_and_one_prediction(run: Run) -> None:
    expected = Counter(dict.fromkeys(run.good, 1))
    assert run.predictions() == expected
    vectors = run.table(run.plan.topics.vectors, run.plan.vector_schema)
    assert Counter(vectors.column("_request_id").to_pylist()) == expected


def test_no_nan_leaves_and_none_stays_in_the_state(run: Run) -> None:
    vectors = run.table(run.plan.topics.vectors, run.plan.vector_schema).to_pylist()
    odd = next(vector for vector in vectors if vector["_request_id"] == "nan-use")
    assert odd["kwh"] is None
    values = [value for vector in vectors for value in vector.values() if isinstance(value, float)]
    assert values and all(math.isfinite(value) for value in values)
    assert all(vector["use__sum_6h"] is not None for vector in vectors if vector["_request_id"] in {"r150", "r151", "r199"})


def test_a_label_without_a_prediction_and_a_prediction_without_a_label_both_have_an_outcome(run: Run) -> None:
    outcomes = run.table(run.plan.topics.outcomes, (ROOT / "schemas" / "outcome.avsc").read_text()).to_pylist()
    by_status = {status: {row["request_id"] for row in outcomes if row["status"] == status} for status in ("labelled", "timeout", "unmatched")}
    assert by_status["labelled"] == {"r1"}
    assert by_status["unmatched"] == {"nobody asked"}
    assert by_status["timeout"] == set(run.good) - {"r1"}
    assert len(outcomes) == len(run.good) + 1, "one each"
    assert next(row["label"] for row in outcomes if row["status"] == "unmatched") == 1.0


def test_predictions_do_not_wait_for_redis_and_no_service_ends_over_it(run: Run) -> None:
    assert run.predictions_without_redis >= 150
    assert run.restarts_over_redis == 0


def test_a_broker_that_was_killed_cost_nothing(run: Run) -> None:
    """What was published while it was away is answered (see above); a service may have ended and come back, none was given up."""
    assert {f"r{i}" for i in range(150, 200)} <= set(run.predictions())
    run.supervisor.check()
