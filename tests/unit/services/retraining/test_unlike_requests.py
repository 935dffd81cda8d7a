"""The newest requests are told from those before them where a column has broken, and not by the weather of a day."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.services.retraining.domain.unlike_requests import unlike_requests

PER_DAY, DAYS = 400, 28


def requests(seed: int, count: int = DAYS * PER_DAY) -> dict[str, NDArray[Any]]:
    """Requests whose days have a level of their own, with a column that only rises, one of gaps, a constant and a text."""
    random = np.random.default_rng(seed)
    level = np.repeat(random.normal(0, 0.5, -(-count // PER_DAY)), PER_DAY)[:count]
    columns = {
        "temp": random.normal(level, 1.0),
        "total": np.arange(count, dtype=np.float64),
        "gaps": np.where(random.random(count) < 0.2, np.nan, random.normal(size=count)),
        "constant": np.ones(count),
    }
    return {**columns, "country": random.choice(np.array(["de", "fr", "it"], object), count)}


def found(columns: dict[str, NDArray[Any]], newest: int = 80) -> list[tuple[str, str]]:
    """Columns that the last requests are found to be unlike in, and by which measure."""
    arrays = {name: pa.array(values, pa.string() if name == "country" else pa.float32(), from_pandas=True) for name, values in columns.items()}
    batch = pa.RecordBatch.from_pydict(arrays)
    before = batch.num_rows - newest
    return [(one.column, one.what) for one in unlike_requests(batch.slice(0, before), batch.slice(before))]


def test_days_in_order_are_like_each_other() -> None:
    assert [found(requests(seed)) for seed in range(40)] == [[]] * 40


def test_what_has_just_broken_is_named_by_its_measure() -> None:
    changes: dict[tuple[str, str], tuple[str, Callable[[NDArray[Any]], NDArray[Any]]]] = {
        ("temp", "mean place"): ("temp", lambda values: values * 0 + 5.0),
        ("gaps", "share of gaps"): ("gaps", lambda values: values * np.nan),
        ("constant", "mean place"): ("constant", lambda values: values * 60),
        ("country", "share of texts never seen"): ("country", lambda values: np.where(np.arange(len(values)) % 4 == 0, "new", values)),
    }
    for expected, (column, change) in changes.items():
        columns = requests(1)
        columns[column] = np.concatenate([columns[column][:-80], change(columns[column][-80:])])
        assert found(columns) == [expected]


def test_too_few_requests_say_nothing() -> None:
    columns = requests(1)
    columns["temp"] = np.concatenate([columns["temp"][:-80], columns["temp"][-80:] + 50.0])
    assert found(columns) and not found(columns, 49)
    assert not found({name: values[-80 * 30 :] for name, values in columns.items()}), "29 runs before"
