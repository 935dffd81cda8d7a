"""The worker alone: its input is handed to it, and what it asks of trainer and registry is noted."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.unit.services.drift.stream import APP, shop
from tidemill.runs.watch import record_codec
from tidemill.services.retraining.domain.service_times import ServiceTimes
from tidemill.services.retraining.processes.job_files import JobNews, JobRequest, JobResult
from tidemill.services.retraining.processes.slots import Slots
from tidemill.services.retraining.processes.trainer import Trainer as TrainerPort
from tidemill.services.retraining.task import Places, RetrainingTask, task_inputs
from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.log.records import Checkpoint, Coverage, Records, Step, TopicPartition
from tidemill.shared.models.deployments import Lifecycle
from tidemill.shared.runner.progress import Progress
from tidemill.shared.runner.task import StepContext

CONTEXT = StepContext(now_ms=0)
MODEL = "sent_back"


class Trainer(TrainerPort):
    """Notes what was asked for; results are handed in."""

    def __init__(self) -> None:
        self.asked: list[JobRequest] = []
        self.result: JobResult | None = None
        self.untold: list[JobNews] = []

    def start(self, request: JobRequest) -> None:
        self.asked.append(request)

    def poll(self) -> JobResult | None:
        result, self.result = self.result, None
        return result

    def news(self) -> list[JobNews]:
        told, self.untold = self.untold, []
        return told


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

    def __init__(self, folder: Path, application: str = APP) -> None:
        self.plan: Plan = shop(folder, application)
        self.registry = MemorySchemaRegistry()
        self.topics: dict[str, list[bytes]] = {}
        self.codecs = {
            topic: record_codec(self.registry, topic, name)
            for topic, name in (
                (self.plan.topics.decisions, "Decision"), (self.plan.topics.retraining, "Retraining"), (self.plan.topics.deployments, "Deployment"),
                (self.plan.topics.progress("control"), "Progress"), (self.plan.topics.progress("archive"), "Progress"),
            )
        }  # fmt: skip
        self.start()

    def start(self) -> None:
        self.trainer = Trainer()
        self.registrar = Registrar()
        slots = Slots([self.trainer], tells_places=True)
        self.task = RetrainingTask(self.plan, self.registry, slots, self.registrar, Places("app", "lake", "artifacts"))
        self.read = dict.fromkeys(task_inputs(self.plan).partitioned, 0)
        self.last = Step([], {}, Coverage())

    def restart(self) -> None:
        """Come back from the last step, as the runner would."""
        last = self.last
        assert self.task.checkpoint(0) == Checkpoint()
        self.start()
        self.task.restore([])
        self.task.resume(last.positions, {}, last.coverage.offset, last.coverage.time_ms)
        for topic in task_inputs(self.plan).restores_from_outputs:
            self.task.replay([self.records(topic, 0, len(self.topics.get(topic, [])))])
        self.read = {topic: last.positions.get(TopicPartition(topic, 0), 0) for topic in self.read}
        self.last = last

    def request(self, number: int, time: int, action: str = "train", verdict: str = "requested", **more: Any) -> None:
        record = {
            "sequence": len(self.topics.get(self.plan.topics.decisions, [])), "decision_id": f"{number:032d}", "model": MODEL, "action": action,
            "verdict": verdict, "trigger": "drift", "reason": "worse", "cause": f"d{number}", "version": "", "serving": "", "operator": "",
            "issued_at": None, "journal_partition": 0, "journal_offset": 0, "journal_time": time, **more,
        }  # fmt: skip
        self.add(self.plan.topics.decisions, record)

    def add(self, topic: str, record: dict[str, Any]) -> None:
        self.topics.setdefault(topic, []).append(self.codecs[topic].encode(record))

    def cover(self, stage: str, time: int, decisions: int | None = None) -> None:
        topic = self.plan.topics.progress(stage)
        written = len(self.topics.get(self.plan.topics.decisions, [])) if decisions is None else decisions
        progress = Progress(stage, 0, covered_time=time, outputs={self.plan.topics.decisions: written})
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
    return JobResult(
        finished=finished, reason="because", version=version, passed=passed, roll_back=roll_back, artifact_sha256=f"sha-{version}",
        artifact_uri="uri", threshold=0.4, figures={"auc": 0.7}, details={"family": "lightgbm"},
    )  # fmt: skip


def events(world: World) -> list[str]:
    """What the lifecycle log says, by name."""
    return [event["event"] for event in world.said(world.plan.topics.deployments)]


def finish(world: World, number: int, outcome: JobResult) -> None:
    """Ask for a training, and let it end so."""
    world.request(number, number * 100)
    world.cover("control", number * 100 + 10)
    world.cover("archive", number * 100 + 10)
    world.step()
    world.trainer.result = outcome
    world.step()
