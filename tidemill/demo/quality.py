"""How well a run served, against the first model kept as it was and against every candidate put into service, on the same requests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.audit.history import RunHistory
from tidemill.demo.judged_requests import JudgedScores, judged_requests
from tidemill.demo.promotion_effects import PromotionEffect, promotion_effects
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.models.artifacts import ArtifactStore
from tidemill.shared.statistics.bootstrap import Interval

DAY_MS = 86_400_000
WEEK_MS = 7 * DAY_MS
_LEAST_ROWS = 50


@dataclass(frozen=True, slots=True)
class Block:
    """Figures over one stretch of time, as in `Quality`; ranking metrics need 50 rows.

    Attributes
    ----------
    begin_ms
        Journal time of its begin.
    """

    begin_ms: int
    rows: int
    served: Mapping[str, float]
    static: Mapping[str, float]
    refit: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Quality:
    """Quality over the labelled requests that a trained model answered, beside what two simpler ways would have had on the same requests.

    Attributes
    ----------
    served, static, refit
        Metrics of the model's kind by name (undefined ones are left out), of regression those of the prediction intervals as well: of what was
        served, of the first model kept as it was, and of every candidate put into service at once.
    headline
        Name of the metric that `gap` and `refit_gap` are of.
    gap, refit_gap
        Served minus static, and minus always-refit, with the paired 95 % interval over day blocks.
    blocks
        Those with rows, in order of time; a week each by default.
    promotions
        What each promotion brought, on the requests that came next.
    """

    rows: int
    served: Mapping[str, float]
    static: Mapping[str, float]
    refit: Mapping[str, float]
    headline: str
    gap: Interval
    refit_gap: Interval
    blocks: Sequence[Block] = ()
    promotions: Sequence[PromotionEffect] = ()

    @property
    def begins_ms(self) -> NDArray[np.float64]:
        """Begin of each block, shape (blocks,)."""
        return np.array([block.begin_ms for block in self.blocks], np.float64)

    def curves(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return the headline metric of each block, shape (blocks,), of served, static and always-refit; NaN where it is undefined."""
        served, static, refit = (
            np.array([figures.get(self.headline, np.nan) for figures in of_one], np.float64)
            for of_one in ([b.served for b in self.blocks], [b.static for b in self.blocks], [b.refit for b in self.blocks])
        )
        return served, static, refit


def measure(history: RunHistory, vectors: pa.Table, artifacts: ArtifactStore, model: str, kind: Kind, margin: float) -> Quality | None:
    """Compare; None when no model was ever promoted or no label came after that."""
    return compare(history.deployments, history.outcomes, vectors, artifacts, model, kind, margin)


def compare(
    deployments: Sequence[Mapping[str, Any]],
    outcomes: pa.Table,
    vectors: pa.Table,
    artifacts: ArtifactStore,
    model: str,
    kind: Kind,
    margin: float,
    block_ms: int = WEEK_MS,
) -> Quality | None:
    """Compare, by the lifecycle log, the outcomes and the vectors of a run; None as in `measure`.

    Parameters
    ----------
    margin
        Difference in the loss that the gate allows: what a promotion may cost.
    block_ms
        Length of a block. Intervals are over days, or over blocks that are shorter.
    """
    mine = [event for event in deployments if event["model"] == model]
    first = next((event for event in mine if event["event"] == "promoted"), None)
    if first is None:
        return None
    requests = judged_requests(outcomes, vectors, model, kind, first["sequence"])
    if requests is None:
        return None
    labels, times, weights = requests.labels, requests.times_ms, requests.weights
    served, static = requests.served(), requests.answers(artifacts, first)
    candidates, in_service = refits_in_service(mine, times, requests.sequences)
    refit = JudgedScores.by_turns(
        len(requests),
        [(own := in_service == number, requests.answers(artifacts, candidates[number], own)) for number in np.unique(in_service).tolist()],
    )
    day_ms = min(DAY_MS, block_ms)
    blocks = []
    for block in np.unique(times // block_ms).tolist():
        inside = times // block_ms == block
        figures = (one.figures(kind, labels, weights, inside, _LEAST_ROWS) for one in (served, static, refit))
        blocks.append(Block(block * block_ms, int(inside.sum()), *figures))
    everything = slice(None)
    return Quality(
        len(requests),
        served.figures(kind, labels, weights, everything),
        static.figures(kind, labels, weights, everything),
        refit.figures(kind, labels, weights, everything),
        kind.headline,
        kind.lead(labels, served.scores, static.scores, times // day_ms, weights),
        kind.lead(labels, served.scores, refit.scores, times // day_ms, weights),
        blocks,
        promotion_effects(mine, requests, artifacts, margin, day_ms),
    )


def refits_in_service(
    events: Sequence[Mapping[str, Any]], times: NDArray[np.int64], sequences: NDArray[np.int64]
) -> tuple[list[Mapping[str, Any]], NDArray[np.int64]]:
    """Return every candidate from the first promoted one on, and which of them would have answered each request if none were ever refused.

    A candidate that its training promoted answers from its first real answer on; one that was refused, or had to go through stages first, from the
    instant that its training was asked for.

    Parameters
    ----------
    events
        Lifecycle log of one model.
    times, sequences : shape (n,)
        Journal time and deployment sequence of the requests, in order.
    """
    promotions = [event for event in events if event["event"] == "promoted"]
    registered = [event for event in events if event["event"] == "registered"]
    begin = next(i for i, event in enumerate(registered) if event["version"] in {one["version"] for one in promotions})
    asked = {event["version"]: event.get("decision_id") for event in registered}
    promoted = {one["version"]: one["sequence"] for one in promotions if one.get("decision_id") == asked[one["version"]]}
    candidates, versions = registered[begin:], np.zeros(len(times), np.int64)
    for number, event in enumerate(candidates[1:], start=1):
        later = sequences >= promoted[event["version"]] if event["version"] in promoted else times > _milliseconds(event["journal_time"])
        versions[later] = number
    return candidates, versions


def _milliseconds(time: Any) -> int:  # milliseconds, or a datetime
    return round(time.timestamp() * 1000) if hasattr(time, "timestamp") else int(time)
