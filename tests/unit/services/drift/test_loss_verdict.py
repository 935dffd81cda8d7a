"""The verdict on a champion's loss: labels in request order, one alarm for one change, days alone where labels cluster."""

import json
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.long_forms import shortened
from tests.unit.services.drift.stream import APP, shop
from tests.unit.services.drift.test_excess_loss import flights
from tidemill.services.drift.domain import waiting_labels
from tidemill.services.drift.domain.day_standards import CalibratedDays
from tidemill.services.drift.domain.excess_loss import DAY_MS
from tidemill.services.drift.domain.findings import Coordinates, Finding
from tidemill.services.drift.domain.label_changes import LabelChanges
from tidemill.services.drift.domain.loss_verdict import LossSettings, LossVerdict
from tidemill.services.drift.domain.promise import PromiseErrors, kept_binary
from tidemill.services.drift.domain.rounded_counts import RoundedCounts
from tidemill.services.drift.domain.rows import MergedCoordinates
from tidemill.services.drift.domain.waiting_labels import Labels
from tidemill.shared.application.drift_policy import DriftPolicy
from tidemill.shared.application.planning import load_plan
from tidemill.shared.detectors.catalogue import DEFAULT, read_choices
from tidemill.shared.kinds.multiclass import Multiclass
from tidemill.shared.kinds.regression import Regression

Float64 = NDArray[np.float64]
DEFAULTS = LossSettings(detectors=read_choices(DEFAULT))


Outcomes = tuple[MergedCoordinates, Labels]


def outcomes(request_ms: NDArray[np.int64], score: Float64, label: Float64, delay_ms: NDArray[np.int64] | int = 0) -> Outcomes:
    """Labels of requests, in the order in which they come."""
    came = request_ms + delay_ms
    order = np.argsort(came, kind="stable")
    zeros, row = np.zeros(len(came), np.int64), np.arange(len(came), dtype=np.int64)
    predicted = (score >= 0.5).astype(np.int64)
    labels = Labels(row, request_ms[order], zeros, row[order], label[order], score[order], predicted[order], zeros)
    return MergedCoordinates(row, came[order], zeros, 1_000_000 + row), labels


def part(rows: Outcomes, begin: int, end: int) -> Outcomes:
    at, labels = rows
    return MergedCoordinates(*(getattr(at, one.name)[begin:end] for one in fields(MergedCoordinates))), labels.part(begin, end)


def run(rows: Outcomes, settings: LossSettings = DEFAULTS, batch: int = 50_000, seed: int = 0, restart: bool = False) -> list[Finding]:
    """Feed outcomes in uneven batches that end with each day, as the fold does, and close the days."""
    (at, labels), verdict, alarms = rows, LossVerdict("m", settings), []
    count, days = len(at.place), np.flatnonzero(np.diff(at.time_ms // DAY_MS)) + 1
    cuts = {0, count, *days.tolist(), *np.random.default_rng(seed).integers(0, count, count // batch).tolist()}
    delays = RoundedCounts()
    for begin, end in pairwise(sorted(cuts)):
        alarms += verdict.outcomes("v1", *part(rows, begin, end))
        delays.add((at.time_ms - labels.request_ms)[begin:end].astype(np.float64))
        if end == count or end in days:
            closes = Coordinates((int(at.time_ms[end - 1]) // DAY_MS + 1) * DAY_MS, 0, int(at.offset[end - 1]))
            alarms += verdict.close(closes, "v1", delays)
            delays = RoundedCounts()
        if restart:
            saved = json.dumps(verdict.snapshot())
            verdict = LossVerdict("m", settings)
            verdict.load(json.loads(saved))
            assert json.dumps(verdict.snapshot()) == saved
    return alarms


def independent(seed: int, before: float, after: float, change: int, count: int, day_rows: int = 3_000) -> tuple[NDArray[np.int64], Float64, Float64]:
    """Independent labels of a model that promises right until the rate changes."""
    generator = np.random.default_rng(seed)
    time = np.sort(generator.integers(0, count * DAY_MS // day_rows, count))
    rate = np.where(np.arange(count) < change, before, after)
    return time, np.full(count, before), (generator.random(count) < rate).astype(np.float64)


@pytest.mark.parametrize(("before", "after", "within"), [(0.2, 0.4, 600), (0.25, 0.30, 6_000)])
def test_a_higher_rate_of_errors_rings_once_within_promised_labels(before: float, after: float, within: int) -> None:
    for seed in range(10, 15):
        rows = outcomes(*independent(seed, before, after, 30_000, 37_000))
        alarms = run(rows)
        assert [(one.kind, one.severity) for one in alarms] == [("loss", "alarm")], alarms
        alarm = alarms[0]
        assert 0 <= alarm.at.offset - 1_030_000 <= within
        assert alarm.detector in DEFAULT and alarm.evidence["clustered"] == 0 and alarm.evidence["spread"] >= 1
        assert (
            alarm.evidence["mean_after"] > alarm.evidence["mean_before"]
            and f"over the last {alarm.evidence['labels_after']:.0f} labels" in alarm.detail
        )


def test_batches_and_restarts_change_nothing_of_what_is_found() -> None:
    generator = np.random.default_rng(8)
    time, score, label = independent(8, 0.2, 0.5, 24_000, 30_000)
    rows = outcomes(time, score, label, generator.integers(0, 6 * 3_600_000, len(time)))
    settings = replace(DEFAULTS, max_delay_ms=2 * DAY_MS)
    whole = run(rows, settings, batch=10**9)
    assert len(whole) == 1 and whole[0].detector == "cusum_mixture"
    assert run(rows, settings, batch=900, seed=1) == whole
    assert run(rows, settings, batch=2_000, seed=2, restart=True) == whole


@pytest.mark.parametrize("merged", [5, 4_096])
def test_labels_are_looked_at_in_request_order_once_their_horizon_has_passed(merged: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a plain loop over rows: a correction replaces a label that waits; after the horizon it is counted and moves nothing."""
    monkeypatch.setattr(waiting_labels, "_LEAST_MERGED", merged)
    generator = np.random.default_rng(4)
    count, horizon = 600, 40
    request_ms = np.sort(generator.integers(0, 1_000, count))
    arrival = request_ms + generator.integers(0, 120, count)
    score, label = generator.random(count), (generator.random(count) < 0.5).astype(np.float64)
    corrected = generator.permutation(count)[:60]
    events = [(int(arrival[i]), 0, i, label[i]) for i in range(count)] + [
        (int(arrival[i]) + int(generator.integers(1, 60)), 1, int(i), 1 - label[i]) for i in corrected
    ]
    events.sort()
    waiting: dict[int, float] = {}
    expected: list[tuple[float, float]] = []
    late = 0
    for time, revision, i, value in events:
        if not revision or i in waiting:
            waiting[i] = value
        else:
            late += 1
        for due in sorted((one for one in waiting if request_ms[one] + horizon <= time), key=lambda one: (request_ms[one], one)):
            expected.append((waiting.pop(due), score[due]))
    seen: list[tuple[float, float]] = []

    def hold(labels: Float64, scores: Float64, predicted: NDArray[np.int64]) -> PromiseErrors:
        seen.extend(zip(labels.tolist(), scores.tolist(), strict=True))
        return kept_binary(labels, scores, predicted)

    for batch in (1, 7, 1_000):
        seen.clear()
        rows, row, zeros = [i for _, _, i, _ in events], np.arange(len(events)), np.zeros(len(events), np.int64)
        times, revisions, values = (np.array([event[place] for event in events]) for place in (0, 1, 3))
        labels = Labels(row, request_ms[rows], zeros, np.array(rows), values, score[rows], (score[rows] > 0.5).astype(np.int64), revisions)
        verdict = LossVerdict("m", LossSettings(max_delay_ms=horizon, silence_is_a_label=True, corrections=True, detectors=read_choices(["adwin"])))
        verdict.changes.hold = hold
        for begin in range(0, len(rows), batch):
            verdict.outcomes("v1", *part((MergedCoordinates(row, times, zeros, row), labels), begin, min(begin + batch, len(rows))))
        assert seen == expected, batch
        assert 0 < late < len(corrected) and verdict.changes.passed() == late and verdict.changes.passed() == 0


def test_a_step_costs_what_it_brings_however_many_labels_wait() -> None:
    """A step of ten labels while 300,000 wait takes a few times what it takes while none does, not what 300,000 take."""
    many, few = waiting_labels.WaitingLabels(), waiting_labels.WaitingLabels()

    def step(waiting: waiting_labels.WaitingLabels, count: int, at: int, horizon_ms: int) -> float:
        row, zeros = np.arange(count), np.zeros(count, np.int64)
        labels = Labels(row, at + row, zeros, at + row, np.ones(count), np.ones(count), zeros, zeros)
        begin = perf_counter()
        waiting.take(labels, at + row, horizon_ms)
        return perf_counter() - begin

    whole = step(many, 300_000, 0, 10**9)
    many._merge()
    often = [(step(many, 10, 300_000 + 10 * one, 300_000), step(few, 10, 300_000 + 10 * one, 5)) for one in range(300)]
    assert len(many) > 299_000
    busy, idle = np.median(np.array(often), axis=0)
    assert busy < 10 * idle + whole / 20, (busy, idle, whole)


def test_a_correction_that_came_first_is_the_label() -> None:
    changes = LabelChanges(read_choices(["adwin"]), kept_binary)
    zero = np.zeros(1, dtype=np.int64)
    label = Labels(zero, zero, zero, zero + 5, np.ones(1), np.ones(1), zero + 1, zero)
    changes.absorb(label, zero, 10, days_known=True)
    changes.correct(replace(label, label=np.zeros(1)))
    changes.correct(replace(label, offset=zero + 6, label=np.full(1, 7.0)))
    ready, rows = changes.waiting.take(label.later(1), zero + 20, 10)
    assert (ready["label"].tolist(), rows.tolist(), len(changes.waiting)) == ([0.0], [0], 0)


def clustered(seed: int, days: int, per_day: int) -> tuple[NDArray[np.int64], Float64, Float64]:
    """Days that are off by an error of their own, with mean zero."""
    generator = np.random.default_rng(seed)
    time = np.repeat(np.arange(days) * DAY_MS, per_day) + np.tile(np.arange(per_day) * 1_000, days)
    score = generator.beta(2, 5, len(time))
    chance = np.clip(score + np.repeat(generator.normal(0, 0.08, days), per_day), 0, 1)
    return time, score, (generator.random(len(time)) < chance).astype(np.float64)


def test_where_labels_cluster_by_day_only_days_speak() -> None:
    by_day, by_label = 0, 0
    for seed in range(4):
        rows = outcomes(*clustered(seed, 120, 700))
        by_day += len(run(rows))
        by_label += len(run(rows, replace(DEFAULTS, clusters="none")))
    assert by_day <= 1, "a day is one observation"
    assert by_label >= 8, "the same labels as if each were one"


def test_days_that_do_not_cluster_leave_labels_to_the_detectors() -> None:
    rows = outcomes(*independent(3, 0.2, 0.4, 60_000, 62_000))
    assert not [one for one in run(rows, replace(DEFAULTS, clusters="by_day")) if one.detector != "day_cusum"]
    assert run(rows, replace(DEFAULTS, clusters="auto"))[0].detector == "cusum_mixture"


@pytest.mark.lasts(8)
@pytest.mark.parametrize("seed", shortened([0, 1], 1))
def test_a_perfect_model_of_the_flights_never_rings_by_labels_either(seed: int) -> None:
    time, score, _ = flights()
    label = (np.random.default_rng(seed).random(len(score)) < score).astype(np.float64)
    for clusters in ("auto", "none"):
        assert not run(outcomes(time, score, label, 6 * 3_600_000), replace(DEFAULTS, clusters=clusters, max_delay_ms=DAY_MS))


def test_probabilities_that_are_off_by_little_ring_at_no_volume() -> None:
    """Scores .004 too low, an excess of .0016 where 2 % of the expected loss is .0042: 60 days of 40,000 labels ring only without a tolerance."""
    generator = np.random.default_rng(12)
    count = 60 * 40_000
    time, score = np.arange(count) * (DAY_MS // 40_000), np.full(count, 0.3)
    by_day = replace(DEFAULTS, clusters="by_day")
    little = outcomes(time, score, (generator.random(count) < 0.304).astype(np.float64))
    assert run(little, by_day) and not run(little, replace(by_day, tolerance=0.02))
    more = outcomes(time[:400_000], score[:400_000], (generator.random(400_000) < 0.33).astype(np.float64))
    assert run(more, replace(by_day, tolerance=0.02))


def numbers(seed: int, days: int, worse: float = 1.0, change: int = 10**6, day_effect: float = 0.0, per_day: int = 400) -> Outcomes:
    """Predictions that are off by Laplace errors, from a day on by so much more; with `day_effect`, each day by a factor of its own, too."""
    generator = np.random.default_rng(seed)
    day = np.repeat(np.arange(days), per_day)
    factor = np.exp(day_effect * generator.normal(size=days))[day] * np.where(day >= change, worse, 1.0)
    time = day * DAY_MS + np.tile(np.arange(per_day) * 100_000, days)
    score = generator.normal(50, 20, days * per_day)
    return outcomes(time, score, score + factor * generator.laplace(0, 3, days * per_day))


REGRESSION = LossSettings(kind=Regression(), detectors=read_choices(["adwin", "page_hinkley"]))


def test_errors_of_a_regression_that_grow_ring_once_by_labels_or_by_days() -> None:
    """Half as large again from day 40 on: independent rows ring within two days, rows that share a day's factor within two weeks, by their days."""
    for seed in range(3):
        alarms = run(numbers(seed, 60, 1.5, 40), REGRESSION)
        assert len(alarms) == 1 and alarms[0].subject in ("relative_error", "absolute_error"), alarms
        assert 40 <= alarms[0].at.time_ms // DAY_MS <= 41
        by_day = run(numbers(seed, 60, 1.8, 40, day_effect=0.2), REGRESSION)
        assert [(one.detector, one.subject) for one in by_day] == [("day_cusum", "absolute_error")], by_day
        assert 40 < by_day[0].at.time_ms // DAY_MS <= 54
        assert by_day[0].evidence["absolute_error"] > 1.4 * by_day[0].evidence["usual_error"]
        assert "mean absolute error" in by_day[0].detail


@pytest.mark.lasts(4)
def test_errors_of_a_regression_that_stay_as_they_are_ring_seldom() -> None:
    """Six years, half of them with a factor of each day: at most two alarms (one in 90 days would be 24)."""
    alarms = [one for seed in range(3) for effect in (0.0, 0.2) for one in run(numbers(seed, 365, day_effect=effect), REGRESSION)]
    assert len(alarms) <= 2, alarms


def test_batches_and_restarts_change_nothing_for_a_regression() -> None:
    whole = run(numbers(7, 50, 2.0, 30), REGRESSION, batch=10**9)
    assert len(whole) == 1
    assert run(numbers(7, 50, 2.0, 30), REGRESSION, batch=70, seed=3, restart=True) == whole


def classes(seed: int, count: int, change: int) -> Outcomes:
    """Five classes by their probabilities, from a row on the class after the one that was drawn every third time."""
    generator = np.random.default_rng(seed)
    chances = generator.dirichlet(np.full(5, 0.4), count)
    label = (generator.random((count, 1)) > chances.cumsum(axis=1)).sum(axis=1).clip(0, 4)
    wrong = (np.arange(count) >= change) & (generator.random(count) < 0.33)
    zeros, row, time = np.zeros(count, np.int64), np.arange(count), np.arange(count) * (DAY_MS // 2_000)
    labels = Labels(row, time, zeros, row, np.where(wrong, (label + 1) % 5, label).astype(np.float64), chances, chances.argmax(axis=1), zeros)
    return MergedCoordinates(row, time, zeros, row), labels


def test_several_classes_are_watched_as_two_are() -> None:
    kind = Multiclass(("a", "b", "c", "d", "e"))
    settings = replace(DEFAULTS, kind=kind, max_delay_ms=DAY_MS // 4, silence_is_a_label=True)
    rows = classes(1, 40_000, 30_000)
    alarms = run(rows, settings)
    assert len(alarms) == 1 and 30_000 <= alarms[0].at.offset < 30_000 + 1_000, alarms
    assert run(rows, settings, batch=600, seed=4, restart=True) == alarms
    by_day = run(rows, replace(settings, clusters="by_day"))
    assert len(by_day) == 1 and by_day[0].detector == "day_cusum" and by_day[0].evidence["error_rate"] > by_day[0].evidence["error_promised"]
    assert "error promised" in by_day[0].detail
    assert not run(classes(2, 60_000, 10**9), settings)


def test_the_application_says_which_detectors(tmp_path: Path) -> None:
    shop(tmp_path)

    def loaded(drift: str, kind: str = "binary") -> Any:
        text = APP.replace("drift: {min_auc: 0.75}", f"drift: {drift}").replace("ask: orders", f"ask: orders\n    kind: {kind}")
        (tmp_path / "app.yaml").write_text(text)
        return load_plan(tmp_path).models["sent_back"].settings

    assert [one.name for one in loaded("{}").detectors] == list(DEFAULT)
    assert [one.name for one in loaded("{}", "regression").detectors] == ["adwin", "page_hinkley"]
    assert loaded("{detectors: [hddm_a, {adwin: {delta: 0.01}}]}").detectors[1].parameters == {"delta": 0.01}
    for drift, kind, message in (
        ("{detectors: [hddm]}", "binary", r"app\.yaml:\d+: expected .*detectors\.0: one of the detectors .*; did you mean ddm or hddm_"),
        ("{detectors: [kswin]}", "binary", "kswin is not offered"),
        ("{detectors: [{adwin: {delta: 7}}]}", "binary", r"adwin\.delta: expected a number"),
        ("{detectors: [adwin, adwin]}", "binary", "expected every detector once"),
        ("{detectors: [hddm_w]}", "regression", r"hddm_w takes right and wrong \(0 and 1\), a regression gives losses: expected adwin, page_hinkley"),
        ("{clusters: daily}", "binary", "by_day"),
    ):
        with pytest.raises(Exception, match=message):
            loaded(drift, kind)
    assert DriftPolicy().detectors == DEFAULT


def test_the_state_is_plain_once_days_are_known_to_cluster() -> None:
    """Found by the demo: the choice between days and labels was one of NumPy's truth values, which no checkpoint could hold."""
    verdict = LossVerdict("m", DEFAULTS)
    standard = verdict.excess.standard
    assert isinstance(standard, CalibratedDays)
    standard.recent = [4.0, -4.0] * 30
    verdict.close(Coordinates(DAY_MS, 0, 0), "v1", RoundedCounts())
    assert verdict.changes.resting is True and standard.clustered is True
    assert json.loads(json.dumps(verdict.snapshot()))["changes"]["resting"] is True
