"""How far the requests that a version answered lie from those it learned from."""

from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow.dataset as ds

from tidemill.shared.lake.names import VECTORS
from tidemill.shared.lake.tables import Lake, instant
from tidemill.shared.statistics.distances import population_stability_index

_BINS = 10
_LEAST = 200


@dataclass(frozen=True, slots=True)
class FeatureMove:
    """One feature.

    Attributes
    ----------
    psi
        Population stability index over tenths of what was learned, missing values and the rarer categories together as bins of their own.
    before, since
        Shares of missing values.
    """

    feature: str
    psi: float
    before: float
    since: float


def moved(lake: Lake, features: tuple[str, ...], ask: str, learned: tuple[int, int], served: tuple[int, int]) -> list[FeatureMove]:
    """Return every feature, the one that has moved farthest first; nothing of fewer than 200 requests on either side.

    Parameters
    ----------
    learned, served
        Journal times [begin, end) of requests.
    """
    if not lake.exists(VECTORS):
        return []
    known = [name for name in features if name in lake.dataset(VECTORS).schema.names]
    before, since = (_requests(lake, known, ask, span) for span in (learned, served))
    if min(before.height, since.height) < _LEAST:
        return []
    shifts = [_moved(name, before[name], since[name]) for name in known]
    return sorted(shifts, key=lambda one: (-one.psi, one.feature))


def _requests(lake: Lake, columns: list[str], ask: str, span: tuple[int, int]) -> pl.DataFrame:
    time = ds.field("_journal_time")
    wanted = (ds.field("_ask") == ask) & (time >= instant(span[0])) & (time < instant(span[1]))
    frame = pl.from_arrow(lake.dataset(VECTORS).to_table(columns=columns, filter=wanted))
    if not isinstance(frame, pl.DataFrame):
        raise TypeError(f"expected a table, got {type(frame).__name__}")
    return frame


def _moved(name: str, before: pl.Series, since: pl.Series) -> FeatureMove:
    missing = (before.null_count() / len(before), since.null_count() / len(since))
    if before.dtype == pl.String:
        common = before.drop_nulls().value_counts(sort=True).head(_BINS)[name].to_list()
        counts = [[int((one == value).sum()) for value in common] for one in (before, since)]
        rest = [len(one) - one.null_count() - sum(each) for one, each in zip((before, since), counts, strict=True)]
    else:
        values = [one.drop_nulls().to_numpy().astype(np.float64) for one in (before, since)]
        if not len(values[0]):
            return FeatureMove(name, 0.0, *missing)
        edges = np.unique(np.quantile(values[0], np.linspace(0, 1, _BINS + 1)[1:-1]))
        counts = [np.bincount(np.searchsorted(edges, one, side="left"), minlength=len(edges) + 1).tolist() for one in values]
        rest = [0, 0]
    bins = [[*each, other, one.null_count()] for each, other, one in zip(counts, rest, (before, since), strict=True)]
    return FeatureMove(name, population_stability_index(bins[0], bins[1]), *missing)
