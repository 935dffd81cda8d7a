"""The models that answer one stream's requests, ready to score a batch together."""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.services.scoring.domain.challengers import Challengers
from tidemill.services.scoring.domain.class_answers import SCORES, ClassAnswers, with_learned_classes
from tidemill.services.scoring.domain.control_shares import ControlShares
from tidemill.services.scoring.domain.repeated import Repeated
from tidemill.services.scoring.domain.request_columns import REQUEST
from tidemill.services.scoring.domain.scoring_times import PairTime
from tidemill.services.scoring.domain.serving import Serving
from tidemill.services.scoring.domain.settled import SlotAnswers
from tidemill.shared.application.plan import ModelPlan
from tidemill.shared.models.forest import ForestStack
from tidemill.shared.models.inputs import Inputs


@dataclass(frozen=True, slots=True)
class PanelAnswers:
    """What a panel says of a batch.

    Attributes
    ----------
    predictions
        One per vector and model: by vector, within a vector in the order of the models.
    shadow_scores
        One per vector and model that has a challenger, in the same order; None without any challenger.
    times
        What champions and challengers took for the batch, where that is measured.
    """

    predictions: pa.RecordBatch
    shadow_scores: pa.RecordBatch | None = None
    times: Sequence[PairTime] = ()


class Panel:
    """Some models as they serve now; made anew when one of them switches.

    A batch's columns are encoded once for all of them, the forests among them are scored in one call, and answers are made of columns.

    Parameters
    ----------
    models, serving
        In the order of the application file.
    clock_ns
        Monotonic, in nanoseconds: how long champions and challengers take is measured by it. None: nothing is. No answer depends on it.

    Attributes
    ----------
    inputs
        What the models read, as one table.
    stacks
        Which models are forests, and the forests: one stack for each width of masks, and one for each that is measured.
    """

    def __init__(self, models: Sequence[ModelPlan], serving: Sequence[Serving], clock_ns: Callable[[], int] | None = None) -> None:
        self.serving = tuple(serving)
        self._width = len(models)
        models = [with_learned_classes(model, now) for model, now in zip(models, serving, strict=True)]
        self._challengers = Challengers(models, serving)
        asked = [*models, *(models[i] for i in self._challengers.models)]
        scoring = [*serving, *self._challengers.serving]
        scorers = [(i, now.scorer) for i, now in enumerate(scoring) if now.scorer is not None]
        self._timed = [] if clock_ns is None else self._challengers.timed()
        self._clock_ns = clock_ns if clock_ns is not None and self._timed else _no_clock
        alone = {slot for champion, challenger, _ in self._timed for slot in (champion, challenger)}
        self.inputs = Inputs([scorer.columns for _, scorer in scorers])
        placed = list(zip(scorers, self.inputs.positions, strict=True))
        forests = sorted(
            (
                ((scorer.forest.keeps.itemsize, i if i in alone else -1), i, scorer.forest, rows)
                for (i, scorer), rows in placed
                if scorer.forest is not None
            ),
            key=lambda one: one[:2],
        )
        self.stacks: list[tuple[NDArray[np.int64], ForestStack]] = []
        for _, group in groupby(forests, key=lambda one: one[0]):
            members = list(group)
            self.stacks.append(
                (np.array([i for _, i, _, _ in members]), ForestStack([forest for _, _, forest, _ in members], [rows for *_, rows in members]))
            )
        self._others = [(i, scorer, rows) for (i, scorer), rows in placed if scorer.forest is None]
        # Whoever only tries answers nothing that could be estimated.
        self._errors = [
            (i, scorer.errors, rows) for (i, scorer), rows in placed if scorer.errors is not None and (i < self._width or self._challengers.draws)
        ]
        # The others calibrate themselves.
        self._calibrations = [(i, scorer.calibration) for i, scorer in scorers if scorer.forest is not None and scorer.calibration is not None]
        self._control = ControlShares(models)
        self._classes, self._settling = ClassAnswers(models), ClassAnswers(asked)
        self._defaults = np.array(
            [np.nan if model.kind.has_classes else float(model.kind.default_scores(model.settings.fallback.default)) for model in asked]
        )
        self._least, self._most = np.array([[model.kind.least, model.kind.most] for model in asked]).T
        # What has no threshold never reaches it.
        self._thresholds = np.array([now.threshold if model.kind.name == "binary" else np.inf for model, now in zip(asked, scoring, strict=True)])
        self._follow(self.serving)
        self._sequences = np.array([now.deployment_sequence for now in scoring], np.int64)
        self._names = pa.array([model.name for model in models], pa.string())
        self._versions = pa.array([*(now.version for now in scoring), "default"], pa.string())
        self._reasons = pa.array([*(now.reason_without_score for now in serving), None], pa.string())
        # What a single model says of itself, as long as it answers.
        self._plain = [Repeated(values, i) for values, i in ((self._names, 0), (self._versions, 0), (_VARIANTS, 0), (self._reasons, self._width))]

    @property
    def draws(self) -> bool:
        """Whether a canary answers some of the requests, chosen by their keys."""
        return self._challengers.draws

    def revised(self, serving: Sequence[Serving]) -> "Panel | None":
        """Return the panel with other intervals, at no cost; None when something else is different."""
        if len(serving) != len(self.serving) or any(
            replace(old, interval=new.interval, revision=new.revision) != new for old, new in zip(self.serving, serving, strict=True)
        ):
            return None
        panel = copy(self)
        panel._follow(tuple(serving))  # noqa: SLF001, RUF100 - a panel of its own class
        return panel

    def _follow(self, serving: tuple[Serving, ...]) -> None:
        self.serving = serving
        scoring = [*serving, *self._challengers.serving]
        self._ends = np.array([now.interval or (np.nan, np.nan) for now in scoring])
        self._revisions = np.array([now.revision for now in scoring], np.int64)
        self._has_intervals, self._has_revisions = bool((~np.isnan(self._ends)).any()), bool((self._revisions >= 0).any())

    def answer(self, vectors: pa.RecordBatch, keys: Sequence[bytes | None] = ()) -> PanelAnswers:
        """Return the predictions of all models, and what champions and challengers said where there are both.

        Parameters
        ----------
        keys
            Journal keys of the requests, by which a canary's are chosen; only looked at where there is one.
        """
        settled = self._settled(vectors)
        if not self._challengers:
            return PanelAnswers(self._predictions(vectors, settled, None))
        drawn = self._challengers.draw(keys, vectors.num_rows)
        slots = self._challengers.slots(settled, drawn)
        predictions = self._predictions(vectors, settled, slots)
        shadow_scores = self._challengers.shadow_scores(vectors, settled, predictions, drawn)
        return PanelAnswers(predictions, shadow_scores, self._times(settled, vectors.num_rows))

    def _times(self, settled: SlotAnswers, requests: int) -> list[PairTime]:
        took = settled.took_ns
        if took is None or not requests:
            return []
        return [PairTime(pair, requests, int(took[champion]), int(took[challenger])) for champion, challenger, pair in self._timed]

    def _settled(self, vectors: pa.RecordBatch) -> SlotAnswers:
        """Return what each model, and after them each challenger, answers."""
        n = vectors.num_rows
        took_ns = np.zeros(len(self._sequences), np.int64)
        scores, tables, errors = self._scores(vectors, took_ns)
        degraded = ~((scores >= self._least) & (scores <= self._most))
        scores = np.where(degraded, self._defaults, scores)
        predicted = (scores >= self._thresholds).astype(np.int32)
        answered = {}
        for i in self._settling.models:
            answered[i], scores[:, i], predicted[:, i], degraded[:, i] = self._settling.settle(i, tables.get(i), n)
        return SlotAnswers(scores, predicted, degraded, answered, errors, took_ns)

    def _predictions(self, vectors: pa.RecordBatch, settled: SlotAnswers, slots: NDArray[np.int64] | None) -> pa.RecordBatch:
        """Return one prediction per vector and model.

        Parameters
        ----------
        slots : shape (n, models)
            Whose answer is served; None where no model has a challenger.
        """
        n, width = vectors.num_rows, self._width
        model = served = np.tile(np.arange(width), n) if width > 1 else np.zeros(n, np.int64)
        if slots is not None:
            served, settled = slots.ravel(), settled.chosen(slots)
        scores, default = settled.scores, settled.degraded.ravel()
        lower, upper = self._intervals(scores, settled.degraded, slots)
        asked = vectors if width == 1 else vectors.take(pa.array(np.repeat(np.arange(n), width)))
        requests = asked.column("_request_id")
        names, versions, sequences, variants, reasons = self._who(model, served, default, drawn=slots is not None)
        answered = {
            "score": pa.array(scores.ravel()),
            "predicted": pa.array(settled.predicted.ravel()),
            "predicted_label": self._classes.names(settled.predicted),
            "lower": lower,
            "upper": upper,
        }
        return pa.RecordBatch.from_arrays(
            [
                requests,
                names,
                asked.column("_journal_partition"),
                asked.column("_journal_offset"),
                asked.column("_journal_time"),
                asked.column("_event_time"),
                answered["score"],
                answered["predicted"],
                versions,
                sequences,
                variants,
                reasons,
                self._classes.scores(settled.tables, n),
                answered["predicted_label"],
                lower,
                upper,
                self._revision(lower, served),
                *self._control.columns(requests, answered),
                *_expected_errors(settled, n * width),
            ],
            schema=ANSWERS,
        )

    def _who(self, model: NDArray[np.int64], served: NDArray[np.int64], default: NDArray[np.bool_], *, drawn: bool) -> tuple[pa.Array, ...]:
        """Return names, versions, sequences, variants and reasons of the answers, each of shape (n * models,)."""
        sequences = pa.array(self._sequences[served])
        if self._width == 1 and not drawn and not default.any():
            name, version, variant, reason = (one.column(len(model)) for one in self._plain)
            return name, version, sequences, variant, reason
        names, versions = self._names.take(pa.array(model)), self._versions.take(pa.array(np.where(default, len(self._versions) - 1, served)))
        variants = _VARIANTS.take(pa.array((np.where(served >= self._width, _CANARY, default) if drawn else default).astype(np.int8)))
        return names, versions, sequences, variants, self._reasons.take(pa.array(np.where(default, model, self._width)))

    def _intervals(self, scores: NDArray[np.float64], degraded: NDArray[np.bool_], slots: NDArray[np.int64] | None) -> tuple[pa.Array, pa.Array]:
        """Return both ends of the prediction intervals, shape (n * models,); null where a model has none, and of the default's answers."""
        if not self._has_intervals:
            none = pa.nulls(scores.size, pa.float64())
            return none, none
        added = self._ends[: self._width] if slots is None else self._ends[slots]
        ends = [np.where(degraded, np.nan, scores + added[..., side]).ravel() for side in (0, 1)]
        return pa.array(ends[0], mask=~np.isfinite(ends[0])), pa.array(ends[1], mask=~np.isfinite(ends[1]))

    def _revision(self, lower: pa.Array, served: NDArray[np.int64]) -> pa.Array:
        """Return the revision that each interval follows; null where it follows none, or where there is no interval."""
        if not self._has_revisions or lower.null_count == len(lower):
            return pa.nulls(len(lower), pa.int64())
        numbers = self._revisions[served]
        return pa.array(numbers, mask=(numbers < 0) | lower.is_null().to_numpy(zero_copy_only=False))

    def _scores(
        self, vectors: pa.RecordBatch, took_ns: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], dict[int, NDArray[np.float64]], NDArray[np.float64] | None]:
        """Return scores, shape (n, models and challengers), no answer of the kind where one has none, tables of classes, and expected errors.

        Parameters
        ----------
        took_ns : shape (models and challengers,)
            What each model takes is added to it; of models that are not measured what their stack takes, or nothing.
        """
        clock_ns = self._clock_ns
        n = vectors.num_rows
        scores: NDArray[np.float64] = np.full((len(self._sequences), n), np.nan)
        tables: dict[int, NDArray[np.float64]] = {}
        errors = np.full((n, len(self._sequences), 2), np.nan) if self._errors else None
        if self.inputs.positions and n:
            blocks = self.inputs.encode(vectors)
            for rows, stack in self.stacks:
                begun = clock_ns()
                scores[rows] = stack.score(blocks)[:, :n]
                took_ns[rows] += clock_ns() - begun
            for i, calibration in self._calibrations:
                begun = clock_ns()
                scores[i] = calibration.apply(scores[i])
                took_ns[i] += clock_ns() - begun
            for i, scorer, positions in self._others:
                begun = clock_ns()
                answered = scorer.score_blocks(blocks, positions)[:n]
                took_ns[i] += clock_ns() - begun
                if i in self._settling.models:
                    tables[i] = answered
                else:
                    scores[i] = answered
            if errors is not None:
                for i, forest, positions in self._errors:
                    errors[:, i] = forest.estimate(blocks, positions, scores[i])
        return scores.T, tables, errors


def _no_clock() -> int:
    return 0


def _expected_errors(settled: SlotAnswers, count: int) -> list[pa.Array]:
    """Return expected absolute and squared errors of what is served, `count` each; null where a model does not say, and of the default's answers."""
    if settled.errors is None:
        return [pa.nulls(count, pa.float64())] * 2
    columns = np.where(settled.degraded[..., None], np.nan, settled.errors[:, : settled.scores.shape[1]]).reshape(count, 2).T
    known = np.isfinite(columns).all(axis=0)
    return [pa.array(np.ascontiguousarray(values), mask=~known) for values in columns]


_VARIANTS, _CANARY = pa.array(["champion", "default", "canary"], pa.string()), 2
ANSWERS = pa.schema(
    [
        *REQUEST,
        pa.field("score", pa.float64(), nullable=False),
        pa.field("predicted", pa.int32(), nullable=False),
        pa.field("model_version", pa.string(), nullable=False),
        pa.field("deployment_sequence", pa.int64(), nullable=False),
        pa.field("variant", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("scores", SCORES),
        pa.field("predicted_label", pa.string()),
        pa.field("lower", pa.float64()),
        pa.field("upper", pa.float64()),
        pa.field("revision", pa.int64()),
        pa.field("control", pa.bool_()),
        pa.field("propensity", pa.float64()),
        pa.field("expected_error", pa.float64()),
        pa.field("expected_squared_error", pa.float64()),
    ]
)
"""Columns of the answers: those of `schemas/prediction.avsc`, so that they are encoded as they are."""
