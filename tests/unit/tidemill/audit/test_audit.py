"""The audit agrees with a run that followed its journal, and finds whatever else a run can be."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import artifact
from tidemill.audit.audit import AuditResult, Extent, audit
from tidemill.audit.history import prediction_schema
from tidemill.replay.feed import feeds_of
from tidemill.services.cli.dataset import DataSetOptions, load_data_set
from tidemill.services.features.task import FeaturesTask
from tidemill.services.ingestion.task import IngestionTask
from tidemill.services.scoring.domain.core import ScoringCore
from tidemill.services.scoring.loading import load_serving
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.columns import ColumnDecoder, ColumnEncoder
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.log.heartbeat import HEARTBEAT_KEY
from tidemill.shared.log.records import Emission, Records
from tidemill.shared.models.artifacts import ArtifactStore
from tidemill.shared.models.deployments import ModelDeployment
from tidemill.shared.models.signature import Column
from tidemill.shared.runner.task import StepContext

PAYMENTS = Path(__file__).parents[4] / "examples" / "payments"
COUNT = 400
CONTEXT = StepContext(now_ms=0)
COLUMNS = tuple(Column(name=name, type="double") for name in ("amount", "account_spending__count_24h", "account_habit__mean_all"))


def records(topic: str, values: Sequence[bytes | None], keys: Sequence[bytes | None] | None = None, times: Sequence[int] | None = None) -> Records:
    n = len(values)
    return Records(topic, 0, np.arange(n), np.array(times if times is not None else [0] * n, np.int64), keys or [b""] * n, values)


def portions(run: Records, size: int) -> Iterator[Records]:
    return (run[slice(begin, begin + size)] for begin in range(0, len(run), size))


class Run:
    """A run in lists, as its topics would have it; read in portions of uneven sizes."""

    def __init__(self, plan: Plan, registry: MemorySchemaRegistry, store: ArtifactStore) -> None:
        self.entries, self.asked, self.answers = self._make(plan, registry, store)

    def journal(self, partition: int) -> Iterator[Records]:
        return portions(self.entries, 37)

    def vectors(self, partition: int) -> Iterator[Records]:
        return portions(self.asked, 53)

    def predictions(self, partition: int) -> Iterator[Records]:
        return portions(self.answers, 41)

    def shadow_scores(self, partition: int) -> Iterator[Records]:
        return iter(())

    def revisions(self) -> Sequence[dict[str, Any]]:
        return ()

    def deployments(self) -> Sequence[dict[str, Any]]:
        common = {"model": "fraud", "version": "v1", "artifact_sha256": self.address, "threshold": 0.4}
        return [{**common, "sequence": i, "parent": i - 1, "event": event} for i, event in enumerate(("registered", "promoted"))]

    def _make(self, plan: Plan, registry: MemorySchemaRegistry, store: ArtifactStore) -> tuple[Records, Records, Records]:
        ingestion, features = IngestionTask(plan, registry, 0, "replay"), FeaturesTask(plan, registry, 0)
        raw, last = [], 0
        for feed in feeds_of(plan, registry, load_data_set(plan, "payments", DataSetOptions(count=COUNT))):
            keys, values = feed.records(0, len(feed.available_ms))
            last = max(last, int(feed.available_ms[-1]) + 1)
            times = [*feed.available_ms.tolist(), 10**14]
            raw.append(records(feed.topic, [*values, None], [*keys, HEARTBEAT_KEY], times))
        journal = records(plan.topics.journal, emitted(ingestion.process(raw, CONTEXT).emissions, plan.topics.journal))
        asked = records(plan.topics.vectors, emitted(features.process([journal], CONTEXT).emissions, plan.topics.vectors))
        made, _, _ = artifact("lightgbm", COLUMNS)
        self.address = store.put(made.to_bytes())
        serving = load_serving(plan, store, "fraud", ModelDeployment("v1", self.address, 1, 0.4))
        batch = ColumnDecoder(registry, plan.vector_schema).decode(asked.values).batch
        encoder, core = ColumnEncoder(registry, f"{plan.topics.predictions}-tidemill.Prediction", prediction_schema()), ScoringCore(plan)
        parts = [core.process(batch.slice(0, 150), {}), core.process(batch.slice(150), {"fraud": serving})]
        answers = [value for part in parts for value in encoder.encode(part.batch)]
        return journal, asked, records(plan.topics.predictions, answers)


def emitted(emissions: Sequence[Emission], topic: str) -> list[bytes | None]:
    return [value for emission in emissions if emission.topic == topic for value in emission.values]


def without(run: Records, place: int) -> Records:
    return records(run.topic, [value for i, value in enumerate(run.values) if i != place])


def twice(run: Records, place: int) -> Records:
    return records(run.topic, [*run.values[: place + 1], run.values[place], *run.values[place + 1 :]])


def changed(run: Records, place: int) -> Records:
    """A letter of a record's first text is another one."""
    value = run.values[place] or b""
    other = value[:8] + bytes([value[8] ^ 1]) + value[9:]
    return records(run.topic, [other if i == place else old for i, old in enumerate(run.values)])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, MemorySchemaRegistry, ArtifactStore, Run]:
    plan, registry, store = load_plan(PAYMENTS), MemorySchemaRegistry(), ArtifactStore(str(tmp_path_factory.mktemp("artifacts")))
    return plan, registry, store, Run(plan, registry, store)


@pytest.fixture
def check(made: tuple[Plan, MemorySchemaRegistry, ArtifactStore, Run]) -> Callable[..., AuditResult]:
    plan, registry, store, run = made

    def look(extent: Extent | None = None, **changes: Records) -> AuditResult:
        other = Run.__new__(Run)
        other.__dict__.update({**run.__dict__, **changes})
        return audit(plan, registry, store, other, None if extent is None else {0: extent})

    return look


Made = tuple[Plan, MemorySchemaRegistry, ArtifactStore, Run]


def test_a_run_that_followed_its_journal_is_clean(check: Callable[..., AuditResult]) -> None:
    result = check()
    assert result == AuditResult(COUNT, 0, COUNT, 0, 0) and result.clean


def test_finds_lost_doubled_and_changed_vectors(check: Callable[..., AuditResult], made: Made) -> None:
    asked = made[3].asked
    assert check(asked=without(asked, COUNT - 1)).vector_mismatches == 1
    assert check(asked=without(asked, 5)).vector_mismatches >= 1
    assert check(asked=twice(asked, 5)).vector_mismatches >= 1
    result = check(asked=changed(asked, 200))
    assert result.vector_mismatches == 1 and result.examples[0] == "vector 200 of partition 0: differs"
    assert check(asked=records(asked.topic, [*asked.values[:9], b"nothing", *asked.values[10:]])).vector_mismatches == 1


def test_finds_lost_doubled_and_unexplained_predictions_one_by_one(check: Callable[..., AuditResult], made: Made) -> None:
    answers = made[3].answers
    for place in (0, 52, 53, 160, COUNT - 1):
        lost = check(answers=without(answers, place))
        assert (lost.prediction_mismatches, lost.vector_mismatches, lost.switches_back) == (1, 0, 0), place
        doubled = check(answers=twice(answers, place))
        assert doubled.prediction_mismatches == 1 and doubled.predictions_compared == COUNT + 1, place
    late = records(answers.topic, [*answers.values, answers.values[0]])
    assert check(answers=late).prediction_mismatches == 1
    assert check(answers=records(answers.topic, [])).prediction_mismatches == COUNT
    unreadable = check(answers=records(answers.topic, [*answers.values[:9], b"nothing", *answers.values[10:]]))
    assert unreadable.prediction_mismatches == 2, "one is missing, one is nothing"


def test_finds_a_switch_back_and_a_model_that_cannot_be_loaded(check: Callable[..., AuditResult], made: Made, tmp_path: Path) -> None:
    plan, registry, _, run = made
    order = [*range(160), 155 - 150, *range(161, COUNT)]
    swapped = records(run.answers.topic, [run.answers.values[i] for i in order])
    assert not check(answers=swapped).clean
    gone = audit(plan, registry, ArtifactStore(str(tmp_path)), run)
    assert gone.prediction_mismatches == COUNT - 150 and gone.vector_mismatches == 0


def test_looks_no_further_than_told_and_passes_over_what_was_quarantined(check: Callable[..., AuditResult], made: Made) -> None:
    asked, answers = made[3].asked, made[3].answers
    end = 300
    cut = Extent(features=end, scoring=end)
    result = check(cut)
    assert result.clean and 0 < result.vectors_compared == result.predictions_compared < COUNT
    assert check(cut, asked=asked[: result.vectors_compared + 20], answers=answers[: result.vectors_compared + 3]).clean
    assert check(cut, asked=asked[: result.vectors_compared - 1]).vector_mismatches == 1
    put_aside = Extent(quarantined_vectors=frozenset({7}))
    assert check(put_aside).prediction_mismatches == 1, "it has a prediction although it was put aside"
    assert check(put_aside, answers=without(answers, 7)).clean


def test_nothing_is_not_clean(check: Callable[..., AuditResult], made: Made) -> None:
    nothing = {name: replace(getattr(made[3], name)[:0]) for name in ("entries", "asked", "answers")}
    assert not check(**nothing).clean


@pytest.mark.parametrize("reason", ["latency", "model_failed"])
def test_answers_of_the_fallback_in_place_of_a_model_are_named_and_held_to_the_fallback(
    check: Callable[..., AuditResult], made: Made, reason: str
) -> None:
    plan, registry, store, run = made
    serving = load_serving(plan, store, "fraud", ModelDeployment("v1", run.address, 1, 0.4)).without_model(reason)
    batch = ColumnDecoder(registry, plan.vector_schema).decode(run.asked.values).batch.slice(200, 30)
    encoder = ColumnEncoder(registry, f"{plan.topics.predictions}-tidemill.Prediction", prediction_schema())
    late = encoder.encode(ScoringCore(plan).process(batch, {"fraud": serving}).batch)
    answers = records(run.answers.topic, [*run.answers.values[:200], *late, *run.answers.values[230:]])
    result = check(answers=answers)
    assert result.clean and result.degraded == {reason: 30} and result.predictions_compared == COUNT
    wrong = check(answers=changed(answers, 210))
    assert wrong.prediction_mismatches == 1 and wrong.degraded == {reason: 29}
