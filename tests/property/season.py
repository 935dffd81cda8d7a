"""A season of a small shop through the stages' real tasks: what the properties of tasks are tried on."""

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import fastavro
import numpy as np

from campaigns.simulate.lake import MemoryLake
from campaigns.simulate.trainer import SeededTrainer, SilentRegistrar
from tests.property.task_driver import Driver
from tests.unit.services.drift.stream import APP, DAY, START, shop
from tidemill.services.archive.task import ArchiveTask
from tidemill.services.archive.task import task_inputs as archive_inputs
from tidemill.services.control.task import ControlTask
from tidemill.services.control.task import task_inputs as control_inputs
from tidemill.services.drift.task import DriftTask
from tidemill.services.drift.task import task_inputs as drift_inputs
from tidemill.services.explanations.task import ExplanationsTask
from tidemill.services.explanations.task import task_inputs as explanations_inputs
from tidemill.services.features.task import FeaturesTask
from tidemill.services.features.task import task_inputs as features_inputs
from tidemill.services.ingestion.task import IngestionTask
from tidemill.services.ingestion.task import task_inputs as ingestion_inputs
from tidemill.services.outcomes.task import OutcomesTask
from tidemill.services.outcomes.task import task_inputs as outcomes_inputs
from tidemill.services.retraining.processes.slots import Slots
from tidemill.services.retraining.task import Places, RetrainingTask
from tidemill.services.retraining.task import task_inputs as retraining_inputs
from tidemill.services.scoring.task import ScoringTask
from tidemill.services.scoring.task import task_inputs as scoring_inputs
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.messages import message_codec, message_decoder
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.log.broker import TopicSpec
from tidemill.shared.log.heartbeat import HEARTBEAT_KEY
from tidemill.shared.log.records import Emission
from tidemill.shared.log.topics import catalogue_topics
from tidemill.shared.memory.broker import MemoryBroker
from tidemill.shared.models.artifacts import ArtifactStore
from tidemill.shared.runner.task import Task, TaskInputs

HOUR = 3_600_000
ORDERS, DAYS = 160, 12
VIEW = """
entities:
  country: {from: {orders: country}}
views:
  country_orders: {entity: country, source: orders, value: amount, aggregate: [count, mean], windows: [1d]}
"""
APPLICATION = APP.replace("bootstrap_labels: 500", "bootstrap_labels: 20").replace("models:", f"{VIEW}models:") + "    explain: {top: 2}\n"


@dataclass(frozen=True, slots=True)
class Case:
    """A stage: what it reads, how its task is made (with a lake of its own), and what it reads before anything else."""

    inputs: Callable[[Plan], TaskInputs]
    make: Callable[["Season", MemoryLake], Task]
    first: Callable[[Plan], Sequence[str]] = lambda plan: ()


def handed_on(plan: Plan, registry: MemorySchemaRegistry) -> dict[str, ColumnDecoder]:
    """Decoders of what stages hand on in columns beside the records, by topic."""
    topics = plan.topics
    messages = {topics.predictions: "prediction", topics.shadow_scores: "shadow-score", topics.outcomes: "outcome"}
    return {
        topics.vectors: ColumnDecoder(registry, plan.vector_schema),
        **{topic: message_decoder(registry, name) for topic, name in messages.items()},
    }


class Season:
    """A season of the shop as it lies in the topics, each stage's by that stage's real task.

    Parameters
    ----------
    application
        Text of app.yaml.
    stages
        In the order of the data.

    Attributes
    ----------
    whole
        What each stage has done, driven in large portions.
    """

    def __init__(self, folder: Path, application: str, stages: Iterable[str]) -> None:
        shop(folder)
        self.folder = folder
        (folder / "app.yaml").write_text(application)
        self.plan = load_plan(folder)
        self.registry = MemorySchemaRegistry()
        self.artifacts = ArtifactStore(str(folder / "artifacts"))
        self.spill = folder / "spill"
        self.logs = MemoryBroker()
        self.logs.create_topics([*catalogue_topics("shop", 1), *(TopicSpec(topic) for topic in self.plan.topics.raw)])
        self._publish_orders()
        self.deploy()
        self.whole = {}
        for stage in stages:
            driver = self.driver(stage, seed=1, portion=40)
            driver.codec = message_codec(self.registry, self.plan.topics.progress(stage), "progress")
            driver.run()
            for topic, rows in {**driver.written, self.plan.topics.progress(stage): driver.said}.items():
                self._append(topic, rows)
            self.whole[stage] = outcome_of(driver)

    def deploy(self) -> None:
        """Publish deployments, before any stage has run; none unless a season has some."""

    def driver(
        self, stage: str, seed: int, portion: int, restart: float = 0.0, rebuild: float = 0.0, make: Callable[[], Task] | None = None
    ) -> Driver:
        """Make the driver of a stage's task."""
        case, lake = CASES[stage], MemoryLake()
        making = make or partial(case.make, self, lake)
        rng = np.random.default_rng(seed)
        first, decoders = case.first(self.plan), handed_on(self.plan, self.registry)
        return Driver(stage, case.inputs(self.plan), making, self.logs, rng, lake, portion, restart, rebuild, first=first, decoders=decoders)

    def _append(self, topic: str, rows: Sequence[tuple[bytes | None, bytes | None, int]]) -> None:
        times = np.array([at for _, _, at in rows], np.int64)
        self.logs.append(Emission(topic, 0, [key for key, _, _ in rows], [value for _, value, _ in rows], times), None)

    def _in_avro(self, order: Mapping[str, Any], written: int) -> bytes:
        """An order as its producer writes it in Avro, the second time with another type and a field more."""
        schema = json.loads((self.folder / "order.avsc").read_text())
        if written:
            schema["fields"] = [{**one, "type": ["null", "float"]} if one["name"] == "amount" else one for one in schema["fields"]]
            schema["fields"].append({"name": "gift", "type": "boolean"})
        text = io.BytesIO()
        fastavro.schemaless_writer(text, fastavro.parse_schema(schema), {**order, "gift": True})
        number = self.registry.register(f"{self.plan.topics.raw[0]}-value-{written}", json.dumps(schema))
        return b"\x00" + number.to_bytes(4, "big") + text.getvalue()

    def _publish_orders(self) -> None:
        rng = np.random.default_rng(7)
        times = np.sort(rng.integers(START, START + DAYS * DAY, ORDERS)).tolist()
        orders: list[tuple[int, bytes | None, bytes]] = []
        returns: list[tuple[int, bytes | None, bytes]] = []
        for i, time in enumerate(times):
            amount = float(rng.lognormal(1.0 if time > START + 7 * DAY else 0.0, 0.5))
            where, weight = str(rng.choice(["de", "fr", "it"])), float(rng.normal())
            order = {"order_id": f"o{i}", "placed": time, "amount": amount, "weight": weight, "country": where}
            value = json.dumps(order).encode() if i % 3 else self._in_avro(order, written=0 if i < 2 * ORDERS // 3 else 1)
            orders.append((time, value, f"o{i}".encode()))
            if i % 9 == 0:
                orders.append((time + 1, b"garbage", f"o{i}".encode()))
            if i % 11 == 0:
                orders.append((time + 2, orders[-1][1], f"o{i}".encode()))
            if i % 10:
                back = time + int(rng.integers(HOUR, 30 * HOUR))
                label = {"order_id": f"o{i}", "returned": back, "bad": float(rng.random() < 0.4)}
                returns.append((back, json.dumps(label).encode(), f"o{i}".encode()))
        beats = [(at, None, HEARTBEAT_KEY) for at in range(START, START + (DAYS + 4) * DAY, 12 * HOUR)]
        for name, events in (("orders", orders), ("returns", returns)):
            rows = sorted([*events, *beats], key=lambda row: row[0])
            self._append(self.plan.streams[name].topic, [(key, value, at) for at, value, key in rows])


def retraining(season: Season, _: MemoryLake) -> Task:
    slots = Slots([SeededTrainer(season.plan, season.artifacts)])
    return RetrainingTask(season.plan, season.registry, slots, SilentRegistrar(), Places("shop", "lake", "models"))


def what_is_merged(plan: Plan) -> TaskInputs:
    """What became of decisions comes to control when it comes: its place among the findings is no journal's."""
    inputs = control_inputs(plan)
    when_it_comes = (plan.topics.retraining, plan.topics.deployments)
    return replace(inputs, partitioned=tuple(topic for topic in inputs.partitioned if topic not in when_it_comes))


CASES: Mapping[str, Case] = {
    "ingestion": Case(ingestion_inputs, lambda season, _: IngestionTask(season.plan, season.registry, 0, "replay", identity_key=bytes(16))),
    "features": Case(features_inputs, lambda season, _: FeaturesTask(season.plan, season.registry, 0, spill_folder=season.spill)),
    "scoring": Case(
        scoring_inputs,
        lambda season, _: ScoringTask(season.plan, season.registry, season.artifacts, 0, live=False),
        # Models switch between steps, wherever the vectors are: one that is there before the first of them has one place only.
        lambda plan: (plan.topics.deployments,),
    ),
    "outcomes": Case(outcomes_inputs, lambda season, _: OutcomesTask(season.plan, season.registry, 0)),
    "explanations": Case(explanations_inputs, lambda season, _: ExplanationsTask(season.plan, season.registry, season.artifacts, 0)),
    "drift": Case(drift_inputs, lambda season, _: DriftTask(season.plan, season.registry)),
    "control": Case(what_is_merged, lambda season, _: ControlTask(season.plan, season.registry)),
    "archive": Case(archive_inputs, lambda season, lake: ArchiveTask(season.plan, season.registry, lake, 0, 40, 10**9)),  # type: ignore[arg-type]  # a lake in memory
    "retraining": Case(retraining_inputs, retraining),
}


def outcome_of(driver: Driver) -> dict[str, Any]:
    """What is to be the same: records by topic, what is covered, where the task stands, and rows in the lake."""
    digests = {topic: (len(rows), hashlib.sha256(repr(rows).encode()).hexdigest()) for topic, rows in driver.written.items() if rows}
    data = {place: offset for place, offset in driver.progress.input_offsets.items() if not place.topic.endswith("-progress")}
    return {"written": digests, "covered": driver.progress.coverage, "positions": data, "lake": driver.lake.rows}
