"""From labelled rows to the model that is to serve next: a first model, a refit of an admitted recipe, or a recipe that passes the gate."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.services.retraining.domain.enough_rows import TooFewRowsError
from tidemill.services.retraining.domain.examples import Split
from tidemill.services.retraining.domain.fairness import FairnessFindings, judge_fairness
from tidemill.services.retraining.domain.first_stage import REFIT
from tidemill.services.retraining.domain.gate import judge
from tidemill.services.retraining.domain.recipe import Recipe
from tidemill.services.retraining.domain.refit_checks import check_refit
from tidemill.services.retraining.domain.slices import groups_of
from tidemill.services.retraining.domain.strategy_gate import LEAST_BLOCKS, PairedScores, judge_strategy
from tidemill.services.retraining.domain.threshold import best_threshold
from tidemill.services.retraining.domain.training import refit, train
from tidemill.services.retraining.domain.training_context import Proposal, TrainingContext
from tidemill.services.retraining.domain.verdict import GateVerdict
from tidemill.services.retraining.domain.walk_forward import walk_forward
from tidemill.shared.application.schedule import usual_interval_ms
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.models.artifacts import Artifact
from tidemill.shared.models.onnx_scorer import OnnxScorer
from tidemill.shared.models.served_model import ServedModel
from tidemill.shared.statistics.eprocess import below, block_means
from tidemill.shared.statistics.levels import level_left, next_level
from tidemill.shared.statistics.propensity import Weights, of_rows, weighted_mean

_LEAST_FOR_THRESHOLD = 1_000


@dataclass(slots=True)
class _Notes:
    """What a succession has found so far."""

    spent: tuple[tuple[int, float], ...]
    figures: dict[str, float] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    trials: Sequence[Mapping[str, Any]] = ()

    def level(self, name: str, at_ms: int, yearly: float) -> float:
        """Spend the level of one more look."""
        level = next_level(self.spent, at_ms, yearly)
        self.spent = (*self.spent, (at_ms, level))
        self.figures |= {name: level, f"{name}_left": level_left(self.spent, at_ms, yearly)}
        return level


@dataclass(frozen=True, slots=True)
class _Judged:
    """A recipe after the gate: the verdict, the threshold and the last fit of its walk."""

    verdict: GateVerdict
    threshold: float
    last: OnnxScorer
    last_from_ms: int


def first_model(bench: TrainingContext) -> Proposal:
    """Search, judge a model of the recipe against the fallback on held-out days, fit it once more on everything known.

    Raises
    ------
    TooFewRowsError
        There is not enough to learn from.
    """
    training, gate, kind = bench.settings.training, bench.settings.gate, bench.kind
    split = Split.of(bench.end_ms, training.holdout_days, bench.horizon_ms)
    candidate = train(bench.examples, split, bench.model, bench.version, training, kind, bench.told, bench.kept)
    served = refit(bench.examples, split, candidate, training, kind)
    judged, scorer = OnnxScorer(candidate.artifact), OnnxScorer(served)
    rows = split.gate(bench.examples, 0)
    default = _fallback_scores(bench)
    scores = judged.score(rows.features)
    fallback = np.broadcast_to(default, scores.shape)
    verdict = judge(kind, rows.labels, scores, fallback, rows.request_ms, gate.alpha, gate.min_rows, training.min_positives, gate.block, rows.weights)
    figures = {**candidate.figures, **verdict.figures}
    if verdict.passed:
        checked = check_refit(kind, rows.where(kind.is_label(rows.labels)), scorer, judged, "the fit that was judged", gate.block)
        figures |= checked.figures
        verdict = verdict if checked.passed else GateVerdict(False, checked.reason, {})
    details = {"admission": "first model", "searched": "yes", "windows_left_out": candidate.left_out, "judged_sha256": _sha(candidate.artifact)}
    return Proposal(served, Recipe(candidate.parameters, bench.features), verdict, figures, details, bench.spent, split, candidate.trials)


def _fallback_scores(bench: TrainingContext) -> NDArray[np.float64]:
    """Return what answers without a model; where it answers no class (classes are learned), any class may be the one."""
    default, kind = bench.settings.fallback.default, bench.kind
    return np.full(kind.width, 1.0 / kind.width) if default is None else kind.default_scores(default)


def successor(bench: TrainingContext, champion: ServedModel) -> Proposal:
    """Look for a better recipe when that is due, and put it forward if it passes the gate; otherwise the refit of the recipe that serves.

    The refit of an admitted recipe goes out after light checks, also after an alarm: newer rows are what helps when the world has changed, and nobody
    can show so in time. A recipe that has lost its admission has to pass the gate again.

    Raises
    ------
    TooFewRowsError
        There is not enough to learn from.
    """
    split, notes = bench.split(), _Notes(bench.spent)
    incumbent = Recipe.of(bench.incumbent, bench.features)
    admitted = incumbent is not None and bench.is_admitted
    newest: Recipe | None = None
    if bench.is_searched or not admitted:
        try:
            newest, threshold = _searched(bench, split, incumbent, notes)
        except TooFewRowsError as error:
            if incumbent is None:
                raise
            notes.refused.append(f"no search: {error}")
    known = incumbent is not None and newest is not None and newest.text == incumbent.text
    if newest is not None and not (admitted and known):
        judged = _judge(bench, split, newest, threshold, notes, "gate_level")
        if judged.verdict.passed:
            return _admitted(bench, split, newest, judged, notes)
        notes.refused.append(f"{newest.name} refused: {judged.verdict.reason}")
        if incumbent is None or known:
            return _refused(bench, split, newest, judged, notes)
        notes.figures |= {f"other_{name}": value for name, value in judged.verdict.figures.items()}
    if incumbent is None:
        raise TooFewRowsError("; ".join(notes.refused))
    threshold = champion.signature.threshold
    if admitted:
        return _refitted(bench, split, incumbent, champion, notes)
    judged = _judge(bench, split, incumbent, threshold, notes, "incumbent_level")
    if judged.verdict.passed:
        return _admitted(bench, split, incumbent, judged, notes)
    notes.refused.append(f"{incumbent.name}, which serves, refused: {judged.verdict.reason}")
    return _refused(bench, split, incumbent, judged, notes)


def does_better(bench: TrainingContext, predecessor: ServedModel, champion: ServedModel, spent: tuple[tuple[int, float], ...]) -> GateVerdict:
    """Look back: whether the champion before does better than the champion, on requests of the last `gate.span` that neither has learned from.

    The null hypothesis is that it does not; the look spends a level of its own.
    """
    split, kind, gate = bench.split(), bench.kind, bench.settings.gate
    begin = max(split.gate_end - gate.span, *(int(scorer.signature.details["learned_until_ms"]) for scorer in (predecessor, champion)))
    # In whole blocks: a part of a day is no observation like the others.
    begin = split.gate_end - (split.gate_end - begin) // gate.block * gate.block
    rows = bench.examples.where((bench.examples.request_ms >= begin) & (bench.examples.request_ms < split.gate_end))
    rows = rows.where(kind.is_label(rows.labels))
    blocks = bench.blocks(rows, split)
    figures = {"predecessor_rows": float(len(rows)), "predecessor_days": float(len(np.unique(blocks)))}
    if len(rows) < gate.min_rows or len(np.unique(blocks)) < LEAST_BLOCKS or kind.lack(rows.labels, bench.settings.training.min_positives):
        return GateVerdict(False, "too few rows that neither model has learned from", figures)
    level = next_level(spent, bench.end_ms, gate.alpha)
    mine, theirs = (kind.losses(rows.labels, scorer.score(rows.features)) for scorer in (predecessor, champion))
    evidence = below(block_means(mine - theirs, blocks, rows.weights))
    loss, champion_loss = weighted_mean(mine, rows.weights), weighted_mean(theirs, rows.weights)
    look = (bench.end_ms, level)
    figures |= {"reverse_level": level, "reverse_level_left": level_left((*spent, look), bench.end_ms, gate.alpha)}
    figures |= {"predecessor_loss": loss, "predecessor_champion_loss": champion_loss}
    figures |= {"predecessor_log_e": evidence.log_e}
    words = f"loss {loss:.4f} against {champion_loss:.4f}, e = {evidence.e:.3g} of {1 / level:.0f}"
    return GateVerdict(evidence.shows(level), words, figures, spent=(look,))


def answered_fairly(bench: TrainingContext, scorer: OnnxScorer) -> FairnessFindings:
    """Judge how differently a candidate answers groups on the last `gate.span`; rows that it has learned hide no difference of answers.

    Without `gate.fairness` nothing is judged.
    """
    limits, split, kind, rows = bench.settings.gate.fairness, bench.split(), bench.kind, bench.examples
    if limits is None:
        return FairnessFindings("")
    recent = kind.is_label(rows.labels) & (rows.request_ms >= split.gate_end - bench.settings.gate.span) & (rows.request_ms < split.gate_end)
    judged = rows.where(recent)
    predicted = kind.decide(scorer.score(judged.features), scorer.signature.threshold)
    return judge_fairness(judged.labels, predicted, bench.blocks(judged, split), groups_of(judged, limits.columns), limits, judged.weights)


def _searched(bench: TrainingContext, split: Split, incumbent: Recipe | None, notes: _Notes) -> tuple[Recipe, float]:
    # Loaded when needed: optuna takes half a second, and a refit searches nothing.
    from tidemill.services.retraining.domain.search import search

    result = search(bench.examples, split, bench.settings.training, bench.kind, incumbent.parameters if incumbent else None, bench.told, bench.kept)
    notes.figures |= result.figures
    notes.trials = result.trials
    notes.details |= {"searched": "yes", "windows_left_out": result.left_out}
    return Recipe(result.parameters, bench.features), result.threshold


def _judge(bench: TrainingContext, split: Split, recipe: Recipe, threshold: float, notes: _Notes, level: str) -> _Judged:
    kind, rows = bench.kind, bench.examples
    bench.told("judging", 0, 1)
    answered = kind.is_score(bench.served) & kind.is_label(rows.labels)
    places = answered & (rows.request_ms >= split.gate_start) & (rows.request_ms < split.gate_end)
    judged, champion = rows.where(places), bench.served[places]
    schedule = bench.settings.retraining.schedule
    every = None if schedule is None else usual_interval_ms(schedule)
    walk = walk_forward(judged, split, every, lambda at: bench.fit(split, at, recipe, threshold))
    blocks = bench.blocks(judged, split)
    pair = PairedScores(judged.labels, walk.scores, champion, blocks, groups_of(judged, bench.settings.slices), judged.weights)
    gate, least = bench.settings.gate, bench.settings.training.min_positives
    verdict = judge_strategy(kind, pair, gate, notes.level(level, bench.end_ms, gate.alpha), least)
    return _Judged(verdict, _threshold(kind, judged.labels, walk.scores, threshold, judged.weights), walk.last, walk.last_from_ms)


def _threshold(kind: Kind, labels: NDArray[np.float64], scores: NDArray[np.float64], otherwise: float, weights: Weights) -> float:
    """Choose the threshold by scores that were given before the label was known, if there are a thousand of them."""
    if kind.name != "binary" or len(labels) < _LEAST_FOR_THRESHOLD or kind.lack(labels, 2) or not np.isfinite(scores).all():
        return otherwise
    return best_threshold(labels, scores, weights)


def _admitted(bench: TrainingContext, split: Split, recipe: Recipe, judged: _Judged, notes: _Notes) -> Proposal:
    """Fit a recipe that has passed once more, on everything known, and hold that against the last fit that was judged."""
    about = {"judged_from_ms": str(split.gate_start), "judged_until_ms": str(split.gate_end), "known_until_ms": str(split.end)}
    artifact = bench.fit(split, split.end, recipe, judged.threshold, about)
    rows = bench.examples.where((bench.examples.request_ms >= judged.last_from_ms) & (bench.examples.request_ms < split.gate_end))
    rows = rows.where(bench.kind.is_label(rows.labels))
    checked = check_refit(bench.kind, rows, OnnxScorer(artifact), judged.last, "the last fit that was judged", bench.settings.gate.block)
    verdict = judged.verdict if checked.passed else GateVerdict(False, checked.reason, {})
    figures = {**notes.figures, **judged.verdict.figures, **checked.figures}
    return Proposal(
        artifact,
        recipe,
        _told(verdict, notes),
        figures,
        {**notes.details, **judged.verdict.details, "admission": "gate"},
        notes.spent,
        split,
        notes.trials,
    )


def _refused(bench: TrainingContext, split: Split, recipe: Recipe, judged: _Judged, notes: _Notes) -> Proposal:
    artifact = bench.fit(split, split.end, recipe, judged.threshold, {"known_until_ms": str(split.end)})
    figures, details = {**notes.figures, **judged.verdict.figures}, {**notes.details, **judged.verdict.details, "admission": "refused"}
    return Proposal(artifact, recipe, GateVerdict(False, "; ".join(notes.refused), {}), figures, details, notes.spent, split, notes.trials)


def _refitted(bench: TrainingContext, split: Split, recipe: Recipe, champion: ServedModel, notes: _Notes) -> Proposal:
    """Refit an admitted recipe on everything known, and hold that against the champion on the rows that it adds."""
    bench.told("fitting", 0, 1)
    kind, rows = bench.kind, bench.examples
    recent = kind.is_score(bench.served) & kind.is_label(rows.labels) & (rows.request_ms >= split.gate_end - bench.settings.gate.span)
    threshold = _threshold(kind, rows.labels[recent], bench.served[recent], champion.signature.threshold, of_rows(rows.weights, recent))
    artifact = bench.fit(split, split.end, recipe, threshold, {"known_until_ms": str(split.end)})
    since = int(champion.signature.details["learned_until_ms"])
    added = rows.where(kind.is_label(rows.labels) & (rows.request_ms >= since) & (rows.request_ms < split.learned_until(split.end)))
    checked = check_refit(kind, added, OnnxScorer(artifact), champion, "the model that serves", bench.settings.gate.block)
    words = f"refit of {recipe.name}, which is admitted: {checked.reason}"
    figures = {**notes.figures, **checked.figures}
    verdict = GateVerdict(checked.passed, words, {})
    return Proposal(artifact, recipe, _told(verdict, notes), figures, {**notes.details, "admission": REFIT}, notes.spent, split, notes.trials)


def _told(verdict: GateVerdict, notes: _Notes) -> GateVerdict:
    return GateVerdict(verdict.passed, "; ".join([verdict.reason, *notes.refused]), verdict.figures)


def _sha(artifact: Artifact) -> str:
    return hashlib.sha256(artifact.to_bytes()).hexdigest()
