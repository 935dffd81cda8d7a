"""A run whose ingestion, features and scoring are separate processes, on the broker in memory: changed, killed between any two steps, resumed."""

from collections.abc import Callable
from contextlib import closing
from functools import cache
from pathlib import Path

from tests.unit.tidemill.planning.one_process import OneProcess
from tidemill.backtest.stages import StageWorld, outcomes_runner
from tidemill.backtest.virtual_time import TimedSink
from tidemill.planning.take_over import switch_all
from tidemill.runs.path_backlog import PathBacklog, answer_what_waits, former_application
from tidemill.runs.supervisor import ServiceFailed
from tidemill.runs.topics import create_topics
from tidemill.services.features.task import FeaturesTask
from tidemill.services.features.task import task_inputs as features_inputs
from tidemill.services.ingestion.service import stage as ingestion_stage
from tidemill.services.scoring.service import stage as scoring_stage
from tidemill.shared.application import planning
from tidemill.shared.application.plan import Plan
from tidemill.shared.log.heartbeat import HEARTBEAT_KEY
from tidemill.shared.observability.metrics import Metrics
from tidemill.shared.runner.runner import Runner
from tidemill.shared.runner.task import Stage
from tidemill.shared.service.stage import FUSIBLE

ORDER = (*FUSIBLE, "outcomes")
# From a record to a stage's commit that follows from it, with every rest of what was before.
_ENOUGH_STEPS = 30


@cache
def load_plan(folder: Path) -> Plan:
    """Load an application once."""
    return planning.load_plan(folder)


class KilledError(RuntimeError):
    """All processes of the run are gone."""


class SeparateProcesses(OneProcess):
    """The run; `steps` does what its supervisor would have done."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.runners: dict[str, Runner] = {}
        self.reads: dict[str, Path] = {}
        self.fails: Callable[[str, Path], bool] = lambda name, content: False

    def resume(self, application: Path) -> None:
        """Start every process, as `running_application` does: what waits is answered by the former application first."""
        plan = load_plan(application)
        create_topics(plan, self.broker)
        self.plan, self.had[plan.application_hash] = plan, plan
        with closing(self.backlog()) as backlog:
            former = former_application(backlog, plan.application_hash)
            if former is not None:
                content = next(folder for folder in self.folder.glob("app-*") if load_plan(folder).application_hash == former)
                for name in FUSIBLE[1:]:
                    self._begin(name, content)
                for name in FUSIBLE[1:]:
                    answer_what_waits(backlog, name, self.step)
                for name in FUSIBLE[1:]:
                    self.runners.pop(name).close()
        for name in reversed(ORDER):
            self._begin(name, application)

    def backlog(self) -> PathBacklog:
        """Ask how far the path has come."""
        return PathBacklog(self.plan, self.broker, self.registry)

    def kill(self) -> None:
        """End everything as it stands."""
        self.runners.clear()

    def step(self) -> None:
        """Let every process that is there make a step."""
        for runner in list(self.runners.values()):
            runner.step()

    def rest(self) -> None:
        """Let everything come to rest."""
        for _ in range(_ENOUGH_STEPS):
            self.step()

    def send(self, count: int, *stages: str) -> None:
        """Publish readings, and let some stages take a step, each time the first of them: what they write waits for those behind."""
        sink = TimedSink(self.broker.sink(), self.clock)
        for _ in range(count):
            at = 1_700_000_000_000 + self._rows * 600_000
            f0, f1 = self._random.normal(size=2).tolist()
            row = {"reading_id": f"r{self._rows}", "meter": f"m{self._rows % 3}", "at": at, "f0": f0, "f1": f1}
            self._send(sink, "meters-readings", row)
            for topic in self.plan.topics.raw:
                sink.publish(topic, HEARTBEAT_KEY, None, at + 1)
            self._rows += 1
        for name in stages:
            for _ in range(3):
                if name in self.runners:
                    self.runners[name].step()

    def on_the_way(self) -> None:
        """Leave requests between every two stages: in the vectors, in the journal, and as users wrote them."""
        self.send(2, "ingestion", "features")
        self.send(2, "ingestion")
        self.send(2)

    def apply(self, before: Path, after: Path, kill_at: int = -1) -> int:
        """Change the application with requests on the way at every step; returns how many steps that took.

        Raises
        ------
        KilledError
            Before the step of that number.
        """
        services = _Services(self, kill_at)
        plan = load_plan(after)
        create_topics(plan, self.broker)
        self.had[plan.application_hash] = plan
        switch_all(services, ORDER, before, after, lambda line: None)
        self.plan = plan
        return services.steps

    def _begin(self, name: str, content: Path) -> None:
        plan = load_plan(content)
        world = StageWorld(plan, content, self.folder, self.broker, self.registry, self.clock, self.artifacts)
        settings = world.settings()
        made: dict[str, Callable[[], Runner]] = {
            "ingestion": lambda: world.runner(name, ingestion_stage(settings, plan, self.broker, self.registry)),
            "features": lambda: world.runner(name, Stage(name, features_inputs(plan), lambda p: FeaturesTask(plan, self.registry, p))),
            "scoring": lambda: world.runner(name, scoring_stage(settings, plan, self.registry, Metrics(name), "replay")),
            "outcomes": lambda: outcomes_runner(world),
        }
        self.runners[name], self.reads[name] = made[name](), content
        # Ready, and committed under its application.
        for _ in range(5):
            self.runners[name].step()


class _Services:
    def __init__(self, run: SeparateProcesses, kill_at: int) -> None:
        self._run, self._kill_at, self.steps = run, kill_at, 0

    def _step(self) -> None:
        if self.steps == self._kill_at:
            self._run.kill()
            raise KilledError
        self.steps += 1
        self._run.on_the_way()

    def switch(self, name: str, content: Path) -> None:
        self._step()
        self.end(name)
        if self._run.fails(name, content):
            raise ServiceFailed(f"service {name} ended with 1")
        self._run._begin(name, content)
        with closing(self._run.backlog()) as backlog:
            assert name not in backlog.stages or backlog.applications(name) == {load_plan(content).application_hash}

    def wait_covered(self, name: str) -> None:
        self._step()
        with closing(self._run.backlog()) as backlog:
            if name in backlog.stages:
                answer_what_waits(backlog, name, self._run.step)

    def end(self, name: str) -> None:
        if name in self._run.runners:
            self._run.runners.pop(name).close()
