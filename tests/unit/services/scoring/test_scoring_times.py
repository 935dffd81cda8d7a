"""What champion and challenger take to score the same requests is measured on a clock of its own, and no answer depends on it."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pyarrow as pa
import pytest

from tests.models import data
from tests.unit.services.scoring.test_challenged_task import Challenged
from tests.unit.services.scoring.test_task import COLUMNS, CONTEXT, schema
from tidemill.services.scoring.domain.core import ScoringCore
from tidemill.services.scoring.domain.scoring_times import LastRequest, Pair, PairTime, ScoringTimes
from tidemill.services.scoring.domain.serving import Challenge, Serving
from tidemill.services.scoring.task import ScoringTask
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.kinds.binary import Binary
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.log.records import Step
from tidemill.shared.models.artifacts import Artifact
from tidemill.shared.models.blocks import Blocks
from tidemill.shared.models.calibration import Calibration
from tidemill.shared.models.error_forest import ErrorForest
from tidemill.shared.models.export import lightgbm_to_onnx
from tidemill.shared.models.forest import Forest
from tidemill.shared.models.onnx_scorer import OnnxScorer, Scorer
from tidemill.shared.models.signature import Column, Signature

TOPIC = "flights-scoring-times"


class Ticks:
    """A clock that stands still until somebody lets it go on."""

    now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


class Slow:
    """A scorer that takes so long for a call, by a clock of ticks."""

    kind: Kind = Binary()
    columns: tuple[Column, ...] = (COLUMNS[0],)
    forest: Forest | None = None
    calibration: Calibration | None = None
    errors: ErrorForest | None = None

    def __init__(self, ticks: Ticks, call_ns: int) -> None:
        self._ticks, self._call_ns = ticks, call_ns

    def score_blocks(self, blocks: Blocks, positions: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        self._ticks.now_ns += self._call_ns
        return np.full(blocks.shape[0] * blocks.shape[2], 0.25)


@pytest.fixture
def stage(tmp_path: Path) -> Challenged:
    return Challenged(tmp_path)


def decoded(stage: Challenged) -> pa.RecordBatch:
    return ColumnDecoder(stage.registry, stage.plan.vector_schema).decode(stage.vectors).batch


def forest(rounds: int) -> Artifact:
    matrix, label = data(1_000, len(COLUMNS), 0)
    parameters = {"objective": "binary", "verbose": -1, "num_threads": 1, "num_leaves": 15, "seed": 1}
    booster = lightgbm.train(parameters, lightgbm.Dataset(matrix, label), rounds)
    rows = tuple(tuple(None if np.isnan(x) else float(x) for x in row) for row in matrix[:2])
    scores = tuple(np.asarray(booster.predict(matrix[:2])).tolist())
    signature = Signature(
        model="late_arrival", version="v", family="lightgbm", columns=COLUMNS, threshold=0.5, parity_rows=rows, parity_scores=scores
    )
    return Artifact(signature, lightgbm_to_onnx(booster, len(COLUMNS)))


def challenged(champion: Scorer | None, challenger: Scorer | None) -> dict[str, Serving]:
    own = Serving("v2", 7, 0.4, challenger, None if challenger else "model_failed")
    return {"late_arrival": Serving("v1", 3, 0.5, champion, None if champion else "no_model", challenge=Challenge(own, "0" * 64, 0.3, "canary"))}


def test_each_of_a_pair_is_measured_alone_and_nothing_is_without_a_clock_or_a_model_of_both(stage: Challenged) -> None:
    ticks, vectors = Ticks(), decoded(stage)
    keys: Sequence[bytes] = [b"k"] * vectors.num_rows
    served = challenged(Slow(ticks, 300), Slow(ticks, 7_000))
    (one,) = ScoringCore(stage.plan, clock_ns=ticks).process(vectors, served, keys).times
    assert one == PairTime(Pair("late_arrival", "v1", "v2", 7, "canary"), vectors.num_rows, 300, 7_000)
    assert not ScoringCore(stage.plan).process(vectors, served, keys).times
    for champion, challenger in ((None, Slow(ticks, 1)), (Slow(ticks, 1), None)):
        assert not ScoringCore(stage.plan, clock_ns=ticks).process(vectors, challenged(champion, challenger), keys).times
    assert not ScoringCore(stage.plan, clock_ns=ticks).process(vectors.slice(0, 0), served, []).times


@pytest.mark.parametrize("rounds", [(5, 400), (400, 5)])
def test_two_forests_are_told_apart_and_answer_as_they_do_in_one_stack(stage: Challenged, rounds: tuple[int, int]) -> None:
    vectors = decoded(stage)
    keys = [f"card-{i}".encode() for i in range(vectors.num_rows)]
    served = challenged(*(OnnxScorer(forest(count)) for count in rounds))
    plain, timed = ScoringCore(stage.plan), ScoringCore(stage.plan, clock_ns=time.perf_counter_ns)
    expected = plain.process(vectors, served, keys)
    least = [10**12, 10**12]
    for _ in range(25):
        answers = timed.process(vectors, served, keys)
        assert answers.batch.equals(expected.batch)
        assert answers.shadow_scores is not None and answers.shadow_scores.equals(expected.shadow_scores)
        (one,) = answers.times
        least = [min(least[0], one.champion_ns), min(least[1], one.challenger_ns)]
    slow, fast = (least[0], least[1]) if rounds[0] > rounds[1] else (least[1], least[0])
    # What a call costs by itself is most of the faster one's time, and more of it on a busy machine.
    assert slow > 1.25 * fast > 0, "80 times the trees"


def test_windows_of_journal_time_are_told_by_the_first_batch_after_them() -> None:
    times, pair = ScoringTimes({"m": 1_000}), Pair("m", "v1", "v2", 4, "shadow")
    assert not times.take([PairTime(pair, 3, 10, 20)], LastRequest(1, 5, 2_100))
    assert not times.take([PairTime(pair, 2, 1, 2)], LastRequest(1, 8, 2_999))
    (over,) = times.take([PairTime(pair, 1, 5, 5)], LastRequest(1, 9, 3_000))
    assert over == {
        "model": "m", "journal_partition": 1, "journal_offset": 8, "journal_time": 2_999, "champion_version": "v1", "challenger_version": "v2",
        "challenger_sequence": 4, "stage": "shadow", "window_start": 2_000, "window_end": 3_000, "requests": 5, "calls": 2, "champion_ns": 11,
        "challenger_ns": 22,
    }  # fmt: skip
    (over,) = times.take([PairTime(Pair("m", "v1", "v2", 6, "canary"), 1, 7, 7)], LastRequest(1, 11, 3_500))
    assert (over["challenger_sequence"], over["requests"]) == (4, 1), "a stage ends its window"


@pytest.mark.parametrize("clock_ns", [None, time.perf_counter_ns])
def test_the_task_publishes_them_where_it_has_a_clock(stage: Challenged, clock_ns: Callable[[], int] | None) -> None:
    task = ScoringTask(stage.plan, stage.registry, stage.store, 0, clock_ns=clock_ns)
    task.process([stage.promoted(), stage.event(1, "shadow", "v2", stage.challenger)], CONTEXT)
    steps: list[Step] = [task.process([stage.asked(begin, begin + 10)], CONTEXT) for begin in range(0, stage.count - 10, 10)]
    values = [value or b"" for step in steps for emission in step.emissions if emission.topic == TOPIC for value in emission.values]
    codec = RecordCodec(stage.registry, "t", schema("scoring-time"))
    records = [codec.decode(value) for value in values]
    assert bool(records) == (clock_ns is not None)
    for record in records:
        assert (record["champion_version"], record["challenger_version"], record["challenger_sequence"], record["stage"]) == ("v1", "v2", 1, "shadow")
        assert record["requests"] == 10 * record["calls"] and record["champion_ns"] > 0 and record["challenger_ns"] > 0
        assert record["window_start"] <= record["journal_time"] < record["window_end"]
