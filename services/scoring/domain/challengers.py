"""The challengers of a panel: which requests they answer, and what they say of all."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.services.scoring.domain.class_answers import SCORES, ClassAnswers
from tidemill.services.scoring.domain.request_columns import REQUEST
from tidemill.services.scoring.domain.scoring_times import Pair
from tidemill.services.scoring.domain.serving import Serving
from tidemill.services.scoring.domain.settled import SlotAnswers
from tidemill.shared.application.plan import ModelPlan
from tidemill.shared.models.assignment import fractions


class Challengers:
    """Those models of a panel that have a challenger.

    A challenger scores every request of its model. In shadow it answers none; as a canary or in an A/B test it answers those that the hash of their
    keys gives it (variant `canary`), unless it has no score for one: then the champion answers, and the shadow score says why. No answer is
    degraded because of a challenger.

    Parameters
    ----------
    models, serving
        All of the panel, in its order.

    Attributes
    ----------
    models
        Places of the models with a challenger; challenger number j has the slot ``len(serving) + j`` of what the panel settles.
    serving
        The challengers themselves.
    """

    def __init__(self, models: Sequence[ModelPlan], serving: Sequence[Serving]) -> None:
        challenged = [(i, now, now.challenge) for i, now in enumerate(serving) if now.challenge is not None]
        self.models = [i for i, _, _ in challenged]
        self.serving = [challenge.serving for _, _, challenge in challenged]
        self._width = len(serving)
        self._plans = [models[i] for i in self.models]
        self._classes = ClassAnswers(self._plans)
        self._champions = [now for _, now, _ in challenged]
        self._shares = np.array([challenge.share for _, _, challenge in challenged])
        self._stages = pa.array([challenge.stage for _, _, challenge in challenged], pa.string())
        self._drawn = [(j, challenge) for j, (_, _, challenge) in enumerate(challenged) if challenge.share > 0]

    def timed(self) -> list[tuple[int, int, Pair]]:
        """Return slots of champion and challenger, and who they are, where both score and how long that takes is held against a limit."""
        pairs = []
        for j, (i, plan, now, own) in enumerate(zip(self.models, self._plans, self._champions, self.serving, strict=True)):
            challenge = now.challenge
            if challenge is None or now.scorer is None or own.scorer is None or plan.settings.stages.limits.scoring_time is None:
                continue
            pairs.append((i, self._width + j, Pair(plan.name, now.version, own.version, own.deployment_sequence, challenge.stage)))
        return pairs

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.models)

    @property
    def draws(self) -> bool:
        """Whether one of them answers requests."""
        return bool(self._drawn)

    def draw(self, keys: Sequence[bytes | None], n: int) -> NDArray[np.float64]:
        """Return the number in [0, 1) that each request has drawn of each challenger, shape (n, challengers); NaN of those in shadow."""
        draws = np.full((n, len(self.models)), np.nan)
        for j, challenge in self._drawn:
            draws[:, j] = fractions(keys, challenge.artifact_sha256)
        return draws

    def slots(self, settled: SlotAnswers, drawn: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return whose answer each request gets, shape (n, models).

        Parameters
        ----------
        drawn
            See `draw`.
        """
        slots = np.tile(np.arange(self._width), (len(settled.scores), 1))
        for j, challenge in self._drawn:
            slot = self._width + j
            slots[(drawn[:, j] < challenge.share) & ~settled.degraded[:, slot], self.models[j]] = slot
        return slots

    def shadow_scores(self, vectors: pa.RecordBatch, settled: SlotAnswers, predictions: pa.RecordBatch, drawn: NDArray[np.float64]) -> pa.RecordBatch:
        """Return one record per vector and challenged model, by vector: what both said, and who answered.

        Parameters
        ----------
        predictions
            Of the batch: by vector, then by model of the panel.
        """
        n, count = vectors.num_rows, len(self.models)
        number, request = np.tile(np.arange(count), n), pa.array(np.repeat(np.arange(n), count))
        place = (np.arange(n)[:, None] * self._width + np.array(self.models)).ravel()
        slices = [self._slices(vectors, plan) for plan in self._plans]
        champions, challengers = np.array(self.models), self._width + np.arange(count)
        theirs, own = self._columns(settled, champions, self._champions), self._columns(settled, challengers, self.serving)
        return pa.RecordBatch.from_arrays(
            [
                vectors.column("_request_id").take(request),
                pa.array([plan.name for plan in self._plans], pa.string()).take(pa.array(number)),
                *(vectors.column(f"_{name}").take(request) for name in ("journal_partition", "journal_offset", "journal_time", "event_time")),
                predictions.column("variant").take(pa.array(place)),
                *theirs,
                *own,
                _interleaved(slices, number, n),
                pa.array(self._shares[number]),
                pa.array(drawn.ravel(), mask=np.isnan(drawn.ravel())),
                self._stages.take(pa.array(number)),
            ],
            schema=SHADOW_SCORES,
        )

    def _columns(self, settled: SlotAnswers, slots: NDArray[np.int64], serving: Sequence[Serving]) -> list[pa.Array]:
        """Return version, sequence, score, probabilities by class, class and reason of some slots, by request."""
        n, count = len(settled.scores), len(slots)
        number, missing = np.tile(np.arange(count), n), settled.degraded[:, slots].ravel()
        reasons = pa.array([*(now.reason_without_score for now in serving), None], pa.string())
        return [
            pa.array([now.version for now in serving], pa.string()).take(pa.array(number)),
            pa.array(np.array([now.deployment_sequence for now in serving], np.int64)[number]),
            pa.array(settled.scores[:, slots].ravel(), mask=missing),
            _without(self._classes.scores({j: settled.tables[slot] for j, slot in enumerate(slots.tolist()) if slot in settled.tables}, n), missing),
            pa.array(settled.predicted[:, slots].ravel(), mask=missing),
            reasons.take(pa.array(np.where(missing, number, count))),
        ]

    def _slices(self, vectors: pa.RecordBatch, plan: ModelPlan) -> pa.Array:
        """Return the values of the model's slices and sensitive columns: as they were when the request came."""
        n = vectors.num_rows
        fairness = plan.settings.gate.fairness
        declared = dict.fromkeys((*plan.settings.slices, *(fairness.columns if fairness is not None else ())))
        columns = [name for name in declared if name in vectors.schema.names]
        if not columns or not n:
            return pa.nulls(n, SLICES)
        texts = [vectors.column(name).cast(pa.string()).fill_null("") for name in columns]
        order = np.arange(n * len(columns)).reshape(len(columns), n).T.ravel()
        values = pa.concat_arrays(texts).take(pa.array(order))
        offsets = pa.array((np.arange(n + 1) * len(columns)).astype(np.int32))
        return pa.MapArray.from_arrays(offsets, pa.array(columns * n, pa.string()), values, SLICES)


def _interleaved(parts: Sequence[pa.Array], number: NDArray[np.int64], n: int) -> pa.Array:
    """Return the rows of several columns of n rows in turn: row 0 of each, row 1 of each, ..."""
    if len(parts) == 1:
        return parts[0]
    return pa.concat_arrays(parts).take(pa.array(number * n + np.repeat(np.arange(n), len(parts))))


def _without(column: pa.Array, missing: NDArray[np.bool_]) -> pa.Array:
    """Return the column with null where something is missing."""
    if not missing.any():
        return column
    return column.take(pa.array(np.arange(len(column)), mask=missing))


SLICES = pa.map_(pa.string(), pa.field("value", pa.string(), nullable=False))
"""Type of a record's slices: value by column."""
SHADOW_SCORES = pa.schema(
    [
        *REQUEST,
        pa.field("variant", pa.string(), nullable=False),
        *(
            field
            for whose in ("champion", "challenger")
            for field in (
                pa.field(f"{whose}_version", pa.string(), nullable=False),
                pa.field(f"{whose}_sequence", pa.int64(), nullable=False),
                pa.field(f"{whose}_score", pa.float64()),
                pa.field(f"{whose}_scores", SCORES),
                pa.field(f"{whose}_predicted", pa.int32()),
                pa.field(f"{whose}_reason", pa.string()),
            )
        ),
        pa.field("slices", SLICES),
        pa.field("share", pa.float64(), nullable=False),
        pa.field("draw", pa.float64()),
        pa.field("stage", pa.string(), nullable=False),
    ]
)
"""Columns of shadow scores: those of `schemas/shadow-score.avsc`, so that they are encoded as they are."""
