"""One incarnation of one instance: its services on the runner, its crash log on its own disk, and its death."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from campaigns.simulate.faults import Fault, FaultPoints, FaultyBroker, KilledError, Port
from campaigns.simulate.trainer import SeededTrainer, SilentRegistrar
from campaigns.simulate.world import FOLDER, InlineExecutor, World
from tidemill.services.archive.task import ArchiveTask
from tidemill.services.archive.task import task_inputs as archive_inputs
from tidemill.services.control.task import ControlTask
from tidemill.services.control.task import task_inputs as control_inputs
from tidemill.services.drift.task import DriftTask
from tidemill.services.drift.task import task_inputs as drift_inputs
from tidemill.services.explanations.task import ExplanationsTask
from tidemill.services.explanations.task import task_inputs as explanations_inputs
from tidemill.services.features.online import OnlineWriter
from tidemill.services.features.task import FeaturesTask
from tidemill.services.features.task import task_inputs as features_inputs
from tidemill.services.ingestion.operator_commands import OperatorCommands
from tidemill.services.ingestion.task import IngestionTask
from tidemill.services.ingestion.task import task_inputs as ingestion_inputs
from tidemill.services.outcomes.task import OutcomesTask
from tidemill.services.outcomes.task import task_inputs as outcomes_inputs
from tidemill.services.retraining.processes.slots import Slots
from tidemill.services.retraining.task import Places, RetrainingTask
from tidemill.services.retraining.task import task_inputs as retraining_inputs
from tidemill.services.scoring.task import ScoringTask
from tidemill.services.scoring.task import task_inputs as scoring_inputs
from tidemill.shared.log.flood import FloodLimits
from tidemill.shared.log.records import Records
from tidemill.shared.observability.metrics import Metrics
from tidemill.shared.observability.settings import RunnerSettings, ServiceSettings
from tidemill.shared.runner.runner import Runner
from tidemill.shared.runner.task import Stage, StepContext, Task, TaskInputs
from tidemill.shared.service.stage import FUSED, FUSIBLE, chain_runner

# A dozen in a row, or most of about forty: what a schedule publishes in one go.
_FLOODS = FloodLimits(0.5, 40, 12)
GATHERED = ("drift", "control", "retraining")
STAGES = (*FUSIBLE, "outcomes", *GATHERED, "archive")
"""Those of every application."""
EXPLANATIONS = "explanations"


def stage_inputs(world: World) -> dict[str, TaskInputs]:
    """Return what every stage that runs reads, in the order of the data."""
    plan = world.plan
    explained = {EXPLANATIONS: explanations_inputs(plan)} if world.settings.explains else {}
    return {
        "ingestion": ingestion_inputs(plan),
        "features": features_inputs(plan),
        "scoring": scoring_inputs(plan),
        "outcomes": outcomes_inputs(plan),
        **explained,
        "drift": drift_inputs(plan),
        "control": control_inputs(plan),
        "retraining": retraining_inputs(plan),
        "archive": archive_inputs(plan),
    }


class PoisonError(Exception):
    """A fault of the code that one record brings out."""


@cache
def _settings() -> ServiceSettings:
    """Read the environment once."""
    return ServiceSettings(application=FOLDER)


def _crashing(spec: Stage) -> Stage:
    """Return the stage with a fault in its code: it cannot bear records that carry its poison, and every good one."""
    poison = f"poison-{spec.name}".encode()

    def task(partition: int) -> Task:
        made: Any = spec.task(partition)
        made.process, made.replay = _dies_of(poison, made.process), _dies_of(poison, made.replay)
        return made  # type: ignore[no-any-return]  # made is Any: its methods are replaced

    return Stage(spec.name, spec.inputs, task)


def _dies_of(poison: bytes, method: Callable[..., Any]) -> Callable[..., Any]:
    def called(inputs: Sequence[Records], *context: StepContext) -> Any:
        for records in inputs:
            for value in records.values:
                if value is not None and poison in value:
                    raise PoisonError(poison.decode())
        return method(inputs, *context)

    return called


def membership(stage: str, instance: str) -> tuple[str, str]:
    """Return the consumer group of a process, and its name there."""
    return (f"shop-{FUSIBLE[0]}", f"{FUSED}-{instance}") if stage == FUSED else (f"shop-{stage}", instance)


class Process:
    """A running instance.

    Parameters
    ----------
    stage
        One of `stage_inputs`, or ``fused``.
    struck
        Told of every fault that strikes.
    """

    def __init__(self, world: World, stage: str, instance: str, struck: Callable[[Fault], None]) -> None:
        self.stage, self.instance = stage, instance
        self.stages = FUSIBLE if stage == FUSED else (stage,)
        self.transactional_id = f"shop-{stage}-{instance}"
        self.group, self.member = membership(stage, instance)
        self.points = FaultPoints(struck, self._keep_disk)
        self._disk: dict[Path, bytes] = {}
        self.busy = False
        self._state = world.folder / "state" / f"{stage}-{instance}"
        self._runner = self._build(world)

    @property
    def crash_logs(self) -> list[Path]:
        """Files in which crashes are counted across restarts."""
        return sorted(self._state.glob("*.json"))

    @property
    def has_read(self) -> int:
        """How far its (first) stage has read, all tasks and inputs together."""
        return sum(sum(running.reading.values()) for running in self._runner.tasks.values())

    @property
    def _files(self) -> list[Path]:
        return sorted(path for path in self._state.glob("*") if path.is_file())

    def step(self) -> bool:
        """Make one step of the loop; True when it committed.

        Raises
        ------
        KilledError
            A fault ended the process; what its disk held at that moment is what is left.
        Exception
            Whatever ends a real process; the clients are closed.
        """
        self.busy = True
        try:
            return self._runner.step()
        except KilledError:
            self.points.dead = True
            self._restore_disk()
            raise
        except Exception:
            self._close()
            self.points.dead = True
            raise
        finally:
            self.busy = False

    def _keep_disk(self) -> None:
        """Remember what the disk holds at the moment of death: what runs while the simulated death unwinds the stack never ran."""
        self._disk = {path: path.read_bytes() for path in self._files}

    def _restore_disk(self) -> None:
        for path in self._files:
            if path not in self._disk:
                path.unlink()
        for path, content in self._disk.items():
            path.write_bytes(content)

    def _close(self) -> None:
        """Close as `Runner.run` does: what fails over it is not what ended the process."""
        self.points.disarm()
        try:
            self._runner.close()
        except Exception as problem:  # Runner.run notes it on the first problem
            del problem

    def _build(self, world: World) -> Runner:
        limits = RunnerSettings(
            commit_interval_ms=1,
            idle_interval_ms=1,
            max_batch=world.settings.max_batch,
            checkpoint_interval_ms=0 if self.stage == "control" else world.settings.checkpoint_interval_ms,
            checkpoint_bytes=world.settings.checkpoint_bytes,
            backoff_initial_ms=0,
            retries=6,
            state_folder=self._state,
        )
        settings = _settings().model_copy(update={"instance": self.instance, "runner": limits})
        specs = [_crashing(self._spec(world, stage)) for stage in self.stages]
        broker, registry = FaultyBroker(world.broker, self.points), Port(world.registry, "registry", self.points)
        clock = world.clock
        return chain_runner(specs, world.plan, settings, broker, registry, Metrics(self.stage), None, clock_ms=clock.wall_ms, timer=clock.monotonic_s)

    def _spec(self, world: World, stage: str) -> Stage:
        plan, points = world.plan, self.points
        registry = Port(world.registry, "registry", points)
        artifacts: Any = Port(world.artifacts, "artifacts", points)
        if stage == "ingestion":
            references = {stream.topic: world.broker.partitions(stream.topic) for stream in plan.reference_streams}
            commands = OperatorCommands(plan, registry, None)
            return Stage(
                stage,
                ingestion_inputs(plan),
                lambda p: IngestionTask(plan, registry, p, "live", 1_000, references, identity_key=bytes(16), floods=_FLOODS, commands=commands),
            )
        if stage == "features":
            store, executor = Port(world.store(), "store", points), InlineExecutor()
            return Stage(
                stage,
                features_inputs(plan),
                lambda p: FeaturesTask(plan, registry, p, OnlineWriter(store, p, executor, Metrics("features"), world.clock.monotonic_s)),
            )
        if stage == "scoring":
            return Stage(stage, scoring_inputs(plan), lambda p: ScoringTask(plan, registry, artifacts, p, clock_ns=world.scoring_clock))
        if stage == EXPLANATIONS:
            return Stage(stage, explanations_inputs(plan), lambda p: ExplanationsTask(plan, registry, artifacts, p))
        if stage == "outcomes":
            return Stage(stage, outcomes_inputs(plan), lambda p: OutcomesTask(plan, registry, p))
        if stage == "drift":
            return Stage(stage, drift_inputs(plan), lambda _: DriftTask(plan, registry))
        if stage == "control":
            return Stage(stage, control_inputs(plan), lambda _: ControlTask(plan, registry))
        if stage == "archive":
            lake: Any = Port(world.lake, "lake", points)
            return Stage(stage, archive_inputs(plan), lambda p: ArchiveTask(plan, registry, lake, p, 40, 2_000))
        slots = Slots([Port(SeededTrainer(plan, world.artifacts), "trainer", points)])
        places = Places(str(FOLDER), "memory", "memory")
        return Stage(stage, retraining_inputs(plan), lambda _: RetrainingTask(plan, registry, slots, SilentRegistrar(), places))
