"""A fold over a journal in random portions, with restarts from its checkpoint in between."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from tests.journals import cut
from tidemill.services.features.domain.core import FeaturesCore
from tidemill.shared.application.journal import JournalBatch
from tidemill.shared.application.plan import Plan
from tidemill.shared.log.packed import packed_or_list
from tidemill.shared.log.records import StateEntry


def folded_with_restarts(
    plan: Plan, journal: JournalBatch, rng: np.random.Generator, restart: float, budget: int, portion: int = 60
) -> pa.RecordBatch:
    """Return the vectors of a core that is made anew from its checkpoint with probability `restart` after every portion.

    The checkpoint is read whole, or as the log it was written as: every entry there ever was, in runs.
    """
    core = FeaturesCore(plan)
    log: list[StateEntry] = []
    parts, at = [], 0
    while at < len(journal):
        end = min(len(journal), at + int(rng.integers(1, portion)))
        parts.append(core.process(cut(journal, at, end)))
        at = end
        log += core.take_dirty(budget)
        if rng.random() < restart:
            marker = core.oldest_dirty_offset
            core = FeaturesCore(plan)
            if rng.random() < 0.5:
                core.restore([StateEntry(key, value) for key, value in {entry.key: entry.value for entry in log}.items()])
            else:
                for run in runs(log, rng):
                    core.load(packed_or_list([entry.key for entry in run]), packed_or_list([entry.value for entry in run]))
                core.restore([])
            begin = at if marker is None else int(np.searchsorted(journal.offsets, marker))
            if begin < at:
                core.replay(cut(journal, begin, at))
    return pa.Table.from_batches(parts).combine_chunks().to_batches()[0]


def runs(log: list[StateEntry], rng: np.random.Generator) -> Iterator[list[StateEntry]]:
    """Cut a log anywhere."""
    begin = 0
    while begin < len(log):
        end = begin + int(rng.integers(1, 200))
        yield log[begin:end]
        begin = end
