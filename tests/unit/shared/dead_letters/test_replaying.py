"""Originals of dead letters are published again once each, whatever happens to whoever does it; ingestion judges them anew."""

import json
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from tidemill.services.gateway.app import Door, build_app
from tidemill.services.gateway.commands import Command
from tidemill.services.gateway.features import ThreadedReader
from tidemill.services.gateway.letter_desk import KafkaLetterDesk
from tidemill.services.gateway.settings import DoorSettings, Role, TokenSettings
from tidemill.services.gateway.tokens import ROLES, TokenBook
from tidemill.services.ingestion.task import IngestionTask, task_inputs
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.dead_letters.letters import Letter, LetterPlace, Selection
from tidemill.shared.dead_letters.reading import DeadLetterOffice
from tidemill.shared.dead_letters.replaying import DeadLetterReplay, LetterReplayResult
from tidemill.shared.log.broker import FencedError, TopicSpec
from tidemill.shared.log.errors import TransientError
from tidemill.shared.log.heartbeat import HEARTBEAT_KEY
from tidemill.shared.log.partitioning import murmur2_partition
from tidemill.shared.log.records import Emission, TopicPartition
from tidemill.shared.log.topics import catalogue_topics
from tidemill.shared.memory.broker import MemoryBroker
from tidemill.shared.memory.clients import MemoryTransactionalSink
from tidemill.shared.observability.settings import RunnerSettings, ServiceSettings
from tidemill.shared.online_store.memory_store import MemoryOnlineStore
from tidemill.shared.runner.task import Stage
from tidemill.shared.service.stage import chain_runner

ROOT = Path(__file__).parents[4]
NOON = 1_358_424_000_000
RAW = "flights-departures"
ALL = Selection()


def departure(i: int, **changes: object) -> bytes:
    event = {
        "flight_id": f"f{i}", "scheduled_departure": NOON + i * 1_000, "carrier": "UA", "flight": i, "tailnum": f"N{i % 5}", "origin": "EWR",
        "dest": f"D{i % 3}", "distance": 1400.0, "sched_block_min": 240.0, "local_minute": 315, "weekday": 1, "plane_year": None, "seats": 149.0,
        **changes,
    }  # fmt: skip
    return json.dumps(event).encode()


class World:
    """A broker in memory, ingestion of the flights application on it, and 40 departures of which 10 are longer than anything flies."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.broker, self.registry = folder, MemoryBroker(), MemorySchemaRegistry()
        shutil.copytree(ROOT / "examples" / "flights", folder / "app", ignore=shutil.ignore_patterns("*.parquet", "*.csv"))
        self.plan = load_plan(folder / "app")
        self.broker.create_topics([*catalogue_topics("flights", 1), *(TopicSpec(topic) for topic in self.plan.topics.raw)])
        sink = self.broker.sink()
        for i in range(40):
            sink.publish(RAW, f"f{i}".encode(), departure(i, distance=7123.5 if i % 4 == 1 else 900.0), NOON + i * 1_000, 0)
        sink.publish(RAW, b"f99", b"\x00garbage", NOON + 40_000, 0)
        self.ingest()

    def mend(self) -> Plan:
        """Allow longer flights."""
        file = self.folder / "app" / "app.yaml"
        before = file.read_text()
        file.write_text(before.replace("distance < 6000", "distance < 8000"))
        assert file.read_text() != before
        self.plan = load_plan(self.folder / "app")
        return self.plan

    def ingest(self) -> None:
        """Run ingestion until nothing is left to read."""
        plan = self.plan
        newest = self.newest() + 1_000
        for stream in plan.streams.values():
            self.broker.sink().publish(stream.topic, HEARTBEAT_KEY, None, newest, 0)
        settings = ServiceSettings(
            application=self.folder / "app", runner=RunnerSettings(commit_interval_ms=1, idle_interval_ms=1, state_folder=self.folder / "state")
        )
        stage = Stage("ingestion", task_inputs(plan), lambda p: IngestionTask(plan, self.registry, p, "replay"))
        runner = chain_runner([stage], plan, settings, self.broker, self.registry)
        before = -1
        while before != (before := self.end(plan.topics.progress("ingestion"))) or before < 0 or not self.done(newest):
            runner.step()
        runner.close()

    def done(self, newest: int) -> bool:
        codec = RecordCodec(self.registry, "p", (ROOT / "schemas" / "progress.avsc").read_text())
        last = self.values(self.plan.topics.progress("ingestion"))
        return bool(last) and codec.decode(last[-1] or b"")["covered_time"] >= newest - 1

    def newest(self) -> int:
        """Newest timestamp on a raw topic."""
        logs = [self.broker.log(TopicPartition(topic, 0)) for topic in self.plan.topics.raw]
        return max(int(times.max()) for log in logs if len(times := log.read(0, log.end, 10**9)[0].timestamps_ms))

    def end(self, topic: str) -> int:
        return len(self.values(topic))

    def values(self, topic: str) -> list[bytes | None]:
        """Committed values."""
        log = self.broker.log(TopicPartition(topic, 0))
        records = log.read(0, log.end, 10**9)[0]
        return list(records.values)

    def letters(self, selection: Selection = ALL) -> list[Letter]:
        return list(DeadLetterOffice(self.plan, self.broker, self.registry).letters(selection))

    def replay(self, selection: Selection = ALL, **given: Any) -> LetterReplayResult:
        return DeadLetterReplay(self.plan, self.broker, self.registry, on_replay_clock=True, clock_ms=lambda: NOON + 10**9, **given).run(selection)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def copies(world: World) -> Counter[bytes]:
    """How often each of the long flights was published."""
    return Counter(value for value in world.values(RAW) if value and b"7123.5" in value)


def test_letters_that_are_named_by_their_places_are_read_alone(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A topic of a million letters was read whole for one of them, and for one that does not exist: memory and time of whoever asks for any."""
    unread = "records of dead letters cannot be read, and are skipped"
    topic, registry = world.plan.topics.rejected, world.registry
    (first, *_), n, whole = world.letters(), world.broker.log(TopicPartition(topic, 0)).end, world.values(topic)[0]
    unreadable, sink = b"\x00\x00\x00\x00\x01", world.broker.sink()
    for i in range(3_000):
        # Whoever reads what is not asked for says so.
        sink.publish(topic, b"", whole if i in (1_500, 2_999) else unreadable, NOON, 0)
    named = [LetterPlace(0, offset) for offset in (first.place.offset, n + 1_500, n + 2_999)]
    assert [letter.place for letter in world.letters(Selection(places=frozenset([*named, LetterPlace(0, 10**8), LetterPlace(7, 0)])))] == named
    assert DeadLetterReplay(world.plan, world.broker, registry).run(Selection(places=frozenset([LetterPlace(0, 99_999_999)]))) == LetterReplayResult()
    assert unread not in caplog.messages
    assert [letter.place for letter in world.letters()][-2:] == named[1:], "what is no letter withholds none"
    assert [(vars(record)["offset"], vars(record)["records"]) for record in caplog.records if record.message == unread] == [(n, 2_998)]


def test_after_the_cause_is_mended_what_was_refused_is_accepted_once(world: World) -> None:
    assert sorted(Counter(letter.record["reason"] for letter in world.letters()).values()) == [1, 10]
    journal = world.end(world.plan.topics.journal)
    world.mend()
    result = world.replay(Selection(reasons=frozenset({"expectation"})))
    assert (result.replayed, result.already, result.refused) == (10, 0, [])
    again = world.replay(Selection(reasons=frozenset({"expectation"})))
    assert (again.replayed, again.already) == (0, 10) and set(copies(world).values()) == {2}
    assert world.newest() < NOON + 10**8, "a run on the replay clock does not jump to today"
    world.ingest()
    assert world.end(world.plan.topics.journal) - journal >= 10
    assert len(world.letters()) == 11, "and no new dead letter"
    assert world.end(world.plan.topics.duplicates) == 0
    assert all(letter.replayed_at == NOON + 10**9 for letter in world.letters(Selection(reasons=frozenset({"expectation"}))))
    assert len(world.letters(Selection(replayed=False))) == 1


def test_what_is_refused_again_is_another_dead_letter_that_can_be_replayed_again(world: World) -> None:
    world.replay(Selection(reasons=frozenset({"expectation"})))
    world.ingest()
    assert len(world.letters()) == 21 and len(world.letters(Selection(replayed=True))) == 10
    assert world.replay(Selection(reasons=frozenset({"expectation"}))).replayed == 10


class Killed(BaseException):
    """The process ends here."""


class Mortal(MemoryTransactionalSink):
    """Ends the process at its n-th call, before or after what it does; its transaction stays open, as a dead process leaves it."""

    calls, dies_at, after = 0, -1, False

    def _live(self) -> bool:
        Mortal.calls += 1
        return Mortal.calls == Mortal.dies_at

    def begin(self) -> None:
        self._call(super().begin)

    def produce(self, emission: Emission) -> None:
        self._call(lambda: super(Mortal, self).produce(emission))

    def commit(self) -> Mapping[TopicPartition, int]:
        added: dict[TopicPartition, int] = {}
        self._call(lambda: added.update(super(Mortal, self).commit()))
        return added

    def abort(self) -> None:
        if Mortal.calls < Mortal.dies_at or Mortal.dies_at < 0:
            super().abort()

    def _call(self, doing: Any) -> None:
        if dies := self._live():
            if Mortal.after:
                doing()
            raise Killed
        assert not dies
        doing()


@pytest.mark.parametrize("after", [False, True])
def test_a_replay_that_is_killed_anywhere_and_repeated_publishes_nothing_twice(tmp_path: Path, after: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidemill.shared.dead_letters.replaying._AT_ONCE", 3)
    world = World(tmp_path)
    monkeypatch.setattr(world.broker, "transactional_sink", lambda name: Mortal(world.broker, name))
    Mortal.after, kills = after, 0
    for step in range(1, 8):
        Mortal.calls, Mortal.dies_at = 0, step
        try:
            world.replay(Selection(reasons=frozenset({"expectation"})))
        except Killed:
            kills += 1
        assert max(copies(world).values()) <= 2
    Mortal.dies_at = -1
    world.replay(Selection(reasons=frozenset({"expectation"})))
    assert kills >= 3 and set(copies(world).values()) == {2}
    assert len(world.letters(Selection(replayed=True))) == 10


def test_two_who_replay_at_once_publish_nothing_twice(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidemill.shared.dead_letters.replaying._AT_ONCE", 4)
    first = DeadLetterReplay(world.plan, world.broker, world.registry)
    publish = DeadLetterReplay._publish
    second: list[LetterReplayResult] = []

    def interrupted(self: DeadLetterReplay, *given: Any) -> None:
        if self is first and len(copies(world)) and max(copies(world).values()) == 2 and not second:
            second.append(world.replay(Selection(reasons=frozenset({"expectation"}))))
        publish(self, *given)

    monkeypatch.setattr(DeadLetterReplay, "_publish", interrupted)
    with pytest.raises((FencedError, TransientError)):
        first.run(Selection(reasons=frozenset({"expectation"})))
    assert (second[0].replayed, second[0].already) == (6, 4) and set(copies(world).values()) == {2}


def test_what_is_selected(world: World) -> None:
    letters = world.letters()
    chosen = letters[3]
    assert world.letters(Selection(places=frozenset({chosen.place}))) == [chosen]
    assert LetterPlace.parse(str(chosen.place)) == chosen.place and str(chosen.source) == f"{RAW}:0:13"
    assert world.letters(Selection(streams=frozenset({"weather"}))) == []
    time = chosen.record["source_timestamp"]
    assert world.letters(Selection(since_ms=time)) == letters[3:] and world.letters(Selection(until_ms=time)) == letters[:3]
    with pytest.raises(ValueError, match="expected since before until, found 2013-01-17T12:00"):
        Selection(since_ms=time, until_ms=time)
    newest = KafkaLetterDesk(world.plan, world.broker, world.registry, True).newest(Selection(), 2)
    assert list(newest) == letters[-2:]
    for text in ("", "1", "a:b", "1:-1", "1:2:3"):
        with pytest.raises(ValueError, match="PARTITION:OFFSET"):
            LetterPlace.parse(text)


def test_what_cannot_be_replayed_says_why(world: World) -> None:
    codec = RecordCodec(world.registry, "r", (ROOT / "schemas" / "rejected.avsc").read_text())
    like = dict(world.letters()[0].record)
    gone: dict[str, Any] = {"stage": "ingestion", "source_topic": "flights-gates"}
    odd: list[dict[str, Any]] = [{"stage": "features", "source_topic": world.plan.topics.journal}, {"value": None}]
    for changes in (*odd, {"reason": "misplaced_key", "key": None}, gone):
        letter = codec.encode({**like, "source_offset": 1_000 + len(str(changes)), **changes})
        world.broker.sink().publish(world.plan.topics.rejected, b"", letter, NOON, 0)
    result = world.replay(Selection(places=frozenset(letter.place for letter in world.letters()[-4:])))
    told = [why for _, why in result.refused]
    assert result.replayed == 0 and len(told) == 4
    assert "the journal has it" in told[0] and "no value" in told[1] and "partition key as key" in told[2]
    assert "expected a stream of the application on the topic flights-gates, found none" in told[3]


def test_letters_of_a_topic_that_is_gone_are_kept(world: World) -> None:
    broker = MemoryBroker()
    broker.create_topics(catalogue_topics("flights", 1))
    for value in world.values(world.plan.topics.rejected):
        broker.sink().publish(world.plan.topics.rejected, b"", value, NOON, 0)
    result = DeadLetterReplay(world.plan, broker, world.registry).run(Selection(reasons=frozenset({"expectation"})))
    assert result.replayed == 0 and {why for _, why in result.refused} == {f"expected the topic {RAW}, found none; make it with `tidemill topics`"}


def test_a_copy_is_not_dated_by_a_record_of_the_far_future(world: World) -> None:
    """Every copy was stamped like it, and refused as one of the future."""
    world.broker.sink().publish(RAW, b"f1", b"{}", 253_402_000_000_000, 0)
    assert world.replay(Selection(reasons=frozenset({"expectation"}))).replayed == 10
    log = world.broker.log(TopicPartition(RAW, 0))
    assert log.read(0, log.end, 10**9)[0].timestamps_ms[-1] < NOON + 10**9


def test_a_misplaced_record_goes_where_its_key_belongs(tmp_path: Path) -> None:
    world = World(tmp_path)
    broker, registry, plan = MemoryBroker(), world.registry, world.plan
    broker.create_topics([*catalogue_topics("flights", 4), *(TopicSpec(topic, 4) for topic in plan.topics.raw)])
    codec = RecordCodec(registry, "r", (ROOT / "schemas" / "rejected.avsc").read_text())
    home = murmur2_partition(b"f1", 4)
    letter = {**world.letters()[0].record, "reason": "misplaced_key", "source_partition": (home + 1) % 4, "key": b"f1"}
    broker.sink().publish(plan.topics.rejected, b"", codec.encode(letter), NOON, 2)
    assert DeadLetterReplay(plan, broker, registry).run(Selection()).replayed == 1
    log = broker.log(TopicPartition(RAW, home))
    records = log.read(0, log.end, 10)[0]
    assert list(records.keys) == [b"f1"] and np.all(records.timestamps_ms > NOON)


def test_over_http_readers_see_dead_letters_and_operators_replay_them(world: World) -> None:
    class Publisher:
        async def publish(self, topic: str, key: bytes, value: bytes) -> tuple[int, int]:
            raise AssertionError("nothing is published here")

    class Desk:
        async def issue(self, command: Command) -> tuple[str, int, int]:
            raise AssertionError("nothing is commanded here")

    tokens: dict[str, TokenSettings] = {role: TokenSettings(token=SecretStr(f"the {role} has this token"), roles=(role,)) for role in ROLES}
    letters = KafkaLetterDesk(world.plan, world.broker, world.registry, True)
    door = Door(DoorSettings(), TokenBook(tokens))
    client = TestClient(build_app(world.plan, ThreadedReader(MemoryOnlineStore(world.plan)), Publisher(), door=door, desk=Desk(), letters=letters))

    def ask(role: Role, method: str, path: str, body: Any = None) -> Any:
        return client.request(method, path, json=body, headers={"authorization": f"Bearer the {role} has this token"})

    rows = ask("read", "GET", "/v1/dead-letters?reason=expectation&stream=departures&limit=4").json()["letters"]
    assert [row["source_offset"] for row in rows] == [25, 29, 33, 37] and {row["replayed_at"] for row in rows} == {None}
    assert ask("publish", "GET", "/v1/dead-letters").status_code == ask("read", "POST", "/v1/dead-letters/replay", {}).status_code == 403
    question = {"places": [rows[0]["place"], rows[1]["place"]]}
    assert ask("operate", "POST", "/v1/dead-letters/replay", question).json() == {"replayed": 2, "already": 0, "refused": 0, "why": []}
    assert ask("operate", "POST", "/v1/dead-letters/replay", question).json() == {"replayed": 0, "already": 2, "refused": 0, "why": []}
    for wrong in ({}, {"places": ["x"]}, {"reason": "x"}, {"since": "soon"}, {"since": "2026-01-02", "until": "2026-01-01"}):
        assert ask("operate", "POST", "/v1/dead-letters/replay", wrong).status_code == 422
    assert sum(count == 2 for count in copies(world).values()) == 2
