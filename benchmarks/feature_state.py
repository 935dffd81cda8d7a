"""What feature state costs: kernel time an event, memory an entity, checkpoint and restore, for an application of 20 features in 3 windows.

    python -m benchmarks.feature_state [--entities 1000000] [--events 3000000]

Prints one table. CPU time of this process; memory as the growth of its resident set, names of entities included.
"""

import argparse
import gc
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa

from tidemill.services.features.domain.core import FeaturesCore
from tidemill.shared.application.journal import JournalBatch, JournalGroup
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.log.records import StateEntry

_APPLICATION = Path(__file__).parent / "applications" / "feature-state"
_BATCH = 5_000


def journal(plan: Plan, events: int, entities: int, rng: np.random.Generator) -> list[JournalBatch]:
    """Payments 1 ms apart; every entity comes at least once, the rest follow a Zipf law."""
    stream = plan.streams["payments"]
    rank = np.arange(1, entities + 1) ** -1.1
    drawn = np.searchsorted(np.cumsum(rank / rank.sum()), rng.random(max(0, events - entities))).clip(0, entities - 1)
    account = np.concatenate([rng.permutation(entities), drawn])[:events]
    batches = []
    for begin in range(0, events, _BATCH):
        rows = account[begin : begin + _BATCH]
        n = len(rows)
        at = 1_700_000_000_000 + np.arange(begin, begin + n)
        made = {
            "_journal_time": pa.array(at).cast(pa.timestamp("ms")),
            "_event_id": pa.array([f"p{i}" for i in range(begin, begin + n)]),
            "_event_time": pa.array(at).cast(pa.timestamp("ms")),
            "_late": pa.array(np.zeros(n, np.bool_)),
            "_source_partition": pa.array(np.zeros(n, np.int32)),
            "_source_offset": pa.array(np.arange(begin, begin + n)),
            "payment_id": pa.array([f"p{i}" for i in range(begin, begin + n)]),
            "account_id": pa.array([f"acc{i:07d}" for i in rows.tolist()]),
            "merchant_id": pa.array([f"m{i:06d}" for i in rng.integers(0, 1_000, n).tolist()]),
            "amount": pa.array(np.round(np.exp(rng.normal(3.2, 1.1, n)), 2)),
            "currency": pa.array(["EUR"] * n),
            "country": pa.array(["DE"] * n),
            "event_time": pa.array(at).cast(pa.timestamp("ms")),
        }
        columns = pa.RecordBatch.from_arrays([made[name] for name in stream.entry_arrow.names], schema=stream.entry_arrow)
        index = np.full(n, stream.index, np.int16)
        batches.append(JournalBatch(0, np.arange(begin, begin + n), at, index, [b""] * n, {"payments": JournalGroup(np.arange(n), columns)}))
    return batches


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--entities", type=int, default=1_000_000)
    arguments.add_argument("--events", type=int, default=3_000_000)
    given = arguments.parse_args()
    plan = load_plan(_APPLICATION)
    batches = journal(plan, given.events, given.entities, np.random.default_rng(7))
    warm = FeaturesCore(plan)  # compile
    warm.process(batches[0])
    FeaturesCore(plan).restore(warm.take_dirty(1 << 40))
    process = psutil.Process()
    gc.collect()
    before, core = process.memory_info().rss, FeaturesCore(plan)
    begun = time.process_time()
    for batch in batches:
        core.process(batch)
    seconds = time.process_time() - begun
    gc.collect()
    grown = process.memory_info().rss - before
    features = len(plan.vector_arrow.names) - 7
    live = len(core.known("account"))
    rows = [("features, windows", f"{features}, 3"), ("events, entities", f"{given.events:,}, {live:,}")]
    rows.append(("core, CPU us an event", f"{seconds / given.events * 1e6:.2f}"))
    rows.append(("memory, MB", f"{grown / 2**20:,.0f}"))
    rows.append(("memory an entity, bytes (state alone)", f"{grown / live:,.0f} ({core.held_bytes / live:,.0f})"))
    begun = time.process_time()
    entries = core.take_dirty(1 << 40)
    seconds = time.process_time() - begun
    size = sum(len(entry.value or b"") for entry in entries)
    rows.append(("checkpoint, entities a CPU-second", f"{live / seconds:,.0f}"))
    rows.append(("checkpoint, bytes an entity", f"{size / live:,.0f}"))
    copies = [StateEntry(bytes(entry.key), entry.value) for entry in entries]
    fresh = FeaturesCore(plan)
    begun = time.process_time()
    fresh.restore(copies)
    seconds = time.process_time() - begun
    rows.append(("restore, entities a CPU-second", f"{live / seconds:,.0f}"))
    for name, value in rows:
        print(f"{name:<42}{value:>24}")


if __name__ == "__main__":
    main()
