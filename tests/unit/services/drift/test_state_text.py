"""What a snapshot is written as: the same text as JSON's, without a second copy of it in memory."""

import json
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.services.drift.state_text import compressed

_LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5) | st.just("é" * 70_000)
_STATES = st.recursive(_LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=4), max_leaves=12)


@settings(deadline=None)
@given(_STATES)
def test_it_is_the_text_of_json(state: Any) -> None:
    assert zlib.decompress(compressed(state)).decode() == json.dumps(state)


def test_what_is_not_plain_is_refused_but_numbers_of_numpy_are() -> None:
    assert json.loads(zlib.decompress(compressed({"a": {"b": np.int64(3)}, "c": np.bool_(True), "d": {1: "x"}}))) == {
        "a": {"b": 3}, "c": True, "d": {"1": "x"}
    }  # fmt: skip
    with pytest.raises(TypeError, match="found set"):
        compressed({"a": {"b": {1}}})


def test_a_large_state_is_written_without_another_copy_of_it() -> None:
    columns = {f"column{i}": f"{i}" * 4_000_000 for i in range(6)}
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        compressed({"verdict": {"waiting": columns}})
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    # Two copies of a column (its text and the text's bytes), where the whole was there twice: 48 MB.
    assert peak < 2.5 * 4_000_000
