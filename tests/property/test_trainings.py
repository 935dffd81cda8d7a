"""Kill the retraining worker at every transactional call: each request is answered once, by one end of a training or one lifecycle event."""

import hashlib
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.long_forms import examples
from tests.property.runner_tasks import DyingBroker, Killed, output
from tests.unit.services.drift.stream import shop
from tidemill.runs.watch import record_codec
from tidemill.services.retraining.processes.job_files import JobNews, JobRequest, JobResult
from tidemill.services.retraining.processes.slots import Slots
from tidemill.services.retraining.processes.trainer import Trainer as TrainerPort
from tidemill.services.retraining.task import Places, RetrainingTask, task_inputs
from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.log.broker import Broker
from tidemill.shared.log.topics import catalogue_topics
from tidemill.shared.memory.broker import MemoryBroker
from tidemill.shared.models.deployments import Lifecycle
from tidemill.shared.observability.settings import RunnerSettings, ServiceSettings
from tidemill.shared.runner.progress import Progress
from tidemill.shared.runner.runner import Runner
from tidemill.shared.runner.task import Stage
from tidemill.shared.service.stage import chain_runner

MODEL = "sent_back"
Asked = tuple[str, str]
REQUESTS: list[Asked] = [
    ("train", "requested"), ("train", "skipped"), ("train", "requested"), ("roll_back", "requested"), ("pause", "obeyed"), ("train", "requested"),
    ("roll_back", "requested"), ("roll_back", "requested"), ("train", "requested"),
]  # fmt: skip


class Trainer(TrainerPort):
    """Outlives the worker, as a child's result on disk does; what comes of a request follows from the request alone."""

    def __init__(self) -> None:
        self.request: JobRequest | None = None
        self.left = 0

    def start(self, request: JobRequest) -> None:
        if request != self.request:
            self.request, self.left = request, self._drawn(request) % 3

    def poll(self) -> JobResult | None:
        assert self.request is not None
        self.left -= 1
        if self.left >= 0:
            return None
        drawn = self._drawn(self.request)
        version = f"v{self.request.retraining['decision_id']}"
        passed, back = drawn % 4 != 0, bool(self.request.predecessor) and drawn % 2 == 0
        return JobResult(
            finished=drawn % 7 != 0, reason="because", version=version, passed=passed, roll_back=back and not passed,
            artifact_sha256=f"sha-{version}", artifact_uri="uri",
        )  # fmt: skip

    def news(self) -> list[JobNews]:
        return [JobNews("step", "searching", {"step": "searching", "done": "1", "of": "2"})] if self.left >= 0 else []

    def _drawn(self, request: JobRequest) -> int:
        return hashlib.sha256(f"{request.retraining['decision_id']}{request.champion}".encode()).digest()[0]


class Registrar:
    def record(self, decision: str, record: object) -> None:
        """Nobody looks at it."""

    def want(self, models: object) -> None:
        """Nobody looks at it."""

    def poll(self) -> None:
        """Nothing to do."""


class World:
    """The topics around the worker; control and the archive are ahead of it."""

    def __init__(self, folder: Path, asked: list[Asked]) -> None:
        self.folder, self.asked = folder, asked
        self.plan: Plan = shop(folder)
        self.registry = MemorySchemaRegistry()
        self.broker = MemoryBroker()
        self.broker.create_topics(catalogue_topics("shop", 1))
        self.trainer = Trainer()
        topics, sink = self.plan.topics, self.broker.sink()
        codec = record_codec(self.registry, topics.decisions, "Decision")
        for number, (action, verdict) in enumerate(asked):
            decision = {
                "sequence": number, "decision_id": str(number), "model": MODEL, "action": action, "verdict": verdict, "trigger": "manual",
                "reason": "because", "cause": f"c{number}", "version": "", "serving": "", "operator": "", "issued_at": None, "journal_partition": 0,
                "journal_offset": 0, "journal_time": 100 * number,
            }  # fmt: skip
            sink.publish(topics.decisions, b"m", codec.encode(decision), number, 0)
        self.end_ms = 100 * len(asked) + 50
        for stage in ("control", "archive"):
            progress = Progress(stage, 0, covered_time=self.end_ms, outputs={topics.decisions: len(asked)})
            sink.publish(topics.progress(stage), b"0", progress.encode(record_codec(self.registry, topics.progress(stage), "Progress")), 0, 0)

    def runner(self, broker: Broker, batch: int = 3) -> Runner:
        limits = RunnerSettings(commit_interval_ms=1, idle_interval_ms=1, max_batch=batch, backoff_initial_ms=0, state_folder=self.folder / "state")
        own = ServiceSettings(application=self.folder).model_copy(update={"runner": limits})
        places = Places("app", "lake", "artifacts")

        def task(_partition: int) -> RetrainingTask:
            return RetrainingTask(self.plan, self.registry, Slots([self.trainer], tells_places=True), Registrar(), places)

        return chain_runner([Stage("retraining", task_inputs(self.plan), task)], self.plan, own, broker, self.registry)

    def finish(self, runner: Runner) -> None:
        for _ in range(1_000):
            runner.step()
            if runner.tasks and runner.tasks[0].progress.covered_time >= self.end_ms:
                return
        raise AssertionError("not finished after 1,000 steps")

    def check(self) -> None:
        """Plain counting over what is committed."""
        topics = self.plan.topics
        trainings = self._records(topics.retraining, "Retraining")
        open_ones: set[str] = set()
        for record in trainings:
            assert record["event"] != "step" or record["decision_id"] in open_ones, "news of a training that is not open"
            if record["event"] == "queued":
                assert record["decision_id"] not in open_ones, "in the queue although it runs"
                continue
            if record["event"] == "started":
                open_ones.add(record["decision_id"])
            elif record["event"] != "step":
                open_ones.discard(record["decision_id"])
        trainings = [record for record in trainings if record["event"] not in ("step", "queued")]
        events = self._records(topics.deployments, "Deployment")
        said = Counter((record["decision_id"], record["event"] == "started") for record in trainings)
        answers = Counter(event["decision_id"] for event in events if event["event"] in ("rolled_back", "command_refused") and event["command_id"])
        wanted = {action: [str(i) for i, asked in enumerate(self.asked) if asked == (action, "requested")] for action in ("train", "roll_back")}
        assert said == Counter((identity, first) for identity in wanted["train"] for first in (True, False))
        assert answers == Counter(wanted["roll_back"])
        order = [record["decision_id"] for record in trainings if record["event"] != "started"]
        assert order == wanted["train"], "one at a time, in control's order"
        lifecycle = Lifecycle()
        for event in events:
            lifecycle = lifecycle.apply(event)
        assert lifecycle.ignored == 0

    def _records(self, topic: str, name: str) -> list[dict[str, Any]]:
        codec = record_codec(self.registry, topic, name)
        return [codec.decode(value or b"") for value in output(self.broker, topic)]


@pytest.mark.lasts(5)
@pytest.mark.parametrize("after", [False, True], ids=["before the call", "after the call"])
def test_killed_at_every_call_once(tmp_path: Path, after: bool) -> None:
    survived = 0
    for lives in range(1, 300):
        with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
            world = World(Path(folder), REQUESTS[:6])
            try:
                world.finish(world.runner(DyingBroker(world.broker, lives, after)))
                survived = lives
            except Killed:
                world.finish(world.runner(world.broker))
            world.check()
        if survived:
            break
    assert survived > 20


@pytest.mark.lasts(5)
@settings(max_examples=examples(30), deadline=None)
@given(
    asked=st.lists(st.sampled_from(sorted(set(REQUESTS))), min_size=1, max_size=12),
    kills=st.lists(st.tuples(st.integers(1, 25), st.booleans()), max_size=6),
    batch=st.integers(1, 8),
)
def test_killed_again_and_again(asked: list[Asked], kills: list[tuple[int, bool]], batch: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), asked)
        for lives, after in kills:
            try:
                world.finish(world.runner(DyingBroker(world.broker, lives, after), batch))
            except Killed:
                continue
        world.finish(world.runner(world.broker, batch))
        world.check()
