"""A fold over a journal in random portions, with restarts from its checkpoint in between."""

import numpy as np
import pyarrow as pa

from services.features.domain.core import FeaturesCore
from shared.application.plan import Plan
from shared.avro.journal import JournalBatch
from shared.streaming.records import StateEntry
from tests.journals import cut


def folded_with_restarts(
    plan: Plan, journal: JournalBatch, rng: np.random.Generator, restart: float, budget: int, portion: int = 60
) -> pa.RecordBatch:
    """Return the vectors of a core that is made anew from its checkpoint with probability `restart` after every portion."""
    core = FeaturesCore(plan)
    checkpoint: dict[bytes, bytes | None] = {}
    parts, at = [], 0
    while at < len(journal):
        end = min(len(journal), at + int(rng.integers(1, portion)))
        parts.append(core.process(cut(journal, at, end)))
        at = end
        checkpoint.update({entry.key: entry.value for entry in core.take_dirty(budget)})
        if rng.random() < restart:
            marker = core.oldest_dirty_offset
            core = FeaturesCore(plan)
            core.restore([StateEntry(key, value) for key, value in checkpoint.items()])
            begin = at if marker is None else int(np.searchsorted(journal.offsets, marker))
            if begin < at:
                core.replay(cut(journal, begin, at))
    return pa.Table.from_batches(parts).combine_chunks().to_batches()[0]
