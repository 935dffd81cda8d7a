"""Requests by id: what is found is what a dict would say, while the table grows and afterwards; nobody waits for all of it to be moved."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tidemill.services.features.domain import request_keys
from tidemill.services.features.domain.entities import EntityIndex
from tidemill.services.features.domain.request_keys import RequestKeys
from tidemill.shared.application.plan import JoinPlan


def test_what_is_found_is_what_a_dict_says_while_the_table_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    most, move = [0], request_keys._move

    def counted(left: Any, begin: int, end: int, *more: Any) -> int:
        most[0] = max(most[0], end - begin)
        return int(move(left, begin, end, *more))

    monkeypatch.setattr(request_keys, "_move", counted)
    rng, accounts = np.random.default_rng(8), EntityIndex()
    keys = RequestKeys(JoinPlan("payments", "payment", "payment", 3_000), {"account": (accounts, "account")}, tmp_path)
    known: dict[str, tuple[int, int, int]] = {}
    offset = 0
    for step in range(400):
        now, count = step * 10, int(rng.integers(1, 200))
        names = [f"p{i}" for i in rng.integers(0, 60_000, count)]
        of = [f"a{i}" for i in rng.integers(0, 50, count)]
        offsets = np.arange(offset, offset + count)
        keys.remember(pa.record_batch({"payment": names, "account": of}), np.full(count, now), offsets, now)
        for name, account, at in zip(names, of, offsets.tolist(), strict=True):
            known[name] = now, at, accounts.find(account)
        offset += count
        asked = [f"p{i}" for i in rng.integers(0, 60_000, 200)]
        found = keys.find(pa.array(asked), np.full(200, now), np.full(200, offset))["account"]
        then = [known.get(name, (-10_000, 0, -1)) for name in asked]
        assert found.tolist() == [slot if now - at <= 3_000 else -1 for at, _, slot in then]
    assert 0 < most[0] <= 16 * 200
