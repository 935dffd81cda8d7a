"""One model's requests scored again, and what was said of them compared bit for bit."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.audit.answer_queue import ModelAnswers
from tidemill.audit.served import States, without_models
from tidemill.services.scoring.domain.core import ScoringCore
from tidemill.services.scoring.domain.serving import Serving
from tidemill.shared.avro.arrow_types import int64_ms
from tidemill.shared.avro.columns import ColumnEncoder
from tidemill.shared.log.packed import taken

_NONE = -1


@dataclass(slots=True)
class RequestCounts:
    """What was compared of some requests.

    Attributes
    ----------
    shadow_scores_left_out
        Requests without a shadow score between others that have one of the same challenger.
    """

    predictions: int = 0
    prediction_mismatches: int = 0
    shadow_scores: int = 0
    shadow_score_mismatches: int = 0
    shadow_scores_left_out: int = 0
    switches_back: int = 0
    degraded: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Requests that are answered: which, and what stands in the topics, row by row; a request without a shadow score has None."""

    asked: pa.RecordBatch
    keys: Sequence[bytes | None]
    predictions: Sequence[bytes | None]
    shadow_scores: Sequence[bytes | None]

    def some(self, rows: Sequence[int]) -> "_Rows":
        taken_rows = np.array(rows, np.int64)
        parts = ([values[row] for row in rows] for values in (self.predictions, self.shadow_scores))
        return _Rows(self.asked.take(pa.array(taken_rows)), taken(self.keys, taken_rows), *parts)


class ScoreComparison:
    """Scores the requests of one model again, partition by partition.

    Parameters
    ----------
    states
        What served and was tried, by what predictions and shadow scores say that they follow.
    revisions
        By model and sequence.
    """

    def __init__(
        self, model: str, core: ScoringCore, predictions: ColumnEncoder, shadow_scores: ColumnEncoder, states: States,
        revisions: Mapping[tuple[str, int], Mapping[str, Any]],
    ) -> None:  # fmt: skip
        self._model, self._core, self._states, self._revisions = model, core, states, revisions
        self._predictions, self._shadow_scores = predictions, shadow_scores
        self._of_canary = {state[1]: state for state in states if state[1] != _NONE}
        self.begin()

    def begin(self) -> None:
        """Begin with another partition."""
        self._latest = [_NONE, _NONE]
        self._tried = (_NONE, _NONE)
        self._unshadowed = 0

    def compare(self, asked: pa.RecordBatch, keys: Sequence[bytes | None], answers: ModelAnswers, shadows: ModelAnswers) -> RequestCounts:
        """Compare requests in the order of the journal with what was said of them.

        Parameters
        ----------
        answers, shadows
            Predictions, with the deployment and the revision that they follow; shadow scores, with the deployments of champion and challenger.
        """
        compared, offsets = RequestCounts(), int64_ms(asked.column("_journal_offset"))
        rows, places = _matched(offsets, answers.offsets)
        missing, extra = len(offsets) - len(rows), len(answers.offsets) - len(rows)
        if missing or extra:
            compared.examples.append(
                f"{self._model}: of {len(offsets)} requests from journal offset {offsets[0]} on, {missing} have no prediction; {extra} too many"
            )
        compared.predictions, compared.prediction_mismatches = max(len(offsets), len(answers.offsets)), missing + extra
        surplus = len(shadows.offsets) - len(_matched(offsets, shadows.offsets)[0])
        compared.shadow_scores, compared.shadow_score_mismatches = len(shadows.offsets), surplus
        if surplus:
            compared.examples.append(f"{self._model}: {surplus} shadow scores too many from journal offset {offsets[0]} on")
        states, values = self._followed(answers.numbers[places, 0], offsets[rows], shadows)
        said = _Rows(asked.take(pa.array(rows)), taken(keys, rows), [answers.values[place] for place in places.tolist()], values)
        compared.switches_back = self._falls(states)
        revisions = _carried(answers.numbers[places, 1], answers.numbers[places, 0] == states[:, 0])
        edges = (np.diff(states, axis=0) != 0).any(axis=1) | (np.diff(revisions) != 0)
        for begin, end in pairwise([0, *(np.flatnonzero(edges) + 1).tolist(), len(rows)] if len(rows) else []):
            self._step(
                compared,
                said.some(range(begin, end)),
                (int(states[begin, 0]), int(states[begin, 1])),
                int(revisions[begin]),
                offsets[rows[begin:end]],
            )
        return compared

    def _followed(
        self, sequences: NDArray[np.int64], offsets: NDArray[np.int64], shadows: ModelAnswers
    ) -> tuple[NDArray[np.int64], Sequence[bytes | None]]:
        """Return which champion and which challenger each request followed, shape (n, 2), and its shadow score.

        A shadow score names both. A prediction names the one that gave it; a canary's tells of both, too.
        """
        states = np.array([self._of_canary.get(sequence, (sequence, _NONE)) for sequence in sequences.tolist()], np.int64).reshape(-1, 2)
        values: list[bytes | None] = [None] * len(offsets)
        rows, places = _matched(offsets, shadows.offsets)
        states[rows] = shadows.numbers[places]
        for row, place in zip(rows.tolist(), places.tolist(), strict=True):
            values[row] = shadows.values[place]
        return states, values

    def _step(self, compared: RequestCounts, said: _Rows, state: tuple[int, int], revision: int, offsets: NDArray[np.int64]) -> None:
        """Compare requests that follow the same deployments."""
        if state[1] == _NONE:
            self._unshadowed += len(offsets)
        else:
            compared.shadow_scores_left_out += self._unshadowed if state == self._tried else 0
            self._tried, self._unshadowed = state, 0
        now = self._revised(self._states.get(state) or self._states.get((state[0], _NONE)), revision)
        wrong = self._differing(said, now)
        first = dict(wrong)
        for reason, others in without_models(now).items() if now is not None and wrong else ():
            for other in others:
                left = self._differing(said.some(list(wrong)), other)
                still = [list(wrong)[place] for place in left]
                compared.degraded[reason] += len(wrong) - len(still)
                wrong = {row: first[row] for row in still}
        for row, (prediction, shadow) in wrong.items():
            compared.prediction_mismatches += prediction
            compared.shadow_score_mismatches += shadow
            what = " and ".join(name for name, differs in (("prediction", prediction), ("shadow score", shadow)) if differs)
            compared.examples.append(f"{self._model}: {what} at journal offset {offsets[row]}, deployment {max(state)}, differs")

    def _differing(self, said: _Rows, now: Serving | None) -> dict[int, tuple[bool, bool]]:
        """Score requests again; returns the rows of which something differs: the prediction, the shadow score."""
        again = self._core.process(said.asked, {} if now is None else {self._model: now}, said.keys)
        n = len(said.predictions)
        shadows: Sequence[bytes | None] = [None] * n if again.shadow_scores is None else self._shadow_scores.encode(again.shadow_scores)
        rows = zip(self._predictions.encode(again.batch), said.predictions, shadows, said.shadow_scores, strict=True)
        return {i: (mine != theirs, own != other) for i, (mine, theirs, own, other) in enumerate(rows) if mine != theirs or own != other}

    def _falls(self, states: NDArray[np.int64]) -> int:
        """Count records that follow an older champion, or an older challenger, than the one before them."""
        falls = 0
        for column in range(2):
            followed = states[:, column] if column == 0 else states[states[:, column] != _NONE, column]
            falls += int((np.diff(np.concatenate([[self._latest[column]], followed])) < 0).sum())
            self._latest[column] = int(followed[-1]) if len(followed) else self._latest[column]
        return falls

    def _revised(self, now: Serving | None, revision: int) -> Serving | None:
        """Return what served under a revision that a prediction names; one that is of another version, or unknown, changes nothing."""
        record = self._revisions.get((self._model, revision))
        if record is None or now is None or record["model_version"] != now.version:
            return now
        return replace(now, interval=(record["lower_offset"], record["upper_offset"]), revision=revision)


def _matched(asked: NDArray[np.int64], answered: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of (the first of equal) requests and of their (first) answers, in the order of the journal."""
    requests, own = np.unique(asked, return_index=True)
    ids, first = np.unique(answered, return_index=True)
    _, rows, places = np.intersect1d(requests, ids, assume_unique=True, return_indices=True)
    return own[rows].astype(np.int64), first[places].astype(np.int64)


def _carried(revisions: NDArray[np.int64], champion: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the champion's revision at each answer: a canary's says nothing of it, so it is that of the answer before."""
    if champion.all() or not champion.any():
        return revisions
    last = np.maximum.accumulate(np.where(champion, np.arange(len(champion)), -1))
    carried: NDArray[np.int64] = revisions[np.where(last < 0, int(np.argmax(champion)), last)]
    return carried
