"""What the other one of champion and challenger said: from shadow scores to pairs, and to outcomes' columns."""

import json
import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tidemill.services.outcomes.domain.join import Outcome
from tidemill.services.outcomes.domain.known_classes import KnownClasses
from tidemill.services.outcomes.domain.request import Pair
from tidemill.shared.kinds.served_scores import class_scores

_SCORES = pa.map_(pa.string(), pa.field("value", pa.float64(), nullable=False))
_SLICES = pa.map_(pa.string(), pa.field("value", pa.string(), nullable=False))


@lru_cache(maxsize=256)
def _slices_text(slices: tuple[tuple[str, str], ...]) -> str:
    """Return the values of a request's slices as JSON; many requests have the same."""
    return json.dumps(dict(slices))


@lru_cache(maxsize=256)
def _slices_of(text: str) -> tuple[tuple[str, str], ...]:
    """Return what `_slices_text` was given."""
    return tuple(json.loads(text).items())


class ServedPairs:
    """Carries pairs from shadow scores to outcomes, bit for bit. Pure.

    Parameters
    ----------
    classes
        Kinds by model, as far as their classes are known.
    """

    def __init__(self, classes: KnownClasses) -> None:
        self._classes = classes
        self._models = [name for name in classes.models if classes.of(name).has_classes]

    def pairs(self, shadow_scores: pa.RecordBatch) -> list[Pair]:
        """Return, of shadow scores in their schema, what the one said that did not answer.

        The index of a predicted class is that of today's classes, -1 where the scores are of others.
        """
        batch = shadow_scores
        is_canary = pc.equal(batch.column("variant"), "canary")
        version, sequence, score, scores, predicted = (
            pc.if_else(is_canary, batch.column(f"champion_{name}"), batch.column(f"challenger_{name}"))
            for name in ("version", "sequence", "score", "scores", "predicted")
        )
        answers = predicted.fill_null(-1).to_pylist()
        numbers: list[tuple[float, ...]] = [()] * batch.num_rows
        models = np.array(batch.column("model").to_pylist(), dtype=object)
        for name in self._models:
            rows = np.flatnonzero(models == name)
            if not len(rows):
                continue
            own_scores = scores.take(pa.array(rows))
            self._classes.follow(name, own_scores)
            kind = self._classes.of(name)
            table = class_scores(own_scores, kind)
            filled = np.where(np.isnan(table), 0.0, table) if name in self._classes.learning else table
            known = kind.is_score(filled)
            decided = kind.decide(np.where(known[:, None], filled, 0.0), 0.0) if kind.classes else np.full(len(rows), -1)
            for row, own, is_known, place in zip(rows.tolist(), table.tolist(), known.tolist(), decided.tolist(), strict=True):
                numbers[row], answers[row] = tuple(own), place if is_known else -1
        slices = [_slices_text(tuple(one)) if one else "" for one in batch.column("slices").to_pylist()]
        shares, stages, draws = batch.column("share"), batch.column("stage"), batch.column("draw").fill_null(-1.0)
        of_trial = (column.to_pylist() for column in (shares, stages, draws))
        given = (version.to_pylist(), sequence.to_pylist(), score.fill_null(math.nan).to_pylist(), answers, numbers, slices, *of_trial)
        return [Pair(*row) for row in zip(*given, strict=True)]

    def outcome_columns(self, outcomes: Sequence[Outcome]) -> dict[str, pa.Array]:
        """Return the columns of outcomes that only requests with a pair fill."""
        pairs = [outcome.request.pair for outcome in outcomes]
        n = len(pairs)
        if not any(pairs):
            return {
                "other_version": pa.nulls(n, pa.string()),
                "other_sequence": pa.nulls(n, pa.int64()),
                "other_score": pa.nulls(n, pa.float64()),
                "other_scores": pa.nulls(n, _SCORES),
                "other_predicted": pa.nulls(n, pa.int32()),
                "slices": pa.nulls(n, _SLICES),
                "share": pa.nulls(n, pa.float64()),
                "draw": pa.nulls(n, pa.float64()),
                "stage": pa.nulls(n, pa.string()),
            }
        scored = [None if pair is None or math.isnan(pair.score) else pair for pair in pairs]
        tables = [self._table(outcome.model, pair) for outcome, pair in zip(outcomes, pairs, strict=True)]
        return {
            "other_version": pa.array([pair and pair.version for pair in pairs], pa.string()),
            "other_sequence": pa.array([None if pair is None else pair.sequence for pair in pairs], pa.int64()),
            "other_score": pa.array([None if pair is None else pair.score for pair in scored], pa.float64()),
            "other_scores": pa.array(tables, _SCORES),
            "other_predicted": pa.array([None if pair is None else pair.predicted for pair in scored], pa.int32()),
            "slices": pa.array([_slices_of(pair.slices) if pair and pair.slices else None for pair in pairs], _SLICES),
            "share": pa.array([None if pair is None else pair.share for pair in pairs], pa.float64()),
            "draw": pa.array([None if pair is None or pair.draw < 0 else pair.draw for pair in pairs], pa.float64()),
            "stage": pa.array([(pair and pair.stage) or None for pair in pairs], pa.string()),
        }

    def _table(self, model: str, pair: Pair | None) -> list[tuple[str, float]] | None:
        if pair is None or not pair.numbers:
            return None
        return [(name, one) for name, one in zip(self._classes.of(model).classes, pair.numbers, strict=False) if not math.isnan(one)] or None
