"""The worker: waits for the archive, publishes lifecycle events once, takes up what a crash left."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.cli.watch import record_codec
from services.retraining.job import JobRequest, JobResult
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
        self.task = RetrainingTask(self.plan, self.registry, self.trainer, Places("app", "lake", "artifacts", "registry"))
        self.read = dict.fromkeys(self.codecs, 0)
        self.last = Step([], {}, self.task._coverage)

    def restart(self) -> None:
        """Come back from the last step, as the runner would."""
        last, outputs = self.last, {self.plan.topics.deployments: len(self.topics.get(self.plan.topics.deployments, []))}
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
