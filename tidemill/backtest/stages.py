"""Every stage of an application on the runner, in this process: the live tasks, the broker in memory, virtual time."""

from dataclasses import dataclass
from pathlib import Path

from tidemill.backtest.virtual_time import VirtualClock
from tidemill.services.archive.task import ArchiveTask
from tidemill.services.archive.task import task_inputs as archive_inputs
from tidemill.services.control.task import ControlTask
from tidemill.services.control.task import task_inputs as control_inputs
from tidemill.services.drift.task import DriftTask
from tidemill.services.drift.task import task_inputs as drift_inputs
from tidemill.services.explanations.service import stage as explanations_stage
from tidemill.services.features.task import FeaturesTask
from tidemill.services.features.task import task_inputs as features_inputs
from tidemill.services.ingestion.service import stage as ingestion_stage
from tidemill.services.ingestion.settings import ClockSettings, IngestionSettings
from tidemill.services.outcomes.task import OutcomesTask
from tidemill.services.outcomes.task import task_inputs as outcomes_inputs
from tidemill.services.retraining.processes.registrar import Registrar
from tidemill.services.retraining.processes.slots import Slots
from tidemill.services.retraining.processes.trainer import Trainer
from tidemill.services.retraining.task import Places, RetrainingTask
from tidemill.services.retraining.task import task_inputs as retraining_inputs
from tidemill.services.scoring.service import stage as scoring_stage
from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.lake.tables import PLAIN, Lake
from tidemill.shared.log.broker import Broker
from tidemill.shared.observability.metrics import Metrics
from tidemill.shared.observability.settings import ArtifactSettings, CommandsSettings, LakeSettings, RunnerSettings
from tidemill.shared.runner.runner import Runner
from tidemill.shared.runner.task import Stage
from tidemill.shared.service.stage import FUSED, chain_runner, letter_limit

_NEVER_MS = 1 << 62
_MAX_BATCH = 50_000
_FLUSH_ROWS = 200_000


@dataclass(frozen=True, slots=True)
class StageWorld:
    """What the stages of a backtest share.

    Attributes
    ----------
    application, folder
        The application's folder; where lake, trainings and spilled tables lie.
    artifacts
        Address of the models.
    """

    plan: Plan
    application: Path
    folder: Path
    broker: Broker
    registry: SchemaRegistry
    clock: VirtualClock
    artifacts: str

    @property
    def lake(self) -> str:
        """Address of the lake."""
        return str((self.folder / "lake").absolute())

    def settings(self) -> IngestionSettings:
        """Return what the services' wiring reads.

        State is not written to checkpoints: a backtest that ends begins anew. A step waits for nothing.
        """
        runner = RunnerSettings(
            commit_interval_ms=1,
            idle_interval_ms=1,
            max_batch=_MAX_BATCH,
            checkpoint_interval_ms=_NEVER_MS,
            backoff_initial_ms=0,
            retries=0,
            state_folder=self.folder / "state",
        )
        return IngestionSettings(
            application=self.application,
            instance="backtest",
            lake=LakeSettings(uri=self.lake),
            artifacts=ArtifactSettings(uri=self.artifacts),
            commands=CommandsSettings(key_file=self.folder / "commands-key"),
            ingestion=ClockSettings(clock="replay"),
            runner=runner,
        )

    def runner(self, name: str, *stages: Stage) -> Runner:
        """Return the runner of stages that share a transaction."""
        clock = self.clock
        return chain_runner(
            stages, self.plan, self.settings(), self.broker, self.registry, Metrics(name), None, clock_ms=clock.now_ms, timer=clock.steady_s
        )


def path_runner(world: StageWorld, *, raw: bool) -> Runner:
    """Return the runner of the way from an event to its prediction.

    Parameters
    ----------
    raw
        Whether it begins with ingestion; else the journal is there already.
    """
    plan, registry, settings = world.plan, world.registry, world.settings()
    spill = settings.runner.state_folder / "spill"
    stages = [
        Stage("features", features_inputs(plan), lambda p: FeaturesTask(plan, registry, p, None, spill)),
        scoring_stage(settings, plan, registry, Metrics("scoring"), "replay"),
    ]
    return world.runner(FUSED, *([ingestion_stage(settings, plan, world.broker, registry)] if raw else []), *stages)


def outcomes_runner(world: StageWorld) -> Runner:
    """Return the runner of outcomes."""
    plan, registry, limit = world.plan, world.registry, letter_limit(world.plan, world.broker)
    return world.runner("outcomes", Stage("outcomes", outcomes_inputs(plan), lambda p: OutcomesTask(plan, registry, p, limit)))


def explanations_runner(world: StageWorld) -> Runner:
    """Return the runner of explanations: what a live one writes, bit for bit."""
    return world.runner("explanations", explanations_stage(world.settings(), world.plan, world.registry))


def drift_runner(world: StageWorld, *, revises: bool = True) -> Runner:
    """Return the runner of drift; it writes no revisions where those of a run are given again."""
    plan, registry = world.plan, world.registry
    return world.runner("drift", Stage("drift", drift_inputs(plan), lambda _: DriftTask(plan, registry, revises=revises)))


def control_runner(world: StageWorld) -> Runner:
    """Return the runner of control; nobody commands a backtest."""
    plan, registry = world.plan, world.registry
    return world.runner("control", Stage("control", control_inputs(plan), lambda _: ControlTask(plan, registry)))


def archive_runner(world: StageWorld) -> Runner:
    """Return the runner of archive: it writes when much has come, or when a training waits for it."""
    plan, registry, lake = world.plan, world.registry, Lake(world.lake, world.plan.application.app, PLAIN)

    def task(partition: int) -> ArchiveTask:
        return ArchiveTask(plan, registry, lake, partition, _FLUSH_ROWS, _NEVER_MS)

    return world.runner("archive", Stage("archive", archive_inputs(plan), task))


def retraining_runner(world: StageWorld, trainer: Trainer, registrar: Registrar) -> Runner:
    """Return the runner of retraining."""
    plan, registry = world.plan, world.registry
    places, slots = Places(str(world.application.absolute()), world.lake, world.artifacts), Slots([trainer])

    def task(_partition: int) -> RetrainingTask:
        return RetrainingTask(plan, registry, slots, registrar, places)

    return world.runner("retraining", Stage("retraining", retraining_inputs(plan), task))
