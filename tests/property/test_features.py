from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.journals import random_journal
from tests.long_forms import examples
from tests.restarts import folded_with_restarts
from tidemill.services.features.domain.core import FeaturesCore
from tidemill.shared.application.planning import load_plan

PLAN = load_plan(Path(__file__).parents[2] / "examples" / "flights")


@settings(max_examples=examples(15), deadline=None)
@given(seed=st.integers(0, 10_000), restart=st.sampled_from([0.0, 0.3, 1.0]), budget=st.sampled_from([1, 5_000, 10**9]))
def test_any_batching_and_any_restart_give_the_same_bits(seed: int, restart: float, budget: int) -> None:
    rng = np.random.default_rng(seed)
    journal = random_journal(PLAN, 600, rng)
    whole = FeaturesCore(PLAN).process(journal)
    assert folded_with_restarts(PLAN, journal, rng, restart, budget).equals(whole)
