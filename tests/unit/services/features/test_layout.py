"""Every word of an entity's row belongs to one number, and the tables say to which."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from tidemill.services.features.domain.kernels.layout_planning import plan_layout
from tidemill.services.features.domain.kernels.words import DECAY_WORDS, DISTINCT_WORDS, GROUP_WORDS, HEAD_WORDS, WINDOW_WORDS
from tidemill.shared.application.plan import ViewPlan
from tidemill.shared.application.planning import load_plan

ROOT = Path(__file__).parents[4]
PLANS = [load_plan(ROOT / folder) for folder in ("examples/flights", "examples/payments", "tests/applications/engine")]
VIEWS = [pytest.param(view, id=f"{plan.application.app}-{view.name}") for plan in PLANS for view in plan.views]


@pytest.mark.parametrize("view", VIEWS)
def test_the_words_of_a_row_are_given_out_once(view: ViewPlan) -> None:
    state = plan_layout(view, 60_000).state
    sums = state.values * state.accumulator.words
    runs = [(0, HEAD_WORDS)]
    runs += [(int(row), GROUP_WORDS) for row in state.groups["row"]]
    runs += [(int(row), WINDOW_WORDS + sums) for row in state.windows["row"]]
    runs += [(int(row), DECAY_WORDS) for row in state.decays["row"]]
    runs += [(int(row), DISTINCT_WORDS) for row in state.distincts["row"]]
    runs += [(state.first_row, 2 * state.values)] if state.first_row >= 0 else []
    runs += [(state.lag_row, 2 * state.lags * state.values)]
    runs += [(state.digest_row, state.values)] if state.digest_row >= 0 else []
    words = Counter(word for first, size in runs for word in range(first, first + size))
    assert words == Counter(range(state.width))


@pytest.mark.parametrize("view", VIEWS)
def test_an_aggregate_reads_what_is_there(view: ViewPlan) -> None:
    state = plan_layout(view, 60_000).state
    for one in state.aggregates:
        assert -1 <= one["window"] < len(state.windows) and -1 <= one["value"] < state.values
        assert -1 <= one["decay"] < len(state.decays) and -1 <= one["distinct"] < len(state.distincts) and 0 <= one["lag"] <= state.lags
        assert (one["window"] >= 0) + (one["decay"] >= 0) <= 1
    ends = [0, *state.groups["end_window"].tolist()]
    assert ends[:-1] == state.groups["first_window"].tolist(), "the windows of a group follow one another"
    assert all(state.windows["group"][first:end].tolist() == [g] * (end - first) for g, (first, end) in enumerate(pairwise(ends)))
    assert (state.windows["group"][ends[-1] :] == -1).all()
