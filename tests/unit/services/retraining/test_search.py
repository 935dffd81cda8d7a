"""The search: recipes are compared on several stretches of time, and poor ones are given up."""

import json
from collections.abc import Callable

import numpy as np
import pytest

from tests.unit.services.retraining.test_training import examples, parts, settings
from tidemill.services.retraining.domain.encoding import encode
from tidemill.services.retraining.domain.examples import DAY_MS, Examples, Split
from tidemill.services.retraining.domain.families.family import Scores
from tidemill.services.retraining.domain.fitting import fit
from tidemill.services.retraining.domain.held_out import CALIBRATION
from tidemill.services.retraining.domain.search import search
from tidemill.shared.kinds.binary import Binary
from tidemill.shared.models.signature import Signature

KIND = Binary()


def judged_by_hand(rows: Examples, split: Split, parameters: dict[str, object], folds: int) -> list[float]:
    """Losses of a recipe on each row of the stretches before the gate, by plain comparisons of instants."""
    length, losses = split.validation_end - split.validation_start, []
    for fold in range(folds):
        begin, end = split.validation_end - (fold + 1) * length, split.validation_end - fold * length
        learned = rows.where((rows.label_ms < begin) & (rows.request_ms < begin - split.horizon_ms))
        asked = rows.where((rows.request_ms >= begin) & (rows.request_ms < end) & (rows.label_ms < split.gate_start))
        encoding = encode(learned.features, learned.labels, learned.request_ms, KIND)
        signature = Signature(model="", version="", family="", columns=encoding.columns, threshold=0.5, parity_rows=(), parity_scores=())
        model = fit(encoding.matrix, learned.labels, KIND, parameters, 7)
        losses += KIND.losses(asked.labels, model.predict(signature.encode(asked.features))).tolist()
    return losses


def test_the_validation_loss_is_that_of_models_that_knew_nothing_of_the_stretch() -> None:
    rows = examples()
    split = parts(rows)
    best = search(rows, split, settings(families=("logistic_regression",), windows_days=(0,), trials=3), KIND)
    plain = {name: value for name, value in best.parameters.items() if name != CALIBRATION}
    by_hand = judged_by_hand(rows, split, plain, 3)
    assert best.figures["validation_folds"] == 3
    assert best.figures["validation_rows"] == len(by_hand)
    assert best.figures["validation_loss"] == pytest.approx(np.mean(by_hand), abs=1e-12)


def test_labels_that_came_after_a_stretch_began_choose_nothing_in_it() -> None:
    """Relabelled after the validation's end, the same recipe is found with the same figures."""
    rows = examples()
    split = parts(rows)
    late = (rows.label_ms >= split.gate_start) | (rows.request_ms >= split.validation_end)
    changed = Examples(rows.features, rows.request_ms, rows.label_ms, np.where(late, 1 - rows.labels, rows.labels))
    first, second = (search(one, split, settings(), KIND) for one in (rows, changed))
    assert first == second


def test_poor_recipes_are_given_up_on_the_newest_stretch_and_the_incumbent_is_tried_first() -> None:
    rows = examples()
    split = parts(rows)
    asked = settings(families=("logistic_regression",), windows_days=(0,), trials=8)
    known = {
        "family": "logistic_regression",
        "window_days": 0,
        "strength": 0.9,
        CALIBRATION: json.dumps({"link": "logit", "slope": 1.0, "offsets": [0.0]}),
    }
    best = search(rows, split, asked, KIND, known)
    trials, folds, pruned = (best.figures[name] for name in ("trials", "validation_folds", "trials_pruned"))
    assert trials == 9 and pruned >= 1
    done = trials - pruned
    assert trials + done * (folds - 1) <= best.figures["fits"] < trials * folds, "those given up cost fewer fits than there are stretches"
    # Nothing else can be tried: it is found as it was, with its own calibration.
    alone = search(
        rows,
        split,
        settings(families=("logistic_regression",), windows_days=(0,), trials=1),
        KIND,
        {**known, "strength": best.parameters["strength"]},
    )
    assert alone.parameters["strength"] == best.parameters["strength"] and alone.parameters[CALIBRATION] == known[CALIBRATION]


def test_an_older_stretch_without_positives_is_left_out() -> None:
    rows = examples()
    split = parts(rows)
    early = rows.request_ms < split.validation_start
    quiet = early & (rows.request_ms >= split.validation_start - 7 * DAY_MS)
    silent = Examples(rows.features, rows.request_ms, rows.label_ms, np.where(quiet, 0.0, rows.labels))
    assert search(silent, split, settings(trials=2), KIND).figures["validation_folds"] == 1
    assert search(rows, split, settings(trials=2), KIND).figures["validation_folds"] == 3


class Killed(Exception):
    """Stands for what ends a process."""


class DyingKept:
    """Keeps answers in memory and dies where a kill would strike: at the n-th fit that is really made."""

    def __init__(self) -> None:
        self.answers: dict[str, Scores] = {}
        self.made = 0
        self.dies_at = 0

    def __call__(self, identity: Callable[[], str], make: Callable[[], Scores]) -> Scores:
        name = identity()
        if name not in self.answers:
            if self.made == self.dies_at:
                raise Killed
            self.made += 1
            self.answers[name] = make()
        return self.answers[name]


def test_a_search_that_is_killed_again_and_again_makes_each_fit_once_and_finds_what_one_without_a_kill_finds() -> None:
    rows = examples()
    split, asked = parts(rows), settings(families=("logistic_regression",), windows_days=(0, 60), trials=5)
    whole = search(rows, split, asked, KIND)
    kept, kills = DyingKept(), 0
    while True:
        try:
            best = search(rows, split, asked, KIND, kept=kept)
            break
        except Killed:
            kills += 1
            kept.dies_at += 3
    assert best == whole
    assert kept.made == whole.figures["fits"] and kills == -(-kept.made // 3)


def test_answers_of_other_rows_or_another_seed_are_not_taken_for_a_searchs_own() -> None:
    rows, kept = examples(), DyingKept()
    kept.dies_at = 1_000
    split, asked = parts(rows), settings(families=("logistic_regression",), windows_days=(0,), trials=2)
    search(rows, split, asked, KIND, kept=kept)
    made = kept.made
    flipped = Examples(rows.features, rows.request_ms, rows.label_ms, np.where(np.arange(len(rows.labels)) == 0, 1 - rows.labels, rows.labels))
    search(flipped, split, asked, KIND, kept=kept)
    assert kept.made == 2 * made
    search(rows, split, asked.model_copy(update={"seed": 8}), KIND, kept=kept)
    assert kept.made > 2 * made
