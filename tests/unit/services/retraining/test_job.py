"""Trainings on a real lake, one after the other: a first model, its refit, and what becomes of a model that has gone wrong."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from tests.unit.services.drift.stream import APP, shop
from tidemill.services.retraining.domain.admissions import Admissions
from tidemill.services.retraining.domain.fitting import Fit, fit
from tidemill.services.retraining.processes.job import run
from tidemill.services.retraining.processes.job_files import JobRequest, JobResult
from tidemill.services.retraining.processes.kept_files import KeptFiles
from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.arrow_types import arrow_schema
from tidemill.shared.avro.messages import message_schema
from tidemill.shared.lake.names import OUTCOMES, VECTORS
from tidemill.shared.lake.tables import Lake
from tidemill.shared.models.artifacts import Artifact, ArtifactStore
from tidemill.shared.models.deployments import Lifecycle
from tidemill.shared.models.onnx_scorer import OnnxScorer

DAY_MS = 86_400_000
BEGIN_MS = 19_700 * DAY_MS
PER_DAY, DAYS, HOUR_MS = 100, 80, 3_600_000
SETTINGS = APP.replace(
    "    drift:",
    "    slices: [country]\n    training: {families: [logistic_regression], trials: 2, windows_days: [0], min_rows: 300}\n    drift:",
)
MODEL = "sent_back"


class World:
    """Orders and what came of them, in a lake; who serves answers them."""

    def __init__(self, folder: Path) -> None:
        self.plan: Plan = shop(folder, SETTINGS)
        self.told: list[tuple[str, int, int]] = []
        self.folder, self.lake, self.store = folder, Lake(str(folder / "lake"), self.plan.application.app), ArtifactStore(str(folder / "artifacts"))
        random, n = np.random.default_rng(3), DAYS * PER_DAY
        self.times = BEGIN_MS + np.sort(random.integers(0, DAYS * DAY_MS, n))
        amount, country = random.normal(size=n), random.choice(["ab", "cd"], n)
        self.labels = (random.random(n) < 1 / (1 + np.exp(-1.5 * amount - 0.5 * (country == "ab")))).astype(np.float64)
        self.features = pa.RecordBatch.from_pydict({
            "amount": pa.array(amount, pa.float32()), "weight": pa.nulls(n, pa.float32()), "country": pa.array(country),
        })  # fmt: skip
        self._archived = 0

    def archive(self, until_day: int, scores: NDArray[np.float64] | None = None) -> None:
        """Write the requests up to a day, answered by the fallback or with scores."""
        rows = range(self._archived, int(np.searchsorted(self.times, BEGIN_MS + until_day * DAY_MS)))
        self._archived = rows.stop
        schema = self.plan.vector_arrow
        vectors = [{**dict.fromkeys(schema.names), **one, "_request_id": f"r{i}", "_ask": "orders", **self._place(i)} for i, one in
                   zip(rows, self.features.slice(rows.start, len(rows)).to_pylist(), strict=True)]  # fmt: skip
        self.lake.append(VECTORS, pa.Table.from_pylist(vectors, schema=schema), "v:0", list(rows))
        outcomes = [self._outcome(i, None if scores is None else float(scores[i])) for i in rows]
        self.lake.append(OUTCOMES, pa.Table.from_pylist(outcomes, schema=arrow_schema(message_schema("outcome"))), "o:0", list(rows))

    def _place(self, i: int) -> dict[str, Any]:
        time = int(self.times[i])
        return {"_journal_partition": 0, "_journal_offset": i, "_journal_time": time, "_event_time": time}

    def _outcome(self, i: int, score: float | None) -> dict[str, Any]:
        time, by = int(self.times[i]), ("default", "default") if score is None else ("champion", "v")
        return {
            **dict.fromkeys(arrow_schema(message_schema("outcome")).names), "request_id": f"r{i}", "model": MODEL, "journal_partition": 0,
            "journal_offset": i, "journal_time": time + HOUR_MS, "request_journal_offset": i, "request_journal_time": time, "event_time": time,
            "score": 0.3 if score is None else score, "predicted": 0, "model_version": by[1], "deployment_sequence": 0, "variant": by[0],
            "status": "labelled", "label": float(self.labels[i]), "label_event_time": time, "delay_ms": HOUR_MS, "revision": 0,
        }  # fmt: skip

    def train(self, day: int, trigger: str, *served: JobResult, **more: Any) -> JobResult:
        """Train; the last of `served` is the champion, the one before it the model before."""
        asked = {"model": MODEL, "journal_time": BEGIN_MS + day * DAY_MS, "decision_id": f"{day:032d}", "trigger": trigger, "reason": ""}
        addresses = ["", "", *(one.artifact_sha256 for one in served)]
        recipe = served[-1].details["recipe"] if served else ""
        request = JobRequest(str(self.folder), str(self.folder / "lake"), str(self.folder / "artifacts"), asked, addresses[-1], addresses[-2])
        self.told.clear()
        known = {"recipe": recipe, "admitted": bool(recipe), "searched_ms": asked["journal_time"], **more}
        self.last = replace(request, **known)
        return run(self.last, lambda *step: self.told.append(step))

    def flipped_from(self, day: int) -> JobResult:
        """A model of a lake whose labels are the wrong way round."""
        (self.folder / "wrong").mkdir()
        wrong = World(self.folder / "wrong")
        wrong.labels = 1 - wrong.labels
        wrong.archive(day)
        made = wrong.train(day, "bootstrap")
        return replace(made, artifact_sha256=self.store.put(wrong.store.get(made.artifact_sha256)))

    def scores(self, result: JobResult) -> NDArray[np.float64]:
        return OnnxScorer(Artifact.from_bytes(self.store.get(result.artifact_sha256))).score(self.features)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.mark.lasts(4)
def test_a_first_model_is_followed_by_refits_of_its_recipe_until_one_has_gone_wrong(world: World) -> None:
    world.archive(30)
    first = world.train(30, "bootstrap")
    assert first.passed and first.details["admission"] == "first model" and first.details["searched"] == "yes"
    names, trials = list(dict.fromkeys(step for step, _, _ in world.told)), [done for step, done, _ in world.told if step == "searching"]
    assert names == ["reading rows", "searching", "storing"] and trials == list(range(int(first.figures["trials"])))
    world.archive(45, world.scores(first))
    second = world.train(45, "schedule", first)
    assert second.passed and second.details["admission"] == "refit of an admitted recipe" and second.details["recipe"] == first.details["recipe"]
    assert int(second.details["learned_rows"]) > int(first.details["learned_rows"]) and "searched" not in second.details
    assert [step for step, _, _ in world.told] == ["reading rows", "fitting", "storing"]
    late = world.train(46, "schedule", second)
    assert late.passed and int(late.details["learned_rows"]) > int(second.details["learned_rows"]), "of the last hour before the cut"
    silent = world.train(400, "schedule", late)
    assert silent.skipped and not silent.finished
    assert silent.reason == f"expected labelled rows that {late.version}, which serves, has not learned, found none since 2024-01-23T23:00:00.000Z"
    assert world.train(401, "manual", late).finished, "an operator is obeyed"
    broken = world.flipped_from(45)
    world.archive(60, world.scores(broken))
    third = world.train(60, "drift", first, broken)
    assert third.roll_back and third.figures["reverse_level"] == 0.01 and "the model before does better" in third.reason
    assert not third.passed and third.figures["gate_level"] == 0.0075, "its recipe had to pass again: the admission was lost"
    assert "non-inferiority" in third.reason and "would have passed in 80 % of cases" in third.reason


@pytest.mark.lasts(4)
def test_an_alarm_takes_no_admission_where_the_model_before_does_no_better(world: World) -> None:
    world.archive(30)
    first = world.train(30, "bootstrap")
    world.archive(45, world.scores(first))
    second = world.train(45, "schedule", first)
    world.archive(60, world.scores(second))
    third = world.train(60, "drift", first, second)
    assert third.passed and not third.roll_back and third.figures["reverse_level"] == 0.01 and third.details["searched"] == "yes"
    if third.details["recipe"] == first.details["recipe"]:
        assert third.details["admission"] == "refit of an admitted recipe"


@pytest.mark.lasts(3)
def test_what_is_broken_is_learned_by_no_refit_and_the_record_says_why(world: World) -> None:
    world.archive(30)
    first = world.train(30, "bootstrap")
    world.archive(45, world.scores(first))
    second = world.train(45, "schedule", first)
    day = days_with_ten_flipped(world)
    world.archive(60, world.scores(second))
    third = world.train(60, "schedule", first, second)
    begin, end = (int(text) for text in third.details["left_out_ms"].split("-"))
    assert abs(begin - BEGIN_MS - 48 * DAY_MS) < DAY_MS and abs(end - BEGIN_MS - 58 * DAY_MS) < DAY_MS
    assert third.passed and third.figures["left_out_rows"] > 900 and abs(third.figures["flipped_share"] - 0.25) < 0.06
    kept = (day < 60 - 1 / 24) & ((world.times < begin) | (world.times >= end))
    assert int(third.details["learned_rows"]) == kept.sum() and "look flipped, whatever the inputs" in third.reason
    amount = np.where(day >= 69.4, 9.0, world.features.column("amount").to_numpy())
    world.features = world.features.set_column(0, "amount", pa.array(amount, pa.float32()))
    world.archive(70, world.scores(third))
    waits = world.train(70, "schedule", second, third)
    assert waits.skipped and waits.reason.startswith("expected the last 50 requests to be like the 2,") and waits.reason.endswith("serves stays")
    assert "up to a block before, found mean place of amount 3.00, usually" in waits.reason
    fourth = world.train(70, "new_class", second, third)
    # Answers to the broken day are sure and wrong, but to requests that are like none before: its labels are not taken for flipped.
    assert fourth.details["left_out_ms"] == third.details["left_out_ms"]
    assert fourth.reason.endswith(f"; {int(fourth.figures['left_out_rows']):,} rows are left out")


@pytest.mark.lasts(3)
def test_while_labels_look_flipped_up_to_the_newest_no_refit_is_made_but_for_an_operator(world: World) -> None:
    """A refit on the rows before would be a matter of chance where it is the world that has begun to change."""
    world.archive(30)
    first = world.train(30, "bootstrap")
    world.archive(45, world.scores(first))
    second = world.train(45, "schedule", first)
    days_with_ten_flipped(world)
    world.archive(56, world.scores(second))
    for trigger in ("schedule", "drift", "labels"):
        waits = world.train(56, trigger, first, second)
        assert waits.skipped and waits.reason.startswith("expected labels that can be learned up to the newest, found that 2")
        assert "look flipped, whatever the inputs" in waits.reason and waits.reason.endswith("rows are left out; the model that serves stays")
    asked = world.train(56, "manual", first, second)
    assert asked.finished and asked.figures["left_out_rows"] > 700, "an operator is obeyed"


def days_with_ten_flipped(world: World) -> NDArray[np.float64]:
    """Flip a quarter of the labels of the 48th to the 58th day; return the day of each row."""
    day: NDArray[np.float64] = (world.times - BEGIN_MS) / DAY_MS
    flipped = (day >= 48) & (day < 58) & (np.random.default_rng(1).random(len(day)) < 0.25)
    world.labels = np.where(flipped, 1 - world.labels, world.labels)
    return day


class Killed(BaseException):
    """Stands for what ends a process; no training catches it."""


def test_a_training_whose_files_were_pruned_says_so_and_may_be_tried_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.archive(20)
    next(Path(world.lake.uri(VECTORS)).glob("*.parquet")).unlink()
    with pytest.raises(FileNotFoundError, match=r"a file of the archive is gone, pruned or vacuumed .*\.parquet not found"):
        world.train(20, "first")


def test_a_training_that_is_begun_again_makes_no_trial_twice_and_the_same_bytes(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.archive(30)
    whole = world.train(30, "bootstrap")

    def killed_at(step: str, done: int, of: int) -> None:
        if (step, done) == ("searching", 1):
            raise Killed

    again = KeptFiles(tmp_path / "trials", {"code": "1"})
    with pytest.raises(Killed):
        run(world.last, killed_at, again)
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "trials").iterdir()}
    assert len(written) == whole.figures["validation_folds"], "the first trial's answers on each stretch"
    fits = spied_fits(monkeypatch)
    assert replace(run(world.last, kept=again), record={}) == replace(whole, record={})
    assert len(fits) == whole.figures["fits"] - len(written)
    assert {path: path.stat().st_mtime_ns for path in written} == written
    (next(iter(written))).write_bytes(b"cut of")
    assert replace(run(world.last, kept=KeptFiles(tmp_path / "trials", {"code": "1"})), record={}) == replace(whole, record={})


def test_answers_that_another_code_has_computed_are_not_taken(tmp_path: Path) -> None:
    one, other = (KeptFiles(tmp_path, {"code": code}) for code in ("1", "2"))
    assert one(lambda: "a", lambda: np.array([1.0])).tolist() == [1.0]
    assert one(lambda: "a", lambda: np.array([2.0])).tolist() == [1.0]
    assert other(lambda: "a", lambda: np.array([2.0])).tolist() == [2.0]


def spied_fits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Count the fits of searches, and make them."""
    fits: list[str] = []

    def counted(*arguments: Any) -> Fit:
        fits.append(arguments[3]["family"])
        return fit(*arguments)

    monkeypatch.setattr("tidemill.services.retraining.domain.search.fit", counted)
    return fits


def test_a_model_that_answers_groups_too_differently_does_not_serve_and_it_is_said_how(world: World) -> None:
    path = world.folder / "app.yaml"
    path.write_text(path.read_text().replace("    slices: [country]", "    gate: {fairness: {columns: [country], demographic_parity: 0.001}}"))
    world.archive(30)
    result = world.train(30, "bootstrap")
    assert not result.passed and result.reason.startswith("fairness: expected groups of country to differ by at most 0.001 in demographic_parity")
    assert result.figures["demographic_parity_low__country"] > 0.001 and result.figures["fairness_groups__country"] == 2


def test_what_a_training_says_is_what_the_fold_reads(world: World) -> None:
    world.archive(30)
    first = world.train(30, "bootstrap")
    state, lifecycle = Admissions(), Lifecycle()
    for sequence, name in enumerate(("registered", "gate_passed", "promoted")):
        event = {
            "event": name, "version": first.version, "sequence": sequence, "parent": sequence - 1, "journal_time": 5, "threshold": first.threshold,
            "artifact_sha256": first.artifact_sha256, "details": first.details, "figures": first.figures,
        }  # fmt: skip
        after = lifecycle.apply(event)
        state, lifecycle = state.deployed(event, lifecycle, after), after
    assert state.is_admitted and state.serving == first.details["recipe"] and state.searched_ms == 5 and state.spent == ()
