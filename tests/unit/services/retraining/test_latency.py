"""The gate of latency: measured in turns, refused by name."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from tests.unit.services.drift.stream import shop
from tests.unit.services.retraining.test_job import MODEL, SETTINGS, World
from tidemill.services.retraining.domain.latency import Cost, judge_latency
from tidemill.services.retraining.processes.scoring_cost import measure
from tidemill.shared.application.errors import ApplicationError
from tidemill.shared.application.gate_policy import Latency

ROWS = pa.RecordBatch.from_pydict({"x": list(range(2_000))})


class Costly:
    """A model whose every call takes the next of some times, by a clock that it moves itself."""

    def __init__(self, clock: "Clock", times: list[float]) -> None:
        self.clock, self.times, self.rows = clock, iter(times), list[int]()

    def score(self, batch: pa.RecordBatch) -> NDArray[np.float64]:
        self.clock.now += next(self.times)
        self.rows.append(batch.num_rows)
        return np.zeros(batch.num_rows)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_best_of_nine_turns_counts_for_each() -> None:
    clock = Clock()
    candidate, champion = Costly(clock, [9, 9, 9, 2.048, *[9] * 5]), Costly(clock, [1.024, *[7] * 8])
    cost = measure(candidate, champion, ROWS, clock)
    assert cost is not None
    assert [cost.candidate_us, cost.champion_us] == pytest.approx([2_000.0, 1_000.0])
    assert candidate.rows == champion.rows == [1_024] * 9
    assert cost.figures == {"scoring_us": cost.candidate_us, "champion_scoring_us": cost.champion_us}
    alone = measure(Costly(clock, [1.0] * 9), None, ROWS.slice(0, 100), clock)
    assert alone is not None and alone.figures == {"scoring_us": pytest.approx(10_000.0)}
    assert measure(candidate, None, ROWS.slice(0, 0), clock) is None


@pytest.mark.parametrize(
    ("limits", "cost", "words"),
    [
        (Latency(row_us=10), Cost(10.0), ""),
        (Latency(row_us=10), Cost(10.5, 1.0), "at most 10 µs a row, found 10.5 µs"),
        (Latency(row_us=10), Cost(float("nan")), "found nan"),
        (Latency(times_champion=2), Cost(10.0, 5.0), ""),
        (Latency(times_champion=2), Cost(10.1, 5.0), "at most 2 times the champion's 5 µs a row, found 10.1 µs (2.02 times)"),
        (Latency(times_champion=2), Cost(10.1), ""),
        (Latency(row_us=20, times_champion=2), Cost(10.1, 5.0), "2.02 times"),
    ],
)
def test_a_limit_that_is_exceeded_is_named(limits: Latency, cost: Cost, words: str) -> None:
    said = judge_latency(limits, cost)
    assert (said == "") == (words == "") and words in said


@pytest.mark.parametrize("text", ["{}", "{row_us: 0}", "{times_champion: 0.5}", "{microseconds: 3}"])
def test_limits_that_mean_nothing_are_refused_with_their_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(ApplicationError) as caught:
        shop(tmp_path, SETTINGS.replace("    training:", f"    gate: {{latency: {text}}}\n    training:"))
    assert "app.yaml" in str(caught.value)


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A world whose limit no model keeps."""
    made = World(tmp_path)
    file = tmp_path / "app.yaml"
    file.write_text(file.read_text().replace("    training:", "    gate: {latency: {row_us: 0.000001}}\n    training:"))
    yield made


def test_a_first_model_that_is_too_slow_is_refused_and_its_record_says_how_slow(slow: World) -> None:
    slow.archive(30)
    result = slow.train(30, "bootstrap")
    assert result.finished and not result.passed
    assert result.reason.startswith("latency: expected at most 1e-06 µs a row") and result.figures["scoring_us"] > 0


def test_without_a_limit_no_clock_is_read(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.archive(30)
    assert "scoring_us" not in world.train(30, "bootstrap").figures
    assert world.plan.models[MODEL].settings.gate.latency is None
