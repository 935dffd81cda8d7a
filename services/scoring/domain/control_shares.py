"""The marks of requests that nobody acts on: for models whose predictions hide their labels."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from tidemill.shared.application.control_share import ANSWER
from tidemill.shared.application.plan import ModelPlan
from tidemill.shared.models.assignment import fractions


class ControlShares:
    """Marks the control share's requests among the answers of a panel. Pure: the draw is a hash of the request's id.

    Each request is drawn by itself. A draw by entity would be sticky (an account that is never blocked learns that it is not), and the labels
    of one account are alike: the same share would tell less.

    Parameters
    ----------
    models
        All of the panel, in its order.
    """

    def __init__(self, models: Sequence[ModelPlan]) -> None:
        self._width = len(models)
        self._plans = {i: model.control for i, model in enumerate(models) if model.control is not None}

    def columns(self, requests: pa.Array, answers: Mapping[str, pa.Array]) -> tuple[pa.Array, pa.Array]:
        """Return whether each answer is in its model's control share, and the propensity of its label; null for models without one.

        Parameters
        ----------
        requests, answers
            Ids of the requests, and the columns of `ANSWER`: by request, then by model of the panel.
        """
        n = len(requests)
        if not self._plans or not n:
            return pa.nulls(n, pa.bool_()), pa.nulls(n, pa.float64())
        drawn, seen, missing = np.zeros(n, np.bool_), np.full(n, np.nan), np.ones(n, np.bool_)
        for i, plan in self._plans.items():
            own = slice(i, None, self._width)
            rows = pa.array(np.arange(n)[own])
            batch = pa.RecordBatch.from_arrays([answers[name].take(rows) for name in ANSWER.names], schema=ANSWER)
            drawn[own] = fractions([identity.encode() for identity in requests.take(rows).to_pylist()], plan.salt) < plan.share
            seen[own], missing[own] = plan.propensity(batch), False
        return pa.array(drawn, mask=missing), pa.array(seen, mask=missing)
