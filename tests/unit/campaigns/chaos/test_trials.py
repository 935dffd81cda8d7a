"""The books of trials see an answer by the wrong variant, a score too many, one too few, and a second lifecycle."""

from collections.abc import Callable
from typing import Any

import pytest

from campaigns.chaos.trials import fraction, judge_trials

ARTIFACT = "5f" * 32
# Of this candidate the first key draws .7512 and the second .3322, as the documentation of `tidemill.shared.models.assignment` says.
KEYS = [b"N14228", b"N24211"]


class Book:
    """Two requests in each stage of one candidate, as they must be."""

    def __init__(self) -> None:
        self.events = [
            self.event(n, name, share) for n, (name, share) in enumerate((("promoted", 1.0), ("shadow", 0.0), ("canary", 0.5), ("ab", 0.8)))
        ]
        self.predictions: list[dict[str, Any]] = []
        self.scores: list[dict[str, Any]] = []
        for sequence, variants in ((1, ("champion", "champion")), (2, ("champion", "canary")), (3, ("canary", "canary"))):
            for variant in variants:
                place = {"journal_partition": 0, "journal_offset": len(self.predictions)}
                version = "v2" if variant == "canary" else "v1"
                self.predictions.append({**place, "variant": variant, "model_version": version})
                self.scores.append({**place, "challenger_sequence": sequence, "challenger_version": "v2", "challenger_score": 0.5})

    @staticmethod
    def event(sequence: int, name: str, share: float) -> dict[str, Any]:
        version = "v1" if sequence == 0 else "v2"
        identity = {"sequence": sequence, "parent": sequence - 1, "decision_id": f"d{sequence}"}
        return {**identity, "event": name, "version": version, "artifact_sha256": ARTIFACT, "share": share}

    def problems(self) -> str:
        keys = [KEYS[row["journal_offset"] % 2] for row in self.predictions]
        return " ".join(judge_trials(self.predictions, keys, self.scores, self.events).problems)


def test_requests_are_counted_by_the_stage_of_the_candidate() -> None:
    book = Book()
    assert book.problems() == ""
    differences = judge_trials(book.predictions, KEYS * 3, book.scores, book.events)
    assert differences.counts == {"scored in shadow": 2, "answered by a canary": 1, "in an A/B test": 2}


def test_the_fraction_is_that_of_the_documented_hash() -> None:
    assert [round(fraction(key, ARTIFACT), 4) for key in KEYS] == [0.7512, 0.3322]


def _wrong_variant(book: Book) -> None:
    book.predictions[2] |= {"variant": "canary", "model_version": "v2"}


def _answered_in_shadow(book: Book) -> None:
    book.predictions[1] |= {"variant": "canary", "model_version": "v2"}


def _not_by_the_candidate(book: Book) -> None:
    book.predictions[5] |= {"variant": "champion", "model_version": "v1"}


def _scored_twice(book: Book) -> None:
    book.scores.append(dict(book.scores[0]))


def _never_scored(book: Book) -> None:
    del book.scores[3]


def _left_out(book: Book) -> None:
    book.predictions.insert(1, {"journal_partition": 0, "journal_offset": 100, "variant": "champion", "model_version": "v1"})
    book.predictions.append({"journal_partition": 0, "journal_offset": 200, "variant": "champion", "model_version": "v1"})
    book.scores.append({"journal_partition": 0, "journal_offset": 200, "challenger_sequence": 1, "challenger_version": "v2", "challenger_score": 0.5})


def _twice_decided(book: Book) -> None:
    book.events.append({**book.event(4, "ab", 0.8), "decision_id": "d3"})


def _of_another_lifecycle(book: Book) -> None:
    book.events[3] |= {"parent": 1}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (_wrong_variant, "expected the champion, found canary"),
        (_answered_in_shadow, "expected the champion, found canary"),
        (_not_by_the_candidate, "expected the candidate, found champion"),
        (_scored_twice, "several shadow scores"),
        (_never_scored, "no shadow score"),
        (_left_out, "no shadow score between"),
        (_twice_decided, "count twice"),
        (_of_another_lifecycle, "nothing of the lifecycle"),
    ],
)
def test_what_is_not_as_it_must_be_is_found(change: Callable[[Book], None], what: str) -> None:
    book = Book()
    change(book)
    assert what in book.problems()


def test_a_candidate_without_a_score_leaves_the_answer_to_the_champion() -> None:
    book = Book()
    book.scores[3]["challenger_score"] = None
    assert "expected the champion, found canary" in book.problems()
    book.predictions[3] |= {"variant": "champion", "model_version": "v1"}
    assert book.problems() == ""
