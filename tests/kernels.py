"""Compile the feature kernels into Numba's cache before several processes want them at once: ``python -m tests.kernels``.

A cold cache costs half a minute of compilation. Worker processes, and the services that the tests start, would each pay it at the same time.
With a warm cache this takes as long as its imports.
"""

from pathlib import Path

import numpy as np

from tests.journals import random_journal
from tests.restarts import folded_with_restarts
from tidemill.shared.application.planning import load_plan


def main() -> None:
    """Fold a small journal, with checkpoints and restarts: every kernel is called."""
    plan = load_plan(Path(__file__).parents[1] / "examples" / "flights")
    rng = np.random.default_rng(1)
    folded_with_restarts(plan, random_journal(plan, 300, rng), rng, restart=0.3, budget=5_000)


if __name__ == "__main__":
    main()
