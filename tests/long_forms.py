"""Short and long forms: `make test` runs a part of the cases where each proves the same once more, `make test-long` runs all of them.

Hypothesis draws other examples at every run, so a short form, run often, sees as many.
"""

import os
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

IS_LONG = os.environ.get("TIDEMILL_TEST_LONG") == "1"
_LEAST_EXAMPLES = 5


def examples(count: int) -> int:
    """Return how many examples Hypothesis tries: all of them in the long form, a third in the short one."""
    return count if IS_LONG else min(count, max(_LEAST_EXAMPLES, count // 3))


def shortened(cases: Sequence[Any], short: int) -> Iterable[Any]:  # as of `pytest.mark.parametrize`
    """Return the cases of a parametrised test, of which the short form runs the first ones."""
    return [*cases[:short], *(pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.long) for case in cases[short:])]
