"""The stage on the in-memory broker, run by the runner, killed and started again."""

from pathlib import Path

import pytest

from tests.unit.services.drift.stream import DAY, SCHEMAS, START, Topics, season, shop
from tidemill.services.drift.service import build
from tidemill.services.drift.task import task_inputs
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.log.broker import Broker
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.log.topics import catalogue_topics
from tidemill.shared.memory.broker import MemoryBroker
from tidemill.shared.observability.settings import RunnerSettings, ServiceSettings
from tidemill.shared.runner.progress import Progress


def _settings(folder: Path, instance: str = "0") -> ServiceSettings:
    fast = RunnerSettings(commit_interval_ms=1, idle_interval_ms=1, max_batch=400, state_folder=folder / "state")
    return ServiceSettings(application=folder, instance=instance, runner=fast)


def _everything(broker: Broker, topic: str) -> list[bytes]:
    return [value for records in broker.reader().read(TopicPartition(topic, 0), 0) for value in records.values if value is not None]


def _run(folder: Path, lives: int) -> tuple[list[bytes], list[bytes], list[bytes], Progress]:
    plan, registry, broker = shop(folder), MemorySchemaRegistry(), MemoryBroker()
    broker.create_topics(catalogue_topics("shop", 1))
    rows = season(days=10)
    topics, sink = Topics(plan, registry, rows), broker.sink()
    end = START + 14 * DAY
    for topic, values in topics.values.items():
        for value in values:
            sink.publish(topic, b"k", value, 0, 0)
        for run in (topics.covered(topic, 0, START + 3 * DAY), topics.covered(topic, 0, end)):
            sink.publish(run.topic, b"0", run.values[0], 0, 0)
    sink.flush()
    codec = RecordCodec(registry, "progress", (SCHEMAS / "progress.avsc").read_text())
    for life in range(lives):
        runner = build(_settings(folder), broker, registry)
        for _ in range(1000):
            runner.step()
            records = [Progress.decode(value, codec) for value in _everything(broker, plan.topics.progress("drift"))[-1:]]
            if records and (records[0].covered_time == end or (life < lives - 1 and len(_everything(broker, plan.topics.health)) > 2 * life + 1)):
                break
        runner.close()
    return (
        _everything(broker, plan.topics.drift),
        _everything(broker, plan.topics.health),
        _everything(broker, plan.topics.found_incidents),
        records[0],
    )


def test_runs_to_the_end_and_a_second_life_changes_nothing(tmp_path: Path) -> None:
    drift, health, incidents, progress = _run(tmp_path, 1)
    assert len(health) == 11 and len(drift) > 5 and progress.covered_time == START + 14 * DAY
    assert progress.outputs == {"shop-drift": len(drift), "shop-health": len(health), "shop-found-incidents": len(incidents)}
    again = _run(tmp_path, 4)
    assert again[:3] == (drift, health, incidents) and incidents


def test_a_missing_topic_stops_before_the_first_record(tmp_path: Path) -> None:
    shop(tmp_path)
    with pytest.raises(RuntimeError, match="no topic shop-vectors"):
        build(_settings(tmp_path), MemoryBroker(), MemorySchemaRegistry())


def test_inputs_are_in_the_catalogue(tmp_path: Path) -> None:
    plan = shop(tmp_path)
    names = {topic.name for topic in catalogue_topics("shop", 1)}
    assert set(task_inputs(plan).partitioned) <= names and {plan.topics.drift, plan.topics.health} <= names
