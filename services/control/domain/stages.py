"""Whether a challenger moves on, goes back or is watched longer: a fold over what it has shown beside the champion."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tidemill.services.control.domain.ab import ABTest, compare
from tidemill.services.control.domain.decision import JournalPlace, decision
from tidemill.services.control.domain.group_answers import looks_equal
from tidemill.services.control.domain.setbacks import harm_in_parts, setback, unequal, without_scores
from tidemill.services.control.domain.trial_state import (
    STAGE_WORDS,
    StagePolicy,
    TrialBlock,
    TrialState,
    days_of,
    figures_of,
    figures_of_blocks,
    has_figures,
    losses_of,
    margin_of,
)
from tidemill.shared.application.stages import ABStage, CanaryStage, ShadowStage, Stages
from tidemill.shared.statistics.eprocess import below

PROMOTE_REFIT = "promote_refit"
"""Asks the worker to promote a challenger if it is a refit of the champion's admitted recipe."""
_MOST_SLICES = 200
_LEAST_SPREAD = 3
"""Fewer blocks say nothing of how much blocks differ."""


class StageWatch:
    """Decides for challengers by the records of their trials, in journal order.

    In shadow a challenger has to bake (time and labels); it moves on if neither its loss so far is larger than the champion's by more than the
    margin nor its mean score farther from the mean label by more than the limit. As a canary it bakes again, and it is promoted once it is shown to
    be no worse by the margin, on all its blocks so far. It goes back as soon as it is shown to be worse on the whole or in a slice (e-BH), or
    farther from the mean label than the limit allows, if it has no score for more requests than the limit allows, and when the longest time has not
    sufficed. So does one that is shown to answer groups of people too differently; it moves on only while that does not look so. What is shown is
    shown by t e-processes on the means of blocks, which may be looked at after every block.

    Where the application has an A/B test, it comes in place of the promotion, and what it shows decides (`ab.compare`): the winner serves, and where
    there is none the champion stays. A challenger wins at a level that is drawn from the account of trials, as a promotion without a test is. An
    operator may ask for one of any version, which draws nothing.

    A refit of an admitted recipe is promoted without that evidence, once it has baked and its loss so far is not larger than the champion's by more
    than the margin, nor by more than a standard error: what a refit of few rows, or of the days before a change, loses by chance is seen there. One
    that has looked worse than that once is held to what a new recipe is held to: it is looked at after every block, and the first lucky one says
    nothing. Which challenger is a refit is not in its trial: where refits bake as canaries, one that began as a canary is asked for as a refit first,
    and the worker, which has the recipes, obeys or refuses. Refused, it is a new recipe and has to show that it is no worse; until the answer is
    there it may go back, and nothing is spent on its evidence.

    A decision is made once for each stage of a challenger, that question aside; whether the challenger still is one is the worker's to say.
    """

    def __init__(self, policies: Sequence[StagePolicy]) -> None:
        self._policies = {policy.model: policy for policy in policies}
        self._trials: dict[str, TrialState] = {}
        self._sent_back: dict[str, tuple[str, int]] = {}

    def trial(self, record: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Decide on a record of a trial."""
        policy = self._policies.get(record["model"])
        if policy is None or record["stage"] not in STAGE_WORDS:
            return []
        trial = self._followed(record)
        if trial is None:
            return []
        part = trial.slices.get(record["slice"])
        if part is None and len(trial.slices) < _MOST_SLICES:
            part = trial.slices[record["slice"]] = []
        if part is not None and has_figures(record):
            part.append(TrialBlock.of(record))
        if record["slice"]:
            return []
        trial.stage_labels += record["labels"]
        trial.requests += record["requests"]
        trial.unscored += record["challenger_failures"]
        trial.unscored_by_both += min(record["challenger_failures"], record["champion_failures"])
        if trial.ab is not None:
            trial.ab.take(record)
        return [] if trial.decided else self._decide(policy, trial, record)

    def sent_back(self, model: str, version: str, sequence: int) -> None:
        """Learn of a step back that rests on something else than a trial: nothing more is decided on that stage of the challenger."""
        self._sent_back[model] = version, sequence
        trial = self._trials.get(model)
        if trial is not None and (trial.version, trial.sequence) == (version, sequence):
            trial.decided = True

    def has_decided(self, model: str, version: str, sequence: int) -> bool:
        """Whether a trial has decided on that stage of a challenger."""
        trial = self._trials.get(model)
        return trial is not None and (trial.version, trial.sequence) == (version, sequence) and trial.decided

    def answered(self, event: Mapping[str, Any]) -> None:
        """Take an event of the lifecycle log: the refusal of a challenger that was asked for as a refit says that it is none."""
        trial = self._trials.get(event["model"])
        if trial is not None and event["event"] == "command_refused" and trial.asked_as_refit == event["decision_id"]:
            trial.is_new_recipe = True

    def snapshot(self) -> dict[str, Any]:
        """Return the state as JSON can hold it."""
        return {
            name: {
                **{slot: getattr(trial, slot) for slot in _SLOTS},
                "slices": {
                    part: [[getattr(block, slot) for slot in TrialBlock.__slots__] for block in blocks] for part, blocks in trial.slices.items()
                },
                "ab": None if trial.ab is None else trial.ab.snapshot(),
            }
            for name, trial in self._trials.items()
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take up a snapshot."""
        for name, saved in state.items():
            if name in self._policies:
                slices = {part: [TrialBlock(*values) for values in blocks] for part, blocks in saved["slices"].items()}
                ab = saved.get("ab")
                known = {slot: saved[slot] for slot in _SLOTS if slot in saved}
                known["spent"] = [(at_ms, level) for at_ms, level in saved.get("spent", ())]
                self._trials[name] = TrialState(**known, slices=slices, ab=None if ab is None else ABTest.load(ab))

    def _followed(self, record: Mapping[str, Any]) -> TrialState | None:
        """Return the trial that a record is of; None for one of an earlier stage or challenger."""
        trial, sequence = self._trials.get(record["model"]), record["challenger_sequence"]
        if trial is not None and sequence < trial.sequence:
            return None
        if trial is None or trial.version != record["challenger_version"]:
            stage, begins = record["stage"], record["block_start"]
            spent = [] if trial is None else trial.spent
            trial = TrialState(record["challenger_version"], sequence, stage, stage, begins, begins, spent=spent)
            self._trials[record["model"]] = trial
        elif sequence > trial.sequence:
            trial.sequence, trial.stage, trial.stage_begins_ms = sequence, record["stage"], record["block_start"]
            trial.stage_labels, trial.requests, trial.unscored, trial.unscored_by_both, trial.decided = 0, 0, 0, 0, False
            trial.asked_as_refit, trial.is_new_recipe = "", False
        if self._sent_back.get(record["model"]) == (trial.version, trial.sequence):
            trial.decided = True
        if trial.stage == "ab" and (trial.ab is None or trial.ab.sequence != trial.sequence):
            trial.ab = ABTest(trial.sequence, record["block_start"])
        return trial

    def _decide(self, policy: StagePolicy, trial: TrialState, record: Mapping[str, Any]) -> list[dict[str, Any]]:
        stages, figures = policy.stages, figures_of(trial)
        if trial.stage == "ab":
            return self._compare(policy, trial, record, figures)
        if problem := setback(policy, trial, figures):
            return [self._said(trial, record, "step_back", problem, figures)]
        stage = stages.shadow if trial.stage == "shadow" else stages.canary
        baked = stage is None or (record["block_end"] - trial.stage_begins_ms >= stage.duration and trial.stage_labels >= stage.labels)
        after = _after(stages, trial)
        if _may_be_refit(stages, trial):
            allowed = _of_a_refit(policy, trial, figures)
            if baked and not trial.asked_as_refit and _looks_no_worse(policy, figures, allowed):
                asked = self._said(trial, record, PROMOTE_REFIT, f"a refit that has baked: {losses_of(figures)}", figures)
                trial.decided, trial.asked_as_refit = False, asked["decision_id"]
                return [asked]
            trial.has_looked_worse = baked and not trial.asked_as_refit and figures.get("loss_difference", 0.0) > allowed
        elif after != "promote":
            if baked and _looks_no_worse(policy, figures, margin_of(policy.margin, policy.kind, figures)):
                words = f"baked for {days_of(record['block_end'] - trial.stage_begins_ms)} and {trial.stage_labels:,} labels: {losses_of(figures)}"
                return [self._said(trial, record, after, words, figures)]
        elif baked and _answers_alike(policy, figures):
            shown = _no_worse(policy, trial, record["block_end"], figures)
            if shown and _holds_against(policy, trial, record["champion_version"], stage):
                return [self._said(trial, record, "promote", shown, figures)]
        if record["block_end"] - trial.trial_begins_ms >= stages.longest:
            seen = _could_have_seen(trial, figures)
            words = f"expected to see within {days_of(stages.longest)} that it is no worse, found {losses_of(figures)}{seen}"
            return [self._said(trial, record, "step_back", words, figures)]
        return []

    def _compare(self, policy: StagePolicy, trial: TrialState, record: Mapping[str, Any], figures: dict[str, float]) -> list[dict[str, Any]]:
        """Decide by an A/B test; of its safeguards those by loss do not hold where answers influence the labels."""
        stage = policy.stages.ab or ABStage()
        test = trial.ab or ABTest(trial.sequence, trial.stage_begins_ms)
        problem = without_scores(policy, trial) or (
            unequal(policy, trial, figures) if stage.metric == "label" else harm_in_parts(policy, trial, figures)
        )
        if problem:
            return [self._said(trial, record, "step_back", problem, figures)]
        now_ms = record["block_end"]
        # One that an operator asks for is asked once; those that come by themselves come for every candidate of a year.
        drawn = None if policy.stages.ab is None or trial.began_in == "ab" else trial.spend(now_ms, policy.level, figures)
        comparison = compare(test, stage, policy.level, margin_of(policy.margin, policy.kind, figures), now_ms, figures, drawn)
        if comparison is None:
            return []
        action = "promote" if comparison.winner == "challenger" else "step_back"
        return [self._said(trial, record, action, f"{_WON[comparison.winner]}: {comparison.reason}", figures)]

    def _said(self, trial: TrialState, record: Mapping[str, Any], action: str, reason: str, figures: Mapping[str, float]) -> dict[str, Any]:
        trial.decided = True
        at = JournalPlace(record["journal_time"], record["journal_partition"], record["journal_offset"])
        cause = f"{trial.version}:{trial.sequence}:{action}"
        said = decision(record["model"], action, "requested", "trial", cause, at, f"{trial.version} {STAGE_WORDS[trial.stage]}: {reason}")
        known = {name: value for name, value in figures.items() if np.isfinite(value)}
        return {**said, "version": trial.version, "serving": "", "figures": known}


_SLOTS = tuple(slot for slot in TrialState.__slots__ if slot not in ("slices", "ab"))
_WON = {"challenger": "the challenger wins", "champion": "the champion wins", "nobody": "nobody wins, the champion stays"}


def _after(stages: Stages, trial: TrialState) -> str:
    """Return what comes after a trial's stage: canary, ab or promote."""
    if trial.stage == "shadow" and stages.canary is not None:
        return "canary"
    return "promote" if stages.ab is None else "ab"


def _may_be_refit(stages: Stages, trial: TrialState) -> bool:
    """Whether it may serve as a refit: it began as a canary where refits do, has not looked worse, and is no new recipe by the worker's word."""
    return stages.refits != "direct" and trial.began_in == "canary" and not trial.is_new_recipe and not trial.has_looked_worse


def _looks_no_worse(policy: StagePolicy, figures: Mapping[str, float], allowed: float) -> bool:
    """Whether its loss, its mean score and the differences of groups so far are worse by no more than what is allowed, by chance or not."""
    return figures.get("loss_difference", 0.0) <= allowed and _answers_alike(policy, figures)


def _of_a_refit(policy: StagePolicy, trial: TrialState, figures: Mapping[str, float]) -> float:
    """Return by how much a refit's loss may be larger than the champion's when it has baked: a standard error over blocks, and never the margin.

    Newer rows help, as a rule. Where days differ much, a few of them say nothing against that; where they do not, a difference is the refit's own.
    """
    margin, differences = margin_of(policy.margin, policy.kind, figures), [block.difference for block in trial.blocks]
    return margin if len(differences) < _LEAST_SPREAD else min(margin, float(np.std(differences, ddof=1)) / len(differences) ** 0.5)


def _holds_against(policy: StagePolicy, trial: TrialState, champion: str, stage: ShadowStage | CanaryStage | None) -> bool:
    """Whether a challenger looks no worse than the version that serves now.

    A trial compares recipes, and the champion's may have been refitted since it began: against the fits before, the challenger may have won because
    the world had changed, which the last one knows.
    """
    present = [block for block in trial.blocks if block.champion == champion]
    figures = figures_of_blocks(present)
    enough = figures["trial_labels"] >= (1 if stage is None else stage.labels)
    return enough and figures["loss_difference"] <= margin_of(policy.margin, policy.kind, figures)


def _answers_alike(policy: StagePolicy, figures: Mapping[str, float]) -> bool:
    is_right = figures.get("calibration_excess", 0.0) <= policy.stages.limits.calibration
    return is_right and looks_equal(policy.fairness, figures)


def _no_worse(policy: StagePolicy, trial: TrialState, now_ms: int, figures: dict[str, float]) -> str:
    """Return the words for a challenger that is shown to be no worse by the margin; empty while it is not."""
    allowed, level = margin_of(policy.margin, policy.kind, figures), trial.spend(now_ms, policy.level, figures)
    evidence = below([block.difference for block in trial.blocks], allowed)
    figures |= {"log_e": evidence.log_e, "margin": allowed}
    if not evidence.shows(level):
        return ""
    figures["detectable_difference"] = evidence.detectable(allowed, level)
    shown = f"{losses_of(figures)}, worse by less than {allowed:.3g} (e = {evidence.e:.3g} of {1 / level:.0f}"
    return f"{shown}: level {level:.3g}, {figures['level_left']:.3g} left within a year)"


def _could_have_seen(trial: TrialState, figures: dict[str, float]) -> str:
    """Return the words for what the test of a trial that ends without an answer could have seen."""
    if "level" not in figures:
        return "; its test had not begun"
    level, allowed = figures["level"], figures["margin"]
    seen = below([block.difference for block in trial.blocks], allowed).detectable(allowed, level)
    figures["detectable_difference"] = seen
    at_level = f"(e of {1 / level:.0f} is needed: level {level:.3g}, {figures['level_left']:.3g} left within a year)"
    if np.isfinite(seen):
        return f"; a difference of {seen:+.4f} or lower would have been seen in 80 % of cases {at_level}"
    return f"; no difference would have been seen on so few blocks {at_level}"
