"""The worker: waits for the archive, publishes lifecycle events once, takes up what a crash left."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.cli.watch import record_codec
from services.retraining.domain.service_times import ServiceTimes
from services.retraining.job_files import JobRequest, JobResult
from services.retraining.task import Places, RetrainingTask
from shared.application.plan import Plan
from shared.avro.registry import MemorySchemaRegistry
from shared.models.deployments import Lifecycle
from shared.streaming.progress import Progress
from shared.streaming.records import Records, Step, TopicPartition
from shared.streaming.task import StepContext
from tests.unit.services.drift.stream import shop

CONTEXT = StepContext(now_ms=0)
MODEL = "sent_back"


class Trainer:
    """Notes what was asked for; results are handed in."""

    def __init__(self) -> None:
        self.asked: list[JobRequest] = []
        self.result: JobResult | None = None

    def start(self, request: JobRequest) -> None:
        self.asked.append(request)

    def poll(self) -> JobResult | None:
        result, self.result = self.result, None
        return result


class Registrar:
    """Notes the last word."""

    def __init__(self) -> None:
        self.models: dict[str, ServiceTimes] = {}
        self.recorded: dict[str, Mapping[str, Any]] = {}

    def record(self, decision: str, record: Mapping[str, Any]) -> None:
        self.recorded[decision] = record

    def want(self, models: Mapping[str, ServiceTimes]) -> None:
        self.models = dict(models)

    def poll(self) -> None:
        """Nothing to look after."""


class World:
    """The topics around the worker."""

    def __init__(self, folder: Path) -> None:
        self.plan: Plan = shop(folder)
        self.registry = MemorySchemaRegistry()
        self.topics: dict[str, list[bytes]] = {}
        self.codecs = {
            topic: record_codec(self.registry, topic, name)
            for topic, name in (
                (self.plan.topics.retraining, "Retraining"), (self.plan.topics.deployments, "Deployment"),
                (self.plan.topics.progress("control"), "Progress"), (self.plan.topics.progress("archive"), "Progress"),
            )
        }  # fmt: skip
        self.start()

    def start(self) -> None:
        self.trainer = Trainer()
        self.registrar = Registrar()
        self.task = RetrainingTask(self.plan, self.registry, self.trainer, self.registrar, Places("app", "lake", "artifacts"))
        self.read = dict.fromkeys(self.codecs, 0)
        self.last = Step([], {}, self.task._coverage)

    def restart(self) -> None:
        """Come back from the last step, as the runner would."""
        said = sum(record["event"] not in ("requested", "skipped") for record in self.said(self.plan.topics.retraining))
        events = len(self.topics.get(self.plan.topics.deployments, []))
        last, outputs = self.last, {self.plan.topics.deployments: events, self.plan.topics.retraining: said}
        marker = self.task.checkpoint(0).marker
        self.start()
        self.task.restore([])
        self.task.resume(last.positions, outputs, last.coverage.offset, last.coverage.time_ms)
        for topic in self.codecs:
            end = last.positions.get(TopicPartition(topic, 0), 0)
            if end > marker.get(TopicPartition(topic, 0), 0):
                self.task.replay([self.records(topic, marker.get(TopicPartition(topic, 0), 0), end)])
            self.read[topic] = end

    def request(self, number: int, time: int, event: str = "requested", **details: str) -> None:
        record = {
            "decision_id": f"{number:032d}", "model": MODEL, "event": event, "trigger": "drift", "reason": "worse", "journal_partition": 0,
            "journal_offset": 0, "journal_time": time, "figures": {}, "details": details,
        }  # fmt: skip
        self.add(self.plan.topics.retraining, record)

    def add(self, topic: str, record: dict[str, Any]) -> None:
        self.topics.setdefault(topic, []).append(self.codecs[topic].encode(record))

    def cover(self, stage: str, time: int, requests: int = 0) -> None:
        topic = self.plan.topics.progress(stage)
        progress = Progress(stage, 0, covered_time=time, outputs={self.plan.topics.retraining: requests})
        self.topics.setdefault(topic, []).append(progress.encode(self.codecs[topic]))

    def records(self, topic: str, begin: int, end: int) -> Records:
        values = self.topics.get(topic, [])[begin:end]
        return Records(topic, 0, np.arange(begin, begin + len(values)), np.zeros(len(values), np.int64), [b""] * len(values), values)

    def step(self) -> Step:
        inputs = [self.records(topic, begin, len(self.topics.get(topic, []))) for topic, begin in self.read.items()]
        self.read = {topic: len(self.topics.get(topic, [])) for topic in self.read}
        self.last = self.task.process(inputs, CONTEXT)
        self.task.committed()
        for emission in self.last.emissions:
            self.topics.setdefault(emission.topic, []).extend(value for value in emission.values if value is not None)
        return self.last

    def said(self, topic: str) -> list[dict[str, Any]]:
        return [self.codecs[topic].decode(value) for value in self.topics.get(topic, [])]

    @property
    def lifecycle(self) -> Lifecycle:
        state = Lifecycle()
        for event in self.said(self.plan.topics.deployments):
            state = state.apply(event)
        assert state.ignored == 0
        return state


def result(version: str, passed: bool = True, roll_back: bool = False, finished: bool = True) -> JobResult:
    return JobResult(finished, "because", version, passed, roll_back, f"sha-{version}", "uri", 0.4, {"auc": 0.7}, {"family": "lightgbm"})


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def events(world: World) -> list[str]:
    return [event["event"] for event in world.said(world.plan.topics.deployments)]


def finish(world: World, number: int, outcome: JobResult) -> None:
    world.request(number, number * 100)
    world.cover("control", number * 100 + 10, number)
    world.cover("archive", number * 100 + 10)
    world.step()
    world.trainer.result = outcome
    world.step()


def test_a_request_waits_until_the_archive_knows_what_was_known(world: World) -> None:
    world.request(1, 100)
    world.cover("control", 150, 1)
    world.cover("archive", 99)
    assert world.step().coverage.time_ms == 99, "everything before the open request is decided"
    assert not world.trainer.asked
    world.cover("archive", 100)
    world.step()
    (asked,) = world.trainer.asked
    assert (asked.champion, asked.predecessor, asked.retraining["journal_time"]) == ("", "", 100)
    assert world.said(world.plan.topics.retraining)[-1]["event"] == "started"


def test_a_winner_is_promoted_and_the_request_passed_in_the_same_step(world: World) -> None:
    finish(world, 1, result("v1"))
    assert events(world) == ["registered", "gate_passed", "promoted"]
    assert world.lifecycle.champion is not None and world.lifecycle.champion.version == "v1"
    assert world.last.coverage.time_ms == 110
    # Its own records on the topic are passed with the next step.
    world.step()
    assert world.last.positions[TopicPartition(world.plan.topics.retraining, 0)] == len(world.topics[world.plan.topics.retraining])


def test_a_loser_is_refused_with_its_figures(world: World) -> None:
    finish(world, 1, result("v1"))
    finish(world, 2, result("v2", passed=False))
    refused = world.said(world.plan.topics.deployments)[-1]
    assert (refused["event"], refused["version"], refused["figures"]) == ("gate_refused", "v2", {"auc": 0.7})
    assert world.lifecycle.champion is not None and world.lifecycle.champion.version == "v1"
    assert world.trainer.asked[-1].champion == "sha-v1"


def test_the_predecessor_comes_back_when_it_does_better(world: World) -> None:
    finish(world, 1, result("v1"))
    finish(world, 2, result("v2"))
    finish(world, 3, result("v3", passed=False, roll_back=True))
    assert world.trainer.asked[-1].predecessor == "sha-v1"
    assert world.lifecycle.champion is not None and world.lifecycle.champion.version == "v1"


def test_an_operator_rolls_back_without_a_training(world: World) -> None:
    finish(world, 1, result("v1"))
    world.request(2, 200, action="roll_back")
    world.step()
    assert world.said(world.plan.topics.retraining)[-1]["event"] == "failed", "nothing to roll back to"
    finish(world, 3, result("v3"))
    world.request(4, 400, action="roll_back")
    world.step()
    assert len(world.trainer.asked) == 2
    assert world.lifecycle.champion is not None and world.lifecycle.champion.version == "v1"


def test_a_roll_back_waits_for_no_training_and_the_candidate_is_judged_against_who_serves_now(world: World) -> None:
    finish(world, 1, result("v1"))
    finish(world, 2, result("v2"))
    world.request(3, 300)
    world.cover("archive", 310)
    world.step()
    world.request(4, 400, action="roll_back")
    world.step()
    assert world.lifecycle.champion is not None and world.lifecycle.champion.version == "v1"
    world.trainer.result = result("v3")
    world.step()
    assert [asked.champion for asked in world.trainer.asked[-2:]] == ["sha-v2", "sha-v1"], "judged again"
    assert events(world)[-1] == "rolled_back"
    world.trainer.result = result("v3")
    world.step()
    assert world.lifecycle.champion.version == "v3"
    said = [(record["decision_id"][-1], record["event"]) for record in world.said(world.plan.topics.retraining) if record["event"] != "requested"]
    assert said == [("1", "started"), ("1", "finished"), ("2", "started"), ("2", "finished"), ("3", "started"), ("4", "finished"), ("3", "finished")]


def test_a_roll_back_that_was_done_before_a_crash_is_not_done_again(world: World) -> None:
    for number, version in enumerate(("v1", "v2", "v3"), 1):
        finish(world, number, result(version))
    world.request(4, 400)
    world.cover("archive", 410)
    world.step()
    world.request(5, 500, action="roll_back")
    world.step()
    world.step()
    world.restart()
    # What it had said comes later than the requests: it must wait for it.
    topic = world.plan.topics.retraining
    begin, end = world.read[topic], len(world.topics[topic])
    world.read[topic] = end
    world.task.process([world.records(topic, begin, begin + 3)], CONTEXT)
    world.task.process([world.records(topic, begin + 3, end)], CONTEXT)
    world.step()
    assert events(world).count("rolled_back") == 1
    assert world.lifecycle.champion is not None and world.lifecycle.champion.version == "v2"
    assert [record["event"] for record in world.said(topic)].count("started") == 4, "said once, although it runs again"
    assert [asked.retraining["decision_id"][-1] for asked in world.trainer.asked] == ["4"]


def test_the_registry_hears_when_versions_went_into_and_out_of_service(world: World) -> None:
    finish(world, 1, result("v1"))
    finish(world, 2, result("v2"))
    world.request(3, 300, action="roll_back")
    world.step()
    times = world.registrar.models[MODEL]
    first, second, third = (f"1970-01-01T00:00:00.{tenth}00000+00:00" for tenth in (1, 2, 3))
    assert times.champion == "v1"
    assert times.versions == {
        "v1": {"promoted_at": first, "retired_at": second, "restored_at": third},
        "v2": {"promoted_at": second, "rolled_back_at": third},
    }
    world.restart()
    world.step()
    assert world.registrar.models == {MODEL: times}, "and once more after a restart"


def test_a_quarantined_request_holds_nothing_up(world: World) -> None:
    world.cover("control", 150, 1)
    world.task.skipped(world.plan.topics.retraining, 0, np.array([0]))
    assert world.step().coverage.time_ms == 150


def test_a_failed_training_changes_no_model(world: World) -> None:
    finish(world, 1, result("v1", finished=False))
    assert events(world) == [] and world.said(world.plan.topics.retraining)[-1]["event"] == "failed"


def test_after_a_crash_the_open_request_is_taken_up_and_nothing_is_said_twice(world: World) -> None:
    finish(world, 1, result("v1"))
    world.request(2, 200)
    world.cover("control", 210, 2)
    world.cover("archive", 210)
    world.step()
    world.restart()
    world.step()
    assert [asked.retraining["decision_id"][-1] for asked in world.trainer.asked] == ["2"]
    assert world.trainer.asked[0].champion == "sha-v1", "the lifecycle is known again"
    world.trainer.result = result("v2")
    world.step()
    world.restart()
    world.step()
    assert not world.trainer.asked
    assert events(world).count("promoted") == 2
    assert world.lifecycle.champion is not None and world.lifecycle.champion.version == "v2"
    assert world.last.coverage.time_ms == 210


def test_skipped_requests_count_but_start_nothing(world: World) -> None:
    world.request(1, 100, event="skipped")
    world.cover("control", 150, 2)
    world.cover("archive", 500)
    assert world.step().coverage.time_ms == -1, "control has said more than was read"
    world.request(2, 120, event="skipped")
    assert world.step().coverage.time_ms == 150
    assert not world.trainer.asked
