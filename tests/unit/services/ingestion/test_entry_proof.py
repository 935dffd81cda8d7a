"""Entries are encoded to be judged where one of them may be too large, and only there."""

import numpy as np
import pyarrow as pa
import pytest

from tidemill.services.ingestion.domain.entry_proof import EntryProof
from tidemill.services.ingestion.domain.raw import CleanRows
from tidemill.shared.log.packed import Packed

LIMIT = 20_000
N = 2_000


def rows(texts: list[str | None], lists: list[list[int]] | None = None) -> CleanRows:
    n = len(texts)
    ids = pa.array([f"e{i}" for i in range(n)])
    named = {"text": pa.array(texts, pa.string()), "number": pa.array(range(n), pa.int64()), "_key": ids, "_event_id": ids}
    if lists is not None:
        named["list"] = pa.array(lists, pa.list_(pa.int64()))
    none, zeros = np.zeros(n, np.bool_), np.zeros(n, np.int64)
    batch = pa.RecordBatch.from_pydict(named)
    return CleanRows(batch, none, none, zeros, np.zeros(n, np.int32), np.arange(n), zeros, [b""] * n, [b""] * n, {}, zeros)


def proof(encoded: list[int], name_bytes: int = 1 << 62) -> EntryProof:
    """Entries as long as their rows, by plain Python."""

    def encode(batch: pa.RecordBatch) -> Packed:
        encoded.append(batch.num_rows)
        sizes = [sum(8 * len(v) if isinstance(v, list) else len(str(v)) for v in row.values() if v is not None) for row in batch.to_pylist()]
        return Packed(np.zeros(sum(sizes), np.uint8), np.cumsum([0, *sizes]))

    return EntryProof(encode, lambda _: {}, LIMIT, False, ["text"], name_bytes)


def test_a_large_batch_of_small_rows_is_not_encoded() -> None:
    """At ten thousand records a step this was a third of what ingestion did for each."""
    encoded: list[int] = []
    batch = rows(["some text"] * (N - 1) + [None])
    assert batch.columns.nbytes > LIMIT
    assert not proof(encoded).prove(batch).refused.any() and not encoded


@pytest.mark.parametrize("within", [0, 700, N - 1])
def test_a_large_row_among_small_ones_is_refused(within: int) -> None:
    texts: list[str | None] = ["some text"] * N
    texts[within] = "x" * LIMIT
    judged = proof([]).prove(rows(texts))
    assert np.flatnonzero(judged.refused).tolist() == [within] and judged.verdicts[within].reason == "too_large"
    assert np.flatnonzero(proof([]).prove(rows(texts).part(within, within + 1)).refused).tolist() == [0]


def test_a_long_name_and_a_long_list_are_found_too() -> None:
    texts: list[str | None] = ["some text"] * N
    texts[5] = "x" * 600
    assert np.flatnonzero(proof([], name_bytes=500).prove(rows(texts)).refused).tolist() == [5]
    lists = [[i] for i in range(N)]
    lists[9] = [0] * LIMIT
    assert np.flatnonzero(proof([]).prove(rows(["some text"] * N, lists)).refused).tolist() == [9]
