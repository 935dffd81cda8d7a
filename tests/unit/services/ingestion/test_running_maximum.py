"""The running maximum against NumPy's own."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.services.ingestion.domain.running_maximum import running_maximum

_INT64 = st.integers(-(2**63), 2**63 - 1)


@settings(deadline=None)
@given(st.lists(_INT64), _INT64)
def test_it_is_numpys_and_at_least_what_is_given(values: list[int], least: int) -> None:
    column = np.array(values, np.int64)
    assert running_maximum(column, least).tolist() == np.maximum(np.maximum.accumulate(column), least).tolist()
