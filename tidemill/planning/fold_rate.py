"""How fast the features of an application are folded here, measured on the archive."""

import time
from pathlib import Path

from deltalake.exceptions import DeltaError

from tidemill.offline.backfill import Backfill
from tidemill.shared.application.plan import Plan
from tidemill.shared.lake.journal import ArchivedJournal, UnfitArchiveError
from tidemill.shared.lake.tables import Lake

_SPAN, _SPANS = 2_000, 8


def fold_rate(plan: Plan, lake: str) -> tuple[float | None, str]:
    """Return journal records folded a second by an application's views, over the first archived ones; None and why where it cannot be measured.

    The first span is left out: kernels are compiled, or loaded, in it.
    """
    if not lake or not Path(lake).is_dir():
        return None, "the run has archived nothing yet"
    stamps: list[tuple[float, int]] = []

    def note(records: int) -> None:
        stamps.append((time.perf_counter(), records))

    try:
        fold = Backfill(plan, ArchivedJournal(Lake(lake, plan.application.app), plan, _SPAN), progress=note).vectors()
        for _ in fold:
            if len(stamps) > _SPANS:
                break
    except (UnfitArchiveError, DeltaError) as problem:
        return None, str(problem)
    if len(stamps) < 3:
        return None, f"fewer than {2 * _SPAN:,} records are archived"
    return sum(records for _, records in stamps[1:]) / (stamps[-1][0] - stamps[0][0]), ""
