"""Skew: served vectors held, bit for bit, against a recomputation from the archived journal, feature by feature."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tidemill.offline.backfill import Backfill, BackfillRange
from tidemill.shared.application.plan import AggregatePlan, Plan
from tidemill.shared.application.view_version import view_version
from tidemill.shared.lake.journal import OFFSET, PARTITION, TIME, ArchivedJournal, UnfitArchiveError
from tidemill.shared.lake.sample import sample_vectors
from tidemill.shared.lake.switches import last_switches
from tidemill.shared.lake.tables import Lake


@dataclass(frozen=True, slots=True)
class FeatureSkew:
    """One feature of the sampled vectors.

    Attributes
    ----------
    compared, mismatches
        Vectors compared, and those whose bits differ (or where one is missing).
    largest_difference
        Absolute, over mismatches where both are numbers; None where there are none.
    first_mismatch
        Journal partition and offset.
    missing_served_ratio, missing_recomputed_ratio
        Share without a value.
    age_median_s, age_p99_s
        Journal time minus the newest event that an earlier record brought to the view for the request's entity; None where a feature is not of a
        view, or no entity had an earlier one.
    """

    feature: str
    compared: int
    mismatches: int
    largest_difference: float | None
    first_mismatch: tuple[int, int] | None
    missing_served_ratio: float
    missing_recomputed_ratio: float
    age_median_s: float | None
    age_p99_s: float | None


@dataclass(frozen=True, slots=True)
class SkewReport:
    """What was compared.

    Attributes
    ----------
    unfounded
        Sampled vectors whose request is not in the archived journal.
    begins
        Journal offset by partition from which vectors were sampled: where the present views took over. Empty where a time was given.
    """

    sampled: int
    unfounded: int
    features: tuple[FeatureSkew, ...]
    begins: Mapping[int, int] = field(default_factory=dict)

    @property
    def agrees(self) -> bool:
        """Whether every sampled vector has the recomputation's bits."""
        return self.unfounded == 0 and all(feature.mismatches == 0 for feature in self.features)


def measure_skew(
    plan: Plan,
    lake: Lake,
    sample: int = 10_000,
    seed: int = 1,
    from_ms: int | None = None,
    to_ms: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SkewReport:
    """Sample served vectors of a range of journal time, fold the journal from its beginning, and compare.

    Parameters
    ----------
    from_ms
        None: from where the present views took over.

    Raises
    ------
    UnfitArchiveError
        No vectors, or vectors of another version of the application.
    """
    names = [feature.name for feature in plan.features]
    begins = _taken_over(plan, lake) if from_ms is None else {}
    served = sample_vectors(lake, names, sample, seed, from_ms, to_ms, begins)
    if not served.num_rows:
        return SkewReport(0, 0, (), begins)
    journal = ArchivedJournal(lake, plan)
    recomputed = _recompute(plan, journal, served, names, progress)
    places = {place: row for row, place in enumerate(_places(recomputed))}
    at = np.array([places.get(place, -1) for place in _places(served)], np.int64)
    both = np.flatnonzero(at >= 0)
    one, two = served.take(pa.array(both)), recomputed.take(pa.array(at[both]))
    ages = _ages(plan, journal, one, progress)
    views = {feature.name: feature.source for feature in plan.features if feature.origin == "view"}
    compared = tuple(_compare(name, one, two, ages.get(views.get(name, ""))) for name in names)
    return SkewReport(served.num_rows, int((at < 0).sum()), compared, begins)


def _taken_over(plan: Plan, lake: Lake) -> dict[int, int]:
    """Return by partition the journal offset from which vectors follow the present views."""
    version, last = view_version(plan), last_switches(lake)
    for switch in last.values():
        if switch.view_version != version:
            raise UnfitArchiveError(
                f"expected vectors served by these views ({version}), the archive's last ones of journal partition {switch.journal_partition}"
                f" (from offset {switch.journal_offset}) are by {switch.view_version}: give the application that served them, or a time with --from"
            )
    return {partition: switch.journal_offset for partition, switch in last.items()}


def _recompute(
    plan: Plan, journal: ArchivedJournal, sampled: pa.Table, columns: list[str], progress: Callable[[int, int], None] | None = None
) -> pa.Table:
    """Return the recomputed vectors at the sampled places, sorted by partition and offset."""
    wanted = {
        p: sampled.filter(pc.equal(sampled.column(PARTITION), p)).column(OFFSET).to_numpy() for p in pc.unique(sampled.column(PARTITION)).to_pylist()
    }
    fold = Backfill(plan, journal, BackfillRange(to_ms=pc.max(sampled.column(TIME)).as_py() + 1))
    if progress is not None:
        total, report = fold.total, progress
        fold.progress = lambda done: report(done, total)
    vectors = []
    for batch in fold.vectors():
        offsets = wanted.get(batch.column(PARTITION)[0].as_py())
        if offsets is not None:
            vectors.append(batch.filter(pa.array(np.isin(batch.column(OFFSET).to_numpy(), offsets))).select([PARTITION, OFFSET, *columns]))
    return pa.Table.from_batches(vectors, schema=None if vectors else plan.vector_arrow).combine_chunks()


def _ages(plan: Plan, journal: ArchivedJournal, sampled: pa.Table, progress: Callable[[int, int], None] | None) -> dict[str, NDArray[np.float64]]:
    """By view, for each sampled vector: journal time minus the entity's newest earlier event in the view, s."""
    # A fold of its own: in the one that is compared nothing is added to the application's views.
    columns = {view.name: f"{view.name}__age" for view in plan.views}
    views = tuple(replace(view, aggregates=(AggregatePlan("time_since_last", columns[view.name]),)) for view in plan.views)
    envelope = [field for field in plan.vector_arrow if field.name.startswith("_")]
    schema = pa.schema([*envelope, *(pa.field(name, pa.float64()) for name in columns.values())])
    made = _recompute(replace(plan, views=views, features=(), vector_arrow=schema), journal, sampled, list(columns.values()), progress)
    return {view: made.column(name).to_numpy() for view, name in columns.items()}


def _places(rows: pa.Table) -> list[tuple[int, int]]:
    return list(zip(rows.column(PARTITION).to_pylist(), rows.column(OFFSET).to_pylist(), strict=True))


def _compare(name: str, served: pa.Table, recomputed: pa.Table, age: NDArray[np.float64] | None) -> FeatureSkew:
    one, two = (rows.column(name).combine_chunks() for rows in (served, recomputed))
    no_one, no_two = (np.asarray(column.is_null().to_numpy(zero_copy_only=False), np.bool_) for column in (one, two))
    n = len(one)
    largest = None
    if pa.types.is_string(two.type):
        differs = np.array([a != b for a, b in zip(one.to_pylist(), two.to_pylist(), strict=True)], np.bool_)
    else:
        numbers = [np.asarray(pc.fill_null(column.cast(pa.float64()), 0.0).to_numpy(zero_copy_only=False), np.float64) for column in (one, two)]
        differs = (no_one != no_two) | (numbers[0].view(np.int64) != numbers[1].view(np.int64))
        apart = np.abs(numbers[0] - numbers[1])[differs & ~no_one & ~no_two]
        largest = float(np.nanmax(apart)) if (~np.isnan(apart)).any() else None
    first = int(np.flatnonzero(differs)[0]) if differs.any() else None
    known = age[~np.isnan(age)] if age is not None else np.empty(0)
    median, high = (float(np.quantile(known, q)) if len(known) else None for q in (0.5, 0.99))
    return FeatureSkew(
        name, n, int(differs.sum()), largest, None if first is None else _places(served)[first],
        float(no_one.mean()) if n else 0.0, float(no_two.mean()) if n else 0.0, median, high,
    )  # fmt: skip
