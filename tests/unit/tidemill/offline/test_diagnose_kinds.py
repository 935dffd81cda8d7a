"""Planted faults in three classes and in numbers: the right cause is named first, with what was planted as its evidence."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from scipy.special import softmax

from tidemill.offline.diagnosis import AnsweredWindow, Diagnosis, diagnose
from tidemill.shared.kinds.multiclass import Multiclass
from tidemill.shared.kinds.regression import Regression

Float64 = NDArray[np.float64]
ROWS = 4_000
CLASSES = Multiclass(("low", "middle", "high"))


@dataclass
class Rows:
    """Inputs, and what is wrong with them or with the labels."""

    x: Float64
    y: Float64
    noise: Float64
    hidden: NDArray[np.bool_]
    other: bool = False
    label: Callable[[Float64, np.random.Generator], Float64] = field(default=lambda labels, rng: labels)


Change = Callable[[Rows, np.random.Generator], None]


def chances(x: Float64, y: Float64) -> Float64:
    """The true probabilities; where y is large all classes are about as likely."""
    steep = np.where(y > 1, 0.1, 2.0)
    return np.asarray(softmax(np.column_stack([-2 * x * steep, np.full(len(x), 0.3), 2 * x * steep]), axis=1))


def level(x: Float64) -> Float64:
    return np.asarray(20.0 + 5.0 * x)


def columns(batch: pa.RecordBatch) -> list[Float64]:
    return [np.nan_to_num(batch.column(i).to_numpy(zero_copy_only=False).astype(float)) for i in range(2)]


def class_scores(batch: pa.RecordBatch) -> Float64:
    """The model knows the truth; a missing x counts as 0."""
    return chances(*columns(batch))


def number_scores(batch: pa.RecordBatch) -> Float64:
    return level(columns(batch)[0])


def window(seed: int, is_class: bool, change: Change | None = None) -> AnsweredWindow:
    rng = np.random.default_rng(seed)
    rows = Rows(rng.normal(size=ROWS), rng.normal(size=ROWS), rng.normal(size=ROWS), np.zeros(ROWS, np.bool_))
    if change is not None:
        change(rows, rng)
    cause = rows.noise if rows.other else rows.x
    if is_class:
        labels = (rng.random(ROWS)[:, None] > chances(cause, rows.y).cumsum(axis=1)).sum(axis=1).clip(0, 2).astype(float)
    else:
        labels = level(cause) + rng.normal(size=ROWS) * np.where(rows.y > 1, 4.0, 1.0)
    labels = rows.label(labels, rng)
    x = pa.array(np.where(rows.hidden, np.nan, rows.x), from_pandas=True)
    batch = pa.RecordBatch.from_pydict({"x": x, "y": rows.y, "noise": rows.noise})
    return AnsweredWindow(batch, labels, (class_scores if is_class else number_scores)(batch), np.arange(ROWS) // 200, ROWS, ROWS, 3.6e6)


def empty(rows: Rows, rng: np.random.Generator) -> None:
    rows.hidden = rng.random(ROWS) < 0.5


def harder(rows: Rows, rng: np.random.Generator) -> None:
    rows.y = rng.normal(1.0, 1.0, ROWS)


def another(rows: Rows, rng: np.random.Generator) -> None:
    rows.other = True


def replaced(rows: Rows, rng: np.random.Generator) -> None:
    """A fifth of the labels are another class."""
    rows.label = lambda labels, rng: np.where(rng.random(ROWS) < 0.2, (labels + rng.integers(1, 3, ROWS)) % 3, labels)


def rarer(rows: Rows, rng: np.random.Generator) -> None:
    """Two of three rows of a class are away: what is left has other rates, and the inputs are those of the labels that are left."""
    labels = (rng.random(ROWS)[:, None] > softmax(np.log(chances(rows.x, rows.y)) + np.array([0.0, 0.0, -2.0]), axis=1).cumsum(axis=1)).sum(axis=1)
    rows.label = lambda _, rng: labels.clip(0, 2).astype(float)


def higher(rows: Rows, rng: np.random.Generator) -> None:
    rows.label = lambda labels, rng: labels + 3.0


def pounds(rows: Rows, rng: np.random.Generator) -> None:
    rows.label = lambda labels, rng: labels * 2.2046


def noisier(rows: Rows, rng: np.random.Generator) -> None:
    rows.label = lambda labels, rng: labels + rng.normal(size=ROWS) * 3.0


def fault(is_class: bool, change: Change | None, seed: int) -> Diagnosis:
    kind, score = (CLASSES, class_scores) if is_class else (Regression(), number_scores)
    return diagnose(kind, window(2 * seed, is_class), window(2 * seed + 1, is_class, change), score)


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (empty, "data", "newly missing inputs: x"), (harder, "feature", "y above all"), (another, "concept", "another one"),
        (replaced, "label", "replaced by other classes"), (rarer, "label", "rates of the classes have moved, of high above all"),
    ],
)  # fmt: skip
def test_the_cause_that_is_planted_in_classes_comes_first(change: Change, kind: str, words: str) -> None:
    one = fault(True, change, 1)
    assert one.is_worse and one.causes[0].kind == kind and words in one.causes[0].words, one.causes
    assert one.causes[0].loss > 0.6 * one.rise and sum(cause.loss for cause in one.causes) == pytest.approx(one.rise)


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (empty, "data", "newly missing inputs: x"), (harder, "feature", "y above all"), (another, "concept", "another one"),
        (higher, "label", "moved by +3"), (pounds, "label", "another unit or scale, 2.2"), (noisier, "label", "noisier than before"),
    ],
)  # fmt: skip
def test_the_cause_that_is_planted_in_numbers_comes_first(change: Change, kind: str, words: str) -> None:
    one = fault(False, change, 1)
    assert one.is_worse and one.causes[0].kind == kind and words in one.causes[0].words, one.causes
    assert one.causes[0].loss > 0.6 * one.rise and sum(cause.loss for cause in one.causes) == pytest.approx(one.rise)


def test_the_evidence_is_what_was_planted() -> None:
    share = fault(True, replaced, 2).causes[0].evidence["share of labels replaced"]
    assert share == pytest.approx(0.2, abs=0.03)
    figures = fault(True, rarer, 2).figures
    assert figures["rate of high now"] < 0.7 * figures["rate of high before"]
    assert figures["mean probability of high now"] == pytest.approx(figures["mean probability of high before"], abs=0.03)
    assert fault(False, pounds, 2).causes[0].evidence["label scaled by"] == pytest.approx(2.2046, rel=0.03)
