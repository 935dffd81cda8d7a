"""What is held of more labels than fit: the same rows whatever the batches and restarts, a fair sample, and no more bytes than declared."""

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from tidemill.services.drift.domain import trials
from tidemill.services.drift.domain.excess_loss import DAY_MS, ExcessLoss
from tidemill.services.drift.domain.labelled_rows import LabelledRows
from tidemill.services.drift.domain.last_rows import LastRows
from tidemill.services.drift.domain.promise import kept_binary
from tidemill.services.drift.domain.request_sample import RequestSample
from tidemill.services.drift.domain.rounded_counts import RoundedCounts
from tidemill.services.drift.domain.trial import Contest

NOTHING = float("nan")


def labels(seed: int, n: int) -> dict[str, NDArray[Any]]:
    """Labels of which a tenth replaces one, of a request of this window or of one before it."""
    rng = np.random.default_rng(seed)
    score, requests = rng.random(n), np.arange(n) + 100
    further = rng.random(n) < 0.1
    requests[further] -= rng.integers(1, n, n)[further]
    return {
        "requests": requests,
        "label": (rng.random(n) < score).astype(np.float64),
        "score": score,
        "predicted": (score > 0.5).astype(np.int64),
        "weight": np.ones(n),
        "lower": np.full(n, NOTHING),
        "upper": np.full(n, NOTHING),
        "revision": further.astype(np.int64),
    }


def absorbed(given: dict[str, NDArray[Any]], cuts: list[int], most: int, *, restarts: bool = False) -> LabelledRows:
    rows = LabelledRows(most=most)
    for begin, end in zip([0, *cuts], [*cuts, len(given["label"])], strict=True):
        rows.absorb(**{name: values[begin:end] for name, values in given.items()})
        if restarts:
            state = json.loads(json.dumps(rows.snapshot()))
            rows = LabelledRows.load(state)
            rows.sample.most = rows.most = most
            assert rows.snapshot() == state
    return rows


@pytest.mark.parametrize("seed", range(4))
def test_a_sample_is_the_same_whatever_the_batches_and_restarts(seed: int) -> None:
    given, rng = labels(seed, 3_000), np.random.default_rng(seed)
    whole = absorbed(given, [], 256)
    assert whole.sample.halvings >= 3 and len(whole) < 256
    cuts = sorted(set(rng.integers(1, 3_000, 60).tolist()))
    for restarts in (False, True):
        assert absorbed(given, cuts, 256, restarts=restarts).snapshot() == whole.snapshot()
    one_by_one = absorbed(given, list(range(1, 3_000)), 256)
    assert one_by_one.snapshot() == whole.snapshot()
    last = dict(zip(given["requests"].tolist(), given["label"].tolist(), strict=True))
    assert whole.column("label").tolist() == [last[request] for request in whole.sample.requests.values.tolist()]


def test_labels_are_counted_and_measured_as_the_whole_is() -> None:
    given = labels(5, 40_000)
    exact, rows = absorbed(given, [], 100_000), absorbed(given, [], 8_000)
    assert exact.count == len(exact) == len(set(given["requests"].tolist()))
    assert rows.count == pytest.approx(exact.count, rel=0.02) and 2_000 < len(rows) < 8_000
    auc = [roc_auc_score(some.column("label"), some.column("score")) for some in (exact, rows)]
    assert auc[1] == pytest.approx(auc[0], abs=0.02)
    assert rows.column("label").mean() == pytest.approx(exact.column("label").mean(), abs=0.03)


def test_first_labels_are_counted_exactly() -> None:
    given = {name: values for name, values in labels(6, 5_000).items()} | {"requests": np.arange(5_000), "revision": np.zeros(5_000, np.int64)}
    rows = absorbed(given, [700, 1_400], 300)
    assert rows.count == 5_000 and rows.sample.halvings >= 4


def test_what_is_held_never_exceeds_what_is_declared() -> None:
    sample = RequestSample(100)
    for begin in range(0, 20_000, 50):
        requests, end = np.arange(begin, begin + 50), 0
        while end < 50:
            end += sample.place(requests[end:]).end
            sample.halve()
        assert len(sample) < 100
    assert sample.halvings >= 7


def test_a_day_of_excess_loss_is_judged_on_a_sample_as_on_the_whole() -> None:
    """Ten days of 4,000 labels, on which the model errs from the sixth on: rung on the same day, by 300 to 1,000 labels of each."""
    rng = np.random.default_rng(7)
    rung = []
    for most in (1_000_000, 1_000):
        detector = ExcessLoss(most=most)
        alarms = []
        for day in range(24):
            rng = np.random.default_rng([7, day])
            time, score = np.sort(rng.integers(day * DAY_MS, (day + 1) * DAY_MS, 4_000)), rng.beta(2, 5, 4_000)
            label = (rng.random(4_000) < np.minimum(score + (0.2 if day >= 18 else 0.0), 1.0)).astype(np.float64)
            ids = np.arange(4_000) + day * 4_000
            detector.absorb(ids, time, kept_binary(label, score, (score > 0.5).astype(np.int64)), np.zeros(4_000, np.int64))
            assert max(len(one) for one in detector.blocks.values()) <= most
            alarm = detector.close((day + 1) * DAY_MS, 0)
            alarms += [day] if alarm else []
        rung.append(alarms)
    assert rung[0] == rung[1] and rung[0][0] >= 18, rung


def test_a_label_that_its_days_sample_is_without_replaces_nothing() -> None:
    day = LastRows(4, 5)
    rows = np.arange(100.0)[:, None].repeat(5, axis=1)
    day.absorb(np.arange(100), rows)
    inside = [request for request in range(100) if day.holds(request)]
    assert inside == sorted(day.sample.requests.values.tolist()) and 0 < len(inside) < 4
    before = day.replace(inside[0], np.full(5, -1.0))
    assert before is not None and before.tolist() == [float(inside[0])] * 5
    assert day.ordered().sum(axis=0).tolist() == [sum(inside[1:]) - 1.0] * 5


def test_durations_are_counted_to_three_digits() -> None:
    counts, rng = RoundedCounts(), np.random.default_rng(8)
    durations = np.concatenate([rng.lognormal(10, 3, 50_000), [0.0, -7_777.0, 2.0**62]])
    counts.add(durations[:30_000])
    counts = RoundedCounts.load(json.loads(json.dumps(counts.snapshot())))
    counts.add(durations[30_000:])
    assert len(counts) == len(durations) and len(counts.counts) < 9_000
    for share in (0.05, 0.5, 0.95):
        assert counts.quantile(share) == pytest.approx(np.quantile(durations, share, method="inverted_cdf"), rel=0.01, abs=1)
    assert np.isnan(RoundedCounts().quantile(0.5)) and min(counts.counts) == -7_770


def test_a_block_of_a_contest_holds_a_sample_of_its_requests_and_only_their_slices() -> None:
    """5,000 requests, each in a slice of its own until it moves into one of three: in any batches the last row of each that belongs to the sample."""
    rng, n = np.random.default_rng(9), 10_000
    requests = np.concatenate([np.arange(5_000), rng.permutation(5_000)])
    rows, slices = rng.random((n, 10)), [f"id={i}" for i in range(5_000)] + [f"country={i % 3}" for i in range(5_000)]
    settled = []
    for step in (n, 911, 37):
        block = trials._Block(Contest("v1", "v2", 5, 0.0, "shadow"), LastRows(200, 10), room=32)
        for begin in range(0, n, step):
            chosen = slice(begin, begin + step)
            block.absorb(requests[chosen], rows[chosen].copy(), slices[chosen])
            assert len(block.last) < 200
            block = trials._Block.load(json.loads(json.dumps(block.snapshot())), 200, 10)
        settled.append(block.settled())
        held, texts = settled[-1]
        assert set(texts) <= {"country=0", "country=1", "country=2"} and len(held) == len(texts)
    own = np.ones(10, np.bool_)
    own[trials._SLICES] = False
    for held, texts in settled[1:]:
        assert texts == settled[0][1] and (held[:, own] == settled[0][0][:, own]).all()
    place = {int(request): i for i, request in enumerate(requests)}
    inside = [request for request in range(5_000) if block.last.holds(request)]
    assert (settled[0][0][:, own] == rows[[place[request] for request in inside]][:, own]).all()
    assert settled[0][1] == [slices[place[request]] for request in inside]
