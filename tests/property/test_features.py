from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from services.features.domain.core import FeaturesCore
from shared.application.planning import load_plan
from shared.streaming.records import StateEntry
from tests.journals import cut, random_journal

PLAN = load_plan(Path(__file__).parents[2] / "examples" / "flights")


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), restart=st.sampled_from([0.0, 0.3, 1.0]), budget=st.sampled_from([1, 5_000, 10**9]))
def test_any_batching_and_any_restart_give_the_same_bits(seed: int, restart: float, budget: int) -> None:
    rng = np.random.default_rng(seed)
    journal = random_journal(PLAN, 600, rng)
    whole = FeaturesCore(PLAN).process(journal)
    core = FeaturesCore(PLAN)
    checkpoint: dict[bytes, bytes | None] = {}
    parts, at = [], 0
    while at < len(journal):
        end = min(len(journal), at + int(rng.integers(1, 60)))
        parts.append(core.process(cut(journal, at, end)))
        at = end
        checkpoint.update({entry.key: entry.value for entry in core.take_dirty(budget)})
        if rng.random() < restart:
            marker = core.oldest_dirty_offset
            core = FeaturesCore(PLAN)
            core.restore([StateEntry(key, value) for key, value in checkpoint.items()])
            begin = at if marker is None else int(np.searchsorted(journal.offsets, marker))
            if begin < at:
                core.replay(cut(journal, begin, at))
    assert pa.Table.from_batches(parts).combine_chunks().to_batches()[0].equals(whole)
