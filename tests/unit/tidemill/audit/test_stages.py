"""The audit of a run in which a challenger went through shadow and an A/B test: clean as it was, and every wrong record of a trial is found."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.models import artifact
from tests.unit.tidemill.audit.test_audit import COLUMNS, COUNT, PAYMENTS, Run, portions, records
from tidemill.audit.audit import AuditResult, Extent, audit
from tidemill.audit.history import prediction_schema, shadow_score_schema
from tidemill.services.scoring.domain.core import ScoringCore
from tidemill.services.scoring.domain.serving import Challenge, Serving
from tidemill.services.scoring.loading import load_serving
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.columns import ColumnDecoder, ColumnEncoder
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.log.records import Records
from tidemill.shared.models.artifacts import ArtifactStore
from tidemill.shared.models.deployments import ModelDeployment

SHARE = 0.3
CUTS = (100, 200, 320)
"""Requests before the trial, in shadow, in an A/B test, and after the step back."""


class Trial(Run):
    """A run whose challenger is stepped back; keys are the requests' ids."""

    shadows: Records

    def shadow_scores(self, partition: int) -> Iterator[Records]:
        return portions(self.shadows, 29)

    def deployments(self) -> Sequence[dict[str, Any]]:
        common = {"model": "fraud", "threshold": 0.4, "journal_time": 0, "reason": "", "share": 0.0}
        events = (("promoted", "v1", self.address), *((event, "v2", self.other) for event in ("shadow", "ab", "stepped_back")))
        return [
            {**common, "sequence": i, "parent": i - 1, "event": event, "version": version, "artifact_sha256": address, "share": SHARE}
            for i, (event, version, address) in enumerate(events)
        ]

    def _make(self, plan: Plan, registry: MemorySchemaRegistry, store: ArtifactStore) -> tuple[Records, Records, Records]:
        journal, asked, _ = super()._make(plan, registry, store)
        batch = ColumnDecoder(registry, plan.vector_schema).decode(asked.values).batch
        asked = replace(asked, keys=[name.encode() for name in batch.column("_request_id").to_pylist()])
        self.other = store.put(artifact("logistic_regression", COLUMNS, "v2")[0].to_bytes())
        self.champion = load_serving(plan, store, "fraud", ModelDeployment("v1", self.address, 0, 0.4))
        shadow = Challenge(load_serving(plan, store, "fraud", ModelDeployment("v2", self.other, 1, 0.4)), self.other)
        canary = Challenge(replace(shadow.serving, deployment_sequence=2), self.other, SHARE, "ab")
        self.stages = [self.champion, replace(self.champion, challenge=shadow), replace(self.champion, challenge=canary), self.champion]
        self.plan, self.registry, self.batch, self.keys = plan, registry, batch, asked.keys
        edges = [0, *CUTS, COUNT]
        parts = [self.said(now, begin, end) for now, begin, end in zip(self.stages, edges[:-1], edges[1:], strict=True)]
        self.shadows = records(plan.topics.shadow_scores, [value for _, shadows in parts for value in shadows])
        return journal, asked, records(plan.topics.predictions, [value for answers, _ in parts for value in answers])

    def said(self, now: Serving, begin: int, end: int) -> tuple[Sequence[bytes | None], Sequence[bytes | None]]:
        topics = self.plan.topics
        encoder = ColumnEncoder(self.registry, f"{topics.predictions}-tidemill.Prediction", prediction_schema())
        shadow_encoder = ColumnEncoder(self.registry, f"{topics.shadow_scores}-tidemill.ShadowScore", shadow_score_schema())
        answers = ScoringCore(self.plan).process(self.batch.slice(begin, end - begin), {"fraud": now}, self.keys[begin:end])
        shadows = () if answers.shadow_scores is None else shadow_encoder.encode(answers.shadow_scores)
        return encoder.encode(answers.batch), shadows


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    plan, registry = load_plan(PAYMENTS), MemorySchemaRegistry()
    store = ArtifactStore(str(tmp_path_factory.mktemp("artifacts")))
    made = Trial(plan, registry, store)
    made.__dict__["store"] = store
    return made


@pytest.fixture
def check(run: Trial) -> Callable[..., AuditResult]:
    def look(extent: Extent | None = None, **changes: Records) -> AuditResult:
        other = Trial.__new__(Trial)
        other.__dict__.update({**run.__dict__, **changes})
        return audit(run.plan, run.registry, run.__dict__["store"], other, None if extent is None else {0: extent})

    return look


def put(run: Records, place: int, *values: bytes | None) -> Records:
    """Return the records with others in one's place."""
    return records(run.topic, [*run.values[:place], *values, *run.values[place + 1 :]])


def rewritten(run: Trial, name: str, place: int, **fields: Any) -> Records:
    """Return predictions or shadow scores of which one has other fields."""
    of = {"answers": prediction_schema(), "shadows": shadow_score_schema()}
    log: Records = getattr(run, name)
    batch = ColumnDecoder(run.registry, of[name]).decode([log.values[place]]).batch
    row = {**batch.to_pylist()[0], **fields}
    subject = f"{log.topic}-tidemill.{'Prediction' if name == 'answers' else 'ShadowScore'}"
    return put(log, place, *ColumnEncoder(run.registry, subject, of[name]).encode(type(batch).from_pylist([row], batch.schema)))


def variants(run: Trial) -> list[str]:
    column: list[str] = ColumnDecoder(run.registry, prediction_schema()).decode(run.answers.values).batch.column("variant").to_pylist()
    return column


def canary_and_champion(run: Trial) -> tuple[int, int]:
    """Return a request of the A/B test that the challenger answered, and one that the champion did, in the middle of the stage."""
    middle = range(CUTS[1] + 20, CUTS[2] - 20)
    said = variants(run)
    return next(i for i in middle if said[i] == "canary"), next(i for i in middle if said[i] == "champion")


def test_a_run_through_all_stages_is_clean(run: Trial, check: Callable[..., AuditResult]) -> None:
    count = CUTS[2] - CUTS[0]
    assert check() == AuditResult(COUNT, 0, COUNT, 0, 0, shadow_scores_compared=count) and check().clean
    said = np.array(variants(run))
    assert set(said[CUTS[1] : CUTS[2]]) == {"champion", "canary"}
    assert set(said[: CUTS[1]]) | set(said[CUTS[2] :]) == {"champion"}


def test_a_request_that_the_wrong_one_answered_is_found(run: Trial, check: Callable[..., AuditResult]) -> None:
    canary, champion = canary_and_champion(run)
    everybody = replace(run.stages[2], challenge=replace(run.stages[2].challenge, share=1.0))  # type: ignore[type-var]  # a trial is under way here
    for place, whose in ((canary, run.stages[0]), (champion, everybody)):
        (answer,), _ = run.said(whose, place, place + 1)
        assert answer != run.answers.values[place]
        verdict = check(answers=put(run.answers, place, answer))
        assert (verdict.prediction_mismatches, verdict.shadow_score_mismatches, verdict.clean) == (1, 0, False), verdict.examples


def test_a_missing_shadow_score_is_found_inside_of_a_stage_and_by_the_count_at_its_ends(run: Trial, check: Callable[..., AuditResult]) -> None:
    canary, champion = canary_and_champion(run)
    for place in (canary, champion, CUTS[0] + 50):
        verdict = check(shadows=put(run.shadows, place - CUTS[0]))
        assert (verdict.shadow_score_mismatches, verdict.prediction_mismatches, verdict.clean) == (1, 0, False), (place, verdict)
    first = put(run.shadows, 0)
    count = len(run.shadows)
    assert check(Extent(shadow_scores=count)).clean
    verdict = check(Extent(shadow_scores=count), shadows=first)
    assert (verdict.shadow_score_mismatches, verdict.clean) == (1, False)
    assert check(shadows=records(run.shadows.topic, [])).shadow_score_mismatches >= 1, "canaries' answers tell of theirs"


def test_an_extra_shadow_score_is_found(run: Trial, check: Callable[..., AuditResult]) -> None:
    twice = put(run.shadows, 70, run.shadows.values[70], run.shadows.values[70])
    before = rewritten(run, "shadows", 0, journal_offset=int(run.batch.column("_journal_offset")[40].as_py())).values[0]
    nobody = rewritten(run, "shadows", len(run.shadows) - 1, journal_offset=10**6).values[-1]
    for shadows in (twice, records(run.shadows.topic, [*run.shadows.values, nobody])):
        verdict = check(shadows=shadows)
        assert (verdict.shadow_score_mismatches, verdict.prediction_mismatches, verdict.clean) == (1, 0, False), verdict
    verdict = check(shadows=records(run.shadows.topic, [before, *run.shadows.values]))
    assert verdict.shadow_score_mismatches == CUTS[0] - 40, "one too many, or those between are missing"


@pytest.mark.parametrize("field", ["champion_score", "challenger_score"])
def test_one_last_bit_of_a_shadow_score_is_found(run: Trial, check: Callable[..., AuditResult], field: str) -> None:
    batch = ColumnDecoder(run.registry, shadow_score_schema()).decode(run.shadows.values).batch
    for place in (10, len(run.shadows) - 10):
        value = float(np.nextafter(batch.column(field)[place].as_py(), 2.0))
        verdict = check(shadows=rewritten(run, "shadows", place, **{field: value}))
        assert (verdict.shadow_score_mismatches, verdict.prediction_mismatches, verdict.clean) == (1, 0, False), verdict.examples


def test_a_shadow_score_of_a_challenger_that_never_was_is_found(run: Trial, check: Callable[..., AuditResult]) -> None:
    verdict = check(shadows=rewritten(run, "shadows", 30, challenger_sequence=7))
    assert verdict.shadow_score_mismatches >= 1 and not verdict.clean
    older = check(shadows=rewritten(run, "shadows", len(run.shadows) - 10, challenger_sequence=1))
    assert not older.clean and older.switches_back == 1


def test_a_challenger_that_could_not_be_loaded_is_named_and_its_requests_are_held_to_the_champion(
    run: Trial, check: Callable[..., AuditResult]
) -> None:
    begin, end = CUTS[1] + 30, CUTS[1] + 60
    answers, shadows = run.said(run.stages[2].without_challenger("model_failed"), begin, end)
    changes = {
        "answers": records(run.answers.topic, [*run.answers.values[:begin], *answers, *run.answers.values[end:]]),
        "shadows": records(run.shadows.topic, [*run.shadows.values[: begin - CUTS[0]], *shadows, *run.shadows.values[end - CUTS[0] :]]),
    }
    verdict = check(**changes)
    assert verdict.clean and verdict.degraded == {"model_failed": 30}, verdict.examples
    place = next(i for i in range(begin, end) if variants(run)[i] == "champion")
    (wrong,), _ = run.said(run.stages[2].without_model("model_failed"), place, place + 1)
    assert check(**changes | {"answers": put(changes["answers"], place, wrong)}).prediction_mismatches == 1
